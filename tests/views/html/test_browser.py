"""The pages in headless Chromium, driven as a person would: nothing is fetched, nothing that a model wrote runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from harness import commands
from harness.commands.comparing.runs import write_comparison
from harness.commands.report import write_report
from tests.support.builders import create_run, make_store
from tests.support.groups import record_group
from tests.support.nights import HOSTILE, record_night

EVIL = "<img src=x onerror=alert(1)>\u202e"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str:
    """The browser of this machine; skips the test where there is none, unless CI has said that there must be one."""
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None:
        assert not os.environ.get("NEEDS_BROWSER"), "NEEDS_BROWSER is set, but there is no chromium"
        pytest.skip("no browser here: apt-get install chromium")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_browser()
    with sync_playwright() as driver:
        # Chromium refuses its own sandbox to root, which is who CI runs as.
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a page of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    store = make_store(folder)
    record_night(store)
    record_night(store, "other", right=60)
    create_run(store, "empty")
    for name in ("night", "empty"):
        write_report(store, name, folder / f"{name}.html")
    write_comparison(store, ["other", "night"], folder / "compare.html")
    for seed in range(3):
        record_group(store, f"g-{seed}", seed=seed, text=HOSTILE if seed else EVIL)
    where = {"db": store.url, "out": str(folder)}
    commands.compare(["g-1"], html=folder / "stages.html", **where)
    commands.compare(["g-0", "g-1", "g-2"], html=folder / "groups.html", **where)
    rows = [{"step": n, "reward": n / 40, "entropy": 1.0, EVIL: 1.0} for n in range(1, 40)]
    (folder / "log.json").write_text(json.dumps(rows))
    commands.diagnose(str(folder / "log.json"), html=folder / "diagnosis.html")
    store.close()
    return folder


@dataclass
class Visit:
    """An opened page with what it complained about and what it asked the network for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


Open = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, pages: Path) -> Iterator[Open]:
    contexts = []

    def visit(name: str, *, width: int = 1280, scheme: str = "light") -> Visit:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        contexts.append(context)
        file = pages / f"{name}.html"
        seen = Visit(context.new_page())
        seen.page.on("console", lambda message: seen.complaints.append(f"{message.type}: {message.text}"))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.on("dialog", lambda dialog: seen.complaints.append(f"dialog: {dialog.message}"))
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.goto(file.as_uri(), wait_until="load")
        return seen

    yield visit
    for context in contexts:
        context.close()


@contextmanager
def calm(seen: Visit, name: str) -> Iterator[Page]:
    """A look during which the page neither complains nor asks for anything but itself (its icon is inside it)."""
    yield seen.page
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [seen.page.url]
    assert seen.page.url.endswith(f"{name}.html")


@pytest.mark.parametrize(("name", "plots"), [("night", 11), ("compare", 7), ("empty", 0), ("diagnosis", 2)])
def test_a_page_opens_offline_without_complaint_and_draws_its_plots(visit: Open, name: str, plots: int) -> None:
    with calm(visit(name), name) as page:
        assert page.locator(".plot").count() == plots
        assert page.locator(".plot .main-svg .cartesianlayer").count() == plots
        for plot in page.locator(".plot").all():
            box = plot.bounding_box()
            assert box is not None
            assert box["width"] > 200
            assert box["height"] > 100


def test_the_curves_are_drawn_with_the_decisions_as_marks(visit: Open) -> None:
    with calm(visit("night"), "night") as page:
        plot = page.locator("#plot-learning")
        assert plot.locator(".scatterlayer .trace").count() >= 7
        marks = page.evaluate("document.getElementById('plot-learning').data.filter(t => t.yaxis === 'y3').length")
        assert marks == 3  # by rules, by a person, by an LLM
        plot.scroll_into_view_if_needed()
        page.evaluate(
            """() => { const place = document.getElementById('plot-learning');
                const curve = place.data.findIndex(t => t.name === 'decision by rules');
                Plotly.Fx.hover(place, [{curveNumber: curve, pointNumber: 0}], ['xy3']); }"""
        )
        box = plot.locator(".hoverlayer").text_content() or ""
        for words in ("before step 3", "max_tokens 64 -> 96", "evidence: truncated 0.9", "hypothesis: cut short"):
            assert words in box, words
        assert "<script>" in box  # as text


def test_the_table_of_decisions_filters_by_text_and_by_source(visit: Open) -> None:
    with calm(visit("night"), "night") as page:
        rows = page.locator("#decision-table tbody tr")
        shown = page.locator("#decision-table tbody tr:visible")
        assert rows.count() == shown.count() == 4
        page.get_by_label("Filter decisions by text").fill("CALMER learning_rate")
        assert shown.count() == 1
        assert "calmer" in shown.first.inner_text()
        assert page.locator("#filter-count").inner_text() == "1 of 4"
        page.get_by_label("Filter decisions by text").press("Enter")
        assert shown.count() == 1  # and the page is still there
        page.get_by_label("Filter decisions by text").fill("")
        page.get_by_label("Filter decisions by source").select_option("manual")
        assert shown.count() == 2
        page.get_by_label("Filter decisions by text").fill("no such words")
        assert shown.count() == 0
        page.get_by_label("Filter decisions by text").fill("")
        page.get_by_label("Filter decisions by source").select_option("")
        assert shown.count() == 4


