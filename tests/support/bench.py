"""A run whose trainer answers at once and all else is real: any number of steps in no time."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from threading import Event
from typing import Any

from harness.config.schema import BudgetSpec, CheckpointSpec, EvaluateSpec, RunSpec, SampleSpec
from harness.run.checkpoints import Checkpoints
from harness.run.controller import Controller
from harness.run.session import Session
from harness.run.state import Settings, State
from harness.store.buckets import rebuild
from harness.store.opening import open_store
from harness.store.schema import driver
from harness.store.snapshot import SnapshotReader
from harness.store.writer import RunStore
from harness.types import (
    Action,
    Completion,
    Evaluation,
    Example,
    Group,
    Knobs,
    More,
    Progress,
    Prompt,
    Score,
    StepOutcome,
    no_progress,
)
from policies.effects import EffectJudge
from policies.rules import RulesPolicy
from pools.pool import PromptPool
from pools.sources import load_prompts

NEVER = 10**9
PATTERN = 50
"""Steps that are taken before a run is lengthened by copies of them."""
KNOBS = Knobs(group_size=8, prompts_per_step=16)
DEV = [Prompt(f"dev {i}", f"{i}+{i}=", str(2 * i)) for i in range(200)]


class InstantTrainer:
    """Everything a step brings back, and none of the work. ``spent_s`` is what its answers have taken."""

    spent_s = 0.0

    def schedule_factor(self, step: int) -> float:
        return 1.0

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
        started = time.perf_counter()
        rng = random.Random(seed)
        groups = tuple(Group(prompt, tuple(_answer(rng) for _ in range(knobs.group_size))) for prompt in prompts)
        metrics = {"kl/mean": 0.01, "entropy/mean": 0.1, "grad/norm": 0.3, "loss": 0.0, "time/step_s": 0.5}
        self.spent_s += time.perf_counter() - started
        return StepOutcome(groups, metrics, True)

    def save(self, folder: Path) -> None:
        (folder / "weights").write_bytes(b"weights")

    def load(self, folder: Path) -> None:
        pass


def _answer(rng: random.Random) -> Completion:
    hit = rng.random() < 0.5
    score = Score(float(hit), hit, "right" if hit else "wrong", {"exact": float(hit)})
    return Completion(f"text {rng.random()}", 30, False, score)


class InstantEvaluator:
    def evaluate(self, split: str, *, seed: int, progress: Progress) -> Evaluation:
        examples = tuple(self.sample(seed=seed, progress=progress) * 50)
        return Evaluation(split, len(DEV), 0.5, (0.43, 0.57), 0.5, (0.43, 0.57), examples)

    def sample(self, *, seed: int, progress: Progress) -> list[Example]:
        rng = random.Random(seed)
        return [Example(prompt, _answer(rng)) for prompt in DEV[:4]]


# ---------------------------------------------------------------- a run of any length


@dataclass
class Bench:
    """A run that can be driven step by step."""

    store: RunStore
    run_id: int
    controller: Controller

    def step(self) -> float:
        """Take one; the milliseconds that it took beside the trainer's answer."""
        trainer = self.controller.session.trainer
        assert isinstance(trainer, InstantTrainer)
        before, started = trainer.spent_s, time.perf_counter()
        self.controller._boundary()
        return 1000 * (time.perf_counter() - started - (trainer.spent_s - before))


