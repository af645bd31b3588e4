"""Measure a model before a run: can GRPO improve it, and at which group size.

A group teaches when its rewards differ. From ``n`` completions of a prompt, of which ``c`` earned some reward, the
chance that ``G`` of them all earn it is C(c, G) / C(n, G): the unbiased form of p^G (Chen et al. 2021,
arXiv:2107.03374, have it for pass@k). Summed over the rewards seen this is the chance of a group without signal; where
rewards are 0 and 1 it is p^G + (1-p)^G.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb, floor
from statistics import fmean
from typing import Literal

from harness.core.step_metrics import reason_of
from harness.types import Group, Knobs

GROUP_SIZES = (2, 4, 8, 16, 32, 64)
BINS = 8
"""Bars of the histogram between the prompts never solved and those always solved."""
ENOUGH_SIGNAL = 0.3
"""Share of groups with signal from which on a run is worth its rollouts."""
FORMLESS = ("not_extracted", "no_working", "empty_answer", "truncated")
"""Reason codes of completions without an answer to judge."""
Suitability = Literal["good", "too easy", "too hard", "not verifiable"]


@dataclass(frozen=True, slots=True)
class Probe:
    """``no_signal`` goes by group size. ``histogram`` counts prompts: never solved, ``BINS`` equal parts of the pass
    rates between, always solved. Everything else is a share in [0, 1], of completions except ``ever_solved``."""

    prompts: int
    completions: int
    pass_rate: float
    ever_solved: float
    histogram: tuple[int, ...]
    no_signal: Mapping[int, float]
    truncated: float
    errored: float
    reasons: Mapping[str, float]
    tokens_mean: float


def compute_probe(groups: Sequence[Group], *, group_size: int) -> Probe:
    """Compute pass rates and signal. ``groups`` hold the same number of completions each, at least the intended
    ``group_size``."""
    completions = [c for group in groups for c in group.completions]
    rates = [fmean(c.score.correct for c in group.completions) for group in groups]
    n = len(groups[0].completions)
    sizes = sorted({size for size in (*GROUP_SIZES, group_size) if size <= n})
    reasons = Counter(reason_of(c.score.reason, c.truncated) for c in completions)
    return Probe(
        prompts=len(groups),
        completions=len(completions),
        pass_rate=fmean(rates),
        ever_solved=fmean(rate > 0 for rate in rates),
        histogram=compute_histogram(rates),
        no_signal={size: fmean(compute_no_signal(group, size) for group in groups) for size in sizes},
        truncated=fmean(c.truncated for c in completions),
        errored=fmean(c.score.errored for c in completions),
        reasons={name: count / len(completions) for name, count in reasons.most_common()},
        tokens_mean=fmean(c.tokens for c in completions),
    )


def compute_no_signal(group: Group, size: int) -> float:
    """Compute the chance that ``size`` of the group's completions have equal rewards. Errored ones count as one more
    reward."""
    counts = Counter(completion.score.reward for completion in group.completions)
    return sum(comb(count, size) for count in counts.values()) / comb(len(group.completions), size)


def compute_histogram(rates: Sequence[float]) -> tuple[int, ...]:
    """Count prompts by pass rate, ``BINS`` + 2 counts: 0, the parts between, 1."""
    counts = [0] * (BINS + 2)
    for rate in rates:
        counts[0 if rate == 0 else BINS + 1 if rate == 1 else 1 + floor(rate * BINS)] += 1
    return tuple(counts)


def judge(probe: Probe, knobs: Knobs) -> tuple[Suitability, str]:
    """Judge whether a run is worth its rollouts, and what to change if not."""
    signal = 1 - probe.no_signal[knobs.group_size]
    cut = max(probe.truncated, probe.reasons.get("cut_in_thinking", 0.0))
    formless = sum(probe.reasons.get(name, 0.0) for name in FORMLESS)
    if probe.errored > 0.1:
        return "not verifiable", (
            f"the reward failed on {probe.errored:.0%} of the completions: fix it, or where nothing can be verified "
            "take supervised or preference tuning instead of GRPO"
        )
    if signal >= ENOUGH_SIGNAL:
        return "good", f"{signal:.0%} of the groups of {knobs.group_size} would have signal"
    if probe.pass_rate > 0.5:
        return "too easy", (
            f"{probe.pass_rate:.0%} of the completions are right, so only {signal:.0%} of the groups have signal: take "
            "harder prompts"
        )
    if cut > 0.5:
        return "too hard", (
            f"{cut:.0%} of the completions were cut at {knobs.max_tokens} tokens: raise knobs.max_tokens"
        )
    if formless > 0.5:
        return "too hard", (
            f"{formless:.0%} of the completions have no answer in the form the reward asks for: say the form in "
            "pool.system_prompt, or show it with a supervised start (warmstart.steps)"
        )
    if probe.ever_solved == 0:
        return "too hard", (
            f"none of {probe.completions:,} completions was right, so GRPO has nothing to amplify: take easier "
            "prompts, a stronger model, or supervised fine-tuning first (warmstart.steps)"
        )
    return "too hard", (
        f"only {signal:.0%} of the groups have signal: take easier prompts, or a larger knobs.group_size ("
        + ", ".join(f"{size}: {1 - rate:.0%}" for size, rate in probe.no_signal.items())
        + ")"
    )
