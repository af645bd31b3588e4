"""A short chaos run; ``make chaos`` is the long one (tests/support/chaos.py)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.support.chaos import SPECS, Launcher, differences, find_reached, fingerprint, spec_file, torment
from tests.support.program import Program
from tests.support.runs import REWARD


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher(reports=False) as launcher:
        yield launcher


def test_killed_inside_everything_that_writes_it_ends_bit_for_bit_as_if_undisturbed(
    program: Program, launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LoRA, knobs that change, two rollbacks; weights and optimizer are compared by the hashes of the checkpoints."""
    folder = program.folder
    # A reward that differs within every group of an untrained model, so that each step updates without a warm start.
    (folder / "odd.py").write_text(REWARD.format(value="sum(map(ord, completion)) % 7 / 6"))
    text = SPECS["LoRA"].replace("steps = 40", "steps = 0") + '[reward]\nfunction = "odd.py:reward"\n'
    monkeypatch.setitem(SPECS, "LoRA", text)
    moments = ["optimizer", "commit 2", "checkpoint"]
    launcher.launch(folder, "never", 0, "run", str(spec_file(folder, "LoRA")), "--name", "calm", "--force")
    kills = torment(launcher, folder, "LoRA", "killed", moments, random.Random(1))
    assert len(kills) == 3
    calm = fingerprint(folder, "calm")
    assert len(calm["steps"]) == 16
    assert all(step["metrics"]["update/applied"] for step in calm["steps"])
    assert {row["action"] for row in calm["decisions"]} >= {"set", "focus", "rollback", "save", "evaluate"}
    assert not differences(calm, fingerprint(folder, "killed"))


def test_a_group_that_is_killed_in_each_kind_of_its_work_ends_as_if_undisturbed(
    program: Program, launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a step of each kind, and while scores are taken."""
    folder = program.folder
    (folder / "odd.py").write_text(REWARD.format(value="sum(map(ord, completion)) % 7 / 6"))
    fewer = (("steps = 14", "steps = 6"), ("steps = 12", "steps = 5"), ("max_tokens = 30", "max_tokens = 12"))
    text = SPECS["stages"].replace("[sft]", '[reward]\nfunction = "odd.py:reward"\n[sft]')
    for many, few in (*fewer, ("dev = 30, test = 30", "dev = 8, test = 8"), ("max_tokens = 24", "max_tokens = 10")):
        text = text.replace(many, few)
    monkeypatch.setitem(SPECS, "stages", text)
    words = ["run", str(spec_file(folder, "stages")), "--force"]
    launcher.launch(folder, "never", 0, *words, "--name", "calm")
    words += ["--name", "killed"]
    for moment, count, stage in (("updating", 3, "apart"), ("optimizer", 12, "tuned"), ("scored", 2, "tuned")):
        assert launcher.launch(folder, moment, count, *words) == -9
        reached, _ = find_reached(folder, "killed")
        assert reached is not None
        assert reached["name"] == f"killed/{stage}"
        words = ["resume", "killed", "--force"]
    assert launcher.launch(folder, "never", 0, *words) == 0
    calm = fingerprint(folder, "calm")
    assert calm["/tuned"]["last_step"] == 6
    assert calm["scores"].keys() == {"base.csv", "apart.csv", "learned.csv", "tuned.csv"}
    assert not differences(calm, fingerprint(folder, "killed"))


def test_the_comparison_sees_a_difference() -> None:
    left = {"steps": [{"metrics": {"reward/mean": 0.5}}]}
    assert differences(left, {"steps": [{"metrics": {"reward/mean": 0.5000001}}]})
    assert differences(left, {"steps": []})
    assert not differences(left, {"steps": [{"metrics": {"reward/mean": 0.5}}]})
