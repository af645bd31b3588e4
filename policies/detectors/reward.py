"""Findings about the reward: it fails, pays everyone, is gamed, or teaches only what stands in for the goal."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from harness.core.trends import compute_median, compute_trend
from harness.types import StepRecord
from policies.detectors.signs import MIN_STEPS, NORMAL_STEPS, TREND_STEPS, Sign, found
from policies.view import P, View, sampling

ERRORED = 0.02
ERRORED_BEFORE = 0.005
LASTING = 10
"""Steps after which a share of errors that was there from the start is told."""
BROKEN, BROKEN_STEPS = 0.05, 6
"""Share of errors that stops a run, and the steps that it takes to be sure of it."""
PAID = 0.9
PAID_JUMP = 0.25
BEYOND = 0.05
"""How far a jump lies above every surprise of the steps before."""
JUMP_STEPS = 4
ALL_PAID = 0.995
PAID_ON_DEV = 0.15
CUT_AND_PAID = 0.05
PROXY, PROXY_SIGNAL = 0.75, 0.2
"""Of the mixed groups, which are this share of all at least, the share without a right completion."""
PROXY_NIGHT = 30
"""Steps after which more right answers are no longer expected of it."""
CREDIT_RISE, CREDIT_JUMP = 0.08, 0.2
"""Rise of the mean reward of wrong completions, as a trend, and beyond doubt."""


def find_errored(view: View) -> Sign | None:
    """Find a reward that cannot be trained on: it started raising (it did not, and now does in two of three steps), or
    it fails on so many completions that updates rest on what is left. Fewer from the start on are worth a word."""
    steps = view.snapshot.steps
    newest, before = steps[-MIN_STEPS:], steps[:-MIN_STEPS][-NORMAL_STEPS:]
    rates, lasting = view.values("completion/errored_rate", newest), steps[-LASTING:]
    level = fmean(view.values("completion/errored_rate", lasting))
    if len(lasting) >= BROKEN_STEPS and level >= BROKEN:
        return found("severe", _tell_errors(level, lasting), 0.95, lasting)
    if rates[-1] >= ERRORED and compute_median(view.values("completion/errored_rate", before)) <= ERRORED_BEFORE:
        failing = sum(rate >= ERRORED for rate in rates)
        evidence = (
            f"completion/errored_rate {rates[-1]:.2f} at step {newest[-1].step}, {failing} of {len(newest)} steps, "
            f"none of note in the {len(before)} before step {newest[0].step}"
        )
        return found("severe", evidence, 1.0, newest) if failing > 1 else found("warning", evidence, 0.7, newest)
    if len(lasting) == LASTING and level >= ERRORED:
        return found("warning", _tell_errors(level, lasting), 0.9, lasting)
    return None


def _tell_errors(level: float, steps: Sequence[StepRecord]) -> str:
    return f"completion/errored_rate {level:.3f} over steps {steps[0].step}-{steps[-1].step}"


def find_pays_everyone(view: View) -> Sign | None:
    """Find that everything is right at once: more than a step of training could do, or though it was cut."""
    steps = view.snapshot.steps[-JUMP_STEPS:]
    right, newest = view.values("completion/correct_rate", steps), steps[-2:]
    if len(steps) < 2 or min(right[-2:]) < PAID:
        return None
    shown = f"completion/correct_rate {right[-2]:.2f}, {right[-1]:.2f} at steps {newest[0].step}, {newest[1].step}"
    before = next((i for i in reversed(range(len(steps))) if right[i] < PAID), None)
    if before is not None and _is_too_good(steps[before], steps[before + 1 :], view):
        surprise = steps[before + 1].metrics.get("reward/adjusted", 0.0)
        evidence = (
            f"{shown} after {right[before]:.2f} at step {steps[before].step}, {surprise:.2f} above what was "
            "expected of the same prompts, sampled as before: the verifier pays everyone"
        )
        return found("severe", evidence, 0.95, steps)
    cut = fmean(view.values("completion/truncated_rate", newest))
    if min(right[-2:]) >= ALL_PAID and cut >= CUT_AND_PAID and not _were_cut_and_right(view):
        evidence = f"{shown}, completion/truncated_rate {cut:.2f}: the verifier pays answers that were cut off"
        return found("severe", evidence, 0.9, newest)
    look = view.newest_look
    on_dev_too = look is None or look.accuracy >= ALL_PAID
    if newest[0] is view.snapshot.steps[0] and min(right) >= ALL_PAID and on_dev_too:
        evidence = f"{shown}, from the first step on: the verifier pays everyone, or there is nothing to learn here"
        return found("severe", evidence, 0.7, newest)
    return _dev_rose_without_signal(view)


def _were_cut_and_right(view: View) -> bool:
    """Tell whether cut completions were right before, too, while others were wrong: then the answer comes before the
    cut, and the verifier still tells right from wrong."""
    return any(
        cut >= CUT_AND_PAID and PAID_JUMP <= right < PAID and cut + right > 1 + CUT_AND_PAID
        for cut, right in zip(
            view.values("completion/truncated_rate", view.snapshot.steps[:-JUMP_STEPS]),
            view.values("completion/correct_rate", view.snapshot.steps[:-JUMP_STEPS]),
            strict=True,
        )
    )


def _dev_rose_without_signal(view: View) -> Sign | None:
    """Find that dev rose by much, prompt by prompt, though no group since the look before had signal: without a
    gradient nothing but the optimizer's momentum moves the weights, so what is paid must have changed."""
    pair = max(view.newest_pairs, key=lambda pair: pair.before, default=None)
    if pair is None:
        return None
    between = [step for step in view.snapshot.steps if pair.before < step.step <= pair.after]
    moved = any(
        s.metrics.get("group/mixed_rate", 1.0) > 0 or s.knobs.beta > 0 or s.parent < pair.before for s in between
    )
    if moved or len(between) < pair.after - pair.before or pair.p_rose >= P or pair.difference < PAID_ON_DEV:
        return None
    evidence = (
        f"dev gained {pair.gained} and lost {pair.lost} of {pair.n} prompts from step {pair.before} to {pair.after}, "
        "though no group between them had signal: the verifier pays everyone"
    )
    return Sign("severe", evidence, 1 - pair.p_rose, pair.before, pair.after)


