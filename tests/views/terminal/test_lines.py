from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from harness.store.snapshot import SnapshotReader
from harness.store.writer import RunStore
from harness.types import Action, Decision, EventRecord, Knobs
from harness.views.console import Console
from harness.views.terminal.lines import PlainLines, follow
from tests.support.builders import (
    create_run,
    make_change,
    make_decision_record,
    make_evaluation,
    make_in_force,
    make_look,
    make_run_record,
    make_snapshot,
    make_steps,
    make_store,
    record_decision,
    record_step,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = make_store(tmp_path)
    yield opened
    opened.close()


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
        "step    0  dev accuracy 0.250 [0.200, 0.300], reward 0.250",
        "step    1  reward 0.500 adjusted +0.010 no signal 20% truncated 2% KL 0.0100 0.10 s",
        "step    2  decision by rules: max_tokens 20 -> 30 | cut",
        "step    2  reward 0.500 adjusted +0.010 no signal 20% truncated 2% KL 0.0100 0.10 s",
        "step    2  dev accuracy 0.500 [0.450, 0.550], reward 0.500",
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
    changes = {"max_tokens": {"from": 20, "to": 30}}
    record_decision(store, run_id, 1, decision, changes, in_force=make_in_force(Knobs(max_tokens=30)))
    record_step(store, run_id, 1)
    store.update_run(run_id, status="finished", stop_reason="budget of 1 steps spent")
    return SnapshotReader(store, run_id)


@pytest.mark.parametrize("done", [None, Event()])
def test_an_ended_run_is_followed_to_its_end_in_plain_lines(store: RunStore, done: Event | None) -> None:
    if done is not None:
        done.set()
    out = io.StringIO()
    follow(make_finished_run(store), Console(file=out, width=40), done=done)
    assert [line.split()[2] for line in out.getvalue().splitlines()] == ["dev", "decision", "reward"]
    assert "max_tokens 20 -> 30 | [bold]cut" in out.getvalue()


def test_a_text_of_the_run_cannot_command_the_terminal(store: RunStore) -> None:
    (line,) = PlainLines().update(make_snapshot(events=(EventRecord(1, "warning", "\x1b[2Jboo", 1.0),)))
    assert "\x1b" not in line