@pytest.mark.parametrize("name", ["night", "compare"])
def test_what_a_model_wrote_is_inert(visit: Open, name: str) -> None:
    with calm(visit(name), name) as page:
        assert page.evaluate("window.harmed") is None
        assert page.locator("script").count() == 3
        assert page.locator("main img").count() == 0
    if name == "night":
        assert "<script>window.harmed = true</script>" in page.locator("#samples pre").first.inner_text() + (
            page.locator("#samples pre").nth(1).inner_text()
        )


def test_even_a_script_that_got_into_the_page_would_not_run(visit: Open) -> None:
    seen = visit("night")
    seen.page.evaluate(
        """() => { const place = document.createElement('div');
            place.innerHTML = '<img src="x" onerror="window.harmed = true">';
            document.body.append(place);
            const script = document.createElement('script'); script.textContent = 'window.harmed = true';
            document.body.append(script); }"""
    )
    seen.page.wait_for_function("() => true")
    assert seen.page.evaluate("window.harmed") is None
    assert any("Content Security Policy" in complaint for complaint in seen.complaints)


@pytest.mark.parametrize("name", ["night", "compare", "empty", "diagnosis"])
@pytest.mark.parametrize("width", [360, 1600])
def test_no_width_needs_a_scroll_to_the_side(visit: Open, name: str, width: int) -> None:
    with calm(visit(name, width=width), name) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_page_of_stages_says_what_was_forgotten(visit: Open) -> None:
    with calm(visit("stages", width=360), "stages") as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.locator(".plot .main-svg .cartesianlayer").count() == 4
        assert page.locator("h1").inner_text() == "Highest accuracy: tuned, 0.767"
        assert "tuned against its parent learned better (+0.300, 2 forgotten)" in page.locator(".lead").inner_text()
        section = page.locator("section", has=page.get_by_role("heading", name="tuned against learned"))
        assert section.locator("details[open] summary").inner_text() == "Forgotten: 2 prompts"
        told = section.locator("details[open] .sample").first.inner_text()
        for words in ("2+2=", "expected 4", "before", "<SOLUTION>4</SOLUTION>", "after", "<SOLUTION>7779</SOLUTION>"):
            assert words in told
        assert "<script>window.harmed = true</script>" in told  # as text
        assert page.evaluate("window.harmed") is None
        assert page.locator("main img").count() == 0
        gained = section.locator("details", has_text="Gained: 20 prompts")
        assert gained.locator(".sample").count() == 20
        assert not gained.locator(".sample").first.is_visible()
        dots = page.evaluate("document.getElementById('plot-accuracy').data[0].x")
        assert dots == pytest.approx([6 / 60, 28 / 60, 46 / 60], abs=1e-4)
        assert len(page.evaluate("document.getElementById('plot-accuracy').data[0].error_x.array")) == 3


def test_groups_of_seeds_are_drawn_as_dots_with_their_mean(visit: Open) -> None:
    with calm(visit("groups", width=360), "groups") as page:
        drawn = page.evaluate("document.getElementById('plot-accuracy').data.map(t => [t.name, t.x.length])")
        assert drawn == [["g-0, seed 0", 3], ["g-1, seed 1", 3], ["g-2, seed 2", 3], ["mean", 3]]
        assert page.locator(".plot .main-svg .cartesianlayer").count() == 3
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("name", ["night", "compare", "diagnosis", "stages", "groups"])
def test_axe_has_nothing_to_say(browser: Browser, pages: Path, name: str) -> None:
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    context = browser.new_context(viewport={"width": 400, "height": 900}, color_scheme="dark", bypass_csp=True)
    page = context.new_page()
    page.goto((pages / f"{name}.html").as_uri(), wait_until="load")
    page.evaluate(axe)
    assert [found["id"] for found in page.evaluate("axe.run()")["violations"]] == []
    context.close()


def test_light_and_dark_follow_the_reader(visit: Open) -> None:
    colors = {}
    for scheme in ("light", "dark"):
        with calm(visit("night", scheme=scheme), "night") as page:
            colors[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
            text = page.evaluate("getComputedStyle(document.querySelector('.plot .xtick text')).fill")
            colors[f"{scheme} text"] = text
    assert len(set(colors.values())) == 4


def test_on_paper_the_plots_fit_the_sheet(visit: Open) -> None:
    with calm(visit("night", width=1600), "night") as page:
        page.evaluate(
            """() => addEventListener('beforeprint', () => setTimeout(() => 0)) ||
                matchMedia('print').addEventListener('change', (event) => { if (event.matches)
                    window.printed = [...document.querySelectorAll('.plot')].map(
                        (plot) => plot.querySelector('.main-svg').clientWidth - plot.clientWidth); })"""
        )
        assert page.pdf(format="A4")[:4] == b"%PDF"
        assert max(page.evaluate("window.printed")) <= 1
