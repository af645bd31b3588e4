"""Generated sums in words, answered in digits: ``What is forty-seven plus twelve?`` -> ``47 + 12 = \\boxed{59}``.

A small chat model reads the numbers well and adds them badly, so some answers are right and some are wrong: what GRPO
needs. Labels are the digits of the two numbers, e.g. ``2+1``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from harness.types import Prompt

ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def spell(number: int) -> str:
    """Write 0 to 99 in words."""
    if number < len(ONES):
        return ONES[number]
    tens, ones = divmod(number, 10)
    return f"{TENS[tens]}-{ONES[ones]}" if ones else TENS[tens]


def generate(size: int = 2000, highest: int = 99) -> Iterator[Prompt]:
    """Generate ``size`` distinct sums of two numbers from 1 to ``highest`` (at most 99).

    The content does not depend on a run's seed: splits stay the same from run to run.
    Raises ValueError when there are not so many sums.
    """
    if not 1 <= highest <= 99 or not 1 <= size <= highest**2:
        raise ValueError(f"highest is 1 to 99, size 1 to its square: there are not {size} sums of numbers to {highest}")
    for place in random.Random(f"word-sums-{highest}").sample(range(highest**2), size):
        a, b = place // highest + 1, place % highest + 1
        yield Prompt(
            id="",
            text=f"What is {spell(a)} plus {spell(b)}?",
            ground_truth=str(a + b),
            label=f"{len(str(a))}+{len(str(b))}",
            demonstration=f"{a} + {b} = \\boxed{{{a + b}}}",
        )
