"""Reports as files: from the record of runs, and of what the pool says of their groups, to a page on disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from harness.errors import InputError
from harness.store.history import load_course, load_history
from harness.store.reader import RunReader
from harness.views.comparison import build_comparison
from pools.view import RATE_BINS, compute_windows

WINDOWS = 24
"""Columns of the pool's heat map, at most."""


def write_report(store: RunReader, name: str, file: Path, *, where: str = "") -> None:
    """The morning report of a run. Raises InputError."""
    check_file(file)
    history = load_history(store, name, whole_run=False)
    course = load_course(store, history.run.id)
    pool_size = history.manifest.get("split_sizes", {}).get("train", 0)
    windows = compute_windows(course.groups, pool_size=pool_size, count=WINDOWS)
    from harness.views.html.page import render_report

    _write(file, render_report(history, course, [asdict(window) for window in windows], RATE_BINS, where=where))


def write_comparison(store: RunReader, names: Sequence[str], file: Path) -> None:
    """The page of ``grpo compare``. Raises InputError."""
    check_file(file)
    histories = [load_history(store, name, whole_run=False) for name in names]
    specs = [store.load_run(history.run.id).spec for history in histories]
    from harness.views.html.page import render_comparison

    _write(file, render_comparison(build_comparison(histories, specs), histories))


def check_file(file: Path) -> None:
    """Raises InputError when it cannot be written."""
    if file.is_dir():
        raise InputError(f"--html: {file} is a folder; name a file")
    if not file.absolute().parent.is_dir():
        raise InputError(f"--html: there is no folder {file.absolute().parent}")


def _write(file: Path, page: str) -> None:
    """Whole or not at all: who has it open sees the old one or the new one."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        raise InputError(f"--html: cannot write {file}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
