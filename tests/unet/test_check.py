"""The verdict against the rule of sizes counted out, against the module, and against its fixes."""

import pytest
import torch

from unet_nas import Architecture, build, check, lower
from unet_nas.errors import InputError, SizeError
from unet_nas.unet.shapes import AxisSizes

# Each with the sizes that it was made for: a rule, and up to where it is counted out.
DESIGNS = {
    "pooling": {"depth": 3},
    "stride 4": {
        "depth": 2,
        "spatial_dims": 1,
        "down": {"type": "strided_conv", "kernel_size": 7, "stride": 4},
        "up": {"type": "transposed_conv"},
    },
    "pixel unshuffle": {"depth": 2, "down": "pixel_unshuffle", "up": "pixel_shuffle"},
    "k3s2p1": {
        "depth": 3,
        "down": {"type": "strided_conv", "kernel_size": 3, "stride": 2, "padding": 1},
    },
    "k3s2p1, cropped": {
        "depth": 3,
        "down": {"type": "strided_conv", "kernel_size": 3, "stride": 2, "padding": 1},
        "align": "crop",
    },
    "valid, strict": {"depth": 2, "padding": "valid"},
    "valid, cropped": {"depth": 2, "padding": "valid", "align": "crop"},
    "reflect": {"depth": 3, "padding_mode": "reflect", "align": "pad"},
    "reflect, wide kernel": {"depth": 2, "padding_mode": "reflect", "kernel_size": 7},
    "anisotropic 3D": {
        "depth": 2,
        "spatial_dims": 3,
        "down": [{"type": "max_pool", "kernel_size": "1x2x2"}, "max_pool"],
        "kernel_size": ["1x3x3", 3, 3],
    },
    "anti-aliased": {"depth": 2, "down": "anti_aliased_max_pool", "align": "resize"},
    "ceil mode": {"depth": 3, "down": {"type": "max_pool", "ceil_mode": True}, "align": "crop"},
}


def design(name: str, **changes: object) -> Architecture:
    return Architecture.model_validate({"width": 4, "growth": 1.5, **DESIGNS[name], **changes})


def runs(module: torch.nn.Module, architecture: Architecture, size: tuple[int, ...]) -> bool:
    x = torch.empty(2, architecture.in_channels, *size, device="meta")
    try:
        module(x)
    except (RuntimeError, ValueError):
        return False
    return True


def test_the_2015_network_takes_572_to_388():
    network = Architecture(padding="valid", norm="none", align="crop")
    assert check(network, (572, 572)).output_size == (388, 388)
    assert check(network, (571, 188)).output_size == (372, 4)


@pytest.mark.parametrize("name", DESIGNS)
def test_the_rule_of_sizes_is_what_counting_finds_and_the_module_does(name):
    architecture = design(name)
    graph = lower(architecture)
    module = build(architecture).to("meta")
    fixed = next(n for n in (64, 128, 256) if check(architecture, (n,) * graph.dims, batch_size=2))
    for axis in range(graph.dims):
        sizes = AxisSizes(graph, axis)
        rule = sizes.rule()
        assert rule is not None
        counted = [n for n in range(1, 200) if sizes.valid(n)]
        assert [n for n in range(1, 200) if n in rule] == counted
        if not rule.residues:
            continue
        for n in range(1, 48 if axis == 0 else 20):
            size = tuple(n if other == axis else fixed for other in range(graph.dims))
            assert runs(module, architecture, size) == (n in rule), size


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("size", [1, 2, 7, 16, 37, 50, 100])
def test_every_fix_mends_the_network(name, size):
    architecture = design(name)
    patch = (size, *(64,) * (architecture.spatial_dims - 1))
    found = check(architecture, patch)
    assert bool(found.problems) != found.valid
    for fix in found.fixes:
        changed, asked, conditions = architecture, patch, {}
        if fix.kind == "align":
            changed = design(name, align=fix.value)
        elif fix.kind == "patch_size":
            asked = fix.value
        else:
            conditions = {fix.kind: fix.value}
        mended = check(changed, asked, **conditions)
        assert mended.valid, fix
        assert mended.output_size == fix.output_size, fix
    options = [fix.option for fix in found.fixes]
    assert len(set(options)) == len(options)


