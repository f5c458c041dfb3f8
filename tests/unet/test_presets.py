"""The presets: complete, short, and equal to what was published.

``python -m tests.unet.test_presets`` writes the table of ``docs/presets.md`` anew.
"""

from pathlib import Path

import pytest
import torch

import unet_nas
from tests.unet.reference import PRESETS, architecture, macs, read
from unet_nas.errors import InputError
from unet_nas.operators.primitives import BatchNorm
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.build import build
from unet_nas.unet.graph import Graph, lower
from unet_nas.unet.shapes import shapes

NAMES = sorted(path.stem for path in PRESETS.glob("*.yaml"))
PAGE = Path(__file__).parents[2] / "docs/presets.md"

#: the size at which each preset is counted: the paper's, or a common one
SIZES = {
    "attention-unet": (160, 160, 96),
    "milesial-bilinear": (256, 256),
    "milesial-transposed": (256, 256),
    "monai-attentionunet-2d": (256, 256),
    "monai-basicunet-2d": (256, 256),
    "monai-basicunet-3d": (96, 96, 96),
    "monai-unet-2d": (256, 256),
    "monai-unet-3d": (96, 96, 96),
    "nnunet-plain-2d": (512, 512),
    "nnunet-plain-3d": (128, 128, 128),
    "nnunet-resenc-2d": (512, 512),
    "nnunet-resenc-3d": (128, 128, 128),
    "phasenet": (3001,),
    "resunet-2018": (224, 224),
    "unet-2015": (572, 572),
    "unet3d-2016": (132, 132, 116),
}

#: parameters, each with its source; those of MONAI and nnU-Net are counted from the installed
#: packages in test_references.py
PARAMETERS = {
    # arXiv:1505.04597, figure 1, counted layer by layer
    "unet-2015": 31_030_658,
    # github.com/milesial/Pytorch-UNet at 21d7850, UNet(3, 2), bilinear off and on; outputs and
    # gradients were compared with that code too
    "milesial-transposed": 31_037_698,
    "milesial-bilinear": 17_263_042,
    # arXiv:1606.06650, section 2: 19,069,955 parameters; see the test below
    "unet3d-2016": 19_074_627,
    # github.com/ozan-oktay/Attention-Gated-Networks at eee4881
    "attention-unet": 6_214_151,
    # SeisBench's PhaseNet, in the model comparison of Münchmeyer et al. 2022 (10.1029/2021JB023499)
    "phasenet": 268_443,
}


def output_size(graph: Graph, size: tuple[int, ...]) -> tuple[int, ...]:
    return shapes(graph, size)[graph.outputs[0]]


