"""The static diagnosis: published networks, random ones, and every rule against something else."""

import json
import time
from math import prod
from random import Random

import pytest

from tests.support.draw import draw_case
from unet_nas import Architecture, SizeError, preset
from unet_nas.audit.audit import audit
from unet_nas.audit.diagnosis import alignment, fusion, paths
from unet_nas.audit.diagnosis.diagnose import ANALYSES, SOURCES, diagnose
from unet_nas.audit.diagnosis.subject import Subject
from unet_nas.errors import SizeError as NoFit
from unet_nas.unet.graph import lower
from unet_nas.unet.shapes import shapes
from unet_nas.unet.skips import skips, stage_of

UNET_2015 = preset("unet-2015")


def texts(architecture, size=None, *, of=None):
    found = diagnose(architecture, size).findings
    return [str(finding) for finding in found if of in (None, finding.analysis)]


# --- what the papers say ------------------------------------------------------------------


def test_the_2015_network_on_its_own_patch():
    found = diagnose(UNET_2015, (572, 572))
    aligned = found.results["alignment"]
    assert aligned.output_size == (388, 388)
    assert aligned.border == ((92, 92), (92, 92))
    assert aligned.never_predicted == 1 - 388**2 / 572**2
    assert [(s.size, s.skip, s.up) for s in aligned.stages if s.axis == 0] == [
        (568, 568, 392),
        (280, 280, 200),
        (136, 136, 104),
        (64, 64, 56),
    ]
    reach = found.results["receptive_field"].reach[0]
    assert set(reach.by_phase) == {188, 204}
    assert len(reach.by_phase) == 16
    assert found.findings[0].text == (
        "the output is 388x388 for an input of 572x572: 92 rows and columns are lost at each "
        "side, and 54 % of the input is never predicted"
    )


def test_an_odd_size_names_its_stage_the_padding_and_what_each_alignment_gives():
    (text,) = texts(Architecture(depth=3), (180, 180), of="alignment")
    assert text == (
        "stage 2 meets 45 rows and columns, and the skip of 45 meets 44 from below; pad the input "
        "from 180 to 184, or set align=crop, which shrinks the output to 176x176, or set "
        "align=pad, which keeps the output at 180x180, or set align=resize, which keeps the "
        "output at 180x180"
    )
    assert texts(Architecture(depth=3), (184, 184), of="alignment") == []


@pytest.mark.parametrize(
    ("align", "said"),
    [("crop", "takes off 1"), ("pad", "fills in 1"), ("resize", "stretches 44 to 45")],
)
def test_what_an_alignment_does_to_an_odd_size(align, said):
    (text,) = texts(Architecture(depth=3, align=align), (184, 180), of="alignment")[-1:]
    assert text.startswith("stage 2 meets 45 columns")
    assert f"align={align} {said}" in text
    assert text.endswith("pad the input from 180 to 184")


def test_the_shortest_path_is_constant_with_skips_and_linear_without():
    found = diagnose(Architecture(), (256, 256)).results["gradient_paths"]
    assert [depth.with_skips for depth in found.depths] == [5] * 8
    assert [depth.without_skips for depth in found.depths] == list(range(8, 44, 5))


def test_a_field_smaller_than_the_patch_and_one_much_larger():
    small, large = Architecture(depth=1), Architecture(depth=6)
    assert any(
        "of the 256 rows and columns of the patch" in text for text in texts(small, (256,) * 2)
    )
    assert any("of its field lies in the padding" in text for text in texts(large, (64, 64)))
    assert not any("of the patch" in text for text in texts(small)), "nobody chose that patch"


def test_the_depth_that_is_named_reaches_as_far_as_is_said():
    reach = diagnose(Architecture(depth=2), (128, 128)).results["receptive_field"].reach[0]
    deeper = audit(Architecture(depth=reach.depth), patch_size=(128, 128))
    assert deeper.receptive_field("total")[0] == reach.depth_sizes
    assert reach.depth_sizes[0] >= 128


# --- the document's numbers ---------------------------------------------------------------


@pytest.mark.parametrize("width", [4, 10])
def test_18_c_squared_and_9_c_squared_are_the_special_case(width):
    net = Architecture(depth=1, features=(width, 2 * width), bias=False)
    costs = fusion.analyse(Subject.of(net, (32, 32))).fusions
    weights = {cost.fusion: cost.parameters for cost in costs}
    assert weights["concat"] == weights["as it is"] == 18 * width**2
    assert weights["none"] == weights["add"] == 9 * width**2
    bias = width  # of the 1x1 convolution
    assert weights["bottleneck to 1/2"] == 2 * width**2 + 9 * width**2 + bias
    assert weights["bottleneck to 1/4"] == width**2 + 9 * width**2 // 2 + bias // 2


def test_the_costs_of_other_fusions_are_those_of_the_rebuilt_network():
    net = Architecture(depth=2, width=8, block="residual", fusion=["attention_gate", "none"])
    result = fusion.analyse(Subject.of(net, (32, 32)))
    for network in result.networks:
        word = {"as it is": "attention_gate", "bottleneck to 1/2": "concat_bottleneck"}
        if network.fusion in ("bottleneck to 1/4",):
            continue
        other = word.get(network.fusion, network.fusion)
        built = net.model_copy(
            update={"fusion": Architecture(depth=2, fusion=[other, "none"]).fusion}
        )
        assert network.parameters == lower(built).parameters()
        assert network.macs == audit(built, patch_size=(32, 32)).macs


def test_even_kernels_have_no_padding_of_their_own():
    (text,) = texts(Architecture(kernel_size=4), (64, 64), of="same_padding")
    assert "would need 1.5 on each side, so 1 is added before and 2 after" in text
    assert texts(Architecture(kernel_size=5), (64, 64), of="same_padding") == []


