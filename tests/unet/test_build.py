"""The module as a citizen of PyTorch: saved, copied, compiled, exported, recomputed, freed."""

import copy
import gc
import io
import weakref

import pytest
import torch
from torch import nn
from torch.export import Dim

from unet_nas.errors import InputError
from unet_nas.unet import layers
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.build import build
from unet_nas.unet.graph import lower
from unet_nas.unet.stages import units

SMALL = {"spatial_dims": 2, "in_channels": 2, "classes": 3, "depth": 2, "width": 4}

#: networks that between them use every module of ``layers`` and every odd corner of ``build``
NETWORKS = {
    "strict": {},
    "crop": {"align": "crop", "padding": "valid"},
    "pad": {"align": {"type": "pad", "mode": "replicate"}, "norm": "instance"},
    "resize": {"align": "resize", "norm": "group", "width": 8},
    "attention": {"align": "resize", "fusion": "attention_gate"},
    "deep": {"depth": 2, "deep_supervision": 1, "activation": "leaky_relu"},
    "shuffle": {"down": "pixel_unshuffle", "up": "pixel_shuffle"},
    "blur": {"down": "anti_aliased_max_pool", "padding_mode": "reflect", "align": "pad"},
    "residual": {
        "block": {"type": "residual", "unit": 1},
        "down": "strided_block",
        "fusion": "add",
        "order": "norm-act-conv",
        "up": {"type": "interpolation", "mode": "linear"},
    },
    "inverted": {
        "block": "inverted_bottleneck",
        "squeeze_excitation": {"reduction": 2},
        "activation": "silu",
        "head": "multi_scale",
    },
}
everywhere = pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)


@pytest.fixture(autouse=True)
def seeded():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.compiler.reset()  # dynamo compiles one function at most eight times
    yield
    torch.set_num_threads(before)


def architecture(**options) -> Architecture:
    return Architecture.model_validate({**SMALL, **options})


def example(module: nn.Module, *, size=(48, 56), batch=2) -> torch.Tensor:
    return torch.randn(batch, module.in_channels, *size)


def listed(output) -> list[torch.Tensor]:
    return output if isinstance(output, list) else [output]


def total(output) -> torch.Tensor:
    return sum(y.square().mean() for y in listed(output))


def assert_same(one, other, **tolerance) -> None:
    torch.testing.assert_close(listed(one), listed(other), **tolerance or {"rtol": 0, "atol": 0})


# --- copies -------------------------------------------------------------------------------


@everywhere
def test_a_state_dict_goes_round_through_a_file(options):
    module, other = build(architecture(**options)), build(architecture(**options))
    x = example(module)
    module(x)  # running statistics that are not the first ones
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert_same(module.eval()(x), other.eval()(x))


@everywhere
def test_a_deep_copy_is_equal_and_apart(options):
    module = build(architecture(**options), checkpoint=["0"]).eval()
    x = example(module)
    with torch.no_grad():
        before = module(x)
        other = copy.deepcopy(module)
        for parameter in module.parameters():
            parameter.zero_()
        assert_same(other(x), before)


def test_the_whole_module_is_saved_and_loaded():
    module = build(architecture()).eval()
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    x = example(module)
    assert_same(torch.load(file, weights_only=False)(x), module(x))


def test_names_of_parameters_are_those_of_the_graph():
    module = build(architecture())
    names = {node.name for node in lower(architecture()).nodes if node.primitive.parameters()}
    assert {name.rpartition(".")[0] for name, _ in module.named_parameters()} == names


@everywhere
def test_every_name_stands_once_and_every_map_is_read(options):
    graph = lower(architecture(**options))
    assert len({node.name for node in graph.nodes}) == len(graph.nodes)
    unread = {i for i, seen in enumerate(graph.readers()) if not seen}
    assert unread == set(graph.outputs)


# --- compiled and exported ----------------------------------------------------------------

#: tracing takes seconds, so these networks are as small as they can be
TINY = {"depth": 1, "convs": 1}
SIZES = ((16, 20), (32, 12), (15, 13), (13, 14))
ALIGNED = ("crop", "pad", "resize")