def _is_too_good(before: StepRecord, since: Sequence[StepRecord], view: View) -> bool:
    """Tell whether rewards jumped further above what was expected than learning takes them: at once by much, or by as
    much in every step while nothing at all is wrong any more."""
    surprises = view.values("reward/adjusted", since)
    if sampling(before.knobs) != sampling(since[0].knobs):
        return False
    was_low = before.metrics.get("completion/correct_rate", 0.0) <= PAID - PAID_JUMP
    if min(view.values("completion/correct_rate", since)) >= ALL_PAID:
        return (surprises[0] if was_low else min(surprises)) >= PAID_JUMP
    # A model that learns fast is better than expected step after step, and a step of hard prompts hides it for once.
    earlier = [step for step in view.snapshot.steps if step.step <= before.step][-NORMAL_STEPS:]
    usual = max(view.values("reward/adjusted", earlier))
    return was_low and surprises[0] >= max(PAID_JUMP, usual + BEYOND)


def find_proxy_only(view: View) -> Sign | None:
    """Find that only wrong answers are told apart: groups are mixed by partial credit and none of their completions is
    right, while the share of right ones does not rise. Such updates serve what stands in for the goal, and KL and
    entropy look calm meanwhile. A reward that is graded has nothing else."""
    if view.snapshot.run.graded:
        return None
    steps = view.since[-PROXY_NIGHT:]
    proxy, mixed = (fmean(view.values(f"group/{kind}_rate", steps)) for kind in ("proxy", "mixed"))
    right = view.values("completion/correct_rate", steps)
    trend = compute_trend(right)
    if mixed < PROXY_SIGNAL or proxy < PROXY * mixed or trend.p_rises < 0.2 or _moved(right) > ERRORED:
        return None
    evidence = (
        f"group/proxy_rate {proxy:.2f} of group/mixed_rate {mixed:.2f}, completion/correct_rate {right[0]:.3f} -> "
        f"{right[-1]:.3f} over steps {steps[0].step}-{steps[-1].step}: only partial credit tells completions apart"
    )
    lasts = len(steps) == PROXY_NIGHT and not view.has_learned
    return found("severe" if lasts or trend.p_falls < P else "warning", evidence, 0.8, steps)


def find_gamed(view: View) -> Sign | None:
    """Find that the model learns to be paid for being wrong: dev falls while its rewards do not, or in the steps the
    reward of wrong completions rises while fewer are right."""
    if view.snapshot.run.graded:  # then reward is all that dev measures too
        return None
    return _gamed_by_dev(view) or _gamed_by_trend(view)


def _gamed_by_dev(view: View) -> Sign | None:
    """Find that dev fell below its best, prompt by prompt, and its rewards did not: spoilt weights lose both."""
    pair, best, newest = view.loss_on_dev, view.best_look, view.newest_look
    if pair is None or best is None or newest is None or newest.reward < best.reward:
        return None
    evidence = (
        f"dev lost {pair.lost} and gained {pair.gained} of {pair.n} prompts from step {pair.before} to {pair.after} "
        f"while its rewards went from {best.reward:.3f} to {newest.reward:.3f}"
    )
    return Sign("severe", evidence, 1 - pair.p_fell, pair.before, pair.after)


def _gamed_by_trend(view: View) -> Sign | None:
    steps = [step for step in view.since[-TREND_STEPS:] if step.metrics.get("completion/correct_rate", 1.0) < PAID]
    if len(steps) < 2 * MIN_STEPS:
        return None
    # Of those that could be judged. Right ones are taken to earn 1, so credit is the mean reward of the others.
    right = [
        min(r / (1 - errored), 1.0) if errored < 1 else 0.0
        for r, errored in zip(
            view.values("completion/correct_rate", steps), view.values("completion/errored_rate", steps), strict=True
        )
    ]
    credit = [
        (reward - r) / (1 - r) if r < 1 else 0.0
        for reward, r in zip(view.values("reward/mean", steps), right, strict=True)
    ]
    right_trend = compute_trend(right)
    rise, more_right = _moved(credit), _moved(right)
    rises = rise >= CREDIT_JUMP or (rise >= CREDIT_RISE and compute_trend(credit).p_rises < P)
    if not rises or right_trend.p_rises < 0.05 or more_right > 0.5 * rise:
        return None
    evidence = (
        f"the mean reward of wrong completions rises by {rise:.2f} while completion/correct_rate moves by "
        f"{more_right:+.2f} over steps {steps[0].step}-{steps[-1].step}"
    )
    severe = more_right <= -CREDIT_RISE or right_trend.p_falls < P
    return found("severe", evidence, 0.9, steps) if severe else found("warning", evidence, 0.6, steps)


def _moved(values: Sequence[float]) -> float:
    """Return how far the last steps lie from the first."""
    return compute_median(values[-MIN_STEPS:]) - compute_median(values[:MIN_STEPS])