@pytest.mark.parametrize("name", ["pooling", "stride 4", "k3s2p1", "anisotropic 3D"])
def test_a_size_that_no_norm_minds_always_has_a_fix(name):
    architecture = design(name, norm="none")
    for size in range(1, 40):
        found = check(architecture, (size,) * architecture.spatial_dims)
        assert found.valid or found.fixes, size


def test_every_mismatch_is_listed_and_each_is_real():
    architecture = Architecture(depth=4, width=2, norm="none")
    problems = check(architecture, (107, 112)).problems
    stages = [int(problem.name.split(".")[2]) for problem in problems]
    assert stages == [3, 1, 0]
    assert {problem.axis for problem in problems} == {0}
    for stage in range(4):
        # with all others resized to their skips, the module raises at just this fusion, or not
        align = ["strict" if other == stage else "resize" for other in range(4)]
        network = Architecture.model_validate(
            {"depth": 4, "width": 2, "norm": "none", "align": align}
        )
        assert runs(build(network).to("meta"), network, (107, 112)) == (stage not in stages)
    found = check(architecture, (107, 107)).problems
    assert len(found) == 2 * len(problems)


def test_problems_name_place_cause_and_both_sizes():
    (first, *_) = check(Architecture(depth=2), (30, 32)).problems
    assert first.name == "decoder.fusions.1.concat"
    assert (first.where, first.axis, first.sizes) == ("decoder stage 1", 0, (15, 14))
    assert str(first) == (
        "axis 0: decoder.fusions.1 needs equal sizes, but encoder.stages.1 gives 15 and "
        "decoder.ups.1 gives 14, because encoder.downs.1 meets 15 and gives 7, which comes up to 14"
    )


@pytest.mark.parametrize(
    ("changes", "size", "reason", "words"),
    [
        ({"padding": "valid"}, (9, 64), "too_small", "needs at least 3, the extent of its kernel"),
        ({"down": "pixel_unshuffle"}, (7, 64), "not_divisible", "a multiple of 2, got 7"),
        ({"padding_mode": "reflect"}, (4, 64), "pad_too_large", "more than its reflected 1"),
        ({"norm": "instance", "spatial_dims": 1}, (4,), "single_value", "got a map of 1"),
    ],
)
def test_each_reason_has_its_words(changes, size, reason, words):
    problems = check(Architecture.model_validate({"depth": 2, **changes}), size).problems
    found = [problem for problem in problems if problem.reason == reason]
    assert found
    assert words in found[0].message
    assert found[0].why


def test_nearest_valid_sizes_per_axis():
    found = check(Architecture(depth=4), (250, 7))
    assert found.nearest_valid_sizes == ((240, 256), (None, 16))


def test_what_is_no_size_batch_or_mode_is_refused():
    network = Architecture(depth=1)
    for size in ((4,), (4, 4, 4), (0, 4), (4.0, 4), ("4", 4), (True, 4)):
        with pytest.raises(SizeError):
            check(network, size)
    with pytest.raises(InputError, match="at least 1 sample, got 0"):
        check(network, (4, 4), batch_size=0)
    with pytest.raises(InputError, match="train or eval, got 'test'"):
        check(network, (4, 4), mode="test")


def test_sizes_beyond_any_machine_are_answered():
    assert check(Architecture(depth=2), (10**30, 4 * 10**30)).valid
    found = check(Architecture(depth=2), (10**30 + 1, 4))
    assert found.nearest_valid_sizes[0] == (10**30, 10**30 + 4)


@pytest.mark.parametrize(
    "down",
    [
        "anti_aliased_max_pool",
        {"type": "anti_aliased_strided_conv", "taps": 4},
        {"type": "strided_conv", "kernel_size": 4},
    ],
)
def test_the_cause_is_the_down_sampling_that_rounds_not_one_that_pads(down):
    """Stage 0 goes from 30 to 15 exactly; only stage 1 cannot halve."""
    found = check(Architecture.model_validate({"depth": 2, "down": down}), (30, 32))
    (problem,) = [p for p in found.problems if p.name == "decoder.fusions.1.concat"]
    assert problem.why.startswith("encoder.downs.1 meets 15 and gives ")
