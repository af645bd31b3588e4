"""Findings about prompts and groups: whether there is anything to learn from, and why not.

Signal first: a group teaches when its rewards differ, whatever they are. Only of groups without signal it is asked
whether the prompts are too hard or too easy.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from harness.core.trends import confidence_above
from harness.types import StepRecord
from policies.detectors.signs import RATE_NOISE, TRUNCATED, Sign, confidence_of, found, rate
from policies.view import View

DRY = 0.05
"""Share of mixed groups under which hardly any group teaches."""
DRY_STEPS, DRY_NIGHT = 8, 30
"""Steps in which that is no chance any more, and after which nothing else is expected."""
FLAT = 0.5
FLAT_RIGHT = 0.1
"""Right completions from which on more than the format is paid."""
SOLVED = 0.75
ENOUGH_SIGNAL = 0.6
"""Share of mixed groups from which on nothing is wrong with the prompts."""
NO_MIDDLE, NO_MIDDLE_SIDE = 0.2, 0.25
"""Prompts are of two kinds: under this share of mixed groups, from this share of all-zero and of all-one ones on."""
SMALL_GROUP, LARGE_GROUP = 8, 16
SMALL_NO_SIGNAL = 0.4
LARGER_GIVES = 0.15
OTHERS_GIVE = 1.3
OTHERS_GIVE_AT_LEAST = 0.1
TOKENS_USED = 0.25
"""Share of the sampled tokens, those of mixed groups, under which groups are larger than they are worth."""


def find_no_signal(view: View) -> Sign | None:
    """Find a night without signal: over thirty steps hardly any group taught, whatever was tried meanwhile; or few did
    between two kinds of prompts, and dev is where it was."""
    steps = find_night(view.snapshot.steps)
    if steps is None:
        return None
    metrics = ("group/mixed_rate", "group/all_zero_rate", "group/all_one_rate", "group/flat_rate")
    mixed, zero, one, _ = means = [fmean(view.values(metric, steps)) for metric in metrics]
    apart = mixed < NO_MIDDLE and min(zero, one) >= NO_MIDDLE_SIDE and not view.has_learned
    if mixed >= DRY and not apart:
        return None
    shown = ", ".join(f"{metric} {mean:.2f}" for metric, mean in zip(metrics, means, strict=True))
    return found("warning", f"{shown} over steps {steps[0].step}-{steps[-1].step}", 0.99, steps)


def find_night(steps: Sequence[StepRecord]) -> Sequence[StepRecord] | None:
    """Return the newest steps that make a night, None before there are as many. A row of a log may stand for several,
    but some rows it must have."""
    taken = 0.0
    for first in range(len(steps) - 1, -1, -1):
        taken += max(1.0, steps[first].metrics.get("update/applied", 1.0))
        if taken >= DRY_NIGHT and len(steps) - first >= DRY_STEPS:
            return steps[first:]
    return None


def find_unsolved(view: View) -> Sign | None:
    """Find that hardly any group teaches and the others are wrong throughout, for no reason that has a finding. While
    dev lies below its best the weights are in question, not the prompts."""
    if view.mean("completion/truncated_rate") >= TRUNCATED or view.loss_on_dev is not None or is_flat(view):
        return None
    steps = view.since[-DRY_STEPS:]
    if fmean(view.values("group/mixed_rate", steps)) >= DRY or fmean(view.lost(steps)) < 1 - 2 * DRY:
        return None
    evidence = view.evidence("group/all_zero_rate", "group/mixed_rate", "reward/mean", "completion/truncated_rate")
    return found("warning", evidence, confidence_of(view, "group/mixed_rate", 0.1, below=True), steps)


def find_flat(view: View) -> Sign | None:
    """Find equal rewards between the ends: only the format is paid, so there is nothing to learn from. Where some
    completions are right it is a matter of the prompts."""
    if not is_flat(view):
        return None
    return rate(view, "group/flat_rate", FLAT, "completion/correct_rate", "completion/distinct_rate")


def is_flat(view: View) -> bool:
    steps = view.since[-DRY_STEPS:]
    mixed, flat = (fmean(view.values(f"group/{kind}_rate", steps)) for kind in ("mixed", "flat"))
    return mixed < DRY and flat >= FLAT and fmean(view.values("completion/correct_rate", steps)) < FLAT_RIGHT


def find_solved(view: View) -> Sign | None:
    """Find groups without a wrong completion, and without anything to tell these apart."""
    if view.mean("group/mixed_rate") > 1 - SOLVED:
        return None
    return rate(view, "group/solved_rate", SOLVED, "group/mixed_rate")


def find_no_middle(view: View) -> Sign | None:
    """Find prompts of two kinds, all right and all wrong, with hardly any between that would teach."""
    if view.mean("group/mixed_rate") >= NO_MIDDLE or view.mean("group/all_zero_rate") < NO_MIDDLE_SIDE:
        return None
    return rate(view, "group/all_one_rate", NO_MIDDLE_SIDE, "group/all_zero_rate", "group/mixed_rate")


def find_poor_prompts(view: View) -> Sign | None:
    """Find that other prompts would give clearly more mixed groups than those the focus chooses."""
    drawn, others = view.mean("pool/mixed_expected"), view.mean("pool/mixed_expected_others")
    enough = view.mean("group/mixed_rate") >= ENOUGH_SIGNAL
    if enough or others < OTHERS_GIVE * drawn or others - drawn < OTHERS_GIVE_AT_LEAST:
        return None
    metrics = ("pool/mixed_expected_others", "pool/mixed_expected")
    gain = [others - drawn for others, drawn in zip(*(view.values(m, view.window) for m in metrics), strict=True)]
    evidence = view.evidence("group/mixed_rate", "pool/mixed_expected", "pool/mixed_expected_others")
    return found("warning", evidence, confidence_above(gain, 0.0, RATE_NOISE), view.window)


def find_small_groups(view: View) -> Sign | None:
    """Find groups so small that chance alone makes them equal, which other prompts would not mend, or that their means
    tell more of chance than of the prompts."""
    metrics = ("pool/mixed_expected", "pool/mixed_expected_larger", "pool/mixed_expected_others")
    drawn, larger, others = map(view.mean, metrics)
    told = f"group_size {view.knobs.group_size}, "
    if view.knobs.group_size >= SMALL_GROUP:
        return None
    if larger - drawn < LARGER_GIVES or others >= OTHERS_GIVE * drawn:
        error, spread = view.mean("group/mean_error"), view.mean("group/mean_spread")
        if error <= spread / 2:
            return None
        told += f"group/mean_error {error:.2f} of prompts that differ by {spread:.2f}, "
    return rate(view, "group/no_signal_rate", SMALL_NO_SIGNAL, *metrics, told=told)


def find_large_groups(view: View) -> Sign | None:
    """Find large groups of which few enter an update: for given prompts, smaller ones give as many mixed groups for
    fewer tokens (docs/pools.md)."""
    used = view.mean("group/mixed_tokens_rate")
    if view.knobs.group_size < LARGE_GROUP or used >= TOKENS_USED or view.mean("group/mixed_rate") == 0:
        return None
    evidence = f"group_size {view.knobs.group_size}, " + view.evidence("group/mixed_tokens_rate", "group/mixed_rate")
    confidence = confidence_of(view, "group/mixed_tokens_rate", TOKENS_USED, below=True)
    return found("warning", evidence, confidence, view.window)
