"""Scores, pass@k and differences, each with a 95% interval: the one home of such formulas, pure.

Two evaluations of the same prompts are compared by ``compare_answers``, in reports, branches, detectors and effects
alike: by its interval where people are told, by the exact test that goes with it, at a stricter level, where training
is driven. Whatever the test finds at 1%, one-sided, the interval calls clear too (tests/core/test_statistics.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.types import Answer, Evaluation, EvaluationRecord, Example, PassAt, Score

Z95 = 1.959963984540054
ALIKE = 0.9
"""Share of the prompts of two looks that both have answered, from which on they are compared prompt by prompt."""
FLIPPED_ALL, FLIPS = 12, 9_999
"""Differences of which every choice of signs is tried, and how many choices of more of them."""
Verdict = Literal["better", "worse", "unclear"]


@dataclass(frozen=True, slots=True)
class Difference:
    """``value`` is after minus before, ``low`` to ``high`` its interval, of 95% unless another level was asked for.
    Paired: both answered the same prompts, so what is equally hard for both cancels out; that needs far fewer prompts
    for the same certainty. ``se`` is the standard error of a paired one."""

    value: float
    low: float
    high: float
    paired: bool = False
    se: float = 0.0

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
    answers_before: Mapping[str, float],
    answers_after: Mapping[str, float],
) -> Difference:
    """Compare two looks at a split; ``answers`` are scores by prompt id, of those that could be judged. Paired when the
    ids are nearly all the same."""
    both = len(answers_before.keys() & answers_after.keys())
    if both and both >= ALIKE * max(len(answers_before), len(answers_after)):
        return compare_answers(answers_before, answers_after).difference
    return compute_unpaired(before.score, before.ci95, after.score, after.ci95)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two evaluations of the same ``n`` prompts: on how many the later one is better (``gained``) and worse (``lost``),
    by how much on average, and how likely such a rise or fall is by chance, one-sided."""

    gained: int
    lost: int
    n: int
    difference: Difference
    p_rose: float
    p_fell: float


def compare_answers(before: Mapping[str, float], after: Mapping[str, float]) -> Comparison:
    """Compare the scores of the prompts that both have, one at least. Of answers that are right or wrong by McNemar's
    test, of others by a test of sign flips."""
    both = sorted(before.keys() & after.keys())
    moved = [after[prompt] - before[prompt] for prompt in both]
    gained, lost, n = sum(move > 0 for move in moved), sum(move < 0 for move in moved), len(both)
    if all(score in (0, 1) for answers in (before, after) for score in answers.values()):
        p_rose, p_fell = compute_paired_p(lost, gained), compute_paired_p(gained, lost)
        return Comparison(gained, lost, n, compute_paired(gained, lost, n), p_rose, p_fell)
    mean, (low, high) = compute_mean(moved)
    difference = Difference(mean, low, high, paired=True, se=(high - mean) / Z95)
    return Comparison(gained, lost, n, difference, *compute_sign_flip_p(moved))


def compute_sign_flip_p(moved: Sequence[float]) -> tuple[float, float]:
    """Compute how likely a sum of differences at least as high, and at least as low, is when either sign of each is as
    likely: over all ways to choose them where these are few, else over FLIPS seeded ones (Phipson and Smyth 2010, Stat.
    Appl. Genet. Mol. Biol. 9: the one seen counts among them)."""
    import numpy as np  # which commands that compare nothing need not load

    sizes = np.abs([move for move in moved if move != 0])
    if len(sizes) <= FLIPPED_ALL:
        signs = 1 - 2 * (np.arange(2 ** len(sizes))[:, None] >> np.arange(len(sizes)) & 1)
        seen = 0
    else:
        signs = 1 - 2 * np.random.default_rng(0).integers(0, 2, (FLIPS, len(sizes)), dtype=np.int8)
        seen = 1
    sums, found = signs @ sizes, math.fsum(moved)
    near = 1e-9 * float(sizes.sum())  # sums of the same differences in another order
    counts = (float((side * sums >= side * found - near).sum()) for side in (1, -1))
    p_rose, p_fell = ((count + seen) / (len(signs) + seen) for count in counts)
    return p_rose, p_fell


