from __future__ import annotations

import math
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.step_metrics import compute_kind, compute_signal, reason_of, select_samples
from harness.types import Completion, Group, Score
from tests.support.builders import make_completion, make_group, make_prompt

UNIT = (0.0, 1.0)


NOTHING_EXPECTED: defaultdict[str, float] = defaultdict(float)


@pytest.mark.parametrize(
    ("rewards", "kind"),
    [
        ((0.0, 1.0), "mixed"),
        ((0.0, 0.0), "all_zero"),
        ((1.0, 1.0), "all_one"),
        ((0.1, 0.1), "flat"),
        ((None, None), "errored"),
        ((None, 0.0), "all_zero"),
        ((None, 0.0, 1.0), "mixed"),
    ],
)
def test_kinds_of_groups(rewards: tuple[float | None, ...], kind: str) -> None:
    assert compute_kind(make_group(*rewards), UNIT) == kind


def test_the_ends_are_those_of_the_declared_range() -> None:
    assert compute_kind(make_group(0.0, 0.0), (-1.0, 1.0)) == "flat"
    assert compute_kind(make_group(-1.0, -1.0), (-1.0, 1.0)) == "all_zero"


def test_rates_are_shares_of_groups() -> None:
    groups = [make_group(0.0, 1.0), make_group(0.0, 0.0), make_group(1.0, 1.0), make_group(0.1, 0.1)]
    metrics = compute_signal(groups, UNIT, NOTHING_EXPECTED)
    assert metrics["group/mixed_rate"] == 0.25
    assert metrics["group/all_zero_rate"] == 0.25
    assert metrics["group/all_one_rate"] == 0.25
    assert metrics["group/flat_rate"] == 0.25
    assert metrics["group/no_signal_rate"] == 0.75
    assert metrics["group/solved_rate"] == 0.25
    assert metrics["group/unsolved_rate"] == 0.5
    assert metrics["completion/correct_rate"] == 3 / 8


def test_a_mixed_group_of_wrong_completions_has_signal_and_is_unsolved() -> None:
    metrics = compute_signal([make_group(0.0, 0.1)], UNIT, NOTHING_EXPECTED)
    assert metrics["group/mixed_rate"] == 1.0
    assert metrics["group/unsolved_rate"] == 1.0


def test_errored_completions_are_not_in_the_mean() -> None:
    metrics = compute_signal([make_group(1.0, None, None, None)], UNIT, NOTHING_EXPECTED)
    assert metrics["reward/mean"] == 1.0
    assert metrics["completion/errored_rate"] == 0.75
    assert metrics["group/solved_rate"] == 0.0


def test_a_step_without_one_judged_completion_still_has_numbers() -> None:
    metrics = compute_signal([make_group(None, None)], UNIT, NOTHING_EXPECTED)
    assert metrics["completion/errored_rate"] == 1.0
    assert metrics["group/no_signal_rate"] == 0.0
    assert all(math.isfinite(value) for value in metrics.values())


def test_adjusted_reward_is_what_the_prompt_gave_beyond_expectation() -> None:
    easy, hard = make_prompt("easy"), make_prompt("hard")
    groups = [make_group(1.0, 1.0, prompt=easy), make_group(0.0, 1.0, prompt=hard)]
    metrics = compute_signal(groups, UNIT, {"easy": 0.75, "hard": 0.25})
    assert metrics["reward/mean"] == 0.75
    assert metrics["reward/adjusted"] == pytest.approx(0.25)


def test_lengths_truncation_and_variety() -> None:
    completions = (
        make_completion(0.0, text="aaaa", truncated=True),
        make_completion(0.0, text="aaaa", truncated=True),
        make_completion(1.0, text="bb"),
        make_completion(1.0, text="cc"),
    )
    metrics = compute_signal([Group(make_prompt(), completions)], UNIT, NOTHING_EXPECTED)
    assert metrics["completion/tokens_mean"] == 3.0
    assert metrics["completion/tokens_max"] == 4.0
    assert metrics["completion/tokens"] == 12.0
    assert metrics["completion/truncated_rate"] == 0.5
    assert metrics["completion/distinct_rate"] == 0.75
    assert metrics["reason/truncated"] == 0.5
    assert metrics["reason/right"] == 0.5


def test_components_are_averaged_by_name() -> None:
    scores = (Score(1.0, True, "right", {"exact": 1.0}), Score(0.0, False, "wrong", {"exact": 0.0, "format": 1.0}))
    group = Group(make_prompt(), tuple(Completion("t", 1, False, score) for score in scores))
    metrics = compute_signal([group], UNIT, NOTHING_EXPECTED)
    assert (metrics["component/exact"], metrics["component/format"]) == (0.5, 0.5)


@given(st.lists(st.lists(st.sampled_from([None, 0.0, 0.1, 0.5, 1.0]), min_size=1, max_size=6), min_size=1, max_size=8))
def test_the_parts_of_a_step_add_up(rewards: list[list[float | None]]) -> None:
    metrics = compute_signal([make_group(*row) for row in rewards], UNIT, NOTHING_EXPECTED)
    parts = sum(metrics[f"group/{part}_rate"] for part in ("all_zero", "all_one", "flat"))
    wholly_errored = sum(all(reward is None for reward in row) for row in rewards) / len(rewards)
    assert metrics["group/no_signal_rate"] == pytest.approx(parts)
    assert metrics["group/mixed_rate"] + parts + wholly_errored == pytest.approx(1.0)
    assert sum(value for name, value in metrics.items() if name.startswith("reason/")) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("reason", "truncated", "expected"),
    [
        ("not_extracted", True, "truncated"),
        ("not_extracted", False, "not_extracted"),
        ("right", True, "right"),
        ("errored", True, "errored"),
    ],
)
def test_a_cut_completion_without_an_answer_is_truncated(reason: str, truncated: bool, expected: str) -> None:
    assert reason_of(reason, truncated) == expected


def test_samples_are_best_and_worst_of_the_widest_groups() -> None:
    flat, wide = make_group(0.5, 0.5, prompt=make_prompt("flat")), make_group(0.0, 1.0, prompt=make_prompt("wide"))
    samples = select_samples([flat, wide], step=3, limit=2)
    assert [(s.kind, s.prompt, s.reward) for s in samples] == [("best", "wide=", 1.0), ("worst", "wide=", 0.0)]
    assert all(s.step == 3 for s in samples)


@pytest.mark.parametrize("limit", [0, 1, 3, 8])
def test_there_are_never_more_samples_than_asked_for(limit: int) -> None:
    groups = [make_group(0.0, 1.0, None) for _ in range(4)]
    assert len(select_samples(groups, step=1, limit=limit)) == limit


def test_an_errored_completion_is_the_worst_and_keeps_no_reward() -> None:
    _, worst = select_samples([make_group(0.0, None, 1.0)], step=1, limit=2)
    assert (worst.kind, worst.reward, worst.reason) == ("worst", None, "errored")


def test_what_a_reward_logs_is_a_metric_of_the_step_and_takes_no_name_of_ours() -> None:
    scores = [Score(0.0, False, "wrong", logged={"steps": 3.0, "mean": 7.0}), Score(1.0, True, "right")]
    scores += [Score(0.5, False, "wrong", logged={"steps": 5.0})]
    completions = tuple(Completion(f"c{i}", 4, False, score) for i, score in enumerate(scores))
    metrics = compute_signal([Group(make_prompt(), completions)], UNIT, NOTHING_EXPECTED)
    assert (metrics["reward/steps"], metrics["reward/logged_mean"], metrics["reward/mean"]) == (4.0, 7.0, 0.5)
