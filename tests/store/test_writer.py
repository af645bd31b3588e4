"""The contract of a store, on a real SQLite file."""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlmodel import SQLModel

from harness.core.liveness import SILENT_S, age_of, identify, is_alive, is_alive_run
from harness.core.paths import database_url
from harness.errors import InputError
from harness.store.history import load_history, read_back
from harness.store.migrations import MIGRATIONS
from harness.store.opening import check_place, find_store, open_store
from harness.store.reader import find_reader
from harness.store.snapshot import (
    DECISIONS_SHOWN,
    EVALUATIONS_SHOWN,
    EVENTS_SHOWN,
    LOOKS_PAIRED,
    STEPS_SHOWN,
    SnapshotReader,
)
from harness.store.writer import RunStore
from harness.types import Action, Asked, CheckedDecision, Decision, Example, Knobs, Verdict
from harness.views.review import build_review
from tests.support.bench import build
from tests.support.builders import (
    HEALTHY,
    create_run,
    make_checkpoint,
    make_completion,
    make_evaluation,
    make_group,
    make_in_force,
    make_pair,
    make_prompt,
    make_sample,
    make_store,
    record_step,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = make_store(tmp_path / "runs")
    yield opened
    opened.close()


@pytest.fixture
def run_id(store: RunStore) -> int:
    return create_run(store)


def record_decision(store: RunStore, run_id: int, step: int, decision: Decision, refused: str | None = None) -> None:
    changes = {name: {"from": None, "to": value} for name, value in decision.action.changes.items()}
    store.record_decisions(run_id, step, [CheckedDecision(decision, changes, refused)], make_in_force())


# ---------------------------------------------------------------- runs


def test_a_new_run_is_running_and_found_by_name(store: RunStore, run_id: int) -> None:
    run = store.find_run("night")
    assert (run.id, run.name, run.status, run.seed, run.policy) == (run_id, "night", "running", 7, "rules")
    assert (run.budget_steps, run.budget_hours, run.pid) == (80, None, os.getpid())


def test_a_taken_name_is_wrong_input_and_leaves_the_first_run(store: RunStore, run_id: int) -> None:
    with pytest.raises(InputError, match="a run named night exists already"):
        create_run(store, seed=8)
    assert [(run.id, run.seed) for run in store.list_runs()] == [(run_id, 7)]


def test_latest_is_the_newest_run(store: RunStore, run_id: int) -> None:
    second = create_run(store, "second")
    assert store.find_run("latest").id == second
    assert [run.id for run in store.list_runs()] == [run_id, second]


@pytest.mark.parametrize(("name", "message"), [("nobody", "no run named nobody"), ("latest", "no run yet")])
def test_an_unknown_run_is_wrong_input(store: RunStore, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        store.find_run(name)


def test_spec_and_manifest_come_back_as_they_were(store: RunStore) -> None:
    spec, manifest = {"knobs": {"focus": None}, "budget": {"hours": 0.5}}, {"gpu": "none", "threads": 2}
    run_id = create_run(store, "other", spec=spec, manifest=manifest)
    row = store.load_run(run_id)
    assert (row.spec, row.manifest) == (spec, manifest)
    assert store.find_run("other").budget_hours == 0.5


def test_a_beat_shows_in_the_record(store: RunStore, run_id: int) -> None:
    store.beat(run_id, "rollout", 3, 16, 12.5)
    run = store.find_run("night")
    assert (run.phase, run.phase_done, run.phase_total, run.wall_s) == ("rollout", 3, 16, 12.5)


def test_an_adopted_run_is_running_again(store: RunStore, run_id: int) -> None:
    store.update_run(run_id, status="stopped", stop_reason="interrupted", pid=1)
    store.adopt_run(run_id)
    run = store.find_run("night")
    assert (run.status, run.stop_reason, run.pid) == ("running", "", os.getpid())


# ---------------------------------------------------------------- decisions and commands


@pytest.mark.parametrize(
    "decision",
    [
        Decision(Action("continue"), "rules", "all is well"),
        Decision(Action("set", {"temperature": 0.1 + 0.2, "max_tokens": 30}), "rules", "seen", "guess", "hope"),
        Decision(Action("focus", {"focus": None}), "manual"),
        Decision(Action("focus", argument="easier"), "rules"),
        Decision(Action("rollback", argument=40), "llm"),
        Decision(Action("rollback", argument="best"), "agent"),
        Decision(Action("save", argument="4"), "experiment", "naïve 🙂"),
        Decision(Action("sample"), "llm", rejected="stop: too soon", tokens_in=0, tokens_out=0),
        Decision(Action("sample"), "rules", tokens_in=900, tokens_out=80, cost_usd=0.1 + 0.2),
        Decision(Action("sample"), "rules", tokens_in=0, tokens_out=0, llm_failure="no answer: HTTP 401"),
    ],
)
def test_a_logged_decision_comes_back_as_it_was_taken(store: RunStore, run_id: int, decision: Decision) -> None:
    record_decision(store, run_id, 5, decision)
    assert store.load_decisions_at(run_id, 5) == [decision]
    assert store.load_decisions_at(run_id, 6) == []


def test_what_asking_an_llm_took_is_summed_up_over_the_run(store: RunStore, run_id: int) -> None:
    reader = SnapshotReader(store, run_id)
    assert reader.read().asked == Asked()
    go_on = Decision(Action("continue"), "llm", tokens_in=900, tokens_out=80, cost_usd=0.002)
    record_decision(store, run_id, 20, go_on)
    record_decision(store, run_id, 21, Decision(Action("continue"), "rules"))
    record_decision(store, run_id, 40, Decision(Action("continue"), "rules", tokens_in=0, tokens_out=0))
    assert reader.read().asked == Asked(times=2, last=40, tokens_in=900, tokens_out=80, usd=0.002)


def test_turns_of_an_llm_that_failed_are_counted_and_those_in_a_row(store: RunStore, run_id: int) -> None:
    reader, go_on = SnapshotReader(store, run_id), Decision(Action("continue"), "rules", tokens_in=0, tokens_out=0)
    failures = ("no answer: HTTP 401", "", "not usable: 0 calls", "no answer: cut", "no answer: HTTP 529")
    for step, failure in enumerate(failures, 2):
        record_decision(store, run_id, step, replace(go_on, llm_failure=failure))
        record_decision(store, run_id, step, Decision(Action("sample"), "manual"))
    assert reader.read().asked == Asked(
        times=5, last=6, failed=4, unusable=1, failed_in_a_row=3, failing_since=4, last_failure="no answer: HTTP 529"
    )
    assert load_history(store, "night").asked == reader.read().asked
    earlier = read_back(store, reader.read(), 2).asked
    assert (earlier.times, earlier.failed_in_a_row, earlier.last_failure) == (1, 1, "no answer: HTTP 401")
    record_decision(store, run_id, 7, go_on)
    asked = reader.read().asked
    assert (asked.failed, asked.failed_in_a_row, asked.failing_since) == (4, 0, 0)
    assert asked.last_failure == "no answer: HTTP 529"


def test_a_proposal_waits_until_a_person_has_acted(store: RunStore, run_id: int) -> None:
    reader = SnapshotReader(store, run_id)
    record_decision(store, run_id, 3, Decision(Action("sample"), "manual"))
    record_decision(store, run_id, 4, Decision(Action("pause"), "llm", "harder prompts"))
    record_decision(store, run_id, 5, Decision(Action("set", {"beta": 9.0}), "manual"), refused="out of bounds")
    record_decision(store, run_id, 6, Decision(Action("sample"), "rules"))
    assert reader.read().asked.proposal == 4
    record_decision(store, run_id, 7, Decision(Action("resume"), "manual"))
    assert reader.read().asked.proposal == 0
    record_decision(store, run_id, 9, Decision(Action("pause"), "rules"))
    assert reader.read().asked.proposal == 0


def test_several_decisions_of_a_boundary_keep_order_and_refusals(store: RunStore, run_id: int) -> None:
    first, second = Decision(Action("sample"), "manual"), Decision(Action("set", {"beta": 9.0}), "manual")
    store.record_decisions(
        run_id,
        3,
        [CheckedDecision(first), CheckedDecision(second, {"beta": {"from": 0.0, "to": 9.0}}, "outside its bounds")],
        make_in_force(),
    )
    assert store.load_decisions_at(run_id, 3) == [first, replace(second, refused="outside its bounds")]


def test_decisions_are_committed_with_knobs_pins_policy_and_status(store: RunStore, run_id: int) -> None:
    in_force = make_in_force(Knobs(temperature=0.7), pins=["temperature", "beta"], policy="fixed", status="paused")
    store.record_decisions(run_id, 1, [CheckedDecision(Decision(Action("pause"), "manual"))], in_force)
    snapshot = SnapshotReader(store, run_id).read()
    assert snapshot.knobs == Knobs(temperature=0.7)
    assert snapshot.pins == {"temperature", "beta"}
    assert (snapshot.run.policy, snapshot.run.status) == ("fixed", "paused")


def test_waiting_commands_come_in_the_order_they_were_asked(store: RunStore, run_id: int) -> None:
    actions = [Action("set", {"temperature": 0.9}), Action("focus", argument="easier"), Action("rollback", argument=40)]
    ids = [store.add_command(run_id, action, note=f"note {i}") for i, action in enumerate(actions)]
    waiting = store.load_waiting(run_id)
    assert [(c.id, c.action, c.note) for c in waiting] == [
        (key, action, f"note {i}") for i, (key, action) in enumerate(zip(ids, actions, strict=True))
    ]
    assert len(store.load_waiting(run_id)) == 3


def test_commands_wait_for_their_own_run_only(store: RunStore, run_id: int) -> None:
    other = create_run(store, "other")
    store.add_command(other, Action("pause"))
    assert store.load_waiting(run_id) == []


def test_a_command_is_consumed_with_its_decision(store: RunStore, run_id: int) -> None:
    taken, refused = store.add_command(run_id, Action("pause")), store.add_command(run_id, Action("resume"))
    decisions = [
        CheckedDecision(Decision(Action("pause"), "manual", command_id=taken)),
        CheckedDecision(Decision(Action("resume"), "manual", command_id=refused), refused="the run is not paused"),
    ]
    store.record_decisions(run_id, 4, decisions, make_in_force(status="paused"))

    def standing(command_id: int) -> tuple[str, int | None, str]:
        command = store.load_command(command_id)
        return command.state, command.step, command.result

    assert len(store.load_waiting(run_id)) == 0
    assert standing(taken) == ("taken", 4, "")
    assert standing(refused) == ("refused", 4, "the run is not paused")
    assert [decision.command_id for decision in store.load_decisions_at(run_id, 4)] == [taken, refused]
    store.finish_command(taken, "applied", "pause")
    assert standing(taken) == ("applied", 4, "pause")


def test_a_commit_that_fails_consumes_no_command_and_logs_no_decision(store: RunStore, run_id: int) -> None:
    command = store.add_command(run_id, Action("pause"))
    good = Decision(Action("pause"), "manual", command_id=command)
    with pytest.raises(Exception, match="FOREIGN KEY"):
        store.record_decisions(
            run_id,
            1,
            [CheckedDecision(good), CheckedDecision(Decision(Action("stop"), "manual", command_id=999))],
            make_in_force(status="paused"),
        )
    assert store.load_decisions_at(run_id, 1) == []
    assert len(store.load_waiting(run_id)) == 1
    assert store.find_run("night").status == "running"


def test_a_decision_may_be_refused_afterwards(store: RunStore, run_id: int) -> None:
    decision = Decision(Action("rollback", argument=3), "rules")
    record_decision(store, run_id, 8, decision)
    record_decision(store, run_id, 8, Decision(Action("sample"), "manual"))
    store.refuse_decision(run_id, 8, decision, "damaged")
    assert [decision.refused for decision in store.load_decisions_at(run_id, 8)] == ["damaged", None]


# ---------------------------------------------------------------- steps


def test_a_step_is_recorded_with_groups_samples_and_counters(store: RunStore, run_id: int) -> None:
    groups = [make_group(0.0, 1.0, prompt=make_prompt("a", label="easy")), make_group(None, 0.0)]
    record_step(store, run_id, 1, {"reward/mean": 0.1 + 0.2}, groups=groups, samples=[make_sample(1, reward=None)])
    snapshot = SnapshotReader(store, run_id).read(whole_run=True)
    (step,) = snapshot.steps
    assert step.metrics == HEALTHY | {"reward/mean": 0.1 + 0.2}
    assert snapshot.samples == (make_sample(1, reward=None),)
    assert (snapshot.step, snapshot.steps_done, snapshot.run.rollouts, snapshot.run.wall_s) == (1, 1, 4, 1.0)
    with store.read() as connection:
        rows = connection.execute("SELECT * FROM groups ORDER BY id").fetchall()
    assert [(row["prompt_id"], row["label"], row["kind"]) for row in rows] == [
        ("a", "easy", "mixed"),
        ("p", "", "all_zero"),
    ]
    assert rows[1]["rewards"] == "[null, 0.0]"


def test_a_checkpoint_row_is_in_the_commit_of_its_step(store: RunStore, run_id: int) -> None:
    record_step(store, run_id, 1, checkpoint=make_checkpoint(1, model="abc"))
    (found,) = store.load_checkpoints(run_id)
    assert (found.step, found.hashes) == (1, {"model": "abc"})
    assert found.path == str(store.path.parent / "runs" / "night" / "checkpoints" / "step-000001")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_no_number_survives_as_nan(store: RunStore, run_id: int, value: float) -> None:
    record_step(store, run_id, 1, {"kl/mean": value, "entropy/mean": 0.5})
    metrics = SnapshotReader(store, run_id).read(whole_run=True).steps[0].metrics
    assert math.isnan(metrics["kl/mean"])
    assert metrics["entropy/mean"] == 0.5


def test_a_step_is_there_for_another_process_at_once(store: RunStore, run_id: int) -> None:
    record_step(store, run_id, 1)
    code = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('select count(*) from steps').fetchone())"
    path = store.url.removeprefix("sqlite:///")
    seen = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "(1,)"


# ---------------------------------------------------------------- evaluations, checkpoints, events


def test_an_evaluation_of_the_same_weights_replaces_the_first(store: RunStore, run_id: int) -> None:
    store.record_evaluation(run_id, 0, make_evaluation(0.25))
    store.record_evaluation(run_id, 0, make_evaluation(0.25, split="test"))
    store.record_evaluation(run_id, 0, make_evaluation(0.5))
    looks = SnapshotReader(store, run_id).read().evaluations
    assert sorted((look.split, look.accuracy) for look in looks) == [("dev", 0.5), ("test", 0.25)]


def test_an_evaluation_is_known_by_step_and_split(store: RunStore, run_id: int) -> None:
    store.record_evaluation(run_id, 10, make_evaluation(0.25))
    assert store.has_evaluation(run_id, 10, "dev")
    assert not store.has_evaluation(run_id, 10, "test")
    assert not store.has_evaluation(run_id, 11, "dev")


def test_fixed_samples_replace_earlier_ones_and_leave_those_of_the_step(store: RunStore, run_id: int) -> None:
    record_step(store, run_id, 1)
    assert not store.has_samples(run_id, 1)
    store.record_samples(run_id, 1, [make_sample(1, kind="fixed", completion="old")])
    store.record_samples(run_id, 1, [make_sample(1, kind="fixed", completion="new")])
    assert store.has_samples(run_id, 1)
    samples = SnapshotReader(store, run_id).read(whole_run=True).samples
    assert sorted((s.kind, s.completion) for s in samples) == [("best", "text"), ("fixed", "new")]


def test_the_best_step_has_the_highest_dev_accuracy_and_the_earliest_of_equals(store: RunStore, run_id: int) -> None:
    assert store.best_step(run_id) is None
    store.record_evaluation(run_id, 0, make_evaluation(0.9, split="test"))
    assert store.best_step(run_id) is None
    for step, accuracy in ((30, 0.75), (0, 0.25), (20, 0.75), (10, 0.5)):
        store.record_evaluation(run_id, step, make_evaluation(accuracy))
    assert store.best_step(run_id) == 20


def test_equal_accuracies_are_decided_by_mean_reward(store: RunStore, run_id: int) -> None:
    for step, reward in ((0, 0.3), (10, 0.5), (20, 0.4), (30, 0.5)):
        store.record_evaluation(run_id, step, replace(make_evaluation(0.0), reward=reward))
        store.record_checkpoint(run_id, make_checkpoint(step))
    assert store.best_step(run_id) == 10
    assert [c.step for c in store.load_checkpoints(run_id) if c.best] == [10]
    assert store.find_run("night").graded is False


def test_a_graded_run_is_judged_by_mean_reward_prompt_by_prompt(store: RunStore, run_id: int) -> None:
    assert store.find_run("night").graded is None
    for step, rewards in ((0, (0.3, 0.3, 0.9)), (10, (0.5, 0.6, 0.9)), (20, (0.3, None, 0.8))):
        examples = tuple(Example(make_prompt(f"{i}"), make_completion(r)) for i, r in enumerate(rewards))
        judged = [reward for reward in rewards if reward is not None]
        made = replace(make_evaluation(0.0), reward=fmean(judged), reward_ci95=(0.2, 0.9), examples=examples)
        store.record_evaluation(run_id, step, made, graded=True)
    snapshot = SnapshotReader(store, run_id).read()
    assert (snapshot.run.graded, snapshot.run.measure, store.best_step(run_id)) == (True, "reward", 10)
    assert [look.score for look in snapshot.dev] == pytest.approx([0.5, 2 / 3, 0.55])
    assert snapshot.dev[0].ci95 == (0.2, 0.9)
    assert store.load_answers(run_id, 20, "dev") == {"0": 0.3, "2": 0.8}, "an errored completion has no score"
    first, best = snapshot.paired_dev
    assert (first.n, first.gained, first.lost, best.difference) == (2, 0, 1, pytest.approx(-0.15))


def test_checkpoints_come_oldest_first_and_know_the_best(store: RunStore, run_id: int) -> None:
    for step in (20, 0, 10):
        store.record_checkpoint(run_id, make_checkpoint(step, model=f"hash {step}"))
        store.record_evaluation(run_id, step, make_evaluation(0.5 if step == 10 else 0.25))
    found = store.load_checkpoints(run_id)
    assert [(c.step, c.best, c.hashes["model"]) for c in found] == [
        (0, False, "hash 0"),
        (10, True, "hash 10"),
        (20, False, "hash 20"),
    ]


def test_a_checkpoint_of_the_same_step_takes_the_place_of_the_first(store: RunStore, run_id: int) -> None:
    store.record_checkpoint(run_id, make_checkpoint(10))
    store.record_checkpoint(run_id, make_checkpoint(10, name="lunch"))
    assert [checkpoint.name for checkpoint in store.load_checkpoints(run_id)] == ["lunch"]
    store.drop_checkpoint(run_id, 10)
    assert store.load_checkpoints(run_id) == []


# ---------------------------------------------------------------- going back


def test_a_resume_supersedes_later_steps_and_their_looks_but_keeps_decisions(store: RunStore, run_id: int) -> None:
    for step in range(1, 5):
        record_decision(store, run_id, step, Decision(Action("continue"), "rules", f"step {step}"))
        record_step(store, run_id, step, checkpoint=make_checkpoint(step))
        store.record_evaluation(run_id, step, make_evaluation(step / 10))
    store.supersede_after(run_id, 2, 2, live=[1, 2])
    snapshot = SnapshotReader(store, run_id).read(whole_run=True)
    assert [step.step for step in snapshot.steps] == [1, 2]
    assert [look.step for look in snapshot.evaluations] == [1, 2]
    assert [checkpoint.step for checkpoint in snapshot.checkpoints] == [1, 2]
    assert {sample.step for sample in snapshot.samples} == {2}
    assert (snapshot.step, snapshot.steps_done) == (2, 2)
    assert [d.evidence for d in store.load_decisions_at(run_id, 4)] == ["step 4"]
    assert store.load_ancestors(run_id, 2) == [2, 1]


def test_steps_taken_again_after_a_resume_take_the_place_of_the_old_ones(store: RunStore, run_id: int) -> None:
    for step in range(1, 4):
        record_step(store, run_id, step, {"reward/mean": 0.0})
    store.supersede_after(run_id, 1, 1, live=[1])
    for step in range(2, 4):
        record_step(store, run_id, step, {"reward/mean": 1.0})
    steps = SnapshotReader(store, run_id).read().steps
    assert [(step.step, step.metrics["reward/mean"]) for step in steps] == [(1, 0.0), (2, 1.0), (3, 1.0)]


def test_a_rollback_leaves_step_numbers_and_makes_a_new_branch(store: RunStore, run_id: int) -> None:
    for step in range(1, 6):
        record_step(store, run_id, step)
    store.roll_back(run_id, 2, live=[2, 1])
    after = SnapshotReader(store, run_id).read()
    assert (after.step, after.steps_done) == (2, 5)
    assert [step.step for step in after.steps] == [1, 2]
    record_step(store, run_id, 6, parent=2)
    steps = SnapshotReader(store, run_id).read().steps
    assert [(step.step, step.parent) for step in steps] == [(1, 0), (2, 1), (6, 2)]
    assert store.load_ancestors(run_id, 6) == [6, 2, 1]
    assert store.load_ancestors(run_id, 5) == [5, 4, 3, 2, 1]


def test_a_rollback_to_the_start_leaves_no_live_step(store: RunStore, run_id: int) -> None:
    record_step(store, run_id, 1)
    store.roll_back(run_id, 0, live=[])
    assert SnapshotReader(store, run_id).read(whole_run=True).steps == ()


def test_a_second_rollback_may_go_to_a_branch_that_was_left(store: RunStore, run_id: int) -> None:
    for step in range(1, 4):
        record_step(store, run_id, step)
    store.roll_back(run_id, 1, live=[1])
    record_step(store, run_id, 4, parent=1)
    store.roll_back(run_id, 3, live=[3, 2, 1])
    assert [step.step for step in SnapshotReader(store, run_id).read().steps] == [1, 2, 3]


def test_a_resume_before_a_rollback_brings_the_left_steps_back(store: RunStore, run_id: int) -> None:
    for step in range(1, 4):
        record_step(store, run_id, step)
    store.roll_back(run_id, 1, live=[1])
    record_step(store, run_id, 4, parent=1)
    store.supersede_after(run_id, 3, 3, live=[3, 2, 1])
    assert [step.step for step in SnapshotReader(store, run_id).read().steps] == [1, 2, 3]
    assert store.load_ancestors(run_id, 3) == [3, 2, 1]
    assert store.load_ancestors(run_id, 4) == []


def test_a_very_long_lineage_can_be_kept_alive(store: RunStore, run_id: int) -> None:
    for step in range(1, 3):
        record_step(store, run_id, step)
    store.roll_back(run_id, 2, live=list(range(40_000, 0, -1)))
    assert [step.step for step in SnapshotReader(store, run_id).read().steps] == [1, 2]


# ---------------------------------------------------------------- snapshots


def test_a_snapshot_is_bounded_however_long_the_run(store: RunStore, run_id: int) -> None:
    for step in range(1, STEPS_SHOWN + 6):
        record_decision(store, run_id, step, Decision(Action("sample" if step % 2 else "continue"), "rules"))
        record_step(store, run_id, step)
        store.record_evaluation(run_id, step, make_evaluation(0.75 if step == 7 else 0.5))
        store.record_event(run_id, step, "info", f"event {step}")
    snapshot = SnapshotReader(store, run_id).read(whole_run=True)
    assert [step.step for step in snapshot.steps] == list(range(6, STEPS_SHOWN + 6))
    assert len(snapshot.decisions) == DECISIONS_SHOWN
    assert snapshot.decisions[-1].step == STEPS_SHOWN + 5
    assert {decision.action for decision in snapshot.decisions} == {"sample"}, "continue says nothing new"
    assert [event.step for event in snapshot.events] == list(range(STEPS_SHOWN + 6 - EVENTS_SHOWN, STEPS_SHOWN + 6))
    shown = [look.step for look in snapshot.dev]
    assert len(shown) <= EVALUATIONS_SHOWN + 3
    assert {1, 7, STEPS_SHOWN + 5} <= set(shown), "the first, the best and the newest look are always shown"
    assert sum(bucket.n for bucket in snapshot.buckets["reward/mean"]) == STEPS_SHOWN + 5


def test_a_reader_that_looked_before_sees_what_a_fresh_one_sees(store: RunStore, run_id: int) -> None:
    old = SnapshotReader(store, run_id)

    def assert_equal_views() -> None:
        assert old.read(whole_run=True) == SnapshotReader(store, run_id).read(whole_run=True)

    assert_equal_views()
    for step in range(1, 6):
        record_decision(store, run_id, step, Decision(Action("set", {"temperature": 0.9}), "rules"))
        record_step(store, run_id, step)
        assert_equal_views()
    store.roll_back(run_id, 3, live=[1, 2, 3])
    assert_equal_views()
    record_step(store, run_id, 6, parent=3)
    assert_equal_views()
    store.supersede_after(run_id, 4, 4, live=[1, 2, 3, 4])
    record_step(store, run_id, 5, {"reward/mean": 0.9})
    assert_equal_views()


def test_a_look_for_the_policy_leaves_out_what_only_people_read(store: RunStore, run_id: int) -> None:
    record_step(store, run_id, 1)
    store.record_event(run_id, 1, "info", "hello")
    store.add_command(run_id, Action("pause"))
    lean, whole = SnapshotReader(store, run_id).read(), SnapshotReader(store, run_id).read(whole_run=True)
    assert (lean.samples, lean.events, lean.buckets, lean.commands_waiting) == ((), (), {}, 0)
    assert (len(whole.samples), len(whole.events), whole.commands_waiting) == (1, 1, 1)
    assert whole.buckets


# ---------------------------------------------------------------- opening


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def test_opening_again_keeps_what_is_there(tmp_path: Path) -> None:
    for name in ("first", "second"):
        opened = make_store(tmp_path)
        create_run(opened, name)
        opened.close()
    found = find_store(url_of(tmp_path / "harness.db"))
    assert found is not None
    assert [run.name for run in found.list_runs()] == ["first", "second"]
    found.close()
    connection = sqlite3.connect(tmp_path / "harness.db")
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "harness.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(InputError, match="use the newer grpo"):
        open_store(url_of(path))
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    connection.close()


def test_looking_for_a_database_creates_none(tmp_path: Path) -> None:
    assert find_store(url_of(tmp_path / "runs" / "harness.db")) is None
    check_place(url_of(tmp_path / "runs" / "harness.db"), "night", tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def test_a_place_is_checked_for_the_name_before_anything_is_created(store: RunStore, run_id: int) -> None:
    assert run_id
    check_place(store.url, "another", store.path.parent)
    with pytest.raises(InputError, match="a run named night exists already"):
        check_place(store.url, "night", store.path.parent)
    with pytest.raises(InputError, match=r"output\.dir: .* leave out --out, or --db"):
        check_place(store.url, "another", store.path.parent.parent)


def test_a_place_that_cannot_be_written_is_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"cannot write .* is not writable"):
        check_place(url_of(tmp_path / "file" / "harness.db"), "night", tmp_path / "file")
    for place in (tmp_path / "file" / "harness.db", tmp_path / "folder"):
        with pytest.raises(InputError, match=r"cannot write .* choose another"):
            open_store(url_of(place))


def test_a_file_that_is_no_database_is_wrong_input_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, not a database " * 40, encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(InputError, match="not a database"):
        open_store(url_of(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("url", ["postgresql://host/db", "sqlite://", "sqlite:///", "mysql://x"])
def test_only_sqlite_files_are_databases(url: str) -> None:
    with pytest.raises(InputError, match="is not a SQLite file"):
        open_store(url)


def test_the_database_lies_in_the_output_folder_unless_named() -> None:
    assert database_url("out", None) == "sqlite:///out/harness.db"
    assert database_url("out", "sqlite:///x.db") == "sqlite:///x.db"


# ---------------------------------------------------------------- which process, and when it was heard


def test_a_process_is_alive_until_it_ended(store: RunStore, run_id: int) -> None:
    host = store.find_run("night").host
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for process in (identify(os.getpid()), ""):  # "" is what a machine without /proc knows of it
        now = time.time()
        assert is_alive(os.getpid(), host, process, now - 1e6)
        assert not is_alive(ended.pid, host, process, now)
        assert is_alive(ended.pid, "a host far away", process, now - 60)
        assert not is_alive(ended.pid, "a host far away", process, now - SILENT_S)


def test_a_process_that_nobody_has_waited_for_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as zombie:
        while identify(zombie.pid):
            time.sleep(0.01)


def test_another_process_with_the_number_of_a_dead_run_is_not_that_run(store: RunStore, run_id: int) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        boot, _, started = identify(stranger.pid).rpartition(":")
        store.update_run(run_id, pid=stranger.pid, process=f"{boot}:{started}")
        assert is_alive_run(store.find_run("night"))
        with pytest.raises(InputError, match=rf"night is still running \(process {stranger.pid}\); grpo watch night"):
            store.adopt_run(run_id)
        for process in (f"{boot}:{int(started) - 1}", f"the boot before:{started}"):
            store.update_run(run_id, process=process)
            assert not is_alive_run(store.find_run("night"))
        store.adopt_run(run_id)
        stranger.communicate()
    assert store.find_run("night").pid == os.getpid()


ADOPT = """
import sys
from harness.errors import InputError
from harness.store.opening import open_store
store = open_store(sys.argv[1])
print("ready", flush=True)
input()
try:
    store.adopt_run(1)
    print("won", flush=True)
except InputError as error:
    print(error, flush=True)
input()
"""


def test_of_two_processes_that_resume_at_once_exactly_one_wins(store: RunStore, run_id: int) -> None:
    store.update_run(run_id, status="stopped")
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", ADOPT, store.url]
    rivals = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for rival in rivals:
        assert rival.stdout is not None
        assert rival.stdout.readline() == "ready\n"
    for rival in rivals:
        assert rival.stdin is not None
        rival.stdin.write("go\n")
        rival.stdin.flush()
    answers = [rival.stdout.readline().strip() for rival in rivals if rival.stdout is not None]
    winner = store.find_run("night").pid
    for rival in rivals:
        rival.communicate("end\n")
    assert winner == rivals[answers.index("won")].pid
    assert sorted(answers) == sorted(["won", f"night is still running (process {winner}); grpo watch night shows it"])


def test_a_clock_that_is_set_changes_no_age(store: RunStore, run_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    for jump in (1e6, -1e6):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        store.beat(run_id, "rollout", 3, 16, 1.0)
        run = store.find_run("night")
        assert abs(run.heartbeat - real() - jump) < 60
        monkeypatch.setattr(time, "time", real)
        assert 0 <= age_of(run) < 60
    # Of another boot or machine only the wall clock is known.
    assert age_of(replace(run, process="another boot:1", heartbeat=real() - 90.0)) == pytest.approx(90.0, abs=5)


def test_a_clock_that_is_set_spends_no_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = build(tmp_path, steps=1, prompts=100, hours=0.1)
    for jump in (1e6, -1e6, 1e6):
        monkeypatch.setattr(time, "time", lambda jump=jump: 1.8e9 + jump)
        bench.step()
    assert bench.controller._spent() is None
    assert 0 < bench.store.find_run("bench").wall_s < 60
    bench.store.close()


# ---------------------------------------------------------------- older databases

ASSETS = Path(__file__).parent.parent / "assets"
"""``version-1.db`` and what its runs told, ``version-1.json``, were written by the code of commit af035ef."""


def test_a_database_of_version_1_tells_what_it_told_then(tmp_path: Path) -> None:
    path = tmp_path / "harness.db"
    shutil.copy(ASSETS / "version-1.db", path)
    then = json.loads((ASSETS / "version-1.json").read_text(encoding="utf-8"))
    found = find_reader(url_of(path))
    assert found is not None
    now = build_review(load_history(found, "first"))
    assert now["signal"] == pytest.approx(then.pop("signal"))
    told = then.pop("decisions")  # which say more by now
    assert [{key: new[key] for key in old} for new, old in zip(now["decisions"], told, strict=True)] == told
    assert now["folder"] == str(tmp_path / then.pop("folder"))  # as seen from the database
    assert [c["path"] for c in now["checkpoints"]] == [f"{now['folder']}/{c.pop('path')}" for c in then["checkpoints"]]
    assert [c["step"] for c in now["checkpoints"]] == [c["step"] for c in then.pop("checkpoints")]
    assert now["dev"]["by_step"] == then.pop("dev")["by_step"]
    assert {key: now[key] for key in then} == then
    assert not is_alive_run(found.find_run("second"))
    assert found.load_run(1).spec["pool"]["sampler"] == "uniform"  # there was no other then
    assert found.load_run(1).spec["pool"]["identity"] == "normalised"  # by which its prompts are known
    store = open_store(url_of(path))
    store.adopt_run(2)
    record_step(store, 2, 2)
    assert [step.step for step in SnapshotReader(store, 2).read().steps] == [1, 2]
    store.close()
    found.close()


def test_a_run_of_version_1_stays_judged_by_accuracy_and_its_best_checkpoint_the_earliest(tmp_path: Path) -> None:
    path = tmp_path / "harness.db"
    shutil.copy(ASSETS / "version-1.db", path)
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("UPDATE evaluations SET accuracy = 0.5, reward = step + 1.0 WHERE split = 'dev'")
    store = open_store(url_of(path))
    assert (store.find_run("first").graded, store.find_run("second").graded) == (False, None)
    assert store.best_step(1) == 0, "though dev earned more at step 7, whose checkpoint may be gone"
    assert store.load_answers(1, 7, "dev") == {"a": 1.0}
    store.record_evaluation(1, 9, make_evaluation(0.5))
    assert store.best_step(1) == 9, "a new one is saved as it is measured"
    store.close()


def test_a_long_run_of_version_1_gets_the_buckets_that_folding_gives(tmp_path: Path) -> None:
    path = tmp_path / "harness.db"
    shutil.copy(ASSETS / "version-1.db", path)
    old = sqlite3.connect(path)
    old.execute("DELETE FROM steps")
    old.execute("DELETE FROM buckets")
    rows = [(step, json.dumps({"group/solved_rate": step % 7 / 7, "reward/mean": step % 5})) for step in range(1, 1301)]
    old.executemany("INSERT INTO steps VALUES (NULL, 1, ?, 0, 'live', 0, '{}', ?)", rows)
    old.execute("UPDATE runs SET last_step = 1300 WHERE id = 1")
    old.commit()
    old.close()
    store = open_store(url_of(path))
    migrated = load_history(store, "first").buckets["group/solved_rate"]
    store.roll_back(1, 1300, live=range(1, 1301))
    rebuilt = load_history(store, "first").buckets["group/solved_rate"]
    store.close()
    assert (len(migrated), sum(bucket.n for bucket in migrated)) == (325, 1300)
    assert [(b.first, b.n, b.low, b.high) for b in migrated] == [(b.first, b.n, b.low, b.high) for b in rebuilt]
    assert [b.mean for b in migrated] == pytest.approx([b.mean for b in rebuilt])


def test_older_runs_tell_from_their_words_which_turns_of_the_llm_failed(tmp_path: Path) -> None:
    path = tmp_path / "harness.db"
    kinds = ["finished", "stopped", "failed", "waiting", "stuck", "dev_fell", "silent"]
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        for number, migration in enumerate(MIGRATIONS[:9], 1):
            migration(old)
            old.execute(f"PRAGMA user_version = {number}")
        for run, on in ((1, kinds), (2, kinds[:2])):
            spec = json.dumps({"budget": {"steps": 80}, "alerts": {"on": on}})
            old.execute(
                "INSERT INTO runs VALUES (:run, 'n' || :run, 0, 'running', '', 0, 'llm', :spec, '{}', 'f', 0, '', 0, "
                "0, '', 0, 0, 0, 0, 0, 0, 0, '{}', '[]', '{}', '{}', '', 0, 0, '[]', '', 0)",
                {"run": run, "spec": spec},
            )
        said = [
            ("rules", "kl | no decision by the llm: HTTP 401 (no)", 0),
            ("rules", "kl | no decision by the llm, its answer was not usable: 0 calls", 900),
            ("rules", "kl | the llm abstained: | no decision by the llm: x", 900),
            ("llm", "it says | no decision by the llm: x", 900),
            ("rules", "kl | no decision by the llm: of no turn", None),
        ]
        for step, (source, evidence, tokens) in enumerate(said, 1):
            old.execute(
                "INSERT INTO decisions (run_id, step, at, source, action, argument, changes, evidence, hypothesis, "
                "expected, rejected, tokens_in) VALUES (1, ?, 0, ?, 'continue', 'null', '{}', ?, '', '', '', ?)",
                (step, source, evidence, tokens),
            )
    store = open_store(url_of(path))
    told = [decision.llm_failure for step in range(1, 6) for decision in store.load_decisions_at(1, step)]
    assert told == ["no answer: HTTP 401 (no)", "not usable: 0 calls", "", "", ""]
    with store.read() as c:
        on = [json.loads(spec)["alerts"]["on"] for (spec,) in c.execute("SELECT spec FROM runs ORDER BY id")]
    assert on == [[*kinds, "llm_silent"], kinds[:2]]
    store.close()


def test_a_run_from_before_has_its_llm_settings_where_they_are_now(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    shutil.copy(ASSETS / "version-1.db", path)
    with closing(sqlite3.connect(path)) as c:
        llm = {"model": "m", "attempts": 2, "input_price": 1.0, "output_price": 5.0}
        c.execute("UPDATE runs SET spec = json_set(spec, '$.llm', json(?)) WHERE id = 1", (json.dumps(llm),))
        c.commit()
    found = find_reader(url_of(path))
    assert found is not None
    spec = found.load_run(1).spec
    assert (spec["llm"], spec["answers"]) == ({"model": "m"}, {"attempts": 2})
    assert spec["prices"] == {"m": {"input": 1.0, "output": 5.0}}
    assert "answers" not in found.load_run(2).spec
    assert found.load_spent(1) == 0.0


def test_the_migrations_make_the_tables_that_are_declared(store: RunStore, tmp_path: Path) -> None:
    declared = create_engine(f"sqlite:///{tmp_path / 'declared.db'}")
    SQLModel.metadata.create_all(declared)
    declared.dispose()

    def describe(path: Path) -> dict[str, Any]:
        connection = sqlite3.connect(path)
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        described: dict[str, Any] = {}
        for table in tables:
            # Without the defaults, which a column added later needs and SQLModel does not declare.
            columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
            described[table] = {(name, kind, required, key) for _, name, kind, required, _, key in columns}
            keys = connection.execute(f"PRAGMA foreign_key_list({table})").fetchall()
            described[f"{table} keys"] = {row[2:5] for row in keys}
            indexes = connection.execute(f"PRAGMA index_list({table})").fetchall()
            described[f"{table} indexes"] = {
                (unique, partial, tuple(tuple(c[2:4]) for c in connection.execute(f"PRAGMA index_xinfo({name})")))
                for _, name, unique, _, partial in indexes
            }
        connection.close()
        return described

    assert describe(store.path) == describe(tmp_path / "declared.db")


# ---------------------------------------------------------------- what changes did


def test_verdicts_are_written_with_the_decisions_that_rest_on_them(store: RunStore, run_id: int) -> None:
    record_decision(store, run_id, 1, Decision(Action("set", {"temperature": 0.9}), "rules", "seen"))
    reader = SnapshotReader(store, run_id)
    (made,) = reader.read().decisions
    go_on = CheckedDecision(Decision(Action("continue"), "rules", "well"))
    broken = replace(go_on, changes={"beta": {"from": 0.0, "to": math.nan}})
    verdict = Verdict(made.id, "helped", "group/mixed_rate +0.2")
    with pytest.raises(ValueError, match="JSON"):  # the decision cannot be stored, so neither is the verdict
        store.record_decisions(run_id, 7, [broken], make_in_force(), verdicts=[verdict])
    assert reader.read().decisions[0].verdict is None
    store.record_decisions(run_id, 7, [go_on], make_in_force(), verdicts=[verdict])
    (seen,) = reader.read().decisions
    assert (seen.verdict, seen.measured) == ("helped", "group/mixed_rate +0.2")


def test_the_newest_look_at_dev_is_compared_with_earlier_ones_prompt_by_prompt(store: RunStore, run_id: int) -> None:
    def look(step: int, **rewards: float) -> None:
        examples = tuple(Example(make_prompt(name), make_completion(reward)) for name, reward in rewards.items())
        right = sum(rewards.values()) / len(rewards)
        store.record_evaluation(run_id, step, replace(make_evaluation(right), examples=examples))

    reader = SnapshotReader(store, run_id)
    assert reader.read().paired_dev == ()
    look(0, a=1.0, b=0.0, c=0.0)
    assert reader.read().paired_dev == ()
    look(10, a=1.0, b=1.0, c=1.0)
    look(20, a=0.0, b=1.0, c=0.0)
    assert reader.read().paired_dev == (make_pair(0, 20, 3, 1, 1), make_pair(10, 20, 3, 0, 2))
    for step in range(30, 300, 10):
        look(step, a=0.0, b=0.0, c=0.0)
    pairs = reader.read().paired_dev
    assert pairs[0] == make_pair(10, 290, 3, 0, 3), "the best stays, however old"
    assert len(pairs) == LOOKS_PAIRED
