from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.contract import RewardDescription, load_reward
from rewards.length import FREE, LIMIT, MOST, compute_reward, score
from tests.support.builders import make_prompt


def test_it_falls_from_most_to_nothing() -> None:
    rewards = [score(r"\boxed{1}".ljust(n), "1").reward for n in (10, FREE, (FREE + LIMIT) // 2, LIMIT, 10 * LIMIT)]
    assert rewards == [MOST, MOST, pytest.approx(MOST / 2), 0.0, 0.0]


@pytest.mark.parametrize("completion", ["", " ", "1", r"\boxed{}", "<answer></answer>", "<answer> </answer>", "####"])
def test_an_empty_answer_earns_nothing(completion: str) -> None:
    found = score(completion, "1")
    assert (found.reward, found.reason) == (0.0, "no_answer")


@given(st.text(), st.text())
def test_it_is_bounded_and_never_says_that_something_is_right(completion: str, truth: str) -> None:
    found = score(completion, truth)
    assert 0.0 <= (found.reward or 0.0) <= MOST
    assert not found.correct


def test_the_shortest_wrong_answer_stays_below_the_longest_right_one() -> None:
    reward = load_reward(RewardDescription(("rewards.math", "rewards.length"), weights=(0.9, 1.0), solved_at=0.9))
    prompt = make_prompt("a", ground_truth="42")
    wrong, right, empty = reward.score([prompt] * 3, [r"\boxed{1}", " " * 9000 + r"\boxed{42}", ""])
    assert (wrong.reward, wrong.correct) == (MOST, False)
    assert (right.reward, right.correct) == (0.9, True)
    assert (empty.reward, empty.correct) == (0.0, False)


@pytest.mark.parametrize("value", [None, 6, float("nan"), True, b"{}", ["6"], {"a": 1}, object(), type])
def test_a_value_of_the_wrong_type_earns_nothing(value: Any) -> None:
    assert compute_reward(value, "1") == 0.0
    assert compute_reward(r"\boxed{1}", value) == 0.0
