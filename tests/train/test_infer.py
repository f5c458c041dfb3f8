import pytest
import torch
from torch import nn

from unet_nas import Architecture, build
from unet_nas.train.infer import Predictor, predict
from unet_nas.train.tiles import tiled_axis, whole_axis

VALID = {"padding": "valid", "align": "crop", "depth": 2, "width": 4}
SAME = {"depth": 2, "width": 4}


def network(fields, dims=2):
    torch.manual_seed(0)
    module = build(Architecture.model_validate({"spatial_dims": dims, **fields}))
    with torch.no_grad():  # running statistics as after a training
        for _ in range(3):
            module(torch.randn(2, 1, *(60 if dims < 3 else 20,) * dims))
    return module.eval()


@pytest.mark.parametrize("size", [(100, 75), (60, 60), (13, 200)])
def test_valid_padding_gives_the_same_in_tiles_as_in_one_pass(size):
    module, image = network(VALID), torch.randn(1, *size)
    whole = predict(module, image, patch_size=(60, 60))
    tiled = predict(module, image, patch_size=(60, 60), whole_bytes=0)
    assert whole.shape == (2, *size)
    assert torch.allclose(whole, tiled, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dims", [1, 3])
def test_valid_padding_in_one_and_three_dimensions(dims):
    module, image = network({**VALID, "depth": 1}, dims), torch.randn(1, *(50, 34, 27)[:dims])
    whole = predict(module, image, patch_size=(36,) * dims)
    tiled = predict(module, image, patch_size=(36,) * dims, whole_bytes=0)
    assert torch.allclose(whole, tiled, atol=1e-5, rtol=0)


def test_valid_padding_predicts_what_the_network_gives_for_the_mirrored_image():
    module, image = network(VALID), torch.randn(1, 28, 40)
    padded = nn.functional.pad(image, (20, 20, 20, 20), mode="reflect")
    with torch.inference_mode():
        expected = module(padded[None])[0]
    assert expected.shape == (2, 28, 40)
    assert torch.equal(predict(module, image, patch_size=(60, 60)), expected)


def test_same_padding_in_tiles_is_close_in_the_middle():
    module, image = network(SAME), torch.randn(1, 200, 120)
    whole = predict(module, image, patch_size=(64, 64))
    tiled = predict(module, image, patch_size=(64, 64), whole_bytes=0)
    assert not torch.equal(whole, tiled)
    difference = (whole - tiled).abs()
    spread = whole.std()
    assert difference.mean() < 0.1 * spread
    assert (whole.argmax(0) == tiled.argmax(0)).float().mean() > 0.97


def test_an_image_of_one_tile_is_what_the_network_says_of_it():
    module, image = network(SAME), torch.randn(1, 64, 64)
    with torch.inference_mode():
        expected = module(image[None])[0]
    assert torch.equal(predict(module, image, patch_size=(64, 64)), expected)
    assert torch.allclose(predict(module, image, patch_size=(64, 64), whole_bytes=0), expected)


@pytest.mark.parametrize("size", [(61, 83), (3, 5), (1, 64)])
def test_any_size_is_brought_to_one_that_the_network_takes(size):
    module = network({**SAME, "align": "strict"})
    image = torch.randn(1, *size)
    for whole_bytes in (1 << 30, 0):
        found = predict(module, image, patch_size=(16, 16), whole_bytes=whole_bytes)
        assert found.shape == (2, *size)
        assert found.isfinite().all()


def test_a_size_that_fits_badly_is_mirrored_at_its_end():
    module = network({**SAME, "align": "strict"})
    image = torch.randn(1, 62, 64)
    mirrored = torch.cat([image, image[:, [60, 59]]], dim=1)
    with torch.inference_mode():
        expected = module(mirrored[None])[0, :, :62]
    assert torch.equal(predict(module, image, patch_size=(16, 16)), expected)


def test_memory_that_runs_out_in_one_pass_leads_to_tiles():
    class Tight(type(network(SAME))):
        def forward(self, x):
            if x.shape[-1] > 64:
                raise MemoryError
            return super().forward(x)

    module = network(SAME)
    module.__class__ = Tight
    predictor = Predictor(module, patch_size=(32, 32))
    image = torch.randn(1, 80, 80)
    found = predictor(image)
    assert torch.equal(found, predict(module, image, patch_size=(32, 32), whole_bytes=0))


def test_a_network_of_somebody_else_is_run_on_tiles_of_the_patch_size():
    class Shrinking(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 5)

        def forward(self, x):
            assert x.shape[-2:] == (20, 20)
            return self.conv(x)

    module, image = Shrinking(), torch.randn(3, 50, 33)
    padded = nn.functional.pad(image, (2, 2, 2, 2), mode="reflect")
    with torch.inference_mode():
        expected = module.conv(padded)
    assert torch.allclose(predict(module, image, patch_size=(20, 20)), expected, atol=1e-5)


def test_the_mode_of_the_module_is_given_back():
    module = network(SAME).train()
    predict(module, torch.randn(1, 32, 32), patch_size=(32, 32))
    assert module.training


@pytest.mark.parametrize("length", [1, 5, 40, 41, 59, 100])
def test_tiles_cover_every_position(length):
    for plan in (
        tiled_axis(length, 40, 40, 8, overlap=True),
        tiled_axis(length, 56, 16, 4, overlap=False),
    ):
        assert (plan.total(length) > 0).all()


def test_half_precision_is_close():
    module, image = network(SAME), torch.randn(1, 64, 64)
    full = predict(module, image, patch_size=(64, 64))
    half = predict(module, image, patch_size=(64, 64), precision="bf16")
    assert half.dtype == torch.float32
    assert 0 < (full - half).abs().mean() < 0.05 * full.std()


def test_one_pass_reads_the_smallest_size_whose_output_covers_the_image():
    graph = network(VALID).graph
    plan = whole_axis(graph, 0, 100)
    smaller = whole_axis(graph, 0, 96)
    assert plan.output >= 100
    assert smaller.size <= plan.size
    assert smaller.output >= 96
