"""Calls of functions: which ones, with which arguments.

A completion makes its calls after its thinking, in the form that the ground truth names (rewards/call_forms.py), in
JSON as strict as rewards/json_values.py says. The ground truth is a JSON string:

    {"calls": [{"name": "add", "arguments": {"a": 1, "b": {"$any": [2, 3]}, "note": {"$optional": ["x"]}}}],
     "tools": [{"name": "add", "parameters": {JSON Schema}}], "ordered": false, "form": "json"}

    calls      The value of an argument is JSON, ``{"$any": [...]}`` for one of several values, ``{"$schema": {...}}``
               for whatever a JSON Schema accepts, ``{"$optional": [...]}`` for an argument that may be left out, or
               have one of these values. Where no call is expected, an answer in words is right and any call wrong
    tools      optional, as for a chat template (``{"type": "function", "function": {...}}`` too). A call of a tool
               that is not there, or with arguments that its schema refuses, earns nothing for its arguments. An
               argument may be left out, or written out, where its value is the schema's ``default``, and equal numbers
               are equal, 3.0 and 3
    ordered    optional: whether calls must come in this order (default false)
    form       optional: json (default), llama, openai, mistral, pythonic, qwen3-coder, glm

As other data sets have them, calls may be a list alone (xLAM), ``tool_calls`` with arguments as text (OpenAI), or
``[{"add": {"a": [1], "note": ["x", ""]}}]`` with the allowed values, "" where none need be given (BFCL); and types of
a schema may have Python's names.

Every call as expected and no other: 1.0. Else partial credit, at most 0.6: 0.1 for the form, 0.2 times the F1 of the
names, 0.7 times the F1 of the arguments, with calls matched one to one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from harness.types import Score
from rewards.call_forms import FORMS, MARKS, Call, NoCalls, Schemas, has_call, to_openai_call
from rewards.format import hide_quoted, is_cut_in_thinking, read_answer
from rewards.json_values import (
    WrongTruth,
    check_expected,
    example,
    is_valid,
    matches,
    parse_truth,
    pattern_budget,
    validator,
)
from rewards.outside import only_right
from rewards.tool_schemas import read_tools

FORM = 0.1
NAMES = 0.2
ARGUMENTS = 0.7
MOST_PARTIAL = 0.6
MOST_CALLS = 64
OPTIONAL = {"tools", "ordered", "form"}


@dataclass(frozen=True, slots=True)
class Truth:
    """A ground truth, read. ``tools`` maps names to validators of arguments, None when no tools are given."""

    calls: tuple[Call, ...]
    tools: dict[str, Any] | None
    ordered: bool
    form: str = "json"


@pattern_budget()
def score(completion: str, ground_truth: str) -> Score:
    """Score the calls of a completion; components: form, names and arguments (both F1), exact.

    Reason codes: right, cut_in_thinking, no_call, malformed, text_after, unknown_tool, invalid_arguments, wrong_name,
    missing_call, extra_call, wrong_arguments, wrong_order.
    """
    try:
        truth = read_truth(ground_truth)
        found = read_calls(completion, truth)
        return _compare(truth, found) if truth.calls or not found else _all_or_nothing("extra_call")
    except WrongTruth as error:
        return Score(None, False, "errored", error=f"the ground truth: {error}")
    except NoCalls as fault:
        text = read_answer(completion)
        if truth.calls or not text:  # nothing is left of a completion that is cut in its thinking
            return _all_or_nothing(str(fault))
        return _all_or_nothing("extra_call" if has_call(text, _schemas(truth)) else "right")


compute_reward = only_right(score)


def write_reference(ground_truth: str) -> str | None:
    """A completion that is right; None where the ground truth cannot be used or only a schema says what is."""
    try:
        truth = read_truth(ground_truth)
        made = [_example(call) for call in truth.calls]
    except (WrongTruth, LookupError):
        return None
    return FORMS[truth.form][1](made) if made else "None of the tools is of use here."


def takes_any_words(ground_truth: str) -> str | None:
    """Why any answer in words is right (preflight then tries none), None where one is not."""
    try:
        return None if read_truth(ground_truth).calls else "no call is expected"
    except WrongTruth:
        return None


def _all_or_nothing(reason: str) -> Score:
    earned = float(reason == "right")
    return Score(earned, earned == 1.0, reason, dict.fromkeys(("form", "names", "arguments", "exact"), earned))


def read_calls(completion: str, truth: Truth) -> list[Call]:
    """The calls of a completion, at least one. Raises NoCalls."""
    if is_cut_in_thinking(completion):
        raise NoCalls("cut_in_thinking")
    text = read_answer(completion)
    try:
        return FORMS[truth.form][0](text, _schemas(truth))
    except NoCalls as fault:
        if str(fault) == "no_call" and MARKS.search(hide_quoted(text)):
            raise NoCalls("malformed") from None
        raise


def _schemas(truth: Truth) -> Schemas:
    return {name: tool.schema for name, tool in (truth.tools or {}).items()}


# ---------------------------------------------------------------- the ground truth


@lru_cache(4096)
def read_truth(ground_truth: str) -> Truth:
    """A ground truth, checked against its own tools. Raises WrongTruth."""
    value = parse_truth(ground_truth)
    if isinstance(value, list):
        value = {"calls": value}
    elif isinstance(value, dict) and "tool_calls" in value:  # a message, with more of no use here
        value = {"calls": value["tool_calls"] or [], **{key: value[key] for key in OPTIONAL & value.keys()}}
    if not isinstance(value, dict) or not {"calls"} <= value.keys() <= {"calls"} | OPTIONAL:
        raise WrongTruth('must be an object with "calls", and perhaps "tools", "ordered" and "form"')
    if not isinstance(value["calls"], list) or len(value["calls"]) > MOST_CALLS:
        raise WrongTruth(f'"calls" must be a list of at most {MOST_CALLS} calls')
    if not isinstance(value.get("ordered", False), bool):
        raise WrongTruth('"ordered" must be true or false')
    if value.get("form", "json") not in FORMS:
        raise WrongTruth(f'"form" must be one of {", ".join(FORMS)}')
    try:
        calls = [to_openai_call(_from_bfcl(call)) for call in value["calls"]]
    except NoCalls:
        raise WrongTruth('a call must be {"name": text, "arguments": object}') from None
    tools = _tools(value.get("tools"))
    for call in calls:
        for argument in call.arguments.values():
            check_expected(_present(argument))
        _check_against_tools(call, tools)
    calls = [_with_defaults(call, tools[call.name].schema) if tools else call for call in calls]
    return Truth(tuple(calls), tools, value.get("ordered", False), value.get("form", "json"))


def _from_bfcl(value: Any) -> Any:
    """Of ``{"f": {"a": [1, 2], "b": ["x", ""]}}`` our own."""
    if not isinstance(value, dict) or len(value) != 1:
        return value
    [(name, given)] = value.items()
    if not isinstance(given, dict) or not all(isinstance(allowed, list) and allowed for allowed in given.values()):
        return value
    allowed = {key: [one for one in values if one != ""] for key, values in given.items()}
    return {
        "name": name,
        "arguments": {
            key: {"$optional" if "" in given[key] else "$any": values or [""]} for key, values in allowed.items()
        },
    }


def _tools(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        tools = [tool["function"] for tool in read_tools(value)]
    except ValueError as error:
        raise WrongTruth(str(error)) from None
    return {tool["name"]: validator(tool["parameters"]) for tool in tools}


def _check_against_tools(call: Call, tools: Mapping[str, Any] | None) -> None:
    if tools is None:
        return
    if call.name not in tools:
        raise WrongTruth(f"no tool is named {call.name!r}")
    try:
        arguments = {name: example(_present(value)) for name, value in call.arguments.items()}
    except LookupError:  # a value of which only a schema is known
        return
    if not is_valid(tools[call.name], arguments):
        raise WrongTruth(f"the tool {call.name!r} does not take the arguments of the call")


def _with_defaults(call: Call, schema: Any) -> Call:
    """The call with every argument optional whose value is the default: what the tool does is the same."""
    arguments = dict(call.arguments)
    properties = schema.get("properties", {}) if isinstance(schema, dict) else {}
    for name, inner in properties.items():
        if not isinstance(inner, dict) or "default" not in inner or name in schema.get("required", ()):
            continue
        given = arguments.get(name, {"$optional": [inner["default"]]})
        if not _is_optional(given) and matches(given, inner["default"], by_value=True):
            given = {"$optional": [given]}
        arguments[name] = given
    return Call(call.name, arguments)


def _example(call: Call) -> Call:
    """Raises LookupError where only a schema says what a value is."""
    needed = {name: value for name, value in call.arguments.items() if not _is_optional(value)}
    return Call(call.name, {name: example(value) for name, value in needed.items()})


def _is_optional(expected: Any) -> bool:
    return isinstance(expected, dict) and expected.keys() == {"$optional"}


def _present(expected: Any) -> Any:
    """What an argument must be when it is there."""
    return {"$any": expected["$optional"]} if _is_optional(expected) else expected


# ---------------------------------------------------------------- comparison


def _compare(truth: Truth, found: Sequence[Call]) -> Score:
    pairs = _match(truth, found)
    right = [n for n, call in pairs if is_exact(truth, n, call)]
    in_order = not truth.ordered or [n for n, _ in pairs] == sorted(n for n, _ in pairs)
    exact = len(right) == len(truth.calls) == len(found) and in_order and all(_is_taken(truth, c) for c in found)
    names = _f1(
        (Counter(call.name for call in truth.calls) & Counter(call.name for call in found)).total(),
        len(truth.calls),
        len(found),
    )
    arguments = _arguments(truth, found, pairs)
    partial = min(MOST_PARTIAL, FORM + NAMES * names + ARGUMENTS * arguments)
    return Score(
        1.0 if exact else partial,
        exact,
        "right" if exact else _reason(truth, found),
        {"form": 1.0, "names": names, "arguments": arguments, "exact": float(exact)},
    )


def _match(truth: Truth, found: Sequence[Call]) -> list[tuple[int, Call]]:
    """Which expected call each found one stands for, in the order of those found; one to one, same name.

    As many exact pairs as there can be (augmenting paths); of the rest, those with most arguments right first.
    """
    found_of: dict[int, int] = {}  # expected -> found
    if truth.ordered:
        found_of = {n: n for n in range(min(len(truth.calls), len(found))) if is_exact(truth, n, found[n])}
    else:
        exact = [[n for n in range(len(truth.calls)) if is_exact(truth, n, one)] for one in found]
        for i in range(len(found)):
            _augment(i, exact, found_of, set())
    taken = set(found_of.values())
    candidates = sorted(
        (-_right_arguments(truth, n, found[i]), n, i)
        for n in range(len(truth.calls))
        if n not in found_of
        for i in range(len(found))
        if i not in taken and truth.calls[n].name == found[i].name
    )
    for _, n, i in candidates:
        if n not in found_of and i not in taken:
            found_of[n] = i
            taken.add(i)
    return [(n, found[i]) for n, i in sorted(found_of.items(), key=lambda pair: pair[1])]


def _augment(i: int, exact: Sequence[Sequence[int]], found_of: dict[int, int], tried: set[int]) -> bool:
    """Give found call ``i`` an expected one, moving others where that helps (Kuhn's algorithm)."""
    for n in exact[i]:
        if n not in tried:
            tried.add(n)
            if n not in found_of or _augment(found_of[n], exact, found_of, tried):
                found_of[n] = i
                return True
    return False


def is_exact(truth: Truth, n: int, found: Call) -> bool:
    """Whether a call is the n-th that was expected, to the last argument."""
    expected = truth.calls[n]
    return (
        expected.name == found.name
        and _right_arguments(truth, n, found) == len(found.arguments)
        and all(name in found.arguments or _is_optional(value) for name, value in expected.arguments.items())
    )


def _right_arguments(truth: Truth, n: int, found: Call) -> int:
    expected = truth.calls[n].arguments
    return sum(
        name in expected and matches(_present(expected[name]), value, by_value=truth.tools is not None)
        for name, value in found.arguments.items()
    )


def _is_taken(truth: Truth, call: Call) -> bool:
    """Whether the tools take this call."""
    return truth.tools is None or (call.name in truth.tools and is_valid(truth.tools[call.name], call.arguments))


def _arguments(truth: Truth, found: Sequence[Call], pairs: Sequence[tuple[int, Call]]) -> float:
    """F1 of the arguments of all calls; where there are none to give, that of calls without any."""
    right = sum(_right_arguments(truth, n, call) for n, call in pairs if _is_taken(truth, call))
    left_out = sum(
        _is_optional(value)
        for n, call in pairs
        for name, value in truth.calls[n].arguments.items()
        if name not in call.arguments
    )
    wanted = sum(len(call.arguments) for call in truth.calls) - left_out
    given = sum(len(call.arguments) for call in found)
    if not wanted and not given:
        return _f1(len(pairs), len(truth.calls), len(found))
    return _f1(right, wanted, given)


def _f1(right: int, wanted: int, given: int) -> float:
    return 2 * right / (wanted + given) if wanted + given else 0.0


def _reason(truth: Truth, found: Sequence[Call]) -> str:
    if truth.tools is not None and any(call.name not in truth.tools for call in found):
        return "unknown_tool"
    if any(not _is_taken(truth, call) for call in found):
        return "invalid_arguments"
    wanted, given = Counter(call.name for call in truth.calls), Counter(call.name for call in found)
    if given == wanted:
        same = sorted(_match(replace(truth, ordered=False), found), key=lambda pair: pair[0])
        exact = len(same) == len(found) and all(is_exact(truth, n, call) for n, call in same)
        return "wrong_order" if exact else "wrong_arguments"
    if given - wanted and wanted - given:
        return "wrong_name"
    return "extra_call" if given - wanted else "missing_call"
