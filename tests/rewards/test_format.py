from __future__ import annotations

import time
from typing import Any

import pytest

from rewards.format import (
    ANSWER_TAGS,
    THINKING_TAGS,
    after_thinking,
    compute_reward,
    has_answer,
    has_thinking,
    is_cut_in_thinking,
    score,
)


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("<start_working_out>1+1<end_working_out>", True),
        ("<think>well</think> 2", True),
        ("<reasoning>\nwell\n</reasoning>", True),
        ("<think>well", False),
        ("well</think>", True),
        (" </think>", False),
        ("<think></think>", False),
        ("<think> \n </think>", False),
        ("", False),
    ],
)
def test_thinking_is_a_closed_section_with_something_in_it(completion: str, expected: bool) -> None:
    assert has_thinking(completion) is expected


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("<SOLUTION>2</SOLUTION>", True),
        ("<answer>2</answer>", True),
        (r"so \boxed{2}", True),
        ("#### 2", True),
        ("<SOLUTION>2</answer>", False),
        ("<SOLUTION></SOLUTION>", False),
        (r"\boxed{}", False),
        ("####", False),
        ("2", False),
        (r"<think>\boxed{2}", False),
        ("<think><answer>2</answer></think> done", False),
        ("<think>x</think><answer>2</answer>", True),
    ],
)
def test_an_answer_is_a_section_with_something_in_it(completion: str, expected: bool) -> None:
    assert has_answer(completion) is expected


# ---------------------------------------------------------------- as a reward

RIGHT = "<think>1+1</think><answer>2</answer>"


@pytest.mark.parametrize(
    "completion",
    [
        RIGHT,
        f" {RIGHT}\n",
        "<think>\n1+1\n</think>\n\n<answer>\n2\n</answer>",
        "<reasoning>1 < 2</reasoning><answer>2</answer>",
        "<start_working_out>1+1<end_working_out><SOLUTION>2</SOLUTION>",
        "<think>1+1</think><SOLUTION>2</SOLUTION>",
        "1+1</think><answer>2</answer>",
        'I write ("<think>") once.</think><answer>2</answer>',
        "analysis1+1assistantfinal<answer>2</answer>",
        *(f"{o}1+1{c}{a}2{b}" for o, c in THINKING_TAGS.items() for a, b in ANSWER_TAGS.items()),
        *(f"1+1{c}<answer>2</answer>" for c in THINKING_TAGS.values()),
    ],
)
def test_each_tag_once_in_order_is_the_right_form(completion: str) -> None:
    found = score(completion, "x")
    assert (found.reward, found.correct, found.reason) == (1.0, True, "right")
    assert found.components == {"thinking": 1.0, "answer": 1.0, "form": 1.0}


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("", "no_tags"),
        ("2", "no_tags"),
        (r"\boxed{2}", "no_tags"),
        ("<answer>2</answer>", "wrong_tags"),
        ("<think>1+1</think>2", "wrong_tags"),
        ("<answer>2</answer><think>1+1</think>", "wrong_tags"),
        ("<think>1+1<answer>2</answer></think>", "wrong_tags"),
        ("<think>1+1<answer>2</answer>", "cut_in_thinking"),
        ("1+1</think></think><answer>2</answer>", "wrong_tags"),
        ("1+1</think>2", "wrong_tags"),
        (" </think><answer>2</answer>", "empty_section"),
        ("<think>1+1</reasoning><answer>2</answer>", "wrong_tags"),
        ("<think>1+1</think><answer>2</SOLUTION>", "wrong_tags"),
        ("<think>1+1<think></think><answer>2</answer>", "wrong_tags"),
        (f"{RIGHT}{RIGHT}", "wrong_tags"),
        (f"{RIGHT}<answer>3</answer>", "wrong_tags"),
        (f"{RIGHT}</answer>", "wrong_tags"),
        ("<think>x</think><think>y</think><answer>43</answer>", "wrong_tags"),
        ("<THINK>1+1</THINK><ANSWER>2</ANSWER>", "wrong_tags"),
        ("<think></think><answer></answer>", "empty_section"),
        ("<think> </think><answer>2</answer>", "empty_section"),
        ("<think>1+1</think><answer>\n</answer>", "empty_section"),
        (f"{RIGHT} done", "text_outside"),
        (f"So {RIGHT}", "text_outside"),
        ("<think>1+1</think> so <answer>2</answer>", "text_outside"),
    ],
)
def test_any_other_form_earns_nothing(completion: str, reason: str) -> None:
    found = score(completion, "x")
    assert (found.reward, found.correct, found.reason) == (0.0, False, reason)
    assert compute_reward(completion, "x") == 0.0


@pytest.mark.parametrize(
    ("completion", "rest"),
    [
        ("2", "2"),
        ("<think>1</think>2", "2"),
        ("1</think>2", "2"),
        ("<think>1</think><think>3</think>2", "2"),
        ("<reasoning>1</reasoning>2", "2"),
        ("<start_working_out>1<end_working_out>2", "2"),
        ("<think>1", ""),
        ("<think>1</think>2<think>3", ""),
        *((f"{opening}1{closing}2", "2") for opening, closing in THINKING_TAGS.items()),
        *((f"{opening}1", "") for opening in THINKING_TAGS),
        ("<|channel|>analysis<|message|>1<|end|><|start|>assistant<|channel|>final<|message|>2<|return|>", "2"),
        ("analysis1assistantfinal2", "2"),
        ('{"a": "<think>"}', '{"a": "<think>"}'),
        ('<think>1</think>{"a": "</think>\\"<think>", "b": 2}', '{"a": "</think>\\"<think>", "b": 2}'),
        ("print('<think>')", "print('<think>')"),
        ('<think>I write: "1</think>2', "2"),
    ],
)
def test_what_is_said_after_thinking(completion: str, rest: str) -> None:
    assert after_thinking(completion) == rest
    assert is_cut_in_thinking(completion) is (not rest)


@pytest.mark.parametrize("value", [None, 6, float("nan"), True, b"6", ["6"], {"a": 1}, object(), type])
def test_a_value_of_the_wrong_type_earns_nothing(value: Any) -> None:
    assert compute_reward(value, "6") == 0.0
    assert compute_reward(RIGHT, value) == 0.0


@pytest.mark.parametrize(
    "piece",
    [
        "<think>",
        "</think>",
        "<answer>",
        "<answer>x",
        "</answer>",
        "<",
        " ",
        "<think>a</think>",
        "####",
        "\\boxed{",
        ':"',
        ",'",
        "[ ",
        '</thinking>:"x",',
    ],
)
def test_time_grows_with_the_length_and_not_its_square(piece: str) -> None:
    def seconds(length: int) -> float:
        times = []
        for _ in range(5):
            started = time.process_time()
            score(piece * (length // len(piece)), "x")
            times.append(time.process_time() - started)
        return min(times)

    assert seconds(160_000) < 24 * seconds(20_000) + 0.001
