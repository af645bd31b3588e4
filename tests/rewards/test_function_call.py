from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.function_call import MOST_PARTIAL, compute_reward, score
from rewards.json_values import LONGEST

DATA = Path(__file__).parent.parent.parent / "runs" / "recipes" / "data" / "function-calling.jsonl"

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "number", "minimum": 0}, "note": {}},
                "required": ["a", "b"],
                "additionalProperties": False,
            },
        },
    },
    {"name": "ping", "parameters": {"type": "object", "additionalProperties": False}},
]
ADD = {"name": "add", "arguments": {"a": 1, "b": 2}}
PING: dict[str, Any] = {"name": "ping", "arguments": {}}


def truth(*calls: Any, **more: Any) -> str:
    return json.dumps({"calls": calls, "tools": TOOLS, **more})


def tags(*calls: Any) -> str:
    return "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls)


RIGHT = tags(ADD)
TEXT = json.dumps(ADD)


def earned(completion: str, wanted: str) -> tuple[float | None, str]:
    found = score(completion, wanted)
    assert found.correct is (found.reward == 1.0) is (found.reason == "right")
    assert found.correct or (found.reward or 0.0) <= MOST_PARTIAL
    return found.reward, found.reason


@pytest.mark.parametrize(
    "completion",
    [
        RIGHT,
        f" {RIGHT}\n",
        f"I add them.\n{RIGHT}",
        f"<think>{tags(PING)}</think>{RIGHT}",
        TEXT,
        f"[{TEXT}]",
        f"```json\n{TEXT}\n```",
        f"```\n[{TEXT}]\n```",
        '{"arguments": {"b": 2, "a": 1}, "name": "add"}',
        '{"name": "\\u0061dd", "arguments": {"a": 1, "b": 2}}',
    ],
)
def test_the_right_call_in_either_form_is_right(completion: str) -> None:
    assert earned(completion, truth(ADD)) == (1.0, "right")
    assert compute_reward(completion, truth(ADD)) == 1.0


NO_CALLS = [
    "",
    " ",
    "add(1, 2)",
    "{}",
    "[]",
    "null",
    "1",
    '"add"',
    "<tool_call></tool_call>",
    f"Sure: {TEXT}",
    f"{TEXT} Done.",
    f"{TEXT}\n{TEXT}",
    f"{RIGHT} Done.",
    f"{RIGHT}<tool_call>",
    f"{RIGHT}</tool_call>",
    f"<tool_call>{RIGHT}</tool_call>",
    f"</tool_call>{RIGHT}",
    f"<tool_call>{TEXT}",
    f"{TEXT}</tool_call>",
    f"<tool_call>{TEXT}{TEXT}</tool_call>",
    f"<tool_call>[{TEXT}]</tool_call>",
    f"{RIGHT} and {RIGHT}",
    f"<think>{RIGHT}</think>",
    f"<think>{RIGHT}",
    f"```json\n{TEXT}\n```\nDone.",
    f"```json\n{TEXT}",
    '{"name": "add", "arguments": {"a": 1, "b": 2}, "score": 1.0}',
    '{"name": "add", "arguments": {"a": 1, "a": 1, "b": 2}}',
    '{"name": "ping", "name": "add", "arguments": {"a": 1, "b": 2}}',
    '{"name": "add", "arguments": "{\\"a\\": 1, \\"b\\": 2}"}',
    '{"name": ["add"], "arguments": {"a": 1, "b": 2}}',
    '{"name": "add", "parameters": {"a": 1, "b": 2}}',
    '{"name": "add"}',
    '{"name": "add", "arguments": {"a": 1, "b": NaN}}',
    '{"name": "add", "arguments": {"a": 1, "b": Infinity}}',
    '{"name": "add", "arguments": {"a": 1, "b": 1e999}}',
    '{"name": "add", "arguments": {"a": 1, "b": ' + "9" * 5000 + "}}",
    '{"name": "add", "arguments": {"a": 1, "b": 2,}}',
    "{'name': 'add', 'arguments': {'a': 1, 'b': 2}}",
    '{"name": "add", "arguments": {"a": 1, "b": 2}} // right',
    "[" * 100_000,
    '{"a":' * 100_000,
    "[" * 100_000 + "]" * 100_000,
    '{"name": "add", "arguments": {"a": 1, "b": ' + "[" * 40 + "]" * 40 + "}}",
    TEXT[:-2] + ', "note": "' + "x" * LONGEST + '"}}',
    "\ufeff" + TEXT,
    TEXT.replace('"', "\u201c"),
]


