"""Between records and SQL: columns to records and records to columns."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple
from functools import cache, lru_cache
from operator import attrgetter
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from harness.core.formatting import escape_surrogates
from harness.core.paths import checkpoint_path, find_folder
from harness.core.statistics import collect_answers
from harness.core.step_metrics import compute_kind
from harness.types import (
    Action,
    Answer,
    CheckedDecision,
    CheckpointRecord,
    CommandRecord,
    Decision,
    DecisionRecord,
    Evaluation,
    EvaluationRecord,
    EventRecord,
    Group,
    Knobs,
    Metrics,
    PassAt,
    RunDetails,
    RunRecord,
    SampleRecord,
    SeenGroup,
    Status,
    StepRecord,
)

FROM_SPEC = ("budget_steps", "budget_hours", "reward_range", "kind")
RUN_COLUMNS = tuple(name for name in RunRecord.__dataclass_fields__ if name not in FROM_SPEC)
OF_COMMANDS = ("who", "asked_at", "result")
DECISION_COLUMNS = ", ".join(
    f"(SELECT {name} FROM commands WHERE commands.id = command_id)" if name in OF_COMMANDS else name
    for name in DecisionRecord.__dataclass_fields__
)
"""The fields of a DecisionRecord in their order; what belongs to a person's action stands in its command alone."""
SAMPLE_COLUMNS = ", ".join(SampleRecord.__dataclass_fields__)
EVALUATION_COLUMNS = ("step", "split", "n", "accuracy", "low", "high", "reward", "score", "tie", "pass_at", "loss")
EVENT_COLUMNS = ", ".join(EventRecord.__dataclass_fields__)
SAID = tuple(name for name in Decision.__dataclass_fields__ if name != "action")
"""The fields of a Decision that are columns as they stand."""


# ---------------------------------------------------------------- values of a column


_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode


def dump_json(value: Any) -> str:
    """Return a value as JSON that SQLite can hold. Raises ValueError for a number that is none."""
    text = _encode(value)
    return text if text.isascii() else escape_surrogates(text)


STATUSES = get_args(Status)
NO_TIME = 1e11
"""Seconds since 1970 that are no moment any more: the year 5138."""
R = TypeVar("R")


def check_numbers(*values: object) -> None:
    """Raise TypeError unless all values are numbers or None."""
    if not all(isinstance(value, int | float | None) for value in values):
        raise TypeError("not a number")


def intact(record: R) -> R:
    """Return a record whose fields hold what they declare. Raises TypeError for another: SQLite keeps any value in any
    column."""
    kind: Any = type(record)
    values, kinds = _fields_of(kind)
    if not all(map(isinstance, values(record), kinds)):
        raise TypeError(f"not a {type(record).__name__}")
    return record


@cache
def _fields_of(kind: Any) -> tuple[Callable[[Any], tuple[Any, ...]], list[tuple[type, ...]]]:
    hints = get_type_hints(kind)
    return attrgetter(*hints), [_kinds_of(hint) for hint in hints.values()]


def _kinds_of(hint: Any) -> tuple[type, ...]:
    """The classes of the values that a type allows, of a container only its own."""
    if hint is float:
        return (int, float)
    if get_origin(hint) in (Union, UnionType):
        return tuple(kind for part in get_args(hint) for kind in _kinds_of(part))
    if get_origin(hint) is Literal:
        return (str,)
    found = get_origin(hint) or hint
    return (found,) if isinstance(found, type) else (object,)


def load_json(stored: Any) -> Any:
    """A JSON column. SQLite keeps a bare number in one as a number."""
    if stored == "null" or not isinstance(stored, str):
        return None if stored == "null" else stored
    return {} if stored == "{}" else json.loads(stored)  # the short ones are most of a long run


def load_object(stored: Any) -> dict[str, Any]:
    """Load a JSON column of an object. Raises TypeError for another value."""
    found = load_json(stored)
    if not isinstance(found, dict):
        raise TypeError("not an object")
    return found


def load_eras(stored: Any) -> tuple[Mapping[str, Any], ...]:
    """Load the eras of a run. Raises KeyError or TypeError for what are none."""
    eras = load_json(stored)
    if not isinstance(eras, list):
        raise TypeError("not a list")
    for era in eras:
        check_numbers(era["weights_step"], era["last_step"])
        era["changes"].items()
    return tuple(eras)


@lru_cache(maxsize=4096)
def count_correct(correct: str, rewards: str) -> tuple[int, int, bool]:
    """Count the correct and the judged completions of a group, from its two lists, and tell whether it is mixed."""
    judged = [reward for reward in json.loads(rewards) if reward is not None]
    return sum(json.loads(correct)), len(judged), len(set(judged)) > 1


