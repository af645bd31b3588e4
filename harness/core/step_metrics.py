"""Compute the metrics of a step from its groups. Pure.

Whether a group carries signal is judged on its rewards (equal rewards give no advantage), difficulty on its
``correct`` flags, since a completion can earn format credit and be wrong.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal

from harness.types import Completion, Group, Metrics, Prompt, SampleRecord, Score

GOOD_MIXED = 0.4
"""Share of mixed groups from which on a step has signal enough, so that more of them are no gain of their own."""
GroupKind = Literal["mixed", "all_zero", "all_one", "flat", "errored"]


def compute_kind(group: Group, reward_range: tuple[float, float]) -> GroupKind:
    """Classify a group: mixed has signal; all-zero, all-one (the ends of the range), flat (equal elsewhere) have none.

    Errored: not even one completion could be judged.
    """
    if group.mixed:
        return "mixed"
    only = next((c.score.reward for c in group.completions if c.score.reward is not None), None)
    if only is None:
        return "errored"
    low, high = reward_range
    return "all_zero" if only == low else "all_one" if only == high else "flat"


def is_graded(scores: Sequence[Score]) -> bool:
    """Tell whether a reward grades answers and does not only tell right from wrong: none of these is correct, and they
    earn more than the two rewards that nothing and a right form would."""
    rewards = {score.reward for score in scores if score.reward is not None}
    return len(rewards) > 2 and not any(score.correct for score in scores)


def compute_signal(
    groups: Sequence[Group], reward_range: tuple[float, float], expected_rewards: Mapping[str, float]
) -> dict[str, float]:
    """Compute the metrics of one step (docs/glossary.md). Rates are shares of groups, ``completion/*`` and
    ``errored_rate`` of completions.

    ``reward/adjusted`` is the mean of reward minus what was expected of the prompt before the step: the
    choice of prompts moves raw rewards, but not this.
    """
    kinds = Counter(compute_kind(group, reward_range) for group in groups)
    completions = [c for group in groups for c in group.completions]
    rewards = [c.score.reward for c in completions if c.score.reward is not None]
    adjusted = []
    for group in groups:
        expected = expected_rewards[group.prompt.id]
        adjusted += [c.score.reward - expected for c in group.completions if c.score.reward is not None]
    n = len(groups)
    lengths = sorted(c.tokens for c in completions)
    metrics = {
        "reward/mean": fmean(rewards) if rewards else 0.0,
        "reward/std": _spread(rewards),
        "reward/adjusted": fmean(adjusted) if adjusted else 0.0,
        "group/mixed_rate": kinds["mixed"] / n,
        "group/all_zero_rate": kinds["all_zero"] / n,
        "group/all_one_rate": kinds["all_one"] / n,
        "group/flat_rate": kinds["flat"] / n,
        "group/no_signal_rate": (kinds["all_zero"] + kinds["all_one"] + kinds["flat"]) / n,
        "group/solved_rate": sum(all(c.score.correct for c in g.completions) for g in groups) / n,
        "group/unsolved_rate": sum(
            not any(c.score.correct for c in g.completions) and not all(c.score.errored for c in g.completions)
            for g in groups
        )
        / n,
        "group/proxy_rate": sum(g.mixed and not any(c.score.correct for c in g.completions) for g in groups) / n,
        "completion/correct_rate": sum(c.score.correct for c in completions) / len(completions),
        "completion/errored_rate": sum(c.score.errored for c in completions) / len(completions),
        "completion/truncated_rate": sum(c.truncated for c in completions) / len(completions),
        "completion/tokens_mean": fmean(lengths),
        "completion/tokens_max": float(lengths[-1]),
        "completion/tokens": float(sum(lengths)),
        "completion/distinct_rate": fmean(len({c.text for c in g.completions}) / len(g.completions) for g in groups),
        "completion/truncated_paid": _paid([c for c in completions if c.truncated], reward_range),
        "group/mixed_tokens_rate": sum(c.tokens for g in groups if g.mixed for c in g.completions)
        / max(1, sum(lengths)),
        **_compute_spread(groups),
    }
    for reason, count in Counter(reason_of(c.score.reason, c.truncated) for c in completions).items():
        metrics[f"reason/{reason}"] = count / len(completions)
    for name in sorted({name for c in completions for name in c.score.components}):
        metrics[f"component/{name}"] = fmean(c.score.components.get(name, 0.0) for c in completions)
    for name in sorted({name for c in completions for name in c.score.logged}):
        own = f"logged_{name}" if f"reward/{name}" in metrics else name
        metrics[f"reward/{own}"] = fmean(c.score.logged[name] for c in completions if name in c.score.logged)
    return metrics


def describe_step(metrics: Metrics) -> str:
    """Describe a step in one line of the log."""
    if "reward/mean" not in metrics:
        return (
            f"loss={metrics['loss']:.4f} tokens={metrics['completion/tokens']:.0f} grad={metrics['grad/norm']:.3f} "
            f"{metrics['time/step_s']:.2f}s"
        )
    return (
        f"reward={metrics['reward/mean']:.4f} adjusted={metrics['reward/adjusted']:+.4f} "
        f"no_signal={metrics['group/no_signal_rate']:.2f} kl={metrics['kl/mean']:.4f} {metrics['time/step_s']:.2f}s"
    )


def describe_broken_reward(groups: Sequence[Group], step: int, limit: float) -> str:
    """Say why a run ends whose reward fails on more than ``limit`` of the completions."""
    scores = [completion.score for group in groups for completion in group.completions]
    errors = [score.error for score in scores if score.errored]
    return (
        f"the reward failed on {len(errors) / len(scores):.0%} of the completions of step {step} "
        f"(limit {limit:.0%}), so its update was discarded; the first error: {errors[0]}"
    )


def _paid(completions: Sequence[Completion], reward_range: tuple[float, float]) -> float:
    """Return their mean reward as a share of the range; 0 of none."""
    low, high = reward_range
    rewards = [c.score.reward for c in completions if c.score.reward is not None]
    return (fmean(rewards) - low) / (high - low) if rewards else 0.0


def _compute_spread(groups: Sequence[Group]) -> dict[str, float]:
    """Compute the standard error of the mean reward of a group, and the standard deviation of those means between
    prompts without it, by the one-way analysis of variance."""
    judged = [[c.score.reward for c in g.completions if c.score.reward is not None] for g in groups]
    means, errors = [], []
    for rewards in judged:
        if len(rewards) > 1:
            mean = math.fsum(rewards) / len(rewards)
            means.append(mean)
            errors.append(math.fsum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1) / len(rewards))
    error = math.fsum(errors) / max(1, len(errors))
    spread = _spread(means) ** 2 * len(means) / max(1, len(means) - 1) - error
    return {"group/mean_error": math.sqrt(error), "group/mean_spread": math.sqrt(max(0.0, spread))}


def _spread(values: Sequence[float]) -> float:
    """Standard deviation of a population, 0 of none. statistics.pstdev is exact and thirty times slower."""
    if not values:
        return 0.0
    mean = fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def reason_of(reason: str, truncated: bool) -> str:
    """Return the reason code; a cut completion without an answer is ``truncated``, not ``not_extracted``."""
    return "truncated" if truncated and reason in ("not_extracted", "wrong", "no_working", "empty_answer") else reason


def select_samples(groups: Sequence[Group], step: int, limit: int) -> list[SampleRecord]:
    """Select the best and worst completion of groups, mixed groups first: about ``limit`` texts for people to read."""

    def spread(group: Group) -> float:
        rewards = [c.score.reward for c in group.completions if c.score.reward is not None]
        return max(rewards) - min(rewards) if rewards else 0.0

    samples = []
    for group in sorted(groups, key=spread, reverse=True)[: (limit + 1) // 2]:
        ranked = sorted(group.completions, key=lambda c: float("-inf") if c.score.reward is None else c.score.reward)
        for kind, completion in (("best", ranked[-1]), ("worst", ranked[0])):
            samples.append(to_sample(step, kind, group.prompt, completion))
    return samples[:limit]


def to_sample(step: int, kind: str, prompt: Prompt, completion: Completion) -> SampleRecord:
    """Turn a completion into the record that people read."""
    return SampleRecord(
        step=step,
        kind=kind,
        prompt=prompt.text,
        ground_truth=prompt.ground_truth,
        completion=completion.text,
        reward=completion.score.reward,
        correct=completion.score.correct,
        reason=reason_of(completion.score.reason, completion.truncated),
    )
