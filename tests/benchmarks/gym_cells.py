"""The cells of the fault gym: one real run each, of the embedded model under a fault, a seed and a decision policy."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.checks.inputs import choose_demonstrations
from harness.config.load import parse_spec
from harness.config.schema import LoraSpec, ModelSpec, RunSpec, WarmstartSpec
from harness.core.seeds import derive_seed
from harness.models.load import load_model, save_weights
from harness.training.sft import warm_start
from harness.types import Prompt, Snapshot, Verdict, no_progress
from policies.effects import EffectJudge
from pools.arithmetic import generate
from tests.benchmarks import gym_rewards
from tests.benchmarks.frontier import carries
from tests.support.builders import make_table
from tests.support.runs import start_run

STEPS = 40
WARM_START = WarmstartSpec(examples=2000, steps=400, batch=32, learning_rate=3e-3)
SLIPS, CAREFUL = 0.6, 0.3
"""Share of carries that the demonstrator forgets: a model of 0.6 answers without carries when it is greedy, one of 0.3
with them, and has something to lose."""
EASY, FRONTIER, HARD = 600, 1800, 600
"""Prompts of the pool: sums of two digits without a carry, sums of up to three with one, and sums of four digits, of
which the demonstrator showed none."""

BASE: dict[str, Any] = {
    "lora": {"rank": 0},
    "pool": {"splits": {"probe": 0, "dev": 100, "test": 300}},
    "reward": {"function": "rewards.solution"},
    "knobs": {"max_tokens": 48, "temperature": 1.0, "learning_rate": 1e-4, "group_size": 8, "prompts_per_step": 12},
    "bounds": {"temperature": [0.1, 3.0]},
    "evaluate": {"every": 5, "max_tokens": 48, "batch": 300},
    "sample": {"every": 1000, "prompts": 1, "per_step": 0},
    "checkpoint": {"every": 5, "keep": 3},
    "budget": {"steps": STEPS},
    "llm": {"every": 5},
    "model": {"chat": False, "threads": 1},
}
"""The healthy run: from 0.40 of the test prompts right to 0.67 to 0.79, most of it within ten steps."""


@dataclass(frozen=True)
class Fault:
    """What the spec of the healthy run is changed by, and the findings that name it right."""

    changes: Mapping[str, Mapping[str, Any]]
    right: frozenset[str]
    stops: bool = False
    slips: float = SLIPS


def _knobs(right: Sequence[str], **values: float) -> Fault:
    return Fault({"knobs": values}, frozenset(right))


def _reward(name: str, right: Sequence[str], **more: Any) -> Fault:
    reward = {"function": f"{Path(gym_rewards.__file__)}:{name}"}
    # The limit is raised so that it is the decision policy that stops, not the session at more than a tenth.
    changes = {"reward": reward | {"errored_limit": 0.5}}
    return Fault(changes, frozenset(right), stops=True, **more)


FAULTS: dict[str, Fault] = {
    "lr-x10": _knobs(["kl_spike", "chaos", "collapse", "oscillation", "dev_drop", "not_finite"], learning_rate=1e-3),
    "lr-by-100": _knobs(["no_op_learning_rate"], learning_rate=1e-6),
    "max-tokens": _knobs(["truncation"], max_tokens=20),
    "cold": _knobs(["collapse"], temperature=0.1),
    "hot": _knobs(["chaos"], temperature=2.5),
    "all-hard": _knobs(["poor_prompts", "unsolved"], focus=0.05),
    "all-easy": _knobs(["poor_prompts", "solved"], focus=0.95),
    "group-2": _knobs(["small_groups"], group_size=2),
    "beta": _knobs(["anchored"], beta=0.5),
    "raises": _reward("raises", ["errored"]),
    "exploited": _reward("pays_tidy_working", ["gamed"], slips=CAREFUL),
    "pays-all": _reward("pays_everyone", ["pays_everyone"]),
}
HEALTHY = "none"


# ---------------------------------------------------------------- ground


def make_pool(path: Path) -> None:
    """The pool as a file. It does not depend on the seed of a run."""
    rng = random.Random("fault gym")
    wanted = {"easy": EASY, "frontier": FRONTIER, "hard": HARD}
    rows: dict[str, dict[str, str]] = {}
    while any(wanted.values()):
        digits = rng.choice((2, 3, 4))
        a, b = (rng.randint(10 ** (digits - 1), 10**digits - 1) for _ in "ab")
        prompt = Prompt("", f"{a}+{b}=", str(a + b))
        kind = "hard" if digits == 4 else "frontier" if carries(prompt) else "easy" if digits == 2 else None
        if kind and wanted[kind] and prompt.text not in rows:
            rows[prompt.text] = {"prompt": prompt.text, "ground_truth": prompt.ground_truth}
            wanted[kind] -= 1
    path.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))


def make_start(folder: Path, seed: int, slips: float) -> Path:
    """A folder with the warm-started model of a seed, as a user would name it in a spec."""
    kept = folder / f"start-{seed}-{slips:g}"
    if not kept.exists():
        loaded = load_model(ModelSpec(chat=False), LoraSpec(), seed=derive_seed(seed, "model"))
        shown = choose_demonstrations(
            RunSpec(seed=seed, warmstart=WARM_START), make_table(list(generate(size=4000, digits=3, slips=slips)))
        )
        warm_start(loaded, shown, WARM_START, seed=seed, progress=no_progress)
        half = kept.with_suffix(".half")
        save_weights(loaded.model, half)
        loaded.tokenizer.save_pretrained(half)
        half.rename(kept)
    return kept


# ---------------------------------------------------------------- a cell


@dataclass(frozen=True)
class Cell:
    fault: str
    seed: int
    policy: str

    @property
    def name(self) -> str:
        return f"{self.fault}.{self.seed}.{self.policy}"


class TellsTheStep(EffectJudge):
    """The judge is asked at every boundary, so it is here that a reward can be told which step comes next."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def judge(self, snapshot: Snapshot) -> tuple[Verdict, ...]:
        self.path.write_text(str(snapshot.steps_done + 1))
        return super().judge(snapshot)


