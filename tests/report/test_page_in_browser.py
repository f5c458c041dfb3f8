"""The page in a real browser: it draws, answers clicks and keys, says no word on the console."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.studies import DICE, MACS, MEMORY, NASTY, Writer, write_many
from unet_nas.report.page import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
sync = pytest.importorskip("playwright.sync_api", reason="no playwright here")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def browser():
    with sync.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(study, tmp_path_factory) -> Path:
    return write_report(study, tmp_path_factory.mktemp("report"), paper=False)


@dataclass
class Visit:
    """A page that was opened, what it said on the console, and what it asked for."""

    page: object
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


def visit(browser, path: Path, width: int = 1280, scheme: str = "light") -> Visit:
    """Opens a page and listens to what it says and asks for."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    made = Visit(page)
    page.on("console", lambda m: made.said.append(m.text) if m.type in ("error", "warning") else 0)
    page.on("pageerror", lambda error: made.said.append(str(error)))
    page.on("request", lambda r: made.asked.append(r.url))
    page.goto(path.as_uri())
    return made


def until(page, condition: str | Callable[[], object]) -> None:
    """Waits for a condition; playwright's own waiting evaluates text, which the page forbids."""
    deadline = time.monotonic() + 60
    while not (page.evaluate(condition) if isinstance(condition, str) else condition()):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


def draw_all(page) -> None:
    """Brings every plot that is not in a closed card into view, and waits until it is drawn."""
    for canvas in page.query_selector_all(".canvas"):
        if canvas.evaluate("canvas => canvas.closest('details:not([open])') === null"):
            canvas.scroll_into_view_if_needed()
            until(page, lambda canvas=canvas: canvas.query_selector(".main-svg"))


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_all_plots_are_drawn_without_a_word_or_a_request(browser, report, width, scheme):
    made = visit(browser, report, width, scheme)
    draw_all(made.page)
    assert made.said == []
    assert [url for url in made.asked if not url.startswith("data:")] == [report.as_uri()]
    assert made.page.evaluate("document.documentElement.scrollWidth") == width
    colors = "getComputedStyle(document.body).backgroundColor"
    light = sum(map(int, made.page.evaluate(colors).strip("rgb()").split(","))) > 384
    assert light == (scheme == "light")
    ink = made.page.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill")
    assert (sum(map(int, ink.strip("rgb()").split(","))) < 384) == light
    made.page.close()


def test_a_click_on_the_front_opens_the_card(browser, report):
    page = visit(browser, report).page
    page.wait_for_selector("#pareto-panel .main-svg")
    page.locator("#pareto-panel").scroll_into_view_if_needed()
    place = page.evaluate("""() => {
        const plot = document.querySelector('#pareto-panel .canvas');
        const index = plot.data.findIndex((trace) => trace.name === 'front');
        const trace = plot.data[index], box = plot.getBoundingClientRect(), full = plot._fullLayout;
        const x = box.x + full._size.l + full.xaxis.d2p(trace.x[0]);
        const y = box.y + full._size.t + full.yaxis.d2p(trace.y[0]);
        return { x, y, key: trace.customdata[0] };
    }""")
    card = page.locator(f"#card-{place['key']}")
    assert card.get_attribute("open") is None
    page.mouse.move(place["x"], place["y"])
    page.wait_for_selector(".hoverlayer .hovertext")
    said = page.locator(".hoverlayer .hovertext").text_content()
    assert "MACs per patch" in said
    assert "fusion:" in said
    page.mouse.click(place["x"], place["y"])
    until(page, f"document.getElementById('card-{place['key']}').open")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.close()


def test_nothing_lies_under_the_mode_bar(browser, report):
    page = visit(browser, report).page
    page.wait_for_selector("#pareto-panel .main-svg")
    draw_all(page)
    panel = page.locator("#pareto-panel .canvas")
    panel.hover()
    bar = panel.locator(".modebar").bounding_box()
    for part in (".legend", ".nsewdrag"):
        other = panel.locator(part).first.bounding_box()
        assert bar["y"] + bar["height"] <= other["y"] or bar["x"] >= other["x"] + other["width"]
    assert page.locator(".canvas .modebar-btn").count() == panel.locator(".modebar-btn").count() > 0
    page.close()


def test_tabs_change_the_cost_by_mouse_and_by_key(browser, report):
    page = visit(browser, report).page
    page.wait_for_selector("#pareto-panel .main-svg")
    title = "document.querySelector('#pareto-panel .xtitle').textContent"
    page.get_by_role("tab", name="Dice against parameters").click()
    until(page, f"{title} === 'parameters'")
    page.keyboard.press("ArrowRight")
    until(page, f"{title} === 'training memory (MiB)'")
    assert (
        page.locator("[role=tab][aria-selected=true]").inner_text()
        == "Dice against training memory"
    )
    page.close()


def test_cards_open_by_key_and_every_stop_can_be_seen(browser, report):
    page = visit(browser, report).page
    summary = page.locator(".card > summary").nth(1)
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator(".card").nth(1).get_attribute("open") == ""
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.close()


def test_the_theme_can_be_switched_and_plots_follow(browser, report):
    page = visit(browser, report).page
    page.wait_for_selector("#pareto-panel .main-svg")
    paper = "document.querySelector('#pareto-panel .canvas').layout.paper_bgcolor"
    before = page.evaluate(paper)
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate(paper) != before
    page.close()


def test_paper_gets_everything_opened_and_drawn(browser, report, tmp_path):
    page = visit(browser, report).page
    page.wait_for_selector("#pareto-panel .main-svg")
    closed = "document.querySelectorAll('details:not([open])').length"
    before = page.evaluate(closed)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(closed) == 0
    assert page.evaluate("document.querySelector('main').offsetWidth") == 62 * 16
    undrawn = "[...document.querySelectorAll('.canvas')].filter((c) => !c.dataset.drawn).length"
    assert page.evaluate(undrawn) == 0
    assert page.pdf().startswith(b"%PDF")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(closed) == before > 0
    page.close()


def test_a_page_of_500_trials_and_12_cards_loads_in_two_seconds(browser, tmp_path):
    path = write_report(write_many(tmp_path / "study", 500), tmp_path / "out", paper=False)
    assert path.stat().st_size < 8e6
    page = visit(browser, path).page
    loaded_ms = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert 0 < loaded_ms < 2000
    page.wait_for_selector("#pareto-panel .main-svg")
    page.close()


@pytest.mark.parametrize("kind", ["empty", "failed", "three"])
def test_odd_studies_are_shown_without_a_word(browser, tmp_path, kind):
    writer = Writer(tmp_path / "study")
    if kind == "three":
        writer.objectives = (DICE, MACS, MEMORY)
    records = {"empty": [], "failed": [writer.failed(0)]}
    found = records.get(kind, [writer.record(n) for n in range(3)])
    folder = writer.write(found, writer.header(name=NASTY))
    made = visit(browser, write_report(folder, tmp_path / "out", paper=False))
    draw_all(made.page)
    assert made.said == []
    assert made.page.locator("h1").inner_text() == NASTY
    made.page.close()
