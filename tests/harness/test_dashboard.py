from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.dashboard import BLOCKS, PlainLines, compute_sparkline, follow, format_decision, render
from harness.snapshot import SnapshotReader
from harness.store import RunStore
from harness.text import clean
from harness.types import Action, Decision, EventRecord, Knobs, Snapshot
from tests.builders import (
    create_run,
    make_change,
    make_decision_record,
    make_evaluation,
    make_look,
    make_run_record,
    make_sample,
    make_snapshot,
    make_step,
    make_steps,
    make_store,
    record_step,
)

SIZES = [(80, 24), (120, 40), (200, 60)]


def make_busy_snapshot() -> Snapshot:
    """A run with something in every place of the frame."""
    return make_snapshot(
        make_steps(200),
        knobs=Knobs(temperature=0.8, focus=0.65),
        pins=frozenset({"temperature"}),
        decisions=(
            make_change(20, "max_tokens", 20, 30),
            make_decision_record(30, "rollback", argument=10, refused="damaged", evidence="dev fell"),
            make_decision_record(31, "continue", evidence="all is well"),
        ),
        evaluations=(make_look(0, 0.3), make_look(100, 0.8), make_look(200, 0.75)),
        samples=(make_sample(200, completion="a very long answer " * 30), make_sample(200, reward=None)),
        events=(EventRecord(1, "info", "hello", 1.0),),
    )


def show(snapshot: Snapshot, width: int = 120, height: int = 40) -> str:
    console = Console(record=True, file=io.StringIO(), width=width, height=height, force_terminal=True)
    console.print(render(snapshot, age=2.0, width=width, height=height))
    return console.export_text()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = make_store(tmp_path)
    yield opened
    opened.close()


# ---------------------------------------------------------------- a frame


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_frame_fits_the_terminal_and_says_what_matters(width: int, height: int) -> None:
    text = show(make_busy_snapshot(), width, height)
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= width
    assert len(lines) <= height
    for word in ("night", "running", "step 200 of 80", "reward", "KL to the start", "dev accuracy", "learning", "knobs",
                 "decisions", "pinned", "rollout", "3/16", "heard 2 s ago"):  # fmt: skip
        assert word in text, word
    assert "all is well" not in text, "continue is not news"


def test_a_large_frame_shows_samples_and_the_reasons_of_decisions() -> None:
    text = show(make_busy_snapshot(), 200, 60)
    for word in ("samples of the last step", "a very long answer", "max_tokens 20 -> 30", "rollback 10", "damaged",
                 "best 0.800 at step 100", "mixed 80%", "step 20"):  # fmt: skip
        assert word in text, word


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_run_that_has_not_stepped_yet_has_a_frame(width: int, height: int) -> None:
    text = show(make_snapshot(), width, height)
    assert "step 0 of 80" in text
    assert "no change yet" in text


@pytest.mark.parametrize("status", ["finished", "stopped", "failed"])
def test_an_ended_run_shows_why_and_no_sign_of_life(status: str) -> None:
    run = make_run_record(status=status, stop_reason="budget of 80 steps spent")
    text = show(make_snapshot(make_steps(3), run=run))
    assert status in text
    assert "budget of 80 steps spent" in text
    assert "heard" not in text


def test_metrics_that_are_no_numbers_are_shown_as_such() -> None:
    steps = (*make_steps(3), make_step(4, {"kl/mean": float("nan"), "entropy/mean": float("nan")}))
    assert "nan" in show(make_snapshot(steps))


def test_a_models_text_cannot_command_the_terminal_or_the_markup() -> None:
    samples = (make_sample(1, completion="\x1b[2J\x1b]0;owned\x07[bold red]x[/bold red]\r\n[/nonsense]"),)
    text = show(make_snapshot(make_steps(1), samples=samples))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[bold red]x[/bold red]" in text


# ---------------------------------------------------------------- words and marks


def test_a_sparkline_shows_the_newest_values_from_low_to_high() -> None:
    assert compute_sparkline([0.0, 0.5, 1.0], 10, 0.0, 1.0) == "▁▅█"
    assert compute_sparkline([9.0, 0.0, 1.0], 2, 0.0, 1.0) == "▁█"
    assert compute_sparkline([2.0, 3.0], 10, None, None) == "▁█"


def test_a_sparkline_of_nothing_or_of_one_level() -> None:
    assert compute_sparkline([], 10, None, None) == ""
    assert compute_sparkline([float("nan")], 10, None, None) == ""
    assert compute_sparkline([0.5, 0.5], 10, None, None) == "▁▁"


NUMBERS = st.floats(-1e6, 1e6) | st.just(float("nan"))
BOUND = st.none() | st.floats(-10, 10)


@given(st.lists(NUMBERS, max_size=50), st.integers(1, 40), BOUND, BOUND)
def test_a_sparkline_never_fails_and_never_outgrows_its_room(
    values: list[float], width: int, low: float | None, high: float | None
) -> None:
    line = compute_sparkline(values, width, low, high)
    assert len(line) <= width
    assert set(line) <= set(BLOCKS)


@given(st.text())
def test_clean_text_has_nothing_a_terminal_obeys(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) == len(text)
    assert cleaned == "" or cleaned.isprintable()


