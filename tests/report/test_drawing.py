"""The drawing of the U: that of the 2015 paper to the last box, and whatever else can be drawn."""

import re
import xml.etree.ElementTree as ET
from random import Random

import pytest

from tests.support.draw import draw_case
from unet_nas.errors import InputError, SizeError
from unet_nas.report.draw_file import default_size, write_drawing
from unet_nas.report.drawing import TALLEST, THINNEST, layout
from unet_nas.report.drawing_matplotlib import drawing_file
from unet_nas.report.drawing_svg import to_svg
from unet_nas.unet.graph import lower
from unet_nas.unet.load import load_architecture, preset, preset_names
from unet_nas.unet.shapes import shapes

#: figure 1 of Ronneberger et al. (2015), left to right and top to bottom: channels and size of
#: every box; a box of two parts (the copied one first) is written twice
FIGURE_2015 = [
    *[(1, 572), (64, 570), (64, 568)],
    *[(64, 284), (128, 282), (128, 280)],
    *[(128, 140), (256, 138), (256, 136)],
    *[(256, 68), (512, 66), (512, 64)],
    *[(512, 32), (1024, 30), (1024, 28)],
    *[(512, 56), (512, 56), (512, 54), (512, 52)],
    *[(256, 104), (256, 104), (256, 102), (256, 100)],
    *[(128, 200), (128, 200), (128, 198), (128, 196)],
    *[(64, 392), (64, 392), (64, 390), (64, 388), (2, 388)],
]
ARROWS_2015 = {"conv": 18, "conv1": 1, "down": 4, "up": 4, "skip": 4}


@pytest.fixture(scope="module")
def paper():
    return layout(lower(preset("unet-2015")), (572, 572))


def arrows(drawing):
    return [arrow for arrow in drawing.arrows if arrow.name != "legend"]


def test_the_2015_figure_box_by_box(paper):
    assert [(box.channels, *box.size) for box in paper.boxes] == [(c, n, n) for c, n in FIGURE_2015]
    assert [box.copied for box in paper.boxes].count(True) == 4


def test_the_2015_figure_arrow_by_arrow(paper):
    kinds = [arrow.kind for arrow in arrows(paper)]
    assert {kind: kinds.count(kind) for kind in kinds} == ARROWS_2015


def test_the_2015_figure_writes_channels_sizes_and_crops(paper):
    texts = [label.text for label in paper.labels]
    for text in ("572²", "28²", "388²", "1024", "512+512", "crop 568² → 392²", "crop 64² → 56²"):
        assert text in texts
    assert any("max pool 2×2" in text for text in texts)


def test_boxes_are_to_scale(paper):
    for box in paper.boxes:
        assert box.height == pytest.approx(TALLEST * box.size[0] / 572)
    wide = [box.width / box.channels for box in paper.boxes if box.width > THINNEST]
    assert max(wide) == pytest.approx(min(wide))


def test_encoder_goes_down_on_the_left_and_decoder_comes_up_on_the_right(paper):
    named = {box.name: box for box in paper.boxes}
    left, right = named["encoder.stages.0.convs.1"], named["decoder.stages.0.convs.1"]
    bottom = named["bottleneck.convs.1"]
    assert left.right < bottom.x < right.x
    assert bottom.y > left.y + left.height
    assert bottom.y > right.y + right.height


def check(drawing, nodes):
    """What holds for every drawing."""
    for box in drawing.boxes:
        assert 0 <= box.x < box.right <= drawing.width
        assert 0 <= box.y < box.y + box.height <= drawing.height
        assert box.channels >= 1
    for arrow in drawing.arrows:
        for x, y in arrow.points:
            assert -1 <= x <= drawing.width + 1
            assert -1 <= y <= drawing.height + 1
    for i, a in enumerate(drawing.boxes):
        for b in drawing.boxes[i + 1 :]:
            apart = a.right <= b.x + 1e-6 or b.right <= a.x + 1e-6
            assert apart or a.y + a.height <= b.y or b.y + b.height <= a.y, (a.name, b.name)
    assert len(drawing.boxes) <= nodes
    ET.fromstring(to_svg(drawing, "a title"))


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_can_be_drawn(name):
    graph = lower(preset(name))
    drawing = layout(graph, default_size(graph))
    check(drawing, len(graph.nodes))
    outputs = [graph.nodes[i].channels for i in graph.outputs]
    assert drawing.boxes[-1].channels in outputs


