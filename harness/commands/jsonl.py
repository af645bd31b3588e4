"""Writing a new .jsonl file: all of it or nothing, and never over another."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from harness.core.files import write_whole
from harness.errors import InputError


def check_place(out: Path) -> None:
    """Raise InputError where no new file can be written."""
    if out.suffix != ".jsonl":
        raise InputError(f"OUT: {out} must end in .jsonl")
    if out.exists():
        raise InputError(f"OUT: {out} exists already; choose another name")
    if not out.absolute().parent.is_dir():
        raise InputError(f"OUT: there is no folder {out.parent}")
    if not os.access(out.absolute().parent, os.W_OK):
        raise InputError(f"OUT: cannot write in {out.parent}")


def write_lines(out: Path, lines: Iterable[str]) -> None:
    """Write the lines, all or none. Raises InputError when the file cannot be written."""
    try:
        with write_whole(out) as part, part.open("w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
    except OSError as error:
        raise InputError(f"OUT: cannot write {out}: {error.strerror}") from None
