"""The pages as text; what a browser makes of them is in test_browser.py."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness.commands.comparing.runs import write_comparison
from harness.commands.report import write_report
from harness.core.formatting import clean
from harness.errors import InputError
from harness.store.history import load_course, load_history
from harness.store.writer import RunStore
from harness.types import Action, Decision, Knobs
from harness.views.comparison import build_comparison
from harness.views.html.page import render_comparison_page
from tests.support.builders import (
    create_run,
    make_checkpoint,
    make_evaluation,
    make_in_force,
    make_store,
    record_decision,
    record_step,
)
from tests.support.nights import HOSTILE, record_night


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = make_store(tmp_path)
    yield opened
    opened.close()


def page_of(store: RunStore, name: str, folder: Path) -> str:
    file = folder / "page.html"
    write_report(store, name, file)
    return file.read_text(encoding="utf-8")


def figures_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)
    assert found is not None
    return json.loads(found[1])  # type: ignore[no-any-return]


class Words(HTMLParser):
    """What a reader of the page sees, and the tags it is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_report_answers_at_once_and_has_every_part(store: RunStore, tmp_path: Path) -> None:
    record_night(store)
    page = page_of(store, "night", tmp_path)
    text = Words(page).text
    wanted = (
        "Better: 0.400 → 0.800",
        "at the best checkpoint by dev (step 40): +0.400, 95% interval +0.294 to +0.491, compared prompt by prompt",
        "grpo export night --checkpoint best",
        "grpo resume night --steps 80",
        "max_tokens 64 → 96",
        "2 by manual, 1 by rules, 1 by llm",
        "(1 refused); 36 times continue",
        "refused: no checkpoint 99",
        "learning_rate pinned by a user action",
        "4 of 4",
        "warm start, evaluations, checkpoints 40 s",
        "grpo run spec.json --name night-again",
        "grpo run night.toml --name 'night; rm -rf /'",
        "2 user actions belong to this run",
        "of 100.",
    )
    assert [words for words in wanted if words not in text] == []
    figures = figures_of(page)
    assert {"learning", "signal", "pool", "health-0", "health-4", "knob-0", "knob-2"} <= set(figures)
    names = [trace.get("name") for trace in figures["learning"]["data"]]
    assert {"dev accuracy", "test accuracy", "reward (adjusted)", "decision by rules", "decision by llm"} <= set(names)


def test_what_others_wrote_stays_text(store: RunStore, tmp_path: Path) -> None:
    record_night(store)
    page = page_of(store, "night", tmp_path)
    assert page.count("</script>") == page.count("<script") == 3
    assert "<img" not in page.replace(_plotly(page), "")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", page.replace(_plotly(page), ""))
    assert "{{ 7*7 }}" in page  # a text of a template stays one
    seen = Words(page)
    assert "<script>window.harmed = true</script>" in seen.text
    boxes = [text for trace in figures_of(page)["learning"]["data"] for text in trace.get("text") or ()]
    assert any("&lt;script&gt;" in box for box in boxes)
    assert not any("<script" in box or "<img" in box for box in boxes)


def _plotly(page: str) -> str:
    """The longest script: plotly itself, whose text is not ours."""
    return max(re.findall(r"<script>(.*?)</script>", page, re.S), key=len)


def test_nothing_of_the_page_is_elsewhere(store: RunStore, tmp_path: Path) -> None:
    record_night(store)
    own = page_of(store, "night", tmp_path).replace("\n", " ")
    own = own.replace(_plotly(own), "")
    assert "default-src 'none'" in own
    assert not re.findall(r"""(?:src|href)=["'](?!data:,)[^"']*["']""", own.partition("<main>")[0])
    assert "@import" not in own
    assert "url(" not in own


def test_a_run_without_steps_has_a_report(store: RunStore, tmp_path: Path) -> None:
    create_run(store, spec={})
    store.update_run(store.find_run("night").id, pid=2**22 + 1)
    page = page_of(store, "night", tmp_path)
    text = Words(page).text
    assert "Its process died: no score at the end" in text
    assert "grpo resume night" in text
    assert "No decision but to continue." in text
    assert figures_of(page) == {}


def test_a_run_that_failed_at_step_1_says_why(store: RunStore, tmp_path: Path) -> None:
    run_id = create_run(store)
    for split in ("dev", "test"):
        store.record_evaluation(run_id, 0, make_evaluation(0.25, split=split))
    record_step(store, run_id, 1, {"kl/mean": math.nan, "completion/errored_rate": 1.0})
    store.record_checkpoint(run_id, make_checkpoint(0))
    store.update_run(run_id, status="failed", stop_reason="the reward failed on 100% of the completions")
    text = Words(page_of(store, "night", tmp_path)).text
    assert "No checkpoint beat the start: 0.250" in text
    assert "The run failed: the reward failed on 100% of the completions." in text
    assert "Fix the cause" in text
    assert "the verifier failed on 100.0% of the completions" in text