def test_the_sixteen_are_there() -> None:
    assert sorted(SIZES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_complete(name: str) -> None:
    text = (PRESETS / f"{name}.yaml").read_text("utf-8")
    document = read(name)
    assert list(document) == ["name", "about", "reference", "architecture"]
    assert document["name"] == name
    assert text.startswith("# ")
    assert "\n" not in document["about"]
    assert 20 < len(document["about"]) < 90
    assert any(word in document["reference"] for word in ("arXiv", "MICCAI", "Nature", "STACOM"))
    assert unet_nas.preset(name) == architecture(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_says_nothing_that_holds_anyway(name: str) -> None:
    written = read(name)["architecture"]
    whole = architecture(name).digest()
    for field in written:
        others = {key: value for key, value in written.items() if key != field}
        try:
            rest = Architecture(**others)
        except InputError:
            continue
        assert rest.digest() != whole, f"{field} changes nothing"


@pytest.mark.parametrize("name", NAMES)
def test_the_module_runs_at_its_size(name: str) -> None:
    graph, size = lower(architecture(name)), SIZES[name]
    with torch.device("meta"):
        module = build(graph)
        output = module(torch.empty(2, graph.nodes[0].channels, *size))
    main = output[0] if isinstance(output, list) else output
    assert tuple(main.shape[2:]) == output_size(graph, size)
    assert sum(p.numel() for p in module.parameters()) == graph.parameters()


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert lower(architecture(name)).parameters() == PARAMETERS[name]


def test_unet_2015() -> None:
    graph = lower(architecture("unet-2015"))
    assert output_size(graph, (572, 572)) == (388, 388)  # figure 1
    assert macs(graph, (572, 572)) == 150_428_424_448
    # dropout "at the end of the contracting path" has no parameters
    dropout = {"type": "element", "rate": 0.5, "position": "stage_end"}
    encoder = {"dropout": ["none", "none", "none", dropout]}
    dropped = lower(architecture("unet-2015", encoder=encoder, bottleneck={"dropout": dropout}))
    assert dropped.parameters() == graph.parameters()
    assert [n.name for n in dropped.nodes if n.name.endswith("dropout")] == [
        "encoder.stages.3.dropout",
        "bottleneck.dropout",
    ]


def test_unet3d_2016() -> None:
    graph = lower(architecture("unet3d-2016"))
    assert output_size(graph, (132, 132, 116)) == (44, 44, 28)  # figure 2
    assert graph.parameters() == 19_074_627
    bare = lower(architecture("unet3d-2016", norm="none"))
    assert bare.parameters() == 19_069_955  # section 2


def test_resunet_2018() -> None:
    graph = lower(architecture("resunet-2018"))
    assert output_size(graph, (224, 224)) == (224, 224)  # table I
    convs = [n for n in graph.nodes if n.primitive.is_conv and "shortcut" not in n.name]
    assert len(convs) == 15  # table I
    norms = [n for n in graph.nodes if isinstance(n.primitive, BatchNorm)]
    # table II gives 7.8M, which is the sum without projections
    assert sum(n.primitive.parameters() for n in convs + norms) == 7_789_313
    assert graph.parameters() == 8_220_993


def test_phasenet_comes_back_to_its_length() -> None:
    graph = lower(architecture("phasenet"))
    sizes = {n.name: s for n, s in zip(graph.nodes, shapes(graph, (3001,)), strict=True)}
    lengths = [sizes[f"encoder.stages.{i}.convs.0.conv"] for i in range(4)]
    assert [*lengths, sizes["bottleneck.convs.0.conv"]] == [(3001,), (751,), (188,), (47,), (12,)]
    assert sizes["head.conv"] == (3001,)


# --- the page in docs ------------------------------------------------------------------------


def table() -> str:
    """Returns the table of all presets."""
    rows = [
        "| Preset | What it is | Classes | Parameters | Size | Output | MACs |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in NAMES:
        network, size = architecture(name), SIZES[name]
        graph = lower(network)
        row = [
            f"`{name}`",
            read(name)["about"],
            network.classes,
            f"{graph.parameters():,}",
            f"{network.in_channels}×" + "×".join(map(str, size)),
            "×".join(map(str, output_size(graph, size))),
            f"{macs(graph, size):,}",
        ]
        rows.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(rows)


def references() -> str:
    """Returns what each preset follows."""
    return "\n".join(f"- `{name}`: {' '.join(read(name)['reference'].split())}" for name in NAMES)


def page() -> str:
    """Returns the page: what stands before the first table stays."""
    head = PAGE.read_text("utf-8").split("\n| Preset")[0]
    return f"{head}\n{table()}\n\n## What each follows\n\n{references()}\n"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == page(), "run python -m tests.unet.test_presets"


@pytest.mark.parametrize("name", ["unet-2015", "phasenet"])
def test_macs_are_those_of_pytorch(name: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    graph, size = lower(architecture(name)), SIZES[name]
    with torch.device("meta"):
        module, x = build(graph), torch.empty(1, graph.nodes[0].channels, *size)
    with FlopCounterMode(display=False) as counter:
        module(x)
    assert counter.get_total_flops() == 2 * macs(graph, size)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
