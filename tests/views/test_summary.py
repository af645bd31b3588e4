"""A stranger's three questions, answered from numbers where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.core.statistics import compute_wilson
from harness.types import EvaluationRecord
from harness.views.summary import compute_effect, did_it_help, format_decision, is_it_learning, is_it_stuck
from tests.support.builders import (
    make_change,
    make_decision_record,
    make_look,
    make_pair,
    make_snapshot,
    make_step,
    make_steps,
)

MEASURED = (
    "completion/truncated_rate 0.5 -> 0.02, -0.48 [-0.6, -0.36] against the forecast, steps 5-9 after 1-4; "
    "dev +0.120 [+0.04, +0.2] from step 0 to 8, 30 of 200 prompts gained and 6 lost"
)


def looks(*accuracies: float, every: int = 10) -> tuple[EvaluationRecord, ...]:
    return tuple(make_look(every * i, accuracy) for i, accuracy in enumerate(accuracies))


@pytest.mark.parametrize(
    ("accuracies", "word"),
    [
        ((), "NOT MEASURED"),
        ((0.4,), "TOO EARLY"),
        ((0.40, 0.42), "NOT YET"),
        ((0.40, 0.60), "LEARNING"),
        ((0.40, 0.55, 0.70, 0.80, 0.92), "LEARNING"),
        ((0.40, 0.90, 0.91, 0.90, 0.91, 0.90), "LEARNED"),
        ((0.40, 0.90, 0.70), "FALLING"),
    ],
)
def test_whether_it_learns_is_told_by_dev_against_its_noise(accuracies: tuple[float, ...], word: str) -> None:
    snapshot = make_snapshot(make_steps(10 * len(accuracies)), evaluations=looks(*accuracies))
    assert is_it_learning(snapshot).word == word


@pytest.mark.parametrize(
    ("gained", "lost", "word"), [(0, 4, "NOT YET"), (0, 5, "NOT YET"), (0, 6, "FALLING"), (5, 9, "NOT YET")]
)
def test_a_fall_from_a_perfect_score_is_told_by_the_prompts_that_were_lost(gained: int, lost: int, word: str) -> None:
    after = 1.0 + (gained - lost) / 200
    snapshot = make_snapshot(
        make_steps(10), evaluations=looks(1.0, after), paired_dev=(make_pair(0, 10, 200, gained, lost),)
    )
    answer = is_it_learning(snapshot)
    assert answer.word == word
    if lost == 4:
        assert answer.text == ("dev 1.000 -> 0.980: -0.020 [-0.043, +0.004] prompt by prompt, no gain beyond noise"), (
            "the exact test gives p = 0.125"
        )


@pytest.mark.parametrize("score", [0.0, 1.0])
@pytest.mark.parametrize("paired", [True, False])
def test_a_score_of_0_or_1_has_noise_too(score: float, paired: bool) -> None:
    n = 200
    evaluations = tuple(replace(make_look(step, score), ci95=compute_wilson(round(score * n), n)) for step in (0, 10))
    pairs = (make_pair(0, 10, n, 0, 0),) if paired else ()
    answer = is_it_learning(make_snapshot(make_steps(10), evaluations=evaluations, paired_dev=pairs))
    assert answer.word == "NOT YET"
    assert "[-0.01" in answer.text
    assert "+0.01" in answer.text


def test_pairs_tell_a_gain_that_two_samples_would_not() -> None:
    evaluations = looks(0.50, 0.55)
    pairs = (make_pair(0, 10, 200, 10, 0),)
    assert is_it_learning(make_snapshot(make_steps(10), evaluations=evaluations)).word == "NOT YET"
    assert is_it_learning(make_snapshot(make_steps(10), evaluations=evaluations, paired_dev=pairs)).word == "LEARNING"


@pytest.mark.parametrize(
    ("metrics", "word", "why"),
    [
        ({}, "NO", "all-one 10%"),
        ({"group/mixed_rate": 0.3, "group/all_zero_rate": 0.6}, "PARTLY", "too hard"),
        ({"group/mixed_rate": 0.05, "group/all_one_rate": 0.95, "group/all_zero_rate": 0.0}, "YES", "too easy"),
        ({"group/mixed_rate": 0.0, "group/flat_rate": 0.9}, "YES", "only the form is paid"),
        ({"group/mixed_rate": 0.0, "group/all_zero_rate": 1.0, "completion/truncated_rate": 1.0}, "YES", "are cut"),
        ({"completion/errored_rate": 0.05}, "REWARD FAILS", "on 5% of the completions"),
    ],
)
def test_whether_it_is_stuck_is_told_by_its_groups_with_the_reason(
    metrics: dict[str, float], word: str, why: str
) -> None:
    answer = is_it_stuck(make_snapshot(make_steps(10, metrics)))
    assert answer.word == word
    assert why in answer.text


def test_groups_that_teach_while_dev_is_level_are_a_plateau() -> None:
    level = looks(0.40, 0.90, 0.91, 0.90, 0.91, 0.90)
    answer = is_it_stuck(make_snapshot(make_steps(60), evaluations=level))
    assert answer.word == "PLATEAU"
    assert answer.text.startswith("dev is level since step 10; ")
    assert is_it_stuck(make_snapshot(make_steps(60), evaluations=level[:3])).word == "NO"


def test_the_test_scores_are_told_when_it_has_ended() -> None:
    tests = (replace(make_look(0, 0.4), split="test"), replace(make_look(10, 0.8), split="test"))
    running = make_snapshot(make_steps(10), evaluations=(*looks(0.40, 0.85), *tests))
    assert "test" not in is_it_learning(running).text
    ended = replace(running, run=replace(running.run, status="finished"))
    assert is_it_learning(ended).text.endswith("; test 0.400 -> 0.800")


def test_a_verdict_on_record_is_what_is_told() -> None:
    change = replace(make_change(5, "max_tokens", 20, 30), verdict="helped", measured=MEASURED)
    answer = did_it_help(make_snapshot(make_steps(9), decisions=(change,)))
    assert (answer.word, answer.text) == (
        "HELPED",
        "max_tokens 20 -> 30 at step 5 by rules; truncated 50% -> 2%, dev +0.120",
    )


def test_until_there_is_a_verdict_what_the_change_expects_is_measured() -> None:
    cut = {"completion/truncated_rate": 0.5}
    steps = (*make_steps(4, cut), *make_steps(4, first=5))
    change = replace(make_change(5, "max_tokens", 20, 30), expected="completion/truncated_rate falls")
    answer = did_it_help(make_snapshot(steps, decisions=(change,)))
    assert answer.word == "AS EXPECTED SO FAR"
    assert "truncated 50% -> 2%" in answer.text
    worse = did_it_help(make_snapshot(steps, decisions=(replace(change, expected="completion/truncated_rate rises"),)))
    assert worse.word == "NOT AS EXPECTED SO FAR"


def test_a_change_that_expects_nothing_in_particular_is_not_judged_by_eye() -> None:
    steps = (*make_steps(4), make_step(5, {"reward/adjusted": 0.05}))
    answer = did_it_help(make_snapshot(steps, decisions=(make_change(5, "temperature"),)))
    assert answer.word == "NOT JUDGED YET"
    assert "adjusted +0.010 -> +0.050" in answer.text


def test_what_a_change_did_is_measured_between_its_neighbours() -> None:
    steps = tuple(make_step(step, {"reward/adjusted": float(step)}) for step in range(1, 10))
    first, second, third = (make_change(step, "temperature") for step in (3, 6, 8))
    effect = compute_effect(make_snapshot(steps, decisions=(first, second, third)), second)
    assert effect is not None
    assert (effect.before, effect.after) == (4.0, 6.5)


def test_what_a_branch_kept_was_compared_and_is_not_judged_again() -> None:
    kept = replace(make_change(5, "beta"), action="branch", argument="keep 0: as it is", evidence="dev after 6 steps")
    answer = did_it_help(make_snapshot(make_steps(9), decisions=(kept,)))
    assert (answer.word, answer.text) == (
        "COMPARED",
        "branch keep 0: as it is at step 5 by rules; dev after 6 steps",
    )


@pytest.mark.parametrize(
    "decisions", [(), (make_decision_record(3, "evaluate"),), (replace(make_change(3, "beta"), refused="no"),)]
)
def test_looks_and_refusals_are_no_changes(decisions: tuple[object, ...]) -> None:
    assert did_it_help(make_snapshot(make_steps(5), decisions=decisions)).word == "NO CHANGE YET"


def test_decisions_are_told_as_changes_or_verbs() -> None:
    assert format_decision(make_change(1, "focus", None, 0.65)) == "focus unset -> 0.65"
    assert format_decision(make_decision_record(1, "rollback", argument=40)) == "rollback 40"
    assert format_decision(make_decision_record(1, "evaluate")) == "evaluate"
    back = make_decision_record(1, "rollback", argument=4, changes={"beta": {"from": 0.1, "to": 0.0}})
    assert format_decision(back) == "rollback 4, beta 0.1 -> 0"
