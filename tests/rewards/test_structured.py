from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.json_values import PATTERN_LIMIT_S
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
        f"```\n{TEXT}\n```",
        f"Here:\n```\n{TEXT}\n```\nDone.",
        f"````json\n{TEXT}\n````",
        f"~~~\n{TEXT}\n~~~",
        f"```json\n{TEXT}\n```\nIt was made by\n```\nada\n```",
        f"```\nname: Ada\n```\n```json\n{TEXT}\n```",
        f"It is `x`:\n```json\n{TEXT}\n``````",
        TEXT.replace("36", "36.0"),
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
        f"```yaml\n{TEXT}\n```",
        f"````json\n{TEXT}\n```",
        f"```json\n{TEXT}\n~~~",
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
    assert (found.reward, found.reason in ("no_json", "malformed", "cut_in_thinking")) == (0.0, True)


@pytest.mark.parametrize(
    ("value", "reward", "reason"),
    [
        ([], 0.1, "invalid"),
        ({}, 0.1, "invalid"),
        (None, 0.1, "invalid"),
        ({"name": "Ada", "age": 36.5, "tags": ["x", "y"]}, 0.1 + 0.7 * 3 / 4, "invalid"),
        ({"name": "Ada", "age": True, "tags": ["x", "y"]}, 0.1 + 0.7 * 3 / 4, "invalid"),
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


@pytest.mark.parametrize(
    ("step", "value", "valid"),
    [
        (0.01, "19.99", True),
        (0.01, "19.999", False),
        (0.1, "0.3", True),
        (0.1, "1e308", True),
        (2, "3", False),
        (2, "4.0", True),
        (1e-3, "true", False),
        (0.01, "1" + "0" * 350, True),
        (7, "1" + "0" * 350, False),
    ],
)
def test_multiples_are_those_of_the_numbers_as_written(step: float, value: str, valid: bool) -> None:
    found = score(value, json.dumps({"schema": {"type": "number", "multipleOf": step}}))
    assert (found.error, found.correct) == ("", valid)


def test_equal_numbers_are_equal_where_a_schema_says_what_they_are() -> None:
    equals = {"equals": {"a": 1, "b": [2]}}
    schema = {"schema": {"properties": {"a": {"type": "integer"}, "b": {"items": {"type": "number"}}}}}
    assert not score('{"a": 1.0, "b": [2.0]}', json.dumps(equals)).correct
    assert score('{"a": 1.0, "b": [2.0]}', json.dumps(equals | schema)).correct
    assert score('{"a": 1.0, "b": [2.0], "c": 3}', json.dumps({"contains": equals["equals"]} | schema)).correct
    for wrong in ('{"a": true, "b": [2]}', '{"a": "1", "b": [2]}', '{"a": 1.5, "b": [2]}', '{"a": 1, "b": [2.5]}'):
        assert not score(wrong, json.dumps(equals | schema)).correct
    assert not score("[1, 1.0]", json.dumps({"schema": {"uniqueItems": True}})).correct
    assert score("[1, true]", json.dumps({"schema": {"uniqueItems": True}})).correct


def test_pattern_properties() -> None:
    schema = {
        "properties": {"id": {"type": "integer"}},
        "patternProperties": {"^x_": {"type": "string"}},
        "additionalProperties": False,
    }
    truth = json.dumps({"schema": schema})
    assert score('{"id": 1, "x_a": "1"}', truth).correct
    for wrong in ('{"id": 1, "x_a": 1}', '{"id": 1, "y": "1"}', '{"id": "1"}'):
        assert score(wrong, truth).reason == "invalid"
    for bad in ({"patternProperties": {"(": {}}}, schema | {"unevaluatedProperties": False}):
        assert score("{}", json.dumps({"schema": bad})).errored


@pytest.mark.parametrize("of", ["value", "name"])
def test_all_patterns_of_a_completion_share_one_budget(of: str) -> None:
    slow = "^(a|aa)+$"
    texts = ["a" * 40 + "!" * n for n in range(1, 30)]
    schema = {"additionalProperties": {"pattern": slow}} if of == "value" else {"patternProperties": {slow: False}}
    value = dict(zip("abcdefghijklmnopqrstuvwxyzABC", texts, strict=True)) if of == "value" else dict.fromkeys(texts)
    started = time.process_time()
    truth = {"schema": {"allOf": [schema] * 3}, "equals": {key: {"$schema": {"pattern": slow}} for key in value}}
    assert not score(json.dumps(value), json.dumps(truth)).correct
    assert not score(json.dumps(value), json.dumps({"schema": {"not": schema}})).correct
    assert time.process_time() - started < 4 * PATTERN_LIMIT_S


def test_thinking_that_is_not_closed_has_its_own_code() -> None:
    assert score(f"<think>{TEXT}", EQUALS).reason == "cut_in_thinking"
    assert score(f"[THINK]x[/THINK]{TEXT}", EQUALS).correct
    assert score('{"name": "</think>"}', json.dumps({"equals": {"name": "</think>"}})).correct
