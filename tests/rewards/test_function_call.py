from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.call_forms import FORMS
from rewards.function_call import MOST_PARTIAL, compute_reward, score, takes_any_words, write_reference
from rewards.json_values import LONGEST

DATA = Path(__file__).parent.parent.parent / "runs" / "recipes" / "data" / "function-calling.jsonl"
REAL = Path(__file__).parents[3] / "shared" / "data" / "tool_calling_100.jsonl"

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
    wanted = json.dumps({"calls": [{"name": "f", "arguments": {"x": {"$schema": {"pattern": "^(a|aa)+$"}}}}]})
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


# ---------------------------------------------------------------- what is the same call

UNIT = {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"}
WEATHER = {"name": "weather", "parameters": {"type": "object", "required": ["city"], "properties": {
    "city": {"type": "string"}, "unit": UNIT, "days": {"type": "number", "default": 1}, "page": {"type": "integer"},
    "note": {"type": ["string", "null"]}}}}  # fmt: skip


def weather(**arguments: Any) -> dict[str, Any]:
    return {"name": "weather", "arguments": {"city": "Oslo"} | arguments}


@pytest.mark.parametrize(
    ("wanted", "given", "right"),
    [
        ({}, {"unit": "celsius"}, True),
        ({"unit": "celsius"}, {}, True),
        ({"unit": {"$any": ["celsius", "fahrenheit"]}}, {}, True),
        ({"days": 1}, {"unit": "celsius"}, True),
        ({"days": 1.0}, {"days": 1}, True),
        ({}, {"days": 1.0}, True),
        ({"days": 3}, {"days": 3.0}, True),
        ({"page": 3}, {"page": 3.0}, True),
        ({}, {"unit": "fahrenheit"}, False),
        ({"unit": "fahrenheit"}, {}, False),
        ({"unit": "fahrenheit"}, {"unit": "celsius"}, False),
        ({"unit": {"$any": ["fahrenheit"]}}, {}, False),
        ({}, {"days": 2}, False),
        ({}, {"days": True}, False),
        ({}, {"note": None}, False),
        ({"days": 3}, {"days": "3"}, False),
        ({"days": 3}, {"days": 3.1}, False),
        ({"page": 3}, {"page": 3.5}, False),
        ({"days": {"$optional": [3]}}, {"days": 1}, False),
    ],
)
def test_a_call_is_the_same_with_defaults_and_equal_numbers(wanted: Any, given: Any, right: bool) -> None:
    truth = json.dumps({"calls": [weather(**wanted)], "tools": [WEATHER]})
    assert score(tags(weather(**given)), truth).correct is right
    reference = write_reference(truth)
    assert reference is not None
    assert score(reference, truth).correct


def test_a_default_that_must_be_given_is_not_left_out() -> None:
    tool = {"name": "f", "parameters": {"properties": {"a": {"default": 1}}, "required": ["a"]}}
    truth = json.dumps({"calls": [{"name": "f", "arguments": {"a": 1}}], "tools": [tool]})
    assert score(tags({"name": "f", "arguments": {"a": 1}}), truth).correct
    assert score(tags({"name": "f", "arguments": {}}), truth).reason == "invalid_arguments"
    assert score(write_reference(truth) or "", truth).correct


@pytest.mark.parametrize("truth", [json.dumps({"calls": [], "tools": TOOLS}), "[]", '{"tool_calls": null}'])
def test_where_no_call_is_expected_words_are_right(truth: str) -> None:
    for words in ("I cannot look that up.", "<think>No tool fits.</think>Which city?", write_reference(truth) or ""):
        assert earned(words, truth) == (1.0, "right")
    for wrong in (RIGHT, TEXT, f"[{TEXT}]", f"Sorry. {RIGHT}", tags(ADD, PING)):
        assert earned(wrong, truth) == (0.0, "extra_call")
    attempts = ("", " ", "<think>x</think>", "<answer></answer>", "<tool_call></tool_call>", f"{RIGHT} Done.",
                '{"name": "add"', "<think>No", 'No. [TOOL_CALLS]add{"a": 1}', "<function=add>",
                "<|python_tag|>x")  # fmt: skip
    for attempt in attempts:
        assert earned(attempt, truth)[0] == 0.0
    assert takes_any_words(truth)
    assert takes_any_words(json.dumps({"calls": [ADD]})) is None


@pytest.mark.parametrize(
    "text", ["<think>", "</think>", "</tool_call>", "<tool_call>", 'a "</tool_call>" b', "[THINK]"]
)
@pytest.mark.parametrize("before", ["", "<think>I use <tool_call> now.</think>", "Let me see."])
def test_a_tag_within_an_argument_is_text(text: str, before: str) -> None:
    call = {"name": "run", "arguments": {"cmd": text, "rest": [text, {text: f"print('{text}')"}]}}
    truth = json.dumps({"calls": [call, PING]})
    assert score(before + tags(call, PING), truth).correct
    assert score(tags(PING) + json.dumps(call), truth).reason == "text_after"
    assert not score(f"<think>{tags(call, PING)}", truth).correct
    if before != "Let me see.":
        assert score(before + json.dumps([call, PING], indent=1), truth).correct


# ---------------------------------------------------------------- other forms

FORMED = {
    "llama": [
        '{"name": "weather", "parameters": {"city": "Oslo", "days": 2}}',
        '<|python_tag|>{"type": "function", "name": "weather", "parameters": {"city": "Oslo", "days": 2}}',
    ],
    "openai": [
        '{"name": "weather", "arguments": "{\\"city\\": \\"Oslo\\", \\"days\\": 2}"}',
        '{"tool_calls": [{"id": "1", "type": "function", "function": {"name": "weather", '
        '"arguments": "{\\"city\\": \\"Oslo\\", \\"days\\": 2}"}}]}',
        '[{"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo", "days": 2}}}]',
    ],
    "mistral": [
        'Let me see.[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}]',
        '[TOOL_CALLS]weather[ARGS]{"city": "Oslo", "days": 2}',
        '[TOOL_CALLS]weather{"city": "Oslo", "days": 2}',
        '[{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}]',
    ],
    "pythonic": [
        '[weather(city="Oslo", days=2)]',
        "weather(city='Oslo', days=2)",
        '```python\n[weather(city="Oslo", days=2)]\n```',
    ],
    "qwen3-coder": [
        "I look.\n<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n2\n"
        "</parameter>\n</function>\n</tool_call>",
    ],
    "glm": [
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>days</arg_key>\n"
        "<arg_value>2</arg_value>\n</tool_call>",
    ],
    "json": [tags(weather(days=2))],
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_read_where_the_ground_truth_names_it(form: str) -> None:
    truth = json.dumps({"calls": [weather(days=2)], "tools": [WEATHER], "form": form})
    for text in FORMED[form]:
        assert earned(f"<think>x</think>{text}", truth) == (1.0, "right"), text
        assert earned(f"<answer>{text}</answer>", truth) == (1.0, "right"), text
        assert not score(text.replace("2", "3"), truth).correct
        assert not score(text.replace("Oslo", "Rome"), truth).correct
        assert score(f"{text}\nDone.", truth).reward == 0.0
        assert score(text[:-1], truth).reward == 0.0
        assert score(f"<think>{text}", truth).reason == "cut_in_thinking"
    others = [text for name, texts in FORMED.items() for text in texts if name != form and text not in FORMED[form]]
    same = {"json", "mistral", "openai"}  # lists of objects with arguments
    for text in others:
        if form not in same or all(text not in FORMED[name] for name in same):
            assert score(text, truth).reward == 0.0, text


@pytest.mark.parametrize("form", FORMS)
def test_what_each_form_writes_it_reads(form: str) -> None:
    calls = [
        {"name": "f", "arguments": {"text": 'a "b"\n</tool_call>é', "n": -2.5, "yes": True, "none": None}},
        {"name": "math.g", "arguments": {}},
        {"name": "f", "arguments": {"text": "12", "deep": {"a": [1, {"b": "x"}]}, "no": False}},
    ]
    if form in ("qwen3-coder", "glm"):  # texts have no quotes there
        calls[0]["arguments"]["text"] = 'a "b"\né'  # type: ignore[index]
    tools = [{"name": "f", "parameters": {"properties": {"text": {"type": "string"}}}}, {"name": "math.g"}]
    truth = json.dumps({"calls": calls, "tools": tools, "form": form, "ordered": True})
    reference = write_reference(truth)
    assert reference is not None
    assert score(reference, truth).correct, reference


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("pythonic", "[weather('Oslo', days=2)]"),
        ("pythonic", "[weather(city='Oslo', days=2, days=2)]"),
        ("pythonic", "[weather(**{'city': 'Oslo', 'days': 2})]"),
        ("pythonic", "[weather(city='Oslo', days=1 + 1)]"),
        ("pythonic", "[weather(city='Oslo', days={2})]"),
        ("pythonic", "[weather(city='Oslo', days=2e999)]"),
        ("pythonic", "weather(city='Oslo', days=2); 1"),
        ("pythonic", "[" * 60_000),
        ("pythonic", "[" + "-" * 60_000 + "1]"),
        ("pythonic", "[f(a=" + "1+" * 30_000 + "1)]"),
        ("qwen3-coder", "<tool_call><function=weather><parameter=city>Oslo</parameter>and<parameter=days>2</parameter>"
                        "</function></tool_call>"),
        ("qwen3-coder", "<tool_call><function=weather><parameter=city>Rome</parameter><parameter=city>Oslo</parameter>"
                        "<parameter=days>2</parameter></function></tool_call>"),
        ("qwen3-coder", "<function=weather><parameter=city>Oslo</parameter><parameter=days>2</parameter></function>"),
        ("glm", "<tool_call>weather<arg_key>city</arg_key><arg_value>Oslo</arg_value><arg_key>days</arg_key>"
                "</tool_call>"),
        ("mistral", '[TOOL_CALLS][TOOL_CALLS]weather{"city": "Oslo", "days": 2}'),
        ("openai", '{"name": "weather", "arguments": "city=Oslo"}'),
        ("llama", '{"name": "weather", "parameters": {"city": "Oslo", "days": 2}, "arguments": {}}'),
    ],
)  # fmt: skip
def test_what_is_no_call_of_a_form_earns_nothing(form: str, text: str) -> None:
    truth = json.dumps({"calls": [weather(days=2)], "tools": [WEATHER], "form": form})
    assert earned(text, truth) == (0.0, "malformed")


