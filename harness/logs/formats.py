"""Take a log apart into rows, whatever its format. The content decides, not the ending of the file's name."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import InputError
from harness.logs.names import few

KINDS = "a trainer_state.json, JSON lines, a JSON list of rows, or CSV with one step per row"


@dataclass(slots=True)
class Source:
    """A log as it lies in the file. ``rows`` is read once; ``bad`` says which rows could not be, when that is done."""

    format: str
    rows: Iterator[Mapping[str, object]]
    bad: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def open_log(path: Path) -> Source:
    """Find out the format of a log. Raises InputError, also later from ``rows``: when most of them are bad."""
    text = _load_text(path)
    start = text.lstrip()[:1]
    if not start:
        raise InputError(f"{path}: the file is empty; the trainer has logged nothing yet, or this is another file")
    if start not in "[{":
        return _of_lines(path, text) if _is_lines(text) else _of_csv(path, text)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        several = isinstance(error, json.JSONDecodeError) and error.msg == "Extra data"
        if start == "{" and (several or _is_lines(text)):
            return _of_lines(path, text)
        raise InputError(f"{path}: not complete JSON ({error}); give the whole file") from None
    return _of_document(path, document, one_line="\n" not in text.strip())


def _load_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the metric log of a run") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder; give the log in it, such as trainer_state.json or metrics.jsonl") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if data.startswith(b"\x1f\x8b"):
        raise InputError(f"{path}: compressed with gzip; unpack it first (gunzip)")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":  # a live log may end in the middle of a letter
            raise InputError(f"{path}: binary, or not UTF-8; give the log as text: {KINDS}") from None
        text = data[: error.start].decode("utf-8-sig")
    if "\0" in text:
        raise InputError(f"{path}: binary; give the log as text: {KINDS}")
    return text


def _is_lines(text: str) -> bool:
    """Tell whether most lines begin as an object does and one at least is whole, whatever stands above them."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return 2 * sum(line[0] == "{" for line in lines) > len(lines) and any(line[-1] == "}" for line in lines[:100])


def _of_document(path: Path, document: object, *, one_line: bool) -> Source:
    if isinstance(document, list):
        return _of_list(path, "JSON list", document)
    if not isinstance(document, dict):
        raise InputError(f"{path}: holds one value and no rows; give {KINDS}")
    history = document.get("log_history")
    if isinstance(history, list):
        return _of_list(path, "TRL trainer_state.json", history)
    columns = {name: values for name, values in document.items() if _is_column(values)}
    numbers = [value for value in document.values() if isinstance(value, int | float)]
    if len(columns) > len(numbers):  # a row may hold lists, and columns may have a seed beside them
        return _of_columns(columns)
    if one_line and (numbers or any(isinstance(value, dict) for value in document.values())):
        return Source("JSON lines", iter([document]))  # a run that has logged once
    raise InputError(f"{path}: a JSON object without log_history; its keys are {few(document)}; give {KINDS}")


def _is_column(values: object) -> bool:
    return isinstance(values, list) and any(isinstance(value, int | float) for value in values)


def _of_list(path: Path, kind: str, entries: Sequence[object]) -> Source:
    if not entries:
        raise InputError(f"{path}: the list of rows is empty; the trainer has logged nothing yet")
    source = Source(kind, iter(()))
    each = (entry if isinstance(entry, dict) else f"entry {n} is not a row" for n, entry in enumerate(entries, 1))
    source.rows = _pass_good(path, each, source.bad)
    return source


def _of_columns(columns: Mapping[str, list[object]]) -> Source:
    length = Counter(map(len, columns.values())).most_common(1)[0][0]  # an evaluation's column is shorter: of what?
    whole = {name: values for name, values in columns.items() if len(values) == length}
    notes = (
        [f"columns of another length were left out: {few(columns.keys() - whole)}"] if len(whole) < len(columns) else []
    )
    rows = (dict(zip(whole, values, strict=True)) for values in zip(*whole.values(), strict=True))
    return Source("JSON columns", rows, notes=notes)


def _of_lines(path: Path, text: str) -> Source:
    def parse() -> Iterator[Mapping[str, object] | str]:
        for number, line in enumerate(text.split("\n"), 1):
            if not line or line.isspace():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                yield f"line {number} is not JSON"
                continue
            yield row if isinstance(row, dict) else f"line {number} is not a JSON object"

    source = Source("JSON lines", iter(()))
    source.rows = _pass_good(path, parse(), source.bad)
    return source


def _of_csv(path: Path, text: str) -> Source:
    lines = text.lstrip("\r\n").split("\n")
    delimiter = max(",;\t", key=lines[0].count)
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        header = [name.strip() for name in next(reader)]
    except csv.Error:
        header = []
    if len(header) < 2:
        raise InputError(f"{path}: neither JSON nor CSV; give {KINDS}")
    if all(isinstance(_read_cell(name), float) for name in header):
        raise InputError(f"{path}: the first line has numbers and no names; write the names of the columns above it")

    def parse() -> Iterator[Mapping[str, object] | str]:
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield f"line {reader.line_num} is not CSV ({error})"
                continue
            if cells is None:
                return
            if cells and len(cells) != len(header):
                yield f"line {reader.line_num} has {len(cells)} cells and not {len(header)}"
            elif cells:
                yield {name: _read_cell(cell) for name, cell in zip(header, cells, strict=True) if name and cell}

    source = Source("CSV", iter(()))
    source.rows = _pass_good(path, parse(), source.bad)
    return source


def _read_cell(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def _pass_good(
    path: Path, rows: Iterable[Mapping[str, object] | str], bad: list[str]
) -> Iterator[Mapping[str, object]]:
    """Pass rows on and collect what was said of bad ones. Raises InputError at the end if most were bad."""
    good = 0
    for row in rows:
        if isinstance(row, str):
            bad.append(row)
        else:
            good += 1
            yield row
    if len(bad) > good:
        raise InputError(f"{path}: {bad[0]} ({len(bad)} of {good + len(bad)} are not rows); give {KINDS}")