def compiled_and_plain(**options):
    module = build(architecture(**{**TINY, **options})).eval()
    return torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True), module


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - set(ALIGNED)))
def test_compiles_without_graph_breaks_for_more_than_one_size(name):
    compiled, module = compiled_and_plain(**NETWORKS[name])
    with torch.no_grad():
        for size in SIZES[:2]:
            x = example(module, size=size)
            assert_same(compiled(x), module(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("align", ALIGNED)
def test_compiled_alignment_takes_odd_sizes(align):
    compiled, module = compiled_and_plain(align=align)
    with torch.no_grad():
        for size in SIZES:
            x = example(module, size=size)
            assert_same(compiled(x), module(x), rtol=1e-3, atol=1e-4)


def test_compiled_strict_alignment_refuses_odd_sizes():
    module = build(architecture(**TINY)).eval()
    compiled = torch.compile(module, backend="aot_eager", dynamic=True)
    with torch.no_grad(), pytest.raises(ValueError, match="equal spatial size"):
        compiled(example(module, size=SIZES[0]))
        compiled(example(module, size=SIZES[2]))


@pytest.mark.parametrize("align", ["strict", *ALIGNED])
def test_compiled_training_gives_the_same_gradients(align):
    module = build(architecture(**TINY, align=align))
    other = copy.deepcopy(module)
    compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
    x = example(module, size=SIZES[0])
    total(module(x)).backward()
    total(compiled(x)).backward()
    for one, two in zip(module.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("align", ALIGNED)
def test_exports_with_free_sizes(align):
    module = build(architecture(**TINY, align=align)).eval()
    dynamic = {"x": {2: Dim("height", min=8, max=512), 3: Dim("width", min=8, max=512)}}
    exported = torch.export.export(
        module,
        (example(module, size=SIZES[0]),),
        dynamic_shapes=dynamic,
        prefer_deferred_runtime_asserts_over_guards=True,
    ).module()
    with torch.no_grad():
        for size in SIZES:
            x = example(module, size=size)
            assert_same(exported(x), module(x), rtol=1e-3, atol=1e-4)


def test_exports_strict_alignment_with_sizes_that_fit():
    module = build(architecture(**TINY)).eval()
    height, width = Dim("height", min=4, max=128), Dim("width", min=4, max=128)
    dynamic = {"x": {2: 2 * height, 3: 2 * width}}
    x = example(module, size=SIZES[0])
    exported = torch.export.export(module, (x,), dynamic_shapes=dynamic).module()
    x = example(module, size=SIZES[1])
    assert_same(exported(x), module(x), rtol=1e-3, atol=1e-4)


@everywhere
def test_exports_a_fixed_size(options):
    module = build(architecture(**{**TINY, **options})).eval()
    x = example(module)
    exported = torch.export.export(module, (x,)).module()
    assert_same(exported(x), module(x), rtol=1e-3, atol=1e-4)


# --- precision and layout -----------------------------------------------------------------


@everywhere
def test_runs_and_trains_under_autocast(options):
    module = build(architecture(**options))
    x = example(module)
    with torch.autocast("cpu", torch.bfloat16):
        output = module(x)
    assert {y.dtype for y in listed(output)} == {torch.bfloat16}
    total([y.float() for y in listed(output)]).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.dtype == torch.float32, name
        assert parameter.grad.isfinite().all(), name
    with torch.no_grad():
        exact = listed(module.eval()(x))
        with torch.autocast("cpu", torch.bfloat16):
            rough = [y.float() for y in listed(module(x))]
    spread = max(float(y.abs().max()) for y in exact)
    assert_same(rough, exact, rtol=0.1, atol=0.1 * spread)


@everywhere
def test_runs_in_half_and_double(options):
    for dtype in (torch.bfloat16, torch.float64):
        module = build(architecture(**options)).to(dtype).eval()
        assert {y.dtype for y in listed(module(example(module).to(dtype)))} == {dtype}


@everywhere
def test_channels_last_gives_the_same_numbers(options):
    module = build(architecture(**options)).eval()
    x = example(module)
    with torch.no_grad():
        plain = module(x)
        module = module.to(memory_format=torch.channels_last)
        assert_same(module(x.to(memory_format=torch.channels_last)), plain, rtol=1e-3, atol=1e-4)


def test_sync_batch_norm_replaces_norms_in_place():
    module = build(architecture()).eval()
    x = example(module)
    before = module(x)
    module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    kinds = {type(m) for m in module.modules()}
    assert nn.SyncBatchNorm in kinds
    assert nn.BatchNorm2d not in kinds
    assert_same(module(x), before)


def test_a_replaced_leaf_is_the_one_that_runs():
    module = build(architecture()).eval()
    module.head.conv = nn.Conv2d(4, 7, 1)
    assert module(example(module)).shape[1] == 7


# --- recomputed and in place --------------------------------------------------------------


def step(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Returns outputs, gradients and buffers after two training steps' worth of passes."""
    for seed in (1, 2):
        torch.manual_seed(seed)
        output = module(x)
        total(output).backward()
    gradients = [parameter.grad for parameter in module.parameters()]
    return [*listed(output), *gradients, *module.buffers()]


def by_unit() -> list:
    return [
        pytest.param(options, unit, id=f"{name}-{unit}")
        for name, options in NETWORKS.items()
        for unit in [*units(lower(architecture(**options))), "all"]
    ]


@pytest.mark.parametrize(("options", "unit"), by_unit())
def test_a_checkpointed_unit_changes_no_number(options, unit):
    described = architecture(**options, dropout={"type": "channel", "rate": 0.3})
    plain = build(described)
    chosen = list(units(lower(described))) if unit == "all" else [unit]
    recomputed = build(described, checkpoint=chosen)
    recomputed.load_state_dict(plain.state_dict())
    x = example(plain, size=(48, 48))
    for one, two in zip(step(plain, x), step(recomputed, x), strict=True):
        torch.testing.assert_close(one, two)


def test_a_checkpointed_unit_is_run_twice_and_its_maps_are_dropped():
    described = architecture(depth=1)
    runs = []
    module = build(described, checkpoint=["encoder.stages.0"])
    module.encoder.stages.get_submodule("0").convs.get_submodule("0").conv.register_forward_hook(
        lambda _module, _inputs, output: runs.append(weakref.ref(output))
    )
    output = module(example(module))
    assert [ref() for ref in runs] == [None]
    total(output).backward()
    assert len(runs) == 2


def test_a_bare_number_checkpoints_the_whole_stage():
    described = architecture(depth=2, up="none", down={"type": "max_pool", "stride": 1})
    module = build(described, checkpoint=["2"])
    assert [segment.recompute for segment in module.segments].count(True) == 1
    assert len([s for s in build(described, checkpoint=["0"]).segments if s.recompute]) == 2
    with pytest.raises(InputError, match="no stage '3'"):
        build(described, checkpoint=["3"])


ORDERS = ["conv-norm-act", "norm-act-conv", "act-conv-norm", "act-norm-conv", "norm-conv-act"]


@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "elu"])
@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
@pytest.mark.parametrize("order", ORDERS)
def test_in_place_activations_change_no_number(order, norm, kind):
    options = {"order": order, "norm": norm, "activation": kind, "fusion": ["none", "concat"]}
    described = architecture(**options, down="strided_conv")
    plain = build(described)
    inplace = build(described, inplace=True)
    both = build(described, inplace=True, checkpoint=list(units(lower(described))))
    assert any(getattr(m, "inplace", False) for m in inplace.modules())
    x = example(plain, size=(16, 16))
    before = x.clone()
    for module in (inplace, both):
        module.load_state_dict(plain.state_dict())
    expected = step(plain, x)
    for module in (inplace, both):
        for one, two in zip(expected, step(module, x), strict=True):
            torch.testing.assert_close(one, two)
    assert torch.equal(x, before)


# --- sizes --------------------------------------------------------------------------------


@pytest.mark.parametrize("join", [layers.Add(), layers.Concat(), layers.Gate()])
def test_unequal_maps_are_never_broadcast(join):
    one, two = torch.ones(1, 1, 1, 1), torch.ones(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"equal spatial size, got \(2, 2\) and \(1, 1\)"):
        join(two, one)
    with pytest.raises(ValueError, match=r"equal spatial size, got \(1, 1\) and \(2, 2\)"):
        join(one, two)


def test_an_odd_size_raises_at_the_fusion_and_no_later():
    module = build(architecture(fusion="add"))
    with pytest.raises(ValueError, match="add needs maps of equal spatial size"):
        module(example(module, size=(48, 50)))


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (layers.PixelShuffle((3, 3)), nn.PixelShuffle(3)),
        (layers.PixelUnshuffle((3, 3)), nn.PixelUnshuffle(3)),
    ],
)
def test_pixel_shuffles_are_those_of_pytorch_in_2d(mine, theirs):
    x = torch.randn(2, 18, 6, 9)
    assert torch.equal(mine(x), theirs(x))


