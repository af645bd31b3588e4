from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.knobs import DEFAULT_BOUNDS, apply_changes, compute_focus
from harness.types import Decision, EvaluationRecord, Knobs, Snapshot, StepRecord
from policies.rules import COOL_DOWN, MIN_STEPS, NO_MOVEMENT_STEPS, RulesPolicy
from tests.builders import (
    HEALTHY,
    make_change,
    make_checkpoint,
    make_decision_record,
    make_look,
    make_snapshot,
    make_step,
    make_steps,
)

UNSOLVED = {"group/unsolved_rate": 0.9, "group/mixed_rate": 0.05, "completion/distinct_rate": 0.5}
CUT = UNSOLVED | {"completion/truncated_rate": 0.8}
SOLVED = {"group/solved_rate": 0.9, "group/mixed_rate": 0.1}
FLAT = {"group/flat_rate": 0.8, "group/mixed_rate": 0.1, "group/unsolved_rate": 0.9}
STILL = {"kl/mean": 1e-6}


def decide(snapshot: Snapshot) -> Decision:
    return RulesPolicy().decide(snapshot)


def spiking_steps() -> tuple[StepRecord, ...]:
    return (*make_steps(9), make_step(10, {"kl/mean": 1.5}))


def swinging_steps() -> tuple[StepRecord, ...]:
    return tuple(make_step(step, {"reward/adjusted": 0.3 if step % 2 else -0.3}) for step in range(1, 21))


def fallen_run(**values: Any) -> Snapshot:
    given: dict[str, Any] = {
        "evaluations": (make_look(0, 0.4), make_look(10, 0.8), make_look(20, 0.5)),
        "checkpoints": (make_checkpoint(0), make_checkpoint(10, best=True)),
    }
    return make_snapshot(make_steps(20), **given | values)


# ---------------------------------------------------------------- each rule on its fault


@pytest.mark.parametrize(
    ("snapshot", "knob", "value", "evidence"),
    [
        (make_snapshot(make_steps(4, CUT)), "max_tokens", 96, "completion/truncated_rate 0.80 over steps 1-4"),
        (make_snapshot(make_steps(2, CUT)), "max_tokens", 96, "completion/truncated_rate 0.80 over steps 1-2"),
        (make_snapshot(make_steps(5, FLAT)), "temperature", 1.25, "group/flat_rate 0.80, completion/correct_rate 0.50"),
        (make_snapshot(spiking_steps()), "learning_rate", 5e-5, "kl/mean 1.500 at step 10, median before 0.010"),
        (make_snapshot(swinging_steps()), "learning_rate", 5e-5, "standard deviation 0.30, lag-1 correlation"),
        (
            make_snapshot(make_steps(NO_MOVEMENT_STEPS, STILL), evaluations=(make_look(0, 0.4), make_look(10, 0.41))),
            "learning_rate",
            3e-4,
            "kl/mean at most 1.0e-06 over 15 steps, dev 0.410 against 0.400 at the start",
        ),
    ],
    ids=["cut", "cut early", "flat", "kl spike", "swings", "no movement"],
)
def test_a_fault_changes_its_knob_with_evidence(snapshot: Snapshot, knob: str, value: float, evidence: str) -> None:
    decision = decide(snapshot)
    assert (decision.action.kind, dict(decision.action.changes)) == ("set", {knob: value})
    assert evidence in decision.evidence
    assert decision.source == "rules"
    assert decision.hypothesis
    assert decision.expected


def test_unsolved_groups_ask_for_an_easier_focus() -> None:
    decision = decide(make_snapshot(make_steps(4, UNSOLVED)))
    assert (decision.action.kind, decision.action.argument) == ("focus", "easier")
    assert "group/unsolved_rate 0.90" in decision.evidence


