"""Between records and SQL: columns to records and records to columns."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from harness.core.step_metrics import compute_kind
from harness.types import (
    Action,
    CommandRecord,
    Decision,
    DecisionRecord,
    EvaluationRecord,
    Group,
    Knobs,
    Metrics,
    RunRecord,
    SampleRecord,
)

RUN_FIELDS = tuple(name for name in RunRecord.__dataclass_fields__ if not name.startswith("budget_"))


OF_COMMANDS = ("who", "asked_at", "result")


DECISION_COLUMNS = ", ".join(
    f"(SELECT {name} FROM commands WHERE commands.id = command_id)" if name in OF_COMMANDS else name
    for name in DecisionRecord.__dataclass_fields__
)
"""The fields of a DecisionRecord in their order; what belongs to a person's action stands in its command alone."""


SAMPLE_FIELDS = tuple(SampleRecord.__dataclass_fields__)


def load_json(stored: Any) -> Any:
    """A JSON column. SQLite keeps a bare number in one as a number."""
    if stored == "null" or not isinstance(stored, str):
        return None if stored == "null" else stored
    return {} if stored == "{}" else json.loads(stored)  # the short ones are most of a long run


@lru_cache(maxsize=4096)
def count_correct(correct: str, rewards: str) -> tuple[int, int]:
    """Correct and judged completions of a group, of its two lists."""
    return sum(json.loads(correct)), sum(reward is not None for reward in json.loads(rewards))


@lru_cache(maxsize=64)
def load_knobs(stored: str) -> Knobs:
    return Knobs(**json.loads(stored))


@lru_cache(maxsize=8)
def load_budget(spec: str) -> tuple[int, float | None]:
    budget = json.loads(spec).get("budget", {})
    return budget.get("steps", 0), budget.get("hours")


def run_record(row: sqlite3.Row) -> RunRecord:
    steps, hours = load_budget(row["spec"])
    return RunRecord(**{name: row[name] for name in RUN_FIELDS}, budget_steps=steps, budget_hours=hours)


def decision_record(row: sqlite3.Row) -> DecisionRecord:
    """Of DECISION_COLUMNS."""
    step, source, action, argument, changes, *words = row
    return DecisionRecord(step, source, action, load_json(argument), load_json(changes), *words)


def command_record(row: sqlite3.Row) -> CommandRecord:
    """Of COMMANDS."""
    number, kind, changes, argument, *rest = row
    return CommandRecord(number, Action(kind, load_json(changes), load_json(argument)), *rest)


def decision_from_row(row: Mapping[str, Any]) -> Decision:
    changes = {name: change["to"] for name, change in load_json(row["changes"]).items()}
    return Decision(
        Action(row["action"], changes, load_json(row["argument"])),
        row["source"],
        row["evidence"],
        row["hypothesis"],
        row["expected"],
        row["command_id"],
        row["refused"],
        row["rejected"],
        row["tokens_in"],
        row["tokens_out"],
        row["cost_usd"],
    )


@lru_cache(maxsize=8)
def dump_knobs(knobs: Knobs) -> str:
    return dump_json(asdict(knobs))


def finite_or_none(value: float) -> float | None:
    """JSON has no NaN: a number that is none is stored as null."""
    return value if math.isfinite(value) else None


def group_row(step_id: int | None, group: Group, reward_range: tuple[float, float]) -> tuple[Any, ...]:
    prompt, scores = group.prompt, [c.score for c in group.completions]
    return (
        step_id,
        prompt.id,
        prompt.label,
        compute_kind(group, reward_range),
        dump_json([score.reward for score in scores]),
        # A list of whole numbers prints as the JSON that it is, in a third of the time.
        str([int(score.correct) for score in scores]),
        str([c.tokens for c in group.completions]),
    )


def sample_row(run_id: int, s: SampleRecord) -> tuple[Any, ...]:
    return run_id, s.step, s.kind, s.prompt, s.ground_truth, s.completion, s.reward, s.correct, s.reason


def load_metrics(stored: str) -> Metrics:
    """Null was a number that JSON cannot hold."""
    return {name: math.nan if value is None else value for name, value in load_json(stored).items()}


@lru_cache(maxsize=8)
def load_bounds(stored: str) -> Mapping[str, tuple[float, float]]:
    return {name: (low, high) for name, (low, high) in load_json(stored).items()}


def evaluation_record(row: sqlite3.Row) -> EvaluationRecord:
    ci95 = (row["low"], row["high"])
    return EvaluationRecord(row["step"], row["split"], row["n"], row["accuracy"], ci95, row["reward"])


def sample_record(row: sqlite3.Row) -> SampleRecord:
    """Of the fields of SampleRecord in their order."""
    step, kind, prompt, ground_truth, completion, reward, correct, reason = row
    return SampleRecord(step, kind, prompt, ground_truth, completion, reward, bool(correct), reason)


dump_json = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode
