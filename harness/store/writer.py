"""The only room that writes the record: runs in SQLite, written so that a kill at any moment loses nothing.

Every method that writes is one transaction, which takes the lock at once (BEGIN IMMEDIATE); readers never block (WAL).
Rows are made in harness.store.rows and inserted by name; updates go through SQLAlchemy Core, except in every step.
harness.types.Store says what each method promises; here stands why its SQL is as it is.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from harness.core.knobs import describe
from harness.core.liveness import boot_clock, identify, is_alive, refuse_running
from harness.errors import InputError
from harness.store.buckets import fold, rebuild
from harness.store.connection import LOCK_WAIT_S, begin_writing
from harness.store.reader import RunReader, within
from harness.store.rows import (
    checkpoint_row,
    command_row,
    decision_row,
    dump_json,
    evaluation_row,
    event_row,
    finite_metrics,
    group_row,
    insert_into,
    sample_row,
    step_row,
)
from harness.store.schema import CHECKPOINT, COMMAND, COMPLETION, DECISION, EVALUATION, RUN, STEP, driver
from harness.types import (
    ENDED,
    ONLY_NOW,
    Action,
    CheckedDecision,
    CheckpointRecord,
    Decision,
    Evaluation,
    Group,
    InForce,
    Knobs,
    SampleRecord,
    Status,
    StepRecord,
    Verdict,
)

ADD_VERDICT = "UPDATE decisions SET measured = ?, verdict = ? WHERE run_id = ? AND id = ?"
STEP_TAKEN = """
UPDATE runs SET last_step = :step, weights_step = :step, wall_s = :wall_s, rollouts = rollouts + :completions,
heartbeat = :heartbeat, heartbeat_boot = :heartbeat_boot WHERE id = :run
"""
BEAT = """
UPDATE runs SET phase = :phase, phase_done = :done, phase_total = :total, wall_s = :wall_s,
heartbeat = :heartbeat, heartbeat_boot = :heartbeat_boot WHERE id = :run
"""
BEAT_WAIT_MS = 50
LET_IN_S = 0.005
"""After each action that was queued: a program that queues many would take the lock again before anybody else, the
run among them, sees it free."""

P = ParamSpec("P")
R = TypeVar("R")


def transaction(
    method: Callable[Concatenate[RunStore, Connection, P], R],
) -> Callable[Concatenate[RunStore, P], R]:
    """Make ``method`` write one transaction. Raises StoreUnavailable, and then nothing was written."""
    return within(lambda store: store.write(), method)


class RunStore(RunReader):
    """One database of runs: harness.types.Store in SQLite. Open it with ``open_store``."""

    def __init__(self, engine: Engine, url: str) -> None:
        super().__init__(url)
        self.engine = engine

    def close(self) -> None:
        super().close()
        connection: Connection | None = self._own.__dict__.pop("writing", None)
        if connection is not None:
            connection.close()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction. Raises StoreUnavailable."""
        try:
            # Kept by the thread: a step writes twice, and a new connection costs as much as what it writes.
            connection: Connection | None = getattr(self._own, "writing", None)
            if connection is None:
                connection = self._own.writing = self.engine.connect()
            sqlite = driver(connection)
            begin_writing(sqlite)
            try:
                yield connection
                sqlite.execute("COMMIT")
            finally:
                sqlite.rollback()  # after a commit there is nothing left to undo
        except (sqlite3.OperationalError, OperationalError) as error:
            raise self.explain(getattr(error, "orig", error), "write") from error

    # ------------------------------------------------------------ runs

    @transaction
    def create_run(
        self,
        c: Connection,
        *,
        name: str,
        seed: int,
        policy: str,
        spec: Mapping[str, Any],
        manifest: Mapping[str, Any],
        folder: str,
        knobs: Knobs,
        bounds: Mapping[str, tuple[float, float]],
    ) -> int:
        row = {
            "name": name,
            "created": time.time(),
            "status": "running",
            "seed": seed,
            "policy": policy,
            "spec": dict(spec),
            "manifest": dict(manifest),
            "folder": folder,
            "knobs": asdict(knobs),
            "pins": [],
            "bounds": {name: list(pair) for name, pair in bounds.items()},
            "forecast": {},
            "eras": [],
            **_this_process(),
            **_heartbeat(),
        }
        try:
            return int(c.execute(insert(RUN).values(row)).inserted_primary_key[0])  # type: ignore[index]
        except IntegrityError:
            raise InputError(
                f"name: a run named {name} exists already; choose another --name, or grpo resume {name}"
            ) from None

    @transaction
    def update_run(self, c: Connection, /, run_id: int, **values: Any) -> None:
        c.execute(update(RUN).where(RUN.c.id == run_id).values(**values))

    @transaction
    def adopt_run(
        self,
        c: Connection,
        /,
        run_id: int,
        *,
        era: Mapping[str, Any] | None = None,
        restarted: bool = False,
        **values: Any,
    ) -> None:
        run = c.execute(select(RUN).where(RUN.c.id == run_id)).mappings().one()
        refuse_running(run["name"], run["status"], run["pid"], run["host"], run["process"], run["heartbeat"])
        adopted = {"status": "running", "stop_reason": "", **_this_process(), **_heartbeat()}
        c.execute(update(RUN).where(RUN.c.id == run_id).values(**adopted | values))
        overruled = ONLY_NOW - {"stop"} if restarted else ONLY_NOW
        old = COMMAND.c.state.in_(("waiting", "taken")) & COMMAND.c.action.in_(overruled)
        _expire(c, run_id, old, "the run was resumed after it was asked")
        if era is not None:
            _begin_era(c, run_id, era)

    @transaction
    def end_run(self, c: Connection, run_id: int, status: Status, reason: str, wall_s: float) -> None:
        ended = {"status": status, "stop_reason": reason, "phase": "", "wall_s": wall_s}
        c.execute(update(RUN).where(RUN.c.id == run_id).values(**ended))
        _expire(c, run_id, COMMAND.c.state == "waiting", "the run ended before its next step")

    def beat(self, run_id: int, phase: str, done: int, total: int, wall_s: float) -> None:
        """Waits BEAT_WAIT_MS for a lock, not LOCK_WAIT_S: a sign of life must not hold up the life."""
        values = {"run": run_id, "phase": phase, "done": done, "total": total, "wall_s": wall_s}
        with suppress(sqlite3.Error):
            connection = self.connection()
            connection.execute(f"PRAGMA busy_timeout = {BEAT_WAIT_MS}")
            try:
                connection.execute(BEAT, values | _heartbeat())
            finally:
                connection.execute(f"PRAGMA busy_timeout = {round(1000 * LOCK_WAIT_S)}")

    # ------------------------------------------------------------ commit 1: decisions, before acting

    @transaction
    def record_decisions(
        self,
        c: Connection,
        run_id: int,
        step: int,
        decisions: Sequence[CheckedDecision],
        in_force: InForce,
        *,
        verdicts: Sequence[Verdict] = (),
    ) -> None:
        now = time.time()
        _add(c, "decisions", [decision_row(run_id, step, checked, now) for checked in decisions])
        driver(c).executemany(ADD_VERDICT, [(v.measured, v.verdict, run_id, v.decision_id) for v in verdicts])
        for checked in decisions:
            taken, refused = checked.decision.command_id, checked.refused
            if taken is not None:
                state = {"state": "taken"} if refused is None else {"state": "refused", "result": refused}
                c.execute(update(COMMAND).where(COMMAND.c.id == taken).values(step=step, applied_at=now, **state))
        acted = verdicts or not decisions or any(d.decision.action.kind != "continue" for d in decisions)
        if acted:
            values = asdict(in_force) | {"pins": sorted(in_force.pins)}
            c.execute(update(RUN).where(RUN.c.id == run_id).values(values))
        if acted or any(d.decision.tokens_in is not None for d in decisions):
            _bump(c, run_id)

    @transaction
    def refuse_decision(self, c: Connection, run_id: int, step: int, decision: Decision, why: str) -> None:
        one = (DECISION.c.run_id == run_id) & (DECISION.c.step == step) & (DECISION.c.action == decision.action.kind)
        c.execute(update(DECISION).where(one, DECISION.c.command_id == decision.command_id).values(refused=why))
        _bump(c, run_id)

    # ------------------------------------------------------------ commit 2: what the step did

    @transaction
    def record_step(
        self,
        c: Connection,
        run_id: int,
        record: StepRecord,
        groups: Sequence[Group],
        samples: Sequence[SampleRecord],
        *,
        reward_range: tuple[float, float],
        wall_s: float,
        checkpoint: CheckpointRecord | None = None,
    ) -> None:
        metrics = finite_metrics(record.metrics)
        step_id = _add(c, "steps", [step_row(run_id, record, metrics, time.time())])
        _add(c, "groups", [group_row(step_id, group, reward_range) for group in groups])
        _add(c, "completions", [sample_row(run_id, sample) for sample in samples])
        fold(c, run_id, record.step, metrics)
        if checkpoint is not None:
            _put_checkpoint(c, run_id, checkpoint)
        completions = sum(len(group.completions) for group in groups)
        taken = {"run": run_id, "step": record.step, "wall_s": wall_s, "completions": completions}
        driver(c).execute(STEP_TAKEN, taken | _heartbeat())

    # ------------------------------------------------------------ looks and checkpoints

    @transaction
    def record_evaluation(self, c: Connection, run_id: int, step: int, evaluation: Evaluation) -> None:
        same = (EVALUATION.c.run_id == run_id) & (EVALUATION.c.step == step) & (EVALUATION.c.split == evaluation.split)
        c.execute(delete(EVALUATION).where(same))
        _add(c, "evaluations", [evaluation_row(run_id, step, evaluation, time.time())])
        _bump(c, run_id)

    @transaction
    def record_samples(self, c: Connection, run_id: int, step: int, samples: Sequence[SampleRecord]) -> None:
        fixed = (COMPLETION.c.run_id == run_id) & (COMPLETION.c.step == step) & (COMPLETION.c.kind == "fixed")
        c.execute(delete(COMPLETION).where(fixed))
        _add(c, "completions", [sample_row(run_id, sample) for sample in samples])

    @transaction
    def record_checkpoint(self, c: Connection, run_id: int, checkpoint: CheckpointRecord) -> None:
        _put_checkpoint(c, run_id, checkpoint)

    @transaction
    def drop_checkpoint(self, c: Connection, run_id: int, step: int) -> None:
        c.execute(delete(CHECKPOINT).where(CHECKPOINT.c.run_id == run_id, CHECKPOINT.c.step == step))
        _bump(c, run_id)

    @transaction
    def record_event(self, c: Connection, run_id: int, step: int, level: str, text: str) -> None:
        _add_event(c, run_id, step, level, text)
        if level == "error":  # decision policies see these
            _bump(c, run_id)

    # ------------------------------------------------------------ going back

    @transaction
    def supersede_after(self, c: Connection, run_id: int, step: int, weights_step: int, *, live: Sequence[int]) -> None:
        c.execute(
            update(STEP)
            .where(STEP.c.run_id == run_id, STEP.c.step > step, STEP.c.state != "superseded")
            .values(state="superseded")
        )
        for table in (EVALUATION, COMPLETION, CHECKPOINT):
            c.execute(delete(table).where(table.c.run_id == run_id, table.c.step > step))
        c.execute(update(RUN).where(RUN.c.id == run_id).values(last_step=max(0, step)))
        _set_lineage(c, run_id, weights_step, live)

    @transaction
    def roll_back(self, c: Connection, run_id: int, step: int, *, live: Sequence[int]) -> None:
        _set_lineage(c, run_id, step, live)

    # ------------------------------------------------------------ commands

    def add_command(self, run_id: int, action: Action, *, note: str = "", later: bool = False) -> int:
        """A person's action for the next boundary, in the order asked. Raises InputError when no process drives the
        run, unless it may come ``later``: when the run is resumed."""
        command_id = self._add_command(run_id, action, note, later)
        time.sleep(LET_IN_S)
        return command_id

    @transaction
    def _add_command(self, c: Connection, run_id: int, action: Action, note: str, later: bool) -> int:
        run = c.execute(select(RUN).where(RUN.c.id == run_id)).mappings().one()
        _refuse_idle(run, action, later)
        who = f"{os.environ.get('USER') or os.getuid()}@{socket.gethostname()}"
        return _add(c, "commands", [command_row(run_id, action, who=who, note=note, at=time.time())])

    @transaction
    def finish_command(self, c: Connection, command_id: int, state: str, result: str) -> None:
        finished = {"state": state, "result": result, "applied_at": time.time()}
        c.execute(update(COMMAND).where(COMMAND.c.id == command_id).values(**finished))
        _bump(c, c.execute(select(COMMAND.c.run_id).where(COMMAND.c.id == command_id)).scalar_one())