def test_at_the_easiest_focus_alike_samples_get_a_higher_temperature() -> None:
    easiest = Knobs(focus=DEFAULT_BOUNDS["focus"][1])
    decision = decide(make_snapshot(make_steps(4, UNSOLVED), knobs=easiest))
    assert decision.action.changes == {"temperature": 1.25}
    varied = UNSOLVED | {"completion/distinct_rate": 0.99}
    assert decide(make_snapshot(make_steps(4, varied), knobs=easiest)).action.kind == "continue"


def test_mostly_solved_looks_at_dev_first() -> None:
    assert decide(make_snapshot(make_steps(4, SOLVED))).action.kind == "evaluate"
    old_look = make_snapshot(make_steps(20, SOLVED), evaluations=(make_look(10, 0.99),))
    assert decide(old_look).action.kind == "evaluate"


def test_mostly_solved_and_good_on_dev_stops() -> None:
    decision = decide(make_snapshot(make_steps(10, SOLVED), evaluations=(make_look(10, 0.98),)))
    assert decision.action.kind == "stop"
    assert "dev 0.980" in decision.evidence


def test_mostly_solved_but_not_good_on_dev_goes_harder() -> None:
    decision = decide(make_snapshot(make_steps(10, SOLVED), evaluations=(make_look(10, 0.7),)))
    assert (decision.action.kind, decision.action.argument) == ("focus", "harder")


def test_the_test_split_is_never_looked_at() -> None:
    looks = (make_look(0, 0.1, split="test"), make_look(10, 0.99, split="test"))
    assert decide(make_snapshot(make_steps(10, SOLVED), evaluations=looks)).action.kind == "evaluate"


def test_flat_groups_that_a_temperature_did_not_help_stop_for_a_person() -> None:
    snapshot = make_snapshot(make_steps(20, FLAT), decisions=(make_change(10, "temperature", 1.0, 1.25),))
    decision = decide(snapshot)
    assert decision.action.kind == "stop"
    assert "temperature did not help" in decision.evidence


def test_at_the_lowest_learning_rate_a_spike_cools_the_temperature() -> None:
    knobs = Knobs(learning_rate=DEFAULT_BOUNDS["learning_rate"][0], temperature=1.4)
    assert decide(make_snapshot(spiking_steps(), knobs=knobs)).action.changes == {"temperature": 1.2}


def test_dev_below_its_best_rolls_back_to_it() -> None:
    decision = decide(fallen_run())
    assert (decision.action.kind, decision.action.argument) == ("rollback", 10)
    assert "dev 0.500 at step 20 against 0.800 at step 10" in decision.evidence


@pytest.mark.parametrize(
    "values",
    [
        {"evaluations": (make_look(10, 0.55), make_look(20, 0.5))},
        {"checkpoints": (make_checkpoint(0),)},
        {"evaluations": (make_look(10, 0.8), make_look(15, 0.5))},
        {"evaluations": ()},
    ],
    ids=["within the noise", "no checkpoint of the best", "an old look", "no look"],
)
def test_no_rollback_without_good_reason(values: dict[str, Any]) -> None:
    assert decide(fallen_run(**values)).action.kind == "continue"


def test_after_its_rollback_the_learning_rate_is_halved_once() -> None:
    back = make_decision_record(21, "rollback", argument=10)
    snapshot = fallen_run(step=10, decisions=(back,))
    assert decide(snapshot).action.changes == {"learning_rate": 5e-5}
    halved = replace(snapshot, decisions=(back, make_change(21, "learning_rate", 1e-4, 5e-5)))
    assert decide(halved).action.kind == "continue"


def test_a_persons_rollback_is_not_second_guessed() -> None:
    back = make_decision_record(21, "rollback", argument=10, source="manual")
    assert decide(fallen_run(step=10, decisions=(back,))).action.kind == "continue"


def test_a_refused_rollback_changes_no_learning_rate() -> None:
    back = make_decision_record(21, "rollback", argument=10, refused="damaged")
    assert decide(fallen_run(step=10, decisions=(back,))).action.kind == "continue"


# ---------------------------------------------------------------- and on nothing else


