from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.core.statistics import (
    compare_answers,
    compute_difference,
    compute_paired,
    compute_paired_p,
    compute_sign_flip_p,
    compute_unpaired,
    compute_wilson,
    describe_interval,
)
from tests.support.builders import make_look


def test_the_unpaired_interval_is_that_of_the_paper() -> None:
    """Newcombe 1998, table II, method 10: 56 of 70 against 48 of 80."""
    found = compute_unpaired(48 / 80, compute_wilson(48, 80), 56 / 70, compute_wilson(56, 70))
    assert found.value == pytest.approx(0.2)
    assert [found.low, found.high] == pytest.approx([0.0524, 0.3339], abs=5e-5)
    assert (found.paired, found.verdict) == (False, "better")


@pytest.mark.parametrize(
    ("up", "down", "n"), [(0.15, 0.05, 100), (0.02, 0.02, 50), (0.4, 0.1, 30), (0.0, 0.05, 200), (0.0, 0.01, 200)]
)
def test_the_paired_interval_covers_the_truth_about_95_times_in_100(up: float, down: float, n: int) -> None:
    rng = np.random.default_rng(0)
    counts = rng.multinomial(n, [up, down, 1 - up - down], size=4000)
    found = [compute_paired(int(gained), int(lost), n) for gained, lost, _ in counts]
    low, high = np.array([(each.low, each.high) for each in found]).T
    covered = float(np.mean((low <= up - down) & (up - down <= high)))
    assert covered > 0.94


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200))
def test_the_interval_turns_round_with_the_runs(gained: int, lost: int, same: int) -> None:
    n = gained + lost + same + 1
    there, back = compute_paired(gained, lost, n), compute_paired(lost, gained, n)
    assert there.value == pytest.approx(-back.value)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert -1 <= there.low <= there.high <= 1
    if gained == lost:
        assert there.verdict == "unclear"


def test_the_paired_p_is_that_of_the_exact_binomial_test() -> None:
    for gained, lost in ((3, 10), (0, 5), (10, 3), (7, 7), (900, 1100)):
        exact = float(stats.binomtest(lost, gained + lost, 0.5, alternative="greater").pvalue)
        assert compute_paired_p(gained, lost) == pytest.approx(exact)
    assert compute_paired_p(5, 0) == compute_paired_p(0, 0) == 1.0
    assert 2 * compute_paired_p(0, 4) == 0.125


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 2000))
def test_what_a_detector_acts_on_no_report_calls_unclear(gained: int, lost: int, same: int) -> None:
    if compute_paired_p(gained, lost) < 0.01:
        assert compute_paired(gained, lost, gained + lost + same).verdict == "worse"
    if compute_paired_p(lost, gained) < 0.01:
        assert compute_paired(gained, lost, gained + lost + same).verdict == "better"


def test_nine_gained_and_two_lost_are_unclear_to_everyone() -> None:
    found = compute_paired(9, 2, 200)
    assert (found.value, found.verdict) == (pytest.approx(0.035), "unclear")
    assert 2 * compute_paired_p(2, 9) == pytest.approx(0.0654, abs=1e-4)


def test_the_same_prompts_are_compared_one_by_one_and_other_prompts_are_not() -> None:
    before, after = make_look(0, 0.5, split="test", n=4), make_look(9, 0.75, split="test", n=4)
    answers = {"a": 0, "b": 1, "c": 0, "d": 1}
    paired = compute_difference(before, after, answers, answers | {"a": 1})
    assert paired == compute_paired(1, 0, 4)
    many = {f"p{i}": i % 2 for i in range(20)}
    without_one = compute_difference(before, after, many, dict.fromkeys(list(many)[1:], 1))
    assert without_one == compute_paired(9, 0, 19), "one could not be judged"
    assert not compute_difference(before, after, answers, {}).paired
    unpaired = compute_difference(before, after, answers, {"e": 1})
    assert (unpaired.paired, unpaired.value) == (False, 0.25)


def test_the_sign_flip_p_is_that_of_an_independent_permutation_test() -> None:
    rng = np.random.default_rng(1)
    for n, shift in ((8, 0.2), (12, 0.0), (40, 0.1), (40, -0.3)):
        moved = np.round(rng.normal(shift, 0.3, n), 2)
        for found, side in zip(compute_sign_flip_p(moved.tolist()), ("greater", "less"), strict=True):
            exact = stats.permutation_test(
                (moved,), np.mean, permutation_type="samples", alternative=side, n_resamples=99_999, rng=rng
            )
            assert found == pytest.approx(exact.pvalue, abs=1e-12 if n < 13 else 0.01)
    assert compute_sign_flip_p([0.0, 0.0]) == (1.0, 1.0)


@given(st.lists(st.floats(-1, 1).map(lambda move: round(move, 2)), min_size=1, max_size=30), st.integers(0, 9))
def test_a_graded_comparison_turns_round_with_the_runs(moved: list[float], same: int) -> None:
    before = {f"{i}": 0.5 for i in range(len(moved) + same)}
    after = before | {f"{i}": 0.5 + move for i, move in enumerate(moved)}
    there, back = compare_answers(before, after), compare_answers(after, before)
    assert (there.gained, there.lost, there.n) == (back.lost, back.gained, len(before))
    assert there.difference.value == pytest.approx(-back.difference.value)
    assert there.difference.se == pytest.approx(back.difference.se)
    # Each is estimated with a standard error of up to 0.005.
    assert (there.p_rose, there.p_fell) == pytest.approx((back.p_fell, back.p_rose), abs=0.03)
    assert there.p_rose + there.p_fell >= 1 - 1e-9


def test_what_a_detector_finds_in_graded_scores_is_clear_in_a_report_too() -> None:
    """And by chance it finds so much in one comparison of a hundred, where nothing changed."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(400):
        pair = rng.choice([0.3, 0.5, 0.9], (2, 60))
        before, after = ({f"{i}": float(score) for i, score in enumerate(scores)} for scores in pair)
        compared = compare_answers(before, after)
        if compared.p_fell < 0.01:
            found += 1
            assert compared.difference.verdict == "worse"
    assert 0 < found < 12


def test_answers_that_are_right_or_wrong_are_compared_by_mcnemar() -> None:
    compared = compare_answers({"a": 0, "b": 1, "c": 1, "d": 0}, {"a": 1, "b": 0, "c": 0, "e": 1})
    assert (compared.gained, compared.lost, compared.n) == (1, 2, 3)
    assert (compared.p_rose, compared.p_fell) == (compute_paired_p(2, 1), compute_paired_p(1, 2))
    assert compared.difference == compute_paired(1, 2, 3)


def test_an_interval_in_words() -> None:
    document = {"difference": -0.07, "ci95": [-0.1041, 0.035], "paired": True}
    assert describe_interval(document) == "-0.070 [-0.104, +0.035] prompt by prompt"
