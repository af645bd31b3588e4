"""Calls of functions: which ones, with which arguments.

A completion makes its calls in one of two forms, after its thinking:

    <tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>      once for each call; text may come before
    {"name": "add", "arguments": {"a": 1, "b": 2}}                             or a list of such objects, and nothing
                                                                               else, except a ```json fence around it

Nothing may follow the last call, and a call has exactly these two keys (JSON as strict as rewards/json_values.py says).

The ground truth is a JSON string:

    {"calls": [{"name": "add", "arguments": {"a": 1, "b": {"$any": [2, 3]}, "note": {"$optional": ["x"]}}}],
     "tools": [{"name": "add", "parameters": {JSON Schema}}], "ordered": false}

    calls      at least one. The value of an argument is JSON, ``{"$any": [...]}`` for one of several values,
               ``{"$schema": {...}}`` for whatever a JSON Schema accepts, ``{"$optional": [...]}`` for an argument that
               may be left out, or have one of these values
    tools      optional, as for a chat template (``{"type": "function", "function": {...}}`` too). A call of a tool
               that is not there, or with arguments that its schema refuses, earns nothing for its arguments
    ordered    optional: whether calls must come in this order (default false)

Every call as expected and no other: 1.0. Else partial credit, at most 0.6: 0.1 for the form, 0.2 times the F1 of the
names, 0.7 times the F1 of the arguments, with calls matched one to one.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from harness.types import Score
from rewards.format import after_thinking
from rewards.json_values import (
    Malformed,
    WrongTruth,
    check_expected,
    example,
    is_valid,
    matches,
    parse,
    parse_truth,
    validator,
)
from rewards.outside import only_right

FORM = 0.1
NAMES = 0.2
ARGUMENTS = 0.7
MOST_PARTIAL = 0.6
MOST_CALLS = 64

OPEN, CLOSE = "<tool_call>", "</tool_call>"
FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL)


class Call(NamedTuple):
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Truth:
    """A ground truth, read. ``tools`` maps names to validators of arguments, None when no tools are given."""

    calls: tuple[Call, ...]
    tools: dict[str, Any] | None
    ordered: bool


def score(completion: str, ground_truth: str) -> Score:
    """Score the calls of a completion; components: form, names and arguments (both F1), exact.

    Reason codes: right, no_call, malformed, text_after, unknown_tool, invalid_arguments, wrong_name, missing_call,
    extra_call, wrong_arguments, wrong_order.
    """
    try:
        return _compare(read_truth(ground_truth), read_calls(completion))
    except WrongTruth as error:
        return Score(None, False, "errored", error=f"the ground truth: {error}")
    except _NoCalls as fault:
        return Score(0.0, False, str(fault), {"form": 0.0, "names": 0.0, "arguments": 0.0, "exact": 0.0})


compute_reward = only_right(score)


def write_reference(ground_truth: str) -> str | None:
    """A completion that is right; None where the ground truth cannot be used or only a schema says what is."""
    try:
        calls = read_truth(ground_truth).calls
        made = [
            {"name": c.name, "arguments": {name: example(_present(value)) for name, value in c.arguments.items()}}
            for c in calls
        ]
    except (WrongTruth, LookupError):
        return None
    return "\n".join(f"{OPEN}{json.dumps(call)}{CLOSE}" for call in made)


# ---------------------------------------------------------------- the completion


class _NoCalls(Exception):
    """The completion has not the form of calls. Its text is the reason code."""


def read_calls(completion: str) -> list[Call]:
    """The calls of a completion, at least one. Raises _NoCalls."""
    text = after_thinking(completion).strip()
    if OPEN in text or CLOSE in text:
        return [_call(body) for body in _tagged(text)]
    if match := FENCED.fullmatch(text):
        text = match[1].strip()
    if not text.startswith(("{", "[")):
        raise _NoCalls("no_call")
    value = _parse(text)
    values = value if isinstance(value, list) else [value]
    if not values:
        raise _NoCalls("no_call")
    return [_to_call(one) for one in values]


def _tagged(text: str) -> list[str]:
    """What stands between the tags: each opened, closed, nothing but white space between and after them."""
    before, *rest = text.split(OPEN)
    if CLOSE in before or not rest:
        raise _NoCalls("malformed")
    bodies = []
    for part in rest:
        body, closed, after = part.partition(CLOSE)
        if not closed or CLOSE in after:
            raise _NoCalls("malformed")
        if after.strip():
            raise _NoCalls("text_after")
        bodies.append(body)
    return bodies


def _call(text: str) -> Call:
    return _to_call(_parse(text))


def _parse(text: str) -> Any:
    try:
        return parse(text)
    except Malformed:
        raise _NoCalls("malformed") from None


def _to_call(value: Any) -> Call:
    if not isinstance(value, dict) or value.keys() != {"name", "arguments"}:
        raise _NoCalls("malformed")
    name, arguments = value["name"], value["arguments"]
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise _NoCalls("malformed")
    return Call(name, arguments)


# ---------------------------------------------------------------- the ground truth


@lru_cache(4096)
def read_truth(ground_truth: str) -> Truth:
    """A ground truth, checked against its own tools. Raises WrongTruth."""
    value = parse_truth(ground_truth)
    if not isinstance(value, dict) or not value.keys() <= {"calls", "tools", "ordered"} or "calls" not in value:
        raise WrongTruth('must be an object with "calls", and perhaps "tools" and "ordered"')
    if not isinstance(value["calls"], list) or not 1 <= len(value["calls"]) <= MOST_CALLS:
        raise WrongTruth(f'"calls" must be a list of 1 to {MOST_CALLS} calls')
    if not isinstance(value.get("ordered", False), bool):
        raise WrongTruth('"ordered" must be true or false')
    try:
        calls = tuple(_to_call(call) for call in value["calls"])
    except _NoCalls:
        raise WrongTruth('a call must be {"name": text, "arguments": object}') from None
    for call in calls:
        for argument in call.arguments.values():
            check_expected(_present(argument))
    truth = Truth(calls, _tools(value.get("tools")), value.get("ordered", False))
    for call in calls:
        _check_against_tools(call, truth)
    return truth


def _tools(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise WrongTruth('"tools" must be a list')
    tools = {}
    for tool in value:
        inner = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise WrongTruth('a tool must be an object with "name" and "parameters"')
        tools[inner["name"]] = validator(inner.get("parameters", {}))
    return tools


def _check_against_tools(call: Call, truth: Truth) -> None:
    if truth.tools is None:
        return
    if call.name not in truth.tools:
        raise WrongTruth(f"no tool is named {call.name!r}")
    try:
        arguments = {name: example(_present(value)) for name, value in call.arguments.items()}
    except LookupError:  # a value of which only a schema is known
        return
    if not is_valid(truth.tools[call.name], arguments):
        raise WrongTruth(f"the tool {call.name!r} does not take the arguments of the call")


def _is_optional(expected: Any) -> bool:
    return isinstance(expected, dict) and expected.keys() == {"$optional"}


def _present(expected: Any) -> Any:
    """What an argument must be when it is there."""
    return {"$any": expected["$optional"]} if _is_optional(expected) else expected


# ---------------------------------------------------------------- comparison


def _compare(truth: Truth, found: Sequence[Call]) -> Score:
    pairs = _match(truth, found)
    right = [n for n, call in pairs if is_exact(truth.calls[n], call)]
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
        found_of = {n: n for n in range(min(len(truth.calls), len(found))) if is_exact(truth.calls[n], found[n])}
    else:
        exact = [[n for n, call in enumerate(truth.calls) if is_exact(call, one)] for one in found]
        for i in range(len(found)):
            _augment(i, exact, found_of, set())
    taken = set(found_of.values())
    candidates = sorted(
        (-_right_arguments(truth.calls[n], found[i]), n, i)
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


def is_exact(expected: Call, found: Call) -> bool:
    """Whether a call is what was expected, to the last argument."""
    return (
        expected.name == found.name
        and found.arguments.keys() <= expected.arguments.keys()
        and all(
            matches(_present(value), found.arguments[name]) if name in found.arguments else _is_optional(value)
            for name, value in expected.arguments.items()
        )
    )


def _right_arguments(expected: Call, found: Call) -> int:
    return sum(
        name in expected.arguments and matches(_present(expected.arguments[name]), value)
        for name, value in found.arguments.items()
    )


def _is_taken(truth: Truth, call: Call) -> bool:
    """Whether the tools take this call."""
    return truth.tools is None or (call.name in truth.tools and is_valid(truth.tools[call.name], call.arguments))


def _arguments(truth: Truth, found: Sequence[Call], pairs: Sequence[tuple[int, Call]]) -> float:
    """F1 of the arguments of all calls; where there are none to give, that of calls without any."""
    right = sum(_right_arguments(truth.calls[n], call) for n, call in pairs if _is_taken(truth, call))
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
        same = sorted(_match(Truth(truth.calls, truth.tools, False), found), key=lambda pair: pair[0])
        exact = len(same) == len(found) and all(is_exact(truth.calls[n], call) for n, call in same)
        return "wrong_order" if exact else "wrong_arguments"
    if given - wanted and wanted - given:
        return "wrong_name"
    return "extra_call" if given - wanted else "missing_call"