@pytest.mark.parametrize("steps", [1, 2, MIN_STEPS, 10, 50])
def test_a_healthy_run_continues_with_evidence(steps: int) -> None:
    looks = tuple(make_look(step, 0.3 + step / 200) for step in range(0, steps + 1, 10))
    decision = decide(make_snapshot(make_steps(steps), evaluations=looks))
    assert decision.action.kind == "continue"
    assert "reward/mean 0.50" in decision.evidence


def test_before_the_first_step_there_is_nothing_to_judge() -> None:
    decision = decide(make_snapshot())
    assert (decision.action.kind, decision.evidence) == ("continue", "no step under the present knobs yet")


@pytest.mark.parametrize("fault", [UNSOLVED, SOLVED, FLAT], ids=["unsolved", "solved", "flat"])
def test_too_few_steps_are_not_judged(fault: dict[str, float]) -> None:
    assert decide(make_snapshot(make_steps(MIN_STEPS - 1, fault))).action.kind == "continue"


def test_only_steps_under_the_present_knobs_are_judged() -> None:
    steps = (*make_steps(10, UNSOLVED), *make_steps(3, first=11))
    assert decide(make_snapshot(steps, decisions=(make_change(11, "beta", 0.0, 0.1),))).action.kind == "continue"


@pytest.mark.parametrize(
    ("snapshot", "knob"),
    [
        (make_snapshot(make_steps(4, CUT)), "max_tokens"),
        (make_snapshot(make_steps(5, FLAT)), "temperature"),
        (make_snapshot(spiking_steps()), "learning_rate"),
        (make_snapshot(swinging_steps()), "learning_rate"),
        (fallen_run(step=10, decisions=(make_decision_record(21, "rollback", argument=10),)), "learning_rate"),
        (make_snapshot(make_steps(20, STILL), evaluations=(make_look(0, 0.4),)), "learning_rate"),
    ],
    ids=["cut", "flat", "kl spike", "swings", "after rollback", "no movement"],
)
def test_a_pinned_knob_is_left_alone(snapshot: Snapshot, knob: str) -> None:
    assert decide(snapshot).action.changes.keys() == {knob}, "the fault would change it"
    assert decide(replace(snapshot, pins=frozenset({knob}))).action.kind == "continue"


@pytest.mark.parametrize(("fault", "looks"), [(UNSOLVED, ()), (SOLVED, (make_look(4, 0.7),))], ids=["easier", "harder"])
def test_a_pinned_focus_is_left_alone(fault: dict[str, float], looks: tuple[EvaluationRecord, ...]) -> None:
    snapshot = make_snapshot(make_steps(4, fault), evaluations=looks)
    assert decide(snapshot).action.kind == "focus"
    assert decide(replace(snapshot, pins=frozenset({"focus"}))).action.kind != "focus"


@pytest.mark.parametrize(("done", "kind"), [(10 + COOL_DOWN - 2, "continue"), (10 + COOL_DOWN - 1, "focus")])
def test_a_knob_rests_after_its_change(done: int, kind: str) -> None:
    varied = UNSOLVED | {"completion/distinct_rate": 0.99}
    change = make_decision_record(10, "focus", argument="easier", changes={"focus": {"from": 0.5, "to": 0.65}})
    snapshot = make_snapshot(make_steps(done, varied), knobs=Knobs(focus=0.65), decisions=(change,))
    assert decide(snapshot).action.kind == kind


@pytest.mark.parametrize(("done", "kind"), [(10, "continue"), (11, "set")])
def test_a_clearly_too_low_token_limit_rests_two_steps_only(done: int, kind: str) -> None:
    snapshot = make_snapshot(make_steps(done, CUT), decisions=(make_change(10, "max_tokens", 64, 96),))
    assert decide(snapshot).action.kind == kind


