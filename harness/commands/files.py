"""Write a file that a person names: all of it or nothing, and a .jsonl file never over another."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.files import write_whole
from harness.core.formatting import clean_cell
from harness.errors import InputError


def check_place(out: Path) -> None:
    """Raise InputError where no new .jsonl file can be written."""
    if out.suffix != ".jsonl":
        raise InputError(f"OUT: {out} must end in .jsonl")
    if out.exists():
        raise InputError(f"OUT: {out} exists already; choose another name")
    if not out.absolute().parent.is_dir():
        raise InputError(f"OUT: there is no folder {out.parent}")
    if not os.access(out.absolute().parent, os.W_OK):
        raise InputError(f"OUT: cannot write in {out.parent}")


def check_parent(file: Path, option: str) -> None:
    """Raise InputError where the file of an ``option`` cannot be written, before anything is paid for it."""
    folder = file.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{option}: there is no folder {file.parent}")
    if file.is_dir() or not os.access(file if file.exists() else folder, os.W_OK):
        raise InputError(f"{option}: cannot write {file}")


def write_lines(out: Path, lines: Iterable[str]) -> None:
    """Write the lines, all or none. Raises InputError when the file cannot be written."""
    write_text(out, (line + "\n" for line in lines), option="OUT")


def write_text(file: Path, parts: Iterable[str], *, option: str) -> None:
    """Write all of a file or nothing: who has an older one open goes on seeing that. ``option`` named it.

    Raises InputError when it cannot be written.
    """
    if file.exists() and not file.is_file():  # a device would be gone, and a file in its place
        raise InputError(f"{option}: {file} is a folder or a device; name a file")
    try:
        with write_whole(file) as unfinished, unfinished.open("w", encoding="utf-8") as stream:
            stream.writelines(parts)
    except OSError as error:
        raise InputError(f"{option}: cannot write {file}: {error.strerror}") from None


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]], *, option: str = "--csv") -> None:
    """Write a CSV of rows with the same columns, one at least: all of it or nothing. Raises InputError."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(rows[0])
    writer.writerows([clean_cell(value) if isinstance(value, str) else value for value in row.values()] for row in rows)
    write_text(file, [text.getvalue()], option=option)
