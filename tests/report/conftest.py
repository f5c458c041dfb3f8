from pathlib import Path

import pytest

from tests.support.studies import write_study
from unet_nas.records import read_run
from unet_nas.report.findings import Findings


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Path:
    """The folder of a whole study, with failures, a baseline, finalists and examples."""
    return write_study(tmp_path_factory.mktemp("study") / "demo", trials=24)


@pytest.fixture(scope="session")
def findings(study) -> Findings:
    return Findings.of([read_run(study)])