def _refuse_idle(run: RowMapping, action: Action, later: bool) -> None:
    name = run["name"]
    ended = run["status"] in ENDED
    if not ended and is_alive(run["pid"], run["host"], run["process"], run["heartbeat"]):
        return
    why = run["stop_reason"] or run["status"]
    gone = f"{name} has ended ({why})" if ended else f"the process of {name} died"
    if action.kind in ONLY_NOW:
        raise InputError(f"{gone}: there is nothing to {action.kind}; to continue: grpo resume {name}")
    if not later:
        raise InputError(f"{gone}: nothing would apply the action; first: grpo resume {name} (or queue it: --no-wait)")


# ---------------------------------------------------------------- within one transaction


def _add(c: Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert rows, all of the same columns. Returns the id of the last one, 0 without any."""
    cursor, statement = driver(c).cursor(), insert_into(table, rows[0]) if rows else ""
    for row in rows:
        cursor.execute(statement, row)
    return cursor.lastrowid or 0


def _add_event(c: Connection, run_id: int, step: int, level: str, text: str) -> None:
    _add(c, "events", [event_row(run_id, step, level, text, time.time())])


def _this_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "process": identify(os.getpid())}


def _heartbeat() -> dict[str, float]:
    return {"heartbeat": time.time(), "heartbeat_boot": boot_clock()}


def _put_checkpoint(c: Connection, run_id: int, checkpoint: CheckpointRecord) -> None:
    c.execute(delete(CHECKPOINT).where(CHECKPOINT.c.run_id == run_id, CHECKPOINT.c.step == checkpoint.step))
    _add(c, "checkpoints", [checkpoint_row(run_id, checkpoint, time.time())])
    _bump(c, run_id)


def _bump(c: Connection, run_id: int) -> None:
    """Tell readers that decisions, evaluations or checkpoints changed."""
    c.execute(update(RUN).where(RUN.c.id == run_id).values(version=RUN.c.version + 1))


def _expire(c: Connection, run_id: int, which: ColumnElement[bool], why: str) -> None:
    """The commands ``which`` will not be applied: said to those who asked, and an event of the run."""
    last_step = c.execute(select(RUN.c.last_step).where(RUN.c.id == run_id)).scalar_one()
    found = select(COMMAND).where(COMMAND.c.run_id == run_id, which).order_by(COMMAND.c.id)
    for row in c.execute(found).mappings().all():
        c.execute(update(COMMAND).where(COMMAND.c.id == row["id"]).values(state="expired", result=why))
        action = describe(Action(row["action"], row["changes"], row["argument"]))
        _add_event(c, run_id, last_step, "warning", f"expired: {action}, asked by {row['who']}: {why}")


def _begin_era(c: Connection, run_id: int, era: Mapping[str, Any]) -> None:
    """From here on nothing is compared with what was before. Step numbers go on after the highest ever decided for,
    so that no decision of the old era is applied again; looks at the same weights are taken anew, later ones go."""
    start = era["weights_step"]
    of_run = EVALUATION.c.run_id == run_id
    here = of_run & (EVALUATION.c.step == start)
    seen = {row.split: row.accuracy for row in c.execute(select(EVALUATION.c.split, EVALUATION.c.accuracy).where(here))}
    c.execute(delete(EVALUATION).where(of_run & (EVALUATION.c.step >= start)))
    last = max(
        c.execute(select(func.coalesce(func.max(table.c.step), start)).where(table.c.run_id == run_id)).scalar_one()
        for table in (STEP, DECISION)
    )
    run = c.execute(select(RUN.c.eras).where(RUN.c.id == run_id)).one()
    eras = [*run.eras, {**era, "last_step": last, "at": time.time(), "seen_before": seen}]
    c.execute(update(RUN).where(RUN.c.id == run_id).values(eras=eras, era_start=start, last_step=last))


def _set_lineage(c: Connection, run_id: int, weights_step: int, live: Sequence[int]) -> None:
    chosen = {"run": run_id, "live": dump_json(list(live))}
    for state, other, which in (("rolled_back", "live", "NOT IN"), ("live", "rolled_back", "IN")):
        driver(c).execute(
            f"UPDATE steps SET state = '{state}' WHERE run_id = :run AND state = '{other}' "
            f"AND step {which} (SELECT value FROM json_each(:live))",
            chosen,
        )
    last_step = c.execute(select(RUN.c.last_step).where(RUN.c.id == run_id)).scalar_one()
    live_steps = select(STEP.c.step, STEP.c.metrics).where(STEP.c.run_id == run_id, STEP.c.state == "live")
    rebuild(c, run_id, ((row.step, row.metrics) for row in c.execute(live_steps)), last_step=last_step)
    c.execute(
        update(RUN)
        .where(RUN.c.id == run_id)
        .values(lineage=RUN.c.lineage + 1, version=RUN.c.version + 1, weights_step=weights_step)
    )
