from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.store.history import read_back
from harness.store.snapshot import SnapshotReader
from harness.store.writer import RunStore
from harness.types import Action, Decision
from harness.views.terminal.frame import Look, render
from tests.support.builders import create_run, make_evaluation, make_store, record_decision, record_step


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = make_store(tmp_path)
    yield opened
    opened.close()


def play(store: RunStore) -> int:
    """Ten steps, dev at 0, 5 and 10, and a person who sets the temperature before step 6 and lets go before step 9."""
    run_id = create_run(store)
    for step in range(1, 11):
        if step in (1, 6):
            store.record_evaluation(run_id, step - 1, make_evaluation(0.1 * step))
        if step in (6, 9):
            action = Action("set", {"temperature": 0.5}) if step == 6 else Action("release", argument="temperature")
            changes = {"temperature": {"from": 1.0, "to": 0.5}} if step == 6 else {}
            record_decision(store, run_id, step, Decision(action, "manual"), changes)
        record_step(store, run_id, step, {"reward/mean": step / 10})
    store.record_evaluation(run_id, 10, make_evaluation(0.9))
    return run_id


@pytest.mark.parametrize(
    ("step", "looks", "decided", "pins"),
    [(1, [0], [], set()), (5, [0, 5], [], set()), (7, [0, 5], [6], {"temperature"}), (10, [0, 5, 10], [6, 9], set())],
)
def test_a_run_is_shown_as_it_was(
    store: RunStore, step: int, looks: list[int], decided: list[int], pins: set[str]
) -> None:
    now = SnapshotReader(store, play(store)).read(whole_run=True)
    then = read_back(store, now, step)
    assert (then.steps_done, then.step) == (step, step)
    assert [s.step for s in then.steps] == list(range(1, step + 1))
    assert [look.step for look in then.dev] == looks
    assert [d.step for d in then.decisions] == decided
    assert then.pins == pins
    assert {sample.step for sample in then.samples} == {step}
    assert [bucket.first for bucket in then.buckets["reward/mean"]] == list(range(1, step + 1))
    assert f"after step {step}" in render(then, age=0.0, look=Look(at=step)).plain


def test_a_step_that_a_rollback_left_is_not_played(store: RunStore) -> None:
    run_id = play(store)
    store.roll_back(run_id, 3, live=[3, 2, 1])
    now = SnapshotReader(store, run_id).read(whole_run=True)
    assert [s.step for s in read_back(store, now, 8).steps] == [1, 2, 3]