def make_spec(folder: Path, cell: Cell, place: Path) -> RunSpec:
    tree: dict[str, Any] = json.loads(json.dumps(BASE))
    fault = FAULTS.get(cell.fault, Fault({}, frozenset()))
    for section, values in fault.changes.items():
        tree.setdefault(section, {}).update(values)
    tree["model"]["name"] = str(make_start(folder, cell.seed, fault.slips))
    tree["pool"]["source"] = str(folder / "pool.jsonl")
    tree |= {"seed": cell.seed, "name": "run", "policy": {"kind": cell.policy}, "output": {"dir": str(place)}}
    return parse_spec(tree)


def run_cell(folder: Path, cell: Cell) -> None:
    """Train it, unless its result is there."""
    place = folder / "cells" / cell.name
    if (place / "result.json").exists():
        return
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    if not (folder / "pool.jsonl").exists():
        make_pool(folder / "pool.jsonl")
    started = time.process_time()
    step_file = place / "step"
    step_file.write_text("1")
    os.environ[gym_rewards.STEP_FILE] = str(step_file)
    run = start_run(make_spec(folder, cell, place), "run")
    with run.progress:
        controller = run.build_controller()
        controller.judge = TellsTheStep(step_file)
        status, reason = controller.run()
    run.parts.reward.close()
    run.store.close()
    shutil.rmtree(run.folder / "checkpoints")
    seconds = time.process_time() - started
    (place / "result.json").write_text(
        json.dumps({"status": status, "reason": reason, "seconds": round(seconds, 1)} | load_scores(place))
    )
    print(f"{cell.name}: {json.dumps(json.loads((place / 'result.json').read_text()))}", flush=True)


def load_scores(place: Path) -> dict[str, Any]:
    """Test accuracy before step 1, of the best checkpoint by dev and of the last weights; the looks at dev."""
    with closing(sqlite3.connect(place / "harness.db")) as c:
        looks = c.execute("SELECT step, split, accuracy FROM evaluations ORDER BY step").fetchall()
        (last,) = c.execute("SELECT max(step) FROM steps WHERE state = 'live'").fetchone()
    dev = {step: accuracy for step, split, accuracy in looks if split == "dev"}
    test = {step: accuracy for step, split, accuracy in looks if split == "test"}
    best = max(dev, key=lambda step: (dev[step], -step))
    return {"last_step": last, "before": test.get(0), "best_step": best, "best": test.get(best),
            "final": test[max(test)] if test else None, "dev": list(dev.values())}  # fmt: skip
