"""Rows of a run's record as their readers see them. A snapshot is bounded; a history is the whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.types.data import Metrics, PassAt
from harness.types.decisions import Action, ActionKind, Knobs, KnobValue, Source

Status = Literal["running", "paused", "finished", "stopped", "failed"]


RunKind = Literal["grpo", "sft"]
"""What a run does in its steps: GRPO, or supervised fine-tuning on demonstrations."""


ENDED: frozenset[Status] = frozenset({"finished", "stopped", "failed"})


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
    says why it was not carried out. What asking an LLM took and came to is as in Decision. Of a person's action:
    ``who`` asked, ``asked_at`` when, and the ``result`` they were told; the note is its evidence."""

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
    llm_failure: str = ""

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
    """A recorded evaluation, without its examples. ``score`` is what it is judged by, with its 95% interval: the mean
    ``reward`` where the reward is graded, else the ``accuracy``. ``tie`` decides between equal scores: the mean
    reward, 0 where that was not asked yet (runs of older versions); where there is a ``loss`` on demonstrations, that
    with its sign changed. ``pass_at`` is as in Evaluation."""

    step: int
    split: str
    n: int
    accuracy: float
    ci95: tuple[float, float]
    reward: float
    score: float
    tie: float = 0.0
    pass_at: tuple[PassAt, ...] = ()
    loss: float | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """What the best evaluation has most of; of equal ones the earliest is the best."""
        return self.score, self.tie


@dataclass(frozen=True, slots=True)
class PairedLook:
    """The newest look at dev (of step ``after``) against an earlier one on the same ``n`` prompts: on how many it was
    better (``gained``) and worse (``lost``), the mean ``difference`` in score with its standard error and 95% interval,
    and how likely such a rise or such a fall is by chance, one-sided (harness.core.statistics)."""

    before: int
    after: int
    n: int
    gained: int
    lost: int
    difference: float
    se: float
    ci95: tuple[float, float]
    p_rose: float
    p_fell: float


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """A checkpoint folder at ``path``. ``name`` is "" for a periodic one; ``best`` says that the dev score of its
    step is the highest of the era; ``hashes`` maps the folder's files, by relative path, to their SHA-256."""

    step: int
    name: str
    path: str
    best: bool
    hashes: Mapping[str, str] = field(default_factory=dict)


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
class SeenGroup:
    """A recorded group: ``correct`` of ``judged`` completions; errored ones are not judged. ``mixed``: their rewards
    differ, so it had signal."""

    step: int
    prompt_id: str
    label: str
    correct: int
    judged: int
    mixed: bool


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

    ``process`` and ``heartbeat_boot`` tell whether it lives and how long ago that was (harness.core.paths). ``graded``
    says that evaluations are judged by mean reward and not by accuracy, None before that is known;
    ``kind``, ``reward_range`` and the budgets are the spec's.
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
    reward_range: tuple[float, float] = (0.0, 1.0)
    last_step: int = 0
    process: str = ""
    heartbeat_boot: float = 0.0
    supervisor: str = ""
    graded: bool | None = None
    kind: RunKind = "grpo"

    @property
    def measure(self) -> str:
        """What evaluations are judged by, as people are told it."""
        return "reward" if self.graded else "accuracy"

    @property
    def ended(self) -> bool:
        """Whether it is over; one whose process is gone is not, it can be resumed."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetails(RunRecord):
    """A run with all that it is resumed from. ``spec`` and ``manifest`` are plain JSON, ``knobs`` those in force now,
    ``weights_step`` the step whose weights are. ``eras`` lists the changes of what is measured, oldest first: each has
    its ``weights_step``, its ``last_step`` (the highest number of the era before) and its ``changes``."""

    spec: dict[str, Any]
    manifest: dict[str, Any]
    knobs: Knobs
    bounds: Mapping[str, tuple[float, float]]
    weights_step: int
    eras: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class OfferedRun:
    """A run as a shell's completion offers it: all that databases of every version have."""

    name: str
    status: str
    last_step: int


@dataclass(frozen=True, slots=True)
class InForce:
    """Settings of a run from a boundary on: ``knobs``, the ``pins`` among them, ``policy`` (kind) and ``status``."""

    knobs: Knobs
    pins: frozenset[str]
    policy: str
    status: Status


@dataclass(frozen=True, slots=True)
class Asked:
    """What asking an LLM came to over a run: how many ``times`` it had its turn, for which step it was asked ``last``
    (0: never).

    ``failed`` turns gave no decision: in ``unusable`` of them it answered, but not usably, in the others it did not.
    The newest ``failed_in_a_row`` failed, the first of them for step ``failing_since`` (0: the newest did not);
    ``last_failure`` is as Decision.llm_failure. ``proposal`` is the step before which it paused the run for a proposal
    that no person has acted on since (0: none).
    """

    times: int = 0
    last: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    failed: int = 0
    unusable: int = 0
    failed_in_a_row: int = 0
    failing_since: int = 0
    last_failure: str = ""
    proposal: int = 0


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
class Judged:
    """What a judge of a run took over all its processes: replies, requests that ``failed``, USD, median seconds of a
    reply."""

    replies: int
    failed: int
    cost_usd: float
    median_s: float


@dataclass(frozen=True, slots=True)
class History:
    """The whole record of a run, of its steps only what a review tells.

    Of the live steps in order: ``rewards`` by step, ``buckets`` over all, and all metrics of the ``newest``.
    ``evaluations`` has those of the present era, ``answers`` the scores of the test split (by prompt id, by step),
    ``counts`` how many completions of each of its prompts were correct and how many judged, where it had several,
    ``samples`` the fixed prompts, ``continued`` how many decisions were to continue, ``asked`` what an LLM took,
    ``judged`` by judge what is in its record, ``attempts`` of each prompt of the newest steps how
    many groups it had and how many with a right completion.
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
    answers: Mapping[int, Mapping[str, float]]
    decisions: tuple[DecisionRecord, ...]
    continued: int
    events: tuple[EventRecord, ...]
    samples: tuple[SampleRecord, ...]
    checkpoints: tuple[CheckpointRecord, ...]
    asked: Asked
    attempts: tuple[tuple[int, int], ...] = ()
    counts: Mapping[int, Mapping[str, tuple[int, int]]] = field(default_factory=dict)
    judged: Mapping[str, Judged] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Course:
    """What only the plotted report tells of a run, beside its History.

    ``oldest`` are the metrics of the first live steps, ``knobs`` those in force from a live step on, ``seconds`` the
    sums of the ``time/`` metrics (in s) over all steps ever taken. ``groups`` are of every ``every``-th step, so that
    a long run is read in bounded time.
    """

    spec: Mapping[str, Any]
    oldest: tuple[Metrics, ...]
    knobs: tuple[tuple[int, Knobs], ...]
    seconds: Mapping[str, float]
    groups: tuple[SeenGroup, ...]
    every: int
