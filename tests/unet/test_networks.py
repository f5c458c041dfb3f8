"""Networks beyond the presets, from public implementations, as YAML in ``networks/``.

Where the implementation is installed, weights are copied across and outputs and gradients
compared. Where it is not, the parameters are those counted from its code at the commit that
the file names.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.networks import nets
from torch import nn

import unet_nas
from tests.unet.reference import NETWORKS, architecture, assert_equal, count
from unet_nas.unet.graph import lower
from unet_nas.unet.shapes import shapes

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

NAMES = sorted(path.stem for path in NETWORKS.glob("*.yaml"))

#: parameters, an input size and its output size. "Compared": outputs and gradients of the code
#: itself, with its weights copied across, were found equal when the case was written.
MEASURED = {
    "brain-segmentation": (7_763_041, (32, 48), (32, 48)),  # compared
    "csbdeep-unet": (332_641, (32, 36), (32, 36)),
    "deep-image-prior": (1_037_375, (64, 96), (64, 96)),  # compared
    "ecg-unet-1d": (663_024, (64,), (64,)),  # compared
    "elektronn3-attention": (2_230_277, (32, 48), (32, 48)),  # compared
    "elektronn3-unet": (4_958_338, (8, 17, 19), (8, 17, 19)),  # compared
    "fastmri-unet": (7_756_097, (33, 47), (33, 47)),  # compared, at even sizes
    "fepegar-unet3d": (19_071_362, (16, 16, 24), (16, 16, 24)),  # compared
    "funlib-unet": (103_598_040, (4, 16, 24), (4, 16, 24)),  # compared
    "jvanvugt-unet": (28_953_474, (32, 49), (32, 48)),  # compared
    "keras-unet-custom": (1_986_821, (32, 32), (32, 32)),
    "leejunhyun-attunet": (34_878_573, (32, 48), (32, 48)),  # compared
    "leejunhyun-unet": (34_527_041, (32, 48), (32, 48)),  # compared
    "nnunet-v1": (31_194_784, (64, 32, 32), (64, 32, 32)),  # compared
    "noise2noise-unet": (991_203, (64, 64), (64, 64)),
    "pix2pix-generator": (54_413_955, (256, 256), (256, 256)),  # compared
    "pytorch3dunet-residual": (113_735_298, (32, 17, 32), (32, 17, 32)),  # compared
    "pytorch3dunet-unet3d": (16_318_756, (16, 17, 24), (16, 17, 24)),  # compared
    "rishikksh20-resunet": (13_043_009, (32, 48), (32, 48)),  # compared
    "u-time": (2_366_475, (105_000,), (103_680,)),
    "wave-u-net": (2_673_640, (13_309,), (1_029,)),  # compared
    "zhixuhao-unet": (31_031_685, (256, 256), (256, 256)),
}

#: counted from the installed package
INSTALLED: dict[str, Callable[[], nn.Module]] = {
    "monai-dynunet": lambda: dynunet(res_block=False),
    "monai-dynunet-residual": lambda: dynunet(res_block=True),
    "monai-segresnet": nets.SegResNet,
    "monai-vnet": nets.VNet,
}


def dynunet(**more: Any) -> nn.Module:
    return nets.DynUNet(3, 1, 2, [3] * 5, [1, 2, 2, 2, 2], [2, 2, 2, 2], **more)


def test_every_network_is_compared() -> None:
    assert sorted([*MEASURED, *INSTALLED]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_file_loads(name: str) -> None:
    path = NETWORKS / f"{name}.yaml"
    assert unet_nas.load_architecture(path) == architecture(name, NETWORKS)
    assert path.read_text("utf-8").startswith("# ")


@pytest.mark.parametrize("name", MEASURED)
def test_measured_networks(name: str) -> None:
    parameters, size, output = MEASURED[name]
    graph = lower(architecture(name, NETWORKS))
    assert graph.parameters() == parameters
    assert shapes(graph, size)[graph.outputs[0]] == output
    with torch.device("meta"):
        module = unet_nas.build(graph)
        result = module(torch.empty(2, graph.nodes[0].channels, *size))
    main = result[0] if isinstance(result, list) else result
    assert tuple(main.shape[2:]) == output


@pytest.mark.parametrize("name", INSTALLED)
def test_installed_networks_have_as_many_parameters(name: str) -> None:
    with torch.device("meta"):
        reference = INSTALLED[name]()
    assert lower(architecture(name, NETWORKS)).parameters() == count(reference)


def test_monai_segresnet() -> None:
    assert_equal(nets.SegResNet(), architecture("monai-segresnet", NETWORKS), (8, 16, 8), batch=1)


@pytest.mark.parametrize("residual", [False, True])
def test_monai_dynunet(residual: bool) -> None:
    filters = (4, 6, 8, 8, 10)
    reference = dynunet(res_block=residual, filters=filters)
    name = "monai-dynunet-residual" if residual else "monai-dynunet"
    fields = architecture(name, NETWORKS).model_dump(exclude_unset=True)
    del fields["width"], fields["max_width"]
    wanted = unet_nas.Architecture(**(fields | {"features": list(filters)}))
    assert_equal(reference, wanted, (32, 32, 32), batch=1, early=r"(norm3|conv3)")


def test_monai_vnet() -> None:
    reference = nets.VNet(spatial_dims=2)
    for module in reference.modules():
        if isinstance(module, nn.Dropout3d | nn.Dropout2d | nn.Dropout):
            module.p = 0.0  # MONAI drops skips too, which this network does not
    assert_equal(reference, architecture("monai-vnet", NETWORKS, spatial_dims=2), (32, 48))


# --- other arguments of the same implementations ----------------------------------------------


def test_monai_unet_without_residual_units_is_plain() -> None:
    """The skip joins after the block, so only the blocks differ from the residual preset."""
    plain = architecture(
        "monai-unet-3d",
        encoder={"convs": [0, 1, 1, 1, 1]},
        bottleneck={"convs": 1},
        decoder={"convs": 0, "features": [2, 16, 32, 64, 128]},
        up=[
            {"type": "transposed_conv", "kernel_size": 3, "padding": 1, "output_padding": 1}
            | ({} if i == 0 else {"norm": "inherit", "activation": "inherit"})
            for i in range(4)
        ]
        + ["none"],
    )
    reference = nets.UNet(3, 1, 2, (16, 32, 64, 128, 256), (2, 2, 2, 2), norm="batch")
    assert lower(plain).parameters() == count(reference)
    assert_equal(reference, plain, (16, 16, 32), batch=1)


def test_a_comparison_can_fail() -> None:
    """The order of channels in a concatenation changes no count, only the numbers."""
    reference = dynunet(filters=(4, 4, 4, 4, 4))
    fields = architecture("monai-dynunet", NETWORKS).model_dump(exclude_unset=True)
    del fields["width"], fields["max_width"]
    fields |= {"features": [4] * 5, "fusion": {"type": "concat", "first": "skip"}}
    with pytest.raises(AssertionError, match="not close"):
        assert_equal(reference, unet_nas.Architecture(**fields), (32, 16, 16), batch=1)
