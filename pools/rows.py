"""From a row of any source to a Prompt: which columns hold what, chat messages, ground truths of any JSON type.

A row is refused with one line that names it, since a pool with a hole in it costs a night.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.formatting import shorten
from harness.errors import InputError
from harness.types import PROMPT_COLUMNS, Prompt

ROW_LIMIT = 4 * 2**20
"""Bytes of text that one row may hold: no model reads more, and one such row would fill every batch it is in."""
ROLES = ("system", "user", "assistant")
NOT_JSON = (TypeError, ValueError, RecursionError)
NOT_FINITE = {"nan", "inf", "infinity"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read. ``where`` names it in messages: ``data.csv row 3 (line 5)``."""

    where: str
    values: Mapping[str, Any]


def name_columns(columns: Mapping[str, str]) -> dict[str, str]:
    """``{prompt: its column, ground_truth: its column, ...}``: of the same name where ``columns`` says no other."""
    return {name: columns.get(name, name) for name in PROMPT_COLUMNS}


def make_prompt(row: Row, names: Mapping[str, str]) -> Prompt:
    """Make the prompt of a row, still without id and template. ``names`` as from name_columns.

    A prompt is a text or a list of OpenAI messages (``messages`` is looked at too): system, user and perhaps
    assistant, which is the demonstration and, in a row without ground truth, the ground truth. Raises InputError.
    """
    values = row.values
    prompt_column = names["prompt"]
    if prompt_column == "prompt" and "prompt" not in values and "messages" in values:
        prompt_column = "messages"
    text, system, answer = _read_prompt(row, prompt_column)
    truth = values.get(names["ground_truth"])
    if truth is None and answer is not None and names["ground_truth"] == "ground_truth":
        truth = answer
    demonstration = values.get(names["demonstration"], answer)
    if isinstance(demonstration, str) and not demonstration.strip():
        demonstration = None  # a CSV has no other way to say so
    if demonstration is not None and not isinstance(demonstration, str):
        raise InputError(f"{row.where}: {names['demonstration']} must be text, not {_kind(demonstration)}")
    taken = [prompt_column, *(column for field, column in names.items() if field == column)]
    return Prompt(
        id="",
        text=text,
        ground_truth=_read_truth(row, names["ground_truth"], truth),
        label=_read_label(row, names["label"]),
        system=system,
        demonstration=demonstration,
        # A column with another name stays under it too: a reward written for the data set asks for it by that name.
        columns={name: value for name, value in values.items() if name not in taken},
    )


def encode_columns(row: Row, prompt: Prompt) -> str | None:
    """Encode the other columns of a row as JSON, None when there are none.

    Raises InputError for what JSON cannot hold, and for a row that is too large altogether.
    """
    encoded = None
    if prompt.columns:
        _refuse_nan_text(row, "difficulty", prompt.columns.get("difficulty"))
        try:
            encoded = encode(prompt.columns)
        except NOT_JSON:
            raise InputError(_name_the_fault(row, prompt.columns)) from None
    texts = (prompt.text, prompt.ground_truth, prompt.label, prompt.system, prompt.demonstration or "", encoded or "")
    try:
        size = sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
    except UnicodeEncodeError:
        raise InputError(f"{row.where} holds half of a surrogate pair, which is no text") from None
    if size > ROW_LIMIT:
        raise InputError(f"{row.where} holds {_mib(size)}: at most {_mib(ROW_LIMIT)}; shorten or drop it")
    return encoded


def say(error: BaseException, most: int = 300) -> str:
    """Put what an error says on one line of at most ``most`` characters."""
    return " ".join(str(error).split())[:most]


def too_long(where: str) -> InputError:
    """Build the error of a reader that stops at ROW_LIMIT, whatever comes after."""
    return InputError(f"{where} holds more than {_mib(ROW_LIMIT)}; shorten or drop it")


# ---------------------------------------------------------------- fields


def _read_prompt(row: Row, column: str) -> tuple[str, str, str | None]:
    """Read text, system prompt and the assistant's answer."""
    value = _require(row, "prompt", column)
    if isinstance(value, list) and value:
        return _read_messages(row, column, value)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{row.where} has no {column}: it must be a non-empty string or a list of messages")
    return value, "", None