@pytest.mark.parametrize(("text", "expected"), [("a\nb", "a⏎b"), ("\x1b[2J", "�[2J"), ("naïve 🙂", "naïve 🙂")])
def test_clean_keeps_what_can_be_shown(text: str, expected: str) -> None:
    assert clean(text) == expected


def test_decisions_are_told_as_changes_or_verbs() -> None:
    assert format_decision(make_change(1, "focus", None, 0.65)) == "focus uniform -> 0.65"
    assert format_decision(make_decision_record(1, "rollback", argument=40)) == "rollback 40"
    assert format_decision(make_decision_record(1, "evaluate")) == "evaluate"


# ---------------------------------------------------------------- plain lines


def test_every_step_is_told_once() -> None:
    plain, run = PlainLines(), make_run_record(phase="")
    first = plain.update(make_snapshot(make_steps(2), run=run))
    again = plain.update(make_snapshot(make_steps(2), run=run))
    later = plain.update(make_snapshot(make_steps(4), run=run))
    assert [line.split()[1] for line in first] == ["1", "2"]
    assert again == []
    assert [line.split()[1] for line in later] == ["3", "4"]
    assert "reward 0.500 adjusted +0.010 no signal 20%" in first[0]


def test_decisions_looks_and_events_are_told_once_in_the_order_of_the_run() -> None:
    snapshot = make_snapshot(
        make_steps(2),
        run=make_run_record(phase=""),
        decisions=(
            replace(make_change(2, "max_tokens", 20, 30), at=5.0, evidence="cut"),
            make_decision_record(2, "continue", at=6.0),
        ),
        evaluations=(make_look(0, 0.25), make_look(2, 0.5)),
        events=(EventRecord(2, "warning", "slow", 7.0),),
    )
    plain = PlainLines()
    assert plain.update(snapshot) == [
        "step    0  dev accuracy 0.250 [0.200, 0.300]",
        "step    1  reward 0.500 adjusted +0.010 no signal 20% truncated 2% KL 0.0100 0.10 s",
        "step    2  decision by rules: max_tokens 20 -> 30 | cut",
        "step    2  reward 0.500 adjusted +0.010 no signal 20% truncated 2% KL 0.0100 0.10 s",
        "step    2  dev accuracy 0.500 [0.450, 0.550]",
        "step    2  warning: slow",
    ]
    assert plain.update(snapshot) == []


def test_what_happens_after_the_clock_was_set_back_is_told_too() -> None:
    plain, run = PlainLines(), make_run_record(phase="")
    before, after = EventRecord(1, "info", "before", 1000.0), EventRecord(2, "info", "after", 5.0)
    changed = replace(make_change(2, "beta"), at=4.0)
    assert len(plain.update(make_snapshot(run=run, events=(before,)))) == 1
    snapshot = make_snapshot(run=run, events=(before, after), decisions=(changed,))
    assert len(plain.update(snapshot)) == 2
    assert plain.update(snapshot) == []


def test_a_refusal_is_told_with_its_reason() -> None:
    refused = replace(make_change(1, "beta", 0.0, 9.0), refused="outside its bounds", at=1.0)
    (line,) = PlainLines().update(make_snapshot(decisions=(refused,)))
    assert "beta 0 -> 9 refused (outside its bounds)" in line


def test_a_long_phase_before_the_first_step_gives_signs_of_life() -> None:
    plain = PlainLines()
    runs = [make_run_record(phase="warm start", phase_done=done, phase_total=100) for done in range(0, 101)]
    lines = [line for run in runs for line in plain.update(make_snapshot(run=run))]
    assert len(lines) == 11
    assert "warm start 50/100" in lines[5]


# ---------------------------------------------------------------- following a run


def make_finished_run(store: RunStore) -> SnapshotReader:
    run_id = create_run(store)
    store.record_evaluation(run_id, 0, make_evaluation(0.25))
    decision = Decision(Action("set", {"max_tokens": 30}), "rules", "[bold]cut")
    store.record_decisions(
        run_id, 1, [(decision, {"max_tokens": {"from": 20, "to": 30}}, None)],
        knobs=Knobs(max_tokens=30), pins=[], policy="rules", status="running",
    )  # fmt: skip
    record_step(store, run_id, 1)
    store.update_run(run_id, status="finished", stop_reason="budget of 1 steps spent")
    return SnapshotReader(store, run_id)


@pytest.mark.parametrize("done", [None, Event()])
def test_an_ended_run_is_followed_to_its_end_in_plain_lines(store: RunStore, done: Event | None) -> None:
    if done is not None:
        done.set()
    out = io.StringIO()
    follow(make_finished_run(store), Console(file=out, width=40), plain=True, done=done)
    assert [line.split()[2] for line in out.getvalue().splitlines()] == ["dev", "decision", "reward"]
    assert "max_tokens 20 -> 30 | [bold]cut" in out.getvalue()


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_an_ended_run_is_followed_live(store: RunStore, width: int, height: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=True)
    follow(make_finished_run(store), console, plain=False)
    assert "budget of 1 steps spent" in out.getvalue()