def test_random_networks_can_be_drawn():
    rng, drawn = Random(5), 0
    while drawn < 120:
        case = draw_case(rng)
        if case.graph is None:
            continue
        try:
            shapes(case.graph, case.size)
        except SizeError:
            continue
        check(layout(case.graph, case.size), len(case.graph.nodes))
        drawn += 1


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("depth", range(1, 9))
def test_every_depth_and_dimension(dims, depth):
    size = (2**depth,) * dims
    text = f"architecture:\n  depth: {depth}\n  spatial_dims: {dims}\n  width: 2\n  max_width: 16\n"
    graph = lower(load_architecture(text))
    drawing = layout(graph, size)
    check(drawing, len(graph.nodes))
    kinds = [arrow.kind for arrow in arrows(drawing)]
    assert kinds.count("down") == kinds.count("up") == kinds.count("skip") == depth


def drawn(*fields: str, size=(32, 32)):
    return layout(lower(load_architecture("architecture:\n  " + "\n  ".join(fields))), size)


def test_attention_gates_show_what_gates_them():
    drawing = drawn("depth: 2", "width: 4", "fusion: attention_gate")
    assert [mark.text for mark in drawing.marks] == ["×", "×"]
    assert [arrow.kind for arrow in arrows(drawing)].count("gate") == 2


def test_sums_residuals_and_deep_supervision():
    drawing = drawn("depth: 3", "width: 4", "fusion: add", "block: residual", "deep_supervision: 2")
    assert [mark.text for mark in drawing.marks] == ["+"] * 3
    residual = [arrow for arrow in arrows(drawing) if arrow.kind == "residual"]
    assert len(residual) == 7  # one unit per stage: 3 down, the bottleneck, 3 up
    assert sum(box.name.startswith("deep_heads") for box in drawing.boxes) == 2


def test_a_strided_block_goes_down_by_its_convolution():
    drawing = drawn("depth: 2", "width: 4", "down: strided_block")
    assert "down" not in [arrow.kind for arrow in drawing.arrows]
    steep = [a for a in arrows(drawing) if a.kind == "conv" and a.points[0][1] < a.points[-1][1]]
    assert len(steep) == 2


def test_sizes_that_differ_per_axis_stand_upright():
    drawing = drawn("depth: 1", "width: 4", "spatial_dims: 3", size=(16, 32, 16))
    assert any(label.upright and label.text == "16×32×16" for label in drawing.labels)


def test_svg_names_what_it_shows_and_escapes_it(paper):
    svg = to_svg(paper, "<script>alert(1)</script> & more")
    root = ET.fromstring(svg)
    assert root.find("{http://www.w3.org/2000/svg}title").text == "<script>alert(1)</script> & more"
    assert "<script>" not in svg
    boxes = re.findall(r'data-channels="(\d+)" data-size="(\d+)×(\d+)"', svg)
    assert [tuple(map(int, box)) for box in boxes] == [(c, n, n) for c, n in FIGURE_2015]
    assert not re.search(r"(href|src)=", svg)


def test_pdf_has_its_fonts_inside(paper):
    pdf = drawing_file(paper, "pdf")
    assert pdf.startswith(b"%PDF")
    assert b"/FontFile2" in pdf


def test_files_by_their_names(tmp_path):
    graph = lower(preset("unet-2015"))
    for kind, begin in (("svg", b"<svg"), ("pdf", b"%PDF"), ("png", b"\x89PNG")):
        path = write_drawing(graph, tmp_path / f"u.{kind}", (572, 572), force=False)
        assert path.read_bytes().startswith(begin)
    with pytest.raises(InputError, match="exists already"):
        write_drawing(graph, tmp_path / "u.svg", (572, 572), force=False)
    with pytest.raises(InputError, match=r"a drawing ends in \.svg, \.pdf, \.png, got 'u.gif'"):
        write_drawing(graph, tmp_path / "u.gif", (572, 572), force=False)
    with pytest.raises(SizeError):
        write_drawing(graph, tmp_path / "v.svg", (100, 100), force=False)
