from dataclasses import replace

import numpy as np
import torch

from tests.train.blobs import dataset
from unet_nas import Architecture, build
from unet_nas.train.examples import examples
from unet_nas.train.metrics import labels_of


def test_examples_are_images_with_truth_and_prediction():
    data = dataset((32, 48))
    module = build(Architecture(depth=1, width=4)).eval()
    found = examples(module, data.train, data.task, patch_size=(32, 32), count=3)
    assert set(found) == {
        f"{name}_{i}" for name in ("image", "truth", "prediction", "spacing") for i in range(3)
    }
    for index, case in enumerate(data.train[::2]):
        assert np.array_equal(found[f"image_{index}"], case.image)
        assert np.array_equal(found[f"truth_{index}"], case.target)
        with torch.inference_mode():
            expected = labels_of(module(torch.from_numpy(case.image)[None])[0], data.task)
        assert np.array_equal(found[f"prediction_{index}"], expected)
    again = examples(module, data.train, data.task, patch_size=(32, 32), count=3)
    assert all(np.array_equal(found[name], again[name]) for name in found)


def test_volumes_are_cut_to_the_slice_with_most_foreground():
    data = dataset((16, 24, 20))
    module = build(Architecture(spatial_dims=3, depth=1, width=2))
    found = examples(module, data.test, data.task, patch_size=(16, 16, 16), count=9)
    target = data.test[0].target
    assert found["image_0"].shape == (1, 24, 20)
    assert found["truth_0"].sum() == max(int(plane.sum()) for plane in target)
    assert found["prediction_0"].shape == (24, 20)
    assert "image_1" not in found


def test_volumes_are_cut_across_their_coarsest_axis():
    data = dataset((16, 24, 20))
    case = replace(data.test[0], spacing=(1.0, 0.5, 3.0))
    module = build(Architecture(spatial_dims=3, depth=1, width=2))
    found = examples(module, [case], data.task, patch_size=(16, 16, 16))
    assert found["image_0"].shape == (1, 16, 24)
    assert found["spacing_0"].tolist() == [1.0, 0.5]
    assert found["truth_0"].sum() == max(
        int(plane.sum()) for plane in np.moveaxis(case.target, 2, 0)
    )
