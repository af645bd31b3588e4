"""The Protocols between session, controller and the parts they drive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypedDict, TypeVar

from harness.types.data import Evaluation, Example, Group, Metrics, More, Progress, Prompt, Score, StepOutcome
from harness.types.decisions import CheckedDecision, Command, Decision, Knobs, Verdict
from harness.types.records import CheckpointRecord, InForce, SampleRecord, Snapshot, Status, StepRecord

R = TypeVar("R")


class DecisionPolicy(Protocol):
    """Takes one decision from what was recorded; several only where it replays a boundary that a person's commands
    shared. No decision rests on a clock. ``repeats`` says that reverts are among what it decides."""

    kind: str
    repeats: bool

    def decide(self, snapshot: Snapshot) -> Decision | Sequence[Decision]: ...


class EffectJudge(Protocol):
    """Says of the changes that can be judged by now what they did; as pure as a decision policy."""

    def judge(self, snapshot: Snapshot) -> tuple[Verdict, ...]: ...


class Scorer(Protocol):
    """A reward with its declared range. Never raises: a failure of the verifier is an errored Score."""

    range: tuple[float, float]

    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Score]: ...


class Aim(TypedDict):
    """What a draw is for."""

    focus: float | None
    group_size: int


class Pool(Protocol):
    """Prompts with history. A draw is a pure function of (seed, step, history)."""

    def draw(self, n: int, *, seed: int, focus: float | None, group_size: int) -> list[Prompt]: ...

    def top_up(
        self, groups: Sequence[Group], n: int, *, seed: int, focus: float | None, group_size: int
    ) -> list[Prompt]: ...

    def find(self, prompt_ids: Sequence[str]) -> list[Prompt]: ...

    def outlook(self, drawn: Sequence[Prompt], group_size: int) -> Metrics: ...

    def expected_rewards(self, prompts: Sequence[Prompt]) -> Mapping[str, float]: ...

    def record(self, groups: Sequence[Group]) -> None: ...

    def state(self) -> dict[str, Any]: ...

    def load_state(self, state: Mapping[str, Any]) -> None: ...


class Trainer(Protocol):
    """Holds model and optimizer in memory. One ``step`` is one rollout and one optimizer step."""

    def schedule_factor(self, step: int) -> float: ...

    def step(
        self,
        prompts: Sequence[Prompt],
        knobs: Knobs,
        *,
        learning_rate: float,
        seed: int,
        progress: Progress,
        more: More,
    ) -> StepOutcome: ...

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


class Evaluator(Protocol):
    """Measures the model in memory with fixed generation settings, which no knob changes."""

    def evaluate(self, split: str, *, seed: int, progress: Progress) -> Evaluation: ...

    def sample(self, *, seed: int, progress: Progress) -> list[Example]: ...


class Store(Protocol):
    """What session and controller write and read; harness.store.writer documents each."""

    def patiently(self, attempt: Callable[[], R]) -> R: ...

    def update_run(self, run_id: int, **values: Any) -> None: ...

    def beat(self, run_id: int, phase: str, done: int, total: int, wall_s: float) -> None: ...

    def record_decisions(
        self,
        run_id: int,
        step: int,
        decisions: Sequence[CheckedDecision],
        in_force: InForce,
        *,
        verdicts: Sequence[Verdict] = (),
    ) -> None: ...

    def refuse_decision(self, run_id: int, step: int, decision: Decision, why: str) -> None: ...

    def load_decisions_at(self, run_id: int, step: int) -> list[Decision]: ...

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
    ) -> None: ...

    def record_evaluation(self, run_id: int, step: int, evaluation: Evaluation) -> None: ...

    def has_evaluation(self, run_id: int, step: int, split: str) -> bool: ...

    def record_samples(self, run_id: int, step: int, samples: Sequence[SampleRecord]) -> None: ...

    def load_answers(self, run_id: int, step: int, split: str) -> Mapping[str, int]: ...
    def was_taken(self, run_id: int, step: int) -> bool: ...
    def has_closed_branch(self, run_id: int, began: int) -> bool: ...

    def load_drawn(self, run_id: int, step: int) -> list[str]: ...

    def has_samples(self, run_id: int, step: int) -> bool: ...

    def record_checkpoint(self, run_id: int, checkpoint: CheckpointRecord) -> None: ...

    def drop_checkpoint(self, run_id: int, step: int) -> None: ...

    def load_checkpoints(self, run_id: int) -> list[CheckpointRecord]: ...

    def best_step(self, run_id: int) -> int | None: ...

    def record_event(self, run_id: int, step: int, level: str, text: str) -> None: ...

    def supersede_after(self, run_id: int, step: int, weights_step: int, *, live: Sequence[int]) -> None: ...

    def roll_back(self, run_id: int, step: int, *, live: Sequence[int]) -> None: ...

    def load_ancestors(self, run_id: int, step: int) -> list[int]: ...

    def load_waiting(self, run_id: int) -> list[Command]: ...

    def finish_command(self, command_id: int, state: str, result: str) -> None: ...

    def end_run(self, run_id: int, status: Status, reason: str, wall_s: float) -> None: ...
