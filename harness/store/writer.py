"""The only room that writes the record: runs in SQLite, written so that a kill at any moment loses nothing.

Every method that writes is one transaction, which takes the lock at once (BEGIN IMMEDIATE); readers never block (WAL).
What runs in every step goes to SQLite as text and tuples, the rest through SQLAlchemy Core.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError

from harness.core.knobs import describe
from harness.core.liveness import boot_clock, identify, is_alive, refuse_running
from harness.errors import InputError
from harness.store.buckets import fold, rebuild
from harness.store.connection import LOCK_WAIT_S, begin_writing
from harness.store.reader import RunReader
from harness.store.rows import dump_json, dump_knobs, finite_or_none, group_row, sample_row
from harness.store.schema import CHECKPOINT, COMMAND, COMPLETION, DECISION, EVALUATION, EVENT, RUN, STEP, driver
from harness.types import (
    ENDED,
    ONLY_NOW,
    Action,
    CheckpointRecord,
    Decision,
    Evaluation,
    Group,
    Knobs,
    SampleRecord,
    Status,
    StepRecord,
    Verdict,
)

ADD_DECISION = """
INSERT INTO decisions
(run_id, step, at, source, action, argument, changes, evidence, hypothesis, expected, refused, command_id,
 rejected, tokens_in, tokens_out, cost_usd)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
ADD_VERDICT = "UPDATE decisions SET measured = ?, verdict = ? WHERE run_id = ? AND id = ?"
ADD_STEP = """
INSERT INTO steps (run_id, step, parent, state, at, knobs, metrics, reward) VALUES (?, ?, ?, 'live', ?, ?, ?, ?)
"""
ADD_GROUP = """
INSERT INTO groups (step_id, prompt_id, label, kind, rewards, correct, tokens) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
ADD_SAMPLE = """
INSERT INTO completions (run_id, step, kind, prompt, ground_truth, completion, reward, correct, reason)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
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
    """A method that writes: it gets a connection in a transaction of its own, and is tried again for as long as the
    run's patience lasts. Raises StoreUnavailable, and then nothing was written."""

    @wraps(method)
    def write(self: RunStore, /, *args: P.args, **kwargs: P.kwargs) -> R:
        def attempt() -> R:
            with self.write() as c:
                return method(self, c, *args, **kwargs)

        return self.patiently(attempt)

    return write


