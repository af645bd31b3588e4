"""From a row of any source to a Prompt: which columns hold what, chat messages, ground truths of any JSON type.

A row is refused with one line that names it, since a pool with a hole in it costs a night.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from harness.core.formatting import shorten
from harness.errors import InputError
from harness.types import PROMPT_COLUMNS, Message, Prompt
from pools.messages import list_calls, read_answer, read_conversation, write_transcript, write_turn

ROW_LIMIT = 4 * 2**20
"""Bytes of text that one row may hold: no model reads more, and one such row would fill every batch it is in."""
ANSWER = "answer"
"""The ground truth of rows without a column ``ground_truth``."""
NOT_JSON = (TypeError, ValueError, RecursionError)
NOT_FINITE = {"nan", "inf", "infinity"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read. ``where`` names it in messages: ``data.csv row 3 (line 5)``. ``fault`` is set where it
    could not be read, though the rows after it can. ``number`` counts from 0, blank lines too; unset, rows are counted
    as they come."""

    where: str
    values: Mapping[str, Any]
    fault: InputError | None = None
    number: int | None = None


def name_columns(columns: Mapping[str, str]) -> dict[str, str]:
    """``{prompt: its column, ground_truth: its column, ...}``: of the same name where ``columns`` says no other."""
    return {name: columns.get(name, name) for name in PROMPT_COLUMNS}


def make_prompt(
    row: Row, names: Mapping[str, str], *, wanted: Collection[str] | None = None, needs_truth: bool = True
) -> Prompt:
    """Make the prompt of a row, still without id and template. ``names`` as from name_columns.

    A prompt is a text or a list of OpenAI messages (``messages`` is looked at too) of any number of turns. The ground
    truth is in its column, else in ``answer``; unless one ``needs_truth``, a row may do without. An assistant's turn at
    the end is the demonstration and, in a row without ground truth, the ground truth; or a prefill (pools/messages.py).
    Of the other columns those ``wanted`` are kept, unset all. Raises InputError.
    """
    values = row.values
    prompt_column, truth_column = names["prompt"], names["ground_truth"]
    if prompt_column == "prompt" and "prompt" not in values and "messages" in values:
        prompt_column = "messages"
    truth = values.get(truth_column)
    if truth is None and truth_column == "ground_truth" and values.get(ANSWER) is not None:
        truth_column, truth = ANSWER, values[ANSWER]
    text, system, turns, answer = _read_prompt(row, prompt_column, scored=truth is not None)
    if truth is None and answer is not None and truth_column == "ground_truth":
        truth = list_calls(answer["tool_calls"]) if "tool_calls" in answer else answer["content"]
    if values.get("tools"):
        _check_tools(row, values["tools"])
    taken = [prompt_column, *(column for field, column in names.items() if field == column)]
    prompt = Prompt(
        id="",
        text=text,
        ground_truth=_read_truth(row, truth_column, truth, needed=needs_truth),
        label=_read_label(row, names["label"]),
        system=system,
        # A column with another name stays under it too: a reward written for the data set asks for it by that name.
        columns={
            name: value for name, value in values.items() if name not in taken and (wanted is None or name in wanted)
        },
        messages=turns,
    )
    shown = values.get(names["demonstration"])
    return prompt if shown is None and answer is None else _demonstrate(row, prompt, names["demonstration"], answer)


def encode_columns(row: Row, prompt: Prompt, unwritable: Counter[str] | None = None) -> str | None:
    """Encode the other columns of a row as JSON, None when there are none.

    Columns that JSON cannot hold are left out and counted in ``unwritable``; without it they raise InputError, as does
    a row that is too large altogether.
    """
    encoded = None
    if prompt.columns:
        _refuse_nan_text(row, "difficulty", prompt.columns.get("difficulty"))
        try:
            encoded = encode(prompt.columns)
        except NOT_JSON:
            faults = _find_unwritable(row, prompt.columns)
            if unwritable is None:
                raise InputError(next(iter(faults.values()))) from None
            unwritable.update(faults.keys())
            encoded = encode({name: value for name, value in prompt.columns.items() if name not in faults})
    texts = (prompt.text, prompt.ground_truth, prompt.label, prompt.system, prompt.demonstration or "", encoded or "")
    try:
        size = sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
    except UnicodeEncodeError:
        raise InputError(f"{row.where} holds half of a surrogate pair, which is no text") from None
    if size > ROW_LIMIT:
        raise InputError(f"{row.where} holds {_mib(size)}: at most {_mib(ROW_LIMIT)}; shorten or drop it")
    return encoded