# ---------------------------------------------------------------- ground truths of data sets


@pytest.mark.parametrize(
    "truth",
    [
        [ADD],
        {"calls": [{"type": "function", "function": ADD}]},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {
            "name": "add", "arguments": '{"a": 1, "b": 2}'}}]},
        [{"add": {"a": [1], "b": [2, 3], "note": ["x", ""]}}],
        {"calls": [{"add": {"a": [1], "b": [2]}}], "tools": [{"name": "add", "parameters": {
            "type": "dict", "properties": {"a": {"type": "int"}, "b": {"type": "float"}, "c": {"type": "any"}}}}]},
        {"calls": [ADD], "tools": [{"type": "function", "function": {"name": "add", "parameters": {
            "a": {"type": "int", "description": ""}, "b": {"type": "float, optional", "default": 5},
            "type": {"type": "List[str]"}}}}]},
    ],
)  # fmt: skip
def test_ground_truths_of_other_data_sets_are_read(truth: Any) -> None:
    text = json.dumps(truth)
    assert score(tags(ADD), text).correct
    for wrong in ({"a": 2, "b": 2}, {"a": 1}, {"a": 1, "b": 2, "z": 1}, {"a": "1", "b": 2}):
        assert not score(tags({"name": "add", "arguments": wrong}), text).correct
    assert score(write_reference(text) or "", text).correct


