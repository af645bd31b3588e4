from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InputError
from pools.splits import split_prompts
from tests.builders import make_prompt

SIZES = {"probe": 5, "dev": 10, "test": 15}
PROMPTS = [make_prompt(f"p{i}") for i in range(100)]


@given(probe=st.integers(1, 20), dev=st.integers(1, 20), test=st.integers(1, 20), size=st.integers(61, 120))
def test_splits_are_disjoint_and_together_everything(probe: int, dev: int, test: int, size: int) -> None:
    prompts = [make_prompt(f"p{i}") for i in range(size)]
    splits = split_prompts(prompts, {"probe": probe, "dev": dev, "test": test})
    found = [prompt.id for part in splits.values() for prompt in part]
    assert sorted(found) == sorted(prompt.id for prompt in prompts)
    assert [len(splits[name]) for name in ("probe", "dev", "test")] == [probe, dev, test]


def test_the_order_of_the_source_does_not_matter() -> None:
    shuffled = random.Random(3).sample(PROMPTS, len(PROMPTS))
    assert split_prompts(shuffled, SIZES) == split_prompts(PROMPTS, SIZES)


def test_the_state_of_the_global_generator_does_not_matter() -> None:
    random.seed(1)
    first = split_prompts(PROMPTS, SIZES)
    random.seed(2)
    assert split_prompts(PROMPTS, SIZES) == first


def test_other_sizes_do_not_move_the_test_split() -> None:
    changed = split_prompts(PROMPTS, {"probe": 30, "dev": 3, "test": 15})
    assert changed["test"] == split_prompts(PROMPTS, SIZES)["test"]


def test_splits_that_leave_nothing_to_train_on_are_wrong_input() -> None:
    with pytest.raises(InputError, match=r"pool.splits: 30 prompts .* the source has 30"):
        split_prompts(PROMPTS[:30], SIZES)
    assert len(split_prompts(PROMPTS[:31], SIZES)["train"]) == 1
