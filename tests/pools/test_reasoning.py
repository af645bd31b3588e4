from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.types import Prompt
from pools.reasoning import _make_rows, read_reasoning
from pools.sources import load_prompts

pytest.importorskip("reasoning_gym")
TASKS = "chain_sum,gcd,isomorphic_strings,polynomial_multiplication,ransom_note,word_ladder"
"""The last four make other rows under another hash seed."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def load(source: str) -> list[Prompt]:
    return list(load_prompts(source, columns={}, template="{prompt}", system=""))


def make(tasks: str, **options: Any) -> list[dict[str, Any]]:
    """What the other process would write, without the seconds that it takes to start."""
    return list(_make_rows(tasks.split(","), options))


def test_tasks_give_prompts_and_gold_answers_whatever_the_hash_seed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    prompts = load(f"reasoning:{TASKS}?size=20")
    assert {prompt.label for prompt in prompts} == set(TASKS.split(","))
    assert len({prompt.id for prompt in prompts}) == len(prompts) <= 6 * 20
    for prompt in (prompt for prompt in prompts if prompt.label == "chain_sum"):
        question = prompt.text.removeprefix("State the final answer to the following arithmetic problem: ")
        assert eval(question.removesuffix("=")) == int(prompt.ground_truth)
        assert prompt.columns == {"task": "chain_sum"}
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    again = [(row.values["prompt"], row.values["ground_truth"]) for row in read_reasoning(TASKS, {"size": 20})]
    assert {(prompt.text, prompt.ground_truth) for prompt in prompts} <= set(again)
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    assert load(f"reasoning:{TASKS}?size=20") == prompts, "a later load comes from the cache"


def test_options_go_to_the_task() -> None:
    made = make("chain_sum", size=400, max_terms=2, max_digits=1)
    assert len(made) == 400
    assert 50 < len({row["prompt"] for row in made}) < 200, "two terms of one digit: 200 sums in all"


def test_levels_are_labels_of_rising_difficulty() -> None:
    lengths: dict[str, list[int]] = {f"chain_sum level {level}": [] for level in range(4)}
    for row in make("chain_sum", size=100, levels="0-3"):
        lengths[row["label"]].append(len(row["prompt"]))
    means = [sum(part) / len(part) for part in lengths.values()]
    assert [len(part) for part in lengths.values()] == [25] * 4
    assert means == sorted(means)
    assert len(set(means)) == 4


def test_every_curriculum_can_be_climbed() -> None:
    from reasoning_gym import factory

    for task in ("basic_arithmetic", "letter_counting", "count_bits", "products", "leg_counting"):
        highest = max(len(attribute.levels) for attribute in factory.create_curriculum(task).attributes.values()) - 1
        assert {row["label"] for row in make(task, size=2, levels=highest)} == {f"{task} level {highest}"}


def test_what_the_other_process_finds_wrong_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^pool.source: reasoning:chain_sun: no task named chain_sun, did you mean"):
        load("reasoning:chain_sun")


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        ("composite", {}, "no task named composite"),
        ("gcd", {"sise": 3}, "gcd: .*unexpected keyword argument 'sise'"),
        ("gcd", {"size": 0}, "size is a whole number, not 0"),
        ("gcd", {"size": "many"}, "size is a whole number, not 'many'"),
        ("gcd", {"levels": "3-1"}, "levels is a number such as 2 or a range such as 0-3, not '3-1'"),
        ("gcd", {"levels": 99}, r"gcd has levels 0 to \d+, not 99"),
        ("gsm_symbolic", {"levels": 1}, "gsm_symbolic has no curriculum: leave out levels"),
        ("spell_backward", {"size": 1, "levels": 4}, "spell_backward level 4: Cannot choose from an empty sequence"),
        ("chain_sum", {"max_digits": 0}, "chain_sum: max_digits must be >= min_digits"),
        ("rubiks_cube", {"size": 2}, "rubiks_cube has no gold answer: only its own scorer can judge it"),
    ],
)
def test_what_a_task_does_not_take(tasks: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(tasks, **options)