def test_a_refused_change_does_not_make_a_knob_rest() -> None:
    refused = replace(make_change(4, "max_tokens", 64, 96), refused="pinned")
    assert decide(make_snapshot(make_steps(4, CUT), decisions=(refused,))).action.changes == {"max_tokens": 96}


def test_a_knob_at_its_bound_is_not_changed_further() -> None:
    at_bound = make_snapshot(make_steps(4, CUT), bounds=DEFAULT_BOUNDS | {"max_tokens": (4, 64)})
    assert decide(at_bound).action.kind == "continue"
    near = make_snapshot(make_steps(4, CUT), bounds=DEFAULT_BOUNDS | {"max_tokens": (4, 70)})
    assert decide(near).action.changes == {"max_tokens": 70}


@pytest.mark.parametrize("at", [1, 8, 15])
def test_a_kl_that_is_no_number_never_raises_the_learning_rate(at: int) -> None:
    steps = tuple(make_step(step, {"kl/mean": math.nan} if step == at else STILL) for step in range(1, 16))
    decision = decide(make_snapshot(steps, evaluations=(make_look(0, 0.4), make_look(10, 0.41))))
    assert decision.action.changes.get("learning_rate", 0.0) <= Knobs().learning_rate


# ---------------------------------------------------------------- whatever the run looks like

RATES = [name for name in HEALTHY if name.endswith("_rate") or name.startswith(("reward/", "kl/"))]
KNOBS = st.sampled_from(["temperature", "max_tokens", "learning_rate", "focus"])


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    kinds = st.sampled_from([{}, CUT, UNSOLVED, SOLVED, FLAT, STILL, {"kl/mean": 3.0}])
    noise = st.dictionaries(st.sampled_from(RATES), st.floats(0.0, 1.0), max_size=4)
    n = draw(st.integers(0, 20))
    metrics = draw(kinds) | draw(noise)
    steps = (*make_steps(max(0, n - 1), metrics), *([make_step(n, metrics | draw(noise))] if n else []))
    changes = draw(st.lists(st.tuples(st.integers(1, 20), KNOBS), max_size=3))
    looks = draw(st.lists(st.tuples(st.integers(0, 20), st.floats(0.0, 1.0)), max_size=3))
    return make_snapshot(
        steps,
        knobs=Knobs(
            temperature=draw(st.floats(0.3, 1.5)),
            max_tokens=draw(st.integers(4, 4096)),
            learning_rate=draw(st.floats(1e-7, 1e-2)),
            focus=draw(st.none() | st.floats(0.05, 0.95)),
        ),
        pins=draw(st.frozensets(KNOBS, max_size=2)),
        decisions=tuple(make_change(step, knob) for step, knob in sorted(changes) if step <= n),
        evaluations=tuple(make_look(step, accuracy) for step, accuracy in sorted(looks) if step <= n),
        checkpoints=(make_checkpoint(0), make_checkpoint(10)),
    )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(snapshots())
def test_at_most_one_allowed_change_at_a_time_and_always_with_evidence(snapshot: Snapshot) -> None:
    decision = decide(snapshot)
    action = decision.action
    assert decision.evidence
    if action.kind == "continue":
        assert not action.changes
        return
    touched = {"focus"} if action.kind == "focus" else set(action.changes)
    assert len(touched) == (action.kind in ("set", "focus"))
    assert not touched & snapshot.pins
    changes = dict(action.changes)
    if action.kind == "focus":
        changes["focus"] = compute_focus(str(action.argument), snapshot.knobs.focus, snapshot.bounds)
    after, _ = apply_changes(snapshot.knobs, changes, snapshot.bounds)  # raises when out of bounds
    assert not touched or after != snapshot.knobs


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(snapshots(), snapshots())
def test_a_decision_is_a_function_of_the_snapshot_alone(snapshot: Snapshot, other: Snapshot) -> None:
    policy = RulesPolicy()
    first = policy.decide(snapshot)
    policy.decide(other)
    assert policy.decide(copy.deepcopy(snapshot)) == first == RulesPolicy().decide(snapshot)