@pytest.mark.parametrize("factor", [(2,), (3, 1), (2, 3), (2, 1, 3)])
def test_unshuffling_undoes_shuffling(factor):
    x = torch.randn(2, 12, *(5 for _ in factor))
    assert torch.equal(layers.PixelUnshuffle(factor)(layers.PixelShuffle(factor)(x)), x)


def test_alignment_passes_equal_maps_through_without_a_copy():
    x, reference = torch.randn(1, 2, 4, 4), torch.randn(1, 3, 4, 4)
    for align in (layers.CropTo(), layers.PadTo("both", "zeros"), layers.ResizeTo("nearest")):
        assert align(x, reference) is x


def test_alignment_is_centred_with_the_odd_position_at_the_end():
    x = torch.arange(1.0, 6.0).reshape(1, 1, 5)
    assert layers.CropTo()(x, torch.zeros(1, 1, 2)).tolist() == [[[2, 3]]]
    assert layers.PadTo("both", "zeros")(x, torch.zeros(1, 1, 8)).tolist() == [
        [[0, 1, 2, 3, 4, 5, 0, 0]]
    ]
    assert layers.PadTo("end", "replicate")(x, torch.zeros(1, 1, 7)).tolist() == [
        [[1, 2, 3, 4, 5, 5, 5]]
    ]


