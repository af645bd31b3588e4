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
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from harness.checkpoints import Checkpoints, read_state
from harness.errors import Refused, RunFailed
from harness.knobs import describe
from harness.seeds import derive_seed
from harness.signal import compute_signal, select_samples, to_sample
from harness.state import Settings, State, apply_decision
from harness.types import (
    CheckpointRecord,
    Decision,
    Evaluation,
    Evaluator,
    KnobValue,
    Pool,
    Progress,
    Snapshot,
    Status,
    StepOutcome,
    StepRecord,
    Store,
    Trainer,
)

log = logging.getLogger("grpo")


class Session:
    """Verbs: step, sample, evaluate, save, rollback, stop. Each records itself."""

    def __init__(
        self,
        *,
        store: Store,
        run_id: int,
        checkpoints: Checkpoints,
        trainer: Trainer,
        pool: Pool,
        evaluator: Evaluator,
        settings: Settings,
        state: State,
        snapshot: Callable[[], Snapshot],
        progress: Progress,
        wall_s: float = 0.0,
    ) -> None:
        self.store = store
        self.run_id = run_id
        self.checkpoints = checkpoints
        self.trainer = trainer
        self.pool = pool
        self.evaluator = evaluator
        self.settings = settings
        self.state = state
        self.stopped: str | None = None
        self._snapshot = snapshot
        self._progress = progress
        self._wall_before = wall_s
        self._started = time.monotonic()

    @property
    def wall_s(self) -> float:
        """Seconds this run was driven, over all its processes."""
        return self._wall_before + time.monotonic() - self._started

    # ------------------------------------------------------------ ask and tell

    def ask(self) -> Snapshot:
        """Take the looks that are due at this boundary, then show the run."""
        self._look()
        return self._snapshot()

    def tell(self, *decisions: Decision, logged: bool = False) -> None:
        """Carry out the decisions for the next step, then take it unless paused or stopped.

        ``logged`` decisions come from the record (a resume) and are applied verbatim, without a second row.
        Raises RunFailed when the reward is broken.
        """
        step = self.state.last_step + 1
        judged: list[tuple[Decision, dict[str, dict[str, KnobValue]], str | None]] = []
        for decision in decisions:
            try:
                judged.append((decision, apply_decision(self.state, decision, self.settings), None))
            except Refused as refusal:
                judged.append((decision, {}, str(refusal)))
        if not logged:
            self.store.record_decisions(
                self.run_id,
                step,
                judged,
                knobs=self.state.knobs,
                pins=sorted(self.state.pins),
                policy=self.state.policy,
                status="paused" if self.state.paused else "running",
            )
        for decision, _, refused in judged:
            if decision.action.kind != "continue":
                what = describe(decision.action) + (f" refused: {refused}" if refused else "")
                log.info("step=%d decision by %s: %s | %s", step, decision.source, what, decision.evidence)
            if refused is None:
                self._carry_out(decision, step)
        if not self.state.paused and self.stopped is None:
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
                    answer = f"back to the weights, optimizer and knobs of step {self.rollback(action.argument)}"
                case "stop":
                    self.save()
                    self.stopped = decision.evidence or f"stopped by {decision.source}"
        except Refused as refusal:
            state, answer = "refused", str(refusal)
            self.store.refuse_decision(self.run_id, step, decision, answer)
            self._note("warning", f"{action.kind} refused: {refusal}")
        if decision.command_id is not None:
            self.store.finish_command(decision.command_id, state, answer)

    # ------------------------------------------------------------ verbs

    def _step(self, step: int) -> None:
        settings, state, knobs = self.settings, self.state, self.state.knobs
        draw_seed = derive_seed(settings.seed, step, 0, "draw")
        learning_rate = knobs.learning_rate * self.trainer.schedule_factor(step)
        outcome = self.trainer.step(
            self.pool.draw(knobs.prompts_per_step, seed=draw_seed, focus=knobs.focus),
            knobs,
            learning_rate=learning_rate,
            seed=derive_seed(settings.seed, step, 0, "step"),
            progress=self._progress,
        )
        metrics = compute_signal(outcome.groups, settings.reward_range, self.pool.expected_reward)
        metrics |= {**outcome.metrics, "learning_rate": learning_rate}
        self.pool.record(outcome.groups)
        record = StepRecord(step, state.weights_step, knobs, metrics)
        state.last_step = state.weights_step = step
        broken = metrics["completion/errored_rate"] > settings.errored_limit
        checkpoint, hashes = None, None
        if step % settings.checkpoint_every == 0 and not broken:
            checkpoint, hashes = self._write_checkpoint()
        self.store.record_step(
            self.run_id,
            record,
            outcome.groups,
            select_samples(outcome.groups, step, settings.samples_per_step),
            reward_range=settings.reward_range,
            wall_s=self.wall_s,
            checkpoint=checkpoint,
            hashes=hashes,
        )
        log.info(
            "step=%d reward=%.4f adjusted=%+.4f no_signal=%.2f kl=%.4f %.2fs",
            step, metrics["reward/mean"], metrics["reward/adjusted"], metrics["group/no_signal_rate"],
            metrics["kl/mean"], metrics["time/step_s"],
        )  # fmt: skip
        if checkpoint is not None:
            self.checkpoints.prune()
        if broken:
            raise RunFailed(_describe_broken_reward(step, outcome, settings.errored_limit))

    def evaluate(self, split: str) -> Evaluation:
        """Measure the weights in memory on a split and record it. The best on dev so far are saved."""
        seed = derive_seed(self.settings.seed, "evaluate", split)
        evaluation = self.evaluator.evaluate(split, seed=seed, progress=self._progress)
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
        examples = self.evaluator.sample(seed=derive_seed(self.settings.seed, "sample"), progress=self._progress)
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

    def rollback(self, target: str | int | None) -> int:
        """Weights, optimizer and knobs of a checkpoint; pins, pool, budget and log stay. Raises Refused."""
        checkpoint = self.checkpoints.find(target)
        self.trainer.load(Path(checkpoint.path))
        self.state.restore_knobs(read_state(Path(checkpoint.path)))
        self.state.weights_step = checkpoint.step
        self.store.roll_back(self.run_id, checkpoint.step, live=self.store.load_ancestors(self.run_id, checkpoint.step))
        self.store.update_run(self.run_id, knobs=asdict(self.state.knobs))
        self._note("info", f"rolled back to step {checkpoint.step}")
        return checkpoint.step

    def resume_at(self, checkpoint: CheckpointRecord) -> None:
        """Load a checkpoint of this run and mark what came after it to be taken again."""
        saved = read_state(Path(checkpoint.path))
        self.trainer.load(Path(checkpoint.path))
        self.pool.load_state(saved["pool"])
        self.state.load_json(saved)
        last, weights = self.state.last_step, self.state.weights_step
        self.store.supersede_after(self.run_id, last, weights, live=self.store.load_ancestors(self.run_id, weights))
        self._note("info", f"resumed at step {last}")

    def finish(self, status: Status, reason: str, *, score: bool) -> None:
        """The last acts of a run: a checkpoint, and if ``score`` the test split at the last and the best weights."""
        if status != "failed":
            self.save()
        if score:
            self._look()
            self._score_the_end()
        self.store.update_run(self.run_id, status=status, stop_reason=reason, wall_s=self.wall_s, phase="")
        self._note("error" if status == "failed" else "info", f"{status}: {reason}")

    # ------------------------------------------------------------ looks

    def _look(self) -> None:
        """Dev and samples every so many steps, the test split before the first. What is recorded is not redone."""
        step = self.state.weights_step
        if step != self.state.last_step:
            return  # just rolled back: these weights were looked at in their own time
        due = ["dev"] if step % self.settings.evaluate_every == 0 else []
        for split in [*due, *(["test"] if step == 0 else [])]:
            if not self.store.has_evaluation(self.run_id, step, split):
                self.evaluate(split)
        if step % self.settings.sample_every == 0 and not self.store.has_samples(self.run_id, step):
            self.sample()
        if step == 0:
            self.save()

    def _score_the_end(self) -> None:
        """Test score and samples of the last weights, then the test score of the best ones."""
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
        self.state.weights_step = last  # the run is over: nothing steps from the weights in memory

    def _write_checkpoint(self, name: str = "") -> tuple[CheckpointRecord, dict[str, str]]:
        self._progress("saving", 0, 1)
        state = {**self.state.to_json(), "pool": self.pool.state()}
        return self.checkpoints.write(self.state.weights_step, state, self.trainer.save, name=name)

    def _note(self, level: str, text: str) -> None:
        log.log(logging.getLevelNamesMapping()[level.upper()], "step=%d %s", self.state.last_step, text)
        self.store.record_event(self.run_id, self.state.last_step, level, text)


def _describe_broken_reward(step: int, outcome: StepOutcome, limit: float) -> str:
    scores = [completion.score for group in outcome.groups for completion in group.completions]
    errors = [score.error for score in scores if score.errored]
    return (
        f"the reward failed on {len(errors) / len(scores):.0%} of the completions of step {step} "
        f"(limit {limit:.0%}), so its update was discarded; the first error: {errors[0]}"
    )
