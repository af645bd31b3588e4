"""Proportions and their differences, each with a 95% interval: the one home of such formulas, pure and without NumPy.

Two evaluations of the same prompts are compared by the interval of ``compute_paired``, in reports, branches, detectors
and effects alike. What drives training is decided by the exact test that goes with it, ``compute_paired_p``, at a
stricter level: whatever it finds at 1%, one-sided, the interval calls clear too (tests/core/test_statistics.py).
"""

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
    """``value`` is after minus before, ``low`` to ``high`` its interval, of 95% unless another level was asked for.
    Paired: both answered the same prompts, so what is equally hard for both cancels out; that needs far fewer prompts
    for the same certainty."""

    value: float
    low: float
    high: float
    paired: bool = False

    @property
    def verdict(self) -> Verdict:
        return "better" if self.low > 0 else "worse" if self.high < 0 else "unclear"

    @property
    def document(self) -> dict[str, Any]:
        """The part of a JSON document that tells of it."""
        interval = [self.low, self.high]
        return {"difference": self.value, "ci95": interval, "paired": self.paired, "verdict": self.verdict}


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
    """Compare two looks at a split; ``answers`` are 1 or 0 by prompt id, of those that could be judged. Paired when the
    ids are nearly all the same."""
    gained, lost, n = count_changes(answers_before, answers_after)
    if n and n >= ALIKE * max(len(answers_before), len(answers_after)):
        return compute_paired(gained, lost, n)
    return compute_unpaired(before.accuracy, before.ci95, after.accuracy, after.ci95)


def count_changes(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[int, int, int]:
    """Count the prompts that became right, that became wrong, and all that both have; answers are 1 or 0 by id."""
    both = before.keys() & after.keys()
    gained = sum(after[prompt] > before[prompt] for prompt in both)
    lost = sum(after[prompt] < before[prompt] for prompt in both)
    return gained, lost, len(both)


def compute_paired(gained: int, lost: int, n: int) -> Difference:
    """Of ``n`` prompts, 1 or more, ``gained`` became right and ``lost`` became wrong. The adjusted Wald interval of
    Bonett and Price (2012, J. Educ. Behav. Stat. 37), which Fagerland, Lydersen and Laake (2014, Stat. Med. 33)
    recommend: it keeps its level where few prompts change sides, as near an accuracy of 0 or 1."""
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    spread = Z95 * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    low, high = max(-1.0, up - down - spread), min(1.0, up - down + spread)
    return Difference((gained - lost) / n, low, high, paired=True)


def compute_paired_p(gained: int, lost: int) -> float:
    """McNemar's exact test, one-sided: how likely are at least ``lost`` among the prompts that changed sides when both
    ways are alike."""
    changed = gained + lost
    ways = total = math.comb(changed, lost)
    for k in range(lost, changed):
        ways = ways * (changed - k) // (k + 1)
        total += ways
    return float(total / 2**changed)


def compute_unpaired(
    before: float, ci_before: tuple[float, float], after: float, ci_after: tuple[float, float]
) -> Difference:
    """Of two samples with their Wilson intervals: the hybrid score interval of Newcombe (1998, Stat. Med. 17)."""
    value = after - before
    low = value - math.hypot(after - ci_after[0], ci_before[1] - before)
    high = value + math.hypot(ci_after[1] - after, before - ci_before[0])
    return Difference(value, low, high)


def compute_wilson(successes: int, n: int) -> tuple[float, float]:
    """95% interval of a proportion (Wilson 1927), which behaves near 0 and 1, unlike the normal one."""
    p = successes / n
    centre = p + Z95 * Z95 / (2 * n)
    spread = Z95 * math.sqrt(p * (1 - p) / n + Z95 * Z95 / (4 * n * n))
    scale = 1 + Z95 * Z95 / n
    return (centre - spread) / scale, (centre + spread) / scale
