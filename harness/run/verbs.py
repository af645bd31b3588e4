"""What can be done to a run at a boundary: evaluate, sample, save, roll back, branch. Each verb records itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.core.branch import open_branch
from harness.core.seeds import derive_seed
from harness.core.step_metrics import to_sample
from harness.run.checkpoints import Checkpoints, read_state
from harness.run.state import Settings, State
from harness.types import (
    Action,
    CheckpointRecord,
    Evaluation,
    Evaluator,
    KnobValue,
    Pool,
    Progress,
    Snapshot,
    Store,
    Trainer,
)

log = logging.getLogger("grpo")


@dataclass(kw_only=True)
class Verbs:
    """What a session holds, and its verbs but for step and stop."""

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

    def evaluate(self, split: str) -> Evaluation:
        """Measure the weights in memory on a split and record it. The best on dev so far are saved."""
        seed = derive_seed(self.settings.seed, "evaluate", split)
        evaluation = self.evaluator.evaluate(split, seed=seed, progress=self.progress)
        self.store.record_evaluation(self.run_id, self.state.weights_step, evaluation)
        log.info("step=%d %s", self.state.weights_step, evaluation.text)
        if evaluation.errors:
            many = f"{len(evaluation.errors)} of {evaluation.n}"
            self.note("warning", f"the reward failed on {many} of {split}, the first time with {evaluation.errors[0]}")
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
        """Weights, optimizer, knobs (but for ``changes``) of a checkpoint, and if asked what the ``pool`` knew then;
        the rest stays. Raises Refused."""
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
        """What the pool knew at a checkpoint; of an earlier era nothing, since it was judged differently."""
        if saved["era"] == self.settings.era:
            self.pool.load_state(saved["pool"])

    def write_checkpoint(self, name: str = "") -> CheckpointRecord:
        self.progress("saving", 0, 1)
        state = {**self.state.to_json(), "pool": self.pool.state(), "era": self.settings.era}
        return self.checkpoints.write(self.state.weights_step, state, self.trainer.save, name=name)

    def note(self, level: str, text: str) -> None:
        log.log(logging.getLevelNamesMapping()[level.upper()], "step=%d %s", self.state.last_step, text)
        self.store.record_event(self.run_id, self.state.last_step, level, text)