@pytest.mark.parametrize("completion", NO_CALLS)
def test_what_is_no_call_earns_nothing(completion: str) -> None:
    reward, reason = earned(completion, truth(ADD))
    assert reward == 0.0
    assert reason in ("no_call", "malformed", "text_after", "cut_in_thinking")


@pytest.mark.parametrize(
    ("call", "reward", "reason"),
    [
        ({"name": "sub", "arguments": {"a": 1, "b": 2}}, 0.1, "unknown_tool"),
        ({"name": "Add", "arguments": {"a": 1, "b": 2}}, 0.1, "unknown_tool"),
        ({"name": "\u0430dd", "arguments": {"a": 1, "b": 2}}, 0.1, "unknown_tool"),
        (PING, 0.1, "wrong_name"),
        ({"name": "add", "arguments": {}}, 0.3, "invalid_arguments"),
        ({"name": "add", "arguments": {"a": 1.5, "b": 2}}, 0.3, "invalid_arguments"),
        ({"name": "add", "arguments": {"a": True, "b": 2}}, 0.3, "invalid_arguments"),
        ({"name": "add", "arguments": {"a": "1", "b": 2}}, 0.3, "invalid_arguments"),
        ({"name": "add", "arguments": {"a": 1, "b": -2}}, 0.3, "invalid_arguments"),
        ({"name": "add", "arguments": {"a": 1, "b": 2, "c": 3}}, 0.3, "invalid_arguments"),
        ({"name": "add", "arguments": {"a": 3, "b": 4}}, 0.3, "wrong_arguments"),
        ({"name": "add", "arguments": {"a": 1, "b": 2.5}}, 0.6, "wrong_arguments"),
        ({"name": "add", "arguments": {"a": 1, "b": 3}}, 0.6, "wrong_arguments"),
        ({"name": "add", "arguments": {"a": 1, "b": 2, "note": "?"}}, 0.6, "wrong_arguments"),
    ],
)
def test_one_wrong_call_earns_its_part(call: Any, reward: float, reason: str) -> None:
    assert earned(tags(call), truth(ADD)) == (pytest.approx(reward), reason)
    assert compute_reward(tags(call), truth(ADD)) == 0.0


def test_a_shotgun_earns_less_than_one_honest_try() -> None:
    guesses = [{"name": "add", "arguments": {"a": 1, "b": b}} for b in range(10)]
    honest, _ = earned(tags(guesses[5]), truth(ADD))
    shotgun, reason = earned(tags(*guesses), truth(ADD))
    assert reason == "extra_call"
    assert (shotgun or 0.0) < 0.4 < (honest or 0.0)
    assert earned(tags(ADD, ADD), truth(ADD)) == (MOST_PARTIAL, "extra_call")


def test_several_calls_may_come_in_any_order_unless_it_matters() -> None:
    other = {"name": "add", "arguments": {"a": 5, "b": 6}}
    assert earned(tags(ADD, PING, other), truth(other, ADD, PING)) == (1.0, "right")
    assert earned(tags(ADD, other), truth(other, ADD, ordered=True)) == (MOST_PARTIAL, "wrong_order")
    assert earned(tags(other, ADD), truth(other, ADD, ordered=True)) == (1.0, "right")
    assert earned(tags(ADD), truth(other, ADD))[1] == "missing_call"
    assert earned(tags(ADD, ADD), truth(other, ADD))[1] == "wrong_arguments"
    assert earned(tags(ADD, PING, PING), truth(ADD, PING))[1] == "extra_call"