def _read_messages(row: Row, column: str, messages: list[Any]) -> tuple[str, str, str | None]:
    texts: dict[str, str] = {}
    for message in messages:
        role = message.get("role") if isinstance(message, Mapping) else None
        role = "system" if role == "developer" else role
        if role not in ROLES or any(ROLES.index(role) <= ROLES.index(earlier) for earlier in texts):
            raise InputError(
                f"{row.where}: {column} must be one user message, after at most one system message and before at most "
                f"one assistant message; {role!r} does not fit there"
            )
        texts[role] = _message_text(row, column, message.get("content"))
    if not texts.get("user", "").strip():
        raise InputError(f"{row.where}: {column} has no user message")
    return texts["user"], texts.get("system", ""), texts.get("assistant")


def _message_text(row: Row, column: str, content: Any) -> str:
    """Read a message's content: a text, or parts that are all texts."""
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        raise InputError(f"{row.where}: {column} has a message whose content is not text")
    return content


def _read_truth(row: Row, column: str, value: Any) -> str:
    """Write text as it is, numbers as Python writes them, anything else as canonical JSON."""
    if value is None:
        _require(row, "ground_truth", column)
    value = _plain_or_refuse(row, column, value)
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{row.where}: {column} is {value}, not a finite number")
    if isinstance(value, bool | list | dict):
        try:
            return encode_canonical(value)
        except NOT_JSON as error:
            raise InputError(f"{row.where}: {column} cannot be written as JSON: {error}") from None
    try:
        text = "" if value is None else str(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        raise InputError(f"{row.where}: {column} is an integer of too many digits; give it as text") from None
    if not text.strip():
        raise InputError(f"{row.where} has no {column}: it is empty")
    return text


def _read_label(row: Row, column: str) -> str:
    value = row.values.get(column)
    if value is None:
        return ""
    _refuse_nan_text(row, column, value)
    value = _plain_or_refuse(row, column, value)
    if isinstance(value, list | dict):
        raise InputError(f"{row.where}: {column} must be text or a number, not {_kind(value)}")
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _require(row: Row, field: str, column: str) -> Any:
    if column not in row.values:
        there = shorten(", ".join(map(str, list(row.values)[:8])), 200) or "none"
        raise InputError(
            f"{row.where} has no {column}: its columns are {there}; pool.columns.{field} names the one to take"
        )
    return row.values[column]


def _refuse_nan_text(row: Row, column: str, value: Any) -> None:
    """Refuse a difficulty that is no number, also where every value is text (CSV)."""
    if isinstance(value, str | float) and str(value).strip().lower().lstrip("+-") in NOT_FINITE:
        raise InputError(f"{row.where}: {column} is {value}, not a finite number")


# ---------------------------------------------------------------- what JSON cannot hold


def _plain(value: Any) -> Any:
    """Return the JSON form of what Parquet, data sets and functions also give. Raises TypeError."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return value.tolist()
    raise TypeError(f"{_kind(value)} is not JSON")


def _plain_or_refuse(row: Row, column: str, value: Any) -> Any:
    try:
        return value if isinstance(value, str | int | float | list | dict | None) else _plain(value)
    except TypeError as error:
        raise InputError(f"{row.where}: {column}: {error}") from None


def _name_the_fault(row: Row, columns: Mapping[str, Any]) -> str:
    """Tell which column JSON does not hold, and why."""
    for name, value in columns.items():
        try:
            encode(value)
        except NOT_JSON as error:
            if isinstance(value, float):
                return f"{row.where}: {name} is {value}, not a finite number"
            return f"{row.where}: {name} cannot be written as JSON: {error}"
    return f"{row.where} cannot be written as JSON"


encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_plain).encode
"""JSON without spaces; times as ISO text, decimals as text. Raises TypeError, or ValueError for NaN."""
encode_canonical = json.JSONEncoder(
    separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False, default=_plain
).encode


def _kind(value: Any) -> str:
    return {"list": "a list", "dict": "an object", "bytes": "bytes"}.get(type(value).__name__, type(value).__name__)


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
