"""What the harness itself costs a step: decide, draw, record, without generation, reward and TRL.

    python -m tests.benchmarks.step_cost [--at 1000] [--prompts 3300]

Prints JSON: milliseconds per step (median and 95th percentile of the last 100) after so many recorded steps, on a
real database with a real pool and the rules; the trainer answers at once with 16 groups of 8 completions.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

from harness.checkpoints import Checkpoints
from harness.session import Session
from harness.snapshot import SnapshotReader
from harness.spec import RunSpec
from harness.state import Settings, State
from harness.store import open_store
from harness.types import (
    Completion,
    Evaluation,
    Example,
    Group,
    Knobs,
    Progress,
    Prompt,
    Score,
    StepOutcome,
    no_progress,
)
from policies.rules import RulesPolicy
from pools.pool import PromptPool
from pools.sources import load_prompts

NEVER = 10**9
KNOBS = Knobs(group_size=8, prompts_per_step=16)


class InstantTrainer:
    """Everything a step brings back, and none of the work."""

    def schedule_factor(self, step: int) -> float:
        return 1.0

    def step(
        self, prompts: Sequence[Prompt], knobs: Knobs, *, learning_rate: float, seed: int, progress: Progress
    ) -> StepOutcome:
        rng = random.Random(seed)
        groups = []
        for prompt in prompts:
            scores = [Score(float(hit), hit, "right" if hit else "wrong", {"exact": float(hit)}) for hit in
                      (rng.random() < 0.5 for _ in range(knobs.group_size))]  # fmt: skip
            groups.append(Group(prompt, tuple(Completion(f"text {rng.random()}", 30, False, s) for s in scores)))
        metrics = {"kl/mean": 0.01, "entropy/mean": 0.1, "grad/norm": 0.3, "loss": 0.0, "time/step_s": 0.5}
        return StepOutcome(tuple(groups), metrics, True)

    def save(self, folder: Path) -> None:
        (folder / "weights").write_bytes(b"")

    def load(self, folder: Path) -> None:
        pass


class InstantEvaluator:
    def evaluate(self, split: str, *, seed: int, progress: Progress) -> Evaluation:
        return Evaluation(split, 200, 0.5, (0.43, 0.57), 0.5)

    def sample(self, *, seed: int, progress: Progress) -> list[Example]:
        return []


def measure(at: int, prompts: int) -> dict[str, float]:
    """Milliseconds of the steps around number ``at``."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{folder}/harness.db")
        spec = RunSpec()
        run_id = store.create_run(
            name="bench", seed=0, policy="rules", spec=spec.model_dump(mode="json"), manifest={}, folder=folder,
            knobs=KNOBS, bounds=spec.all_bounds,
        )  # fmt: skip
        pool = PromptPool(load_prompts(f"arithmetic?size={prompts}", template="{prompt}", system=""), draw_share=0.5)
        session = Session(
            store=store,
            run_id=run_id,
            checkpoints=Checkpoints(store, run_id, Path(folder) / "checkpoints", keep=3),
            trainer=InstantTrainer(),
            pool=pool,
            evaluator=InstantEvaluator(),
            settings=Settings(0, spec.all_bounds, (0.0, 1.0), 0.1, NEVER, NEVER, 8, NEVER, 3, ("rules",)),
            state=State(KNOBS, "rules"),
            snapshot=SnapshotReader(store, run_id).read,
            progress=no_progress,
        )
        policy, trainer = RulesPolicy(), session.trainer
        seconds: list[float] = []
        for step in range(1, at + 1):
            started = time.perf_counter()
            session.tell(policy.decide(session.ask()))
            whole = time.perf_counter() - started
            rolled = time.perf_counter()
            trainer.step(pool.prompts[:16], KNOBS, learning_rate=0.0, seed=step, progress=no_progress)
            seconds.append(whole - (time.perf_counter() - rolled))
        last = [1000 * s for s in seconds[-100:]]
        return {
            "at_step": at,
            "prompts": prompts,
            "median_ms": round(median(last), 3),
            "p95_ms": round(quantiles(last, n=20)[-1], 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--prompts", type=int, default=3300)
    arguments = parser.parse_args()
    print(json.dumps([measure(at, arguments.prompts) for at in arguments.at], indent=2))


if __name__ == "__main__":
    main()
