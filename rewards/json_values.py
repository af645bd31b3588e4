"""JSON as a model wrote it, read strictly, and compared with what was expected.

Strict: what a lenient parser would let through is refused. Keys that occur twice, NaN and Infinity, numbers that no
double holds, nesting beyond MOST_NESTED, more than LONGEST characters. Kinds are kept apart: ``true`` is not 1, and
1.0 is not 1 where 1 is expected (where 1.0 is expected, 1 will do). A schema has the say where there is one: to JSON
Schema 1.0 is an integer, so once it has accepted a value, equal numbers are equal (``by_value``).

What is expected is JSON too, and may hold in the place of any value

    {"$any": [value, ...]}       one of these
    {"$schema": {...}}           whatever this JSON Schema accepts
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from functools import lru_cache
from typing import Any

import regex
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

LONGEST = 64 << 10
MOST_NESTED = 32
DIGITS = 400
"""Of an integer: more than the largest double has."""
PATTERN_LIMIT_S = 0.5
"""CPU time of all patterns of a completion."""
ECMA = re.compile(r"(?P<set>\[(?:\\.|[^]\\])*+\])|\\(?P<escape>.)|(?P<mark>[$.])", re.DOTALL)
ECMA_SETS = {
    "d": r"0-9",
    "D": r"\x00-/:-\U0010ffff",
    "w": r"0-9A-Za-z_",
    "W": r"\x00-/:-@\[-\^`{-\U0010ffff",
}
ECMA_MARKS = {"$": r"\Z", ".": r"[^\n\r\u2028\u2029]"}
"""What JSON Schema means by these, its patterns being ECMA's, in the terms of ``regex``."""
PUNCTUATION = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


class Malformed(ValueError):
    """A text that is not strict JSON; says why."""


class WrongTruth(ValueError):
    """A ground truth that cannot be used; says why."""


def parse(text: str) -> Any:
    """The value of a text that is exactly one JSON value. Raises Malformed."""
    if len(text) > LONGEST:
        raise Malformed(f"longer than {LONGEST} characters")
    depth = 0
    for token in PUNCTUATION.finditer(text):
        depth += (token[0] in "[{") - (token[0] in "]}")
        if depth > MOST_NESTED:  # the parser's own limit depends on who calls it
            raise Malformed(f"nested deeper than {MOST_NESTED}")
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_integer,
        )
    except Malformed:
        raise
    except ValueError as error:
        raise Malformed(str(error)) from None


