"""Hold model, optimizer, hyperparameters and pool, driven by ask and tell.

    snapshot = session.ask()        look if a look is due, then show what is known
    session.tell(decision, ...)     commit 1 -> act -> one step -> commit 2

Commit 1 (decisions, consumed commands) comes before acting, so a crash replays what was decided instead of
deciding anew. The checkpoint folder is on disk before commit 2 (the step with its groups) names it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.core.branch import open_branch
from harness.core.knobs import describe
from harness.core.liveness import was_restarted
from harness.core.seeds import derive_seed
from harness.core.step_metrics import (
    compute_signal,
    describe_broken_reward,
    describe_step,
    is_graded,
    select_samples,
    to_sample,
)
from harness.errors import Diverged, Refused, RunFailed
from harness.run.checkpoints import Checkpoints, read_state
from harness.run.state import Settings, State, apply_decision
from harness.types import (
    Action,
    Aim,
    CheckedDecision,
    CheckpointRecord,
    Decision,
    Evaluator,
    KnobValue,
    More,
    Pool,
    Progress,
    Prompt,
    Snapshot,
    Status,
    StepOutcome,
    StepRecord,
    Store,
    Trainer,
    Verdict,
    no_more,
)
from pools.demonstrations import Demonstrations

log = logging.getLogger("grpo")
RESTORES_IN_A_ROW = 3
"""How often lost weights are restored without a sound step in between before the run fails."""


@dataclass(kw_only=True)
class Session:
    """Hold model, optimizer, knobs and pool of a run and change them by verbs, each of which records itself.

    ``ask`` and ``tell`` are for whoever decides; evaluate, sample, save, rollback and branch may be called at a
    boundary, between two steps. ``wall_s`` tells how long the run was driven, over all its processes. ``graded`` says
    that evaluations are judged by mean reward; unset, the first one decides, for the whole era. A run of kind sft
    learns from ``demonstrations`` instead of the pool; ``early`` says that it was ``stopped`` as dev gains no more, an
    end as good as that of its budget.
    """

    store: Store
    run_id: int
    checkpoints: Checkpoints
    trainer: Trainer
    pool: Pool
    evaluator: Evaluator
    settings: Settings
    state: State
    snapshot: Callable[[], Snapshot]
    progress: Progress
    wall_s: Callable[[], float]
    graded: bool | None = None
    demonstrations: Demonstrations | None = None
    stopped: str | None = None
    early: bool = False
    _lost_in_a_row: int = 0

    # ------------------------------------------------------------ ask and tell

    def ask(self) -> Snapshot:
        """Take the looks that are due at this boundary, then show the run."""
        try:
            self.look()
        except Diverged as error:
            self._restore(str(error))
        return self.snapshot()

    def tell(
        self, *decisions: Decision, logged: bool = False, verdicts: Sequence[Verdict] = (), take_step: bool = True
    ) -> None:
        """Carry out the decisions for the next step, then take it unless paused or stopped. Paused, ``step`` takes one.

        ``logged`` decisions come from the record (a resume) and are applied verbatim, without a second row. The
        ``verdicts`` on earlier ones are recorded with them. Raises RunFailed when the reward is broken.
        """
        step, once = self.state.last_step + 1, False
        for turn in _take_turns(decisions):
            judged: list[CheckedDecision] = []
            for decision in turn:
                try:
                    judged.append(CheckedDecision(decision, apply_decision(self.state, decision, self.settings)))
                except Refused as refusal:
                    judged.append(CheckedDecision(decision, refused=str(refusal)))
            new = [] if logged else judged
            self.store.record_decisions(self.run_id, step, new, self.state.in_force(), verdicts=verdicts)
            verdicts = ()
            for checked in judged:
                decision, refused = checked.decision, checked.refused
                if decision.action.kind != "continue":
                    what = describe(decision.action) + (f" refused: {refused}" if refused else "")
                    log.info("step=%d decision by %s: %s | %s", step, decision.source, what, decision.evidence)
                if refused is None:
                    self._carry_out(decision, step)
                    once = once or decision.action.kind == "step"
        if take_step and (once or not self.state.paused) and self.stopped is None:
            self._step(step)

    def _carry_out(self, decision: Decision, step: int) -> None:
        """Do the verbs that touch the model, and answer a person who waits for it."""
        action, state, answer = decision.action, "applied", describe(decision.action)
        try:
            match action.kind:
                case "evaluate":
                    answer = self.evaluate("dev")
                case "sample":
                    answer = f"{self.sample()} samples taken; grpo review shows them"
                case "save":
                    answer = f"saved to {self.save(str(action.argument or '')).path}"
                case "rollback":
                    back = self.rollback(action.argument, action.changes)
                    answer = f"back to the weights, optimizer and hyperparameters of step {back}"
                    self.state.branch = None
                case "branch":
                    answer = self.branch(action)
                case "stop":
                    self.save()
                    self.early = self.settings.spec.kind == "sft" and decision.source == "rules"
                    self.stopped = decision.evidence or f"stopped by {decision.source}"
        except (Refused, Diverged) as refusal:
            state, answer = "refused", str(refusal)
            if isinstance(refusal, Diverged):
                self._restore(answer)
            self.store.refuse_decision(self.run_id, step, decision, answer)
            self.note("warning", f"{action.kind} refused: {refusal}")
        if decision.command_id is not None:
            self.store.finish_command(decision.command_id, state, answer)

    # ------------------------------------------------------------ verbs

    def evaluate(self, split: str) -> str:
        """Measure the weights in memory on a split and record it. The best on dev so far are saved. Return the scores
        in words."""
        seed = derive_seed(self.settings.spec.seed, "evaluate", split)
        evaluation = self.evaluator.evaluate(split, seed=seed, progress=self.progress)
        if self.graded is None:
            self.graded = is_graded([example.completion.score for example in evaluation.examples])
            if self.graded:
                self.note("info", "none of these answers is fully right: evaluations are judged by mean reward")
        self.store.record_evaluation(self.run_id, self.state.weights_step, evaluation, graded=self.graded)
        said = evaluation.describe(graded=self.graded)
        log.info("step=%d %s", self.state.weights_step, said)
        if evaluation.errors:
            many = f"{len(evaluation.errors)} of {len(evaluation.examples)}"
            self.note("warning", f"the reward failed on {many} of {split}, the first time with {evaluation.errors[0]}")
        if split == "dev" and self.store.best_step(self.run_id) == self.state.weights_step:
            self.checkpoints.link_best(self.save(), evaluation.judge(graded=self.graded)[0])
        return said

    def sample(self) -> int:
        """Record completions of the fixed sample prompts for people. Return their number."""
        step = self.state.weights_step
        seed = derive_seed(self.settings.spec.seed, "sample")
        examples = self.evaluator.sample(seed=seed, progress=self.progress)
        samples = [to_sample(step, "fixed", example.prompt, example.completion) for example in examples]
        self.store.record_samples(self.run_id, step, samples)
        return len(samples)

    def save(self, name: str = "") -> CheckpointRecord:
        """Save a checkpoint of the weights in memory. One that exists for them already only gets the name."""
        for checkpoint in self.store.load_checkpoints(self.run_id):
            if checkpoint.step == self.state.weights_step:
                named = replace(checkpoint, name=name or checkpoint.name)
                if named != checkpoint:
                    self.store.record_checkpoint(self.run_id, named)
                return named
        checkpoint = self.write_checkpoint(name)
        self.store.record_checkpoint(self.run_id, checkpoint)
        self.checkpoints.prune(self.state.held())
        return checkpoint

    def rollback(self, target: str | int | None, changes: Mapping[str, KnobValue], *, pool: bool = False) -> int:
        """Restore weights, optimizer, knobs (but for ``changes``) of a checkpoint, and if asked what the ``pool`` knew
        then; the rest stays. Return its step. Raises Refused."""
        checkpoint = self.checkpoints.find(target)
        saved = read_state(Path(checkpoint.path))
        self.trainer.load(Path(checkpoint.path))
        self.state.restore_knobs(saved, changes)
        if pool:
            self._recall_pool(saved)
        self.state.weights_step = checkpoint.step
        self.store.roll_back(self.run_id, checkpoint.step, live=self.store.load_ancestors(self.run_id, checkpoint.step))
        self.store.update_run(self.run_id, knobs=asdict(self.state.knobs))
        self.note("info", f"rolled back to step {checkpoint.step}")
        return checkpoint.step

    def branch(self, action: Action) -> str:
        """Open a branch at the weights in memory; with one open, go on to its next arm or to what is kept of it."""
        state = self.state
        if state.branch is None:
            start = self.save()
            if start.step != state.last_step:  # all arms begin with what the pool knew then
                self._recall_pool(read_state(Path(start.path)))
            state.branch = open_branch(action, start=start.step, last_step=state.last_step, knobs=state.knobs)
            return f"a branch from step {start.step}; its arms end with step {state.branch.last}"
        branch = state.branch.finish(state.weights_step, state.last_step)
        target, arm = branch.target(action)
        self.rollback(target, branch.knobs_of(arm), pool=True)
        state.branch = branch if branch.arm < len(branch.arms) else None
        return f"{branch.name(arm)} from step {target}"

    def _recall_pool(self, saved: Mapping[str, Any]) -> None:
        """Restore what the pool knew at a checkpoint; of an earlier era nothing, since it was judged differently."""
        if saved["era"] == self.settings.era:
            self.pool.load_state(saved["pool"])

    # ------------------------------------------------------------ the step

    def _step(self, step: int) -> None:
        spec, state, knobs = self.settings.spec, self.state, self.state.knobs
        counts_as = state.branch.counts_as(step) if state.branch else step
        learning_rate = knobs.learning_rate * self.trainer.schedule_factor(counts_as)
        prompts, more = self._draw(counts_as)
        try:
            outcome = self.trainer.step(
                prompts,
                knobs,
                learning_rate=learning_rate,
                seed=derive_seed(spec.seed, counts_as, 0, "step"),
                progress=self.progress,
                more=more,
            )
        except Diverged as error:  # no step came of this number, and it does not return
            state.last_step = step
            self.store.update_run(self.run_id, last_step=step)
            self._restore(str(error))
            return
        metrics = {**self._measure(outcome, counts_as), "learning_rate": learning_rate}
        record = StepRecord(step, state.weights_step, knobs, metrics)
        state.last_step = state.weights_step = step
        broken = metrics.get("completion/errored_rate", 0.0) > spec.reward.errored_limit
        due = step % spec.checkpoint.every == 0 or step in self.checkpoints.wanted
        checkpoint = self.write_checkpoint() if due and not broken and not outcome.lost else None
        samples = select_samples(outcome.groups, step, spec.sample.per_step)
        self.store.record_step(
            self.run_id, record, outcome.groups, samples, reward_range=spec.reward.range, wall_s=self.wall_s(),
            checkpoint=checkpoint,
        )  # fmt: skip
        log.info("step=%d %s", step, describe_step(metrics))
        for note in outcome.notes:
            self.note("warning", note)
        if outcome.fault:
            self.note("error", outcome.fault)
        if checkpoint is not None:
            self.checkpoints.prune(self.state.held())
        if broken:
            raise RunFailed(describe_broken_reward(outcome.groups, step, spec.reward.errored_limit))
        if outcome.lost:
            self._restore(outcome.fault)
        else:
            self._lost_in_a_row = 0

    def _draw(self, step: int) -> tuple[list[Prompt], More]:
        """Draw the prompts of a step, and how it gets more; in the later arms of a branch what the first one drew."""
        if self.demonstrations is not None:
            return self.demonstrations.draw(step), no_more
        knobs, branch = self.state.knobs, self.state.branch
        if branch is not None and branch.draws_alike():
            drawn = self.pool.find(self.store.load_drawn(self.run_id, step))
            if drawn:
                return drawn, no_more
        n, aim = knobs.prompts_per_step, Aim(focus=knobs.focus, group_size=knobs.group_size)
        seed = partial(derive_seed, self.settings.spec.seed, step)
        drawn = self.pool.draw(n, seed=seed(0, "draw"), **aim)
        return drawn, lambda groups: self.pool.top_up(groups, n, seed=seed(len(groups), "draw"), **aim)

    def _measure(self, outcome: StepOutcome, step: int) -> dict[str, float]:
        """Compute the metrics of a step, and let the pool know what came of its prompts."""
        if self.demonstrations is not None:
            return {**outcome.metrics, "epoch": self.demonstrations.epoch(step)}
        drawn = [group.prompt for group in outcome.groups]
        metrics = compute_signal(outcome.groups, self.settings.spec.reward.range, self.pool.expected_rewards(drawn))
        metrics |= {**outcome.metrics, **self.pool.outlook(drawn, self.state.knobs.group_size)}
        self.pool.record(outcome.groups)
        return metrics

    def _restore(self, why: str) -> None:
        """Restore the newest checkpoint that the weights in memory, which are of no use, came through. Raises RunFailed
        when that has not helped: the decision policy had its turn after each time."""
        if self.state.branch is None:
            self._lost_in_a_row += 1
        else:  # to know that is what the arm was tried for
            self.state.branch = replace(self.state.branch, lost=True)
        newest = self.checkpoints.find_newest_behind(self.state.weights_step, itself=False)
        if newest is None or self._lost_in_a_row > RESTORES_IN_A_ROW:
            raise RunFailed(f"{why}, and going back did not help: lower knobs.learning_rate or trainer.max_grad_norm")
        self.note("error", f"{why}: going back to the checkpoint of step {newest.step}")
        self.rollback(newest.step, {})

    def resume_at(self, checkpoint: CheckpointRecord) -> None:
        """Load a checkpoint of this run; what came after it will be taken again."""
        saved = read_state(Path(checkpoint.path))
        self.trainer.load(Path(checkpoint.path))
        self.state.load_json(saved)
        self._recall_pool(saved)
        if saved["era"] != self.settings.era:  # an era begins here: what a branch compares was judged differently
            self.state.last_step = self.settings.era_last_step
            branch = self.state.branch
            if branch is not None and not self.store.has_closed_branch(self.run_id, branch.began):
                self.state.restore_knobs({"knobs": branch.knobs_of(0)}, {})
                self.note("warning", f"the branch from step {branch.start} is given up: a new era began in it")
            self.state.branch = None
        last, weights = self.state.last_step, self.state.weights_step
        self.store.supersede_after(self.run_id, last, weights, live=self.store.load_ancestors(self.run_id, weights))
        read = self.snapshot().asked.proposal and not was_restarted()
        answer = Decision(Action("resume"), "manual", "the run was resumed, so its proposal was read")
        self.store.record_decisions(self.run_id, last, [CheckedDecision(answer)] if read else [], self.state.in_force())
        self.note("info", f"resumed at step {last}")

    def finish(self, status: Status, reason: str) -> None:
        """Record how the run ended."""
        self.store.end_run(self.run_id, status, reason, self.wall_s())
        self.note("critical" if status == "failed" else "info", f"{status}: {reason}")

    # ------------------------------------------------------------ looks

    def look(self) -> None:
        """Measure dev and take samples every so many steps, test before the first. What is recorded is not redone."""
        step = self.state.weights_step
        first = step == self.settings.era_start
        if step != self.state.last_step and not first:
            return  # just rolled back: these weights were looked at in their own time
        branch = self.state.branch
        arm_ends = branch is not None and not first and branch.is_over(step)
        due = ["dev"] if first or arm_ends or step % self.settings.spec.evaluate.every == 0 else []
        for split in [*due, "test"] if first else due:
            if not self.store.has_evaluation(self.run_id, step, split):
                self.evaluate(split)
        if step % self.settings.spec.sample.every == 0 and not self.store.has_samples(self.run_id, step):
            self.sample()
        if first or arm_ends:
            self.save()

    def write_checkpoint(self, name: str = "") -> CheckpointRecord:
        self.progress("saving", 0, 1)
        state = {**self.state.to_json(), "pool": self.pool.state(), "era": self.settings.era}
        return self.checkpoints.write(self.state.weights_step, state, self.trainer.save, name=name)

    def note(self, level: str, text: str) -> None:
        log.log(logging.getLevelNamesMapping()[level.upper()], "step=%d %s", self.state.last_step, text)
        self.store.record_event(self.run_id, self.state.last_step, level, text)


def _take_turns(decisions: Sequence[Decision]) -> list[list[Decision]]:
    """Cut the decisions, in order, after each that goes to other weights: what follows it is judged by the knobs, and
    by the open branch or none, that it leaves."""
    turns: list[list[Decision]] = [[]]
    for decision in decisions:
        turns[-1].append(decision)
        if decision.action.kind in ("rollback", "branch"):
            turns.append([])
    return [turn for turn in turns if turn] or [[]]
