"""The tables of harness/config/trl_fields.py against the GRPOConfig that is installed."""

from __future__ import annotations

import contextlib
import json
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_args

import pytest
from trl import GRPOConfig

from harness.commands.starting.trl import start_from_trl
from harness.config.from_trl import DECAYS, LOSSES, OPTIMIZERS, SCALES, convert_trl, is_trl_config
from harness.config.load import parse_spec
from harness.config.schema import RunSpec, TrainerSpec
from harness.config.trl_fields import NOT_TAKEN, SCRIPT, TAKEN
from harness.errors import InputError

OF_TRL: dict[str, Field[Any]] = {field.name: field for field in fields(GRPOConfig)}
LEFT = {name: quiet for named in NOT_TAKEN.values() for name, quiet in named.items()}


def default_of(field: Field[Any]) -> Any:
    return field.default if field.default is not MISSING else field.default_factory()  # type: ignore[misc]


def choices(name: str) -> tuple[str, ...]:
    annotation = TrainerSpec.model_fields[name].annotation
    assert annotation is not None
    return get_args(annotation)


def test_every_field_of_trl_is_taken_or_has_a_reason() -> None:
    ours = TAKEN.keys() | LEFT.keys() | (SCRIPT.keys() & OF_TRL.keys())
    assert ours - {"activation_checkpointing"} == OF_TRL.keys() - {"activation_checkpointing"}
    assert sum(map(len, NOT_TAKEN.values())) == len(LEFT), "a field has two reasons"
    assert not TAKEN.keys() & LEFT.keys()


@pytest.mark.parametrize("name", sorted(OF_TRL))
def test_its_default_is_what_the_tables_say(name: str) -> None:
    default = default_of(OF_TRL[name])
    if name in TAKEN:
        assert TAKEN[name].default == default
    elif name in LEFT:
        assert LEFT[name][0] == default


def test_every_target_is_a_field_of_a_spec() -> None:
    for taken in [*TAKEN.values(), *SCRIPT.values()]:
        section, _, field = taken.to.rpartition(".")
        model = RunSpec.model_fields[section].annotation if section else RunSpec
        assert field in model.model_fields, taken.to  # type: ignore[union-attr]


def test_the_choices_are_those_of_a_spec() -> None:
    assert choices("loss_type") == LOSSES
    assert choices("scale_rewards") == SCALES
    assert choices("optimizer") == OPTIMIZERS
    assert set(DECAYS) < set(choices("lr_scheduler"))


def test_a_saved_configuration_leaves_nothing_that_nobody_set(tmp_path: Path) -> None:
    config = json.loads(GRPOConfig(output_dir=str(tmp_path), bf16=False, max_steps=10, use_cpu=False).to_json_string())
    converted = convert_trl(config)
    assert converted.left == ()
    spec = parse_spec(_with_top(converted.tree))
    assert (spec.knobs.learning_rate, spec.knobs.max_tokens, spec.knobs.group_size) == (1e-6, 512, 8)
    assert (spec.seed, spec.trainer.scheduler_total_steps, spec.checkpoint.every) == (42, 10, 500)


def test_what_was_set_and_is_not_taken_is_told_with_its_reason() -> None:
    config = {"steps_per_generation": 4, "loss_type": "cispo", "optim": "paged_adamw_8bit", "top_k": 20,
              "warmup_steps": 0.1, "lr_scheduler_type": "cosine", "reward_weights": [1, 2], "made_up": 1,
              "max_prompt_length": 512, "num_generations": 4}  # fmt: skip
    left = {name: (value, reason) for name, value, reason in convert_trl(config).left}
    assert left.keys() == config.keys() - {"num_generations"}
    assert all(value == config[name] and reason for name, (value, reason) in left.items())
    assert "no field of TRL" in left["made_up"][1]


def test_arguments_of_the_script_name_model_data_and_rewards() -> None:
    config = {"model_name_or_path": "org/m", "use_peft": True, "lora_r": 8, "lora_target_modules": ["q_proj"],
              "dataset_name": "org/d", "dataset_config": "main", "dataset_train_split": "train",
              "reward_funcs": ["lib.rewards.right", "lib.rewards.short"], "reward_weights": [1.0, 0.5],
              "chat_template_kwargs": {"enable_thinking": False}}  # fmt: skip
    spec = parse_spec(_with_top(convert_trl(config).tree))
    assert (spec.model.name, spec.lora.rank, spec.lora.alpha, spec.lora.dropout) == ("org/m", 8, 32, 0.05)
    assert spec.lora.target_modules == ["q_proj"]
    assert spec.pool.source == "hub:org/d?config=main&split=train"
    assert spec.reward.functions == ["lib.rewards:right", "lib.rewards:short"]
    assert spec.reward.weights == [1.0, 0.5]
    assert spec.pool.template_kwargs == {"enable_thinking": False}
    assert parse_spec(_with_top(convert_trl({"model_name_or_path": "org/m"}).tree)).lora.rank == 0


@pytest.mark.parametrize(
    ("tree", "is_one"),
    [
        ({"learning_rate": 1e-6, "num_generations": 8}, True),
        ({"num_generations": 8}, True),
        ({"prompt": "a", "ground_truth": "b"}, False),
        ({"knobs": {"temperature": 1.0}, "seed": 1}, False),
        ([{"learning_rate": 1e-6}], False),
        ({}, False),
    ],
)
def test_it_is_told_from_data_and_specs(tree: Any, is_one: bool) -> None:
    assert is_trl_config(tree) == is_one


VALUES = [None, True, 0, -1, 0.5, 1e999, 10**400, "", "x", "a.b", "x\ny", [], ["a"], [1], {}, {"a": 1}]


@pytest.mark.parametrize("name", sorted(TAKEN | SCRIPT))
def test_any_value_makes_a_spec_or_is_refused_in_one_line(name: str) -> None:
    """By what is built of it, too: a field of the wrong kind is no traceback, and no file that cannot be read."""
    others = {
        "use_peft": True,
        "model_name_or_path": "m",
        "dataset_name": "d",
        "reward_funcs": ["a.b"],
        "max_steps": 10,
    }
    for value in VALUES:
        for config in ({"num_generations": 4, name: value}, {**others, name: value}):
            with contextlib.suppress(InputError):
                start_from_trl("config.json", config)


def test_a_number_that_is_none_is_named() -> None:
    with pytest.raises(InputError, match="--from: learning_rate must be a number, not 'fast'"):
        convert_trl({"learning_rate": "fast"})
    with pytest.raises(InputError, match="--from: dataset_name must be text"):
        convert_trl({"dataset_name": 5})
    assert convert_trl({"learning_rate": "1e-6"}).tree["knobs"]["learning_rate"] == 1e-6


def _with_top(tree: Any) -> dict[str, Any]:
    return {section: values for section, values in tree.items() if section} | tree.get("", {})