def compute_mean(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Compute the mean, 0 of none, and its 95% interval by the normal distribution."""
    n = max(1, len(values))
    mean = math.fsum(values) / n
    reach = Z95 * math.sqrt(math.fsum((value - mean) ** 2 for value in values) / max(1, n - 1) / n)
    return mean, (mean - reach, mean + reach)


def compute_paired(gained: int, lost: int, n: int) -> Difference:
    """Of ``n`` prompts, 1 or more, ``gained`` became right and ``lost`` became wrong. The adjusted Wald interval of
    Bonett and Price (2012, J. Educ. Behav. Stat. 37), which Fagerland, Lydersen and Laake (2014, Stat. Med. 33)
    recommend: it keeps its level where few prompts change sides, as near an accuracy of 0 or 1."""
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    spread = Z95 * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    low, high = max(-1.0, up - down - spread), min(1.0, up - down + spread)
    return Difference((gained - lost) / n, low, high, paired=True, se=spread / Z95)


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
    return _compute_wilson(successes / n, n)


def _compute_wilson(p: float, n: float) -> tuple[float, float]:
    centre = p + Z95 * Z95 / (2 * n)
    spread = Z95 * math.sqrt(p * (1 - p) / n + Z95 * Z95 / (4 * n * n))
    scale = 1 + Z95 * Z95 / n
    return (centre - spread) / scale, (centre + spread) / scale


# ---------------------------------------------------------------- several completions of each prompt


def compute_pass_at(k: int, correct: int, n: int) -> float:
    """Compute how likely one of ``k`` of ``n`` completions is among the ``correct`` ones, 1 <= k <= n: the unbiased
    estimate of pass@k (Chen et al. 2021, arXiv 2107.03374)."""
    if not 1 <= k <= n or not 0 <= correct <= n:
        raise ValueError(f"pass@{k} of {correct} right among {n}")
    ways = math.comb(n, k)
    return (ways - math.comb(n - correct, k)) / ways


def list_ks(n: int) -> list[int]:
    """List the k of which pass@k is told of ``n`` completions: 1, 2, 4 and so on below ``n``, and ``n``."""
    return [*(1 << i for i in range((n - 1).bit_length())), n]


def compute_shares(shares: Sequence[float], draws: int = 1) -> tuple[float, tuple[float, float]]:
    """Compute the mean of ``shares`` in [0, 1], one or more, each of one prompt and as certain as ``draws`` independent
    completions make it, with its 95% interval over prompts.

    It is Wilson's interval with as many observations as have the variance that was found between prompts: never fewer
    than prompts, nor more than completions. To the shares are added one of 0 and one of 1, or a few prompts that happen
    to agree would seem sure. Of one completion each it is Wilson's own.
    """
    n = len(shares)
    mean = math.fsum(shares) / n
    centre = (n * mean + 1) / (n + 2)
    squares = math.fsum((share - centre) ** 2 for share in (*shares, 0.0, 1.0))
    worth = centre * (1 - centre) * n * (n + 1) / squares
    return mean, _compute_wilson(mean, min(max(worth, n), n * draws))


def compute_pass_rates(counts: Sequence[tuple[int, int]]) -> tuple[PassAt, ...]:
    """Compute pass@1, @2, @4 and so on over prompts, one or more, from how many completions of each are correct and
    how many it had: up to what every prompt had."""
    least = min(n for _, n in counts)
    rates = []
    for k in list_ks(least):
        value, interval = compute_shares([compute_pass_at(k, correct, n) for correct, n in counts], least // k)
        rates.append(PassAt(k, value, *interval))
    return tuple(rates)


def compute_moves(moves: Sequence[float]) -> Difference:
    """Compute the mean of the differences of prompts, one or more: the interval of compute_paired for any numbers. The
    two differences that it adds are as large as the largest (1 where there is none), so that few prompts that happen to
    agree are not sure of anything."""
    n, most = len(moves), max(map(abs, moves)) or 1.0
    centre = math.fsum(moves) / (n + 2)
    squares = math.fsum(move * move for move in (*moves, most, -most)) / (n + 2)
    spread = Z95 * math.sqrt(max(0.0, squares - centre * centre) / (n + 2))
    return Difference(math.fsum(moves) / n, centre - spread, centre + spread, paired=True, se=spread / Z95)


def collect_scores(examples: Sequence[Example]) -> dict[str, list[Score]]:
    """Collect the scores of each prompt, by id, in order."""
    scores: dict[str, list[Score]] = {}
    for example in examples:
        scores.setdefault(example.prompt.id, []).append(example.completion.score)
    return scores


def collect_answers(examples: Sequence[Example]) -> dict[str, Answer]:
    """Collect what was found of each prompt, by id. Errored completions have no part in it."""
    answers = {}
    for prompt, scores in collect_scores(examples).items():
        rewards = [score.reward for score in scores if score.reward is not None]
        right = sum(score.correct for score in scores if not score.errored)
        answers[prompt] = Answer(compute_mean(rewards)[0] if rewards else None, right, len(rewards))
    return answers


def summarise(split: str, examples: Sequence[Example]) -> Evaluation:
    """Summarise one completion or several of each prompt, one prompt at least: errored ones count as not correct, and
    have no part in the mean reward."""
    answers = collect_answers(examples)
    asked = {prompt: len(scores) for prompt, scores in collect_scores(examples).items()}
    counts = [(answer.correct, asked[prompt]) for prompt, answer in answers.items()]
    accuracy, interval = compute_shares([correct / n for correct, n in counts], min(asked.values()))
    rewards = [answer.reward for answer in answers.values() if answer.reward is not None]
    return Evaluation(
        split,
        len(counts),
        accuracy,
        interval,
        *compute_mean(rewards),
        tuple(examples),
        tuple(example.completion.score.error for example in examples if example.completion.score.errored),
        compute_pass_rates(counts) if max(asked.values()) > 1 else (),
    )


# ---------------------------------------------------------------- several runs


def compute_spread(values: Sequence[float]) -> dict[str, Any] | None:
    """Compute mean, standard deviation (n - 1; None of one), lowest and highest, None of no values."""
    if not values:
        return None
    n = len(values)
    mean = math.fsum(values) / n
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1)) if n > 1 else None
    return {"n": n, "mean": mean, "sd": sd, "low": min(values), "high": max(values)}


def describe_spread(spread: Mapping[str, Any] | None) -> str:
    """Describe it as ``0.512 ± 0.021 (0.49 to 0.53)``."""
    if spread is None:
        return "-"
    sd = "" if spread["sd"] is None else f" ± {spread['sd']:.3f}"
    return f"{spread['mean']:.3f}{sd} ({spread['low']:.2f} to {spread['high']:.2f})"