@lru_cache(maxsize=64)
def load_knobs(stored: str) -> Knobs:
    knobs = json.loads(stored)
    check_numbers(*knobs.values())
    if knobs.keys() != Knobs.__dataclass_fields__.keys():
        raise KeyError("knobs")
    return Knobs(**knobs)


@lru_cache(maxsize=8)
def dump_knobs(knobs: Knobs) -> str:
    return dump_json(asdict(knobs))


def load_metrics(stored: str) -> Metrics:
    """Null was a number that JSON cannot hold. Raises KeyError or TypeError for what is no step's."""
    metrics = load_object(stored)
    check_numbers(metrics["reward/mean"] if "reward/mean" in metrics else metrics["loss"], *metrics.values())
    return {name: math.nan if value is None else value for name, value in metrics.items()}


def finite_metrics(metrics: Metrics) -> dict[str, float | None]:
    """JSON has no NaN: a number that is none is stored as null."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


@lru_cache(maxsize=8)
def load_bounds(stored: str) -> Mapping[str, tuple[float, float]]:
    return {name: (low, high) for name, (low, high) in load_json(stored).items()}


@lru_cache(maxsize=8)
def load_spec_fields(spec: str) -> tuple[int, float | None, tuple[float, float], str]:
    """Load FROM_SPEC from the spec of a run."""
    tree = json.loads(spec)
    budget = tree.get("budget", {})
    low, high = tree.get("reward", {}).get("range", (0.0, 1.0))
    check_numbers(low, high)
    return budget.get("steps", 0), budget.get("hours"), (low, high), tree.get("kind", "grpo")


def load_scores(stored: str, *, graded: bool) -> dict[str, float]:
    """Load the score of each prompt that an evaluation could judge: its mean reward where the run is ``graded``, else
    the share of correct completions."""
    answers = ((prompt, Answer(*values)) for prompt, values in load_object(stored).items())
    if graded:
        return {prompt: answer.reward for prompt, answer in answers if answer.reward is not None}
    return {prompt: answer.correct / answer.n for prompt, answer in answers if answer.n}


def load_counts(stored: str) -> dict[str, tuple[int, int]]:
    """Load how many completions of each prompt were correct and how many judged, of those that had one."""
    answers = ((prompt, Answer(*values)) for prompt, values in load_object(stored).items())
    return {prompt: (answer.correct, answer.n) for prompt, answer in answers if answer.n}


def load_rates(stored: str) -> tuple[PassAt, ...]:
    """Load pass@k of an evaluation. Raises TypeError for what is none."""
    if stored == "[]":
        return ()
    rates = load_json(stored)
    if not isinstance(rates, list):
        raise TypeError("not a list")
    return tuple(intact(PassAt(*rate)) for rate in rates)


# ---------------------------------------------------------------- rows to records


def run_record(row: sqlite3.Row, database: Path) -> RunRecord:
    if row["status"] not in STATUSES or not all(0 <= row[name] < NO_TIME for name in ("created", "heartbeat")):
        raise ValueError("no run")
    values = {name: row[name] for name in RUN_COLUMNS} | {"folder": str(find_folder(database, row["folder"]))}
    values["graded"] = None if row["graded"] is None else bool(row["graded"])
    return intact(RunRecord(**values | dict(zip(FROM_SPEC, load_spec_fields(row["spec"]), strict=True))))


def step_record(row: sqlite3.Row) -> StepRecord:
    return StepRecord(row["step"], row["parent"], load_knobs(row["knobs"]), load_metrics(row["metrics"]))


def seen_group(row: Sequence[Any]) -> SeenGroup:
    """Of step, prompt_id, label, correct, rewards."""
    step, prompt_id, label, correct, rewards = row
    return intact(SeenGroup(step, prompt_id, label, *count_correct(correct, rewards)))


def checkpoint_record(row: sqlite3.Row, best_step: int | None, database: Path) -> CheckpointRecord:
    """Of a checkpoint with the ``folder`` of its run."""
    step = row["step"]
    path = find_folder(database, row["folder"]) / checkpoint_path(step)
    return intact(CheckpointRecord(step, row["name"], str(path), step == best_step, load_object(row["hashes"])))


def run_details(row: sqlite3.Row, database: Path) -> RunDetails:
    """Of all columns."""
    record = run_record(row, database)
    return RunDetails(
        **{name: getattr(record, name) for name in RunRecord.__dataclass_fields__},
        spec=load_object(row["spec"]),
        manifest=load_object(row["manifest"]),
        knobs=load_knobs(row["knobs"]),
        bounds=load_bounds(row["bounds"]),
        weights_step=row["weights_step"],
        eras=load_eras(row["eras"]),
    )


def decision_record(row: sqlite3.Row) -> DecisionRecord:
    """Of DECISION_COLUMNS."""
    step, source, action, argument, stored, *words = row
    changes = load_json(stored)
    for change in changes.values():
        check_numbers(change["from"], change["to"])
    return intact(DecisionRecord(step, source, action, load_json(argument), changes, *words))


def command_record(row: sqlite3.Row) -> CommandRecord:
    """Of COMMANDS."""
    number, kind, changes, argument, *rest = row
    return intact(CommandRecord(number, intact(Action(kind, load_json(changes), load_json(argument))), *rest))


def decision_from_row(row: Mapping[str, Any]) -> Decision:
    changes = {name: change["to"] for name, change in load_json(row["changes"]).items()}
    action = Action(row["action"], changes, load_json(row["argument"]))
    return Decision(action, **{name: row[name] for name in SAID})


def evaluation_record(row: sqlite3.Row) -> EvaluationRecord:
    """Of EVALUATION_COLUMNS."""
    step, split, n, accuracy, low, high, reward, score, tie, pass_at, loss = row[: len(EVALUATION_COLUMNS)]
    check_numbers(low, high)
    rates = load_rates(pass_at)
    return intact(EvaluationRecord(step, split, n, accuracy, (low, high), reward, score, tie, rates, loss))


def event_record(row: sqlite3.Row) -> EventRecord:
    """Of EVENT_COLUMNS."""
    return intact(EventRecord(*row))


def sample_record(row: sqlite3.Row) -> SampleRecord:
    """Of SAMPLE_COLUMNS."""
    step, kind, prompt, ground_truth, completion, reward, correct, reason = row
    return intact(SampleRecord(step, kind, prompt, ground_truth, completion, reward, bool(correct), reason))


# ---------------------------------------------------------------- records to rows


def step_row(run_id: int, record: StepRecord, metrics: Mapping[str, float | None], at: float) -> dict[str, Any]:
    """Return the row of a live step; ``metrics`` are those of ``record`` as finite_metrics makes them."""
    return {
        "run_id": run_id,
        "step": record.step,
        "parent": record.parent,
        "state": "live",
        "at": at,
        "knobs": dump_knobs(record.knobs),
        "metrics": dump_json(metrics),
        "reward": metrics.get("reward/mean"),
    }


def group_row(step_id: int, group: Group, reward_range: tuple[float, float]) -> dict[str, Any]:
    prompt, scores = group.prompt, [c.score for c in group.completions]
    return {
        "step_id": step_id,
        "prompt_id": prompt.id,
        "label": prompt.label,
        "kind": compute_kind(group, reward_range),
        "rewards": dump_json([score.reward for score in scores]),
        # A list of whole numbers prints as the JSON that it is, in a third of the time.
        "correct": str([int(score.correct) for score in scores]),
        "tokens": str([c.tokens for c in group.completions]),
    }


def sample_row(run_id: int, sample: SampleRecord) -> dict[str, Any]:
    return {"run_id": run_id, **{name: getattr(sample, name) for name in SampleRecord.__dataclass_fields__}}


def decision_row(run_id: int, step: int, checked: CheckedDecision, at: float) -> dict[str, Any]:
    decision = checked.decision
    return {
        "run_id": run_id,
        "step": step,
        "at": at,
        "action": decision.action.kind,
        "argument": dump_json(decision.action.argument),
        "changes": dump_json(dict(checked.changes)),
        **{name: getattr(decision, name) for name in SAID},
        "refused": checked.refused,
    }


def evaluation_row(run_id: int, step: int, evaluation: Evaluation, at: float, *, graded: bool) -> dict[str, Any]:
    """Return the row of an evaluation that is judged by mean reward where the run is ``graded``, else by accuracy."""
    score, (low, high) = evaluation.judge(graded=graded)
    return {
        "run_id": run_id,
        "step": step,
        "split": evaluation.split,
        "at": at,
        "n": evaluation.n,
        "accuracy": evaluation.accuracy,
        "low": low,
        "high": high,
        "reward": evaluation.reward,
        "answers": dump_json(collect_answers(evaluation.examples)),
        "score": score,
        "tie": evaluation.reward if evaluation.loss is None else -evaluation.loss,
        "pass_at": dump_json([astuple(rate) for rate in evaluation.pass_at]),
        "loss": evaluation.loss,
    }
