"""The only room that opens database sessions: runs in SQLite, written so that a kill at any moment loses nothing.

Writers take the lock at once (BEGIN IMMEDIATE), readers never block (WAL). Bulk inserts go through Core.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, create_engine, delete, event, func, insert, select, update
from sqlalchemy.exc import DatabaseError, IntegrityError

from harness.buckets import fold, rebuild
from harness.errors import InputError
from harness.migrations import migrate
from harness.places import PREFIX, database_path, existing_parent
from harness.records import (
    CHECKPOINT,
    COMMAND,
    COMPLETION,
    DECISION,
    EVALUATION,
    EVENT,
    GROUP,
    RUN,
    STEP,
)
from harness.signal import compute_kind
from harness.types import (
    Action,
    CheckpointRecord,
    Command,
    Decision,
    DecisionRecord,
    Evaluation,
    Group,
    Knobs,
    RunRecord,
    SampleRecord,
    Status,
    StepRecord,
)

STEP_TAKEN = (
    update(RUN)
    .where(RUN.c.id == bindparam("run"))
    .values(
        last_step=bindparam("taken"),
        weights_step=bindparam("taken"),
        wall_s=bindparam("driven_s"),
        heartbeat=bindparam("now"),
        rollouts=RUN.c.rollouts + bindparam("more"),
    )
)
NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "lustre"})
LOCK_WAIT_S = 30.0


class RunStore:
    """One database of runs. Open it with ``open_store``."""

    def __init__(self, engine: Engine, url: str) -> None:
        self.engine = engine
        self.url = url

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self.engine.connect().execution_options(write=True) as connection, connection.begin():
            yield connection

    # ------------------------------------------------------------ runs

    def create_run(
        self,
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
            "heartbeat": time.time(),
            "knobs": asdict(knobs),
            "pins": [],
            "bounds": {name: list(pair) for name, pair in bounds.items()},
            "forecast": {},
            **_this_process(),
            **dict.fromkeys(("stop_reason", "phase"), ""),
            **dict.fromkeys(
                ("phase_done", "phase_total", "rollouts", "last_step", "weights_step", "lineage", "version"), 0
            ),
            "wall_s": 0.0,
        }
        try:
            with self.write() as c:
                return int(c.execute(insert(RUN).values(row)).inserted_primary_key[0])  # type: ignore[index]
        except IntegrityError:
            raise InputError(
                f"name: a run named {name} exists already; choose another --name, or grpo resume {name}"
            ) from None

    def update_run(self, run_id: int, **values: Any) -> None:
        """Set columns of a run, e.g. ``status``, ``stop_reason``, ``manifest``, ``forecast``."""
        with self.write() as c:
            c.execute(update(RUN).where(RUN.c.id == run_id).values(**values))

    def adopt_run(self, run_id: int) -> None:
        """Make this process the one that drives the run."""
        self.update_run(run_id, status="running", stop_reason="", heartbeat=time.time(), **_this_process())

    def beat(self, run_id: int, phase: str, done: int, total: int, wall_s: float) -> None:
        """What the process is doing, for those who look from elsewhere."""
        self.update_run(run_id, phase=phase, phase_done=done, phase_total=total, heartbeat=time.time(), wall_s=wall_s)

    def find_run(self, name: str) -> RunRecord:
        """A run by name, or by ``latest``. Raises InputError."""
        with self.read() as c:
            query = select(RUN).order_by(RUN.c.id.desc()).limit(1)
            row = c.execute(query if name == "latest" else query.where(RUN.c.name == name)).mappings().first()
        if row is None:
            raise InputError(f"no run named {name}" if name != "latest" else "no run yet")
        return run_record(row)

    def list_runs(self) -> list[RunRecord]:
        with self.read() as c:
            return [run_record(row) for row in c.execute(select(RUN).order_by(RUN.c.id)).mappings()]

    def load_run(self, run_id: int) -> dict[str, Any]:
        """Every column of a run, ``spec`` and ``manifest`` among them."""
        with self.read() as c:
            return dict(c.execute(select(RUN).where(RUN.c.id == run_id)).mappings().one())

    # ------------------------------------------------------------ commit 1: decisions, before acting

    def record_decisions(
        self,
        run_id: int,
        step: int,
        decisions: Sequence[tuple[Decision, Mapping[str, Any], str | None]],
        *,
        knobs: Knobs,
        pins: Sequence[str],
        policy: str,
        status: Status,
    ) -> None:
        """Decisions with their changes and refusals, and the commands they consume, in one transaction."""
        now = time.time()
        rows = [
            {
                "run_id": run_id,
                "step": step,
                "at": now,
                "source": decision.source,
                "action": decision.action.kind,
                "argument": decision.action.argument,
                "changes": dict(changes),
                "evidence": decision.evidence,
                "hypothesis": decision.hypothesis,
                "expected": decision.expected,
                "refused": refused,
                "command_id": decision.command_id,
            }
            for decision, changes, refused in decisions
        ]
        acted = any(decision.action.kind != "continue" for decision, _, _ in decisions)
        with self.write() as c:
            if rows:
                c.execute(insert(DECISION), rows)
            for decision, _, refused in decisions:
                if decision.command_id is not None:
                    state = {"state": "taken"} if refused is None else {"state": "refused", "result": refused}
                    c.execute(
                        update(COMMAND)
                        .where(COMMAND.c.id == decision.command_id)
                        .values(step=step, applied_at=now, **state)
                    )
            if acted:
                c.execute(
                    update(RUN)
                    .where(RUN.c.id == run_id)
                    .values(knobs=asdict(knobs), pins=sorted(pins), policy=policy, status=status)
                )
                _bump(c, run_id)

    def refuse_decision(self, run_id: int, step: int, decision: Decision, why: str) -> None:
        """A recorded decision whose verb turned out impossible (e.g. a damaged checkpoint)."""
        one = (DECISION.c.run_id == run_id) & (DECISION.c.step == step) & (DECISION.c.action == decision.action.kind)
        with self.write() as c:
            c.execute(update(DECISION).where(one, DECISION.c.command_id == decision.command_id).values(refused=why))
            _bump(c, run_id)

    def load_decisions_at(self, run_id: int, step: int) -> list[tuple[Decision, str | None]]:
        """What was decided for ``step`` already, in order, with refusals; not empty only after a resume."""
        query = select(DECISION).where(DECISION.c.run_id == run_id, DECISION.c.step == step).order_by(DECISION.c.id)
        with self.read() as c:
            return [(_decision(row), row["refused"]) for row in c.execute(query).mappings()]

    # ------------------------------------------------------------ commit 2: what the step did

    def record_step(
        self,
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
        metrics = {name: _finite(value) for name, value in record.metrics.items()}
        with self.write() as c:
            step_id = c.execute(
                insert(STEP),
                {
                    "run_id": run_id,
                    "step": record.step,
                    "parent": record.parent,
                    "state": "live",
                    "at": time.time(),
                    "knobs": asdict(record.knobs),
                    "metrics": metrics,
                },
            ).inserted_primary_key[0]  # type: ignore[index]
            c.execute(insert(GROUP), [_group_row(step_id, group, reward_range) for group in groups])
            if samples:
                c.execute(insert(COMPLETION), [{"run_id": run_id, **asdict(sample)} for sample in samples])
            fold(c, run_id, record.step, metrics)
            if checkpoint is not None:
                _put_checkpoint(c, run_id, checkpoint, hashes or {})
            c.execute(
                STEP_TAKEN,
                {
                    "run": run_id,
                    "taken": record.step,
                    "driven_s": wall_s,
                    "now": time.time(),
                    "more": sum(len(group.completions) for group in groups),
                },
            )

    # ------------------------------------------------------------ looks and checkpoints

    def record_evaluation(self, run_id: int, step: int, evaluation: Evaluation) -> None:
        """The same weights measured again give the same row, so a second one replaces the first."""
        with self.write() as c:
            c.execute(
                delete(EVALUATION).where(
                    EVALUATION.c.run_id == run_id, EVALUATION.c.step == step, EVALUATION.c.split == evaluation.split
                )
            )
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
                    correct={e.prompt.id: int(e.completion.score.correct) for e in evaluation.examples},
                )
            )
            _bump(c, run_id)

    def has_evaluation(self, run_id: int, step: int, split: str) -> bool:
        query = select(EVALUATION.c.id).where(
            EVALUATION.c.run_id == run_id, EVALUATION.c.step == step, EVALUATION.c.split == split
        )
        with self.read() as c:
            return c.execute(query).first() is not None

    def record_samples(self, run_id: int, step: int, samples: Sequence[SampleRecord]) -> None:
        """The fixed sample prompts at ``step``, in place of an earlier look at the same weights."""
        fixed = (COMPLETION.c.run_id == run_id) & (COMPLETION.c.step == step) & (COMPLETION.c.kind == "fixed")
        with self.write() as c:
            c.execute(delete(COMPLETION).where(fixed))
            if samples:
                c.execute(insert(COMPLETION), [{"run_id": run_id, **asdict(sample)} for sample in samples])

    def has_samples(self, run_id: int, step: int) -> bool:
        query = select(COMPLETION.c.id).where(
            COMPLETION.c.run_id == run_id, COMPLETION.c.step == step, COMPLETION.c.kind == "fixed"
        )
        with self.read() as c:
            return c.execute(query.limit(1)).first() is not None

    def record_checkpoint(self, run_id: int, checkpoint: CheckpointRecord, hashes: Mapping[str, str]) -> None:
        with self.write() as c:
            _put_checkpoint(c, run_id, checkpoint, hashes)

    def drop_checkpoint(self, run_id: int, step: int) -> None:
        with self.write() as c:
            c.execute(delete(CHECKPOINT).where(CHECKPOINT.c.run_id == run_id, CHECKPOINT.c.step == step))
            _bump(c, run_id)

    def load_checkpoints(self, run_id: int) -> list[tuple[CheckpointRecord, dict[str, str]]]:
        """Checkpoints with their hashes, oldest first."""
        query = select(CHECKPOINT).where(CHECKPOINT.c.run_id == run_id).order_by(CHECKPOINT.c.step)
        best = self.best_step(run_id)
        with self.read() as c:
            return [
                (CheckpointRecord(row["step"], row["name"], row["path"], row["step"] == best), dict(row["hashes"]))
                for row in c.execute(query).mappings()
            ]

    def best_step(self, run_id: int) -> int | None:
        """The step with the highest dev accuracy, the earliest of equal ones; None before the first look."""
        query = (
            select(EVALUATION.c.step)
            .where(EVALUATION.c.run_id == run_id, EVALUATION.c.split == "dev")
            .order_by(EVALUATION.c.accuracy.desc(), EVALUATION.c.step)
        )
        with self.read() as c:
            return c.execute(query.limit(1)).scalar()

    def record_event(self, run_id: int, step: int, level: str, text: str) -> None:
        with self.write() as c:
            c.execute(insert(EVENT).values(run_id=run_id, step=step, at=time.time(), level=level, text=text))

    # ------------------------------------------------------------ going back

    def supersede_after(self, run_id: int, step: int, weights_step: int, *, live: Sequence[int]) -> None:
        """A resume at ``step``: later steps will be taken again. Their looks go, their decisions stay to be
        applied again, and steps that a later rollback had left come back to life."""
        with self.write() as c:
            c.execute(
                update(STEP)
                .where(STEP.c.run_id == run_id, STEP.c.step > step, STEP.c.state != "superseded")
                .values(state="superseded")
            )
            for table in (EVALUATION, COMPLETION, CHECKPOINT):
                c.execute(delete(table).where(table.c.run_id == run_id, table.c.step > step))
            _set_lineage(c, run_id, weights_step, live)
            c.execute(update(RUN).where(RUN.c.id == run_id).values(last_step=max(0, step)))

    def roll_back(self, run_id: int, step: int, *, live: Sequence[int]) -> None:
        """The weights are those of ``step`` again; the live steps are its ancestors and itself."""
        with self.write() as c:
            _set_lineage(c, run_id, step, live)

    def load_ancestors(self, run_id: int, step: int) -> list[int]:
        """``step`` and the steps that its weights came through, newest first; superseded ones do not count."""
        query = select(STEP.c.step, STEP.c.parent).where(STEP.c.run_id == run_id, STEP.c.state != "superseded")
        with self.read() as c:
            parents = {row.step: row.parent for row in c.execute(query)}
        chain = []
        while step in parents:
            chain.append(step)
            step = parents[step]
        return chain

    # ------------------------------------------------------------ commands

    def add_command(self, run_id: int, action: Action, *, note: str = "") -> int:
        with self.write() as c:
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

    def load_waiting(self, run_id: int) -> list[Command]:
        query = select(COMMAND).where(COMMAND.c.run_id == run_id, COMMAND.c.state == "waiting").order_by(COMMAND.c.id)
        with self.read() as c:
            return [
                Command(row["id"], Action(row["action"], row["changes"], row["argument"]), row["note"])
                for row in c.execute(query).mappings()
            ]

    def finish_command(self, command_id: int, state: str, result: str) -> None:
        with self.write() as c:
            c.execute(
                update(COMMAND)
                .where(COMMAND.c.id == command_id)
                .values(state=state, result=result, applied_at=time.time())
            )

    def load_command(self, command_id: int) -> tuple[str, int | None, str]:
        """State, the step it was applied before, and the result."""
        with self.read() as c:
            row = c.execute(select(COMMAND).where(COMMAND.c.id == command_id)).mappings().one()
        return row["state"], row["step"], row["result"]

    def count_waiting(self, run_id: int) -> int:
        with self.read() as c:
            query = select(func.count()).where(COMMAND.c.run_id == run_id, COMMAND.c.state == "waiting")
            return int(c.execute(query).scalar_one())


# ---------------------------------------------------------------- opening


def find_store(url: str) -> RunStore | None:
    """The database at ``url`` if there is one; creates nothing."""
    return open_store(url) if database_path(url).exists() else None


def check_place(url: str, name: str) -> None:
    """Raises InputError if a run called ``name`` could not be recorded at ``url``; creates nothing."""
    store = find_store(url)
    if store is not None:
        refuse_taken(store, name)
        return
    parent = existing_parent(database_path(url))
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(
            f"db: cannot write {database_path(url)}: {parent} is not writable; choose another --db or --out"
        )


def refuse_taken(store: RunStore, name: str) -> None:
    if any(run.name == name for run in store.list_runs()):
        raise InputError(f"name: a run named {name} exists already; choose another --name, or grpo resume {name}")


def open_store(url: str) -> RunStore:
    """The database at ``url`` (``sqlite:///path``), created and migrated as needed. Raises InputError."""
    if not url.startswith(PREFIX) or url == PREFIX:
        raise InputError(f"db: {url} is not a SQLite file; give sqlite:///path/to/harness.db")
    path = database_path(url)
    file_system = _file_system_of(path)
    if file_system in NETWORK_FILE_SYSTEMS:
        raise InputError(f"db: {path} lies on {file_system}, where SQLite's locks fail; use --db with a local disk")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(
            f"sqlite:///{path}", connect_args={"timeout": LOCK_WAIT_S, "check_same_thread": False},
            json_serializer=_dump,
        )  # fmt: skip
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
        store = RunStore(engine, url)
        with store.write() as connection:
            migrate(connection)
    except (OSError, DatabaseError) as error:
        cause = error.orig if isinstance(error, DatabaseError) else error
        raise InputError(f"db: cannot write {path}: {cause}; choose another --db or --out") from None
    return store


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are ours, see _on_begin
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _on_begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("write") else "BEGIN")


