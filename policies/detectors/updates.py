"""Findings about updates: harm done, steps too large and too small, and a machine that became slow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from harness.core.trends import compute_mad, compute_median, compute_noise, compute_trend
from harness.types import StepRecord
from policies.detectors.signs import MIN_STEPS, MIN_TREND, NORMAL_STEPS, Sign, confidence_of, found
from policies.view import NotLogged, View

KL_SPIKE = 0.5
KL_SPIKE_FACTOR = 6.0
"""A spike is over both: nats per token, and this many times the median of the steps before."""
KL_UNUSUAL, KL_UNUSUAL_FACTOR = 0.05, 10.0
"""Over both for two steps, and after enough steps to know what is normal, it is one for this run."""
KL_FURTHER = 1.5
KL_FAR = 0.75
"""Nats per token from which on little of the model is left."""
SWING_STEPS = 12
SWING, SWING_CHANCE = 0.12, 1.5
"""The least spread of rewards, and how many times that of a draw of so few prompts it must be."""
SWING_CORRELATION = -0.65
"""Of 12 independent steps, fewer than one series in a hundred has a lag-1 correlation as low as this (0.7%)."""
GRADIENT_FACTOR = 10.0
UNSTABLE_STEPS, NEWEST = 24, 8
"""Steps that tell of an instability, and how many of them are the newest."""
UNSTABLE_GRADIENT, UNSTABLE_FALL, UNSTABLE_NOISE = 2.5, 0.05, 2.0
"""Times the gradient norms of the first half; what the newest rewards lack to the best as many steps before, as an
amount and as a multiple of its noise."""
DROP, DROP_SHARE, DROP_NOISE = 0.3, 0.5, 4.0
"""Of the range of rewards, of what they had reached, and of their noise in one step: what a drop is over."""
STILL_STEPS, STILL_KL = 6, 1e-5
SLOW_STEPS, SLOW_KL = 12, 1e-4
WARM = 0.5
"""Share of the knob that warm-up or schedule must leave of the learning rate before it is judged."""
BETA = 0.1
BETA_FREE_KL = 0.1
FIRST_UPDATES = (2, 5)
"""Updates behind the weights whose KL tells the learning rate."""
FIRST_STEPS = 30
"""Steps in which these must have come: with long pauses between them KL tells less."""
RATE_KL = 2e-3
RATE_OFF, RATE_LOWEST = 2.5, 0.1
RATE_FAR_KL = 0.1
"""Nats per token over which the rate is too high for any model: SmolLM2 learns well at 0.07, the embedded one at 0.002.
Where the first two steps show as much, the others are not waited for."""
RATE_FAR_ENTROPY = 1.5
"""Times the entropy of the first step, which such a KL says has been turned over: where that is less, it is too far."""
RATE_STEADY = 0.05
RATE_MIXED = 0.25
"""Share of mixed groups under which updates rest on too few of them to tell."""
RATE_BETA = 0.02
"""Largest beta under which KL is free to grow."""
PLATEAU_LOOKS = 8
UPDATED = 0.5
"""Share of the steps that changed the weights from which on dev may be expected to rise."""
SLOWER = 3.0


def find_dev_drop(view: View) -> Sign | None:
    """Find dev below its best by more than chance, prompt by prompt; told once, at the look that shows it."""
    if view.snapshot.steps and not view.snapshot.dev:
        raise NotLogged("dev")
    pair, newest = view.loss_on_dev, view.newest_look
    if pair is None or newest is None or (view.look_age() or 0) > 1:
        return None
    evidence = (
        f"dev {newest.score:.3f} at step {pair.after}, its best at step {pair.before}: {pair.difference:+.3f} "
        f"[{pair.ci95[0]:+.3f}, {pair.ci95[1]:+.3f}]"
    )
    if pair.n:  # a log says nothing of single prompts
        evidence += f", {pair.lost} of {pair.n} prompts lost and {pair.gained} gained"
    return Sign("severe", evidence, 1 - pair.p_fell, pair.before, pair.after)


def find_reward_drop(view: View) -> Sign | None:
    """Find, where no evaluation tells, that rewards lost most of what they had reached: what only a change of the
    prompts could do as well."""
    if view.snapshot.dev:
        return None
    rewards = view.values("reward/mean")
    newest, best = fmean(rewards[-MIN_STEPS:]), _find_best_level(rewards[:-MIN_STEPS])
    if best - newest < max(DROP, DROP_SHARE * best, DROP_NOISE * compute_noise(rewards)):
        return None
    evidence = f"reward/mean {newest:.2f} over the last {MIN_STEPS} steps after {best:.2f}, as shares of its range"
    return found("severe", evidence, 0.9, view.since[-MIN_STEPS:])


def find_not_finite(view: View) -> Sign | None:
    """Find a gradient or weights that were not finite at the last step."""
    faults, done = view.snapshot.faults, view.snapshot.steps_done
    if not faults or done == 0 or faults[-1].step < done:
        return None
    return Sign("severe", f"step {faults[-1].step}: {faults[-1].text}", 1.0, done, done)


def find_kl_spike(view: View) -> Sign | None:
    """Find KL far above the run's own normal for two steps, or once so far that the update before it was too large. It
    rests on few completions, and it is a distance, which a change of knobs does not take back: after one only a further
    rise counts."""
    steps = view.snapshot.steps[-NORMAL_STEPS - 2 :]
    kl = view.values("kl/mean", steps)
    if len(kl) < MIN_STEPS:
        return None
    normal, at_change = compute_median(kl[:-2]), view.values("kl/mean", steps[: -len(view.since)])
    further = max((KL_FURTHER * value for value in at_change[-1:]), default=0.0)
    high = max(KL_SPIKE, KL_SPIKE_FACTOR * normal, further)
    unusual = max(KL_UNUSUAL, KL_UNUSUAL_FACTOR * normal, further) if len(kl) - 2 >= MIN_TREND else high
    if kl[-1] < high and min(kl[-2:]) < unusual:
        return None
    evidence = (
        f"kl/mean {kl[-2]:.3f}, {kl[-1]:.3f} at steps {steps[-2].step}, {steps[-1].step}, median before {normal:.3f}"
    )
    lasts = kl[-2] >= high
    spoilt = lasts and (min(kl[-2:]) >= KL_FAR or view.is_falling)
    return found("severe" if spoilt else "warning", evidence, 0.9 if lasts else 0.6, steps[-2:])


def find_oscillation(view: View) -> Sign | None:
    """Find rewards that swing from step to step, by more than the chance of which prompts are drawn."""
    steps = view.since[-SWING_STEPS:]
    chance = fmean(view.values("reward/std", steps)) / math.sqrt(view.knobs.prompts_per_step)
    rewards = view.values("reward/adjusted", steps)
    spread, mean = compute_mad(rewards), fmean(rewards)
    total = sum((reward - mean) ** 2 for reward in rewards)
    if spread < max(SWING, SWING_CHANCE * chance) or total == 0:
        return None
    correlation = sum((a - mean) * (b - mean) for a, b in pairwise(rewards)) / total
    if correlation > SWING_CORRELATION:
        return None
    evidence = f"reward/adjusted swings: spread {spread:.2f}, lag-1 correlation {correlation:.2f}"
    return found("warning", evidence, -correlation, steps)


def find_gradient_spike(view: View) -> Sign | None:
    """Find gradient norms far above their normal; one alone is worth a note."""
    steps = view.snapshot.steps[-NORMAL_STEPS:]
    norms = [norm for norm in view.values("grad/norm", steps) if norm > 0]
    if len(norms) < MIN_TREND:
        return None
    normal = compute_median(norms[:-3])
    high = [norm for norm in norms[-3:] if norm > GRADIENT_FACTOR * normal]
    if not high:
        return None
    evidence = f"grad/norm up to {max(high):.2g} in the last 3 steps, median before {normal:.2g}"
    return found("warning" if len(high) > 1 else "note", evidence, 0.4 + 0.2 * len(high), steps[-3:])


def find_instability(view: View) -> Sign | None:
    """Find rewards that lost part of what they had reached while gradients grew: no collapse, but the rate is too high
    for what is left to learn."""
    steps = view.since
    parts = steps[: len(steps) // 2], steps[-NEWEST:]
    norms = [[norm for norm in view.values("grad/norm", part) if norm > 0] for part in parts]
    if not all(norms) or compute_median(norms[1]) < UNSTABLE_GRADIENT * compute_median(norms[0]):
        return None
    rewards = view.values("reward/mean", steps)
    newest, best = fmean(rewards[-NEWEST:]), _find_best_level(rewards[:-NEWEST])
    noise = compute_noise(rewards) / math.sqrt(NEWEST)
    if best - newest < max(UNSTABLE_FALL, UNSTABLE_NOISE * noise):
        return None
    evidence = (
        f"reward/mean {newest:.2f} over the last {NEWEST} steps after {best:.2f}, grad/norm "
        f"{compute_median(norms[1]):.2g} after {compute_median(norms[0]):.2g} in the first half"
    )
    return found("warning", evidence, 0.7, steps[-NEWEST:])


def _find_best_level(rewards: Sequence[float]) -> float:
    """Return the highest mean of neighbouring rewards; 0 where there are too few."""
    starts = range(0, len(rewards) - NEWEST + 1, NEWEST // 2)
    return max((fmean(rewards[start : start + NEWEST]) for start in starts), default=0.0)


def find_anchored(view: View) -> Sign | None:
    """Find a beta that holds the model where it was."""
    if view.knobs.beta <= BETA or view.mean("kl/mean") >= BETA_FREE_KL:
        return None
    evidence = f"beta {view.knobs.beta:g}, " + view.evidence("kl/mean", "reward/adjusted")
    return found("warning", evidence, confidence_of(view, "kl/mean", BETA_FREE_KL, below=True, floor=0.01), view.window)


def find_no_op_learning_rate(view: View) -> Sign | None:
    """Find that there is signal, and the model stays where it was. Steps that warm-up holds back do not count."""
    steps = [
        step
        for step in view.since
        if step.metrics.get("update/applied", 1.0) > 0
        and step.metrics.get("learning_rate", 0.0) >= WARM * step.knobs.learning_rate
    ]
    if len(steps) < STILL_STEPS or fmean(view.values("group/mixed_rate", steps)) < 0.1:
        return None
    kl = max(view.values("kl/mean", steps[-MIN_STEPS:]))
    looks = view.snapshot.dev
    stuck = bool(looks) and not view.has_learned
    if kl > STILL_KL and not (kl <= SLOW_KL and len(steps) >= SLOW_STEPS and stuck):
        return None
    evidence = (
        f"kl/mean at most {kl:.1e} at steps {steps[-MIN_STEPS].step}-{steps[-1].step}, after {len(steps)} updates"
    )
    if stuck:
        evidence += f", dev {looks[-1].score:.3f} against {looks[0].score:.3f} at the start"
    return found("warning", evidence, 0.95 if kl <= STILL_KL else 0.8, steps)


def find_learning_rate(view: View) -> Sign | None:
    """Find a first learning rate that is far off: KL of the first updates grows with its square. KL of one step is
    noisy, so all of them but one must say so."""
    measured = measure_rate(view)
    if measured is None:
        return None
    factor, kl, steps = measured
    ordered = sorted(view.values("kl/mean", steps))
    too_high, too_low = ordered[1] > find_far_kl(view), ordered[-2] < RATE_KL / RATE_OFF**2
    if not (too_high or too_low):
        return None
    off = f"{factor:.1f} times too low" if factor > 1 else f"{1 / factor:.1f} times too high"
    evidence = (
        f"kl/mean {kl:.1e} (median of steps {steps[0].step}-{steps[-1].step}) after {FIRST_UPDATES[0]} to "
        f"{FIRST_UPDATES[1]} updates, where a good rate gives {RATE_KL:g}: the learning rate is {off}"
    )
    return found("warning", evidence, 0.9, steps)


def find_far_kl(view: View) -> float:
    """Return the KL over which the first rate is too high: the less a model varies, the sooner it is turned over."""
    entropy = view.values("entropy/mean", view.snapshot.steps[:1])[0]
    return min(RATE_FAR_KL, max(RATE_KL * RATE_OFF**2, RATE_FAR_ENTROPY * entropy))


def measure_rate(view: View) -> tuple[float, float, Sequence[StepRecord]] | None:
    """Measure what the first learning rate is to be multiplied by, with the median KL and the steps that say so; None
    before that is known, and where it cannot be: rate or temperature moved, weights were gone back to, few groups were
    mixed, or beta holds the model.

    lr* = lr sqrt(RATE_KL / KL), fitted on the embedded model from 1e-6 to 1e-3 (docs/decisions.md) and at most a tenth
    lower, since others move further at their good rate. It holds near the initial model only, so after the first
    updates the question is closed; far off, two steps tell.
    """
    steps, first = view.snapshot.steps, view.snapshot.steps[:1]
    if not first or first[0].parent != 0 or len(steps) > FIRST_STEPS or view.last_rollback:
        return None
    if view.changed_at.keys() & {"learning_rate", "temperature"} or view.knobs.beta > RATE_BETA:
        return None
    updates, measured = 0.0, []
    if view.values("kl/mean", first)[0] > RATE_FAR_KL:  # before any update: the reference is another model
        return None
    for step, rate in zip(steps, view.values("learning_rate", steps), strict=True):
        if not abs(rate / step.knobs.learning_rate - 1) < RATE_STEADY:  # warm-up, or a schedule
            return None
        if FIRST_UPDATES[0] <= updates <= FIRST_UPDATES[1]:
            measured.append(step)
        updates += step.metrics.get("update/applied", 1.0)
    if fmean(view.values("group/mixed_rate", steps)) < RATE_MIXED:
        return None
    kl = view.values("kl/mean", measured)
    whole = updates > FIRST_UPDATES[1]
    if len(kl) < 2 or updates > FIRST_UPDATES[1] + 1 or not (whole or min(kl) >= find_far_kl(view)):
        return None
    level = max(compute_median(kl), 1e-12)
    return max(RATE_LOWEST, math.sqrt(RATE_KL / level)), level, measured


def is_rate_open(view: View) -> bool:
    """Tell whether the first updates are still to say what the learning rate should be."""
    updates = sum(step.metrics.get("update/applied", 1.0) > 0 for step in view.snapshot.steps)
    moved = "learning_rate" in view.changed_at or view.last_rollback > 0
    return updates <= FIRST_UPDATES[1] and not moved


def find_plateau(view: View) -> Sign | None:
    """Find that the last looks at dev neither rise nor beat what was before them; told once, at the look that shows
    it."""
    if view.snapshot.steps and not view.snapshot.dev:
        raise NotLogged("dev")
    looks = [look for look in view.snapshot.dev if look.step >= view.last_rollback][-PLATEAU_LOOKS - 1 :]
    if len(looks) <= PLATEAU_LOOKS or view.look_age() != 0:
        return None
    before, *last = looks
    between = [step for step in view.snapshot.steps if step.step > before.step]
    if not between or fmean(step.metrics.get("update/applied", 1.0) for step in between) < UPDATED:
        return None  # without updates there is nothing that could rise
    trend, most = compute_trend([look.score for look in last]), max(look.score for look in last)
    if most >= view.good_score:
        return None
    if trend.p_rises < 0.2 or most > before.ci95[1]:
        return None
    evidence = (
        f"dev {before.score:.3f} at step {before.step}, since then at most "
        f"{most:.3f} in {len(last)} evaluations, {trend.slope:+.4f} each"
    )
    return Sign("warning", evidence, trend.p_rises, before.step, last[-1].step)


def find_slow_sampling(view: View) -> Sign | None:
    """Find a machine that became slow. For people: no rule acts on it, since a clock must not steer a run that can be
    repeated."""
    steps = view.snapshot.steps[-NORMAL_STEPS:]
    if not view.has("time/rollout_s"):
        raise NotLogged("time/rollout_s")
    cost = [
        step.metrics["time/rollout_s"] / step.metrics["completion/tokens"]
        for step in steps
        if step.metrics.get("completion/tokens", 0.0) > 0 and "time/rollout_s" in step.metrics
    ]
    now, before = compute_median(cost[-3:]), compute_median(cost[:-3])
    if len(cost) < MIN_TREND or now < SLOWER * before:
        return None
    evidence = f"a token takes {1e3 * now:.2g} ms in the last 3 steps, {1e3 * before:.2g} ms before"
    return found("note", evidence, 0.8, steps[-3:])