def test_each_call_stands_for_one_expected_call() -> None:
    """The second fits only the first expected call, so the first must take the other."""
    either = {"name": "add", "arguments": {"a": {"$any": [1, 2]}, "b": 2}}
    assert earned(tags(ADD, {"name": "add", "arguments": {"a": 2, "b": 2}}), truth(either, ADD)) == (1.0, "right")
    assert earned(tags(ADD, ADD), truth(either, ADD)) == (1.0, "right")
    two = {"name": "add", "arguments": {"a": 2, "b": 2}}
    assert earned(tags(two, two), truth(either, ADD))[1] == "wrong_arguments"


def test_allowed_values_optional_arguments_and_schemas() -> None:
    def wanted(**arguments: Any) -> str:
        return json.dumps({"calls": [{"name": "f", "arguments": arguments}]})

    def reward(wanted: str, **arguments: Any) -> float:
        return compute_reward(json.dumps({"name": "f", "arguments": arguments}), wanted)

    several = wanted(x={"$any": ["a", "b"]}, y={"$optional": [0]})
    assert [reward(several, x=x) for x in ("a", "b", "c", "ab", ["a"])] == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert [reward(several, x="a", y=y) for y in (0, 1, 0.0, False, None)] == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert reward(several) == 0.0
    by_schema = wanted(x={"$schema": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2}})
    assert [reward(by_schema, x=x) for x in ("ab", "a", "AB", 1)] == [1.0, 0.0, 0.0, 0.0]
    inside = wanted(x={"deep": [{"$any": [1, 2]}, "z"]})
    assert [reward(inside, x={"deep": [n, "z"]}) for n in (1, 2, 3)] == [1.0, 1.0, 0.0]
    decimal = wanted(x=2.0)
    assert [reward(decimal, x=x) for x in (2, 2.0, 3, True)] == [1.0, 1.0, 0.0, 0.0]


def test_a_pattern_that_backtracks_for_ever_is_given_up() -> None:
    wanted = json.dumps({"calls": [{"name": "f", "arguments": {"x": {"$schema": {"pattern": "^(a+)+$"}}}}]})
    assert earned(json.dumps({"name": "f", "arguments": {"x": "a" * 40 + "b"}}), wanted)[1] == "wrong_arguments"


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "x",
        "{}",
        "null",
        '{"calls": {}}',
        '{"calls": [], "form": "no"}',
        '{"calls": [{"add": {"a": 1}}]}',
        '{"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}',
        '{"calls": [{"name": "f"}]}',
        '{"calls": [{"name": "f", "arguments": {}}], "more": 1}',
        '{"calls": [{"name": "f", "arguments": {}}], "ordered": 1}',
        '{"calls": [{"name": "f", "arguments": {}}], "tools": [{}]}',
        '{"calls": [{"name": "f", "arguments": {}}], "tools": []}',
        '{"calls": [{"name": "f", "arguments": {"a": NaN}}]}',
        '{"calls": [{"name": "f", "arguments": {"a": {"$any": []}}}]}',
        '{"calls": [{"name": "f", "arguments": {"a": {"$schema": {"type": "no"}}}}]}',
        '{"calls": [{"name": "f", "arguments": {"a": {"$schema": {"patternProperties": {"(": {}}}}}}]}',
        '{"calls": [{"name": "f", "arguments": {"a": {"$schema": {"$ref": "http://127.0.0.1/x"}}}}]}',
        '{"calls": [{"name": "f", "arguments": {"a": {"$schema": {"$ref": "#"}}}}]}',
        truth({"name": "add", "arguments": {"a": "1", "b": 2}}),
        "[" * 100_000,
    ],
)
def test_a_truth_that_cannot_be_used_is_errored(wanted: str) -> None:
    completion = '{"name": "f", "arguments": {"a": 1}}'
    found = score(completion, wanted)
    assert found.errored
    assert found.error.startswith("the ground truth: ")
    assert compute_reward(completion, wanted) == 0.0


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abn"), inner, max_size=3),
    max_leaves=6,
)


