"""The record of a layout, and what the finders of all layouts ask of rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Values = Mapping[str, Any]
Read = TypeVar("Read")
MOST_OF = 0.8
"""Share of them that must have the form; the others are converted as far as they can be, or dropped."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a data set writes its rows. ``reward`` is the verifier that fits, None where no answer can be verified.

    ``convert`` makes a row of our columns (prompt or messages, ground_truth, demonstration, label), or None for a row
    that has nothing to judge by. ``readable`` rows could also be read as they are, with another ground truth: a run
    takes such a layout only where its reward is this one.
    """

    name: str
    says: str
    reward: str | None
    convert: Callable[[Values], Values | None]
    readable: bool = False


Finder = Callable[[Sequence[Values]], Layout | None]


def mostly(rows: Sequence[Values], test: Callable[[Values], bool]) -> bool:
    return sum(bool(attempt(test, row)) for row in rows) >= MOST_OF * len(rows)


def attempt(read: Callable[[Values], Read], row: Values) -> Read | None:
    """Read a row, whose values may be anything; None where that fails."""
    try:
        return read(row)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return None


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def has_texts(row: Values, *names: str) -> bool:
    return all(is_text(row.get(name)) for name in names)


def read_json(value: Any) -> Any:
    """Read JSON that a column holds as text; None for what is none. What is no text is taken as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def fill(row: Values, **ours: Any) -> dict[str, Any]:
    """Add columns of ours to a row, without those that are None."""
    return {**row, **{name: value for name, value in ours.items() if value is not None}}


def is_answer(value: Any) -> bool:
    """Whether a value can be a short answer: a number, or a text that is one line and no essay."""
    if isinstance(value, bool | int | float):
        return True
    return isinstance(value, str) and 0 < len(value.strip()) <= 200 and "\n" not in value.strip()


def is_prompt(value: Any) -> bool:
    return is_text(value) or (isinstance(value, list) and bool(value))