def parse_truth(ground_truth: str) -> Any:
    """``parse`` of a ground truth. Raises WrongTruth."""
    try:
        return parse(ground_truth)
    except Malformed as error:
        raise WrongTruth(f"not JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("a key occurs twice in one object")
    return found


def _constant(name: str) -> Any:
    raise Malformed(f"{name} is no JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Malformed(f"{text[:20]} is too large")
    return value


def _integer(text: str) -> int:
    if len(text) > DIGITS:
        raise Malformed("an integer is too long")
    return int(text)


def matches(expected: Any, found: Any, by_value: bool = False) -> bool:
    """Whether a value is what was expected, by the rules above."""
    if isinstance(expected, dict):
        if expected.keys() == {"$any"}:
            return any(matches(one, found, by_value) for one in expected["$any"])
        if expected.keys() == {"$schema"}:
            return is_valid(validator(expected["$schema"]), found)
        return (
            isinstance(found, dict)
            and expected.keys() == found.keys()
            and all(matches(value, found[key], by_value) for key, value in expected.items())
        )
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(expected) == len(found)
            and all(matches(*pair, by_value) for pair in zip(expected, found, strict=True))
        )
    same_kind = type(expected) is type(found) or (type(found) is int and type(expected) is float)
    return (same_kind or (by_value and type(expected) is int and type(found) is float)) and bool(expected == found)


def check_expected(expected: Any) -> None:
    """Raises WrongTruth for an expected value in which ``$any`` or ``$schema`` is not as it must be."""
    for value in _walk(expected):
        if not isinstance(value, dict):
            continue
        if "$any" in value and (value.keys() != {"$any"} or not isinstance(value["$any"], list) or not value["$any"]):
            raise WrongTruth('"$any" must be alone and a list of at least one value')
        if "$schema" in value and value.keys() == {"$schema"}:
            validator(value["$schema"])


def example(expected: Any) -> Any:
    """A value that ``matches``: the first of every ``$any``. Raises LookupError where only a schema is given."""
    if isinstance(expected, dict):
        if expected.keys() == {"$any"}:
            return example(expected["$any"][0])
        if expected.keys() == {"$schema"}:
            raise LookupError
        return {key: example(value) for key, value in expected.items()}
    return [example(value) for value in expected] if isinstance(expected, list) else expected


def _walk(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict):
        for key, inner in value.items():
            if key != "$schema":
                yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


# ---------------------------------------------------------------- JSON Schema


_left: ContextVar[list[float] | None] = ContextVar("left", default=None)


@contextmanager
def pattern_budget() -> Iterator[None]:
    """Within it all patterns together have PATTERN_LIMIT_S of CPU time, the outermost's."""
    token = _left.set(_left.get() or [PATTERN_LIMIT_S])
    try:
        yield
    finally:
        _left.reset(token)


@lru_cache(1024)
def _compile(pattern: str) -> regex.Pattern[str]:
    """Raises regex.error."""
    return regex.compile(ECMA.sub(_from_ecma, pattern))


def _from_ecma(found: re.Match[str]) -> str:
    if found["mark"]:
        return ECMA_MARKS[found["mark"]]
    if found["escape"]:
        return f"[{ECMA_SETS[found['escape']]}]" if found["escape"] in ECMA_SETS else found[0]
    # A hyphen beside a set of characters is one: [\w-.]
    return re.sub(
        r"(-?)\\(.)(-?)",
        lambda inner: (
            inner[1].replace("-", r"\-") + ECMA_SETS[inner[2]] + inner[3].replace("-", r"\-")
            if inner[2] in ECMA_SETS
            else inner[0]
        ),
        found[0],
        flags=re.DOTALL,
    )


def _search(pattern: str, text: str) -> bool:
    """Patterns are the ground truth's, but the text is the model's, which may choose one that backtracks for ever.

    Raises TimeoutError when the budget is used up.
    """
    left = _left.get() or [PATTERN_LIMIT_S]
    if left[0] <= 0:
        raise TimeoutError
    started = time.process_time()
    try:
        return _compile(pattern).search(text, timeout=left[0]) is not None  # of CPU time
    finally:
        left[0] -= time.process_time() - started


def _pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not _search(pattern, value):
        yield ValidationError(f"does not match {pattern!r}")


def _pattern_properties(checker: Any, patterns: Any, value: Any, _schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, dict):
        for pattern, schema in patterns.items():
            for name, inner in value.items():
                if _search(pattern, name):
                    yield from checker.descend(inner, schema, path=name, schema_path=pattern)


def _additional_properties(checker: Any, wanted: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    for name, inner in value.items():
        patterns = schema.get("patternProperties", {})
        if name not in schema.get("properties", {}) and not any(_search(pattern, name) for pattern in patterns):
            yield from checker.descend(inner, wanted, path=name)


def _multiple_of(_validator: Any, step: Any, value: Any, _schema: Any) -> Iterator[ValidationError]:
    """As they are written: 19.99 is a multiple of 0.01, which no double is."""
    if type(value) in (int, float) and (Fraction(str(value)) / Fraction(str(step))).denominator != 1:
        yield ValidationError(f"is no multiple of {step}")


def _unique(_validator: Any, wanted: bool, value: Any, _schema: Any) -> Iterator[ValidationError]:
    """In linear time, where the package compares each with each."""
    if wanted and isinstance(value, list):
        items = json.loads(json.dumps(value), parse_float=_number)
        if len({canonical(item) for item in items}) != len(items):
            yield ValidationError("has equal elements")


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value


def canonical(value: Any) -> str:
    """The same text for equal values, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "multipleOf": _multiple_of,
        "uniqueItems": _unique,
    },
)
"""JSON Schema, draft 2020-12."""


def validator(schema: Any) -> Any:
    """The validator of a schema. Raises WrongTruth when it is no schema."""
    return _validator(canonical(schema))


@lru_cache(1024)
def _validator(text: str) -> Any:
    schema = json.loads(text)
    for part in _walk(schema):
        if isinstance(part, dict) and {"patternProperties", "unevaluatedProperties"} <= part.keys():
            raise WrongTruth("patternProperties beside unevaluatedProperties cannot be used: say additionalProperties")
    try:
        Validator.check_schema(schema, format_checker=FormatChecker(()))  # else patterns would have to be Python's
        for part in _walk(schema):
            if isinstance(part, dict):
                for pattern in (part.get("pattern"), *(part.get("patternProperties") or ())):
                    if isinstance(pattern, str):
                        _compile(pattern)
    except (SchemaError, regex.error, RecursionError) as error:
        raise WrongTruth(f"not a JSON Schema: {str(error).splitlines()[0]}") from None
    return Validator(schema, registry=Registry())  # nothing is fetched


def is_valid(checker: Any, value: Any) -> bool:
    """Whether a value is accepted. Raises WrongTruth when the schema refers to nothing, or to itself for ever."""
    try:
        return bool(checker.is_valid(value))
    except TimeoutError:
        return False
    except (Unresolvable, RecursionError) as error:
        raise WrongTruth(f"the schema cannot be followed: {type(error).__name__}") from None
