"""When what a program gives back is what was expected: values in the tagged JSON of rewards/zygote.py, and outputs.

Each may be matched by a constant; how many cases the best one passes is counted here too.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from fractions import Fraction
from typing import Any

NEAR, NEAR_SHARE = 1e-6, 1e-9
"""How far a float of an output may be from the expected one where no tolerance is given: so much, or that share of it.
Judges of contests allow the first; the second is for the rounding of large ones."""
BIG = 10**4000
"""As in rewards/zygote.py: integers from here on are compared in hexadecimal, since Python limits decimal digits."""

# ---------------------------------------------------------------- values


def matches(expected: Any, answer: Any, tolerance: float | None = None) -> bool:
    """Whether a program's answer, in the tagged JSON of rewards/zygote.py, is the expected value."""
    if isinstance(expected, list) or _is_tagged(expected, "$tuple"):
        if isinstance(expected, list):
            items = answer if isinstance(answer, list) else answer["$tuple"] if _is_tagged(answer, "$tuple") else None
        else:
            expected, items = expected["$tuple"], answer["$tuple"] if _is_tagged(answer, "$tuple") else None
        if items is None or len(items) != len(expected):
            return False
        return all(matches(e, a, tolerance) for e, a in zip(expected, items, strict=True))
    if _is_tagged(expected, "$set"):
        return _is_tagged(answer, "$set") and _key(answer) == _key(expected)
    if isinstance(expected, dict):
        pairs = answer["$dict"] if _is_tagged(answer, "$dict") else None
        if pairs is None or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            return False
        found = {_key(key): value for key, value in pairs}
        wanted = {_key(key): value for key, value in _items(expected)}
        return (
            len(pairs) == len(wanted)
            and wanted.keys() == found.keys()
            and all(matches(value, found[key], tolerance) for key, value in wanted.items())
        )
    if tolerance is not None and is_number(expected) and is_number(answer):
        return _is_near(expected, answer, tolerance)
    if isinstance(answer, dict):  # a large integer
        return bool(answer == answer_of_constant(expected))
    return type(answer) is type(expected) and bool(answer == expected)


def _is_near(expected: float, answer: float, tolerance: float) -> bool:
    if expected == answer:
        return True
    if not all(isinstance(number, int) or math.isfinite(number) for number in (expected, answer)):
        return False
    if type(expected) is not type(answer):  # a float has not the digits of every integer
        return abs(Fraction(expected) - Fraction(answer)) <= tolerance
    return abs(expected - answer) <= tolerance


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _items(expected: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Keys and values of an object, or of ``{"$dict": [[key, value], ...]}``."""
    return expected["$dict"] if _is_tagged(expected, "$dict") else list(expected.items())


def _is_tagged(value: Any, tag: str) -> bool:
    return isinstance(value, dict) and value.keys() == {tag} and isinstance(value[tag], list)


def _key(value: Any) -> str:
    """The same for what is expected and for an answer that is exactly that."""
    return json.dumps(answer_of_constant(value))


def answer_of_constant(expected: Any) -> Any:
    """The answer of a program that returns this value, with tuples for arrays, since a tuple passes wherever a list
    would. Equal values give equal answers."""
    if isinstance(expected, list):
        return {"$tuple": [answer_of_constant(item) for item in expected]}
    if isinstance(expected, dict):
        if _is_tagged(expected, "$tuple"):
            return answer_of_constant(expected["$tuple"])
        if _is_tagged(expected, "$set"):
            keys = {_key(item): answer_of_constant(item) for item in expected["$set"]}
            return {"$set": [keys[key] for key in sorted(keys)]}
        if expected.keys() == {"$int"}:  # of an answer
            return expected
        pairs = [[answer_of_constant(key), answer_of_constant(value)] for key, value in _items(expected)]
        return {"$dict": sorted(pairs, key=json.dumps)}
    if isinstance(expected, int) and not -BIG < expected < BIG:
        return {"$int": hex(expected)}
    return expected + 0.0 if isinstance(expected, float) else expected  # one zero


def count_best_constant(expected: list[Any], tolerance: float | None) -> int:
    """How many cases one fixed value passes, at most: two values within the tolerance of a third are within twice the
    tolerance of each other."""
    answers = [answer_of_constant(value) for value in expected]
    counts = Counter(map(json.dumps, answers))
    if tolerance is None:
        return max(counts.values())
    distinct = {json.dumps(answer): (value, answer) for value, answer in zip(expected, answers, strict=True)}
    reach = 2 * tolerance * (1 + 1e-9)
    return max(
        sum(counts[key] for key, (value, _) in distinct.items() if matches(value, answer, reach))
        for _, answer in distinct.values()
    )


# ---------------------------------------------------------------- outputs


def normalise_output(text: str) -> str:
    """A script's output as it is compared: lines without trailing white space, no empty lines at the end."""
    return "\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n")


NUMBER = re.compile(r"(?<![\w.])([+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?)(?![\w.])", re.ASCII)


def matches_output(expected: str, output: str, tolerance: float | None = None, reach: float = 1.0) -> bool:
    """Whether a script's output is the expected one, both as normalise_output makes them. ``reach`` widens what is
    allowed to numbers."""
    if output == expected:
        return True
    lines, others = expected.split("\n"), output.split("\n")
    return len(lines) == len(others) and all(
        line == other or _matches_line(line, other, tolerance, reach) for line, other in zip(lines, others, strict=True)
    )


def _matches_line(expected: str, output: str, tolerance: float | None, reach: float) -> bool:
    parts, others = NUMBER.split(expected), NUMBER.split(output)  # text, number, text, ..., text
    return len(parts) == len(others) and all(
        part == other or (is_number % 2 == 1 and _matches_number(part, other, tolerance, reach))
        for is_number, (part, other) in enumerate(zip(parts, others, strict=True))
    )


def _matches_number(expected: str, output: str, tolerance: float | None, reach: float) -> bool:
    if max(len(expected), len(output)) > 4000:
        return False  # of text, which is not the same
    wanted, found = (int(text) if text.lstrip("+-").isdigit() else float(text) for text in (expected, output))
    if tolerance is None:
        return isinstance(wanted, float) and _is_near(wanted, found, reach * max(NEAR, NEAR_SHARE * abs(wanted)))
    return _is_near(wanted, found, reach * tolerance)


def count_best_output(expected: list[str], tolerance: float | None) -> int:
    """As count_best_constant, for outputs."""
    counts = Counter(expected)
    return max(sum(counts[e] for e in counts if matches_output(e, output, tolerance, reach=2)) for output in counts)
