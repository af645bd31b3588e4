from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.structured import MOST_PARTIAL, compute_reward, score

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "tags": {"type": "array"}},
    "required": ["name", "age"],
}
PERSON = {"name": "Ada", "age": 36, "tags": ["x", "y"]}
EQUALS = json.dumps({"schema": SCHEMA, "equals": PERSON})
CONTAINS = json.dumps({"contains": {"name": "Ada", "deep": {"a": 1}}})
TEXT = json.dumps(PERSON)


@pytest.mark.parametrize(
    "completion",
    [
        TEXT,
        f" {TEXT}\n",
        f"```json\n{TEXT}\n```",
        f"Here it is:\n```JSON\n{TEXT}\n```\nThat is all.",
        f'```json\n{{"name": "Bob"}}\n```\nNo:\n```json\n{TEXT}\n```',
        f"<think>```json\n[]\n```</think>{TEXT}",
        f"```python\nx = 1\n```\n```json\n{TEXT}\n```",
        '{"tags": ["x", "y"], "age": 36, "name": "Ada"}',
    ],
)
def test_the_expected_value_is_right(completion: str) -> None:
    found = score(completion, EQUALS)
    assert (found.reward, found.correct, found.reason) == (1.0, True, "right")
    assert compute_reward(completion, EQUALS) == 1.0


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "Ada",
        f"{TEXT} {TEXT}",
        f"It is {TEXT}",
        f"```json\n{TEXT}",
        f"```json\n{TEXT}\n```\n```json\n[",
        f"```json\n{TEXT}\n```\n```json\n\n```",
        f"```\n{TEXT}\n```",
        f"<think>{TEXT}</think>",
        '{"name": "Ada", "age": 36, "age": 36}',
        '{"name": "Ada", "age": NaN}',
        "{'name': 'Ada'}",
        "[" * 100_000,
        "[" * 40 + "]" * 40,
        "9" * 5000,
    ],
)
def test_what_is_no_json_earns_nothing(completion: str) -> None:
    found = score(completion, EQUALS)
    assert (found.reward, found.reason in ("no_json", "malformed")) == (0.0, True)


@pytest.mark.parametrize(
    ("value", "reward", "reason"),
    [
        ([], 0.1, "invalid"),
        ({}, 0.1, "invalid"),
        (None, 0.1, "invalid"),
        ({"name": "Ada", "age": 36.0, "tags": ["x", "y"]}, 0.1 + 0.7 * 3 / 4, "invalid"),
        ({"name": "Bob", "age": 1}, 0.3, "wrong_fields"),
        ({"name": "Ada", "age": 1}, 0.3 + 0.7 * 2 / 6, "wrong_fields"),
        ({"name": "Ada", "age": 36}, 0.6, "wrong_fields"),
        ({"name": "Ada", "age": 36, "tags": ["y", "x"]}, 0.6, "wrong_fields"),
        ({**PERSON, "more": 1}, 0.6, "wrong_fields"),
        ({"name": "Ada", "age": 36, **{str(i): i for i in range(40)}}, 0.3 + 0.7 * 4 / 46, "wrong_fields"),
    ],
)
def test_a_wrong_value_earns_its_part(value: Any, reward: float, reason: str) -> None:
    found = score(json.dumps(value), EQUALS)
    assert (found.reward, found.reason) == (pytest.approx(min(reward, MOST_PARTIAL)), reason)
    assert compute_reward(json.dumps(value), EQUALS) == 0.0


def test_a_value_may_have_more_where_only_some_fields_are_asked_for() -> None:
    assert score('{"name": "Ada", "deep": {"a": 1, "b": 2}, "c": 3}', CONTAINS).correct
    assert score('{"name": "Ada", "deep": {"a": 2}}', CONTAINS).reward == pytest.approx(0.45)
    assert score('{"name": "Bob", "deep": {"a": 2}}', CONTAINS).reward == pytest.approx(0.1)
    assert score('{"name": "Ada", "deep": [1]}', CONTAINS).correct is False


def test_values_may_be_one_of_several_or_of_a_schema() -> None:
    truth = json.dumps({"equals": {"a": {"$any": ["x", {"y": 1}]}, "b": {"$schema": {"type": "string"}}}})
    assert compute_reward('{"a": "x", "b": "any"}', truth) == 1.0
    assert compute_reward('{"a": {"y": 1}, "b": ""}', truth) == 1.0
    assert compute_reward('{"a": {"y": 2}, "b": ""}', truth) == 0.0
    assert compute_reward('{"a": "x", "b": 1}', truth) == 0.0


def test_a_schema_alone_judges_the_shape() -> None:
    truth = json.dumps({"schema": {"type": "array", "uniqueItems": True, "minItems": 2}})
    assert compute_reward("[1, 2]", truth) == 1.0
    assert score("[1, 1]", truth).reward == pytest.approx(0.1)
    assert score("[" + ",".join('{"a":1}' for _ in range(5000)) + "]", truth).reason == "invalid"


@pytest.mark.parametrize(
    "truth",
    ["", "{}", "[]", "x", '{"schema": {"type": "no"}}', '{"contains": []}', '{"contains": {}}', '{"more": 1}',
     '{"equals": 1, "contains": {"a": 1}}', '{"equals": NaN}', '{"schema": {"$ref": "#/nowhere"}}',
     '{"schema": {"pattern": "("}}', '{"equals": {"$any": []}}'],
)  # fmt: skip
def test_a_truth_that_cannot_be_used_is_errored(truth: str) -> None:
    assert score('"1"', truth).errored
    assert compute_reward('"1"', truth) == 0.0


@given(st.text(), st.text() | st.just(EQUALS) | st.just(CONTAINS))
def test_nothing_raises_and_every_reward_is_in_range(completion: str, truth: str) -> None:
    found = score(completion, truth)
    assert found.errored or 0.0 <= (found.reward or 0.0) <= 1.0


@pytest.mark.parametrize("value", [None, 6, float("nan"), True, b"{}", ["6"], {"a": 1}, object(), type])
def test_a_value_of_the_wrong_type_earns_nothing(value: Any) -> None:
    assert compute_reward(value, EQUALS) == 0.0
    assert compute_reward(TEXT, value) == 0.0


@pytest.mark.parametrize("piece", ["[", '"', '\\"', "```json\n", "```" + " " * 60 + "x", " ", "\n", "<think>", "1,"])
def test_time_grows_with_the_length_and_not_its_square(piece: str) -> None:
    def seconds(length: int) -> float:
        times = []
        for _ in range(5):
            started = time.process_time()
            score(piece * (length // len(piece)), EQUALS)
            times.append(time.process_time() - started)
        return min(times)

    assert seconds(160_000) < 24 * seconds(20_000) + 0.001


def test_a_number_beyond_all_floats_is_the_completions_fault() -> None:
    truth = json.dumps({"schema": {"type": "object", "properties": {"p": {"type": "number", "multipleOf": 0.01}}}})
    found = score(json.dumps({"p": 10**350}), truth)
    assert (found.error, found.correct) == ("", False)
