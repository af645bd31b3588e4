"""The whole run in at most 512 buckets per metric: minimum, mean and maximum of neighbouring steps.

The width of a bucket is a power of two that follows from the step alone, so nothing has to be remembered:
when a run outgrows its buckets, neighbours are merged. A step costs the same however long the run is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping

from sqlalchemy import Connection

from harness.store.schema import driver

LIMIT = 512
METRICS = (
    "reward/mean",
    "reward/adjusted",
    "group/mixed_rate",
    "group/all_zero_rate",
    "group/all_one_rate",
    "group/flat_rate",
    "group/solved_rate",
    "group/unsolved_rate",
    "completion/errored_rate",
    "completion/truncated_rate",
    "completion/tokens_mean",
    "kl/mean",
    "entropy/mean",
    "grad/norm",
)
"""The metrics that are kept this way; all others live in their step only."""
SUPERVISED = ("loss", "entropy/mean", "completion/tokens_mean", "grad/norm")
"""The same of a step that learned from demonstrations."""

ADD = """
INSERT INTO buckets (run_id, metric, first, n, low, total, high) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, metric, first) DO UPDATE SET
n = n + excluded.n, low = min(low, excluded.low), total = total + excluded.total, high = max(high, excluded.high)
"""
"""Some steps of one metric into their bucket, a new one or one that is there."""
Row = tuple[int, str, int, int, float, float, float]


def compute_width(step: int) -> int:
    """Steps per bucket once ``step`` is reached: the smallest power of two that keeps within the limit."""
    width = 1
    while -(-step // width) > LIMIT:
        width *= 2
    return width


def fold(c: Connection, run_id: int, step: int, metrics: Mapping[str, float | None]) -> None:
    """Add one step to its buckets, in the caller's transaction."""
    width = compute_width(step)
    if step > 1 and width != compute_width(step - 1):
        _merge(driver(c), run_id, width)
    driver(c).executemany(ADD, _rows(run_id, step, metrics, width))


def rebuild(
    c: Connection, run_id: int, steps: Iterable[tuple[int, Mapping[str, float | None]]], *, last_step: int
) -> None:
    """All buckets anew from the live steps (after a resume or a rollback); the next step is ``last_step`` + 1."""
    width = compute_width(last_step)
    driver(c).execute("DELETE FROM buckets WHERE run_id = ?", (run_id,))
    driver(c).executemany(ADD, (row for step, metrics in steps for row in _rows(run_id, step, metrics, width)))


def _merge(c: sqlite3.Connection, run_id: int, width: int) -> None:
    columns = "run_id, metric, first, n, low, total, high"
    rows = c.execute(f"SELECT {columns} FROM buckets WHERE run_id = ? ORDER BY metric, first", (run_id,)).fetchall()
    c.execute("DELETE FROM buckets WHERE run_id = ?", (run_id,))
    c.executemany(ADD, ((run_id, metric, _first(start, width), *rest) for _, metric, start, *rest in rows))


def _rows(run_id: int, step: int, metrics: Mapping[str, float | None], width: int) -> Iterator[Row]:
    first = _first(step, width)
    for name in METRICS if "reward/mean" in metrics else SUPERVISED:
        value = metrics.get(name)
        if value is not None:
            yield run_id, name, first, 1, value, value, value


def _first(step: int, width: int) -> int:
    return (step - 1) // width * width + 1
