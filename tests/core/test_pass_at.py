"""Several completions of each prompt: pass@k, and intervals over prompts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.statistics import (
    collect_answers,
    compare_answers,
    compute_moves,
    compute_paired,
    compute_pass_at,
    compute_pass_rates,
    compute_shares,
    compute_wilson,
    list_ks,
    summarise,
)
from harness.types import Answer, Example
from tests.support.builders import make_completion, make_prompt


@pytest.mark.parametrize("n", range(1, 9))
def test_pass_at_k_is_the_share_of_all_subsets_with_a_right_one(n: int) -> None:
    for correct in range(n + 1):
        right = [True] * correct + [False] * (n - correct)
        for k in range(1, n + 1):
            subsets = list(combinations(right, k))
            assert compute_pass_at(k, correct, n) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-15)


def test_pass_at_k_is_unbiased_and_one_less_the_failures_to_the_kth_is_not() -> None:
    rng, p, n, k = np.random.default_rng(0), 0.2, 8, 4
    drawn = [int(correct) for correct in rng.binomial(n, p, 20_000)]
    assert np.mean([compute_pass_at(k, correct, n) for correct in drawn]) == pytest.approx(1 - (1 - p) ** k, abs=0.01)
    assert np.mean([1 - (1 - correct / n) ** k for correct in drawn]) < 1 - (1 - p) ** k - 0.03


def test_pass_at_k_of_more_than_there_are_is_refused_and_of_very_many_is_exact() -> None:
    for k, correct, n in ((0, 0, 1), (2, 0, 1), (1, 2, 1), (1, -1, 1)):
        with pytest.raises(ValueError, match=f"pass@{k}"):
            compute_pass_at(k, correct, n)
    assert compute_pass_at(1, 3, 10_000) == 3 / 10_000
    assert compute_pass_at(5_000, 9, 10_000) == pytest.approx(1 - 0.5**9, abs=1e-3)


def test_the_ks_that_are_told_begin_with_one_and_end_with_all() -> None:
    for n in range(1, 100):
        ks = list_ks(n)
        assert (ks[0], ks[-1], ks) == (1, n, sorted(set(ks)))
    assert [list_ks(n) for n in (1, 2, 5, 8)] == [[1], [1, 2], [1, 2, 4, 5], [1, 2, 4, 8]]


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_of_one_completion_each_the_interval_is_wilsons_to_the_last_bit(right: list[bool]) -> None:
    assert compute_shares([float(each) for each in right]) == (
        sum(right) / len(right),
        compute_wilson(sum(right), len(right)),
    )


BETA: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "prompts of all kinds": lambda rng, n: rng.beta(0.5, 0.5, n),
    "equal prompts": lambda rng, n: np.full(n, 0.3),
    "hard ones": lambda rng, n: rng.beta(0.1, 0.9, n),
    "hopeless ones with a few open": lambda rng, n: 0.5 * (rng.random(n) < 0.02),
    "easy ones": lambda rng, n: rng.beta(5, 0.3, n),
}


@pytest.mark.parametrize("kind", BETA)
def test_the_interval_over_prompts_covers_the_truth_about_95_times_in_100(kind: str) -> None:
    rng = np.random.default_rng(0)
    everywhere = BETA[kind](rng, 200_000)
    for prompts in (10, 60):
        drawn = [rng.binomial(8, BETA[kind](rng, prompts)).tolist() for _ in range(600)]
        rates = [compute_pass_rates([(correct, 8) for correct in each]) for each in drawn]
        for place, k in enumerate((1, 2, 4, 8)):
            truth = float(np.mean(1 - (1 - everywhere) ** k))
            covered = np.mean([each[place].low <= truth <= each[place].high for each in rates])
            assert covered > 0.92, (prompts, k)  # at some p Wilson's own covers 0.93


def test_completions_of_a_prompt_are_not_counted_as_so_many_prompts() -> None:
    sure = compute_shares([1.0] * 50 + [0.0] * 50, 8)  # each prompt is solved always or never
    assert sure == compute_shares([1.0] * 50 + [0.0] * 50)
    open_ones = compute_shares([0.5] * 100, 8)  # each is a coin, thrown eight times
    assert open_ones[1] == pytest.approx(compute_wilson(400, 800), abs=2e-3)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_whole_moves_have_the_interval_of_prompts_that_changed_sides(gained: int, lost: int, same: int) -> None:
    n = gained + lost + same + 1
    found = compute_moves([1.0] * gained + [-1.0] * lost + [0.0] * (same + 1))
    expected = compute_paired(gained, lost, n)
    assert (found.value, found.se) == (pytest.approx(expected.value), pytest.approx(expected.se))
    assert [max(-1, found.low), min(1, found.high)] == pytest.approx([expected.low, expected.high])


def test_moves_of_shares_are_covered_and_one_prompt_is_sure_of_nothing() -> None:
    rng = np.random.default_rng(0)
    for prompts in (10, 100):
        covered = 0
        for _ in range(800):
            ability = rng.normal(0, 1.5, prompts)
            before, after = (rng.binomial(8, 1 / (1 + np.exp(-ability - shift))) / 8 for shift in (0, 0.5))
            found = compute_moves((after - before).tolist())
            covered += found.low <= 0.088 <= found.high
        assert covered / 800 > 0.93
    assert compute_moves([-0.1]).verdict == compute_moves([-0.3, -0.3]).verdict == "unclear"
    assert compute_moves([-0.1] * 12).verdict == "worse"


def test_shares_that_only_chance_moves_are_no_fall() -> None:
    """What a detector calls a fall at 1% is one about as often where nothing changed."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(300):
        ability = rng.beta(0.5, 0.5, 60)
        before, after = ({f"{i}": float(c) / 8 for i, c in enumerate(rng.binomial(8, ability))} for _ in (0, 1))
        compared = compare_answers(before, after)
        assert -1 <= compared.difference.low <= compared.difference.value <= compared.difference.high <= 1
        found += compared.p_fell < 0.01
    assert 0 < found < 10


def test_errored_completions_are_not_right_and_have_no_part_in_the_reward() -> None:
    rewards = {"a": (1.0, None, 0.5, 1.0), "b": (None, None, None, None), "c": (0.0, 0.0, 0.2, 0.0)}
    examples = [Example(make_prompt(name), make_completion(r)) for name, each in rewards.items() for r in each]
    found = summarise("dev", examples)
    assert (found.n, found.accuracy) == (3, pytest.approx(0.5 / 3))
    assert found.reward == pytest.approx((2.5 / 3 + 0.05) / 2)
    assert len(found.errors) == 5
    assert [(each.k, each.value) for each in found.pass_at] == [
        (1, found.accuracy),
        (2, pytest.approx((1 - 1 / 6) / 3)),
        (4, pytest.approx(1 / 3)),
    ]
    assert (found.pass_at[0].low, found.pass_at[0].high) == found.ci95
    assert collect_answers(examples) == {
        "a": Answer(pytest.approx(2.5 / 3), 2, 3),
        "b": Answer(None, 0, 0),
        "c": Answer(pytest.approx(0.05), 0, 4),
    }
    assert ", pass@4 0.333 [" in found.describe(graded=False)
    assert summarise("dev", examples[:1]).pass_at == ()
