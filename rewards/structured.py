"""Structured output: a JSON value of the right shape and, where that is known, with the right contents.

The value is the last block fenced as json (by three or more backticks or tildes), else the last fenced without a
language, else the whole text after the thinking (JSON as strict as rewards/json_values.py says). The ground truth is a
JSON string with at least one of

    {"schema": {JSON Schema}, "equals": value, "contains": {...}}

    equals      what the value must be, with ``$any`` and ``$schema`` as in rewards/json_values.py
    contains    an object of fields that it must have, at any depth; it may have others

Everything as asked: 1.0. Else partial credit, at most 0.6: 0.1 for JSON, 0.2 for a value that the schema (if there is
one) accepts, 0.7 times the F1 of the fields (for ``contains`` the share of them that is right). A field is a value that
is neither object nor list, at its place. With a schema only, every valid value is right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from harness.types import Score
from rewards.format import after_thinking, is_cut_in_thinking
from rewards.json_values import (
    Malformed,
    WrongTruth,
    check_expected,
    example,
    is_valid,
    matches,
    parse,
    parse_truth,
    pattern_budget,
    validator,
)
from rewards.outside import only_right

JSON = 0.1
SCHEMA = 0.2
FIELDS = 0.7
MOST_PARTIAL = 0.6

FENCE = re.compile(r"^[ \t]*+(`{3,}+|~{3,}+)[ \t]*+([^`\n]*+)$", re.MULTILINE)
MARKERS = ({"$any"}, {"$schema"})
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Truth:
    """A ground truth, read. ``partial``: ``expected`` may be a part of the value. ``compared``: there is one."""

    schema: Any
    expected: Any
    partial: bool
    compared: bool


@pattern_budget()
def score(completion: str, ground_truth: str) -> Score:
    """Score the JSON of a completion; components: json, schema, fields, exact.

    Reason codes: right, cut_in_thinking, no_json, malformed, invalid (by the schema), wrong_fields.
    """
    text = extract(completion)
    try:
        truth = read_truth(ground_truth)
        if text:
            return _compare(truth, parse(text))
        return _nothing("cut_in_thinking" if is_cut_in_thinking(completion) else "no_json")
    except WrongTruth as error:
        return Score(None, False, "errored", error=f"the ground truth: {error}")
    except Malformed:
        return _nothing("malformed")


compute_reward = only_right(score)


def write_reference(ground_truth: str) -> str | None:
    """A completion that is right; None where the ground truth cannot be used or only a schema says what is."""
    try:
        truth = read_truth(ground_truth)
        return json.dumps(example(truth.expected)) if truth.compared else None
    except (WrongTruth, LookupError):
        return None


def _compare(truth: Truth, value: Any) -> Score:
    valid = truth.schema is None or is_valid(truth.schema, value)
    by_value = valid and truth.schema is not None
    fields = _fields(truth, value, by_value) if truth.compared else float(valid)
    exact = valid and (not truth.compared or _is_expected(truth, value, by_value))
    shape = SCHEMA if valid and truth.schema is not None else 0.0
    partial = min(MOST_PARTIAL, JSON + shape + (FIELDS * fields if truth.compared else 0.0))
    return Score(
        1.0 if exact else partial,
        exact,
        "right" if exact else "wrong_fields" if valid else "invalid",
        {"json": 1.0, "schema": float(valid), "fields": fields, "exact": float(exact)},
    )


def extract(completion: str) -> str:
    """The text that should be JSON; empty when there is none."""
    text = after_thinking(completion)
    blocks: dict[str, str] = {}  # the last of each language
    mark, language, start = "", "", 0
    for fence in FENCE.finditer(text):
        if not mark:
            mark, language, start = fence[1], fence[2].strip().lower(), fence.end()
        elif fence[1].startswith(mark) and not fence[2].strip():
            blocks[language] = text[start : fence.start()]
            mark = ""
    if mark and language == "json":
        return ""  # the last block is not closed
    return blocks.get("json", blocks.get("", text)).strip()


@lru_cache(4096)
def read_truth(ground_truth: str) -> Truth:
    """Raises WrongTruth."""
    value = parse_truth(ground_truth)
    names = {"schema", "equals", "contains"}
    if not isinstance(value, dict) or not value or not value.keys() <= names or {"equals", "contains"} <= value.keys():
        raise WrongTruth('must be an object with "schema", and "equals" or "contains", or only one of them')
    partial = "contains" in value
    expected = value.get("contains") if partial else value.get("equals")
    if partial and (not isinstance(expected, dict) or not expected):
        raise WrongTruth('"contains" must be an object with at least one field')
    check_expected(expected)
    schema = validator(value["schema"]) if "schema" in value else None
    return Truth(schema, expected, partial, partial or "equals" in value)


def _nothing(reason: str) -> Score:
    return Score(0.0, False, reason, {"json": 0.0, "schema": 0.0, "fields": 0.0, "exact": 0.0})


def _is_expected(truth: Truth, value: Any, by_value: bool) -> bool:
    return (_contains if truth.partial else matches)(truth.expected, value, by_value)


def _contains(expected: Any, value: Any, by_value: bool) -> bool:
    if not isinstance(expected, dict) or expected.keys() in MARKERS:
        return matches(expected, value, by_value)
    return isinstance(value, dict) and all(
        key in value and _contains(one, value[key], by_value) for key, one in expected.items()
    )


def _fields(truth: Truth, value: Any, by_value: bool) -> float:
    expected = dict(_leaves(truth.expected))
    right = sum(1 for path, one in expected.items() if _at(value, path, one, by_value))
    if truth.partial:
        return right / len(expected)
    # A field that is expected to be one of several, or of a schema, may be an object of many fields: count it once.
    given = set()
    for path, _ in _leaves(value):
        place = next((path[:n] for n in range(len(path) + 1) if path[:n] in expected), path)
        given.add(place)
    return 2 * right / (len(expected) + len(given))


def _at(value: Any, path: Path, expected: Any, by_value: bool) -> bool:
    """Whether the value has what is expected at a place."""
    for step in path:
        there = step < len(value) if isinstance(step, int) and isinstance(value, list) else False
        if not there and not (isinstance(step, str) and isinstance(value, dict) and step in value):
            return False
        value = value[step]
    return matches(expected, value, by_value)


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every field with its place. Empty objects and lists are fields too."""
    if isinstance(value, dict) and value and value.keys() not in MARKERS:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list) and value:
        for i, inner in enumerate(value):
            yield from _leaves(inner, (*path, i))
    else:
        yield path, value
