"""Rows of JSONL, JSON, CSV and Parquet files, one at a time, each with the name that a person finds it by.

All text is UTF-8, with or without a byte order mark, with either end of line. ``row`` counts from 1: lines of JSONL,
members of a JSON list, records of CSV after the header, rows of Parquet.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from harness.core.formatting import shorten
from harness.errors import InputError
from pools.rows import ROW_LIMIT, Row, say, too_long

BOM = b"\xef\xbb\xbf"
PARQUET_ROWS = 1024
"""Read at a time."""


def check_file(path: Path) -> None:
    """Raises InputError unless ``path`` is a file that can be read."""
    if path.is_dir():
        raise InputError(
            f"pool.source: {path} is a folder; name a file in it, or hub:{path} for a data set in a folder"
        )
    try:
        if path.stat() and not path.is_file():
            raise InputError(f"pool.source: {path} is not a file that can be read twice, such as a pipe; save it first")
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"pool.source: cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def read_jsonl(path: Path) -> Iterator[Row]:
    """Yield one object a line; blank lines are skipped but counted."""
    with path.open("rb") as file:
        for number, line in _lines(file, path):
            where = f"pool.source: {path} row {number}"
            try:
                text = _decode(line, where)
            except InputError as error:
                yield Row(where, {}, error, number - 1)
                continue
            if not text.strip():
                continue
            try:
                row = _make_row(where, DECODER.decode(text), number - 1)
            except (ValueError, RecursionError) as error:
                row = Row(where, {}, InputError(f"{where} is not JSON: {_say(error)}"), number - 1)
            yield row


def read_json(path: Path) -> Iterator[Row]:
    """Yield the objects of one list, decoded member by member, so that a million do not stand in memory as dicts."""
    text = _decode(path.read_bytes().removeprefix(BOM), f"pool.source: {path}")
    place = _skip_space(text, 0)
    if place == len(text):
        return
    if text[place] != "[":
        raise InputError(f"pool.source: {path} must hold a list of objects; one object a line is .jsonl")
    for number in count(1):
        place = _skip_space(text, place + 1)  # behind the bracket or a comma
        if number == 1 and text[place : place + 1] == "]":
            break
        where = f"pool.source: {path} row {number}"
        try:
            values, place = DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where} is not JSON: {_say(error)}") from None
        yield _make_row(where, values)
        place = _skip_space(text, place)
        separator = text[place : place + 1]
        if separator == "]":
            break
        if separator != ",":
            raise InputError(f"{where} is followed by {separator or 'the end of the file'!r} instead of , or ]")
    if text[place + 1 :].strip():
        raise InputError(f"pool.source: {path} continues after the end of its list")


def read_csv(path: Path) -> Iterator[Row]:
    """Yield the records after a header, separated by commas; every value is text. A first column without a name, the
    index of a DataFrame, is left out."""
    csv.field_size_limit(ROW_LIMIT)  # Python's own is 128 KiB, for all readers of the process
    with path.open("rb") as file:
        lines = (_decode(line, f"pool.source: {path} line {number}") for number, line in _lines(file, path, "line"))
        reader = csv.reader(lines, strict=True)
        header = _next_record(reader, f"pool.source: {path} header")
        if header is None:
            return
        index = header[0].strip() in ("", "Unnamed: 0") and len(header) > 1  # what df.to_csv writes of a DataFrame
        header = header[1:] if index else header
        for name in header:
            if not name.strip() or header.count(name) > 1:
                raise InputError(f"pool.source: {path}: the header has {shorten(repr(name))} twice or without a name")
        for number in count(1):
            where = f"pool.source: {path} row {number} (line {reader.line_num + 1})"
            record = _next_record(reader, where)
            if record is None:
                return
            if record and len(record) != len(header) + index:
                fault = InputError(f"{where} has {len(record)} values for {len(header) + index} columns")
                yield Row(where, {}, fault, number - 1)
            elif record:
                yield Row(where, dict(zip(header, record[index:], strict=True)), None, number - 1)


def read_parquet(path: Path) -> Iterator[Row]:
    """Yield rows with the types that pyarrow gives them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise InputError(f"pool.source: {path} has two columns of the same name")
            rows = (values for batch in file.iter_batches(batch_size=PARQUET_ROWS) for values in batch.to_pylist())
            for number, values in enumerate(rows, 1):
                yield Row(f"pool.source: {path} row {number}", values)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        after = f" after row {number}" if number else ""
        raise InputError(f"pool.source: {path} cannot be read as Parquet{after}: {_say(error)}") from None


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
}


# ---------------------------------------------------------------- text


def _lines(file: BinaryIO, path: Path, what: str = "row") -> Iterator[tuple[int, bytes]]:
    """Yield lines with their number, none longer than ROW_LIMIT."""
    for number, line in enumerate(iter(partial(file.readline, ROW_LIMIT + 1), b""), 1):
        if len(line) > ROW_LIMIT:
            raise too_long(f"pool.source: {path} {what} {number}")
        yield number, line.removeprefix(BOM) if number == 1 else line


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        hint = "; it looks like UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise InputError(
            f"{where} is not UTF-8: {error.reason} at byte {error.start + 1}{hint}; save it as UTF-8"
        ) from None


DECODER = json.JSONDecoder()
"""Of NaN too, which Python and pandas write: a column that is asked for refuses it (pools/rows.py)."""


def _make_row(where: str, values: Any, number: int | None = None) -> Row:
    if not isinstance(values, dict):
        return Row(where, {}, InputError(f"{where} must be an object with prompt and ground_truth"), number)
    return Row(where, values, None, number)


def _skip_space(text: str, place: int) -> int:
    while text[place : place + 1] in (" ", "\t", "\r", "\n"):
        place += 1
    return place


def _next_record(reader: Any, where: str) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise InputError(f"{where} is not CSV: {error}") from None


def _say(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if "integer string conversion" in str(error):
        return "an integer of more than 4,300 digits; give it as text"
    return say(error, 200)
