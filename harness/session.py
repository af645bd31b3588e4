"""The one holder of model, optimizer, knobs and pool, driven by ask and tell.

    snapshot = session.ask()        look if a look is due, then show what is known
    session.tell(decision, ...)     commit 1 -> act -> one step -> commit 2

Commit 1 (decisions, consumed commands) comes before acting, so a crash replays what was decided instead of
deciding anew. The checkpoint folder is on disk before commit 2 (the step with its groups) names it.
Every act seeds itself from (run seed, step, purpose): nothing random is carried over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from harness.checkpoints import Checkpoints, read_state
from harness.errors import Diverged, Refused, RunFailed
from harness.knobs import describe
from harness.seeds import derive_seed
from harness.signal import compute_signal, describe_broken_reward, describe_step, select_samples, to_sample
from harness.state import Settings, State, apply_decision
from harness.types import (
    Aim,
    CheckpointRecord,
    Decision,
    Evaluation,
    Evaluator,
    KnobValue,
    Pool,
    Progress,
    Snapshot,
    Status,
    StepRecord,
    Store,
    Trainer,
    Verdict,
)

log = logging.getLogger("grpo")
RESTORES_IN_A_ROW = 3
"""How often lost weights are restored without a sound step in between before the run fails."""


@dataclass(kw_only=True)
class Session:
    """Verbs: step, sample, evaluate, save, rollback, stop. Each records itself."""

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
    wall_before_s: float = 0.0
    stopped: str | None = None
    _lost_in_a_row: int = 0
    _started: float = field(default_factory=time.monotonic)

    @property
    def wall_s(self) -> float:
        """Seconds this run was driven, over all its processes."""
        return self.wall_before_s + time.monotonic() - self._started

    # ------------------------------------------------------------ ask and tell

    def ask(self) -> Snapshot:
        """Take the looks that are due at this boundary, then show the run."""
        try:
            self._look()
        except Diverged as error:
            self._restore(str(error))
        return self.snapshot()

    def tell(self, *decisions: Decision, logged: bool = False, verdicts: Sequence[Verdict] = ()) -> None:
        """Carry out the decisions for the next step, then take it unless paused or stopped. Paused, ``step`` takes one.

        ``logged`` decisions come from the record (a resume) and are applied verbatim, without a second row. The
        ``verdicts`` on earlier ones are recorded with them. Raises RunFailed when the reward is broken.
        """
        step = self.state.last_step + 1
        judged: list[tuple[Decision, dict[str, dict[str, KnobValue]], str | None]] = []
        for decision in decisions:
            try:
                judged.append((decision, apply_decision(self.state, decision, self.settings), None))
            except Refused as refusal:
                judged.append((decision, {}, str(refusal)))
        new, in_force = [] if logged else judged, self.state.in_force()
        self.store.record_decisions(self.run_id, step, new, verdicts=verdicts, **in_force)
        for decision, _, refused in judged:
            if decision.action.kind != "continue":
                what = describe(decision.action) + (f" refused: {refused}" if refused else "")
                log.info("step=%d decision by %s: %s | %s", step, decision.source, what, decision.evidence)
            if refused is None:
                self._carry_out(decision, step)
        once = any(decision.action.kind == "step" and refused is None for decision, _, refused in judged)
        if (once or not self.state.paused) and self.stopped is None:
            self._step(step)

    def _carry_out(self, decision: Decision, step: int) -> None:
        """The verbs that touch the model, and the answer to a person who waits for it."""
        action, state, answer = decision.action, "applied", describe(decision.action)
        try:
            match action.kind:
                case "evaluate":
                    answer = self.evaluate("dev").text
                case "sample":
                    answer = f"{self.sample()} samples taken; grpo review shows them"
                case "save":
                    answer = f"saved to {self.save(str(action.argument or '')).path}"
                case "rollback":
                    back = self.rollback(action.argument, action.changes)
                    answer = f"back to the weights, optimizer and knobs of step {back}"
                case "stop":
                    self.save()
                    self.stopped = decision.evidence or f"stopped by {decision.source}"
        except (Refused, Diverged) as refusal:
            state, answer = "refused", str(refusal)
            if isinstance(refusal, Diverged):
                self._restore(answer)
            self.store.refuse_decision(self.run_id, step, decision, answer)
            self._note("warning", f"{action.kind} refused: {refusal}")
        if decision.command_id is not None:
            self.store.finish_command(decision.command_id, state, answer)

    # ------------------------------------------------------------ verbs

    def _step(self, step: int) -> None:
        settings, state, knobs = self.settings, self.state, self.state.knobs
        n, aim = knobs.prompts_per_step, Aim(focus=knobs.focus, group_size=knobs.group_size)
        seed = partial(derive_seed, settings.seed, step)
        learning_rate = knobs.learning_rate * self.trainer.schedule_factor(step)
        try:
            outcome = self.trainer.step(
                self.pool.draw(n, seed=seed(0, "draw"), **aim),
                knobs,
                learning_rate=learning_rate,
                seed=seed(0, "step"),
                progress=self.progress,
                more=lambda groups: self.pool.top_up(groups, n, seed=seed(len(groups), "draw"), **aim),
            )
        except Diverged as error:  # no step came of this number, and it does not return
            state.last_step = step
            self.store.update_run(self.run_id, last_step=step)
            self._restore(str(error))
            return
        drawn = [group.prompt for group in outcome.groups]
        metrics = compute_signal(outcome.groups, settings.reward_range, self.pool.expected_rewards(drawn))
        metrics |= {**outcome.metrics, **self.pool.outlook(drawn, knobs.group_size), "learning_rate": learning_rate}
        self.pool.record(outcome.groups)
        record = StepRecord(step, state.weights_step, knobs, metrics)
        state.last_step = state.weights_step = step
        broken = metrics["completion/errored_rate"] > settings.errored_limit
        due = self.checkpoints.is_due(step, settings.checkpoint_every) and not broken and not outcome.lost
        checkpoint, hashes = self._write_checkpoint() if due else (None, None)
        samples = select_samples(outcome.groups, step, settings.samples_per_step)
        self.store.record_step(
            self.run_id, record, outcome.groups, samples, reward_range=settings.reward_range, wall_s=self.wall_s,
            checkpoint=checkpoint, hashes=hashes,
        )  # fmt: skip
        log.info("step=%d %s", step, describe_step(metrics))
        for note in outcome.notes:
            self._note("warning", note)
        if outcome.fault:
            self._note("error", outcome.fault)
        if checkpoint is not None:
            self.checkpoints.prune()
        if broken:
            raise RunFailed(describe_broken_reward(outcome.groups, step, settings.errored_limit))
        if outcome.lost:
            self._restore(outcome.fault)
        else:
            self._lost_in_a_row = 0

    def evaluate(self, split: str) -> Evaluation:
        """Measure the weights in memory on a split and record it. The best on dev so far are saved."""
        seed = derive_seed(self.settings.seed, "evaluate", split)
        evaluation = self.evaluator.evaluate(split, seed=seed, progress=self.progress)
        self.store.record_evaluation(self.run_id, self.state.weights_step, evaluation)
        log.info("step=%d %s", self.state.weights_step, evaluation.text)
        if evaluation.errors:
            many = f"{len(evaluation.errors)} of {evaluation.n}"
            self._note("warning", f"the reward failed on {many} of {split}, the first time with {evaluation.errors[0]}")
        if split == "dev" and self.store.best_step(self.run_id) == self.state.weights_step:
            self.checkpoints.link_best(self.save(), evaluation.accuracy)
        return evaluation

    def sample(self) -> int:
        """Completions of the fixed sample prompts, recorded for people. Returns their number."""
        step = self.state.weights_step
        examples = self.evaluator.sample(seed=derive_seed(self.settings.seed, "sample"), progress=self.progress)
        samples = [to_sample(step, "fixed", example.prompt, example.completion) for example in examples]
        self.store.record_samples(self.run_id, step, samples)
        return len(samples)

    def save(self, name: str = "") -> CheckpointRecord:
        """A checkpoint of the weights in memory. One that exists for them already only gets the name."""
        for checkpoint, hashes in self.store.load_checkpoints(self.run_id):
            if checkpoint.step == self.state.weights_step:
                named = replace(checkpoint, name=name or checkpoint.name)
                if named != checkpoint:
                    self.store.record_checkpoint(self.run_id, named, hashes)
                return named
        checkpoint, hashes = self._write_checkpoint(name)
        self.store.record_checkpoint(self.run_id, checkpoint, hashes)
        self.checkpoints.prune()
        return checkpoint

    def rollback(self, target: str | int | None, changes: Mapping[str, KnobValue]) -> int:
        """Weights, optimizer, knobs (but for ``changes``) of a checkpoint; the rest stays. Raises Refused."""
        checkpoint = self.checkpoints.find(target)
        self.trainer.load(Path(checkpoint.path))
        self.state.restore_knobs(read_state(Path(checkpoint.path)), changes)
        self.state.weights_step = checkpoint.step
        self.store.roll_back(self.run_id, checkpoint.step, live=self.store.load_ancestors(self.run_id, checkpoint.step))
        self.store.update_run(self.run_id, knobs=asdict(self.state.knobs))
        self._note("info", f"rolled back to step {checkpoint.step}")
        return checkpoint.step

    def _restore(self, why: str) -> None:
        """The newest checkpoint from before the weights in memory, which are of no use. Raises RunFailed when that
        has not helped: the decision policy had its turn after each time."""
        self._lost_in_a_row += 1
        newest, _ = self.checkpoints.find_newest(before=self.state.weights_step)
        if newest is None or self._lost_in_a_row > RESTORES_IN_A_ROW:
            raise RunFailed(f"{why}, and going back did not help: lower knobs.learning_rate or trainer.max_grad_norm")
        self._note("error", f"{why}: going back to the checkpoint of step {newest.step}")
        self.rollback(newest.step, {})

    def resume_at(self, checkpoint: CheckpointRecord) -> None:
        """Load a checkpoint of this run; what came after it will be taken again."""
        saved = read_state(Path(checkpoint.path))
        self.trainer.load(Path(checkpoint.path))
        self.state.load_json(saved)
        if saved["era"] == self.settings.era:
            self.pool.load_state(saved["pool"])
        else:  # an era begins here: what the pool knew was judged differently
            self.state.last_step = self.settings.era_last_step
        last, weights = self.state.last_step, self.state.weights_step
        self.store.supersede_after(self.run_id, last, weights, live=self.store.load_ancestors(self.run_id, weights))
        self.store.record_decisions(self.run_id, last, [], **self.state.in_force())
        self._note("info", f"resumed at step {last}")

    def finish(self, status: Status, reason: str) -> None:
        """Record how the run ended."""
        self.store.end_run(self.run_id, status, reason, self.wall_s)
        self._note("error" if status == "failed" else "info", f"{status}: {reason}")

    # ------------------------------------------------------------ looks

    def _look(self) -> None:
        """Dev and samples every so many steps, the test split before the first. What is recorded is not redone."""
        step = self.state.weights_step
        first = step == self.settings.era_start
        if step != self.state.last_step and not first:
            return  # just rolled back: these weights were looked at in their own time
        due = ["dev"] if first or step % self.settings.evaluate_every == 0 else []
        for split in [*due, "test"] if first else due:
            if not self.store.has_evaluation(self.run_id, step, split):
                self.evaluate(split)
        if step % self.settings.sample_every == 0 and not self.store.has_samples(self.run_id, step):
            self.sample()
        if first:
            self.save()

    def score_the_end(self) -> None:
        """Test score and samples of the last weights, then the test score of the best ones. The last act: nothing
        may step from the weights in memory afterwards. Raises Diverged."""
        self._look()
        last, best = self.state.weights_step, self.store.best_step(self.run_id)
        if not self.store.has_evaluation(self.run_id, last, "test"):
            self.evaluate("test")
        if not self.store.has_samples(self.run_id, last):
            self.sample()
        if best is None or self.store.has_evaluation(self.run_id, best, "test"):
            return
        try:
            self.trainer.load(Path(self.checkpoints.find(best).path))
        except Refused as refusal:
            self._note("warning", f"the best checkpoint has no test score: {refusal}")
            return
        self.state.weights_step = best
        self.evaluate("test")
        self.state.weights_step = last

    def _write_checkpoint(self, name: str = "") -> tuple[CheckpointRecord, dict[str, str]]:
        self.progress("saving", 0, 1)
        state = {**self.state.to_json(), "pool": self.pool.state(), "era": self.settings.era}
        return self.checkpoints.write(self.state.weights_step, state, self.trainer.save, name=name)

    def _note(self, level: str, text: str) -> None:
        log.log(logging.getLevelNamesMapping()[level.upper()], "step=%d %s", self.state.last_step, text)
        self.store.record_event(self.run_id, self.state.last_step, level, text)
