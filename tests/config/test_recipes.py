"""The recipes with a reward of their own, run for real on the embedded model: about the plumbing, not the score."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import commands
from harness.config.load import load_spec
from harness.config.names import recipe_folder
from tests.support.program import Program

TINY = {
    "model.name": "tiny", "model.chat": "false", "model.max_length": "4096", "model.threads": "1",
    "warmstart.steps": "2", "warmstart.batch": "2", "evaluate.max_tokens": "8", "evaluate.batch": "8",
    "knobs.max_tokens": "12", "knobs.group_size": "2", "knobs.prompts_per_step": "2", "sample.prompts": "1",
    "trainer.micro_batch": "4", "checkpoint.every": "2",
    "pool.splits": "{ probe = 4, dev = 4, test = 4 }",
}  # fmt: skip


@pytest.mark.parametrize("recipe", ["coding", "function-calling"])
def test_a_recipe_takes_its_steps(program: Program, recipe: str) -> None:
    changes = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    program.here("run", recipe, "--name", "r", "--steps", "2", *changes, environment={"OMP_NUM_THREADS": "1"})
    review = program.review("r")
    assert (review["status"], review["steps"]) == ("finished", 2)
    assert review["signal"]["errored_rate"] == 0.0
    assert review["reasons"].keys() <= {"no_program", "no_call", "truncated", "cut_in_thinking"}
    assert review["manifest"]["preflight"]["verdict"] in ("pass", "warn")
    assert ("sandbox" in review["manifest"]) == (recipe == "coding")


def test_the_data_of_a_recipe_is_found_from_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    spec, name = load_spec("coding")
    assert name == "coding"
    assert Path(spec.pool.source).is_absolute()
    assert "```python" in spec.pool.template
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "rows.jsonl").write_text(json.dumps({"prompt": "a", "ground_truth": "b"}))
    (tmp_path / "own" / "own.toml").write_text('[pool]\nsource = "rows.jsonl"')
    assert load_spec("own/own.toml")[0].pool.source == str(tmp_path / "own" / "rows.jsonl")
    (tmp_path / "rows.jsonl").touch()
    assert load_spec("own/own.toml")[0].pool.source == "rows.jsonl", "the working directory comes first"


def test_the_rows_of_a_recipe_that_is_a_folder_are_what_its_script_writes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = recipe_folder() / "math-gsm"
    made = subprocess.run(
        [sys.executable, "-c", "import json, make_rows; print([*map(json.dumps, make_rows.make_rows())])"],
        cwd=folder, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ast.literal_eval(made.stdout) == (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    monkeypatch.chdir(tmp_path)
    spec, name = load_spec("math-gsm")
    assert (name, spec) == ("math-gsm", load_spec(str(folder))[0])
    found = commands.check("math-gsm")
    assert (found.passed, found.rows, found.misfits) == (100, 100, ())


def test_without_a_name_it_is_the_spec_of_this_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_spec(None)[1] == "arithmetic"
    (tmp_path / "spec.toml").write_text("seed = 7")
    assert (load_spec(None)[0].seed, load_spec(None)[1]) == (7, "spec")
    assert load_spec("arithmetic")[0].seed == 0


def test_a_reward_is_found_beside_its_spec(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").touch()
    (tmp_path / "own" / "own.toml").write_text('[reward]\nfunction = ["mine.py:a", "mine.py", "rewards.math"]')
    beside = str(tmp_path / "own" / "mine.py")
    assert load_spec("own/own.toml")[0].reward.functions == [f"{beside}:a", beside, "rewards.math"]
    (tmp_path / "mine.py").touch()
    assert load_spec("own/own.toml")[0].reward.functions[0] == "mine.py:a", "the working directory comes first"