def test_a_run_without_dev_or_test_has_its_curves(store: RunStore, tmp_path: Path) -> None:
    run_id = create_run(store, manifest={})
    for step in range(1, 4):
        record_step(store, run_id, step)
    store.update_run(run_id, status="stopped", stop_reason="interrupted")
    page = page_of(store, "night", tmp_path)
    assert "No score at the end" in Words(page).text
    assert "reward (adjusted)" in [trace.get("name") for trace in figures_of(page)["learning"]["data"]]


def test_a_long_run_makes_a_page_of_bounded_size(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plots from buckets, marks and knobs folded, the newest rows of the table, the groups of every few steps."""
    monkeypatch.setattr("harness.store.history.STEPS_OF_GROUPS", 100)
    monkeypatch.setattr("harness.views.html.page.ROWS", 50)
    monkeypatch.setattr("harness.views.html.plots.CHANGES", 64)
    run_id, steps = create_run(store), 550
    for step in range(1, steps + 1):
        knobs = Knobs(temperature=0.5 + step % 7 / 10)
        decision = Decision(Action("set", {"temperature": knobs.temperature}), "rules", f"evidence {step}")
        changes: dict[str, Any] = {"temperature": {"from": 1.0, "to": knobs.temperature}}
        record_decision(store, run_id, step, decision, changes, in_force=make_in_force(knobs))
        record_step(store, run_id, step, knobs=knobs)
    page = page_of(store, "night", tmp_path)
    figures = figures_of(page)
    longest = {name: max(len(trace["x"]) for trace in figure["data"]) for name, figure in figures.items()}
    assert longest["signal"] == longest["health-0"] == 275  # two steps a bucket
    assert longest["knob-0"] == 65
    (marks,) = [trace for trace in figures["learning"]["data"] if trace.get("name") == "decision by rules"]
    assert len(marks["x"]) <= 256
    assert "decisions before steps" in marks["text"][1]
    text = Words(page).text
    assert "The newest 50 of 550" in text
    assert "evidence 501" in text
    assert "evidence 500 " not in text
    assert "Read from one step in 6" in text
    course = load_course(store, run_id)
    assert (course.every, len({group.step for group in course.groups})) == (6, 92)


def test_a_page_that_cannot_be_written_is_wrong_input_and_leaves_nothing(store: RunStore, tmp_path: Path) -> None:
    record_night(store)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        write_report(store, "night", tmp_path / "folder")
    with pytest.raises(InputError, match="there is no folder"):
        write_report(store, "night", tmp_path / "gone" / "page.html")
    with pytest.raises(InputError, match="no run named nobody"):
        write_report(store, "nobody", tmp_path / "page.html")
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith("harness.db")} == {"folder"}


# ---------------------------------------------------------------- several runs


def test_a_comparison_tells_what_differs(store: RunStore, tmp_path: Path) -> None:
    record_night(store, "first", right=60)
    record_night(store, "second", right=80)
    other = store.find_run("second")
    names = ("first", "second")
    histories = [load_history(store, name, whole_run=False) for name in names]
    specs = [store.load_run(history.run.id).spec for history in histories]
    specs[1]["knobs"]["temperature"] = 0.7
    comparison = build_comparison(histories, specs)
    assert comparison["spec"] == [{"field": "knobs.temperature", "values": {"first": 1.0, "second": 0.7}}]
    assert (comparison["knobs"], comparison["decisions"]) == ([], [])
    (difference,) = comparison["differences"]
    assert difference["best"] == difference["final"]
    assert difference["best"]["difference"] == pytest.approx(0.2)
    assert difference["best"]["paired"]
    assert difference["best"]["verdict"] == "better"
    json.dumps(comparison, allow_nan=False)
    in_force = make_in_force(Knobs(beta=0.1), status="finished")
    record_decision(store, other.id, 41, Decision(Action("pause"), "manual", HOSTILE), in_force=in_force)
    histories[1] = load_history(store, "second", whole_run=False)
    comparison = build_comparison(histories, specs)
    assert [row["field"] for row in comparison["knobs"]] == ["max_tokens", "learning_rate", "beta", "focus"]
    assert comparison["decisions"] == [
        {
            "step": 41,
            "runs": {"first": [], "second": [{"source": "manual", "action": "pause", "evidence": clean(HOSTILE)}]},
        }
    ]
    page = render_comparison_page(comparison, histories)
    seen = Words(page)
    assert "second: better (+0.200)" in seen.text
    assert page.count("</script>") == 3
    record_night(store, "seeded", seed=8)
    write_comparison(store, [*names, "seeded"], tmp_path / "compare.html")
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    figures = figures_of(page)
    assert set(figures) >= {"dev", "curve-0"}
    drawn = [(one["name"], one["x"]) for one in figures["seeds-0"]["data"]]
    assert drawn == [("first, seed 7", [0.4, 0.6, 0.6]), ("seeded, seed 8", [0.4, 0.8, 0.8]), ("mean", [0.4, 0.7, 0.7])]
    assert "2 seeds: start 0.400 ± 0.000 (0.40 to 0.40), best 0.700 ± 0.141 (0.60 to 0.80)" in Words(page).text
