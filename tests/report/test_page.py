"""The page: every number is the record's, every name appears as written, every study renders."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tests.support.studies import DICE, MACS, MEMORY, NASTY, Writer, write_many, write_study
from unet_nas.errors import InputError
from unet_nas.records import RunHeader, read_run
from unet_nas.report import figures
from unet_nas.report.diagnosis_section import principles_of
from unet_nas.report.examples import CLASS_COLORS, examples_of, signal_picture
from unet_nas.report.findings import Findings
from unet_nas.report.page import page_html, write_report


class Reader(HTMLParser):
    """Collects text, the values of <data>, scripts, and addresses."""

    VOID = ("meta", "link", "br", "img", "i")

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.values: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        given = dict(attributes)
        self._inside = tag
        if tag == "data":
            self.values.append((given["value"], given.get("title", "")))
        if "id" in given:
            self.ids.append(given["id"])
        self.addresses += [given[name] for name in ("href", "src") if given.get(name)]

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


def page_of(folder) -> str:
    return page_html(Findings.of([read_run(folder)]))


@pytest.fixture(scope="module")
def html(study) -> str:
    return page_of(study)


@pytest.fixture(scope="module")
def page(html) -> Reader:
    return read(html)


def data_of(page: Reader) -> dict:
    return json.loads(next(text for text in page.scripts if text.startswith('{"plots"')))


def test_one_file_that_asks_no_other_host(html, page):
    assert [a for a in page.addresses if not a.startswith(("#", "data:"))] == []
    assert "default-src 'none'" in html
    assert len(html.encode()) < 8e6
    assert page.tags.count("script") == 3
    assert len(page.ids) == len(set(page.ids))


def test_every_number_is_one_of_a_record(findings, page):
    run = findings.runs[0]
    records = [*run.trials, *run.baselines, *run.finalists]
    known = {f"{findings.hypervolume}"}
    for record in records:
        values = [*record.costs.values(), *record.metrics.values(), *record.objectives.values()]
        known |= {str(int(v)) if float(v).is_integer() else repr(v) for v in values}
    known |= {str(int(limit)) for limit in run.header.budget.values()}
    reasons = run.header.space["reasons"]
    known |= {str(reason[key]) for reason in reasons for key in ("rejected", "alone")}
    known |= {str(sum(r.rejected.get("budget: parameters", 0) for r in run.trials))}
    assert {value for value, _ in page.values} <= known


def test_the_answer_shows_every_cost_of_the_recommended(findings, page):
    values = {value for value, _ in page.values}
    for one in findings.recommendations:
        assert one.entry.export_command in page.text
        for cost in one.entry.record.costs.values():
            assert (str(int(cost)) if float(cost).is_integer() else repr(cost)) in values


def test_every_front_network_and_baseline_has_a_card(findings, page):
    for entry in (*findings.carded, *findings.baselines):
        assert f"card-{entry.key}" in page.ids
    assert page.tags.count("svg") == len(findings.carded) + len(findings.baselines)
    assert page.tags.count("img") == 9 * (len(findings.carded) + len(findings.baselines))


def test_every_card_tells_what_the_principles_say(findings, page):
    text = " ".join(page.text)
    entries = (*findings.carded, *findings.baselines)
    known = [entry for entry in entries if entry.record.architecture is not None]
    assert known
    assert text.count("What the principles of U-Nets say") == len(known)
    for entry in known:
        (first, *_) = principles_of(entry.record.architecture, entry.run.header.patch_size)
        assert first.text in text
        assert first.source in text


def test_every_plot_of_the_page_has_its_data(html, page):
    drawn = set(re.findall(r'data-(?:plot|shows)="([^"]+)"', html))
    assert drawn == set(data_of(page)["plots"])
    assert {"pareto-dice-macs", "hypervolume-trials", "hypervolume-seconds", "effects"} <= drawn


def test_failed_trials_are_told_with_their_reasons(page):
    text = " ".join(page.text)
    assert "the training step needed 9 GiB; the device has 8 GiB" in text
    assert "the loss was not a number at step 12" in text
    assert "pruned: stopped early" in text
    for word in ("2026-01-02T03:04:05+00:00", "torch 2.13.0", "type: tpe", "Labels are derived"):
        assert word in text


def test_names_appear_as_written(tmp_path):
    writer = Writer(tmp_path, class_names=("background", NASTY, "Ω_é"))
    records = [writer.record(n) for n in range(9)]
    parameters = {"architecture.down": NASTY}
    records = [replace(r, parameters=parameters | {"x": n % 2}) for n, r in enumerate(records)]
    failed = writer.failed(9, "failed", NASTY)
    baseline = replace(writer.baseline("preset:unet-2015", "width=8", "padding=same"), name=NASTY)
    header = writer.header(name=NASTY, file=f"name: {NASTY}", notes=(NASTY,), command=NASTY,
                           importances={"dice": {NASTY: 1.0}}, data={NASTY: NASTY},
                           conventions={NASTY: NASTY}, versions={NASTY: "1"})  # fmt: skip
    html = page_of(writer.write([*records, failed, baseline], header))
    page = read(html)
    assert "<script>alert" not in html
    assert page.tags.count("script") == 3
    for text in (NASTY, f"name: {NASTY}", "Ω_é"):
        assert text in page.text
    data = data_of(page)
    assert "&lt;script&gt;" in "".join(data["said"].values())
    words = data["plots"]["importances-0"]["layout"]["yaxis"]["categoryarray"]
    assert words == [NASTY.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")]
    assert "<script" not in json.dumps(data)


def test_an_empty_study_renders(tmp_path):
    (tmp_path / "run.json").write_text(RunHeader("empty", state="running").to_json())
    page = read(page_of(tmp_path))
    text = " ".join(page.text)
    assert "No network came to its end within the budget" in text
    assert "the search is running" in text
    assert "0 trials" in text


def test_one_trial_renders(tmp_path):
    writer = Writer(tmp_path)
    page = read(page_of(writer.write([writer.record(0)])))
    assert "card-t0-0" in page.ids
    assert "Two different networks within the budget are needed" in " ".join(page.text)
    assert "best Dice · knee point · cheapest within 1 %" in page.text


def test_only_failed_trials_render(tmp_path):
    writer = Writer(tmp_path)
    folder = writer.write([writer.failed(n) for n in range(3)], examples=())
    page = read(page_of(folder))
    assert "There is nothing to plot yet." in page.text
    assert "failed: out of memory" in page.text
    assert "card-t0-0" not in page.ids


def test_five_thousand_trials_stay_light(tmp_path):
    folder = write_many(tmp_path, 5_000)
    html = page_of(folder)
    page = read(html)
    assert len(html.encode()) < 8e6
    assert sum(name.startswith("card-") for name in page.ids) <= 12
    assert "5,000 trials" in " ".join(" ".join(page.text).split())
    points = max(len(t["x"]) for p in data_of(page)["plots"].values() for t in p["data"])
    assert points <= 1_500


@pytest.mark.parametrize("objectives", [(), (MACS,), (MACS, MEMORY)])
def test_a_search_for_costs_alone_or_for_nothing_renders(tmp_path, objectives):
    writer = Writer(tmp_path, objectives=objectives)
    page = read(page_of(writer.write([writer.record(n) for n in range(9)])))
    cards = [name for name in page.ids if name.startswith("card-")]
    assert bool(cards) == bool(objectives)
    assert ("fewest MACs per patch" in " ".join(page.text)) == bool(objectives)


def test_three_objectives_have_pairwise_panels(tmp_path):
    folder = write_study(tmp_path, 12, objectives=(DICE, MACS, MEMORY))
    html = page_of(folder)
    panels = html[html.index('class="grid three">') : html.index('role="tablist"')]
    names = re.findall(r'data-plot="([^"]+)"', panels)
    assert names == [
        "pareto-dice-macs",
        "pareto-dice-training_memory",
        "pareto-training_memory-macs",
    ]


def test_several_studies_share_a_page(tmp_path, study):
    other = write_study(tmp_path / "random", 12, seed=5)
    header = read_run(other).header
    random = replace(header, name="rivals", sampler={"type": "random"})
    (other / "run.json").write_text(random.to_json())
    page = read(page_html(Findings.of([read_run(study), read_run(other)])))
    curves = data_of(page)["plots"]["hypervolume-trials"]["data"]
    assert [curve["name"] for curve in curves] == ["tpe", "random"]
    text = " ".join(" ".join(page.text).split())
    assert "36 trials in 2 runs" in text
    assert "demo, rivals" in text


def test_a_network_of_others_has_no_drawing_and_says_so(tmp_path):
    writer = Writer(tmp_path)
    name = "python:mine:net"
    foreign = replace(writer.record(1), kind="baseline", name=name, network=name, number=None)
    foreign = replace(foreign, architecture=None)
    page = read(page_of(writer.write([writer.record(0), foreign])))
    assert "python:mine:net is code of its own; only what was measured is known of it." in page.text
    assert page.tags.count("svg") == 1


def test_damaged_examples_are_left_out(tmp_path):
    writer = Writer(tmp_path)
    folder = writer.write([writer.record(0)], examples=("#0",))
    (folder / "trials/0000/examples.npz").write_bytes(b"PK\x03\x04 not whole")
    assert read(page_of(folder)).tags.count("img") == 0


def test_signals_are_drawn_as_lines_over_their_classes():
    signal = np.sin(np.linspace(0, 9, 500))[None]
    picture = signal_picture(signal, [signal[0] > 0.5])
    assert picture.startswith("data:image/svg+xml;base64,")


def test_every_channel_and_every_label_of_a_signal_has_its_place():
    signal = np.random.default_rng(0).normal(size=(3, 200))
    layers = [signal[0] > 0, signal[0] > 0]
    svg = base64.b64decode(signal_picture(signal, layers).partition(",")[2]).decode()
    assert svg.count("<polyline") == 3
    places = {label: set(re.findall(rf'y="(\d+)" fill="{label}"', svg)) for label in CLASS_COLORS}
    first, second = (places[label] for label in CLASS_COLORS[:2])
    assert len(first) == len(second) == 1
    assert first != second  # labels that overlap do not hide each other


def test_pictures_of_a_volume_keep_its_proportions(tmp_path):
    writer = Writer(tmp_path)
    folder = writer.write([writer.record(0)], examples=("#0",))
    mask = np.ones((20, 100), np.uint8)
    arrays = {"image_0": np.zeros((1, 20, 100), np.float32), "truth_0": mask, "prediction_0": mask}
    arrays["spacing_0"] = np.asarray([5.0, 1.0], np.float32)
    np.savez_compressed(folder / "trials/0000/examples.npz", **arrays)
    run = read_run(folder)
    example = examples_of(run.trials[0], run)[0]
    picture = Image.open(io.BytesIO(base64.b64decode(example.truth.partition(",")[2])))
    assert picture.size == (100, 100)


def test_write_report_writes_page_and_tables(tmp_path, study):
    told: list[str] = []
    path = write_report(study, tmp_path / "out", paper=False, progress=told.append)
    assert path == tmp_path / "out" / "index.html"
    assert told == ["reading the records", "writing the page of 24 trials"]
    assert write_report([study], tmp_path / "out", paper=False) == path  # a second time as well


def test_one_trial_and_an_error_bar_end_where_they_should(tmp_path):
    writer = Writer(tmp_path / "run")
    trial = writer.record(0)
    longer = [
        replace(trial, kind="finalist", seed=seed, number=None, test={"dice": value})
        for seed, value in enumerate((0.0, 0.4))
    ]
    folder = writer.write([trial, *longer], examples=())
    told: list[str] = []
    write_report(folder, tmp_path / "out", paper=False, progress=told.append)
    assert told[-1] == "writing the page of 1 trial"
    plot = figures.pareto_plots(Findings.of([read_run(folder)]))[0]
    assert list(plot.series[-1].low) == [0.0]  # mean 0.2, SD 0.28


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is not the folder of a run: it has no run\.json"):
        write_report(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_signals_with_overlapping_labels_render(tmp_path):
    writer = Writer(tmp_path, class_names=("P", "S"))
    tree = {"spatial_dims": 1, "depth": 2, "width": 4, "classes": 2}
    train = {"patch_size": 256, "batch_size": 4}
    record = replace(writer.record(0), architecture=tree, train=train)
    header = writer.header(spatial_dims=1, patch_size=(256,), data={"multi_label": True})
    folder = writer.write([record], header, examples=("#0",))
    signal = np.sin(np.linspace(0, 20, 256))
    labels = np.stack([signal > 0.5, signal > 0.9]).astype(np.uint8)
    arrays = {"image_0": signal[None].astype(np.float32), "truth_0": labels, "prediction_0": labels}
    np.savez_compressed(folder / "trials/0000/examples.npz", **arrays)
    html = page_of(folder)
    page = read(html)
    assert [a[:26] for a in page.addresses if "svg" in a] == ["data:image/svg+xml;base64,"] * 3
    assert "256" in html[html.index("<svg") :]
    assert {"P", "S"} <= set(page.text)  # both have a colour: neither is the background


def test_baselines_stand_beside_the_recommended_networks_with_their_longer_trainings(tmp_path):
    writer = Writer(tmp_path)
    trial = writer.record(0)
    baseline = replace(writer.record(1), kind="baseline", name="preset:unet-2015", number=None)
    longer = [
        replace(
            one,
            kind="finalist",
            seed=seed,
            number=None,
            test={"dice": value},
            weights="w.safetensors",
        )
        for one, values in ((trial, (0.8, 0.82)), (baseline, (0.7, 0.7)))
        for seed, value in enumerate(values)
    ]
    html = page_of(writer.write([trial, baseline, *longer], examples=()))
    table = html[html.index("Recommended networks and baselines") :].split("</table>")[0]
    assert "Dice, validation" in table
    assert "After longer training, test" in table
    assert "export '" + str(tmp_path) + "#0/seed-0' --to" in " ".join(read(html).text)
    assert "With the longer-trained weights" in html
    assert table.index("0.8100 ± 0.0141 (n = 2)") < table.index("0.7000 ± 0.0000 (n = 2)")


def test_a_single_objective_has_no_front_of_its_own(tmp_path):
    writer = Writer(tmp_path, objectives=(DICE,))
    text = " ".join(
        " ".join(read(page_of(writer.write([writer.record(n) for n in range(9)]))).text).split()
    )
    assert "best of 9 by Dice" in text
    assert "on the Pareto front" not in text
    assert "Accuracy against MACs" in text


@pytest.mark.parametrize(("fusion", "said"), [("concat", True), ("add", False)])
def test_unfilled_boxes_are_explained_only_where_there_are_any(fusion, said, tmp_path):
    writer = Writer(tmp_path)
    record = writer.record(0)
    record = replace(record, architecture=record.architecture | {"fusion": fusion})
    html = page_of(writer.write([record]))
    assert "Feature maps with channels above" in html
    assert ("Unfilled: brought by a skip connection" in html) == said
