"""A short chaos run; ``make chaos`` is the long one (tests/support/chaos.py)."""

from __future__ import annotations

import random

import pytest

from tests.support.chaos import SPECS, Launcher, differences, fingerprint, spec_file, torment
from tests.support.program import Program
from tests.support.runs import REWARD


def test_killed_inside_everything_that_writes_it_ends_bit_for_bit_as_if_undisturbed(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LoRA, knobs that change, two rollbacks; weights and optimizer are compared by the hashes of the checkpoints."""
    folder = program.folder
    # A reward that differs within every group of an untrained model, so that each step updates without a warm start.
    (folder / "odd.py").write_text(REWARD.format(value="sum(map(ord, completion)) % 7 / 6"))
    text = SPECS["LoRA"].replace("steps = 40", "steps = 0") + '[reward]\nfunction = "odd.py:reward"\n'
    monkeypatch.setitem(SPECS, "LoRA", text)
    moments = ["optimizer", "commit 2", "checkpoint"]
    with Launcher() as launcher:
        launcher.launch(folder, "never", 0, "run", str(spec_file(folder, "LoRA")), "--name", "calm", "--force")
        kills = torment(launcher, folder, "LoRA", "killed", moments, random.Random(1))
    assert len(kills) == 3
    calm = fingerprint(folder, "calm")
    assert len(calm["steps"]) == 16
    assert all(step["metrics"]["update/applied"] for step in calm["steps"])
    assert {row["action"] for row in calm["decisions"]} >= {"set", "focus", "rollback", "save", "evaluate"}
    assert not differences(calm, fingerprint(folder, "killed"))


def test_the_comparison_sees_a_difference() -> None:
    left = {"steps": [{"metrics": {"reward/mean": 0.5}}]}
    assert differences(left, {"steps": [{"metrics": {"reward/mean": 0.5000001}}]})
    assert differences(left, {"steps": []})
    assert not differences(left, {"steps": [{"metrics": {"reward/mean": 0.5}}]})
