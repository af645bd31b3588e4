"""A short chaos run; ``make chaos`` is the long one (tests/support/chaos.py)."""

from __future__ import annotations

import random
from pathlib import Path

from tests.support.chaos import differences, fingerprint, launch, spec_file, torment


def test_killed_inside_everything_that_writes_it_ends_bit_for_bit_as_if_undisturbed(tmp_path: Path) -> None:
    """LoRA, knobs that change, two rollbacks; weights and optimizer are compared by the hashes of the checkpoints."""
    assert launch(tmp_path, "never", 0, "run", str(spec_file(tmp_path, "LoRA")), "--name", "calm") == 0
    moments = ["optimizer", "commit 2", "checkpoint"]
    kills = torment(tmp_path, "LoRA", "killed", moments, random.Random(1))
    assert len(kills) == 3
    calm = fingerprint(tmp_path, "calm")
    assert len(calm["steps"]) == 16
    assert {row["action"] for row in calm["decisions"]} >= {"set", "focus", "rollback", "save", "evaluate"}
    assert not differences(calm, fingerprint(tmp_path, "killed"))


def test_the_comparison_sees_a_difference() -> None:
    left = {"steps": [{"metrics": {"reward/mean": 0.5}}]}
    assert differences(left, {"steps": [{"metrics": {"reward/mean": 0.5000001}}]})
    assert differences(left, {"steps": []})
    assert not differences(left, {"steps": [{"metrics": {"reward/mean": 0.5}}]})