@given(st.text() | VALUES.map(json.dumps), st.text() | st.just(truth(ADD)))
def test_nothing_raises_and_every_reward_is_in_range(completion: str, wanted: str) -> None:
    found = score(completion, wanted)
    assert found.errored or 0.0 <= (found.reward or 0.0) <= 1.0


@given(st.dictionaries(st.text(), VALUES))
def test_a_call_is_right_for_itself(arguments: dict[str, Any]) -> None:
    call = {"name": "f", "arguments": arguments}
    try:
        wanted = json.dumps({"calls": [call]}, allow_nan=False)
    except ValueError:
        return
    assert score(json.dumps(call), wanted).correct


@pytest.mark.parametrize("value", [None, 6, float("nan"), True, b"{}", ["6"], {"a": 1}, object(), type])
def test_a_value_of_the_wrong_type_earns_nothing(value: Any) -> None:
    assert compute_reward(value, truth(ADD)) == 0.0
    assert compute_reward(RIGHT, value) == 0.0


@pytest.mark.parametrize(
    "piece", ["[", "{", '"', '\\"', "<tool_call>", "</tool_call>", RIGHT, f"{TEXT},", "```json\n", "\n   ", "<think>"]
)
def test_time_grows_with_the_length_and_not_its_square(piece: str) -> None:
    def seconds(length: int) -> float:
        times = []
        for _ in range(5):
            started = time.process_time()
            score(piece * (length // len(piece)), truth(ADD))
            times.append(time.process_time() - started)
        return min(times)

    assert seconds(160_000) < 24 * seconds(20_000) + 0.001


# ---------------------------------------------------------------- the recipe's data

ROWS = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]


def test_every_reference_of_the_recipe_is_right_and_its_tools_take_it() -> None:
    for row in ROWS:
        assert score(row["demonstration"], row["ground_truth"]).reward == 1.0, row["prompt"]
        with_tools = json.dumps({**json.loads(row["ground_truth"]), "tools": row["tools"]})
        assert score(row["demonstration"], with_tools).reward == 1.0, row["prompt"]


def test_the_recipe_has_levels_and_no_prompt_twice() -> None:
    assert len({row["prompt"] for row in ROWS}) == len(ROWS) == 150
    labels = [row["label"] for row in ROWS]
    assert {label: labels.count(label) for label in labels} == dict.fromkeys(
        ["single", "choice", "typed", "several", "derived"], 30
    )


def mean(completions: list[str]) -> float:
    return sum(score(c, row["ground_truth"]).reward or 0.0 for c, row in zip(completions, ROWS, strict=True)) / 150


def test_no_constant_or_echo_earns_much_of_the_recipe() -> None:
    constants = {row["demonstration"] for row in ROWS[::6]} | {
        tags({"name": json.loads(row["ground_truth"])["calls"][0]["name"], "arguments": {}}) for row in ROWS
    }
    assert max(mean([constant] * 150) for constant in constants) < 0.15
    assert mean([row["prompt"] for row in ROWS]) == 0.0
    assert mean([row["ground_truth"] for row in ROWS]) == 0.0
    assert mean([json.dumps(row["tools"]) for row in ROWS]) == 0.0
    assert mean(["<tool_call></tool_call>"] * 150) == 0.0
    first_tool = [tags({"name": row["tools"][0]["function"]["name"], "arguments": {}}) for row in ROWS]
    assert mean(first_tool) < 0.25