class RunStore(RunReader):
    """One database of runs. Open it with ``open_store``."""

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
        """A new run in state running. Raises InputError when the name is taken."""
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
            **dict.fromkeys(("stop_reason", "phase"), ""),
            **dict.fromkeys(
                (
                    "phase_done",
                    "phase_total",
                    "rollouts",
                    "last_step",
                    "weights_step",
                    "lineage",
                    "version",
                    "era_start",
                ),
                0,
            ),
            "wall_s": 0.0,
        }
        try:
            return int(c.execute(insert(RUN).values(row)).inserted_primary_key[0])  # type: ignore[index]
        except IntegrityError:
            raise InputError(
                f"name: a run named {name} exists already; choose another --name, or grpo resume {name}"
            ) from None

    @transaction
    def update_run(self, c: Connection, /, run_id: int, **values: Any) -> None:
        """Set columns of a run, e.g. ``status``, ``stop_reason``, ``manifest``, ``forecast``."""
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
        """Make this process the one that drives the run, with new ``values`` of its columns and, if given, the start
        of a new ``era``. A person's resume overrules a stop that waits; a process that was ``restarted`` after a death
        does not. Raises InputError when another process that lives drives the run."""
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
        """How and why it ended. A person's actions that no boundary came for expire."""
        ended = {"status": status, "stop_reason": reason, "phase": "", "wall_s": wall_s}
        c.execute(update(RUN).where(RUN.c.id == run_id).values(**ended))
        _expire(c, run_id, COMMAND.c.state == "waiting", "the run ended before its next step")

    def beat(self, run_id: int, phase: str, done: int, total: int, wall_s: float) -> None:
        """What the process is doing, for those who look from elsewhere.

        One that cannot be written at once is dropped: a sign of life must not hold up the life.
        """
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
        decisions: Sequence[tuple[Decision, Mapping[str, Any], str | None]],
        *,
        verdicts: Sequence[Verdict] = (),
        knobs: Knobs,
        pins: Sequence[str],
        policy: str,
        status: Status,
    ) -> None:
        """Decisions with their changes and refusals, the ``verdicts`` on earlier ones that they rest on, and the
        commands they consume, in one transaction.

        Without any (a resume applies those on record again) only what is in force afterwards is recorded.
        """
        now = time.time()
        rows = [
            (
                run_id,
                step,
                now,
                decision.source,
                decision.action.kind,
                dump_json(decision.action.argument),
                dump_json(dict(changes)),
                decision.evidence,
                decision.hypothesis,
                decision.expected,
                refused,
                decision.command_id,
                decision.rejected,
                decision.tokens_in,
                decision.tokens_out,
                decision.cost_usd,
            )
            for decision, changes, refused in decisions
        ]
        driver(c).executemany(ADD_DECISION, rows)
        driver(c).executemany(ADD_VERDICT, [(v.measured, v.verdict, run_id, v.decision_id) for v in verdicts])
        for decision, _, refused in decisions:
            if decision.command_id is not None:
                state = {"state": "taken"} if refused is None else {"state": "refused", "result": refused}
                c.execute(
                    update(COMMAND)
                    .where(COMMAND.c.id == decision.command_id)
                    .values(step=step, applied_at=now, **state)
                )
        acted = verdicts or not decisions or any(decision.action.kind != "continue" for decision, _, _ in decisions)
        if acted:
            c.execute(
                update(RUN)
                .where(RUN.c.id == run_id)
                .values(knobs=asdict(knobs), pins=sorted(pins), policy=policy, status=status)
            )
        if acted or any(decision.tokens_in is not None for decision, _, _ in decisions):
            _bump(c, run_id)

    @transaction
    def refuse_decision(self, c: Connection, run_id: int, step: int, decision: Decision, why: str) -> None:
        """A recorded decision whose verb turned out impossible (e.g. a damaged checkpoint)."""
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
        hashes: Mapping[str, str] | None = None,
    ) -> None:
        """A step with its groups, samples and checkpoint row, in one transaction."""
        metrics = {name: finite_or_none(value) for name, value in record.metrics.items()}
        knobs, reward = dump_knobs(record.knobs), metrics.get("reward/mean")
        sqlite = driver(c)
        step_id = sqlite.execute(
            ADD_STEP, (run_id, record.step, record.parent, time.time(), knobs, dump_json(metrics), reward)
        ).lastrowid
        sqlite.executemany(ADD_GROUP, [group_row(step_id, group, reward_range) for group in groups])
        sqlite.executemany(ADD_SAMPLE, [sample_row(run_id, sample) for sample in samples])
        fold(c, run_id, record.step, metrics)
        if checkpoint is not None:
            _put_checkpoint(c, run_id, checkpoint, hashes or {})
        completions = sum(len(group.completions) for group in groups)
        taken = {"run": run_id, "step": record.step, "wall_s": wall_s, "completions": completions}
        sqlite.execute(STEP_TAKEN, taken | _heartbeat())

    # ------------------------------------------------------------ looks and checkpoints

    @transaction
    def record_evaluation(self, c: Connection, run_id: int, step: int, evaluation: Evaluation) -> None:
        """The same weights measured again give the same row, so a second one replaces the first."""
        same = (EVALUATION.c.run_id == run_id) & (EVALUATION.c.step == step) & (EVALUATION.c.split == evaluation.split)
        c.execute(delete(EVALUATION).where(same))
        c.execute(
            insert(EVALUATION).values(
                run_id=run_id,
                step=step,
                split=evaluation.split,
                at=time.time(),
                n=evaluation.n,
                accuracy=evaluation.accuracy,
                low=evaluation.ci95[0],
                high=evaluation.ci95[1],
                reward=evaluation.reward,
                # Prompt by prompt only what could be judged is compared: an errored one was not got wrong.
                correct={
                    e.prompt.id: int(e.completion.score.correct)
                    for e in evaluation.examples
                    if not e.completion.score.errored
                },
            )
        )
        _bump(c, run_id)

    @transaction
    def record_samples(self, c: Connection, run_id: int, step: int, samples: Sequence[SampleRecord]) -> None:
        """The fixed sample prompts at ``step``, in place of an earlier look at the same weights."""
        fixed = (COMPLETION.c.run_id == run_id) & (COMPLETION.c.step == step) & (COMPLETION.c.kind == "fixed")
        c.execute(delete(COMPLETION).where(fixed))
        driver(c).executemany(ADD_SAMPLE, [sample_row(run_id, sample) for sample in samples])

    @transaction
    def record_checkpoint(
        self, c: Connection, run_id: int, checkpoint: CheckpointRecord, hashes: Mapping[str, str]
    ) -> None:
        _put_checkpoint(c, run_id, checkpoint, hashes)

    @transaction
    def drop_checkpoint(self, c: Connection, run_id: int, step: int) -> None:
        c.execute(delete(CHECKPOINT).where(CHECKPOINT.c.run_id == run_id, CHECKPOINT.c.step == step))
        _bump(c, run_id)

    @transaction
    def record_event(self, c: Connection, run_id: int, step: int, level: str, text: str) -> None:
        c.execute(insert(EVENT).values(run_id=run_id, step=step, at=time.time(), level=level, text=text))
        if level == "error":  # decision policies see these
            _bump(c, run_id)

    # ------------------------------------------------------------ going back

    @transaction
    def supersede_after(self, c: Connection, run_id: int, step: int, weights_step: int, *, live: Sequence[int]) -> None:
        """A resume at ``step``: later steps will be taken again. Their looks go, their decisions stay to be
        applied again, and steps that a later rollback had left come back to life."""
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
        """The weights are those of ``step`` again; the live steps are its ancestors and itself."""
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
        row = c.execute(
            insert(COMMAND).values(
                run_id=run_id,
                asked_at=time.time(),
                who=f"{os.environ.get('USER') or os.getuid()}@{socket.gethostname()}",
                note=note,
                action=action.kind,
                argument=action.argument,
                changes=dict(action.changes),
                state="waiting",
                result="",
            )
        )
        return int(row.inserted_primary_key[0])  # type: ignore[index]

    @transaction
    def finish_command(self, c: Connection, command_id: int, state: str, result: str) -> None:
        """What came of it: ``state`` applied or refused."""
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


# ---------------------------------------------------------------- opening


# ---------------------------------------------------------------- records to rows


def _this_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "process": identify(os.getpid())}


def _heartbeat() -> dict[str, float]:
    return {"heartbeat": time.time(), "heartbeat_boot": boot_clock()}


def _put_checkpoint(c: Connection, run_id: int, checkpoint: CheckpointRecord, hashes: Mapping[str, str]) -> None:
    c.execute(delete(CHECKPOINT).where(CHECKPOINT.c.run_id == run_id, CHECKPOINT.c.step == checkpoint.step))
    c.execute(
        insert(CHECKPOINT).values(
            run_id=run_id,
            step=checkpoint.step,
            at=time.time(),
            name=checkpoint.name,
            path=checkpoint.path,
            hashes=dict(hashes),
        )
    )
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
        text = f"expired: {action}, asked by {row['who']}: {why}"
        c.execute(insert(EVENT).values(run_id=run_id, step=last_step, at=time.time(), level="warning", text=text))


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
