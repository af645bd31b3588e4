"""``grpo compare recorded:OLD recorded:NEW``: a scheduled re-evaluation, from records alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.checks.inputs import build_splits
from harness.config.load import load_spec
from harness.llm.record import Line
from harness.types import Prompt
from tests.support.program import Program

SPEC = """
[pool]
source = "arithmetic?digits=2&size=120"
splits = { probe = 10, dev = 20, test = 60 }
[reward]
function = "rewards.math"
"""
WRONG = r"I guess \boxed{7777}"
WHO = "openai:qwen3-30b"
Say = Callable[[int, Prompt], str]


@pytest.fixture
def prompts(program: Program) -> list[Prompt]:
    (program.folder / "sums.toml").write_text(SPEC)
    return list(build_splits(load_spec(str(program.folder / "sums.toml"))[0])["test"])


def record(folder: Path, name: str, prompts: list[Prompt], say: Say, *, samples: int = 1, error: str = "") -> None:
    """Write what an answerer ``say`` for each prompt; an empty answer is one that failed."""
    lines = [
        Line(p.id, WHO, key=f"{name} {i} {sample}", sample=sample, text=said, error="" if said else "503: no answer")
        for i, p in enumerate(prompts)
        for sample in range(samples)
        for said in [say(i + sample, p)]
    ]
    (folder / name).write_bytes(b"".join(line.dump() for line in lines))


def right(i: int, prompt: Prompt) -> str:
    return rf"So it is \boxed{{{prompt.ground_truth}}}"


def compare(program: Program, *names: str, code: int = 0) -> str:
    words = [f"recorded:{name}" for name in names]
    done = program.here("compare", *words, "--spec", "sums.toml", code=code)
    return " ".join((done.stdout or done.stderr).split())


def test_a_fall_beyond_the_interval_is_exit_1_and_names_what_was_forgotten(
    program: Program, prompts: list[Prompt]
) -> None:
    record(program.folder, "old.jsonl", prompts, lambda i, p: WRONG if i == 3 else right(i, p))
    record(program.folder, "new.jsonl", prompts, lambda i, p: WRONG if 10 <= i < 30 else right(i, p))
    told = compare(program, "old.jsonl", "new.jsonl", code=1)
    assert f"recorded:old.jsonl recorded:new.jsonl who {WHO} {WHO} prompts 60 60 accuracy 0.983 0.667 [0." in told
    assert "against first - -0.317 - [-0." in told
    assert "Worse: accuracy 0.983 -> 0.667, -0.317 [-0." in told
    assert "Worse: mean reward 0.983 -> 0.667, -0.317 [-0." in told
    assert "forgotten: 20 prompts, of which 5" in told
    assert "gained: 1 prompt " in told
    assert WRONG in told
    document = json.loads(
        program.here(
            "compare", "recorded:old.jsonl", "recorded:new.jsonl", "--spec", "sums.toml", "--json", code=1
        ).stdout
    )
    (found,) = document["differences"]
    assert (document["fell"], document["metric"], found["n"], found["left_out"]) == (True, "accuracy", 60, 0)
    assert {one["prompt_id"] for one in found["forgotten"]} == {p.id for p in prompts[10:30]}
    assert found["forgotten"][0]["after"] == {"score": 0.0, "reason": "wrong", "answer": WRONG}
    assert [one["prompt_id"] for one in found["gained"]] == [prompts[3].id]
    assert found["accuracy"]["verdict"] == "worse"


def test_a_fall_within_the_interval_is_none(program: Program, prompts: list[Prompt]) -> None:
    record(program.folder, "old.jsonl", prompts, right)
    record(program.folder, "new.jsonl", prompts, lambda i, p: WRONG if i < 2 else right(i, p))
    assert "No clear change: accuracy 1.000 -> 0.967" in compare(program, "old.jsonl", "new.jsonl")
    record(program.folder, "one.jsonl", prompts[:1], right)
    record(program.folder, "lost.jsonl", prompts[:1], lambda i, p: WRONG)
    assert "No clear change: accuracy 1.000 -> 0.000" in compare(program, "one.jsonl", "lost.jsonl")


def test_answers_that_failed_are_counted_and_not_wrong(program: Program, prompts: list[Prompt]) -> None:
    record(program.folder, "old.jsonl", prompts, right)
    record(program.folder, "new.jsonl", prompts, lambda i, p: "" if i < 30 else right(i, p))
    told = compare(program, "old.jsonl", "new.jsonl")
    assert "30 of 60 errored, the first: 503: no answer" in told
    assert "on the 30 prompts that both answered; 30 left out:" in told
    assert "No clear change: accuracy 1.000 -> 1.000" in told
    record(program.folder, "dead.jsonl", prompts, lambda i, p: "")
    assert "no prompt that both answered" in compare(program, "old.jsonl", "dead.jsonl", code=2)


def test_several_answers_of_each_prompt_are_compared_by_their_share_and_by_pass_at_k(
    program: Program, prompts: list[Prompt]
) -> None:
    record(program.folder, "old.jsonl", prompts, lambda i, p: right(i, p) if i % 2 else WRONG, samples=4)
    record(program.folder, "new.jsonl", prompts, lambda i, p: right(i, p) if i % 4 else WRONG, samples=4)
    told = compare(program, "old.jsonl", "new.jsonl")
    assert "accuracy 0.500 0.750 [0." in told
    assert "pass@4 1.000 1.000" in told
    assert "Better: accuracy 0.500 -> 0.750, +0.250" in told
    assert "No clear change: pass@4 1.000 -> 1.000" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recorded:old.jsonl", "recorded:others.jsonl"], "recorded:others.jsonl answers other prompts than"),
        (["recorded:old.jsonl", "recorded:foreign.jsonl"], "1 of its 1 prompts are not in the pool of sums"),
        (["recorded:old.jsonl", "recorded:old.jsonl"], "two or more that differ"),
        (["recorded:old.jsonl", "night-1"], "no run named night-1"),
        (["recorded:old.jsonl", "recorded:gone.jsonl"], "gone.jsonl"),
        (["recorded:old.jsonl", "recorded:sums.toml"], "sums.toml is no record of answers"),
        (["recorded:old.jsonl", "recorded:others.jsonl", "--html", "gone/x.html"], "--html"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_exit_2(
    words: list[str], said: str, program: Program, prompts: list[Prompt]
) -> None:
    record(program.folder, "old.jsonl", prompts[:30], right)
    record(program.folder, "others.jsonl", prompts[20:60], right)
    record(program.folder, "foreign.jsonl", [Prompt("nobody", "?", "1")], right)
    done: Any = program.here("compare", *words, "--spec", "sums.toml", code=2)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout
