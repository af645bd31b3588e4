"""Each rule on its fault, restraint, and what holds of every proposal."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.knobs import DEFAULT_BOUNDS, apply_changes
from harness.types import Action, Decision, DecisionRecord, Knobs, Snapshot
from policies.detectors import detect
from policies.rules import COOL_DOWN, MEASURED_AFTER, RULES, UNCLEAR_REST, RulesPolicy, propose
from policies.view import GOOD_DEV
from tests.support.builders import (
    HEALTHY,
    make_change,
    make_checkpoint,
    make_decision_record,
    make_look,
    make_pair,
    make_run_record,
    make_snapshot,
    make_step,
    make_steps,
)
from tests.support.fault_snapshots import FAULTS, at, series

WIDE = DEFAULT_BOUNDS | {"temperature": (0.05, 3.0)}
UNSOLVED = {
    "group/unsolved_rate": 0.97, "group/all_zero_rate": 0.97, "group/mixed_rate": 0.03, "completion/distinct_rate": 0.5,
}  # fmt: skip
CUT = UNSOLVED | {"completion/truncated_rate": 0.5}
SOLVED = {"group/solved_rate": 0.9, "group/mixed_rate": 0.1}
FLAT = {
    "group/flat_rate": 0.98, "group/mixed_rate": 0.02, "group/unsolved_rate": 0.98, "completion/correct_rate": 0.02,
    "group/all_zero_rate": 0.0, "group/all_one_rate": 0.0,
}  # fmt: skip
CHECKPOINTS = tuple(make_checkpoint(step) for step in (0, 10))


def decide(snapshot: Snapshot) -> Decision:
    return RulesPolicy().decide(replace(snapshot, bounds=WIDE, checkpoints=CHECKPOINTS))


def judged(change: DecisionRecord, verdict: str) -> DecisionRecord:
    return replace(change, verdict=verdict, measured="measured")


# ---------------------------------------------------------------- each fault has its answer


@pytest.mark.parametrize(
    ("kind", "action", "changes"),
    [
        ("errored", "stop", {}),
        ("pays_everyone", "stop", {}),
        ("gamed", "stop", {}),
        ("proxy_only", "stop", {}),
        ("dev_drop", "rollback", {"learning_rate": 5e-5}),
        ("not_finite", "set", {"learning_rate": 5e-5}),
        ("chaos", "set", {"temperature": 1.0}),
        ("collapse", "set", {"temperature": 1.0}),
        ("kl_spike", "set", {"learning_rate": 5e-5}),
        ("oscillation", "set", {"learning_rate": 5e-5}),
        ("gradient_spike", "set", {"learning_rate": 5e-5}),
        ("instability", "set", {"learning_rate": 5e-5}),
        ("entropy_explosion", "set", {"learning_rate": 2.5e-5}),
        ("cut_but_paid", "continue", {}),
        ("length_inflation", "set", {"learning_rate": 5e-5}),
        ("truncation", "set", {"max_tokens": 96}),
        ("never_ends", "set", {"max_tokens": 64}),
        ("unsolved", "focus", {"focus": 0.95}),
        ("no_middle", "focus", {"focus": 0.5}),
        ("large_groups", "set", {"group_size": 16}),
        ("no_signal", "set", {"temperature": 1.25}),
        ("flat", "set", {"temperature": 1.25}),
        ("solved", "evaluate", {}),
        ("anchored", "set", {"beta": 0.05}),
        ("learning_rate", "rollback", {"learning_rate": pytest.approx(1e-4 * math.sqrt(2e-3 / 9e-5), rel=1e-3)}),
        ("no_op_learning_rate", "set", {"learning_rate": 1e-2}),
        ("small_groups", "set", {"group_size": 4}),
        ("plateau", "set", {"learning_rate": 5e-5}),
        ("temperature", "branch", {}),
        ("poor_prompts", "continue", {}),
        ("slow_sampling", "continue", {}),
    ],
)
def test_a_fault_is_answered_as_the_table_says(kind: str, action: str, changes: dict[str, float]) -> None:
    decision = decide(FAULTS[kind][0])
    assert (decision.action.kind, dict(decision.action.changes)) == (action, pytest.approx(changes))
    assert decision.source == "rules"
    if action != "continue":
        assert decision.hypothesis
        assert any(finding.evidence in decision.evidence for finding in detect(FAULTS[kind][0]) if finding.kind == kind)


def test_a_stop_says_what_is_wrong_with_the_reward() -> None:
    assert "the verifier pays everyone" in decide(FAULTS["pays_everyone"][0]).evidence
    assert "exploited" in decide(FAULTS["gamed"][0]).hypothesis
    assert "errored" in decide(FAULTS["errored"][0]).evidence


@pytest.mark.parametrize("focus", [0.05, 0.95])
def test_prompts_that_give_no_signal_give_way_to_those_at_the_frontier(focus: float) -> None:
    expected = {"pool/mixed_expected": 0.1, "pool/mixed_expected_others": 0.8, "pool/mixed_expected_larger": 0.2}
    steps = make_steps(3, (UNSOLVED if focus < 0.5 else SOLVED) | expected)
    assert decide(at(Knobs(focus=focus), steps)).action.changes == {"focus": 0.5}


def test_a_focus_that_was_set_too_hard_goes_to_the_frontier_at_once() -> None:
    assert decide(at(Knobs(focus=0.05), make_steps(8, UNSOLVED))).action.changes == {"focus": 0.5}


def test_nearly_all_answers_cut_doubles_the_limit() -> None:
    snapshot = make_snapshot(make_steps(2, CUT | {"completion/truncated_rate": 1.0}))
    assert decide(snapshot).action.changes == {"max_tokens": 128}


def test_a_model_that_drifts_off_is_looked_at_then_rolled_back_much_slower() -> None:
    knobs = Knobs(max_tokens=96)
    steps = series(13, kl__mean=lambda s: 1.5 if s >= 12 else 0.01)
    drifting = make_snapshot(steps, knobs=knobs, evaluations=(make_look(0, 0.3), make_look(10, 0.5)))
    assert decide(drifting).action.kind == "evaluate"
    raised = judged(make_change(11, "max_tokens", 64, 96), "helped")
    looked = replace(
        drifting,
        evaluations=(*drifting.evaluations, make_look(13, 0.4)),
        paired_dev=(make_pair(10, 13, 200, 3, 63),),
        decisions=(raised,),
    )
    decision = decide(looked)
    assert (decision.action.kind, decision.action.argument) == ("rollback", 10)
    assert decision.action.changes == {"learning_rate": 2.5e-5, "max_tokens": 96}, "what was learned since is kept"
    nothing_left = replace(looked, evaluations=(*drifting.evaluations, make_look(13, 0.3)))
    assert decide(nothing_left).action.changes == {"learning_rate": 1e-5, "max_tokens": 96}
    unharmed = replace(looked, paired_dev=(make_pair(10, 13, 200, 20, 22),), decisions=())
    assert decide(unharmed).action.changes == {"learning_rate": 2.5e-5}


def test_a_temperature_that_spoils_the_weights_goes_back_with_them() -> None:
    snapshot = replace(FAULTS["dev_drop"][0], knobs=Knobs(temperature=2.5))
    wild = [
        replace(
            s,
            knobs=snapshot.knobs,
            metrics=dict(s.metrics)
            | {"completion/distinct_rate": 1.0, "group/unsolved_rate": 0.8, "group/all_zero_rate": 0.8},
        )
        for s in snapshot.steps
    ]
    decision = decide(replace(snapshot, steps=tuple(wild)))
    assert (decision.action.kind, decision.action.changes) == ("rollback", {"temperature": 1.0})


def test_the_learning_rate_rises_by_as_much_as_kl_asks_for() -> None:
    slow = series(12, kl__mean=9e-5)
    looks = (make_look(0, 0.4), make_look(10, 0.41))
    assert decide(make_snapshot(slow, evaluations=looks)).action.changes == {
        "learning_rate": pytest.approx(1e-4 * math.sqrt(1e-3 / 9e-5), rel=1e-3)
    }


@pytest.mark.parametrize(
    ("accuracy", "action"), [(GOOD_DEV, "stop"), (0.7, "focus")], ids=["good enough", "more to learn"]
)
def test_mostly_solved_and_fresh_on_dev(accuracy: float, action: str) -> None:
    decision = decide(make_snapshot(make_steps(10, SOLVED), evaluations=(make_look(10, accuracy),)))
    assert decision.action.kind == action


def test_the_test_split_is_never_looked_at() -> None:
    looks = (make_look(0, 0.1, split="test"), make_look(10, 0.99, split="test"))
    assert decide(make_snapshot(make_steps(10, SOLVED), evaluations=looks)).action.kind == "evaluate"


STRICT = UNSOLVED | {"reward/std": 0.0, "completion/correct_rate": 0.0, "reason/wrong": 1.0, "reason/right": 0.0}


@pytest.mark.parametrize("metrics", [FLAT | {"reward/std": 0.0}, STRICT], ids=["flat", "all-zero"])
def test_a_night_without_signal_that_nothing_helped_stops_for_a_person(metrics: dict[str, float]) -> None:
    tried = (
        judged(make_change(10, "focus", None, 0.95), "unclear"),
        judged(make_change(20, "temperature", 1.0, 1.25), "unclear"),
    )
    knobs = Knobs(focus=0.95, temperature=1.25)
    decision = decide(make_snapshot(make_steps(30, metrics), decisions=tried, knobs=knobs))
    assert decision.action.kind == "stop"
    assert "no signal for 30 steps, likeliest reward too strict" in decision.evidence
    assert "grade partly right answers" in decision.evidence
    earlier = make_snapshot(make_steps(29, metrics), decisions=tried, knobs=knobs)
    assert decide(earlier).action.kind == "continue", "thirty steps it must be"
    resting = (*tried, make_change(28, "beta", 0.0, 0.05))
    assert decide(make_snapshot(make_steps(30, metrics), decisions=resting, knobs=knobs)).action.kind == "continue"


@pytest.mark.parametrize(
    ("metrics", "suspect"),
    [
        ({"completion/truncated_rate": 0.9, "reason/truncated": 0.9, "reason/wrong": 0.1}, "max_tokens: 90%"),
        ({"reason/not_extracted": 0.8, "reason/wrong": 0.2}, "form: 80%"),
        ({"completion/distinct_rate": 0.13}, "samples: only 13%"),
    ],
)
def test_a_stop_names_first_what_the_steps_show_clearest(metrics: dict[str, float], suspect: str) -> None:
    tried = (make_change(8, "focus", None, 0.95), make_change(15, "temperature", 1.4, 1.5))
    knobs = Knobs(focus=0.95, temperature=1.5, max_tokens=4096)
    night = make_snapshot(make_steps(30, STRICT | metrics), decisions=tried, knobs=knobs)
    decision = RulesPolicy().decide(night)
    assert f"likeliest {suspect}" in decision.evidence
    assert decision.evidence.index("data: no completion was right") < decision.evidence.index("model: take a stronger")


def test_a_model_that_never_ends_is_not_warmed_and_is_what_the_stop_names() -> None:
    snapshot, _ = FAULTS["never_ends"]
    dry = {"group/mixed_rate": 0.0, "group/all_zero_rate": 1.0, "group/unsolved_rate": 1.0}
    steps = [*snapshot.steps, *(replace(s, step=s.step + 12) for s in snapshot.steps)]
    steps += [replace(snapshot.steps[-1], step=step) for step in range(25, 41)]
    back = make_change(13, "max_tokens", 144, 64)
    night = make_snapshot(
        [replace(s, metrics=dict(s.metrics) | dry) for s in steps], knobs=Knobs(max_tokens=64, focus=0.95),
        decisions=(*snapshot.decisions, back),
    )  # fmt: skip
    decision = decide(night)
    assert decision.action.kind == "stop"
    assert "likeliest the model never ends: 90% of the completions are cut at any max_tokens" in decision.evidence


def test_a_night_in_which_all_is_paid_takes_samples_and_stops() -> None:
    paid = SOLVED | {"group/mixed_rate": 0.0, "group/all_one_rate": 1.0, "group/all_zero_rate": 0.0}
    looks = (make_look(0, 0.5), make_look(29, 0.9))
    night = make_snapshot(make_steps(30, paid), knobs=Knobs(focus=0.05), evaluations=looks)
    assert decide(night).action.kind == "sample"
    sampled = replace(night, decisions=(make_decision_record(31, "sample"),))
    decision = decide(sampled)
    assert (decision.action.kind, "the pool is solved" in decision.evidence) == ("stop", True)


def test_identical_samples_are_warmed_as_far_as_the_bounds_allow_then_other_prompts_are_drawn() -> None:
    alike = {
        "completion/distinct_rate": 0.13, "group/no_signal_rate": 1.0, "group/unsolved_rate": 0.5,
        "group/all_zero_rate": 0.4, "group/all_one_rate": 0.4, "group/mixed_rate": 0.2,
    }  # fmt: skip
    cool = replace(make_snapshot(make_steps(8, alike)), bounds=DEFAULT_BOUNDS)
    assert RulesPolicy().decide(cool).action.changes == {"temperature": 1.5}
    warm = replace(at(Knobs(temperature=1.5), make_steps(8, alike)), bounds=DEFAULT_BOUNDS)
    assert RulesPolicy().decide(warm).action.changes == {"focus": 0.5}


def test_prompts_of_two_kinds_that_nothing_helped_end_the_night() -> None:
    apart = {"group/all_zero_rate": 0.48, "group/all_one_rate": 0.4, "group/mixed_rate": 0.12,
             "group/unsolved_rate": 0.48, "group/solved_rate": 0.4, "completion/distinct_rate": 0.4}  # fmt: skip
    tried = tuple(
        judged(make_change(step, knob, old, new), "unclear")
        for step, knob, old, new in ((5, "focus", None, 0.5), (12, "group_size", 8, 16), (20, "temperature", 1.0, 1.25))
    )
    knobs = Knobs(focus=0.5, group_size=16, temperature=1.25)
    looks = (make_look(0, 0.5), make_look(30, 0.5))
    night = make_snapshot(make_steps(30, apart), decisions=tried, knobs=knobs, evaluations=looks)
    decision = decide(night)
    assert decision.action.kind == "stop"
    assert (
        "likeliest data: prompts are of two kinds, 48% of the groups all wrong and 40% all right" in decision.evidence
    )
    learned = replace(night, evaluations=(looks[0], make_look(30, 0.7)))
    assert decide(learned).action.kind != "stop"


def test_dev_is_evaluated_once_between_two_evaluations_that_were_due() -> None:
    solved, focus = make_steps(24, SOLVED), Knobs(focus=0.05)
    looks = (make_look(0, 0.5), make_look(20, 0.6))
    assert decide(make_snapshot(solved, evaluations=looks, knobs=focus)).action.kind == "evaluate"
    asked = (make_decision_record(22, "evaluate"),)
    again = (*looks, make_look(21, 0.6))
    assert decide(make_snapshot(solved, evaluations=again, decisions=asked, knobs=focus)).action.kind == "continue"
    due = (*again, make_look(24, 0.6))
    late = make_snapshot(make_steps(28, SOLVED), evaluations=due, decisions=asked, knobs=focus)
    assert decide(late).action.kind == "evaluate"


def test_a_pool_that_a_graded_reward_calls_solved_is_good_by_its_range() -> None:
    graded = make_run_record(graded=True, reward_range=(0.0, 10.0))
    look = replace(make_look(10, 0.0), score=9.8)
    assert decide(make_snapshot(make_steps(10, SOLVED), evaluations=(look,), run=graded)).action.kind == "stop"
    look = replace(look, score=5.0)
    assert decide(make_snapshot(make_steps(10, SOLVED), evaluations=(look,), run=graded)).action.kind == "focus"


def test_a_clock_never_shows_in_a_decision() -> None:
    assert "slow_sampling" not in decide(FAULTS["slow_sampling"][0]).evidence


# ---------------------------------------------------------------- restraint


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50])
def test_a_healthy_run_continues_with_evidence(steps: int) -> None:
    looks = tuple(make_look(step, 0.3 + step / 200) for step in range(0, steps + 1, 10))
    decision = decide(make_snapshot(make_steps(steps), evaluations=looks))
    assert decision.action.kind == "continue"
    assert "reward/mean 0.50" in decision.evidence


def test_before_the_first_step_there_is_nothing_to_judge() -> None:
    decision = decide(make_snapshot())
    assert (decision.action.kind, decision.evidence) == ("continue", "no step under the present hyperparameters yet")


@pytest.mark.parametrize("kind", ["truncation", "kl_spike", "chaos", "anchored", "no_op_learning_rate", "small_groups"])
def test_a_pinned_knob_is_left_alone(kind: str) -> None:
    snapshot = FAULTS[kind][0]
    (knob,) = decide(snapshot).action.changes
    assert knob not in decide(replace(snapshot, pins=frozenset({knob}))).action.changes


def test_a_rollback_leaves_a_pinned_knob_as_the_person_set_it() -> None:
    pinned = replace(FAULTS["dev_drop"][0], pins=frozenset({"learning_rate"}))
    assert (decide(pinned).action.kind, dict(decide(pinned).action.changes)) == ("rollback", {})


def test_no_rollback_without_its_checkpoint() -> None:
    snapshot = replace(FAULTS["dev_drop"][0], bounds=WIDE)
    assert RulesPolicy().decide(snapshot).action.kind == "continue"


@pytest.mark.parametrize("later", [3, MEASURED_AFTER])
def test_while_a_change_is_measured_no_other_follows_unless_it_is_urgent(later: int) -> None:
    other = (make_change(11, "beta", 0.0, 0.05),)
    anchored = at(Knobs(beta=0.5), make_steps(10 + later))
    other = (make_change(11, "temperature", 0.9, 1.0),)
    measuring = replace(anchored, decisions=other)
    assert decide(measuring).action.kind == ("set" if later == MEASURED_AFTER else "continue")
    cut = make_snapshot(make_steps(13, CUT), decisions=other)
    assert decide(cut).action.changes == {"max_tokens": 96}
    told = (judged(other[0], "helped"),)
    assert decide(replace(measuring, decisions=told)).action.kind == "set"


@pytest.mark.parametrize(("done", "kind"), [(10 + COOL_DOWN - 2, "continue"), (10 + COOL_DOWN - 1, "set")])
def test_a_knob_rests_after_its_change(done: int, kind: str) -> None:
    changed = (judged(make_change(10, "beta", 1.0, 0.5), "helped"),)
    anchored = replace(at(Knobs(beta=0.5), make_steps(done)), decisions=changed)
    assert decide(anchored).action.kind == kind


def test_numbers_that_overflow_right_after_a_change_are_answered_at_once() -> None:
    raised = (make_change(4, "learning_rate", 1e-4, 1e-2),)
    snapshot = replace(FAULTS["not_finite"][0], knobs=Knobs(learning_rate=1e-2), decisions=raised)
    assert decide(snapshot).action.changes == {"learning_rate": 5e-3}


def test_a_change_that_hurt_is_not_made_again_from_the_same_value() -> None:
    hurt = (judged(make_change(1, "beta", 0.5, 0.05), "hurt"), judged(make_change(7, "beta", 0.05, 0.5), "unclear"))
    anchored = replace(at(Knobs(beta=0.5), make_steps(60)), decisions=hurt)
    assert decide(anchored).action.kind == "continue"
    elsewhere = replace(anchored, knobs=Knobs(beta=0.9))
    assert "beta" in decide(elsewhere).action.changes


@pytest.mark.parametrize("rest", [UNCLEAR_REST - 1, UNCLEAR_REST])
def test_an_unclear_change_rests_long(rest: int) -> None:
    unclear = (judged(make_change(5, "learning_rate", 1e-5, 1e-4), "unclear"),)
    still = make_snapshot(series(5 + rest - 1, kl__mean=1e-7), decisions=unclear)
    assert decide(still).action.kind == ("set" if rest == UNCLEAR_REST else "continue")


def test_an_unclear_change_is_compared_side_by_side_where_the_budget_allows_it_once() -> None:
    unclear = (judged(make_change(5, "learning_rate", 1e-5, 1e-4), "unclear"),)
    look = make_look(12, 0.5)
    long = make_run_record(budget_steps=200)
    still = make_snapshot(series(12, kl__mean=1e-7), decisions=unclear, evaluations=(look,), run=long)
    asked = decide(still)
    assert asked.action == Action("branch", argument="6 learning_rate=0.01")
    assert "step 5 left it unclear" in asked.hypothesis
    short = replace(still, run=replace(long, budget_steps=60))
    assert decide(short).action.kind == "continue", "the arm that is not kept would take too much of what is left"
    arm = replace(judged(make_change(19, "learning_rate", 1e-4, 1e-3), "unclear"), action="branch", argument="arm 1")
    back = replace(make_change(25, "learning_rate", 1e-3, 1e-4), action="branch", argument="keep 0")
    after = replace(still, steps=tuple(series(30, kl__mean=1e-7)), steps_done=30, decisions=(*unclear, arm, back))
    assert decide(after).action.kind == "continue"


def test_steps_grow_after_a_change_that_helped_and_shrink_after_one_that_did_not() -> None:
    def next_rate(verdict: str) -> Any:
        lowered = (judged(make_change(2, "learning_rate", 2e-4, 1e-4), verdict),)
        spiking = series(40, kl__mean=lambda s: 0.6 if s >= 39 else 0.01)
        return decide(make_snapshot(spiking, decisions=lowered)).action.changes["learning_rate"]

    assert next_rate("helped") == pytest.approx(1e-4 * 0.5**1.5, rel=1e-3)
    assert next_rate("unclear") == pytest.approx(1e-4 * 0.5**0.5, rel=1e-3)


def test_a_healthy_step_of_a_person_is_not_second_guessed() -> None:
    back = make_decision_record(21, "rollback", argument=10, source="manual")
    assert decide(make_snapshot(make_steps(20), step=10, decisions=(back,))).action.kind == "continue"


# ---------------------------------------------------------------- of every proposal

KNOBS = st.sampled_from(["temperature", "max_tokens", "learning_rate", "focus", "group_size", "beta"])
METRICS = st.sampled_from(sorted(set(HEALTHY) - {"learning_rate", "time/step_s"}))


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    base = draw(st.sampled_from([snapshot for snapshot, _ in FAULTS.values()]))
    noise = draw(st.dictionaries(METRICS, st.floats(0.0, 1.0), max_size=3))
    steps = [make_step(s.step, {**s.metrics, **noise}) for s in base.steps]
    changes = draw(
        st.lists(st.tuples(st.integers(1, 20), KNOBS, st.sampled_from([None, "helped", "hurt"])), max_size=3)
    )
    decisions = tuple(
        replace(make_change(step, knob), verdict=verdict)
        for step, knob, verdict in sorted(changes, key=lambda c: c[0])
        if step <= base.steps_done
    )
    knobs = Knobs(
        temperature=draw(st.floats(0.3, 1.5)),
        max_tokens=draw(st.integers(4, 4096)),
        learning_rate=draw(st.floats(1e-7, 1e-2)),
        group_size=draw(st.sampled_from([2, 8, 64])),
        beta=draw(st.sampled_from([0.0, 0.5])),
        focus=draw(st.none() | st.floats(0.05, 0.95)),
    )
    pins = draw(st.frozensets(KNOBS, max_size=2))
    return replace(base, steps=tuple(steps), knobs=knobs, pins=pins, decisions=decisions, checkpoints=CHECKPOINTS)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(snapshots())
def test_every_proposal_is_allowed_has_evidence_and_changes_one_knob(snapshot: Snapshot) -> None:
    proposals = propose(snapshot, detect(snapshot))
    assert len(proposals) <= len(RULES)
    assert RulesPolicy().decide(snapshot) == proposals[0] if proposals else True
    for decision in proposals:
        changes = dict(decision.action.changes)
        assert decision.evidence
        assert not set(changes) & snapshot.pins
        after, _ = apply_changes(snapshot.knobs, changes, snapshot.bounds)  # raises when out of bounds
        if decision.action.kind in ("set", "focus"):
            assert len(changes) == 1
            assert after != snapshot.knobs


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(snapshots(), snapshots())
def test_a_decision_is_a_function_of_the_snapshot_alone(snapshot: Snapshot, other: Snapshot) -> None:
    policy = RulesPolicy()
    first = policy.decide(snapshot)
    policy.decide(other)
    assert policy.decide(copy.deepcopy(snapshot)) == first == RulesPolicy().decide(snapshot)
