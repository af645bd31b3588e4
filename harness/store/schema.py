"""The tables, as ``harness.store.migrations`` has made them. Rows never leave the store: everybody else sees the
dataclasses of harness.types.

An index that a step writes is paid for in every step: each is here because a look at a long run needs it.
"""

from __future__ import annotations

import sqlite3
from typing import Any, cast

from sqlalchemy import JSON, Connection, Index, String, TypeDecorator, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from harness.core.formatting import clean_lines, escape_surrogates


class Whole(TypeDecorator[str]):
    """Text of a prompt or a model, kept as it is but for lone surrogates, which SQLite cannot hold: they are written
    as ``\\ud800``."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: object) -> str | None:
        return value if value is None or value.isascii() else escape_surrogates(value)


class Prose(Whole):
    """Text that is told people, of whomever: printable, and at most LONGEST characters of it."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: object) -> str | None:
        return value and clean_lines(value, LONGEST)


LONGEST = 20_000


class RunRow(SQLModel, table=True):
    """One run, as RunDetails says. Two counters tell a reader what it must read again: ``lineage`` goes up when
    recorded steps stop being live (resume, rollback), ``version`` when decisions, evaluations or checkpoints change.
    ``process`` tells the process ``pid`` from a later one of that number,
    ``supervisor`` the process that starts it again; ``heartbeat_boot`` is ``heartbeat`` on the
    clock of that boot. What is compared begins after ``era_start``, the step at which the last of ``eras`` began;
    ``graded`` says what its evaluations are judged by, null before the first one. ``spent_usd`` went to questions that
    belong to no decision."""

    __tablename__ = "runs"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    created: float
    status: str
    stop_reason: str = Field(default="", sa_type=Prose)
    seed: int
    policy: str
    spec: dict[str, Any] = Field(sa_type=JSON)
    manifest: dict[str, Any] = Field(sa_type=JSON)
    folder: str
    pid: int = 0
    host: str = ""
    wall_s: float = 0.0
    heartbeat: float = 0.0
    phase: str = Field(default="", sa_type=Prose)
    phase_done: int = 0
    phase_total: int = 0
    rollouts: int = 0
    last_step: int = 0
    weights_step: int = 0
    lineage: int = 0
    version: int = 0
    knobs: dict[str, Any] = Field(sa_type=JSON)
    pins: list[str] = Field(default_factory=list, sa_type=JSON)
    bounds: dict[str, Any] = Field(sa_type=JSON)
    forecast: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    process: str = ""
    heartbeat_boot: float = 0.0
    era_start: int = 0
    eras: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)
    supervisor: str = ""
    graded: bool | None = None
    spent_usd: float = 0.0


class _OfRun(SQLModel):
    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="runs.id")


class _OfStep(_OfRun):
    step: int
    at: float


class StepRow(_OfStep, table=True):
    """``state`` is live, rolled_back (a rollback went behind it) or superseded (taken again after a resume).

    ``reward`` is the metric reward/mean once more: the curve of a long run is read from the index alone.
    """

    __tablename__ = "steps"
    __table_args__ = (Index("steps_by_run", "run_id", "step", "state", "reward"),)
    parent: int
    state: str = "live"
    knobs: dict[str, Any] = Field(sa_type=JSON)
    metrics: dict[str, Any] = Field(sa_type=JSON)
    reward: float | None = None


class GroupRow(SQLModel, table=True):
    """One group of a step; the lists go over its completions. An errored completion's reward is null."""

    __tablename__ = "groups"
    __table_args__ = (Index("groups_by_step", "step_id"),)
    id: int | None = Field(default=None, primary_key=True)
    step_id: int = Field(foreign_key="steps.id")
    prompt_id: str = Field(sa_type=Whole)
    label: str = Field(sa_type=Whole)
    kind: str
    rewards: list[float | None] = Field(sa_type=JSON)
    correct: list[int] = Field(sa_type=JSON)
    tokens: list[int] = Field(sa_type=JSON)


class CompletionRow(_OfRun, table=True):
    """A text kept for people: ``kind`` is best or worst (of a step's groups) or fixed (the sample prompts)."""

    __tablename__ = "completions"
    __table_args__ = (
        Index("completions_by_run", "run_id", "step"),
        Index("completions_fixed", "run_id", "step", sqlite_where=text("kind = 'fixed'")),
    )
    step: int
    kind: str
    prompt: str = Field(sa_type=Whole)
    ground_truth: str = Field(sa_type=Whole)
    completion: str = Field(sa_type=Whole)
    reward: float | None
    correct: bool
    reason: str = Field(sa_type=Prose)


