"""The words of the project as frozen dataclasses, and the Protocols between its rooms.

Imports nothing of ours and nothing heavy: everybody may import this module.
A *group* is the completions of one prompt, a *step* one decide-draw-rollout-reward-update cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict, TypeVar

R = TypeVar("R")
Metrics = Mapping[str, float]
Source = Literal["rules", "llm", "manual", "experiment", "agent", "fixed"]
ActionKind = Literal[
    "continue",
    "set",
    "focus",
    "sample",
    "evaluate",
    "save",
    "rollback",
    "branch",
    "pause",
    "stop",
    # a person's alone:
    "resume",
    "step",
    "release",
    "policy",
]
ONLY_NOW: frozenset[ActionKind] = frozenset({"pause", "resume", "step", "stop"})
"""Actions about the process at work: a resume applies none of them again, and none that still waits."""
Status = Literal["running", "paused", "finished", "stopped", "failed"]
ENDED: frozenset[Status] = frozenset({"finished", "stopped", "failed"})
Sampler = Literal["frontier", "uniform", "curriculum", "dynamic"]
PROMPT_COLUMNS = ("prompt", "ground_truth", "label", "demonstration")
"""What a row of a source says of a prompt; its other columns go to the reward as they are."""
Progress = Callable[[str, int, int], None]
"""``progress(phase, done, total)``, called from inside long work; cheap and never raises."""


def no_progress(phase: str, done: int, total: int) -> None:
    """The Progress of a caller who does not look."""


# ---------------------------------------------------------------- prompts and what the model makes of them


@dataclass(frozen=True, slots=True)
class Prompt:
    """One row of the pool. ``id`` is a hash of the content, so it survives a reordered source."""

    id: str
    text: str
    ground_truth: str
    label: str = ""
    system: str = ""
    demonstration: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Score:
    """What a reward says of one completion. ``reward`` is None when the verifier failed (errored)."""

    reward: float | None
    correct: bool
    reason: str
    components: Mapping[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def errored(self) -> bool:
        return self.reward is None


@dataclass(frozen=True, slots=True)
class Completion:
    """One text of the model. ``tokens`` counts its own tokens, the end token included."""

    text: str
    tokens: int
    truncated: bool
    score: Score


@dataclass(frozen=True, slots=True)
class Group:
    """The ``group_size`` completions of one prompt."""

    prompt: Prompt
    completions: tuple[Completion, ...]

    @property
    def mixed(self) -> bool:
        """Whether the rewards of what could be judged differ: without that there is no advantage."""
        return len({c.score.reward for c in self.completions if c.score.reward is not None}) > 1


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What one trainer call did. ``updated`` is False when the update was discarded.

    ``notes`` are for the run's events. ``fault`` says what was not finite; ``lost`` that it is the weights, so the
    model in memory is of no use.
    """

    groups: tuple[Group, ...]
    metrics: Metrics
    updated: bool
    notes: tuple[str, ...] = ()
    fault: str = ""
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """One evaluated prompt."""

    prompt: Prompt
    completion: Completion


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Accuracy of one model on one split: ``accuracy`` in [0, 1], ``ci95`` its Wilson interval.

    ``errors`` are those of the verifier; such completions count as not correct.
    """

    split: str
    n: int
    accuracy: float
    ci95: tuple[float, float]
    reward: float
    examples: tuple[Example, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return f"{self.split} accuracy {self.accuracy:.3f} [{self.ci95[0]:.3f}, {self.ci95[1]:.3f}] on {self.n} prompts"


More = Callable[[Sequence[Group]], Sequence[Prompt]]
"""Prompts that a step rolls out besides, when it has these groups; none when it has enough."""


def no_more(groups: Sequence[Group]) -> Sequence[Prompt]:
    """The More of a step that rolls out what it was given."""
    return ()


# ---------------------------------------------------------------- knobs, actions, decisions


@dataclass(frozen=True, slots=True)
class Knobs:
    """What may change between steps. ``focus`` is the target pass rate of a draw, None leaves it to pool.sampler."""

    temperature: float = 1.0
    max_tokens: int = 64
    learning_rate: float = 1e-4
    group_size: int = 8
    prompts_per_step: int = 16
    beta: float = 0.0
    focus: float | None = None


KnobValue = float | int | None


@dataclass(frozen=True, slots=True)
class Action:
    """One change or verb. ``changes`` for set and focus, and for rollback the knobs that differ from the checkpoint's;
    ``argument`` for save, rollback, release, policy, stop."""

    kind: ActionKind
    changes: Mapping[str, KnobValue] = field(default_factory=dict)
    argument: str | int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """An action with its reasons. ``command_id`` names the person's command it consumes; ``refused`` says that the
    record it is replayed from did not carry it out, and why.

    ``tokens_in`` and ``tokens_out`` are what asking an LLM took, whoever decided in the end: None when none was asked,
    0 when it did not answer. ``cost_usd`` is None without prices. ``rejected`` are the alternatives it weighed.
    """

    action: Action
    source: Source
    evidence: str = ""
    hypothesis: str = ""
    expected: str = ""
    command_id: int | None = None
    refused: str | None = None
    rejected: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A person's action, waiting for the next boundary."""

    id: int
    action: Action
    note: str = ""