# --- what is kept -------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@everywhere
def test_every_map_is_dropped_right_after_its_last_reader(options, training):
    graph = lower(architecture(**options))
    module = build(graph).train(training)
    alive: dict[int, weakref.ref] = {}
    last = [max(seen, default=len(graph.nodes)) for seen in graph.readers()]

    def after(index: int):
        def hook(_module, _inputs, output) -> None:
            # a leaf's own inputs are still on the stack: those must be gone before the next
            kept = {i for i, ref in alive.items() if ref() is not None and last[i] < index}
            names = [graph.nodes[i].name for i in kept if not passed_on(graph, i, alive)]
            assert not names, f"{names} still alive in {graph.nodes[index].name}"
            alive[index] = weakref.ref(output)

        return hook

    for index, node in enumerate(graph.nodes[1:], start=1):
        module.get_submodule(node.name).register_forward_hook(after(index))
    gc.disable()
    try:
        with torch.no_grad():
            module(example(module))
    finally:
        gc.enable()
    assert len(alive) == len(graph.nodes) - 1


def passed_on(graph, index: int, alive: dict) -> bool:
    """An alignment returns its input where it has nothing to do, and a crop is a view of it."""
    mine = alive[index]()
    return any(
        ref() is mine or getattr(ref(), "_base", None) is mine
        for other, ref in alive.items()
        if max(graph.readers()[other], default=len(graph.nodes)) >= max(alive)
    )


# --- initialisation -----------------------------------------------------------------------


@everywhere
def test_logits_start_finite_and_of_moderate_spread(options):
    module = build(architecture(**options)).train()
    with torch.no_grad():
        for y in listed(module(example(module, batch=4))):
            assert y.isfinite().all()
            assert 0.05 < float(y.std()) < 20


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_spread_of_logits_hardly_depends_on_depth(norm):
    spreads = []
    for depth in (1, 3, 5):
        module = build(architecture(depth=depth, norm=norm, width=8, max_width=64))
        with torch.no_grad():
            spreads.append(float(module(example(module, size=(64, 64))).std()))
    assert max(spreads) < 8 * min(spreads), spreads


def test_pixel_shuffle_starts_as_nearest_interpolation():
    module = build(architecture(up={"type": "pixel_shuffle", "kernel_size": 3}))
    seen = []
    leaf = module.get_submodule("decoder.ups.0.shuffle")
    leaf.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        module(example(module))
    cells = nn.functional.avg_pool2d(seen[0], 2)
    grown = nn.functional.interpolate(cells, scale_factor=2, mode="nearest")
    torch.testing.assert_close(grown, seen[0])
    assert float(cells.std()) > 0.1


def test_biases_start_at_zero_and_weights_as_he_proposed():
    module = build(architecture(width=32))
    conv = module.get_submodule("bottleneck.convs.0.conv")
    assert not conv.bias.any()
    assert float(conv.weight.detach().std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)