def build(folder: Path, *, steps: int, prompts: int, focus: float | None = None, hours: float | None = None) -> Bench:
    """A run with ``steps`` recorded steps, ready for the next."""
    store = open_store(f"sqlite:///{folder}/harness.db")
    spec, knobs = RunSpec(budget=BudgetSpec(steps=NEVER, hours=hours)), replace(KNOBS, focus=focus)
    run_id = store.create_run(
        name="bench", seed=0, policy="rules", spec=spec.model_dump(mode="json"), manifest={}, folder=str(folder),
        knobs=knobs, bounds=spec.all_bounds,
    )  # fmt: skip
    pool = PromptPool(
        load_prompts(f"arithmetic?size={prompts}", columns={}, template="{prompt}", system=""),
        draw_share=0.5,
        sampler="frontier",
    )

    def drive(state: State, every: int) -> Bench:
        often = {"evaluate": EvaluateSpec(every=every), "sample": SampleSpec(every=every)}
        settled = spec.model_copy(update={**often, "checkpoint": CheckpointSpec(every=NEVER)})
        started = time.monotonic()
        session = Session(
            store=store,
            run_id=run_id,
            checkpoints=Checkpoints(store, run_id, folder / "checkpoints", keep=3),
            trainer=InstantTrainer(),
            pool=pool,
            evaluator=InstantEvaluator(),
            settings=Settings(settled, spec.all_bounds, lambda kind: None),
            state=state,
            snapshot=SnapshotReader(store, run_id).read,
            progress=no_progress,
            wall_s=lambda: time.monotonic() - started,
        )
        build_policy = {"rules": RulesPolicy}.__getitem__
        controller = Controller(
            session, build_policy=lambda kind: build_policy(kind)(), judge=EffectJudge(), interrupted=Event()
        )
        return Bench(store, run_id, controller)

    first = drive(State(knobs, "rules"), every=10)
    for step in range(min(steps, PATTERN)):
        if step == PATTERN // 2:
            store.add_command(run_id, Action("set", {"temperature": 0.9}), note="calmer")
        first.step()
    state = first.controller.session.state
    if steps > PATTERN:
        lengthen(store, run_id, steps)
        state.last_step = state.weights_step = steps
    return drive(state, every=NEVER)


def lengthen(store: RunStore, run_id: int, steps: int) -> None:
    """Copy the rows of the first PATTERN steps until the run has ``steps``; the only run of its database."""
    with store.write() as c:
        sqlite = driver(c)
        for table in ("steps", "groups", "completions", "decisions", "evaluations"):
            columns = [row[1] for row in sqlite.execute(f"PRAGMA table_info({table})")]
            copied = ", ".join(
                "NULL" if name == "id" else f"{name} + :by" if name in ("step", "parent", "step_id") else name
                for name in columns
            )
            # Of the first run the ids of steps are their numbers.
            first = "step_id BETWEEN 1" if table == "groups" else "run_id = :run AND step BETWEEN 1"
            copy = f"INSERT INTO {table} SELECT {copied} FROM {table} WHERE {first} AND :last"
            for by in range(PATTERN, steps, PATTERN):
                sqlite.execute(copy, {"run": run_id, "by": by, "last": min(PATTERN, steps - by)})
        rows = sqlite.execute("SELECT step, metrics FROM steps WHERE run_id = ? ORDER BY step", (run_id,))
        rebuild(c, run_id, ((step, json.loads(metrics)) for step, metrics in rows), last_step=steps)
        sqlite.execute(
            "UPDATE runs SET last_step = :n, weights_step = :n, rollouts = :n * 128, version = version + 1",
            {"n": steps},
        )


def measure_steps(cases: Sequence[dict[str, Any]], *, n: int = 150) -> list[dict[str, Any]]:
    """Milliseconds per step of several runs. They take turns, so that a machine that is busy for a while hits all
    alike: ratios between them can be trusted where the milliseconds cannot."""
    with tempfile.TemporaryDirectory() as folder:
        benches = []
        for i, case in enumerate(cases):
            (Path(folder) / str(i)).mkdir()
            benches.append(build(Path(folder) / str(i), **case))
        rounds = [[bench.step() for bench in benches] for _ in range(n + 20)][20:]
        for bench in benches:
            bench.store.close()
    medians = [median(ms) for ms in zip(*rounds, strict=True)]
    return [
        case
        | {
            "median_ms": round(middle, 3),
            "p95_ms": round(quantiles(ms, n=20)[-1], 3),
            "to_the_first": round(middle / medians[0], 3),
        }
        for case, middle, ms in zip(cases, medians, zip(*rounds, strict=True), strict=True)
    ]
