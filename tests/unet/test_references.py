"""Networks of ours against reference implementations: same weights, same numbers.

Sizes are small and features narrow, so that a case takes a fraction of a second.
"""

from typing import Any

import pytest
import torch
from monai.networks import nets
from torch import nn

from tests.unet.reference import architecture, assert_both_refuse, assert_equal, count, read
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.graph import lower

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


# --- MONAI BasicUNet ----------------------------------------------------------------------

FEATURES = (4, 6, 8, 10, 12, 5)


def basic_ups(kind: str) -> list[dict[str, Any]]:
    """Returns the up-samplings of BasicUNet, full resolution first; widths as it computes them."""
    features = [8, 10, 12]
    widths = [6, *(f // 2 for f in features)]  # the last one does not halve
    if kind == "deconv":
        return [{"type": "transposed_conv", "features": w} for w in widths]
    if kind == "pixelshuffle":
        return [{"type": "pixel_shuffle", "features": w, "average": "zeros"} for w in widths]
    linear = {"type": "interpolation", "mode": "linear", "align_corners": True, "conv_first": True}
    kept = linear | {"kernel_size": None}  # no convolution where the channels stay
    return [kept, *(linear | {"kernel_size": 1, "features": w} for w in widths[1:])]


def basic(dims: int, ups: str = "deconv", **changes: Any) -> Architecture:
    wanted = {"features": list(FEATURES[:5]), "decoder": {"features": [5, 6, 8, 10]}}
    return architecture(
        f"monai-basicunet-{max(dims, 2)}d",
        **{"spatial_dims": dims, "up": basic_ups(ups), **wanted, **changes},
    )


@pytest.mark.parametrize("upsample", ["deconv", "pixelshuffle", "nontrainable"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_monai_basicunet(dims: int, upsample: str) -> None:
    reference = nets.BasicUNet(dims, features=FEATURES, upsample=upsample)
    sizes = {1: [(32,), (37,), (63,)], 2: [(32, 32), (33, 47)], 3: [(32, 32, 32), (32, 33, 35)]}
    batch = 1 if dims == 3 else 2
    assert_equal(reference, basic(dims, upsample), *sizes[dims], batch=batch)


NORMS = {
    "batch": "batch",
    ("group", ("num_groups", 2)): {"type": "group", "groups": 2},
    ("instance", ("affine", False)): {"type": "instance", "affine": False},
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("act", "activation"),
    [("relu", "relu"), ("prelu", "prelu"), ("elu", "elu"), ("swish", "silu"), ("gelu", "gelu")],
)
def test_monai_basicunet_norms_and_activations(norm: Any, act: str, activation: str) -> None:
    features = (4, 4, 8, 8, 12, 6)
    monai_norm = norm if isinstance(norm, str) else (norm[0], dict([norm[1]]))
    reference = nets.BasicUNet(2, features=features, norm=monai_norm, act=act, bias=False)
    wanted = architecture(
        "monai-basicunet-2d",
        features=list(features[:5]),
        decoder={"features": [6, 4, 8, 8]},
        up=[{"type": "transposed_conv", "features": width} for width in (4, 4, 4, 6)],
        norm=NORMS[norm],
        activation=activation,
        bias=False,
    )
    assert_equal(reference, wanted, (32, 36))


@pytest.mark.parametrize("channel", [False, True])
def test_monai_basicunet_dropout(channel: bool) -> None:
    dropout = ("dropout", {"p": 0.3})
    reference = nets.BasicUNet(2, features=FEATURES, dropout=dropout)
    if channel:  # MONAI's dropout_dim is fixed at 1 in BasicUNet, so exchange the modules
        for parent in list(reference.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.Dropout):
                    setattr(parent, name, nn.Dropout2d(0.3))
    kind = "channel" if channel else "element"
    wanted = basic(2, dropout={"type": kind, "rate": 0.3, "position": "after_norm"})
    assert_equal(reference, wanted, (32, 32))


@pytest.mark.parametrize(("dims", "size"), [(2, (15, 32)), (2, (8, 8)), (3, (16, 16, 8))])
def test_monai_basicunet_refusals(dims: int, size: tuple[int, ...]) -> None:
    assert_both_refuse(nets.BasicUNet(dims, features=FEATURES), basic(dims), size)


# --- MONAI UNet ---------------------------------------------------------------------------


def monai_unet(
    dims: int,
    channels: tuple[int, ...],
    strides: tuple[Any, ...],
    units: int,
    *,
    kernel: Any = 3,
    up_kernel: int = 3,
    norm: Any = "batch",
    activation: Any = "prelu",
    dropout: Any = "none",
    classes: int = 2,
) -> Architecture:
    """Returns what MONAI's UNet builds from these arguments."""
    depth = len(channels)
    steps = [*strides[: depth - 1], 1]

    def moves(stride: Any) -> bool:
        return any(s != 1 for s in (stride if isinstance(stride, tuple) else (stride,)))

    up = {
        "type": "transposed_conv",
        "kernel_size": up_kernel,
        "padding": (up_kernel - 1) // 2,
        "norm": "inherit",
        "activation": "inherit",
        "dropout": "inherit",
    }
    ups: list[Any] = []
    for stride in strides[: depth - 1]:
        extra = [s - 1 for s in stride] if isinstance(stride, tuple) else stride - 1
        ups.append(up | {"output_padding": extra, "stride": stride})
    if units == 0:
        ups[0] |= {"norm": "none", "activation": "none", "dropout": "none"}
        encoder: dict[str, Any] = {"convs": [0] + [1] * (depth - 1)}
        bottleneck: dict[str, Any] = {"convs": 1}
        decoder: dict[str, Any] = {"convs": 0}
    else:
        base = {"type": "residual", "unit": units, "last_activation": "before_add"}
        blocks = ["plain"]
        for stride in strides[: depth - 1]:
            blocks.append(base | {"projection_kernel": kernel if moves(stride) else 1})
        encoder = {"convs": [0] + [units] * (depth - 1), "block": blocks[:depth]}
        bottleneck = {"convs": units, "block": base}
        last = {"type": "residual", "unit": 1, "last_activation": "before_add"}
        decoder = {
            "convs": [1] * (depth - 1) + [0],
            "block": [last | {"last_activation": "none"}] + [last] * (depth - 1),
        }
        if dropout != "none":  # the last unit is the convolution alone
            decoder["dropout"] = ["none"] + [dropout] * (depth - 1)
            ups[0] |= {"dropout": dropout}
    return Architecture(
        spatial_dims=dims,
        classes=classes,
        depth=depth,
        features=[1, *channels],
        kernel_size=kernel,
        norm=norm,
        activation=activation,
        dropout=dropout,
        encoder=encoder,
        bottleneck=bottleneck,
        decoder=decoder | {"features": [classes, *channels[:-1]]},
        down=[{"type": "strided_block", "stride": s} for s in steps],
        up=[*ups, "none"],
        fusion=["none"] + ["concat"] * (depth - 1),
        fuse="after_block",
        head="none",
    )


INSTANCE = {"type": "instance", "affine": False}

UNETS = [
    # dims, channels, strides, units, MONAI's other arguments, ours, sizes
    (2, (4, 6, 8, 10, 12), (2, 2, 2, 2), 2, {"norm": "batch"}, {}, [(32, 48), (64, 32)]),
    (2, (4, 6, 8), (2, 2), 2, {}, {"norm": INSTANCE}, [(16, 20), (15, 16)]),
    (3, (4, 6, 8, 10), (2, 2, 2), 2, {"norm": "batch"}, {}, [(16, 16, 16), (24, 16, 8)]),
    (3, (4, 6, 8), ((1, 2, 2), (2, 2, 2)), 2, {"norm": "batch"}, {}, [(6, 16, 12)]),
    (3, (4, 6), (2,), 1, {"norm": "batch"}, {}, [(5, 6, 7)]),
    (1, (4, 6, 8), (2, 2), 3, {"norm": "batch"}, {}, [(32,), (31,)]),
    (2, (4, 6, 8), (2, 2), 0, {"norm": "batch"}, {}, [(16, 20), (15, 16)]),
    (3, (4, 6, 8), (2, 2), 0, {}, {"norm": INSTANCE}, [(8, 8, 12)]),
    (2, (4, 4, 8), (1, 2), 2, {"norm": "batch"}, {}, [(16, 18), (8, 22)]),
    (2, (4, 6, 8), (2, 2), 2, {"norm": "batch", "kernel_size": 5}, {"kernel": 5}, [(16, 20)]),
    (2, (4, 6, 8), (2, 2), 2, {"norm": "batch", "up_kernel_size": 5}, {"up_kernel": 5}, [(16, 16)]),
    (2, (4, 6, 8), (2, 2), 2, {"norm": "batch", "act": "relu"}, {"activation": "relu"}, [(16, 16)]),
    (2, (4, 6, 8), (3, 2), 2, {"norm": "batch"}, {}, [(18, 24), (16, 18)]),
    (
        2, (4, 6, 8), (2, 2), 2, {"norm": "batch", "dropout": 0.2},
        {"dropout": {"type": "element", "rate": 0.2, "position": "after_norm"}}, [(16, 16)],
    ),
    (
        2, (4, 6, 8), (2, 2), 0, {"norm": "batch", "dropout": 0.2},
        {"dropout": {"type": "element", "rate": 0.2, "position": "after_norm"}}, [(16, 16)],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("dims", "channels", "strides", "units", "theirs", "ours", "sizes"), UNETS)
def test_monai_unet(
    dims: int, channels: Any, strides: Any, units: int, theirs: Any, ours: Any, sizes: Any
) -> None:
    reference = nets.UNet(dims, 1, 2, channels, strides, num_res_units=units, **theirs)
    assert_equal(reference, monai_unet(dims, channels, strides, units, **ours), *sizes)


@pytest.mark.parametrize("size", [(14, 16), (16, 30), (13, 13)])
@pytest.mark.parametrize("units", [0, 2])
def test_monai_unet_refusals(size: tuple[int, ...], units: int) -> None:
    channels, strides = (4, 6, 8, 8), (2, 2, 2)
    reference = nets.UNet(2, 1, 2, channels, strides, num_res_units=units, norm="batch")
    assert_both_refuse(reference, monai_unet(2, channels, strides, units), size)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_preset_is_what_monai_unet_builds(dims: int) -> None:
    norm = INSTANCE if dims == 2 else "batch"
    general = monai_unet(dims, (16, 32, 64, 128, 256), (2, 2, 2, 2), 2, norm=norm)
    assert architecture(f"monai-unet-{dims}d").digest() == general.digest()


# --- MONAI AttentionUnet --------------------------------------------------------------------

ATTENTION = [
    (2, (4, 6, 8, 10, 12), (2, 2, 2, 2), {}, {}, [(32, 48), (64, 32)]),
    (3, (4, 6, 8), (2, 2), {}, {}, [(8, 8, 12)]),
    (1, (4, 8), (2,), {}, {}, [(16,)]),
    (2, (4, 6, 8), (2, 2), {"kernel_size": 5, "up_kernel_size": 5}, {"kernel": 5}, [(16, 24)]),
    (2, (4, 6, 8), (2, 2), {"dropout": 0.2}, {"rate": 0.2}, [(16, 24)]),
    (2, (4, 6, 8), (1, 2), {}, {}, [(16, 22)]),
]


@pytest.mark.parametrize(("dims", "channels", "strides", "theirs", "ours", "sizes"), ATTENTION)
def test_monai_attentionunet(
    dims: int, channels: Any, strides: Any, theirs: Any, ours: Any, sizes: Any
) -> None:
    # MONAI reads one stride more than there are down-samplings
    reference = nets.AttentionUnet(dims, 1, 2, channels, (*strides, 2), **theirs)
    wanted = attention(dims, channels, strides, **ours)
    assert_equal(reference, wanted, *sizes)


def attention(
    dims: int, channels: Any, strides: Any, kernel: int = 3, rate: float = 0
) -> Architecture:
    fields = read("monai-attentionunet-2d")["architecture"]
    del fields["width"]
    up = fields["up"] | {"kernel_size": kernel, "padding": kernel // 2}
    dropout = {"type": "element", "rate": rate, "position": "after_norm"} if rate else "none"
    changes = {
        "spatial_dims": dims,
        "depth": len(strides),
        "features": list(channels),
        "down": [{"type": "strided_block", "stride": s} for s in strides],
        "up": [up | {"output_padding": s - 1} for s in strides],
        "encoder": {"kernel_size": kernel},
        "bottleneck": {"kernel_size": kernel},
        "dropout": dropout,
    }
    return Architecture(**(fields | changes))


@pytest.mark.parametrize("size", [(15, 16), (16, 18)])
def test_monai_attentionunet_refusals(size: tuple[int, ...]) -> None:
    reference = nets.AttentionUnet(2, 1, 2, (4, 6, 8), (2, 2, 2))
    assert_both_refuse(reference, attention(2, (4, 6, 8), (2, 2)), size)


# --- nnU-Net ------------------------------------------------------------------------------


def convolution(dims: int) -> type[nn.Module]:
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]


def norm_class(dims: int) -> type[nn.Module]:
    return (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 1]


def nnunet_reference(
    name: str, dims: int, features: Any, kernels: Any, strides: Any, convs: Any, **more: Any
) -> nn.Module:
    """Builds a network of dynamic-network-architectures as nnU-Net's plans do."""
    from dynamic_network_architectures.architectures import unet

    counts = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
    decoder = more.pop("decoder", 2 if name == "PlainConvUNet" else 1)
    arguments = {
        "input_channels": 1,
        "n_stages": len(features),
        "features_per_stage": features,
        "conv_op": convolution(dims),
        "kernel_sizes": kernels,
        "strides": strides,
        counts[name]: convs,
        "num_classes": 2,
        "n_conv_per_stage_decoder": decoder,
        "conv_bias": True,
        "norm_op": norm_class(dims),
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        "deep_supervision": True,
    }
    return getattr(unet, name)(**(arguments | more))


def nnunet(
    name: str, dims: int, features: Any, kernels: Any, strides: Any, convs: Any, **changes: Any
) -> Architecture:
    """Returns the same as an architecture, from the preset."""
    depth = len(features) - 1
    counts = [convs] * (depth + 1) if isinstance(convs, int) else list(convs)
    downs = [{"type": "strided_block", "stride": s} for s in strides[1:]]
    many = [kernels] * (depth + 1) if isinstance(kernels, int) else list(kernels)
    values: dict[str, Any] = {
        "spatial_dims": dims,
        "depth": depth,
        "features": list(features),
        "kernel_size": many,
        "down": downs,
        "deep_supervision": depth - 1,
    }
    if name == "plain":
        values |= {"encoder": {"convs": counts[:-1]}, "bottleneck": {"convs": counts[-1]}}
    else:
        values |= {
            "encoder": {"convs": [2 * c for c in counts[:-1]]},
            "bottleneck": {"convs": 2 * counts[-1]},
            "stem": {"kernel_size": many[0]},
        }
    fields = read(f"nnunet-{name}-2d")["architecture"]
    del fields["width"], fields["max_width"]
    return Architecture(**(fields | values | changes))


NNUNETS = [
    # dims, features, kernels, strides, convolutions (or blocks) per stage, sizes
    (2, (4, 6, 8, 8), 3, (1, 2, 2, 2), 2, [(32, 40), (48, 32)]),
    (2, (4, 6, 8, 8, 8), 3, (1, 2, 2, (2, 1), (2, 1)), 2, [(32, 20)]),
    (3, (4, 6, 8), 3, (1, 2, 2), 2, [(8, 12, 16)]),
    (3, (4, 6, 8, 8), ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)),
     ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)), 2, [(8, 16, 24)]),
    (2, (4, 6, 8), 5, (1, 2, 4), (1, 3, 2), [(16, 24)]),
    (1, (4, 6, 8), 3, (1, 2, 2), 2, [(16,), (44,)]),
]  # fmt: skip


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize(("dims", "features", "kernels", "strides", "convs", "sizes"), NNUNETS)
@pytest.mark.parametrize("name", ["plain", "resenc"])
def test_nnunet(
    name: str, dims: int, features: Any, kernels: Any, strides: Any, convs: Any, sizes: Any,
    deep: bool,
) -> None:  # fmt: skip
    theirs = {"plain": "PlainConvUNet", "resenc": "ResidualEncoderUNet"}[name]
    reference = nnunet_reference(
        theirs, dims, features, kernels, strides, convs, deep_supervision=deep
    )
    changes = {} if deep else {"deep_supervision": 0}
    wanted = nnunet(name, dims, features, kernels, strides, convs, **changes)
    unused = 0 if deep else sum(2 * f + 2 for f in features[1:-1])
    assert count(reference) == lower(wanted).parameters() + unused
    assert_equal(reference, wanted, *sizes)


def test_nnunet_bottleneck_blocks() -> None:
    from dynamic_network_architectures.building_blocks.residual import (
        BottleneckD,
    )

    features, inner, blocks = (8, 12, 16), (2, 3, 4), (1, 2, 1)
    reference = nnunet_reference(
        "ResidualEncoderUNet", 2, features, 3, (1, 2, 2), blocks,
        block=BottleneckD, bottleneck_channels=inner, stem_channels=5,
    )  # fmt: skip
    widths = [([b, b, f] * n)[:-1] for f, b, n in zip(features, inner, blocks, strict=True)]
    kernels = [[1, 3, 1] * n for n in blocks]
    block = read("nnunet-resenc-2d")["architecture"]["block"]
    convs = {"convs": [3 * n for n in blocks[:2]], "conv_features": widths[:2]}
    wanted = nnunet(
        "resenc", 2, features, 3, (1, 2, 2), 1,
        block=block | {"unit": 3, "stride_on": 1},
        stem={"features": 5},
        encoder=convs | {"conv_kernels": kernels[:2]},
        bottleneck={"convs": 3, "conv_features": widths[2:], "conv_kernels": kernels[2:]},
    )  # fmt: skip
    assert_equal(reference, wanted, (16, 24))


def test_nnunet_dropout_and_order() -> None:
    reference = nnunet_reference(
        "PlainConvUNet", 2, (4, 6, 8), 3, (1, 2, 2), 2,
        dropout_op=nn.Dropout2d, dropout_op_kwargs={"p": 0.3}, nonlin_first=True,
    )  # fmt: skip
    wanted = nnunet(
        "plain", 2, (4, 6, 8), 3, (1, 2, 2), 2, order="conv-act-norm",
        dropout={"type": "channel", "rate": 0.3, "position": "after_conv"},
    )  # fmt: skip
    assert_equal(reference, wanted, (16, 16))


@pytest.mark.parametrize("name", ["plain", "resenc"])
@pytest.mark.parametrize("size", [(30, 32), (31, 31), (32, 36)])
def test_nnunet_refusals(name: str, size: tuple[int, ...]) -> None:
    theirs = {"plain": "PlainConvUNet", "resenc": "ResidualEncoderUNet"}[name]
    shape = (2, (4, 6, 8, 8), 3, (1, 2, 2, 2), 2)
    assert_both_refuse(nnunet_reference(theirs, *shape), nnunet(name, *shape), size)


# --- parameters of the published sizes ------------------------------------------------------


def nnunet_full(name: str, dims: int) -> nn.Module:
    stages, limit = (8, 512) if dims == 2 else (6, 320)
    features = tuple(min(32 * 2**i, limit) for i in range(stages))
    convs = (1, 3, 4, *[6] * (stages - 3)) if name == "ResidualEncoderUNet" else 2
    return nnunet_reference(name, dims, features, 3, (1, *[2] * (stages - 1)), convs)


FULL = {
    "monai-basicunet-2d": lambda: nets.BasicUNet(2),
    "monai-basicunet-3d": lambda: nets.BasicUNet(3),
    "monai-unet-2d": lambda: nets.UNet(
        2, 1, 2, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2
    ),
    "monai-unet-3d": lambda: nets.UNet(
        3, 1, 2, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2, norm="batch"
    ),
    "monai-attentionunet-2d": lambda: nets.AttentionUnet(
        2, 1, 2, (16, 32, 64, 128, 256), (2, 2, 2, 2, 2)
    ),
    "nnunet-plain-2d": lambda: nnunet_full("PlainConvUNet", 2),
    "nnunet-plain-3d": lambda: nnunet_full("PlainConvUNet", 3),
    "nnunet-resenc-2d": lambda: nnunet_full("ResidualEncoderUNet", 2),
    "nnunet-resenc-3d": lambda: nnunet_full("ResidualEncoderUNet", 3),
}


@pytest.mark.parametrize("name", FULL)
def test_parameters_of_the_published_size(name: str) -> None:
    with torch.device("meta"):
        reference = FULL[name]()
    assert lower(architecture(name)).parameters() == count(reference)


@pytest.mark.parametrize("name", FULL)
def test_the_published_size_runs_as_the_reference(name: str) -> None:
    """Output shapes on the meta device, at a small size, without weights."""
    from unet_nas.unet.build import build

    wanted = architecture(name)
    size = (128,) * wanted.spatial_dims if "2d" in name else (32,) * wanted.spatial_dims
    size = (256, 256) if name.startswith("nnunet") and "2d" in name else size
    size = (64, 64, 64) if name.startswith("nnunet") and "3d" in name else size
    with torch.device("meta"):
        reference, ours = FULL[name](), build(wanted)
        x = torch.empty(1, 1, *size)
        theirs, mine = reference.train()(x), ours.train()(x)

    def shapes_of(y):
        return [tuple(o.shape) for o in (y if isinstance(y, list) else [y])]

    assert shapes_of(theirs) == shapes_of(mine)