def test_stages_add_up_to_the_audit_and_sit_where_the_document_says():
    net = Architecture(depth=4)
    stages = diagnose(net, (256, 256)).results["stage_costs"].stages
    total = audit(net, patch_size=(256, 256))
    assert sum(stage.parameters for stage in stages) == total.parameters
    assert sum(stage.macs for stage in stages) == total.macs
    assert sum(stage.activation_elements for stage in stages) == total.total.activation_elements
    activations = [stage.activation_elements for stage in stages]
    assert activations == sorted(activations, reverse=True)
    parameters = [stage.parameters for stage in stages]
    assert parameters == sorted(parameters)


# --- findings only where they apply -------------------------------------------------------

WELL_MADE = {
    "down": "anti_aliased_max_pool",
    "up": "interpolation",
    "padding": "same",
}


def test_a_network_without_these_faults_hears_nothing_of_them():
    found = diagnose(Architecture(depth=4, **WELL_MADE), (128, 128)).findings
    assert {finding.analysis for finding in found if finding.severity != "note"} == set()


@pytest.mark.parametrize(
    ("options", "analysis", "said"),
    [
        ({"down": "max_pool"}, "aliasing", "by a maximum over 2 with stride 2"),
        ({"down": "strided_block"}, "aliasing", "by convolutions of 3 with stride 2"),
        ({"down": "avg_pool"}, "aliasing", "71 % of the amplitude"),
        ({"block": "residual", "down": "strided_block"}, "aliasing", "read only 25 %"),
        ({"up": {"type": "transposed_conv", "kernel_size": 3}}, "checkerboard", "1 to 4 times"),
        ({"up": {"type": "pixel_shuffle", "icnr": False}}, "checkerboard", "different filters"),
        ({"fusion": "none"}, "gradient_paths", "take no skip"),
        ({"squeeze_excitation": {}}, "receptive_field", "global means"),
    ],
)
def test_each_warning_comes_with_its_cause(options, analysis, said):
    options = {**WELL_MADE, "align": "crop", **options}
    assert any(said in text for text in texts(Architecture(depth=2, **options), of=analysis))
    whole = Architecture(depth=2, **{**WELL_MADE, "align": "crop"})
    assert not any(said in text for text in texts(whole, of=analysis))


def test_findings_are_ordered_and_all_have_a_source():
    found = diagnose(UNET_2015, (570, 570)).findings
    ranks = [("error", "warning", "note").index(finding.severity) for finding in found]
    assert ranks == sorted(ranks)
    for severity in set(ranks):
        weights = [f.weight for f, rank in zip(found, ranks, strict=True) if rank == severity]
        assert weights == sorted(weights, reverse=True)
    assert all(SOURCES[finding.analysis] for finding in found)


def test_a_patch_that_is_no_size_is_refused():
    with pytest.raises(SizeError, match="must have 2 numbers"):
        diagnose(UNET_2015, (64,))


# --- any architecture of the schema -------------------------------------------------------

SEEDS = range(50)


def drawn(seed):
    """Returns the first architecture of a seed that the schema takes."""
    rng = Random(seed)
    return next(case for case in iter(lambda: draw_case(rng), None) if case.graph is not None)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_architecture_has_a_diagnosis_and_no_wrong_claim(seed):
    case = drawn(seed)
    found = diagnose(case.architecture, case.size)
    json.dumps(found.plain())
    for figure in found.figures():
        assert all(len(s.x) == len(s.y) for panel in figure.panels for s in panel.series)
    try:
        sizes = shapes(case.graph, case.size)
    except NoFit:
        assert found.findings[0].severity == "error"
        return
    assert all(finding.severity != "error" for finding in found.findings)
    result = found.results
    assert result["alignment"].output_size == sizes[case.graph.outputs[0]]
    assert sum(s.parameters for s in result["stage_costs"].stages) == case.graph.parameters()
    for axis, (_, above) in enumerate(result["alignment"].nearest):
        if above is not None and above != case.size[axis]:
            moved = tuple(above if i == axis else n for i, n in enumerate(case.size))
            again = alignment.analyse(Subject.of(case.architecture, moved))
            assert not any(s.odd for s in again.stages if s.axis == axis)
    for path in result["gradient_paths"].parts:
        assert path.with_skips[0] <= path.without_skips[0]


def test_stages_of_parts():
    graph = lower(Architecture(depth=3, deep_supervision=2, head="multi_scale", stem={}))
    stages = {node.name.rsplit(".", 1)[0]: stage_of(node.name, 3) for node in graph.nodes[1:]}
    assert stages["head.scales.2"] == stages["deep_heads.2"] == 2
    assert stages["stem"] == 0
    assert max(stages.values()) == 3


@pytest.mark.parametrize("kind", ["concat", "concat_bottleneck", "add", "attention_gate"])
def test_every_fusion_has_its_skip(kind):
    graph = lower(Architecture(depth=3, fusion=kind, align="crop"))
    found = skips(graph)
    assert [skip.stage for skip in found] == [0, 1, 2]
    for skip in found:
        assert graph.nodes[skip.source].name == f"encoder.stages.{skip.stage}.convs.1.act"


def test_it_answers_within_50_ms():
    taken = []
    for _ in range(10):
        start = time.process_time()
        diagnose(Architecture(depth=5), (256, 256))
        taken.append(time.process_time() - start)
    assert min(taken) < 0.05


def test_the_list_of_analyses_is_whole():
    assert len({analysis.name for analysis in ANALYSES}) == len(ANALYSES) == 8
    lengths = paths.path_lengths(lower(Architecture(depth=2)))
    assert len(lengths) == len(lower(Architecture(depth=2)).nodes)
    assert prod(n or 1 for n in lengths) > 0
