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
from typing import Any, Concatenate, ParamSpec, TypeVar, Unpack

from sqlalchemy import ColumnElement, Connection, Engine, Row, delete, func, insert, select, update
from sqlalchemy.exc import DatabaseError, IntegrityError

from harness.core.knobs import describe
from harness.core.liveness import (
    boot_clock,
    identify,
    identify_supervisor,
    is_alive,
    is_supervised,
    refuse_running,
)
from harness.core.paths import checkpoint_path
from harness.errors import InputError, StoreUnavailable
from harness.store.buckets import fold, rebuild
from harness.store.connection import LOCK_WAIT_S, begin_writing
from harness.store.reader import RunReader, within
from harness.store.rows import (
    decision_row,
    dump_json,
    evaluation_row,
    finite_metrics,
    group_row,
    sample_row,
    step_row,
)
from harness.store.schema import BINDERS, CHECKPOINT, COMMAND, COMPLETION, DECISION, EVALUATION, RUN, STEP, driver
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
    NewRun,
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
SET_LIVE = """
UPDATE steps SET state = CASE state WHEN 'live' THEN 'rolled_back' ELSE 'live' END
WHERE run_id = :run AND state != 'superseded' AND (state = 'live') != (step IN (SELECT value FROM json_each(:live)))
"""
BEAT_WAIT_MS = 50
INTO_FILE = "into file"
"""Set on a connection within a transaction: once through, the database file itself has the record, which else is in its
-wal alone for the first megabytes. A copy of the file, or one that has lost its -wal, then knows the run and the
checkpoints that lie beside it."""
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

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction. Raises StoreUnavailable."""
        self.check_file()
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
                if connection.info.pop(INTO_FILE, False):
                    sqlite.execute("PRAGMA wal_checkpoint(PASSIVE)")  # which waits for nobody
            finally:
                sqlite.rollback()  # after a commit there is nothing left to undo
        except (sqlite3.DatabaseError, DatabaseError) as error:
            raise self.explain(getattr(error, "orig", error), "write") from error

    # ------------------------------------------------------------ runs

    @transaction
    def create_run(self, c: Connection, **run: Unpack[NewRun]) -> int:
        row = {**run, "created": time.time(), "knobs": asdict(run["knobs"]), **_driven_here()}
        try:
            c.info[INTO_FILE] = True
            return c.execute(insert(RUN).values(row)).lastrowid
        except IntegrityError:
            raise refuse_name(run["name"]) from None

    @transaction
    def update_run(self, c: Connection, /, run_id: int, **values: Any) -> None:
        _update_run(c, run_id, **values)

    @transaction
    def add_spent(self, c: Connection, run_id: int, usd: float) -> None:
        """Add what was spent on questions that belong to no decision."""
        c.execute(update(RUN).filter_by(id=run_id).values(spent_usd=RUN.c.spent_usd + usd))

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
        run = c.execute(select(RUN).filter_by(id=run_id)).one()
        refuse_running(run.name, run.status, run.pid, run.host, run.process, run.heartbeat)
        _update_run(c, run_id, **_driven_here() | values)
        # Who asks while the supervisor starts the run again is heard by the next process.
        states, overruled = (("taken",), ONLY_NOW - {"stop"}) if restarted else (("waiting", "taken"), ONLY_NOW)
        old = COMMAND.c.state.in_(states) & COMMAND.c.action.in_(overruled)
        _expire(c, run_id, old, "the run was resumed after it was asked")
        if era is not None:
            _begin_era(c, run_id, era)

    @transaction
    def end_run(self, c: Connection, run_id: int, status: Status, reason: str, wall_s: float) -> None:
        c.info[INTO_FILE] = True
        _update_run(c, run_id, status=status, stop_reason=reason, phase="", wall_s=wall_s)
        _expire(c, run_id, COMMAND.c.state == "waiting", "the run ended before its next step")

    def beat(self, run_id: int, phase: str, done: int, total: int, wall_s: float) -> None:
        """Waits BEAT_WAIT_MS for a lock, not LOCK_WAIT_S: a sign of life must not hold up the life."""
        values = {"run": run_id, "phase": phase, "done": done, "total": total, "wall_s": wall_s}
        try:
            self.check_file()
        except StoreUnavailable as fault:
            assert self.patience is not None
            self.patience.warn(str(fault))
            return
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
        add_rows(c, "decisions", [decision_row(run_id, step, checked, now) for checked in decisions])
        driver(c).executemany(ADD_VERDICT, [(v.measured, v.verdict, run_id, v.decision_id) for v in verdicts])
        for checked in decisions:
            taken, refused = checked.decision.command_id, checked.refused
            if taken is not None:
                state = {"state": "taken"} if refused is None else {"state": "refused", "result": refused}
                c.execute(update(COMMAND).filter_by(id=taken).values(step=step, applied_at=now, **state))
        acted = verdicts or not decisions or any(d.decision.action.kind != "continue" for d in decisions)
        if acted:
            _update_run(c, run_id, **asdict(in_force) | {"pins": sorted(in_force.pins)})
        if acted or any(d.decision.tokens_in is not None for d in decisions):
            _bump(c, run_id)

    @transaction
    def refuse_decision(self, c: Connection, run_id: int, step: int, decision: Decision, why: str) -> None:
        one = {"run_id": run_id, "step": step, "action": decision.action.kind, "command_id": decision.command_id}
        c.execute(update(DECISION).filter_by(**one).values(refused=why))
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
        step_id = add_rows(c, "steps", [step_row(run_id, record, metrics, time.time())])
        add_rows(c, "groups", [group_row(step_id, group, reward_range) for group in groups])
        add_rows(c, "completions", [sample_row(run_id, sample) for sample in samples])
        fold(c, run_id, record.step, metrics)
        if checkpoint is not None:
            _put_checkpoint(c, run_id, checkpoint)
        completions = sum(len(group.completions) for group in groups)
        taken = {"run": run_id, "step": record.step, "wall_s": wall_s, "completions": completions}
        driver(c).execute(STEP_TAKEN, taken | _heartbeat())

    # ------------------------------------------------------------ looks and checkpoints

    @transaction
    def record_evaluation(
        self, c: Connection, run_id: int, step: int, evaluation: Evaluation, *, graded: bool = False
    ) -> None:
        c.execute(delete(EVALUATION).filter_by(run_id=run_id, step=step, split=evaluation.split))
        add_rows(c, "evaluations", [evaluation_row(run_id, step, evaluation, time.time(), graded=graded)])
        _update_run(c, run_id, graded=graded)
        _bump(c, run_id)

    @transaction
    def record_samples(self, c: Connection, run_id: int, step: int, samples: Sequence[SampleRecord]) -> None:
        c.execute(delete(COMPLETION).filter_by(run_id=run_id, step=step, kind="fixed"))
        add_rows(c, "completions", [sample_row(run_id, sample) for sample in samples])

    @transaction
    def record_checkpoint(self, c: Connection, run_id: int, checkpoint: CheckpointRecord) -> None:
        _put_checkpoint(c, run_id, checkpoint)

    @transaction
    def drop_checkpoint(self, c: Connection, run_id: int, step: int) -> None:
        c.execute(delete(CHECKPOINT).filter_by(run_id=run_id, step=step))
        _bump(c, run_id)

    @transaction
    def record_event(self, c: Connection, run_id: int, step: int, level: str, text: str) -> None:
        _add_event(c, run_id, step, level, text)
        if level == "error":  # decision policies see these
            _bump(c, run_id)

    # ------------------------------------------------------------ going back

    @transaction
    def supersede_after(self, c: Connection, run_id: int, step: int, weights_step: int, *, live: Sequence[int]) -> None:
        c.execute(update(STEP).filter_by(run_id=run_id).where(STEP.c.step > step).values(state="superseded"))
        for table in (EVALUATION, COMPLETION, CHECKPOINT):
            c.execute(delete(table).filter_by(run_id=run_id).where(table.c.step > step))
        _update_run(c, run_id, last_step=max(0, step))
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
        _refuse_idle(c.execute(select(RUN).filter_by(id=run_id)).one(), action, later)
        who = f"{os.environ.get('USER') or os.getuid()}@{socket.gethostname()}"
        asked = insert(COMMAND).values(run_id=run_id, asked_at=time.time(), who=who, note=note)
        wanted = {"action": action.kind, "argument": action.argument, "changes": dict(action.changes)}
        return c.execute(asked.values(wanted)).lastrowid

    @transaction
    def finish_command(self, c: Connection, command_id: int, state: str, result: str) -> None:
        finished = {"state": state, "result": result, "applied_at": time.time()}
        c.execute(update(COMMAND).filter_by(id=command_id).values(finished))
        _bump(c, c.execute(select(COMMAND.c.run_id).filter_by(id=command_id)).scalar_one())


def refuse_name(name: str) -> InputError:
    """Say that another run has that name."""
    return InputError(f"name: a run named {name} exists already; choose another --name, or grpo resume {name}")


def _refuse_idle(run: Row[Any], action: Action, later: bool) -> None:
    name, ended = run.name, run.status in ENDED
    driven = is_alive(run.pid, run.host, run.process, run.heartbeat) or is_supervised(run.supervisor, run.host)
    if driven and not ended:
        return
    gone = f"{name} has ended ({run.stop_reason or run.status})" if ended else f"the process of {name} died"
    if driven and "/" in name:
        raise InputError(
            f"{gone}, and process {run.pid} continues with the next stage or with the scores: ask again once that "
            f"stage has begun, or end all of it: kill -INT {run.pid}"
        )
    if action.kind in ONLY_NOW:
        raise InputError(f"{gone}: there is nothing to {action.kind}; to continue: grpo resume {name}")
    if not later:
        raise InputError(f"{gone}: nothing would apply the action; first: grpo resume {name} (or queue it: --no-wait)")


# ---------------------------------------------------------------- within one transaction


def add_rows(c: Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert rows, each a value by column. Returns the id of the last one, 0 without any."""
    cursor, binders = driver(c).cursor(), BINDERS[table].items()
    for given in rows:
        row = {**given, **{name: bind(given[name], None) for name, bind in binders if name in given}}
        cursor.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES (:{', :'.join(row)})", row)
    return cursor.lastrowid or 0


