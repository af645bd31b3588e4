"""The whole run in at most 512 buckets per metric: minimum, mean and maximum of neighbouring steps.

The width of a bucket is a power of two that follows from the step alone, so nothing has to be remembered:
when a run outgrows its buckets, neighbours are merged. A step costs the same however long the run is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from harness.records import BUCKET

LIMIT = 512
METRICS = (
    "reward/mean",
    "reward/adjusted",
    "group/mixed_rate",
    "group/all_zero_rate",
    "group/all_one_rate",
    "group/flat_rate",
    "completion/errored_rate",
    "completion/truncated_rate",
    "completion/tokens_mean",
    "kl/mean",
    "entropy/mean",
    "grad/norm",
)
"""The metrics that are kept this way; all others live in their step only."""

_UPSERT = upsert(BUCKET)
ADD = _UPSERT.on_conflict_do_update(
    index_elements=["run_id", "metric", "first"],
    set_={
        "n": BUCKET.c.n + 1,
        "low": func.min(BUCKET.c.low, _UPSERT.excluded.low),
        "total": BUCKET.c.total + _UPSERT.excluded.total,
        "high": func.max(BUCKET.c.high, _UPSERT.excluded.high),
    },
)
"""One step's value into its bucket, a new one or one that is there."""


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
        _merge(c, run_id, width)
    first = (step - 1) // width * width + 1
    rows = [
        {"run_id": run_id, "metric": name, "first": first, "n": 1, "low": value, "total": value, "high": value}
        for name in METRICS
        if (value := metrics.get(name)) is not None
    ]
    if not rows:
        return
    c.execute(ADD, rows)


def rebuild(
    c: Connection, run_id: int, steps: Iterable[tuple[int, Mapping[str, float | None]]], *, last_step: int
) -> None:
    """All buckets anew from the live steps (after a resume or a rollback); the next step is ``last_step`` + 1."""
    c.execute(delete(BUCKET).where(BUCKET.c.run_id == run_id))
    rows: list[dict[str, Any]] = [
        {"run_id": run_id, "metric": name, "first": step, "n": 1, "low": value, "total": value, "high": value}
        for step, metrics in steps
        for name in METRICS
        if (value := metrics.get(name)) is not None
    ]
    if rows:
        c.execute(insert(BUCKET), _folded(rows, compute_width(last_step)))


def _merge(c: Connection, run_id: int, width: int) -> None:
    rows = [dict(row) for row in c.execute(select(BUCKET).where(BUCKET.c.run_id == run_id)).mappings()]
    c.execute(delete(BUCKET).where(BUCKET.c.run_id == run_id))
    if rows:
        c.execute(insert(BUCKET), _folded(rows, width))


def _folded(rows: Iterable[dict[str, Any]], width: int) -> list[dict[str, Any]]:
    places: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        places[row["metric"], (row["first"] - 1) // width * width + 1].append(row)
    return [
        {
            "run_id": parts[0]["run_id"],
            "metric": metric,
            "first": first,
            "n": sum(part["n"] for part in parts),
            "low": min(part["low"] for part in parts),
            "total": sum(part["total"] for part in parts),
            "high": max(part["high"] for part in parts),
        }
        for (metric, first), parts in places.items()
    ]
