from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.statistics import (
    compute_difference,
    compute_paired,
    compute_unpaired,
    compute_wilson,
    describe_interval,
)
from tests.support.builders import make_look


def test_the_unpaired_interval_is_that_of_the_paper() -> None:
    """Newcombe 1998, table II, method 10: 56 of 70 against 48 of 80."""
    found = compute_unpaired(48 / 80, compute_wilson(48, 80), 56 / 70, compute_wilson(56, 70))
    assert found.value == pytest.approx(0.2)
    assert found.ci95 == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert (found.paired, found.verdict) == (False, "better")


@pytest.mark.parametrize(("up", "down", "n"), [(0.15, 0.05, 100), (0.02, 0.02, 50), (0.4, 0.1, 30)])
def test_the_paired_interval_covers_the_truth_about_95_times_in_100(up: float, down: float, n: int) -> None:
    rng = np.random.default_rng(0)
    counts = rng.multinomial(n, [up, down, 1 - up - down], size=4000)
    low, high = np.array([compute_paired(int(gained), int(lost), n).ci95 for gained, lost, _ in counts]).T
    covered = float(np.mean((low <= up - down) & (up - down <= high)))
    assert covered > 0.94


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200))
def test_the_interval_turns_round_with_the_runs(gained: int, lost: int, same: int) -> None:
    n = gained + lost + same + 1
    there, back = compute_paired(gained, lost, n), compute_paired(lost, gained, n)
    assert there.value == pytest.approx(-back.value)
    assert there.ci95 == pytest.approx((-back.ci95[1], -back.ci95[0]))
    assert -1 <= there.ci95[0] <= there.ci95[1] <= 1
    if gained == lost:
        assert there.verdict == "unclear"


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


def test_an_interval_in_words() -> None:
    document = {"difference": -0.07, "ci95": [-0.1041, 0.035], "paired": True}
    assert describe_interval(document) == "-0.070 [-0.104, +0.035] prompt by prompt"