# ---------------------------------------------------------------- what everybody who looks gets to see


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A recorded step. ``parent`` is the step whose weights it started from."""

    step: int
    parent: int
    knobs: Knobs
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """A recorded decision. ``step`` is the step it governs, ``at`` when it was applied (epoch seconds); ``refused``
    says why it was not carried out. What asking an LLM took is as in Decision. Of a person's action: ``who`` asked,
    ``asked_at`` when, and the ``result`` they were told; the note is its evidence."""

    step: int
    source: Source
    action: ActionKind
    argument: str | int | None
    changes: Mapping[str, Mapping[str, KnobValue]]
    evidence: str
    hypothesis: str
    expected: str
    measured: str | None = None
    verdict: str | None = None
    refused: str | None = None
    rejected: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    at: float = 0.0
    id: int = 0
    who: str | None = None
    asked_at: float | None = None
    result: str | None = None

    @property
    def is_change(self) -> bool:
        """Whether it took effect on knobs or weights: those are the experiments."""
        return self.refused is None and (bool(self.changes) or self.action == "rollback")


@dataclass(frozen=True, slots=True)
class CommandRecord:
    """A person's action on its way: ``state`` is waiting, taken (decided, not done yet), applied, refused or expired.
    ``step`` is the step it was applied before, ``result`` what came of it."""

    id: int
    action: Action
    who: str
    note: str
    asked_at: float
    state: str
    step: int | None
    applied_at: float | None
    result: str


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """A recorded evaluation, without its examples."""

    step: int
    split: str
    n: int
    accuracy: float
    ci95: tuple[float, float]
    reward: float


@dataclass(frozen=True, slots=True)
class PairedLook:
    """The newest look at dev (of step ``after``) against an earlier one on the same ``n`` prompts: how many were
    ``gained`` (wrong before, right after) and ``lost``."""

    before: int
    after: int
    n: int
    gained: int
    lost: int


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    step: int
    name: str
    path: str
    best: bool


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """A completion kept for people: from a step (best and worst of its groups) or from the fixed sample prompts."""

    step: int
    kind: str
    prompt: str
    ground_truth: str
    completion: str
    reward: float | None
    correct: bool
    reason: str


@dataclass(frozen=True, slots=True)
class EventRecord:
    step: int
    level: str
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """``n`` steps of one metric folded together, the first of them ``first``."""

    first: int
    n: int
    low: float
    mean: float
    high: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One row of the list of runs. ``phase`` is what the process said last, at ``heartbeat`` (epoch seconds).

    ``process`` and ``heartbeat_boot`` tell whether it lives and how long ago that was (harness.core.paths).
    """

    id: int
    name: str
    status: Status
    stop_reason: str
    seed: int
    policy: str
    folder: str
    pid: int
    host: str
    created: float
    wall_s: float
    heartbeat: float
    phase: str
    phase_done: int
    phase_total: int
    rollouts: int
    budget_steps: int
    budget_hours: float | None
    last_step: int = 0
    process: str = ""
    heartbeat_boot: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether it is over; one whose process is gone is not, it can be resumed."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class Asked:
    """What asking an LLM came to over a run: how many ``times``, for which step it was asked ``last`` (0: never)."""

    times: int = 0
    last: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A bounded view of a run: its size does not grow with the number of steps. Steps and evaluations are those of
    the present era, ``paired_dev`` compares the newest look at dev with the best one and those shortly before;
    ``faults`` are the newest events of level error, not how a run ended, ``commands`` a person's newest actions."""

    run: RunRecord
    step: int
    steps_done: int
    knobs: Knobs
    bounds: Mapping[str, tuple[float, float]]
    pins: frozenset[str]
    steps: tuple[StepRecord, ...] = ()
    decisions: tuple[DecisionRecord, ...] = ()
    evaluations: tuple[EvaluationRecord, ...] = ()
    paired_dev: tuple[PairedLook, ...] = ()
    checkpoints: tuple[CheckpointRecord, ...] = ()
    samples: tuple[SampleRecord, ...] = ()
    events: tuple[EventRecord, ...] = ()
    faults: tuple[EventRecord, ...] = ()
    buckets: Mapping[str, tuple[Bucket, ...]] = field(default_factory=dict)
    commands: tuple[CommandRecord, ...] = ()
    commands_waiting: int = 0
    asked: Asked = Asked()

    @property
    def dev(self) -> tuple[EvaluationRecord, ...]:
        """Evaluations on the split that decisions may look at, oldest first."""
        return tuple(e for e in self.evaluations if e.split == "dev")


