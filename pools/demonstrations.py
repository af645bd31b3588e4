"""The demonstrations that a run of kind sft learns from, in an order that is a function of its seed and the step."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from harness.core.seeds import derive_seed
from harness.types import Prompt


@dataclass(frozen=True)
class Demonstrations:
    """``prompts`` that have one, ``batch`` of them a step. Each epoch takes all of them in an order of its own; a step
    may end one and begin the next."""

    prompts: Sequence[Prompt]
    batch: int
    seed: int

    def draw(self, step: int) -> list[Prompt]:
        """Return those of ``step`` (1 is the first)."""
        n, start = len(self.prompts), (step - 1) * self.batch
        places = range(start, start + self.batch)
        return [self.prompts[_order(self.seed, place // n, n)[place % n]] for place in places]

    def epoch(self, step: int) -> float:
        """Return how many times the demonstrations were gone through after ``step``."""
        return step * self.batch / len(self.prompts)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, n: int) -> Sequence[int]:
    return random.Random(derive_seed(seed, "sft", "order", epoch)).sample(range(n), n)