def encode_messages(row: Row, prompt: Prompt) -> str | None:
    """Encode turns and calls of a prompt as JSON, None for a plain prompt. Raises InputError for what JSON lacks."""
    if not prompt.messages and not prompt.calls:
        return None
    try:
        return encode({"turns": prompt.messages, "calls": prompt.calls})
    except NOT_JSON as error:
        raise InputError(f"{row.where}: its messages cannot be written as JSON: {say(error, 100)}") from None


def decode_messages(encoded: str) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Decode turns and calls of encode_messages."""
    read = json.loads(encoded)
    return tuple(read["turns"]), tuple(read["calls"])


def say(error: BaseException, most: int = 300) -> str:
    """Put what an error says on one line of at most ``most`` characters."""
    return " ".join(str(error).split())[:most]


def too_long(where: str) -> InputError:
    """Build the error of a reader that stops at ROW_LIMIT, whatever comes after."""
    return InputError(f"{where} holds more than {_mib(ROW_LIMIT)}; shorten or drop it")


# ---------------------------------------------------------------- fields


def _read_prompt(row: Row, column: str, *, scored: bool) -> tuple[str, str, tuple[Message, ...], Message | None]:
    """Read text, system prompt, the turns of what is more than a user's message, and the assistant's answer."""
    value = _require(row, "prompt", column)
    if isinstance(value, list) and value:
        said = read_conversation(row.where, column, value, scored=scored)
        if len(said.turns) == 1:  # the user's
            return said.turns[0]["content"], said.system, (), said.answer
        return write_transcript(said.turns), said.system, said.turns, said.answer
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{row.where} has no {column}: it must be a non-empty string or a list of messages")
    return value, "", (), None


def _demonstrate(row: Row, prompt: Prompt, column: str, answer: Message | None) -> Prompt:
    """Give a prompt its demonstration, what the model writes after the prefill: the text or the assistant's message in
    ``column``, else ``answer``."""
    value = row.values.get(column)
    if isinstance(value, str) and value.strip():
        return replace(prompt, demonstration=value.removeprefix(prompt.prefill))
    if isinstance(value, list | dict):
        answer = read_answer(f"{row.where}: {column}", value)
    elif value is not None and not isinstance(value, str):
        raise InputError(f"{row.where}: {column} must be text, not {_kind(value)}")
    text = write_turn(answer).removeprefix(prompt.prefill) if answer else ""
    if answer is None or not text.strip():  # a CSV has no other way to say that there is none
        return prompt
    return replace(prompt, demonstration=text, calls=tuple(answer.get("tool_calls", ())))


def _check_tools(row: Row, tools: Any) -> None:
    """Refuse tools that no chat template could show: they must be objects with a name, or the JSON of these."""
    if isinstance(tools, str):
        with suppress(ValueError, RecursionError):
            tools = json.loads(tools)
    listed = tools if isinstance(tools, list) else [tools]
    inner = [tool.get("function", tool) if isinstance(tool, Mapping) else tool for tool in listed]
    if not isinstance(tools, list) or not all(isinstance(one, Mapping) and one.get("name") for one in inner):
        raise InputError(
            f"{row.where}: tools must be a list of functions, each an object with a name (or that as JSON); a column "
            "of other things needs another name"
        )


def _read_truth(row: Row, column: str, value: Any, *, needed: bool) -> str:
    """Write text as it is, numbers as Python writes them, anything else as canonical JSON; "" for none."""
    if value is None:
        if not needed and (column == "ground_truth" or column in row.values):
            return ""
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
        if needed:
            raise InputError(f"{row.where} has no {column}: it is empty")
        return ""
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


def _find_unwritable(row: Row, columns: Mapping[str, Any]) -> dict[str, str]:
    """Tell which columns JSON does not hold, and why."""
    faults = {}
    for name, value in columns.items():
        try:
            encode({name: value})
        except NOT_JSON as error:
            why = f" is {value}, not a finite number" if isinstance(value, float) else None
            faults[name] = f"{row.where}: {name}{why or f' cannot be written as JSON: {error}'}"
    return faults


encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_plain).encode
"""JSON without spaces; times as ISO text, decimals as text. Raises TypeError, or ValueError for NaN."""
encode_canonical = json.JSONEncoder(
    separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False, default=_plain
).encode


def _kind(value: Any) -> str:
    return {"list": "a list", "dict": "an object", "bytes": "bytes"}.get(type(value).__name__, type(value).__name__)


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