@dataclass(frozen=True, slots=True)
class History:
    """The whole record of a run, of its steps only what a review tells.

    Of the live steps in order: ``rewards`` by step, ``buckets`` over all, and all metrics of the ``newest``.
    ``evaluations`` has those of the present era, ``answers`` what they found on the test split (1 or 0 by prompt id, by
    step), ``samples`` the fixed prompts, ``continued`` how many decisions were to continue, ``asked`` what an LLM took.
    """

    run: RunRecord
    alive: bool
    manifest: Mapping[str, Any]
    forecast: Mapping[str, Any]
    knobs: Knobs
    pins: tuple[str, ...]
    steps_taken: int
    era_start: int
    eras: tuple[Mapping[str, Any], ...]
    rewards: Mapping[int, float]
    buckets: Mapping[str, tuple[Bucket, ...]]
    newest: tuple[Metrics, ...]
    evaluations: tuple[EvaluationRecord, ...]
    answers: Mapping[int, Mapping[str, int]]
    decisions: tuple[DecisionRecord, ...]
    continued: int
    events: tuple[EventRecord, ...]
    samples: tuple[SampleRecord, ...]
    checkpoints: tuple[CheckpointRecord, ...]
    asked: Asked


@dataclass(frozen=True, slots=True)
class Course:
    """What only the plotted report tells of a run, beside its History.

    ``oldest`` are the metrics of the first live steps, ``knobs`` those in force from a live step on, ``seconds`` the
    sums of the ``time/`` metrics over all steps ever taken. ``groups`` are (step, prompt id, label, completions that
    were correct, completions that were judged) of every ``every``-th step, so that a long run is read in bounded time.
    """

    spec: Mapping[str, Any]
    oldest: tuple[Metrics, ...]
    knobs: tuple[tuple[int, Knobs], ...]
    seconds: Mapping[str, float]
    groups: tuple[tuple[int, str, str, int, int], ...]
    every: int


# ---------------------------------------------------------------- what a decision rests on


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault that a detector sees in steps ``first`` to ``last``. ``confidence`` in [0, 1]; what had too few steps to
    be judged is a Finding of its own with severity ``unknown``."""

    kind: str
    severity: Literal["unknown", "note", "warning", "severe"]
    evidence: str
    confidence: float
    first: int
    last: int


EffectVerdict = Literal["helped", "hurt", "unclear"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a change did: of the decision with this id, in words with numbers, and the decision that undoes it, if it
    is to be undone."""

    decision_id: int
    verdict: EffectVerdict
    measured: str
    revert: Decision | None = None


# ---------------------------------------------------------------- the rooms, as their callers see them


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
        decisions: Sequence[tuple[Decision, Mapping[str, Any], str | None]],
        *,
        verdicts: Sequence[Verdict] = (),
        knobs: Knobs,
        pins: Sequence[str],
        policy: str,
        status: Status,
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
        hashes: Mapping[str, str] | None = None,
    ) -> None: ...

    def record_evaluation(self, run_id: int, step: int, evaluation: Evaluation) -> None: ...

    def has_evaluation(self, run_id: int, step: int, split: str) -> bool: ...

    def record_samples(self, run_id: int, step: int, samples: Sequence[SampleRecord]) -> None: ...

    def load_answers(self, run_id: int, step: int, split: str) -> Mapping[str, int]: ...
    def was_taken(self, run_id: int, step: int) -> bool: ...
    def has_closed_branch(self, run_id: int, began: int) -> bool: ...

    def load_drawn(self, run_id: int, step: int) -> list[str]: ...

    def has_samples(self, run_id: int, step: int) -> bool: ...

    def record_checkpoint(self, run_id: int, checkpoint: CheckpointRecord, hashes: Mapping[str, str]) -> None: ...

    def drop_checkpoint(self, run_id: int, step: int) -> None: ...

    def load_checkpoints(self, run_id: int) -> list[tuple[CheckpointRecord, dict[str, str]]]: ...

    def best_step(self, run_id: int) -> int | None: ...

    def record_event(self, run_id: int, step: int, level: str, text: str) -> None: ...

    def supersede_after(self, run_id: int, step: int, weights_step: int, *, live: Sequence[int]) -> None: ...

    def roll_back(self, run_id: int, step: int, *, live: Sequence[int]) -> None: ...

    def load_ancestors(self, run_id: int, step: int) -> list[int]: ...

    def load_waiting(self, run_id: int) -> list[Command]: ...

    def finish_command(self, command_id: int, state: str, result: str) -> None: ...

    def end_run(self, run_id: int, status: Status, reason: str, wall_s: float) -> None: ...
