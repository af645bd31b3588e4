from __future__ import annotations

import datetime
import decimal
import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InputError
from harness.types import Prompt
from pools.rows import Row, encode_columns, make_prompt, name_columns


def make(values: dict[Any, Any], **columns: str) -> Prompt:
    row = Row("a.jsonl row 7", values)
    prompt = make_prompt(row, name_columns(columns))
    encode_columns(row, prompt)
    return prompt


def refuse(values: dict[Any, Any], message: str, **columns: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make(values, **columns)
    assert str(caught.value).startswith("a.jsonl row 7")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("two", "two"),
        (" 2 ", " 2 "),
        (2, "2"),
        (2.5, "2.5"),
        (10**30, "1" + "0" * 30),
        (True, "true"),
        ([1, "b", None], '[1,"b",null]'),
        ({"b": 1, "a": ["ü"]}, '{"a":["ü"],"b":1}'),
        ([], "[]"),
        (datetime.date(2024, 5, 1), "2024-05-01"),
        (decimal.Decimal("1.50"), "1.50"),
        (np.int64(3), "3"),
        (np.array([1, 2]), "[1,2]"),
    ],
)
def test_a_ground_truth_of_any_type_becomes_text(value: Any, text: str) -> None:
    assert make({"prompt": "a", "ground_truth": value}).ground_truth == text


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none(), min_size=1))
def test_a_ground_truth_is_written_in_one_way_whatever_the_order_of_its_keys(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))
    truth = make({"prompt": "a", "ground_truth": value}).ground_truth
    assert truth == make({"prompt": "a", "ground_truth": backwards}).ground_truth
    assert json.loads(truth) == value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ground_truth": "1"}, "has no prompt: its columns are ground_truth; pool.columns.prompt names the one"),
        ({"prompt": "b"}, "has no ground_truth: its columns are prompt"),
        ({}, "has no prompt: its columns are none"),
        ({"prompt": " ", "ground_truth": "1"}, "has no prompt: it must be a non-empty string or a list of messages"),
        ({"prompt": 3, "ground_truth": "1"}, "has no prompt: it must be"),
        ({"prompt": "b", "ground_truth": " \n"}, "has no ground_truth: it is empty"),
        ({"prompt": "b", "ground_truth": None}, "has no ground_truth: it is empty"),
        ({"prompt": "b", "ground_truth": float("nan")}, "ground_truth is nan, not a finite number"),
        ({"prompt": "b", "ground_truth": [float("inf")]}, "ground_truth cannot be written as JSON"),
        ({"prompt": "b", "ground_truth": b"1"}, "ground_truth: bytes is not JSON"),
        ({"prompt": "b", "ground_truth": 10**5000}, "ground_truth is an integer of too many digits"),
        ({"prompt": "b", "ground_truth": "1", "label": float("nan")}, "label is nan, not a finite number"),
        ({"prompt": "b", "ground_truth": "1", "label": "NaN"}, "label is NaN, not a finite number"),
        ({"prompt": "b", "ground_truth": "1", "label": ["x"]}, "label: .*list|label must be text"),
        ({"prompt": "b", "ground_truth": "1", "demonstration": 3}, "demonstration must be text, not int"),
        ({"prompt": "b", "ground_truth": "1", "x": {"deep": [float("nan")]}}, "x cannot be written as JSON"),
        ({"prompt": "b", "ground_truth": "1", "x": object()}, "x cannot be written as JSON: object is not JSON"),
        ({"prompt": "b", "ground_truth": "x" * 10 * 2**20}, "holds 10.0 MiB: at most 4.0 MiB"),
        ({"prompt": "b", "ground_truth": "\udfff"}, "half of a surrogate pair"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_row_that_is_no_prompt_is_refused(values: dict[Any, Any], message: str) -> None:
    refuse(values, message)


def test_a_mapped_column_that_is_not_there_is_named_with_those_that_are() -> None:
    refuse({"prompt": "a", "answer": "1"}, "has no question: its columns are prompt, answer", prompt="question")
    refuse({"prompt": "a", "ground_truth": "1"}, "has no answer: .*pool.columns.ground_truth", ground_truth="answer")


@pytest.mark.parametrize(("label", "text"), [(None, ""), (0, "0"), (1.5, "1.5"), (True, "true"), ("easy", "easy")])
def test_a_label_becomes_text(label: Any, text: str) -> None:
    assert make({"prompt": "a", "ground_truth": "1", "label": label}).label == text


# ---------------------------------------------------------------- messages


def say(*turns: str) -> list[dict[str, Any]]:
    return [{"role": turn.partition(" ")[0], "content": turn.partition(" ")[2]} for turn in turns]


@pytest.mark.parametrize("column", ["messages", "prompt"])
def test_messages_give_system_prompt_and_reference(column: str) -> None:
    prompt = make({column: say("system Be brief.", "user 1+1?", "assistant two"), "id": 3})
    assert (prompt.text, prompt.system, prompt.demonstration) == ("1+1?", "Be brief.", "two")
    assert prompt.ground_truth == "two", "a row without ground truth"
    assert prompt.columns == {"id": 3}


def test_a_ground_truth_of_its_own_goes_before_the_assistants_answer() -> None:
    prompt = make({"messages": say("developer Be brief.", "user 1+1?", "assistant two"), "ground_truth": 2})
    assert (prompt.ground_truth, prompt.demonstration, prompt.system) == ("2", "two", "Be brief.")
    prompt = make({"messages": say("user 1+1?", "assistant two"), "answer": 2}, ground_truth="answer")
    assert prompt.ground_truth == "2"
    refuse({"messages": say("user 1+1?", "assistant two")}, "has no answer", ground_truth="answer")


def test_a_content_may_come_in_parts_of_text() -> None:
    parts = [{"type": "text", "text": "1+"}, {"type": "text", "text": "1?"}]
    assert make({"messages": [{"role": "user", "content": parts}], "ground_truth": "2"}).text == "1+1?"
    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    refuse({"messages": [{"role": "user", "content": image}], "ground_truth": "2"}, "whose content is not text")


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (say("user a", "system b"), "'system' does not fit there"),
        (say("user a", "tool b"), "'tool' does not fit there"),
        (say("user a", "critic b"), "message 2 of messages has the role 'critic': it must be one of system, user,"),
        (say("user a", "assistant b", "assistant c"), "ends with two assistant messages"),
        (["user a"], "message 1 of messages must be an object with role and content, not str"),
        (
            [{"from": "human", "value": "a"}],
            "message 1 of messages has no role: it must have role and content, and has",
        ),
        ([{"role": "user", "content": None}], "whose content is not text"),
        (say("assistant a"), "has no user message"),
        (say("system a"), "has no user message"),
        (say("user "), "has no user message"),
        ([{"role": "user"}], "whose content is not text"),
        ([], "must be a non-empty string or a list of messages"),
    ],
    ids=str,
)
def test_other_conversations_are_refused(messages: list[Any], message: str) -> None:
    refuse({"messages": messages, "ground_truth": "1"}, re.escape(message))


def test_an_empty_cell_is_no_demonstration() -> None:
    assert make({"prompt": "1+1=", "ground_truth": "2", "demonstration": " "}).demonstration is None