def _add_event(c: Connection, run_id: int, step: int, level: str, text: str) -> None:
    add_rows(c, "events", [{"run_id": run_id, "step": step, "at": time.time(), "level": level, "text": text}])


def _update_run(c: Connection, run_id: int, /, **values: Any) -> None:
    c.execute(update(RUN).filter_by(id=run_id).values(values))


def _driven_here() -> dict[str, Any]:
    process = {"pid": os.getpid(), "host": socket.gethostname(), "process": identify(os.getpid())}
    return {"status": "running", "stop_reason": "", "supervisor": identify_supervisor()} | process | _heartbeat()


def _heartbeat() -> dict[str, float]:
    return {"heartbeat": time.time(), "heartbeat_boot": boot_clock()}


def _put_checkpoint(c: Connection, run_id: int, checkpoint: CheckpointRecord) -> None:
    row = asdict(checkpoint) | {"run_id": run_id, "at": time.time(), "path": checkpoint_path(checkpoint.step)}
    del row["best"]  # which evaluations tell
    c.execute(delete(CHECKPOINT).filter_by(run_id=run_id, step=checkpoint.step))
    c.execute(insert(CHECKPOINT).values(row))
    c.info[INTO_FILE] = True
    _bump(c, run_id)


def _bump(c: Connection, run_id: int) -> None:
    """Tell readers that decisions, evaluations or checkpoints changed."""
    _update_run(c, run_id, version=RUN.c.version + 1)


