"""Runs of a reward that grades answers: nothing is ever fully right, and dev is judged by mean reward."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Program
from tests.support.runs import review, start_mini

DIGITS = """
def reward(completion, ground_truth):
    text = completion.strip()
    return 0.3 + 0.6 * sum(c.isdigit() for c in text[:8]) / 8 if text else 0.0
"""
"""Partial credit for digits, which a random model earns now and then and nothing gets in full."""


def start(folder: Path, **sections: Any) -> Any:
    (folder / "digits.py").write_text(DIGITS)
    reward = {"function": f"{folder / 'digits.py'}:reward"}
    steps = {"budget": {"steps": 8}, "evaluate": {"every": 4, "temperature": 1.0}, "knobs": {"learning_rate": 3e-3}}
    return start_mini(folder, **{"reward": reward, **steps, **sections})


def test_the_best_checkpoint_of_a_graded_run_is_the_one_that_earns_most(tmp_path: Path) -> None:
    run = start(tmp_path)
    assert run.drive() == ("finished", "budget of 8 steps spent")
    found = review(run)
    dev, held = found["dev"], found["heldout"]
    assert (dev["metric"], held["metric"]) == ("reward", "reward")
    assert dev["by_step"] == dev["reward_by_step"]
    assert held["best_step"] == int(max(dev["by_step"], key=lambda step: (dev["by_step"][step], -int(step)))) > 0
    assert held["best"] > held["baseline"]
    assert found["change"]["paired"]
    assert found["change"]["difference"] == pytest.approx(held["best"] - held["baseline"])
    events = [event["text"] for event in found["events"]]
    assert "none of these answers is fully right: evaluations are judged by mean reward" in events
    assert f"dev reward {dev['by_step']['8']:.3f}" in (run.folder / "log.txt").read_text()


def test_what_the_spec_says_of_the_reward_is_not_decided_by_what_is_seen(tmp_path: Path) -> None:
    run = start(tmp_path, reward={"function": f"{tmp_path / 'digits.py'}:reward", "graded": False})
    run.drive()
    found = review(run)
    assert (found["dev"]["metric"], set(found["dev"]["by_step"].values())) == ("accuracy", {0.0})
    earned = found["dev"]["reward_by_step"]
    best = int(max(earned, key=lambda step: (earned[step], -int(step))))
    assert found["heldout"]["best_step"] == best, "equal accuracies are decided by mean reward"


def test_the_program_exports_what_earns_most_and_says_by_how_much(program: Program) -> None:
    (program.folder / "digits.py").write_text(DIGITS)
    sets = ("reward.function=digits.py:reward", "warmstart.steps=0", "evaluate.every=4", "evaluate.temperature=1.0",
            "knobs.learning_rate=3e-3", "budget.steps=8", "policy.kind=fixed")  # fmt: skip
    program.here("run", "mini.toml", "--name", "graded", "--force", *(w for one in sets for w in ("--set", one)))
    held = program.review("graded")["heldout"]
    assert held["best_step"] > 0
    program.here("export", "graded", "--to", "out")
    card = (program.folder / "out" / "README.md").read_text()
    assert f"step {held['best_step']}" in card
    assert "Reward on" in card
    assert json.loads((program.folder / "out" / "config.json").read_text())