def _file_system_of(path: Path) -> str:
    """The type of the file system that ``path`` lies on, "" where the machine does not say."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    place = path.absolute().resolve()
    best, kind = "", ""
    for line in mounts.splitlines():
        _, point, file_system, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if place.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, file_system
    return kind


# ---------------------------------------------------------------- rows to records and back


def _dump(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def _finite(value: float) -> float | None:
    """JSON has no NaN: a number that is none is stored as null."""
    return value if math.isfinite(value) else None


def _this_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname()}


def run_record(row: Mapping[Any, Any]) -> RunRecord:
    budget = row["spec"].get("budget", {})
    names = RunRecord.__dataclass_fields__.keys() & row.keys()
    return RunRecord(
        **{name: row[name] for name in names},
        budget_steps=budget.get("steps", 0),
        budget_hours=budget.get("hours"),
    )


def _decision(row: Mapping[Any, Any]) -> Decision:
    changes = {name: change["to"] for name, change in row["changes"].items()}
    return Decision(
        Action(row["action"], changes, row["argument"]),
        row["source"],
        row["evidence"],
        row["hypothesis"],
        row["expected"],
        row["command_id"],
    )


def decision_record(row: Mapping[Any, Any]) -> DecisionRecord:
    names = DecisionRecord.__dataclass_fields__.keys() & row.keys()
    return DecisionRecord(**{name: row[name] for name in names})


def _group_row(step_id: int, group: Group, reward_range: tuple[float, float]) -> dict[str, Any]:
    return {
        "step_id": step_id,
        "prompt_id": group.prompt.id,
        "label": group.prompt.label,
        "kind": compute_kind(group, reward_range),
        "rewards": [c.score.reward for c in group.completions],
        "correct": [int(c.score.correct) for c in group.completions],
        "tokens": [c.tokens for c in group.completions],
    }


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


def _set_lineage(c: Connection, run_id: int, weights_step: int, live: Sequence[int]) -> None:
    here = (STEP.c.run_id == run_id) & (STEP.c.state != "superseded")
    c.execute(update(STEP).where(here).values(state="rolled_back"))
    for start in range(0, len(live), 500):  # SQLite limits the number of parameters
        c.execute(update(STEP).where(here, STEP.c.step.in_(live[start : start + 500])).values(state="live"))
    query = select(STEP.c.step, STEP.c.metrics).where(here, STEP.c.state == "live").order_by(STEP.c.step)
    last_step = c.execute(select(func.max(STEP.c.step)).where(here)).scalar() or 0
    rebuild(c, run_id, [(row.step, row.metrics) for row in c.execute(query)], last_step=last_step)
    c.execute(
        update(RUN)
        .where(RUN.c.id == run_id)
        .values(lineage=RUN.c.lineage + 1, version=RUN.c.version + 1, weights_step=weights_step)
    )