def _expire(c: Connection, run_id: int, which: ColumnElement[bool], why: str) -> None:
    """The commands ``which`` will not be applied: said to those who asked, and an event of the run."""
    last_step = c.execute(select(RUN.c.last_step).filter_by(id=run_id)).scalar_one()
    for asked in c.execute(select(COMMAND).filter_by(run_id=run_id).where(which).order_by(COMMAND.c.id)).all():
        c.execute(update(COMMAND).filter_by(id=asked.id).values(state="expired", result=why))
        action = describe(Action(asked.action, asked.changes, asked.argument))
        _add_event(c, run_id, last_step, "warning", f"expired: {action}, asked by {asked.who}: {why}")


def _begin_era(c: Connection, run_id: int, era: Mapping[str, Any]) -> None:
    """From here on nothing is compared with what was before. Step numbers go on after the highest ever decided for,
    so that no decision of the old era is applied again; looks at the same weights are taken anew, later ones go."""
    start = era["weights_step"]
    here = select(EVALUATION.c.split, EVALUATION.c.accuracy).filter_by(run_id=run_id, step=start)
    seen = {row.split: row.accuracy for row in c.execute(here)}
    c.execute(delete(EVALUATION).filter_by(run_id=run_id).where(EVALUATION.c.step >= start))
    highest = [select(func.max(table.c.step)).filter_by(run_id=run_id) for table in (STEP, DECISION)]
    last = max(c.execute(query).scalar_one() or start for query in highest)
    eras = c.execute(select(RUN.c.eras).filter_by(id=run_id)).scalar_one()
    eras = [*eras, {**era, "last_step": last, "at": time.time(), "seen_before": seen}]
    _update_run(c, run_id, eras=eras, era_start=start, last_step=last)


def _set_lineage(c: Connection, run_id: int, weights_step: int, live: Sequence[int]) -> None:
    driver(c).execute(SET_LIVE, {"run": run_id, "live": dump_json(list(live))})
    last_step = c.execute(select(RUN.c.last_step).filter_by(id=run_id)).scalar_one()
    live_steps = select(STEP.c.step, STEP.c.metrics).filter_by(run_id=run_id, state="live")
    rebuild(c, run_id, ((row.step, row.metrics) for row in c.execute(live_steps)), last_step=last_step)
    _update_run(c, run_id, lineage=RUN.c.lineage + 1, version=RUN.c.version + 1, weights_step=weights_step)
