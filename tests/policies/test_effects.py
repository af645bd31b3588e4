"""What a change did: verdicts, their intervals, and what is undone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.core.actions import Expectation, parse_expected
from harness.types import DecisionRecord, Knobs, Snapshot, StepRecord, Verdict
from policies.effects import AFTER, LOOK_WITHIN, EffectJudge
from policies.question import build_tool
from tests.support.builders import (
    make_change,
    make_checkpoint,
    make_decision_record,
    make_look,
    make_pair,
    make_snapshot,
    make_step,
)

MIXED = "group/mixed_rate"


def change(step: int, knob: str = "beta", old: float = 0.0, new: float = 0.05, **values: Any) -> DecisionRecord:
    return replace(make_change(step, knob, old, new), **{"id": step, "expected": f"{MIXED} rises"} | values)


def run(n: int, step: int, before: float, after: float, metric: str = MIXED, **knobs: Any) -> tuple[StepRecord, ...]:
    """Steps with a little noise whose metric moves at ``step``."""
    noise = (0.03, -0.03, 0.01, -0.01)
    return tuple(
        make_step(
            s, {metric: (after if s >= step else before) + noise[s % 4]}, knobs=Knobs(prompts_per_step=64, **knobs)
        )
        for s in range(1, n + 1)
    )


def judge(snapshot: Snapshot) -> tuple[Verdict, ...]:
    return EffectJudge().judge(snapshot)


def after_change(before: float, after: float, *, metric: str = MIXED, n: int = 16, **values: Any) -> Snapshot:
    made = change(11, **values)
    knobs = {knob: ends["to"] for knob, ends in made.changes.items()}
    steps = run(n, 11, before, after, metric)
    return make_snapshot(steps, decisions=(made,), knobs=Knobs(prompts_per_step=64, **knobs))


def test_a_change_that_expects_nothing_in_words_is_judged_by_rewards() -> None:
    (verdict,) = judge(after_change(0.0, -0.3, metric="reward/adjusted", expected="better"))
    assert verdict.verdict == "hurt"
    assert verdict.measured.startswith("reward/adjusted -0.002 -> -0.297, ")


def test_whatever_the_llm_may_expect_is_judged_as_that() -> None:
    expected = build_tool(make_snapshot())["input_schema"]["properties"]["expected"]["properties"]
    for metric in expected["metric"]["enum"]:
        assert parse_expected(f"{metric} falls") == (Expectation(metric, "falls"),)


@pytest.mark.parametrize(
    ("before", "after", "expected", "verdict"),
    [
        (0.3, 0.7, "rises", "helped"),
        (0.3, 0.7, "falls", "hurt"),
        (0.7, 0.3, "rises", "hurt"),
        (0.7, 0.3, "falls", "helped"),
        (0.5, 0.52, "rises", "unclear"),
    ],
)
def test_a_verdict_is_where_the_metric_went(before: float, after: float, expected: str, verdict: str) -> None:
    (found,) = judge(after_change(before, after, expected=f"{MIXED} {expected}"))
    assert (found.decision_id, found.verdict) == (11, verdict)
    assert f"{MIXED} {before - 0.002:.3g} -> {after + 0.003:.3g}, " in found.measured, "the noise does not quite cancel"
    assert "steps 11-16 after 1-10" in found.measured
    assert "[" in found.measured, "with its interval"


def test_going_on_with_the_trend_is_no_effect() -> None:
    rising = tuple(
        make_step(s, {MIXED: 0.1 + 0.03 * s + (0.02 if s % 2 else -0.02)}, knobs=Knobs(prompts_per_step=64))
        for s in range(1, 19)
    )
    (found,) = judge(make_snapshot(rising, decisions=(change(13),), knobs=Knobs(beta=0.05)))
    assert found.verdict == "unclear"


def test_few_prompts_make_an_effect_unclear_that_many_make_clear() -> None:
    many = after_change(0.5, 0.75)
    few = replace(many, steps=tuple(replace(s, knobs=replace(s.knobs, prompts_per_step=4)) for s in many.steps))
    assert [judge(snapshot)[0].verdict for snapshot in (many, few)] == ["helped", "unclear"]


def test_a_change_waits_for_its_steps_or_the_next_change() -> None:
    early = after_change(0.3, 0.7, n=11 + AFTER - 2)
    assert judge(early) == ()
    overtaken = replace(early, decisions=(*early.decisions, change(15, "temperature", 1.0, 0.9)))
    (found,) = judge(overtaken)
    assert found.decision_id == 11
    assert "steps 11-14" in found.measured


@pytest.mark.parametrize(
    "values", [{"verdict": "helped"}, {"refused": "pinned"}, {"action": "evaluate", "changes": {}}], ids=str
)
def test_what_is_judged_refused_or_no_change_is_not_judged(values: dict[str, Any]) -> None:
    assert judge(after_change(0.3, 0.7, **values)) == ()


def test_a_change_before_the_first_step_has_nothing_to_compare_with() -> None:
    snapshot = make_snapshot(run(8, 1, 0.5, 0.5), decisions=(change(1),))
    (found,) = judge(snapshot)
    assert (found.verdict, found.revert) == ("unclear", None)
    assert "no steps before" in found.measured


# ---------------------------------------------------------------- what hurt is undone


def test_what_hurt_is_undone_by_an_experiment() -> None:
    (found,) = judge(after_change(0.7, 0.3))
    assert found.revert is not None
    assert (found.revert.source, found.revert.action.kind) == ("experiment", "set")
    assert found.revert.action.changes == {"beta": 0.0}
    assert found.measured in found.revert.evidence


def test_a_focus_goes_back_to_the_sampler() -> None:
    snapshot = after_change(0.7, 0.3, knob="focus", old=None, new=0.65)
    revert = judge(snapshot)[0].revert
    assert revert is not None
    assert (revert.action.kind, revert.action.changes) == ("focus", {"focus": None})


@pytest.mark.parametrize("source", ["rules", "manual", "llm", "agent"])
def test_a_pinned_knob_stays_whoever_set_it(source: Any) -> None:
    snapshot = after_change(0.7, 0.3, source=source)
    assert judge(snapshot)[0].revert is not None
    (found,) = judge(replace(snapshot, pins=frozenset({"beta"})))
    assert (found.verdict, found.revert) == ("hurt", None)


def test_what_was_changed_again_meanwhile_a_revert_and_a_lower_learning_rate_stay() -> None:
    snapshot = after_change(0.7, 0.3)
    assert judge(replace(snapshot, knobs=Knobs(beta=0.2)))[0].revert is None
    assert judge(after_change(0.7, 0.3, source="experiment"))[0].revert is None
    assert judge(after_change(0.7, 0.3, knob="learning_rate", old=1e-3, new=1e-4))[0].revert is None
    assert judge(after_change(0.7, 0.3, knob="learning_rate", old=1e-4, new=1e-3))[0].revert is not None


def test_rewards_below_what_the_same_prompts_gave_are_harm_but_not_after_a_temperature() -> None:
    def verdict(knob: str, old: float, new: float) -> str:
        snapshot = after_change(0.0, -0.3, metric="reward/adjusted", knob=knob, old=old, new=new)
        return judge(snapshot)[0].verdict

    assert verdict("learning_rate", 1e-4, 1e-3) == "hurt"
    assert verdict("temperature", 0.1, 1.0) == "unclear"


# ---------------------------------------------------------------- dev, prompt by prompt


def with_dev(snapshot: Snapshot, gained: int, lost: int, *, before: int = 10, after: int = 16) -> Snapshot:
    looks = (make_look(before, 0.5), make_look(after, 0.5 + (gained - lost) / 200))
    return replace(
        snapshot,
        evaluations=looks,
        paired_dev=(make_pair(before, after, 200, gained, lost),),
        checkpoints=(make_checkpoint(before),),
    )


def test_weights_go_back_only_on_paired_dev_evidence() -> None:
    snapshot = after_change(0.5, 0.5)
    (found,) = judge(with_dev(snapshot, 5, 40))
    assert found.verdict == "hurt"
    assert "5 of 200 prompts gained and 40 lost" in found.measured
    assert found.revert is not None
    assert (found.revert.action.kind, found.revert.action.argument) == ("rollback", 10)
    assert found.revert.action.changes == {"beta": 0.0}
    assert judge(with_dev(snapshot, 15, 20))[0].verdict == "unclear"
    elsewhere = replace(with_dev(snapshot, 5, 40), checkpoints=())
    assert judge(elsewhere)[0].revert.action.kind == "set"  # type: ignore[union-attr]


def test_what_dev_lost_before_a_change_is_not_its_doing() -> None:
    assert judge(with_dev(after_change(0.5, 0.5), 5, 40, before=0))[0].verdict == "unclear"


def test_a_rollback_is_judged_on_dev_alone_and_never_undone() -> None:
    back = make_decision_record(21, "rollback", argument=10, id=21, expected="dev rises back to its best")
    steps = (*run(10, 99, 0.5, 0.5), *(make_step(s, parent=10 if s == 21 else None) for s in range(21, 31)))
    waiting = make_snapshot(steps, decisions=(back,), evaluations=(make_look(10, 0.8), make_look(20, 0.5)))
    assert judge(waiting) == ()
    looked = replace(
        waiting, evaluations=(*waiting.evaluations, make_look(30, 0.8)), paired_dev=(make_pair(20, 30, 200, 65, 5),)
    )
    (found,) = judge(looked)
    assert (found.verdict, found.revert) == ("helped", None)
    forgotten = replace(waiting, steps_done=21 + LOOK_WITHIN)
    assert judge(forgotten)[0].verdict == "unclear"


def test_steps_that_a_rollback_left_say_nothing() -> None:
    back = make_decision_record(14, "rollback", argument=10, id=14)
    steps = (*run(10, 99, 0.5, 0.5), make_step(14, parent=10))
    verdicts = judge(make_snapshot(steps, decisions=(change(11), back)))
    assert [(v.decision_id, v.verdict) for v in verdicts] == [(11, "unclear")]
    assert "no steps after" in verdicts[0].measured


def test_changes_that_were_made_at_once_cannot_be_told_apart_and_are_undone_together() -> None:
    first = change(11, "beta", 0.0, 0.05, id=1, source="manual")
    second = change(11, "temperature", 1.0, 1.4, id=2, source="manual")
    steps = run(16, 11, 0.7, 0.3)
    snapshot = make_snapshot(
        steps, decisions=(first, second), knobs=Knobs(prompts_per_step=64, beta=0.05, temperature=1.4)
    )
    one, other = judge(snapshot)
    assert (one.verdict, other.verdict) == ("confounded", "confounded")
    assert one.measured.startswith("2 changes were made at once, so this is of all: group/mixed_rate 0.698 -> ")
    assert one.revert is None
    assert other.revert is not None
    assert other.revert.action.changes == {"beta": 0.0, "temperature": 1.0}


def test_the_interval_of_a_rate_stays_within_what_two_rates_can_differ_by() -> None:
    steps = run(12, 11, 0.9, 0.05)
    made = replace(change(11), step=11)
    later = change(13, "focus", 0.5, 0.6)
    found, *_ = judge(make_snapshot(steps, decisions=(made, later), knobs=Knobs(prompts_per_step=64, beta=0.05)))
    low, high = (float(end) for end in found.measured.split("[")[1].split("]")[0].split(", "))
    assert -1 <= low <= high <= 1
