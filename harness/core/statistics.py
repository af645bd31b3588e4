"""The difference of two accuracies, with a 95% interval: pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.types import EvaluationRecord

Z95 = 1.959963984540054
ALIKE = 0.9
"""Share of the prompts of two looks that both have answered, from which on they are compared prompt by prompt."""
Verdict = Literal["better", "worse", "unclear"]


@dataclass(frozen=True, slots=True)
class Difference:
    """``value`` is after minus before. Paired: both answered the same prompts, so what is equally hard for both
    cancels out; that needs far fewer prompts for the same certainty."""

    value: float
    ci95: tuple[float, float]
    paired: bool

    @property
    def verdict(self) -> Verdict:
        return "better" if self.ci95[0] > 0 else "worse" if self.ci95[1] < 0 else "unclear"


VERDICTS: Mapping[Verdict, str] = {"better": "Better", "worse": "Worse", "unclear": "No clear change"}


def describe_interval(found: Mapping[str, Any]) -> str:
    """``+0.462 [+0.410, +0.510] prompt by prompt``, of a document with difference, ci95 and paired."""
    low, high = found["ci95"]
    how = "prompt by prompt" if found["paired"] else "unpaired"
    return f"{found['difference']:+.3f} [{low:+.3f}, {high:+.3f}] {how}"


def compute_difference(
    before: EvaluationRecord,
    after: EvaluationRecord,
    answers_before: Mapping[str, int],
    answers_after: Mapping[str, int],
) -> Difference:
    """Two looks at a split; ``answers`` are 1 or 0 by prompt id, of those that could be judged. Paired when the ids are
    nearly all the same."""
    both = answers_before.keys() & answers_after.keys()
    if both and len(both) >= ALIKE * max(len(answers_before), len(answers_after)):
        gained = sum(answers_after[prompt] > answers_before[prompt] for prompt in both)
        lost = sum(answers_after[prompt] < answers_before[prompt] for prompt in both)
        return compute_paired(gained, lost, len(both))
    return compute_unpaired(before.accuracy, before.ci95, after.accuracy, after.ci95)


def compute_paired(gained: int, lost: int, n: int) -> Difference:
    """Of ``n`` prompts ``gained`` became right and ``lost`` became wrong. The adjusted Wald interval of Bonett and
    Price (2012, J. Educ. Behav. Stat. 37), which keeps its level for small n too."""
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    spread = Z95 * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    low, high = max(-1.0, up - down - spread), min(1.0, up - down + spread)
    return Difference((gained - lost) / n, (low, high), paired=True)


def compute_unpaired(
    before: float, ci_before: tuple[float, float], after: float, ci_after: tuple[float, float]
) -> Difference:
    """Of two samples with their Wilson intervals: the hybrid score interval of Newcombe (1998, Stat. Med. 17)."""
    value = after - before
    low = value - math.hypot(after - ci_after[0], ci_before[1] - before)
    high = value + math.hypot(ci_after[1] - after, before - ci_before[0])
    return Difference(value, (low, high), paired=False)


def compute_wilson(successes: int, n: int) -> tuple[float, float]:
    """95% interval of a proportion (Wilson 1927), which behaves near 0 and 1, unlike the normal one."""
    z = 1.959963984540054
    p = successes / n
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return (centre - spread) / scale, (centre + spread) / scale
