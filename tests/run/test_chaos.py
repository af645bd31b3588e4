"""A short chaos run; ``make chaos`` is the long one (tests/support/chaos.py)."""

from __future__ import annotations

import random

import pytest

from harness.run.parts import POLICIES
from tests.support.chaos import differences, fingerprint, spec_file, torment
from tests.support.chaos_child import ScriptedPolicy
from tests.support.program import Program


def test_killed_inside_everything_that_writes_it_ends_bit_for_bit_as_if_undisturbed(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LoRA, knobs that change, two rollbacks; weights and optimizer are compared by the hashes of the checkpoints."""
    monkeypatch.setattr("harness.run.runner.POLICIES", {**POLICIES, "rules": ScriptedPolicy})
    folder = program.folder
    program.here("run", str(spec_file(folder, "LoRA")), "--name", "calm", "--plain")
    moments = ["optimizer", "commit 2", "checkpoint"]
    kills = torment(folder, "LoRA", "killed", moments, random.Random(1))
    assert len(kills) == 3
    calm = fingerprint(folder, "calm")
    assert len(calm["steps"]) == 16
    assert {row["action"] for row in calm["decisions"]} >= {"set", "focus", "rollback", "save", "evaluate"}
    assert not differences(calm, fingerprint(folder, "killed"))


def test_the_comparison_sees_a_difference() -> None:
    left = {"steps": [{"metrics": {"reward/mean": 0.5}}]}
    assert differences(left, {"steps": [{"metrics": {"reward/mean": 0.5000001}}]})
    assert differences(left, {"steps": []})
    assert not differences(left, {"steps": [{"metrics": {"reward/mean": 0.5}}]})
