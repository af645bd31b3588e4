from __future__ import annotations

import json
from typing import Any

import pytest

from rewards.composite import compute_reward, score


def truth(**parts: Any) -> str:
    return json.dumps({"parts": parts})


SUM = {"reward": "rewards.math", "ground_truth": "42", "section": "answer"}
RECORD = {"reward": "rewards.structured", "ground_truth": {"equals": {"sum": 42}}, "section": "json"}
BOTH = truth(sum=SUM, record=RECORD)
RIGHT = '<answer>\\boxed{42}</answer>\n<json>{"sum": 42}</json>'


def test_parts_are_scored_apart_and_named() -> None:
    found = score(RIGHT, BOTH)
    assert (found.reward, found.correct, found.reason) == (1.0, True, "right")
    assert found.components == {"sum": 1.0, "record": 1.0}
    half = score(RIGHT.replace("boxed{42", "boxed{41"), BOTH)
    assert (half.reward, half.correct, half.reason) == (0.5, False, "sum:wrong")
    assert half.components == {"sum": 0.0, "record": 1.0}
    assert compute_reward(RIGHT, BOTH) == 1.0
    assert compute_reward(RIGHT.replace("boxed{42", "boxed{41"), BOTH) == 0.0


def test_weights_are_shares() -> None:
    weighted = truth(sum=SUM, record={**RECORD, "weight": 3})
    assert score("<answer>\\boxed{42}</answer><json>[]</json>", weighted).reward == pytest.approx((1 + 3 * 0.1) / 4)


def test_a_gate_keeps_what_is_behind_it() -> None:
    gated = truth(sum=SUM, record={**RECORD, "gate": "sum"}, brevity={"reward": "rewards.length", "ground_truth": "",
                                                                     "gate": "record"})  # fmt: skip
    wrong = score('<answer>\\boxed{41}</answer><json>{"sum": 42}</json>', gated)
    assert wrong.components == {"sum": 0.0, "record": 0.0, "brevity": 0.0}
    assert wrong.reward == 0.0
    right = score(RIGHT, gated)
    assert (right.reward, right.correct) == (1.0, True)
    assert right.components["brevity"] == pytest.approx(0.1)
    long = score(RIGHT + " " * 5000, gated)
    assert long.correct, "length does not say what is right"
    assert 0.9 < (long.reward or 0.0) < 1.0


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "\\boxed{42}",
        "<answer>\\boxed{42}",
        "\\boxed{42}</answer>",
        "</answer>\\boxed{42}<answer>",
        "<answer>\\boxed{42}</answer><answer>\\boxed{41}</answer>",
        "<answer>\\boxed{42}</answer><answer>\\boxed{42}</answer>",
        "<answer><answer>\\boxed{42}</answer></answer>",
        '<answer>\\boxed{42}<json>{"sum": 42}</json></answer>',
        '<answer>\\boxed{42}<json></answer>{"sum": 42}</json>',
        "<ANSWER>\\boxed{42}</ANSWER>",
    ],
)
def test_a_section_must_be_there_once_and_stand_alone(completion: str) -> None:
    found = score(completion, BOTH)
    assert (found.reward, found.reason) == (0.0, "sum:no_section")


THINKING = ("<think>", "[THINK]", "<reasoning>", "")


@pytest.mark.parametrize("opening", THINKING)
def test_no_part_is_judged_by_what_stands_in_the_thinking(opening: str) -> None:
    closing = {"[THINK]": "[/THINK]", "<reasoning>": "</reasoning>"}.get(opening, "</think>")
    every = truth(
        sum=SUM,
        record=RECORD,
        form={"reward": "rewards.format", "ground_truth": ""},
        brevity={"reward": "rewards.length", "ground_truth": ""},
    )
    found = score(f"{opening}{RIGHT}{closing} The answer is 7", every)
    assert (found.reward, found.correct, found.reason) == (0.0, False, "sum:no_section")
    assert score(f"{opening}x{closing}{RIGHT}", BOTH).correct
    assert score(f"{opening}<answer>\\boxed{{41}}</answer>{closing}{RIGHT}", BOTH).correct


def test_thinking_that_is_not_closed_earns_nothing() -> None:
    found = score(f"<think>{RIGHT}", BOTH)
    assert (found.reward, found.reason) == (0.0, "cut_in_thinking")
    assert found.components == {"sum": 0.0, "record": 0.0}


@pytest.mark.parametrize("section", ["answer", "SOLUTION"])
@pytest.mark.parametrize("content", ["42", r"\boxed{42}", " 42 "])
def test_an_answer_section_may_hold_the_bare_answer(section: str, content: str) -> None:
    function = "rewards.math" if section == "answer" else "rewards.math:solution"
    if section == "SOLUTION" and "boxed" in content:
        function = "rewards.math"
    parts = truth(sum={**SUM, "reward": function, "section": section})
    assert score(f"<think>7</think><{section}>{content}</{section}>", parts).correct
    assert not score(f"<think>42</think><{section}>7</{section}>", parts).correct


def test_a_section_of_another_name_asks_for_the_form_of_its_reward() -> None:
    assert score("<sum>42</sum>", truth(sum={**SUM, "section": "sum"})).reason == "sum:not_extracted"


def test_without_a_section_a_part_sees_everything() -> None:
    whole = truth(a={"reward": "rewards.math", "ground_truth": "42"}, b={"reward": "rewards.math:last_number",
                                                                        "ground_truth": "42"})  # fmt: skip
    assert score(r"So \boxed{42}", whole).reward == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "{}",
        '{"parts": {}}',
        '{"parts": []}',
        truth(a={"reward": "rewards.math"}),
        truth(a={**SUM, "more": 1}),
        truth(a={**SUM, "weight": 0}),
        truth(a={**SUM, "weight": True}),
        truth(a={**SUM, "weight": "1"}),
        truth(a={**SUM, "section": "a b"}),
        truth(a={**SUM, "section": 1}),
        truth(a={**SUM, "section": "think"}),
        truth(a={**SUM, "gate": "b"}),
        truth(a={**SUM, "gate": "a"}),
        truth(a={**SUM, "gate": "b"}, b={**RECORD, "gate": "a"}),
        truth(a={**SUM, "gate": "b"}, b={**RECORD, "gate": "c"}, c={**RECORD, "gate": "b"}),
        truth(a={**SUM, "reward": "rewards.composite"}),
        truth(a={**SUM, "reward": "os:system"}),
        truth(a={**SUM, "reward": "os.path:join"}),
        truth(a={**SUM, "reward": "rewards.nothing"}),
        truth(a={**SUM, "reward": "rewards.math:nothing"}),
        truth(a={**SUM, "reward": "./evil.py:score"}),
        truth(a={**SUM, "ground_truth": "???"}),
        truth(a=SUM, b={**RECORD, "ground_truth": {}}),
    ],
)
def test_a_truth_that_cannot_be_used_is_errored(wrong: str) -> None:
    assert score(RIGHT, wrong).errored
    assert compute_reward(RIGHT, wrong) == 0.0


@pytest.mark.parametrize("value", [None, 6, float("nan"), True, b"{}", ["6"], {"a": 1}, object(), type])
def test_a_value_of_the_wrong_type_earns_nothing(value: Any) -> None:
    assert compute_reward(value, BOTH) == 0.0
    assert compute_reward(RIGHT, value) == 0.0
