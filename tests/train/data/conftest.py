import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def make_folder(tmp_path):
    """Writes a folder of PNG images and masks: a bright square before noise."""

    def make(names="abcdefgh", *, size=(12, 10), values=(0, 1), root=tmp_path, channels=1):
        for sub in ("images", "masks"):
            (root / sub).mkdir(parents=True, exist_ok=True)
        for seed, name in enumerate(names):
            draw = np.random.default_rng(seed)
            mask = np.full(size, values[0], np.uint8)
            for index, value in enumerate(values[1:]):
                mask[2 + 2 * index : 4 + 2 * index, 3:7] = value
            shape = size if channels == 1 else (*size, channels)
            image = draw.integers(0, 256, shape).astype(np.uint8)
            Image.fromarray(image).save(root / "images" / f"{name}.png")
            Image.fromarray(mask).save(root / "masks" / f"{name}.png")
        return root

    return make
