"""The Protocols between session, controller and the parts they drive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypedDict, TypeVar, Unpack

from harness.types.data import Evaluation, Example, Group, Metrics, More, Progress, Prompt, Score, StepOutcome
from harness.types.decisions import CheckedDecision, Decision, Knobs, Verdict
from harness.types.records import (
    CheckpointRecord,
    CommandRecord,
    InForce,
    RunDetails,
    RunRecord,
    SampleRecord,
    Snapshot,
    Status,
    StepRecord,
)

R = TypeVar("R")


class DecisionPolicy(Protocol):
    """Decides what happens before each step. ``kind`` is its name in specs and records; ``repeats`` says that it
    replays a log, whose reverts are among its decisions."""

    kind: str
    repeats: bool

    def decide(self, snapshot: Snapshot) -> Decision | Sequence[Decision]:
        """Take one decision from what was recorded; several only to replay a boundary that several user actions shared.

        It depends on ``snapshot`` alone (an LLM's answer aside): it reads no clock, draws no random number and changes
        nothing. It may raise anything; the controller then continues without a change and records that it failed.
        """


class EffectJudge(Protocol):
    """Judges what earlier changes did."""

    def judge(self, snapshot: Snapshot) -> tuple[Verdict, ...]:
        """Return a verdict on each recorded change that can be judged by now and was not yet. Pure, and allowed to
        raise as ``DecisionPolicy.decide`` is."""


class Scorer(Protocol):
    """A reward. ``range`` holds its lowest and highest value.

    One with an attribute ``takes_ids`` that is true is also given the token ids of the completions, as ``score``'s
    third argument (harness.models.evaluate.judge).
    """

    range: tuple[float, float]

    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Score]:
        """Score ``completions[i]`` as an answer to ``prompts[i]``: one Score each, in order, its reward in ``range``.

        Never raises: a failure of the verifier is a Score whose ``reward`` is None and whose ``error`` says why.
        """


class Aim(TypedDict):
    """What a draw is for: prompts with a pass rate near ``focus`` (in [0, 1], None leaves it to the sampler), each for
    ``group_size`` completions."""

    focus: float | None
    group_size: int


class Pool(Protocol):
    """The train prompts with what is known of each. Its methods are pure functions of their arguments and that history,
    which ``record`` and ``load_state`` alone change. A prompt of another pool is a KeyError."""

    def draw(self, n: int, *, seed: int, focus: float | None, group_size: int) -> list[Prompt]:
        """Draw at most ``n`` distinct prompts for an Aim of ``focus`` and ``group_size``; fewer from a small pool."""

    def top_up(
        self, groups: Sequence[Group], n: int, *, seed: int, focus: float | None, group_size: int
    ) -> list[Prompt]:
        """Draw further prompts, none of those in ``groups``, for a step that is to have ``n`` mixed groups; an empty
        list ends the rollout."""

    def find(self, prompt_ids: Sequence[str]) -> list[Prompt]:
        """Return the prompts with these ids, in their order; unknown ids are left out."""

    def outlook(self, drawn: Sequence[Prompt], group_size: int) -> Metrics:
        """Compute the ``pool/`` metrics of the ``drawn`` prompts from the history before their step."""

    def expected_rewards(self, prompts: Sequence[Prompt]) -> Mapping[str, float]:
        """Return the expected mean reward of each prompt by id; 0 for one that was never drawn."""

    def record(self, groups: Sequence[Group]) -> None:
        """Add the groups of one step to the history; errored completions do not count."""

    def state(self) -> dict[str, Any]:
        """Return the history as plain JSON, exact to the last bit."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Replace the history by what ``state`` returned, in this version or an earlier one."""


class Trainer(Protocol):
    """Holds model and optimizer in memory; nobody else changes them."""

    def schedule_factor(self, step: int) -> float:
        """Return the learning-rate schedule at ``step`` (1 is the first) as a factor of the hyperparameter."""

    def step(
        self,
        prompts: Sequence[Prompt],
        knobs: Knobs,
        *,
        learning_rate: float,
        seed: int,
        progress: Progress,
        more: More,
    ) -> StepOutcome:
        """Roll out ``knobs.group_size`` completions of each prompt, and of those that ``more`` adds, score them, and
        take one optimizer step at ``learning_rate`` (``knobs.learning_rate`` times the schedule).

        Weights, optimizer, arguments and ``seed`` determine the outcome. The outcome has a group for each prompt, in
        order. An update that is not finite is discarded or reported as ``fault`` and ``lost``, not raised. Raises
        Diverged when the model cannot be sampled, RunFailed when memory does not suffice; then no step was taken.
        """

    def save(self, folder: Path) -> None:
        """Write weights, tokenizer and optimizer into the existing ``folder``. A fault of the disk passes as raised."""

    def load(self, folder: Path) -> None:
        """Replace weights and optimizer in memory by those that ``save`` wrote; the next step is the same, bit for bit.
        The caller has checked that the folder is intact."""


class Evaluator(Protocol):
    """Measures the model in memory with generation settings that no knob changes; it leaves the model as it is."""

    def evaluate(self, split: str, *, seed: int, progress: Progress) -> Evaluation:
        """Generate and score one completion of each prompt of ``split``, or as many as the spec says. Raises Diverged
        when the model's outputs are not finite, KeyError for an unknown split."""

    def sample(self, *, seed: int, progress: Progress) -> list[Example]:
        """Generate and score one completion of each sample prompt, the same few of dev each time. Raises Diverged."""


class NewRun(TypedDict):
    """Columns of a run that begins; ``spec`` and ``manifest`` are plain JSON."""

    name: str
    seed: int
    policy: str
    spec: Mapping[str, Any]
    manifest: Mapping[str, Any]
    folder: str
    knobs: Knobs
    bounds: Mapping[str, tuple[float, float]]
    graded: bool | None


class Store(Protocol):
    """The record of runs: what a run writes and reads while it is driven. ``harness.store.writer`` has it in SQLite.

    What follows holds for every method that does not say otherwise.

    Atomicity: a call is one transaction. Once it returns, all it wrote survives a kill; if it raises, nothing was
    written. A read sees one state of the database, between two writes.

    Callers: a method that writes is for the process that drives the run alone (it created or last adopted it), any of
    its threads. A method that reads is for every process, at any time, and never holds up a writer.

    Errors: StoreUnavailable when the database is locked, full or out of reach. In the process that drives a run it is
    raised only after Ctrl-C, since the run waits and tries again. An unknown ``run_id`` is a programming error.

    Time and host are the store's to record: no method takes a clock. A number that is not finite is stored as null in
    metrics; in every other document it is a ValueError.
    """

    def patiently(self, attempt: Callable[[], R]) -> R:
        """Return what ``attempt`` returns, calling it again while it raises StoreUnavailable. It is no transaction: for
        several reads, or for a file beside the database. ``attempt`` must bear being repeated."""

    # ------------------------------------------------------------ runs

    def create_run(self, **run: Unpack[NewRun]) -> int:
        """Write a new run, status running, which this process drives from now on. Any process. Returns its id. Raises
        InputError when the name is taken."""

    def adopt_run(
        self, /, run_id: int, *, era: Mapping[str, Any] | None = None, restarted: bool = False, **values: Any
    ) -> None:
        """Make this process the one that drives the run, set columns to ``values`` and, if given, begin an ``era``
        (``weights_step`` and ``changes``): evaluations from that step on are deleted, and steps are numbered on after
        the highest that was ever decided for.

        Any process. Waiting user actions about the old process expire, with an event for each; a stop does not where a
        supervisor ``restarted`` the process. Raises InputError when a living process drives the run: of two that adopt
        at once exactly one succeeds.
        """

    def find_run(self, name: str) -> RunRecord:
        """Read a run by name, or the newest: of all by ``latest``, of a group by its name. Raises InputError when there
        is none."""

    def load_run(self, run_id: int) -> RunDetails:
        """Read a run with its documents, which ``find_run`` leaves out."""

    def update_run(self, /, run_id: int, **values: Any) -> None:
        """Set columns of a run, e.g. ``knobs``, ``forecast`` or ``last_step``; documents are given as plain JSON."""

    def beat(self, run_id: int, phase: str, done: int, total: int, wall_s: float) -> None:
        """Write a heartbeat: ``done`` of ``total`` in ``phase``, and ``wall_s`` seconds driven so far. Raises nothing:
        a heartbeat that cannot be written at once is dropped."""

    def end_run(self, run_id: int, status: Status, reason: str, wall_s: float) -> None:
        """Write how and why the run ended. User actions that still wait expire, with an event for each."""

    def record_event(self, run_id: int, step: int, level: str, text: str) -> None:
        """Add an event of ``level`` info, warning, error or critical. Snapshots show those of level error."""

    # ------------------------------------------------------------ commit 1: decisions, before acting

    def record_decisions(
        self,
        run_id: int,
        step: int,
        decisions: Sequence[CheckedDecision],
        in_force: InForce,
        *,
        verdicts: Sequence[Verdict] = (),
    ) -> None:
        """Write the ``decisions`` for ``step`` in order, the ``verdicts`` on earlier decisions that they rest on, the
        user actions they consume (now taken or refused), and the settings ``in_force`` from here on.

        Without decisions only the settings are written: a resume applies again what is on record.
        """

    def refuse_decision(self, run_id: int, step: int, decision: Decision, why: str) -> None:
        """Mark a recorded decision as refused after all: it turned out impossible, e.g. for a damaged checkpoint."""

    def load_decisions_at(self, run_id: int, step: int) -> list[Decision]:
        """Read what was decided for ``step``, in order, refused decisions too."""

    def load_waiting(self, run_id: int) -> list[CommandRecord]:
        """Read the user actions that no boundary has taken yet, in the order asked."""

    def finish_command(self, command_id: int, state: str, result: str) -> None:
        """Answer a user action that was taken: ``state`` is applied or refused, ``result`` what its user is told."""

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
    ) -> None:
        """Write a live step with its groups, samples, share of the buckets and, if given, the checkpoint of its
        weights, whose folder is complete on disk already. It is the run's last step and its weights step from here on;
        the call is a heartbeat too. ``wall_s`` are seconds driven so far."""

    def was_taken(self, run_id: int, step: int) -> bool:
        """Tell whether a step of that number was ever recorded, whether or not it is live."""

    def load_drawn(self, run_id: int, step: int) -> list[str]:
        """Read the ids of the prompts that a step drew, in order; empty when there is no such step."""

    def load_signal(self, run_id: int, steps: range) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Read of the groups of ``steps``, by place of the step among them and prompt id: 1 where a group was mixed,
        else 0; and its mean reward. Groups without a judged completion are left out."""

    # ------------------------------------------------------------ evaluations and samples

    def record_evaluation(self, run_id: int, step: int, evaluation: Evaluation, *, graded: bool = False) -> None:
        """Write an evaluation of the weights of ``step``, in place of an earlier one of the same split, and what the
        run's evaluations are judged by: accuracy, or where the reward is ``graded`` the mean reward."""

    def has_evaluation(self, run_id: int, step: int, split: str) -> bool: ...

    def load_answers(self, run_id: int, step: int, split: str) -> Mapping[str, float]:
        """Read the score of each prompt, by id, in the evaluation of ``split`` at ``step``: the share of its
        completions that is correct (1 or 0 where it has one), or their mean reward where the run is graded. Errored
        completions are left out; empty when there was no evaluation."""

    def best_step(self, run_id: int) -> int | None:
        """Read the step with the highest dev score of the era, of equal ones that with the higher mean reward, then the
        earliest; None before the first."""

    def record_samples(self, run_id: int, step: int, samples: Sequence[SampleRecord]) -> None:
        """Write the completions of the sample prompts by the weights of ``step``, in place of earlier ones."""

    def has_samples(self, run_id: int, step: int) -> bool: ...

    # ------------------------------------------------------------ checkpoints

    def record_checkpoint(self, run_id: int, checkpoint: CheckpointRecord) -> None:
        """Write a checkpoint whose folder is complete on disk, in place of an earlier one of its step."""

    def drop_checkpoint(self, run_id: int, step: int) -> None:
        """Delete the record of a checkpoint; its folder is deleted afterwards, so no record names a missing folder."""

    def load_checkpoints(self, run_id: int) -> list[CheckpointRecord]:
        """Read the checkpoints, the lowest step first."""

    # ------------------------------------------------------------ going back

    def supersede_after(self, run_id: int, step: int, weights_step: int, *, live: Sequence[int]) -> None:
        """Resume at ``step``: later steps are superseded, as they will be taken again, and their evaluations, samples
        and checkpoints deleted; their decisions stay, to be applied again. Of the other steps exactly ``live`` are
        live, and the weights are those of ``weights_step``. ``step`` -1 begins anew."""

    def roll_back(self, run_id: int, step: int, *, live: Sequence[int]) -> None:
        """Write that the weights are those of ``step`` again: of the steps not superseded exactly ``live`` are live,
        the others rolled back. Nothing is deleted."""

    def load_ancestors(self, run_id: int, step: int) -> list[int]:
        """Read ``step`` and the steps its weights came through, newest first; superseded ones do not count."""

    def load_rollback_targets(self, run_id: int) -> set[int]:
        """Read the steps whose weights the run ever went back to."""

    def has_closed_branch(self, run_id: int, began: int) -> bool:
        """Tell whether a branch that began after step ``began`` was brought to its end."""
