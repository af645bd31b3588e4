from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.solution import check_ground_truth, compute_reward, score

WORKING = "<start_working_out>6+0+0=6<end_working_out>"
RIGHT = f"{WORKING}<SOLUTION>6</SOLUTION>"


@pytest.mark.parametrize(
    "completion", [RIGHT, f" \n{RIGHT}\n ", f"{WORKING}\n<SOLUTION> 6 </SOLUTION>", RIGHT.replace("6+0", "since 6+0")]
)
def test_the_right_answer_in_the_right_form_is_right(completion: str) -> None:
    found = score(completion, "6")
    assert (found.reward, found.correct, found.reason) == (1.0, True, "right")
    assert found.components == {"exact": 1.0, "format": 1.0}


@pytest.mark.parametrize("answer", ["7", "06", "6.0", "6 6", "six", "6,", "٦", "⁶", "6\x00", "-6"])
def test_a_well_formed_wrong_answer_earns_the_form_only(answer: str) -> None:
    found = score(f"{WORKING}<SOLUTION>{answer}</SOLUTION>", "6")
    assert (found.reward, found.correct, found.reason) == (0.1, False, "wrong")
    assert found.components == {"exact": 0.0, "format": 1.0}


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "6",
        "<SOLUTION>6</SOLUTION>",
        f"{WORKING}<SOLUTION>6",
        f"{WORKING}6</SOLUTION>",
        f"{WORKING}<solution>6</solution>",
        f"{WORKING}<SOLUTION>6<SOLUTION>",
        f"{RIGHT} and so on",
        f"So: {RIGHT}",
        f"{RIGHT}{RIGHT}",
        f"{RIGHT}<SOLUTION>6</SOLUTION>",
        f"{WORKING}<SOLUTION>5</SOLUTION><SOLUTION>6</SOLUTION>",
        f"{WORKING}<SOLUTION><SOLUTION>6</SOLUTION></SOLUTION>",
        f"{WORKING}{WORKING}<SOLUTION>6</SOLUTION>",
        f"<SOLUTION>6</SOLUTION>{WORKING}",
        f"{WORKING} then <SOLUTION>6</SOLUTION>",
        "<start_working_out>x</end_working_out><SOLUTION>6</SOLUTION>",
        "<start_working_out><end_working_out><SOLUTION>6</SOLUTION>".replace("<end_working_out>", ""),
        "<start_working_out>1<2<end_working_out><SOLUTION>6</SOLUTION>",
    ],
)
def test_any_other_form_earns_nothing(completion: str) -> None:
    found = score(completion, "6")
    assert (found.reward, found.correct, found.reason) == (0.0, False, "not_extracted")


@pytest.mark.parametrize("working", ["", " ", "\n\t"])
def test_an_answer_without_working_earns_nothing(working: str) -> None:
    found = score(f"<start_working_out>{working}<end_working_out><SOLUTION>6</SOLUTION>", "6")
    assert (found.reward, found.reason) == (0.0, "no_working")


@pytest.mark.parametrize("truth", ["6", "", " "])
def test_an_empty_answer_earns_nothing_even_for_an_empty_truth(truth: str) -> None:
    found = score(f"{WORKING}<SOLUTION> </SOLUTION>", truth)
    assert (found.reward, found.correct, found.reason) == (0.0, False, "empty_answer")


@pytest.mark.parametrize("junk", ["<start_working_out>", "<", " ", f"{WORKING}<SOLUTION>", "<SOLUTION>6</SOLUTION>"])
def test_a_very_long_completion_is_scored_at_once(junk: str) -> None:
    assert score(junk * 100_000, "6").reward == 0.0


def test_the_float_is_for_the_right_answer_only() -> None:
    assert compute_reward(RIGHT, "6") == 1.0
    assert compute_reward(RIGHT, "7") == 0.0
    assert compute_reward("6", "6") == 0.0


@pytest.mark.parametrize("value", [None, 6, 6.0, math.nan, True, b"6", ["6"], {"a": 1}, object(), type, lambda: "6"])
def test_a_value_of_the_wrong_type_earns_nothing_and_raises_nothing(value: Any) -> None:
    assert compute_reward(value, "6") == 0.0
    assert compute_reward(RIGHT, value) == 0.0
    assert compute_reward(value, value) == 0.0


@given(st.text(), st.text())
def test_no_text_raises_and_every_reward_is_in_range(completion: str, truth: str) -> None:
    assert compute_reward(completion, truth) in (0.0, 0.1, 1.0)


@given(st.text(alphabet=st.characters(blacklist_characters="<>")), st.text())
def test_only_the_truth_itself_is_right(answer: str, truth: str) -> None:
    reward = compute_reward(f"{WORKING}<SOLUTION>{answer}</SOLUTION>", truth)
    assert (reward == 1.0) is (answer.strip() == truth.strip() != "")


@pytest.mark.parametrize("completion", ["<start_working_out>6+0", "<think>6", f"{WORKING}<think>"])
def test_thinking_that_is_never_closed_is_cut(completion: str) -> None:
    assert score(completion, "6").reason == "cut_in_thinking"


def test_a_truth_may_be_a_completion_in_the_right_form_and_no_other_worked_solution() -> None:
    assert score(RIGHT, RIGHT).correct
    assert check_ground_truth(RIGHT) is None
    assert check_ground_truth("6") is None
    assert "rewards.math:hashes" in (check_ground_truth("5 + 1 = 6\n#### 6") or "")
    assert "< or >" in (check_ground_truth("a < b") or "")
