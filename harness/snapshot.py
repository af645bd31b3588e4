"""From the store to a frozen snapshot, for everybody who looks: policy, dashboard, review.

A reader keeps the steps it has parsed, so a look costs what is new, however long the run is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from harness.records import BucketRow
from harness.store import (
    COMPLETION,
    DECISION,
    EVALUATION,
    EVENT,
    RUN,
    STEP,
    RunStore,
    decision_record,
    run_record,
)
from harness.types import Bucket, DecisionRecord, EvaluationRecord, EventRecord, Knobs, SampleRecord, Snapshot, StepRecord

BUCKET = BucketRow.__table__  # type: ignore[attr-defined]
STEPS_SHOWN = 200
DECISIONS_SHOWN = 50
EVALUATIONS_SHOWN = 64
EVENTS_SHOWN = 20


class SnapshotReader:
    """Looks at one run again and again."""

    def __init__(self, store: RunStore, run_id: int) -> None:
        self.store = store
        self.run_id = run_id
        self._steps: deque[StepRecord] = deque(maxlen=STEPS_SHOWN)
        self._last_id = 0
        self._lineage = -1

    def read(self, *, whole_run: bool = False) -> Snapshot:
        """The run as it stands. ``whole_run`` adds the buckets, samples and events that only people look at."""
        with self.store.read() as c:
            run = dict(c.execute(select(RUN).where(RUN.c.id == self.run_id)).mappings().one())
            self._read_steps(c, run["lineage"])
            return Snapshot(
                run=run_record(run),
                step=run["weights_step"],
                steps_done=run["last_step"],
                knobs=Knobs(**run["knobs"]),
                bounds={name: (low, high) for name, (low, high) in run["bounds"].items()},
                pins=frozenset(run["pins"]),
                steps=tuple(self._steps),
                decisions=self._decisions(c),
                evaluations=self._evaluations(c),
                checkpoints=tuple(checkpoint for checkpoint, _ in self.store.load_checkpoints(self.run_id)),
                samples=self._samples(c) if whole_run else (),
                events=self._events(c) if whole_run else (),
                buckets=self._buckets(c) if whole_run else {},
                commands_waiting=self.store.count_waiting(self.run_id) if whole_run else 0,
            )

    def _read_steps(self, c: Connection, lineage: int) -> None:
        if lineage != self._lineage:  # a resume or rollback: recorded steps stopped being live
            self._steps.clear()
            self._last_id, self._lineage = 0, lineage
        query = (
            select(STEP)
            .where(STEP.c.run_id == self.run_id, STEP.c.state == "live", STEP.c.id > self._last_id)
            .order_by(STEP.c.id.desc())
            .limit(STEPS_SHOWN)
        )
        for row in reversed(c.execute(query).mappings().all()):
            self._last_id = row["id"]
            self._steps.append(StepRecord(row["step"], row["parent"], Knobs(**row["knobs"]), load_metrics(row["metrics"])))

    def _decisions(self, c: Connection) -> tuple[DecisionRecord, ...]:
        query = select(DECISION).where(DECISION.c.run_id == self.run_id).order_by(DECISION.c.id.desc())
        rows = c.execute(query.limit(DECISIONS_SHOWN)).mappings().all()
        return tuple(decision_record(row) for row in reversed(rows))

    def _evaluations(self, c: Connection) -> tuple[EvaluationRecord, ...]:
        """The first and best dev look and the newest ones, in order of steps."""
        here = select(EVALUATION).where(EVALUATION.c.run_id == self.run_id)
        dev = here.where(EVALUATION.c.split == "dev")
        queries = (
            here.order_by(EVALUATION.c.step.desc()).limit(EVALUATIONS_SHOWN),
            here.order_by(EVALUATION.c.step).limit(2),
            dev.order_by(EVALUATION.c.accuracy.desc(), EVALUATION.c.step).limit(1),
        )
        rows = {row["id"]: row for query in queries for row in c.execute(query).mappings()}
        return tuple(evaluation_record(row) for row in sorted(rows.values(), key=lambda row: (row["step"], row["id"])))

    def _samples(self, c: Connection) -> tuple[SampleRecord, ...]:
        """The samples of the newest step, and the newest look at the fixed prompts."""
        here = select(COMPLETION).where(COMPLETION.c.run_id == self.run_id)
        found = []
        for of_kind in (COMPLETION.c.kind != "fixed", COMPLETION.c.kind == "fixed"):
            newest = select(COMPLETION.c.step).where(COMPLETION.c.run_id == self.run_id, of_kind)
            step = c.execute(newest.order_by(COMPLETION.c.step.desc()).limit(1)).scalar()
            found += c.execute(here.where(of_kind, COMPLETION.c.step == step).order_by(COMPLETION.c.id)).mappings().all()
        return tuple(sample_record(row) for row in found)

    def _events(self, c: Connection) -> tuple[EventRecord, ...]:
        query = select(EVENT).where(EVENT.c.run_id == self.run_id).order_by(EVENT.c.id.desc()).limit(EVENTS_SHOWN)
        rows = c.execute(query).mappings().all()
        return tuple(EventRecord(row["step"], row["level"], row["text"], row["at"]) for row in reversed(rows))

    def _buckets(self, c: Connection) -> dict[str, tuple[Bucket, ...]]:
        query = select(BUCKET).where(BUCKET.c.run_id == self.run_id).order_by(BUCKET.c.metric, BUCKET.c.first)
        buckets: dict[str, list[Bucket]] = {}
        for row in c.execute(query):
            bucket = Bucket(row.first, row.n, row.low, row.total / row.n, row.high)
            buckets.setdefault(row.metric, []).append(bucket)
        return {metric: tuple(parts) for metric, parts in buckets.items()}


def load_metrics(stored: Mapping[str, float | None]) -> dict[str, float]:
    """Metrics as they were: null was a number that JSON cannot hold."""
    return {name: float("nan") if value is None else value for name, value in stored.items()}


def evaluation_record(row: Mapping[str, Any]) -> EvaluationRecord:
    return EvaluationRecord(
        row["step"], row["split"], row["n"], row["accuracy"], (row["low"], row["high"]), row["reward"]
    )


def sample_record(row: Mapping[str, Any]) -> SampleRecord:
    return SampleRecord(**{name: row[name] for name in SampleRecord.__dataclass_fields__})
