from __future__ import annotations

import pytest

from harness.errors import InputError
from pools.sources import load_prompts
from pools.word_sums import generate, spell


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (7, "seven"),
        (12, "twelve"),
        (20, "twenty"),
        (21, "twenty-one"),
        (90, "ninety"),
        (99, "ninety-nine"),
    ],
)
def test_numbers_are_spelled(number: int, words: str) -> None:
    assert spell(number) == words


def test_every_sum_is_right_distinct_and_demonstrated() -> None:
    prompts = list(generate(size=81, highest=9))
    assert len({prompt.text for prompt in prompts}) == 81
    words = {spell(number): number for number in range(1, 10)}
    for prompt in prompts:
        a, b = (words[word] for word in prompt.text.removeprefix("What is ").removesuffix("?").split(" plus "))
        assert prompt.ground_truth == str(a + b)
        assert prompt.demonstration == f"{a} + {b} = \\boxed{{{a + b}}}"
        assert prompt.label == "1+1"


def test_a_larger_source_of_the_same_numbers_is_named_by_its_size() -> None:
    assert len(load_prompts("word-sums?size=500&highest=50", columns={}, template="{prompt}", system="")) == 500
    with pytest.raises(InputError, match=r"pool\.source: word-sums.*there are not 100 sums"):
        load_prompts("word-sums?size=100&highest=9", columns={}, template="{prompt}", system="")