class DecisionRow(_OfStep, table=True):
    """``step`` is the step that the decision governs; ``changes`` is {knob: {from, to}}; ``tokens_in`` is null when no
    LLM was asked, ``cost_usd`` when its price is not known; ``llm_failure`` says why its turn gave no decision."""

    __tablename__ = "decisions"
    __table_args__ = (
        Index("decisions_by_run", "run_id", "step"),
        Index("decisions_acted", "run_id", "id", sqlite_where=text("action != 'continue'")),
        Index("decisions_asked", "run_id", "step", sqlite_where=text("tokens_in IS NOT NULL")),
    )
    source: str
    action: str
    argument: str | int | None = Field(sa_type=JSON)
    changes: dict[str, Any] = Field(sa_type=JSON)
    evidence: str = Field(default="", sa_type=Prose)
    hypothesis: str = Field(default="", sa_type=Prose)
    expected: str = Field(default="", sa_type=Prose)
    measured: str | None = Field(default=None, sa_type=Prose)
    verdict: str | None = None
    refused: str | None = Field(default=None, sa_type=Prose)
    command_id: int | None = Field(default=None, foreign_key="commands.id")
    rejected: str = Field(default="", sa_type=Prose)
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    llm_failure: str = Field(default="", sa_type=Prose)


class CommandRow(_OfRun, table=True):
    """A person's action. ``state`` is waiting, taken (commit 1), then applied or refused with its ``result``; expired
    when no boundary came for it (RunStore.end_run, adopt_run)."""

    __tablename__ = "commands"
    __table_args__ = (Index("commands_by_run", "run_id", "state"),)
    asked_at: float
    who: str = Field(sa_type=Prose)
    note: str = Field(default="", sa_type=Prose)
    action: str
    argument: str | int | None = Field(sa_type=JSON)
    changes: dict[str, Any] = Field(sa_type=JSON)
    state: str = "waiting"
    step: int | None = None
    applied_at: float | None = None
    result: str = Field(default="", sa_type=Prose)


class EvaluationRow(_OfStep, table=True):
    """``answers`` maps prompt ids to [mean reward, number correct, number judged] (harness.types.Answer). ``score``,
    with ``low`` and ``high``, ``tie`` and ``loss`` are as in EvaluationRecord. ``pass_at`` is a list of
    [k, value, low, high] (harness.types.PassAt), empty where each prompt had one completion."""

    __tablename__ = "evaluations"
    __table_args__ = (
        UniqueConstraint("run_id", "split", "step"),
        Index("evaluations_by_step", "run_id", "step"),
        Index("evaluations_by_score", "run_id", "split", text("score DESC"), text("tie DESC"), "step"),
    )
    split: str
    n: int
    accuracy: float
    low: float
    high: float
    reward: float
    answers: dict[str, list[Any]] = Field(sa_type=JSON)
    score: float
    tie: float = 0.0
    pass_at: list[list[Any]] = Field(default_factory=list, sa_type=JSON)
    loss: float | None = None


class CheckpointRow(_OfStep, table=True):
    """``name`` is empty for a periodic one; ``hashes`` maps file names to SHA-256."""

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("run_id", "step"),)
    name: str
    path: str
    hashes: dict[str, str] = Field(sa_type=JSON)


class EventRow(_OfStep, table=True):
    __tablename__ = "events"
    __table_args__ = (Index("events_by_run", "run_id"),)
    level: str
    text: str = Field(sa_type=Prose)


class BucketRow(SQLModel, table=True):
    """``n`` live steps of one metric folded together; at most 512 per metric, whatever the length of the run."""

    __tablename__ = "buckets"
    run_id: int = Field(foreign_key="runs.id", primary_key=True)
    metric: str = Field(primary_key=True)
    first: int = Field(primary_key=True)
    n: int
    low: float
    total: float
    high: float


RUN, STEP, COMPLETION, DECISION, COMMAND, EVALUATION, CHECKPOINT = (
    SQLModel.metadata.tables[name]
    for name in ("runs", "steps", "completions", "decisions", "commands", "evaluations", "checkpoints")
)


BINDERS = {
    table.name: {c.name: c.type.process_bind_param for c in table.columns if isinstance(c.type, Whole)}
    for table in SQLModel.metadata.tables.values()
}
"""What becomes of the texts of a row, by table and column, where it is inserted without SQLAlchemy."""


def driver(c: Connection) -> sqlite3.Connection:
    """SQLite itself, within the transaction of ``c``: for what runs in every step or many thousand times at once,
    where building a statement would cost more than carrying it out."""
    return cast("sqlite3.Connection", c.connection.driver_connection)