@pytest.mark.skipif(not REAL.exists(), reason="real rows are not here")
def test_real_ground_truths_are_read_with_their_tools() -> None:
    for line in REAL.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        calls = row["ground_truth"]["tool_calls"]
        for truth in (json.dumps(row["ground_truth"]), json.dumps({"calls": calls})):
            assert score(write_reference(truth) or "", truth).correct, row["ground_truth"]
        truth = json.dumps({"tool_calls": calls, "tools": row["tools"]})
        found = score(write_reference(json.dumps({"calls": calls})) or "", truth)
        assert found.correct or "does not take the arguments" in found.error, found


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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "piece",
    [
        "[TOOL_CALLS]",
        "f(a=",
        "<function=f>",
        "<parameter=a>",
        "<arg_key>",
        "<arg_value>",
        ',"</tool_call>"',
        "[",
        "{",
        '"',
        '\\"',
        "<tool_call>",
        "</tool_call>",
        RIGHT,
        f"{TEXT},",
        "```json\n",
        "\n   ",
        "<think>",
    ],
)
def test_time_grows_with_the_length_and_not_its_square(piece: str, form: str) -> None:
    wanted = truth(ADD, form=form)

    def seconds(length: int) -> float:
        times = []
        for _ in range(5):
            started = time.process_time()
            score(f"<tool_call>{piece * (length // len(piece))}", wanted)
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
