"""The cells of the gyms: a real run each of the embedded model, with a task, a fault, a seed and a policy."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.load import parse_spec
from harness.config.schema import RunSpec
from harness.types import Snapshot, Verdict
from policies.detectors import detect
from policies.effects import EffectJudge
from tests.benchmarks import gym_rewards
from tests.benchmarks.gym_tasks import CAREFUL_SUMS, SUMS, Task
from tests.support.runs import start_run

STEPS = 40

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
"""The healthy run; on sums from 0.40 of the test prompts right to 0.67 to 0.79, most of it within ten steps."""


@dataclass(frozen=True)
class Fault:
    """What the spec of the healthy run is changed by, and the findings that name it right.

    Of two faults at once ``right`` names one and ``second`` the other. ``graded``: no reward is ever a right answer's,
    so a run is scored by its mean reward.
    """

    changes: Mapping[str, Mapping[str, Any]]
    right: frozenset[str] = frozenset()
    stops: bool = False
    task: Task = SUMS
    second: frozenset[str] = frozenset()
    graded: bool = False


def _knobs(right: Sequence[str], **values: float) -> Fault:
    return Fault({"knobs": values}, frozenset(right))


def _reward(name: str, right: Sequence[str], **more: Any) -> Fault:
    reward = {"function": f"{Path(gym_rewards.__file__)}:{name}"}
    # The limit is raised so that it is the decision policy that stops, not the session at more than a tenth.
    changes = {"reward": reward | {"errored_limit": 0.5}}
    return Fault(changes, frozenset(right), stops=True, **more)


FAULTS: dict[str, Fault] = {
    "lr-x10": _knobs(
        ["kl_spike", "entropy_explosion", "collapse", "oscillation", "dev_drop", "not_finite", "learning_rate"],
        learning_rate=1e-3,
    ),
    "lr-by-100": _knobs(["no_op_learning_rate", "learning_rate"], learning_rate=1e-6),
    "max-tokens": _knobs(["truncation"], max_tokens=20),
    "cold": _knobs(["collapse"], temperature=0.1),
    "hot": _knobs(["chaos"], temperature=2.5),
    "all-hard": _knobs(["poor_prompts", "unsolved"], focus=0.05),
    "all-easy": _knobs(["poor_prompts", "solved"], focus=0.95),
    "group-2": _knobs(["small_groups"], group_size=2),
    "beta": _knobs(["anchored"], beta=0.5),
    "raises": _reward("raises", ["errored"]),
    "exploited": _reward("pays_tidy_working", ["gamed"], task=CAREFUL_SUMS),
    "pays-all": _reward("pays_everyone", ["pays_everyone"]),
}
HEALTHY = "none"
UNFAULTED = Fault({})


# ---------------------------------------------------------------- a cell


@dataclass(frozen=True)
class Cell:
    fault: str
    seed: int
    policy: str

    @property
    def name(self) -> str:
        return f"{self.fault}.{self.seed}.{self.policy}"


class Watcher(EffectJudge):
    """The judge is asked at every boundary, so it is here that a reward can be told which step comes next, and that
    what is found then is kept, a line for each finding that wants an answer."""

    def __init__(self, place: Path) -> None:
        self.step, self.found = place / "step", place / "findings.jsonl"
        self.step.write_text("1")
        self.found.touch()

    def judge(self, snapshot: Snapshot) -> tuple[Verdict, ...]:
        self.step.write_text(str(snapshot.steps_done + 1))
        with self.found.open("a") as file:
            for finding in detect(snapshot):
                if finding.severity in ("warning", "severe"):
                    file.write(json.dumps([snapshot.steps_done, finding.kind, finding.evidence]) + "\n")
        return super().judge(snapshot)


def make_spec(folder: Path, cell: Cell, fault: Fault, place: Path) -> RunSpec:
    tree: dict[str, Any] = json.loads(json.dumps(BASE))
    for changes in (fault.task.changes, fault.changes):
        for section, values in changes.items():
            tree.setdefault(section, {}).update(values)
    tree["model"]["name"] = str(fault.task.start.make(folder, cell.seed))
    tree["pool"]["source"] = str(fault.task.make_pool(folder))
    tree |= {"seed": cell.seed, "name": "run", "policy": {"kind": cell.policy}, "output": {"dir": str(place)}}
    return parse_spec(tree)


def run_cell(folder: Path, cell: Cell, fault: Fault) -> None:
    """Train it, unless its result is there."""
    place = folder / "cells" / cell.name
    if (place / "result.json").exists():
        return
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    started = time.process_time()
    watcher = Watcher(place)
    os.environ[gym_rewards.STEP_FILE] = str(watcher.step)
    run = start_run(make_spec(folder, cell, fault, place), "run")
    with run.progress:
        controller = run.build_controller()
        controller.judge = watcher
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
    """Test accuracy before step 1, of the best checkpoint by dev and of the last weights; the looks at dev. ``rewards``
    has the mean rewards beside them."""
    with closing(sqlite3.connect(place / "harness.db")) as c:
        looks = c.execute("SELECT step, split, accuracy, reward FROM evaluations ORDER BY step").fetchall()
        best = c.execute(
            "SELECT step FROM evaluations WHERE split = 'dev' ORDER BY score DESC, tie DESC, step"
        ).fetchone()[0]
        (last,) = c.execute("SELECT max(step) FROM steps WHERE state = 'live'").fetchone()
    scores = {}
    for i, name in enumerate(("accuracy", "reward")):
        dev = {step: values[i] for step, split, *values in looks if split == "dev"}
        test = {step: values[i] for step, split, *values in looks if split == "test"}
        scores[name] = {
            "before": test.get(0),
            "best_step": best,
            "best": test.get(best),
            "final": test[max(test)] if test else None,
            "dev": list(dev.values()),
            "dev_steps": list(dev),
        }
    return {"last_step": last} | scores["accuracy"] | {"rewards": scores["reward"]}
