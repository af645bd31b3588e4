"""Read the record of runs: a list, reviews and comparisons, as documents and as pages on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.files import write_text
from harness.commands.lookup import open_reader
from harness.core.liveness import is_alive_run
from harness.core.paths import database_flag, database_url
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.store.reader import RunReader
    from harness.types import Status


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in a list. ``created`` is in seconds since 1970."""

    run: str
    status: Status
    alive: bool
    stop_reason: str
    policy: str
    seed: int
    steps: int
    rollouts: int
    wall_s: float
    best_step: int | None
    created: float


@dataclass(frozen=True, slots=True)
class Document:
    """``document`` as of harness.views.review.build_review, or of harness.views.comparison.build_comparison."""

    document: Mapping[str, Any]

    def to_json(self) -> Mapping[str, Any]:
        return self.document


def list_runs(*, db: str | None = None, out: str = "runs") -> tuple[RunSummary, ...]:
    """List all runs, the oldest first; none where there is no database. Raises InputError."""
    from harness.store.reader import find_reader

    reader = find_reader(database_url(out, db))
    if reader is None:
        return ()
    return tuple(
        RunSummary(
            run=record.name,
            status=record.status,
            alive=record.status in ("running", "paused") and is_alive_run(record),
            stop_reason=record.stop_reason,
            policy=record.policy,
            seed=record.seed,
            steps=record.last_step,
            rollouts=record.rollouts,
            wall_s=round(record.wall_s, 1),
            best_step=reader.best_step(record.id),
            created=record.created,
        )
        for record in reader.list_runs()
    )


def review(
    run: str = "latest",
    *,
    html: Path | None = None,
    whole_run: bool = True,
    db: str | None = None,
    out: str = "runs",
) -> Document:
    """Review what a run did and why, and write the page with plots to ``html`` if given.

    Without ``whole_run`` the document has what a terminal has room for, which comes sooner. Raises InputError.
    """
    from harness.store.history import load_history
    from harness.views.review import build_review

    reader, record = open_reader(db, out, run)
    if html is not None:
        write_report(reader, record.name, html)
    return Document(build_review(load_history(reader, record.name, whole_run=whole_run)))


def compare(runs: Sequence[str], *, html: Path | None = None, db: str | None = None, out: str = "runs") -> Document:
    """Compare two or more runs with the first of them, and write the page to ``html`` if given. Raises InputError."""
    reader, first = open_reader(db, out, runs[0] if runs else "latest")
    records = [first, *(reader.match_run(name) for name in runs[1:])]
    if len({record.id for record in records}) < max(2, len(records)):
        raise InputError("compare takes two or more different runs; grpo runs lists them")
    return write_comparison(reader, [record.name for record in records], html)


# ---------------------------------------------------------------- pages


def write_report(store: RunReader, name: str, file: Path) -> None:
    """Write the morning report of a run. Raises InputError."""
    from harness.commands.pool_report import WINDOWS
    from harness.store.history import load_course, load_history
    from pools.view import RATE_BINS, compute_windows

    check_file(file)
    history = load_history(store, name, whole_run=False)
    course = load_course(store, history.run.id)
    pool_size = history.manifest.get("split_sizes", {}).get("train", 0)
    windows = compute_windows(course.groups, pool_size=pool_size, count=WINDOWS)
    from harness.views.html.page import render_report

    where = database_flag(store.url)
    page = render_report(history, course, [asdict(window) for window in windows], RATE_BINS, where=where)
    write_text(file, [page], option="--html")


def write_comparison(store: RunReader, names: Sequence[str], file: Path | None) -> Document:
    """Compare runs by their whole names, and write the page of that if ``file`` is given. Raises InputError."""
    from harness.store.history import load_history
    from harness.views.comparison import build_comparison

    if file is not None:
        check_file(file)
    histories = [load_history(store, name, whole_run=False) for name in names]
    specs = [store.load_run(history.run.id).spec for history in histories]
    document = build_comparison(histories, specs)
    if file is not None:
        from harness.views.html.page import render_comparison_page

        write_text(file, [render_comparison_page(document, histories)], option="--html")
    return Document(document)


def check_file(file: Path) -> None:
    """Raise InputError when it cannot be written."""
    if file.is_dir():
        raise InputError(f"--html: {file} is a folder; name a file")
    if not file.absolute().parent.is_dir():
        raise InputError(f"--html: there is no folder {file.absolute().parent}")
