"""From the store to a frozen snapshot, for everybody who looks: policy, dashboard, review.

A reader keeps the steps it has parsed, so a look costs what is new, however long the run is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, select

from harness.places import is_alive
from harness.records import BUCKET, COMPLETION, DECISION, EVALUATION, EVENT, RUN, STEP
from harness.store import RunStore, decision_record, run_record
from harness.types import (
    Bucket,
    CheckpointRecord,
    DecisionRecord,
    EvaluationRecord,
    EventRecord,
    History,
    Knobs,
    SampleRecord,
    Snapshot,
    StepRecord,
)

STEPS_SHOWN = 200
DECISIONS_SHOWN = 50
EVALUATIONS_SHOWN = 64
EVENTS_SHOWN = 20
SEEN_OF_A_RUN = select(*(column for column in RUN.c if column.name not in ("manifest", "forecast"))).where(
    RUN.c.id == bindparam("run")
)
NEW_STEPS = (
    select(STEP)
    .where(STEP.c.run_id == bindparam("run"), STEP.c.state == "live", STEP.c.id > bindparam("last"))
    .order_by(STEP.c.id.desc())
    .limit(STEPS_SHOWN)
)
LOOK = [column for column in EVALUATION.c if column.name != "correct"]
"""An evaluation without its answers prompt by prompt, which no snapshot shows."""


class SnapshotReader:
    """Looks at one run again and again, and reads anew only what has changed."""

    def __init__(self, store: RunStore, run_id: int) -> None:
        self.store = store
        self.run_id = run_id
        self._steps: deque[StepRecord] = deque(maxlen=STEPS_SHOWN)
        self._last_id = 0
        self._lineage = -1
        self._version = -1
        self._decided: tuple[DecisionRecord, ...] = ()
        self._looks: tuple[EvaluationRecord, ...] = ()
        self._saved: tuple[CheckpointRecord, ...] = ()

    def read(self, *, whole_run: bool = False) -> Snapshot:
        """The run as it stands. ``whole_run`` adds the buckets, samples and events that only people look at."""
        with self.store.read() as c:
            run = c.execute(SEEN_OF_A_RUN, {"run": self.run_id}).mappings().one()
            self._read_steps(c, run["lineage"])
            if run["version"] != self._version:
                self._decided, self._looks = self._decisions(c), self._evaluations(c)
                self._saved = tuple(checkpoint for checkpoint, _ in self.store.load_checkpoints(self.run_id))
                self._version = run["version"]
            return Snapshot(
                run=run_record(run),
                step=run["weights_step"],
                steps_done=run["last_step"],
                knobs=Knobs(**run["knobs"]),
                bounds={name: (low, high) for name, (low, high) in run["bounds"].items()},
                pins=frozenset(run["pins"]),
                steps=tuple(self._steps),
                decisions=self._decided,
                evaluations=self._looks,
                checkpoints=self._saved,
                samples=self._samples(c) if whole_run else (),
                events=self._events(c) if whole_run else (),
                buckets=self._buckets(c) if whole_run else {},
                commands_waiting=self.store.count_waiting(self.run_id) if whole_run else 0,
            )

    def _read_steps(self, c: Connection, lineage: int) -> None:
        if lineage != self._lineage:  # a resume or rollback: recorded steps stopped being live
            self._steps.clear()
            self._last_id, self._lineage = 0, lineage
        for row in reversed(c.execute(NEW_STEPS, {"run": self.run_id, "last": self._last_id}).mappings().all()):
            self._last_id = row["id"]
            self._steps.append(
                StepRecord(row["step"], row["parent"], Knobs(**row["knobs"]), load_metrics(row["metrics"]))
            )

    def _decisions(self, c: Connection) -> tuple[DecisionRecord, ...]:
        """Those that did something: a rule must still see its last change after a hundred times continue."""
        acted = (DECISION.c.run_id == self.run_id) & (DECISION.c.action != "continue")
        query = select(DECISION).where(acted).order_by(DECISION.c.id.desc())
        rows = c.execute(query.limit(DECISIONS_SHOWN)).mappings().all()
        return tuple(decision_record(row) for row in reversed(rows))

    def _evaluations(self, c: Connection) -> tuple[EvaluationRecord, ...]:
        """The first and best dev look and the newest ones, in order of steps."""
        here = select(*LOOK).where(EVALUATION.c.run_id == self.run_id)
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
        found: list[Mapping[Any, Any]] = []
        for of_kind in (COMPLETION.c.kind != "fixed", COMPLETION.c.kind == "fixed"):
            newest = select(COMPLETION.c.step).where(COMPLETION.c.run_id == self.run_id, of_kind)
            step = c.execute(newest.order_by(COMPLETION.c.step.desc()).limit(1)).scalar()
            found += (
                c.execute(here.where(of_kind, COMPLETION.c.step == step).order_by(COMPLETION.c.id)).mappings().all()
            )
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


def load_history(store: RunStore, name: str) -> History:
    """The whole record of a run, for reviews. Raises InputError for an unknown run."""
    run = store.find_run(name)
    row = store.load_run(run.id)
    with store.read() as c:

        def of(table: Table, order: Any) -> list[Mapping[Any, Any]]:
            return list(c.execute(select(table).where(table.c.run_id == run.id).order_by(order)).mappings())

        live = select(STEP.c.step, STEP.c.metrics).where(STEP.c.run_id == run.id, STEP.c.state == "live")
        fixed = select(COMPLETION).where(COMPLETION.c.run_id == run.id, COMPLETION.c.kind == "fixed")
        taken = select(func.count()).where(STEP.c.run_id == run.id, STEP.c.state != "superseded")
        return History(
            run=run,
            alive=run.status in ("running", "paused") and is_alive(run.pid, run.host),
            manifest=row["manifest"],
            forecast=row["forecast"],
            knobs=Knobs(**row["knobs"]),
            pins=tuple(row["pins"]),
            steps_taken=c.execute(taken).scalar_one(),
            metrics={r.step: load_metrics(r.metrics) for r in c.execute(live.order_by(STEP.c.step))},
            evaluations=tuple(evaluation_record(r) for r in of(EVALUATION, EVALUATION.c.step)),
            decisions=tuple(decision_record(r) for r in of(DECISION, DECISION.c.id)),
            events=tuple(EventRecord(r["step"], r["level"], r["text"], r["at"]) for r in of(EVENT, EVENT.c.id)),
            samples=tuple(sample_record(r) for r in c.execute(fixed.order_by(COMPLETION.c.id)).mappings()),
            checkpoints=tuple(checkpoint for checkpoint, _ in store.load_checkpoints(run.id)),
        )


def load_metrics(stored: Mapping[str, float | None]) -> dict[str, float]:
    """Metrics as they were: null was a number that JSON cannot hold."""
    return {name: float("nan") if value is None else value for name, value in stored.items()}


def evaluation_record(row: Mapping[Any, Any]) -> EvaluationRecord:
    return EvaluationRecord(
        row["step"], row["split"], row["n"], row["accuracy"], (row["low"], row["high"]), row["reward"]
    )


def sample_record(row: Mapping[Any, Any]) -> SampleRecord:
    return SampleRecord(**{name: row[name] for name in SampleRecord.__dataclass_fields__})
