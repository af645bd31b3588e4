"""A run as it was after an earlier step, from its record: what the dashboard plays back."""

from __future__ import annotations

from dataclasses import replace

from harness.store.reader import RunReader
from harness.store.rows import decision_record, evaluation_record, load_knobs, load_metrics, sample_record
from harness.store.snapshot import (
    ACTED,
    DECISIONS,
    DECISIONS_SHOWN,
    EVALUATIONS,
    EVALUATIONS_SHOWN,
    SAMPLES,
    STEPS_SHOWN,
)
from harness.types import Snapshot, StepRecord

STEPS = """
SELECT step, parent, knobs, metrics FROM steps
WHERE run_id = :run AND state = 'live' AND step <= :until ORDER BY step DESC LIMIT :n
"""
NEWEST_SAMPLES = (
    "SELECT step FROM completions WHERE run_id = :run AND step <= :until AND kind {} ORDER BY step DESC LIMIT 1"
)


def read_back(store: RunReader, now: Snapshot, step: int) -> Snapshot:
    """``now`` without what came after ``step``. Of the live steps only: those a rollback left are not played. Verdicts
    on changes are those known today. Raises StoreUnavailable."""
    asked = {"run": now.run.id, "until": step}
    with store.read() as c:
        rows = c.execute(STEPS, asked | {"n": STEPS_SHOWN}).fetchall()
        steps = [
            StepRecord(row["step"], row["parent"], load_knobs(row["knobs"]), load_metrics(row["metrics"]))
            for row in reversed(rows)
        ]
        decided = f"{DECISIONS.replace('?', ':run')} AND {ACTED} AND step <= :until ORDER BY id DESC LIMIT :n"
        decisions = [decision_record(row) for row in c.execute(decided, asked | {"n": DECISIONS_SHOWN})][::-1]
        measured = f"{EVALUATIONS} AND step <= :until ORDER BY step DESC LIMIT :n"
        looks = [evaluation_record(row) for row in c.execute(measured, asked | {"n": EVALUATIONS_SHOWN})][::-1]
        samples = []
        for kind in ("!= 'fixed'", "= 'fixed'"):
            newest = NEWEST_SAMPLES.format(kind)
            found = c.execute(f"{SAMPLES} AND kind {kind} AND step = ({newest}) ORDER BY id", asked)
            samples += [sample_record(row) for row in found]
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
        steps=tuple(steps),
        decisions=tuple(decisions),
        evaluations=tuple(looks),
        checkpoints=tuple(
            replace(c, best=best is not None and c.step == best.step) for c in now.checkpoints if c.step <= step
        ),
        samples=tuple(samples),
        events=tuple(event for event in now.events if event.step <= step),
        buckets={name: tuple(b for b in parts if b.first <= step) for name, parts in now.buckets.items()},
        commands=tuple(c for c in now.commands if c.step is not None and c.step <= step),
        commands_waiting=0,
    )
