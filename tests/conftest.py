import os
from pathlib import Path

import pytest
from hypothesis import settings

# before torch is imported: threads that wait for others sleep, as in the commands that train
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Machines are shared, so a slow example says nothing; tests that care for time measure it.
settings.register_profile("unet_nas", deadline=None)
settings.load_profile("unet_nas")


@pytest.fixture(scope="session")
def shared_data():
    """Real data beside the repository, which are no part of it."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("UNET_NAS_SHARED", beside))
    if not folder.is_dir():
        pytest.skip("the real data are not here")
    return folder
