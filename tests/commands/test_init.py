"""``grpo init``: from what somebody has to a spec whose reference answers score 1.0, typed as a person would."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from harness import commands
from harness.config.load import load_spec
from harness.errors import InputError
from pools.layouts import find_layout
from tests.support.layouts import EXAMPLES
from tests.support.program import Program

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_train_300.jsonl"
CALLS = [{"name": "add", "arguments": {"a": 1, "b": 2}}]
SENTENCE = "Country {} has a capital by the river, which is old, and whose name people like to say twice."
TINY = {
    "model.name": "tiny", "model.chat": "false", "model.max_length": "2048", "knobs.max_tokens": "8",
    "knobs.group_size": "2", "knobs.prompts_per_step": "2", "evaluate.max_tokens": "4", "sample.prompts": "1",
    "pool.splits": "{probe = 1, dev = 2, test = 2}",
}  # fmt: skip
"""The embedded model in the place of SmolLM2: about the way to the first step, not about what is learned."""


def write(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pairs(*truths: Any) -> list[dict[str, Any]]:
    return [{"prompt": f"Question {n}?", "ground_truth": truth} for n, truth in enumerate(truths)]


@pytest.mark.parametrize(
    ("rows", "reward"),
    [
        (pairs(*range(20)), "rewards.math"),
        (pairs(*(rf"So \boxed{{{n}}}." for n in range(20))), "rewards.math"),
        (pairs(*("Paris", "Rome", "Oslo", "Bern") * 4), "rewards.math"),
        (pairs(*[CALLS] * 12), "rewards.function_call"),
        (pairs(*[{"equals": {"a": n}} for n in range(12)]), "rewards.structured"),
        ([{"question": f"{n}+1?", "answer": f"{n}+1=<<{n}+1={n + 1}>>{n + 1}\n#### {n + 1}"} for n in range(20)],
         "rewards.math:hashes"),
        ([{"text": f"{n}+1?", "target": n + 1} for n in range(20)], "rewards.math"),
        ([{"messages": [{"role": "user", "content": f"{n}+1?"}, {"role": "assistant", "content": str(n + 1)}]}
          for n in range(20)], "rewards.math"),
        (pairs(*(SENTENCE.format(n) for n in range(20))), "reward.py:score"),
    ],
    ids=["numbers", "boxed", "words", "calls", "json", "gsm8k", "other names", "chat", "sentences"],
)  # fmt: skip
def test_every_reference_answer_is_right_under_the_spec_that_it_writes(
    rows: list[Any], reward: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data.jsonl", rows)
    started = commands.init("data.jsonl", out="new")
    assert started.next[0] == "grpo check new/spec.toml"
    spec, _ = load_spec("new/spec.toml")
    assert spec.reward.functions[0].endswith(reward)
    assert (tmp_path / "new" / "reward.py").exists() == reward.startswith("reward.py")
    found = commands.check("new/spec.toml")
    assert (found.passed, found.rows, found.misfits) == (len(rows), len(rows), ())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "Why?", "chosen": "a", "rejected": "b"}, "DPO"),
        ({"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": SENTENCE}]}, "SFT"),
        ({"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": SENTENCE}]}, "SFT"),
        ({"a": 1, "b": 2}, "no column"),
        ({"prompt": "What is 1+1?", "ground_truth": "2"}, "has 7 rows, and .* take 8 at least"),
    ],
)
def test_where_nothing_is_verifiable_it_says_what_to_use_instead(row: Any, said: str, tmp_path: Path) -> None:
    rows = [json.loads(json.dumps(row).replace("Why", f"Why {n}")) for n in range(7 if "ground_truth" in row else 20)]
    write(tmp_path / "data.jsonl", rows)
    with pytest.raises(InputError, match=said) as refusal:
        commands.init(str(tmp_path / "data.jsonl"), out=str(tmp_path / "new"))
    assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_prompts_alone_get_the_place_of_a_judge(tmp_path: Path) -> None:
    write(tmp_path / "data.jsonl", ({"prompt": f"A poem about {n}"} for n in range(30)))
    started = commands.init(str(tmp_path / "data.jsonl"), out=str(tmp_path))
    assert [file.name for file in started.files] == ["spec.toml", "reward.py"]
    assert "a judge" in " ".join(started.says)
    assert "SFT" in " ".join(started.says)
    compile((tmp_path / "reward.py").read_text(), "reward.py", "exec")
    assert load_spec(str(tmp_path / "spec.toml"))[0].pool.source == str(tmp_path / "data.jsonl")


def test_no_file_is_overwritten(program: Program) -> None:
    (program.folder / "reward.py").write_text("mine")
    write(program.folder / "data.jsonl", pairs(*(SENTENCE.format(n) for n in range(20))))
    done = program.here("init", "--from", "data.jsonl", code=2)
    assert done.stderr == "grpo: --out: reward.py exists already; move it away or name another folder with --out\n"
    assert not (program.folder / "spec.toml").exists()
    program.here("init", "--from", "data.jsonl", "--out", "a/b")
    before = (program.folder / "a" / "b" / "spec.toml").read_text()
    assert "a/b/spec.toml exists already" in program.here("init", "--out", "a/b", code=2).stderr
    assert "mini.toml is not a folder" in program.here("init", "--out", "mini.toml", code=2).stderr
    assert (program.folder / "a" / "b" / "spec.toml").read_text() == before


@pytest.mark.parametrize("source", ["nowhere.jsonl", "empty.jsonl", "broken.json", "hub:", "words"])
def test_what_cannot_be_read_is_one_line_and_writes_nothing(source: str, program: Program) -> None:
    (program.folder / "empty.jsonl").touch()
    (program.folder / "broken.json").write_text('{"learning_rate":')
    done = program.here("init", "--from", source, "--out", "new", code=2)
    assert done.stderr.startswith("grpo: --from: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (program.folder / "new").exists()


def test_without_data_it_starts_from_the_default_recipe(program: Program) -> None:
    done = program.here("init")
    assert "  grpo run spec.toml\n" in done.stdout
    mine, recipe = load_spec(str(program.folder / "spec.toml"))[0], load_spec("arithmetic")[0]
    assert mine == recipe


@pytest.mark.parametrize(("recipe", "rows"), [("math-gsm", "rows.jsonl"), ("coding", "data/coding.jsonl")])
def test_a_recipe_is_copied_with_its_rows(recipe: str, rows: str, program: Program) -> None:
    program.here("init", "--from", recipe, "--out", "mine")
    mine, original = load_spec(str(program.folder / "mine" / "spec.toml"))[0], load_spec(recipe)[0]
    assert mine.pool.source == str(program.folder / "mine" / rows)
    assert Path(mine.pool.source).read_bytes() == Path(original.pool.source).read_bytes()
    assert mine.model_copy(update={"pool": original.pool}) == original


def test_the_recipes_are_listed_with_a_line_each(program: Program) -> None:
    listed = program.here("init", "--list").stdout.splitlines()
    assert [line.partition(": ")[0] for line in listed] == [
        "arithmetic", "coding", "function-calling", "gsm8k", "math-gsm", "smollm2",
    ]  # fmt: skip
    assert all(len(line) < 140 and line.endswith(".") for line in listed)
    assert json.loads(program.here("init", "--list", "--json").stdout) == commands.recipes()
    recipes = next(check.found for check in commands.doctor(out=str(program.folder)) if check.what == "recipes")
    assert recipes.splitlines() == listed


def test_from_a_bare_folder_to_the_first_step(program: Program) -> None:
    """On the embedded model: what the other commands need is in the spec, and spec.toml is what they take."""
    rows = ({"question": f"{n}+1?", "answer": f"It is {n}+1=<<{n}+1={n + 1}>>{n + 1}\n#### {n + 1}"} for n in range(40))
    write(program.folder / "data.jsonl", rows)
    program.here("init", "--from", "data.jsonl")
    assert program.here("check").stdout.endswith("40/40 passed\n")
    changes = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    program.here("run", "--steps", "1", *changes, environment={"OMP_NUM_THREADS": "1"})
    assert program.review("spec-1")["steps"] == 1


@pytest.mark.skipif(not GSM8K.is_file(), reason="the data sets are not here")
def test_gsm8k_itself(program: Program) -> None:
    done = program.here("init", "--from", str(GSM8K))
    assert "GSM8K layout" in done.stdout
    assert program.here("check").stdout.endswith("300/300 passed\n")
    assert program.here("preflight", code=None).returncode == 0


@pytest.mark.parametrize("name", ["OpenR1-Math", "xLAM", "Alpaca", "LiveCodeBench"])
def test_data_of_others_get_the_verifier_of_their_layout(name: str, tmp_path: Path) -> None:
    rows = EXAMPLES[name].rows
    layout = find_layout(rows)
    assert layout is not None
    write(tmp_path / "data.jsonl", rows)
    started = commands.init(str(tmp_path / "data.jsonl"), out=str(tmp_path))
    assert started.says[0].startswith(layout.says)
    spec, _ = load_spec(str(tmp_path / "spec.toml"))
    assert spec.reward.function == (layout.reward or f"{tmp_path / 'reward.py'}:score")
    assert any("SFT" in line for line in started.says) == (layout.reward is None)
    found = commands.check(str(tmp_path / "spec.toml"))
    assert (found.passed, found.misfits) == (0 if name == "LiveCodeBench" else found.rows, ())


@pytest.mark.parametrize(
    ("row", "rules"),
    [
        ({"prompt": "", "ground_truth": "1"}, {"skip_bad": True, "conflicts": "refuse"}),
        ({"prompt": "Question 3?", "ground_truth": "9"}, {"skip_bad": False, "conflicts": "drop"}),
    ],
    ids=["bad", "conflict"],
)
def test_rows_that_cannot_be_used_are_left_out_and_told(row: Any, rules: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "data.jsonl", [*pairs(*range(20)), row])
    started = commands.init(str(tmp_path / "data.jsonl"), out=str(tmp_path))
    assert any(line.startswith("rows are left out") and "row 21" in line for line in started.says)
    spec, _ = load_spec(str(tmp_path / "spec.toml"))
    assert {name: getattr(spec.pool, name) for name in rules} == rules
    assert commands.check(str(tmp_path / "spec.toml")).passed == 20 - (rules["conflicts"] == "drop")


def test_notes_of_sums_are_kept_out_of_demonstrations(tmp_path: Path) -> None:
    write(tmp_path / "data.jsonl", EXAMPLES["GSM8K"].rows)
    commands.init(str(tmp_path / "data.jsonl"), out=str(tmp_path))
    assert load_spec(str(tmp_path / "spec.toml"))[0].pool.strip == "<<[^>]*>>"


# ---------------------------------------------------------------- from TRL


def test_a_configuration_of_trl_becomes_a_spec(program: Program) -> None:
    config = {"learning_rate": 2e-6, "num_generations": 16, "per_device_train_batch_size": 32, "beta": 0.04,
              "gradient_accumulation_steps": 2, "max_completion_length": 8192, "scale_rewards": False,
              "loss_type": "dr_grpo", "max_steps": 500, "warmup_ratio": 0.1, "use_vllm": True}  # fmt: skip
    (program.folder / "trl.json").write_text(json.dumps(config))
    done = program.here("init", "--from", "trl.json")
    assert "use_vllm = True: " in done.stdout
    assert "it does not name your model, pool, reward" in done.stdout
    spec, _ = load_spec(str(program.folder / "spec.toml"))
    assert (spec.knobs.learning_rate, spec.knobs.group_size, spec.knobs.beta) == (2e-6, 16, 0.04)
    assert (spec.knobs.prompts_per_step, spec.trainer.micro_batch) == (4, 32)
    assert (spec.knobs.max_tokens, spec.bounds["max_tokens"]) == (8192, (4, 8192))
    assert (spec.trainer.scale_rewards, spec.trainer.loss_type, spec.budget.steps) == ("none", "dr_grpo", 500)
    assert (spec.trainer.lr_scheduler, spec.trainer.scheduler_total_steps) == ("linear", 500)
    assert (spec.trainer.warmup_steps, spec.trainer.gradient_checkpointing) == (50, True)
    assert program.here("check").stdout.endswith("passed\n")


def test_the_splits_fit_the_rows_that_a_layout_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = [{"role": "user", "content": "Write a program."}, {"role": "assistant", "content": "def f():\n    return 1"}]
    without_tests = [{"messages": told}] * 40
    write(tmp_path / "data.jsonl", [*EXAMPLES["coding messages"].rows, *without_tests])
    commands.init("data.jsonl", out=str(tmp_path))
    spec, _ = load_spec("spec.toml")
    assert sum(spec.pool.splits.values()) < commands.check("spec.toml").pool.kept <= 10
