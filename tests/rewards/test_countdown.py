from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from rewards.countdown import check_ground_truth, compute_reward, score, write_reference

TRUTH = json.dumps({"target": 24, "numbers": [2, 3, 4, 1]})


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("<answer>2*3*4*1</answer>", "right"),
        ("<think>2*3 is 6</think>\n<answer> (2 * 3) * 4 / 1 = 24 </answer>", "right"),
        ("so it is. </think><answer>4*3*2-1+1</answer>", "wrong_numbers"),
        (r"\boxed{2 \times 3 \cdot 4 \div 1}", "right"),
        ("2 × 3 × 4 ÷ 1", "right"),
        ("<answer>-(-2*3)*4*1</answer>", "right"),
        ("<answer>2*3*4</answer>", "wrong_numbers"),
        ("<answer>23+1*4</answer>", "wrong_numbers"),
        ("<answer>2+3+4+1</answer>", "wrong"),
        ("<answer>2*3*4*1 = 25</answer>", "wrong"),
        ("<answer>24</answer>", "wrong_numbers"),
        ("<answer>4/(2-3+1)</answer>", "wrong"),
        ("<answer>2**3*4*1</answer>", "malformed"),
        ("<answer>__import__('os')</answer>", "malformed"),
        ("<answer>2*3*4*1)</answer>", "malformed"),
        ("<answer>2*3*4*1</answer><answer>2*3*4*1</answer>", "several_answers"),
        ("<answer>2*3*4*1</answer> or 7", "several_answers"),
        ("It is not <answer>2*3*4*1</answer>", "wrong"),
        ("<think>2*3*4*1", "cut_in_thinking"),
        ("The numbers are 2, 3, 4 and 1.", "not_extracted"),
        ("", "not_extracted"),
        ("<answer>" + "(" * 2000 + "</answer>", "too_long"),
        ("<answer>" + "-" * 290 + "2*3*4*1</answer>", "right"),
        ("<answer>" + "9" * 299 + "</answer>", "wrong_numbers"),
        ("<answer>٢*3*4*1</answer>", "malformed"),
    ],
)
def test_an_expression_is_right_by_its_numbers_and_value(completion: str, reason: str) -> None:
    found = score(completion, TRUTH)
    assert (found.reason, found.reward) == (reason, float(reason == "right"))


def test_a_right_expression_is_a_ground_truth_too() -> None:
    gold = "6*(98 - 54) - 34 - 66"
    assert score("<answer>(98-54)*6-66-34</answer>", gold).correct
    assert score(f"<answer>{gold}</answer>", gold).correct
    assert not score("<answer>164</answer>", gold).correct
    assert write_reference(gold) == f"<answer>{gold}</answer>"


@pytest.mark.parametrize(
    "truth",
    [
        "",
        "24",
        "no",
        "[]",
        '{"target": 24}',
        '{"target": 2.5, "numbers": [1]}',
        '{"target": 1, "numbers": []}',
        "1/2+1/3",
    ],
)
def test_a_ground_truth_that_says_no_target_is_errored(truth: str) -> None:
    assert score("<answer>1</answer>", truth).errored
    assert check_ground_truth(truth) is not None
    assert write_reference(truth) is None


def test_a_reference_is_found_among_few_numbers_only() -> None:
    for numbers, target in (([2, 3, 4, 1], 24), ([19, 36, 55, 7], 65), ([95, 21, 3], 88)):
        truth = json.dumps({"target": target, "numbers": numbers})
        assert score(write_reference(truth) or "", truth).correct
    assert write_reference(json.dumps({"target": 5000, "numbers": [1, 2]})) is None
    assert write_reference(json.dumps({"target": 5, "numbers": [1, 2, 3, 4, 5]})) is None
    assert write_reference(json.dumps({"target": 5, "numbers": [1, 4, 9, 9, 1], "solution": "1+4"})) is not None


def test_it_never_raises_from_any_thread() -> None:
    found: list[Any] = []

    def ask() -> None:
        found.extend(compute_reward(text, TRUTH) for text in ["<answer>2*3*4*1</answer>", "(" * 10**5, None, 3])  # type: ignore[arg-type]

    threading.stack_size(0)
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [1.0, 0.0, 0.0, 0.0]
