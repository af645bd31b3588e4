"""Specs with stages: what each of them is made of, and what is refused."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from harness.config.load import load_spec
from harness.config.stages import Stage, describe, expand, load_described, load_stages
from harness.errors import InputError

SPEC = """
[knobs]
temperature = 0.9
[policy]
kind = "llm"
[budget]
steps = 60
[[stage]]
name = "first"
kind = "sft"
from = "base"
examples = 1024
batch = 16
[[stage]]
name = "second"
kind = "sft"
from = "base"
sft.epochs = 2
evaluate.every = 5
[[stage]]
name = "third"
knobs.max_tokens = 512
"""


def expand_spec(text: str = SPEC, *overrides: str) -> dict[str, Stage]:
    return {stage.name: stage for stage in expand(tomllib.loads(text), overrides)}


def test_sections_above_hold_for_all_and_a_stage_may_hold_any() -> None:
    stages = expand_spec()
    assert [(s.name, s.parent, s.spec.kind) for s in stages.values()] == [
        ("first", "base", "sft"), ("second", "base", "sft"), ("third", "second", "grpo"),
    ]  # fmt: skip
    assert {s.spec.knobs.temperature for s in stages.values()} == {0.9}
    assert (stages["first"].spec.sft.examples, stages["first"].spec.sft.batch) == (1024, 16)
    assert stages["second"].spec.evaluate.every == 5
    assert stages["third"].spec.knobs.max_tokens == 512
    assert stages["first"].spec.knobs.max_tokens == 64


def test_how_long_a_stage_is_and_who_decides_there_are_its_own() -> None:
    stages = expand_spec()
    assert "steps" in stages["first"].spec.budget.model_fields_set
    assert "steps" not in stages["second"].spec.budget.model_fields_set
    assert stages["third"].spec.budget.steps == 60
    assert [s.spec.policy.kind for s in stages.values()] == ["rules", "rules", "llm"]
    given = expand_spec(SPEC, "budget.steps=7")
    assert [s.spec.budget.steps for s in given.values()] == [7, 7, 7]


def test_overrides_hold_for_all_or_for_one() -> None:
    stages = expand_spec(SPEC, "second.knobs.beta=0.1", "knobs.beta=0.2", "seed=3", "third.evaluate.every=2")
    assert [s.spec.knobs.beta for s in stages.values()] == [0.2, 0.1, 0.2]
    assert {s.spec.seed for s in stages.values()} == {3}
    assert [s.spec.evaluate.every for s in stages.values()] == [10, 5, 2]
    with pytest.raises(InputError, match=r"stage first: fourth: no such field"):
        expand_spec(SPEC, "fourth.knobs.beta=0.1")


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ('name = "first"', "", "stage: number 1 has no name"),
        ('name = "second"', 'name = "first"', "stage: two are named first"),
        ('name = "first"', 'name = "base"', "stage: base means something else"),
        ('name = "first"', 'name = "knobs"', "stage: knobs means something else"),
        ('name = "first"', 'name = "a/b"', "must be letters, digits"),
        ('from = "base"\nexamples', 'from = "third"\nexamples', "from is 'third', which is no stage before it: base"),
        ("examples = 1024", "exmples = 1024", "stage first: exmples: no such field"),
        ("knobs.max_tokens = 512", "knobs.max_token = 512", "stage third: knobs.max_token: no such field"),
        ("knobs.max_tokens = 512", "seed = 4", "stage third: seed holds for all stages"),
        ("knobs.max_tokens = 512", 'kind = "dpo"', "stage third: kind: must be 'grpo' or 'sft'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_that_names_the_stage(wrong: str, right: str, said: str) -> None:
    assert wrong in SPEC
    with pytest.raises(InputError) as error:
        expand_spec(SPEC.replace(wrong, right, 1))
    assert said in str(error.value)


def test_the_record_of_a_group_gives_the_same_stages_again() -> None:
    stages = tuple(expand_spec().values())
    again = load_described(describe(stages))
    assert [(s.name, s.parent, s.spec) for s in again] == [(s.name, s.parent, s.spec) for s in stages]
    assert [s.spec.budget.model_fields_set for s in again] == [s.spec.budget.model_fields_set for s in stages]


def test_a_spec_without_stages_is_one_run_as_ever(tmp_path: Any) -> None:
    assert load_stages("arithmetic") is None
    file = tmp_path / "stages.toml"
    file.write_text(SPEC)
    assert load_spec(str(file))[0].knobs.temperature == 0.9
