"""A run as it was after an earlier step, from its record: what the dashboard plays back."""

from __future__ import annotations

from dataclasses import replace

from harness.store.reader import RunReader
from harness.store.rows import evaluation_record
from harness.store.snapshot import NEWEST_EVALUATIONS, STEPS_SHOWN, load_acted, load_samples, load_steps
from harness.types import Snapshot


def read_back(store: RunReader, now: Snapshot, step: int) -> Snapshot:
    """``now`` without what came after ``step``. Of the live steps only: those a rollback left are not played. Verdicts
    on changes are those known today. Raises StoreUnavailable."""
    return store.look(lambda: _read_back(store, now, step))


def _read_back(store: RunReader, now: Snapshot, step: int) -> Snapshot:
    run = now.run.id
    with store.read() as c:
        steps = load_steps(c, run, STEPS_SHOWN, until=step)
        decisions = load_acted(c, run, until=step)
        samples = load_samples(c, run, until=step)
        measured = c.execute(NEWEST_EVALUATIONS, {"run": run, "until": step})
        looks = [evaluation_record(row) for row in measured][::-1]
    best = max((look for look in looks if look.split == "dev"), key=lambda look: look.accuracy, default=None)
    pins: set[str] = set()
    for d in decisions:
        if d.source == "manual" and d.refused is None:
            pins = pins - {str(d.argument)} if d.action == "release" else pins | d.changes.keys()
    return replace(
        now,
        step=step,
        steps_done=step,
        knobs=steps[-1].knobs if steps else now.knobs,
        pins=frozenset(pins),
        steps=steps,
        decisions=decisions,
        evaluations=tuple(looks),
        checkpoints=tuple(
            replace(c, best=best is not None and c.step == best.step) for c in now.checkpoints if c.step <= step
        ),
        samples=samples,
        events=tuple(event for event in now.events if event.step <= step),
        buckets={name: tuple(b for b in parts if b.first <= step) for name, parts in now.buckets.items()},
        commands=tuple(c for c in now.commands if c.step is not None and c.step <= step),
        commands_waiting=0,
    )
