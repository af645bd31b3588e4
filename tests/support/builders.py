"""Small builders of the project's dataclasses: healthy defaults, every value open to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.core.knobs import DEFAULT_BOUNDS
from harness.store.opening import open_store
from harness.store.snapshot import compute_paired_look
from harness.store.writer import RunStore
from harness.types import (
    CheckedDecision,
    CheckpointRecord,
    Completion,
    Decision,
    DecisionRecord,
    Evaluation,
    EvaluationRecord,
    Example,
    Group,
    InForce,
    Knobs,
    PairedLook,
    Prompt,
    RunRecord,
    SampleRecord,
    Score,
    Snapshot,
    Status,
    StepRecord,
)
from pools.identity import compute_place, format_id, identify
from pools.table import PromptTable, make_batches

HEALTHY: dict[str, float] = {
    "reward/mean": 0.5,
    "reward/std": 0.4,
    "reward/adjusted": 0.01,
    "group/mixed_rate": 0.8,
    "group/all_zero_rate": 0.1,
    "group/all_one_rate": 0.1,
    "group/flat_rate": 0.0,
    "group/no_signal_rate": 0.2,
    "group/solved_rate": 0.1,
    "group/unsolved_rate": 0.1,
    "completion/correct_rate": 0.5,
    "completion/errored_rate": 0.0,
    "completion/truncated_rate": 0.02,
    "completion/tokens_mean": 20.0,
    "completion/distinct_rate": 0.8,
    "reason/right": 0.5,
    "reason/wrong": 0.5,
    "kl/mean": 0.01,
    "entropy/mean": 0.7,
    "grad/norm": 0.3,
    "time/step_s": 0.1,
    "learning_rate": 1e-4,
    "group/proxy_rate": 0.0,
    "completion/truncated_paid": 0.0,
    "group/mean_error": 0.0,
    "group/mean_spread": 0.0,
    "group/mixed_tokens_rate": 0.8,
}
"""Metrics of a step with nothing to complain about."""


def make_prompt(name: str = "p", *, label: str = "", ground_truth: str = "2", **values: Any) -> Prompt:
    return Prompt(id=name, text=f"{name}=", ground_truth=ground_truth, label=label, **values)


def make_table(prompts: Sequence[Prompt]) -> PromptTable:
    """A source of these prompts, each with the id that its text has."""
    rows = (
        (
            who.id,
            compute_place(format_id(who.family)),
            p.text,
            p.ground_truth,
            p.label,
            p.system,
            p.demonstration,
            *none,
        )
        for p in prompts
        for who, none in [(identify(p), (None, None))]
    )
    return PromptTable(list(make_batches(rows)), template="{prompt}", system="")


def make_score(reward: float | None, *, correct: bool | None = None, reason: str | None = None) -> Score:
    """A reward of 1 is correct and right, None is errored, unless said otherwise."""
    right = reward == 1.0 if correct is None else correct
    return Score(reward, right, reason or ("errored" if reward is None else "right" if right else "wrong"))


def make_completion(reward: float | None, *, text: str = "text", truncated: bool = False, **score: Any) -> Completion:
    return Completion(text, tokens=len(text), truncated=truncated, score=make_score(reward, **score))


def make_group(*rewards: float | None, prompt: Prompt | None = None) -> Group:
    completions = tuple(make_completion(reward, text=f"text {i}") for i, reward in enumerate(rewards))
    return Group(prompt or make_prompt(), completions)


def make_step(
    step: int, metrics: Mapping[str, float] | None = None, *, parent: int | None = None, knobs: Knobs | None = None
) -> StepRecord:
    return StepRecord(step, step - 1 if parent is None else parent, knobs or Knobs(), HEALTHY | dict(metrics or {}))


def make_steps(n: int, metrics: Mapping[str, float] | None = None, *, first: int = 1) -> tuple[StepRecord, ...]:
    return tuple(make_step(step, metrics) for step in range(first, first + n))


def make_look(step: int, accuracy: float, *, split: str = "dev", n: int = 200) -> EvaluationRecord:
    low, high = max(0.0, accuracy - 0.05), min(1.0, accuracy + 0.05)
    return EvaluationRecord(step, split, n, accuracy, (low, high), accuracy, accuracy)


def make_pair(before: int, after: int, n: int, gained: int, lost: int) -> PairedLook:
    """Two looks at ``n`` prompts of which some changed sides."""
    was = {f"{i}": float(i < lost) for i in range(n)}
    is_now = {prompt: float(lost <= i < lost + gained) for i, prompt in enumerate(was)}
    return compute_paired_look(before, was, after, is_now)


def make_evaluation(accuracy: float, *, split: str = "dev", n: int = 200) -> Evaluation:
    low, high = max(0.0, accuracy - 0.05), min(1.0, accuracy + 0.05)
    return Evaluation(
        split, n, accuracy, (low, high), accuracy, (low, high), (Example(make_prompt("a"), make_completion(1.0)),)
    )


def make_sample(step: int, *, kind: str = "best", completion: str = "text", reward: float | None = 1.0) -> SampleRecord:
    score = make_score(reward)
    return SampleRecord(step, kind, "1+1=", "2", completion, reward, score.correct, score.reason)


def make_decision_record(step: int, action: str = "set", **values: Any) -> DecisionRecord:
    empty: dict[str, Any] = {"argument": None, "changes": {}, "evidence": "", "hypothesis": "", "expected": ""}
    return DecisionRecord(**{"step": step, "source": "rules", "action": action} | empty | values)


def make_change(step: int, knob: str, old: float | None = 1.0, new: float | None = 2.0) -> DecisionRecord:
    return make_decision_record(step, changes={knob: {"from": old, "to": new}})


def make_run_record(**values: Any) -> RunRecord:
    run = RunRecord(
        id=1,
        name="night",
        status="running",
        stop_reason="",
        seed=0,
        policy="rules",
        folder="runs/night",
        pid=1,
        host="here",
        created=1000.0,
        wall_s=90.0,
        heartbeat=1090.0,
        phase="rollout",
        phase_done=3,
        phase_total=16,
        rollouts=1280,
        budget_steps=80,
        budget_hours=None,
    )
    return replace(run, **values)


def make_snapshot(steps: Sequence[StepRecord] = (), **values: Any) -> Snapshot:
    """A run right after the last of ``steps``."""
    last = steps[-1].step if steps else 0
    snapshot = Snapshot(
        run=make_run_record(),
        step=last,
        steps_done=last,
        knobs=Knobs(),
        bounds=DEFAULT_BOUNDS,
        pins=frozenset(),
        steps=tuple(steps),
    )
    return replace(snapshot, **values)


def make_checkpoint(step: int, *, name: str = "", best: bool = False, **hashes: str) -> CheckpointRecord:
    return CheckpointRecord(step, name, f"checkpoints/step-{step:06d}", best, hashes)


def make_in_force(
    knobs: Knobs | None = None, *, pins: Sequence[str] = (), policy: str = "rules", status: Status = "running"
) -> InForce:
    return InForce(knobs or Knobs(), frozenset(pins), policy, status)


# ---------------------------------------------------------------- in a store


def make_store(folder: Path) -> RunStore:
    return open_store(f"sqlite:///{folder / 'harness.db'}")


def create_run(store: RunStore, name: str = "night", **values: Any) -> int:
    columns: dict[str, Any] = {
        "seed": 7,
        "policy": "rules",
        "spec": {"budget": {"steps": 80}},
        "manifest": {"group_size_from": "default"},
        "folder": f"runs/{name}",
        "knobs": Knobs(),
        "bounds": DEFAULT_BOUNDS,
    }
    return store.create_run(name=name, **columns | values)


def record_decision(
    store: RunStore,
    run_id: int,
    step: int,
    decision: Decision,
    changes: Mapping[str, Any] | None = None,
    *,
    refused: str | None = None,
    in_force: InForce | None = None,
) -> None:
    """One decision for ``step``, after which the default settings are in force unless said otherwise."""
    checked = CheckedDecision(decision, changes or {}, refused)
    store.record_decisions(run_id, step, [checked], in_force or make_in_force())


def record_step(
    store: RunStore, run_id: int, step: int, metrics: Mapping[str, float] | None = None, **values: Any
) -> None:
    """A healthy step of two groups with one sample, or what ``values`` says instead."""
    given: dict[str, Any] = {
        "groups": [make_group(0.0, 1.0), make_group(1.0, 1.0)],
        "samples": [make_sample(step)],
        "reward_range": (0.0, 1.0),
        "wall_s": float(step),
    }
    record = make_step(step, metrics, parent=values.pop("parent", None), knobs=values.pop("knobs", None))
    store.record_step(run_id, record, **given | values)
