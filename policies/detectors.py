"""What is wrong with a run, from its snapshot: the middle columns of the table in docs/decisions.md.

A detector looks at the steps since the last change, so it judges the present knobs; with fewer than it needs it says so
(severity ``unknown``). Severities: ``severe`` cannot wait, ``warning`` wants an answer, ``note`` is worth knowing.
Rewards are taken to lie in [0, 1] where an amount of reward is compared with a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import islice, pairwise
from statistics import fmean
from typing import Literal, NamedTuple, get_args

from harness.core.trends import compute_mad, compute_median, compute_trend, confidence_above
from harness.types import Finding, Knobs, PairedLook, Snapshot, StepRecord
from policies.view import View

Severity = Literal["severe", "warning", "note", "unknown"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

# Every threshold of the detectors, in one place.
MIN_STEPS = 3
"""Steps under the present knobs before a rate is judged."""
TREND_STEPS = 16
"""Steps that a trend is looked for in, at most."""
MIN_TREND = 8
NORMAL_STEPS = 20
"""Steps before the newest that say what is normal, at most."""
RATE_NOISE = 0.05
"""The least noise of a rate of groups or completions in one step."""
P = 0.01
"""How unlikely by chance a trend or a loss on dev must be."""

UNSOLVED = 0.6
SOLVED = 0.75
FLAT = 0.5
FLAT_RIGHT = 0.1
"""Right completions from which on more than the format is paid."""
TRUNCATED = 0.3
TRUNCATED_BEFORE = 0.1
"""Completions that the same limit cut this seldom at first are not too long for it, but grew."""
ERRORED = 0.02
ERRORED_BEFORE = 0.005

PAID = 0.9
PAID_JUMP = 0.25
JUMP_STEPS = 4
ALL_PAID = 0.995
PAID_ON_DEV = 0.15
CUT_AND_PAID = 0.05
CREDIT_RISE, CREDIT_JUMP = 0.08, 0.2
"""Rise of the mean reward of wrong completions, as a trend, and beyond doubt."""

KL_SPIKE = 0.5
KL_SPIKE_FACTOR = 6.0
"""A spike is over both: nats per token, and this many times the median of the steps before."""
KL_FURTHER = 1.5
KL_FAR = 0.75
"""Nats per token from which on little of the model is left."""
FALLING = -0.08
"""``reward/adjusted`` over the last steps from which on rewards are said to fall."""
SWING_STEPS = 12
SWING = 0.12
SWING_CORRELATION = -0.65
"""Of 12 independent steps, fewer than one series in a hundred has a lag-1 correlation as low as this (0.7%)."""
GRADIENT_FACTOR = 10.0
LONGER = 1.3
ALIKE = 0.08
"""Share of the texts of a group beyond the first that differ, under which they are one text."""
VARIED = 0.9
NO_SIGNAL = 0.6
ENTROPY_LOST = 0.25
ENTROPY_GROWN = 4.0
HOT = 1.15
COLLAPSE_UNSOLVED = 0.35
"""Unsolved groups from which on one text for all is a fault and not success."""

STILL_STEPS, STILL_KL = 6, 1e-5
SLOW_STEPS, SLOW_KL = 12, 1e-4
WARM = 0.5
"""Share of the knob that warm-up or schedule must leave of the learning rate before it is judged."""
BETA = 0.1
BETA_FREE_KL = 0.1
SMALL_GROUP = 8
SMALL_NO_SIGNAL = 0.4
LARGER_GIVES = 0.15
OTHERS_GIVE = 1.3
OTHERS_GIVE_AT_LEAST = 0.1
PLATEAU_LOOKS = 8
SLOWER = 3.0


class Sign(NamedTuple):
    """A Finding without its kind, which the table of detectors gives."""

    severity: Severity
    evidence: str
    confidence: float
    first: int
    last: int


def detect(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Find what is wrong, the most severe first and within a severity in the order of DETECTORS; what could not be
    judged yet comes last."""
    view = View(snapshot)
    signs = {kind: _ask(needs, look, view) for kind, (needs, look) in DETECTORS.items()}
    found = [Finding(kind, *sign) for kind, sign in signs.items() if sign is not None]
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))


def _ask(needs: int, look: Callable[[View], Sign | None], view: View) -> Sign | None:
    steps = view.since
    if len(steps) >= needs:
        return look(view)
    first, last = (steps[0].step, steps[-1].step) if steps else (view.next_step, view.next_step)
    return Sign("unknown", f"{len(steps)} of {needs} steps needed", 0.0, first, last)


def _found(severity: Severity, evidence: str, confidence: float, steps: Sequence[StepRecord]) -> Sign:
    return Sign(severity, evidence, confidence, steps[0].step, steps[-1].step)


def _confidence(view: View, metric: str, threshold: float, *, below: bool = False, floor: float = RATE_NOISE) -> float:
    """Return how likely the level of the newest steps is over ``threshold``, or below it; ``floor`` as in
    confidence_above."""
    side = -1 if below else 1
    return confidence_above([side * value for value in view.values(metric, view.window)], side * threshold, floor)


# ---------------------------------------------------------------- the reward


def find_errored(view: View) -> Sign | None:
    """Find that the reward started raising: it did not, and now does in two of three steps. A rate that was there from
    the start is what whoever set errored_limit accepted (above that limit the session itself fails the run)."""
    steps = view.snapshot.steps
    newest, before = steps[-MIN_STEPS:], steps[:-MIN_STEPS][-NORMAL_STEPS:]
    rates = view.values("completion/errored_rate", newest)
    if rates[-1] < ERRORED:
        return None
    evidence = f"completion/errored_rate {rates[-1]:.2f} at step {newest[-1].step}"
    if not compute_median(view.values("completion/errored_rate", before)) <= ERRORED_BEFORE:  # NaN without such steps
        return _found("warning", evidence, 0.7, newest)
    failing = sum(rate >= ERRORED for rate in rates)
    evidence += f", {failing} of {len(newest)} steps, none of note in the {len(before)} before step {newest[0].step}"
    return _found("severe", evidence, 1.0, newest) if failing > 1 else _found("warning", evidence, 0.7, newest)


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
        return _found("severe", evidence, 0.95, steps)
    cut = fmean(view.values("completion/truncated_rate", newest))
    if min(right[-2:]) >= ALL_PAID and cut >= CUT_AND_PAID:
        evidence = f"{shown}, completion/truncated_rate {cut:.2f}: the verifier pays answers that were cut off"
        return _found("severe", evidence, 0.9, newest)
    if newest[0] is view.snapshot.steps[0] and min(right) >= ALL_PAID:
        evidence = f"{shown}, from the first step on: the verifier pays everyone, or there is nothing to learn here"
        return _found("severe", evidence, 0.7, newest)
    return _dev_rose_without_signal(view)


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
    p = pair.p_rose
    rose = pair.difference
    if moved or len(between) < pair.after - pair.before or p >= P or rose < PAID_ON_DEV:
        return None
    evidence = (
        f"dev gained {pair.gained} and lost {pair.lost} of {pair.n} prompts from step {pair.before} to {pair.after}, "
        "though no group between them had signal: the verifier pays everyone"
    )
    return Sign("severe", evidence, 1 - p, pair.before, pair.after)


def _is_too_good(before: StepRecord, since: Sequence[StepRecord], view: View) -> bool:
    """Tell whether rewards jumped further above what was expected than learning takes them: at once by much, or by as
    much in every step while nothing at all is wrong any more."""
    surprises = view.values("reward/adjusted", since)
    if _sampling(before.knobs) != _sampling(since[0].knobs):
        return False
    if before.metrics.get("completion/correct_rate", 0.0) <= PAID - PAID_JUMP:
        return surprises[0] >= PAID_JUMP
    return min(view.values("completion/correct_rate", since)) >= ALL_PAID and min(surprises) >= PAID_JUMP


def _sampling(knobs: Knobs) -> tuple[float, int, float | None]:
    """Return what decides, beside the weights, which texts come: only under the same can texts and rewards be
    compared."""
    return knobs.temperature, knobs.max_tokens, knobs.focus


def find_gamed(view: View) -> Sign | None:
    """Find that the model learns to be paid for being wrong: dev falls while its rewards do not, or in the steps the
    reward of wrong completions rises while fewer are right."""
    return _gamed_by_dev(view) or _gamed_by_trend(view)


def _gamed_by_dev(view: View) -> Sign | None:
    """Find that dev fell below its best, prompt by prompt, and its rewards did not: spoilt weights lose both."""
    pair, best, newest = _loss_on_dev(view), view.best_look, view.newest_look
    if pair is None or best is None or newest is None or newest.reward < best.reward:
        return None
    evidence = (
        f"dev lost {pair.lost} and gained {pair.gained} of {pair.n} prompts from step {pair.before} to {pair.after} "
        f"while its rewards went from {best.reward:.3f} to {newest.reward:.3f}"
    )
    return Sign("severe", evidence, 1 - pair.p_fell, pair.before, pair.after)


def _loss_on_dev(view: View) -> PairedLook | None:
    """Return the newest look at dev against the best one, where it lost more than chance takes."""
    best = view.best_look
    pairs = (pair for pair in view.newest_pairs if best is not None and pair.before == best.step)
    return next((pair for pair in pairs if pair.p_fell < P), None)


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
    return _found("severe", evidence, 0.9, steps) if severe else _found("warning", evidence, 0.6, steps)


def _moved(values: Sequence[float]) -> float:
    """Return how far the last steps lie from the first."""
    return compute_median(values[-MIN_STEPS:]) - compute_median(values[:MIN_STEPS])


# ---------------------------------------------------------------- harm


def find_dev_drop(view: View) -> Sign | None:
    """Find dev below its best by more than chance, prompt by prompt; told once, at the look that shows it."""
    pair, newest = _loss_on_dev(view), view.newest_look
    if pair is None or newest is None or (view.look_age() or 0) > 1:
        return None
    evidence = (
        f"dev {newest.score:.3f} at step {pair.after}, its best at step {pair.before}: {pair.difference:+.3f} "
        f"[{pair.ci95[0]:+.3f}, {pair.ci95[1]:+.3f}], {pair.lost} of {pair.n} prompts lost and {pair.gained} gained"
    )
    return Sign("severe", evidence, 1 - pair.p_fell, pair.before, pair.after)


def find_not_finite(view: View) -> Sign | None:
    """Find a gradient or weights that were not finite at the last step."""
    faults, done = view.snapshot.faults, view.snapshot.steps_done
    if not faults or done == 0 or faults[-1].step < done:
        return None
    return Sign("severe", f"step {faults[-1].step}: {faults[-1].text}", 1.0, done, done)


def is_falling(view: View) -> bool:
    """Tell whether rewards of the last steps lie clearly below what the same prompts gave before, more than by the
    chance of which prompts were drawn."""
    adjusted = view.values("reward/adjusted")[-MIN_STEPS:]
    noise = view.mean("reward/std") / math.sqrt(view.knobs.prompts_per_step * MIN_STEPS)
    return len(adjusted) == MIN_STEPS and fmean(adjusted) <= min(FALLING, -1.64 * noise) and max(adjusted) < 0


def find_kl_spike(view: View) -> Sign | None:
    """Find KL far above its normal. It rests on few completions, so one high value is only worth a note. It is a
    distance, which a change of knobs does not take back: after one only a further rise counts."""
    steps = view.snapshot.steps[-NORMAL_STEPS - 2 :]
    kl = view.values("kl/mean", steps)
    if len(kl) < MIN_STEPS:
        return None
    normal, at_change = compute_median(kl[:-2]), view.values("kl/mean", steps[: -len(view.since)])
    limit = max(KL_SPIKE, KL_SPIKE_FACTOR * normal, *(KL_FURTHER * value for value in at_change[-1:]))
    if kl[-1] < limit:
        return None
    evidence = (
        f"kl/mean {kl[-2]:.3f}, {kl[-1]:.3f} at steps {steps[-2].step}, {steps[-1].step}, median before {normal:.3f}"
    )
    if kl[-2] < limit:
        return _found("note", evidence, 0.5, steps[-2:])
    far = min(kl[-2:]) >= KL_FAR or is_falling(view)
    return _found("severe" if far else "warning", evidence, 0.9, steps[-2:])


def find_oscillation(view: View) -> Sign | None:
    """Find rewards that swing from step to step."""
    steps = view.since[-SWING_STEPS:]
    rewards = view.values("reward/adjusted", steps)
    spread, mean = compute_mad(rewards), fmean(rewards)
    total = sum((reward - mean) ** 2 for reward in rewards)
    if spread < SWING or total == 0:
        return None
    correlation = sum((a - mean) * (b - mean) for a, b in pairwise(rewards)) / total
    if correlation > SWING_CORRELATION:
        return None
    evidence = f"reward/adjusted swings: spread {spread:.2f}, lag-1 correlation {correlation:.2f}"
    return _found("warning", evidence, -correlation, steps)


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
    return _found("warning" if len(high) > 1 else "note", evidence, 0.4 + 0.2 * len(high), steps[-3:])


# ---------------------------------------------------------------- texts


def _varied(view: View) -> float:
    """Return how much the texts of a group differ: 0 all the same, 1 no two alike."""
    alike = 1 / view.knobs.group_size
    return (view.mean("completion/distinct_rate") - alike) / (1 - alike)


def _early_entropy(view: View) -> float:
    """Return entropy/mean at the first steps of the snapshot that sampled as the present ones do."""
    alike = (step for step in view.snapshot.steps if _sampling(step.knobs) == _sampling(view.knobs))
    return compute_median(view.values("entropy/mean", list(islice(alike, MIN_STEPS))))


def _rambles(view: View) -> bool:
    """Tell whether samples are hot and nearly no two alike."""
    return view.knobs.temperature >= HOT and _varied(view) >= VARIED


def find_chaos(view: View) -> Sign | None:
    """Find noise instead of answers: the temperature is too high, or the weights are spoilt."""
    entropy, early = view.mean("entropy/mean"), _early_entropy(view)
    evidence = view.evidence("completion/distinct_rate", "group/unsolved_rate", "completion/correct_rate")
    confidence = _confidence(view, "group/unsolved_rate", 0.3)
    if _rambles(view) and view.mean("group/unsolved_rate") >= 0.3:
        return _found("warning", f"temperature {view.knobs.temperature:g}, {evidence}", confidence, view.window)
    if early > 0 and entropy >= ENTROPY_GROWN * early and is_falling(view):
        grown = f"entropy/mean {entropy:.2f} after {early:.2f} at first, rewards fall, {evidence}"
        return _found("severe", grown, confidence, view.window)
    return None


def find_collapse(view: View) -> Sign | None:
    """Find one text for all though it is not right: nothing to compare, so nothing to learn."""
    varied, early = _varied(view), _early_entropy(view)
    lost = early > 0 and view.mean("entropy/mean") <= ENTROPY_LOST * early and varied <= 2 * ALIKE
    same = varied <= ALIKE and view.mean("group/no_signal_rate") >= NO_SIGNAL
    if view.mean("group/unsolved_rate") < COLLAPSE_UNSOLVED or not (same or lost):
        return None
    evidence = view.evidence("completion/distinct_rate", "group/no_signal_rate", "group/unsolved_rate", "entropy/mean")
    spoilt = is_falling(view) and view.knobs.temperature >= 1
    confidence = _confidence(view, "completion/distinct_rate", 0.5, below=True)
    return _found("severe" if spoilt else "warning", evidence, confidence, view.window)


def _cut_at_first(view: View) -> float:
    """Return how many completions the present limit cut at the first step that it governed."""
    since = max(view.changed_at.get(knob, 0) for knob in ("max_tokens", "temperature"))
    first = next(step for step in view.snapshot.steps if step.step >= since)
    return first.metrics.get("completion/truncated_rate", 0.0)


def find_truncation(view: View) -> Sign | None:
    """Find a limit that cuts answers: from the first step on, or because they grew and earn by it. Noise has no end at
    any limit."""
    if view.mean("group/unsolved_rate") < TRUNCATED or _rambles(view):
        return None
    if _cut_at_first(view) < TRUNCATED_BEFORE and view.mean("reward/adjusted") <= 0:
        return None
    return _rate(view, "completion/truncated_rate", TRUNCATED, "group/unsolved_rate")


def find_length_inflation(view: View) -> Sign | None:
    """Find completions that grow though it earns them nothing."""
    steps = view.since[-TREND_STEPS:]
    lengths, cut = view.values("completion/tokens_mean", steps), view.mean("completion/truncated_rate")
    ran_away = cut >= TRUNCATED and _cut_at_first(view) < TRUNCATED_BEFORE
    earns = fmean(view.values("reward/adjusted", steps[-MIN_STEPS:])) > 0
    if not ran_away and (earns or lengths[-1] < LONGER * lengths[0]):
        return None
    trend = compute_trend(lengths)
    if not ran_away and (trend.p_rises > P or trend.rise < (LONGER - 1) * compute_median(lengths[:MIN_STEPS])):
        return None
    evidence = (
        f"completion/tokens_mean {fmean(lengths[:2]):.0f} -> {fmean(lengths[-2:]):.0f} over steps "
        f"{steps[0].step}-{steps[-1].step}, completion/truncated_rate {cut:.2f}, reward/adjusted does not rise"
    )
    return _found("severe" if ran_away and is_falling(view) else "warning", evidence, 1 - trend.p_rises, steps)


# ---------------------------------------------------------------- prompts and groups


def _rate(view: View, metric: str, threshold: float, *others: str, told: str = "") -> Sign | None:
    """Warn when the mean of a rate is at or over its threshold; the evidence is ``told``, the rate and the others."""
    if view.mean(metric) < threshold:
        return None
    return _found("warning", told + view.evidence(metric, *others), _confidence(view, metric, threshold), view.window)


def find_unsolved(view: View) -> Sign | None:
    """Find groups without a right completion, for no other reason that has a finding."""
    if view.mean("completion/truncated_rate") >= TRUNCATED or view.mean("group/flat_rate") >= FLAT:
        return None
    return _rate(view, "group/unsolved_rate", UNSOLVED, "completion/truncated_rate", "reward/mean")


def find_solved(view: View) -> Sign | None:
    """Find groups without a wrong completion."""
    return _rate(view, "group/solved_rate", SOLVED, "group/mixed_rate")


def find_flat(view: View) -> Sign | None:
    """Find equal rewards between the ends: only the format is paid, so there is nothing to learn from. Where some
    completions are right it is a matter of the prompts."""
    if view.mean("completion/correct_rate") >= FLAT_RIGHT:
        return None
    return _rate(view, "group/flat_rate", FLAT, "completion/correct_rate", "completion/distinct_rate")


def find_poor_prompts(view: View) -> Sign | None:
    """Find that other prompts would give clearly more mixed groups than those the focus chooses."""
    drawn, others = view.mean("pool/mixed_expected"), view.mean("pool/mixed_expected_others")
    if others < OTHERS_GIVE * drawn or others - drawn < OTHERS_GIVE_AT_LEAST:
        return None
    metrics = ("pool/mixed_expected_others", "pool/mixed_expected")
    gain = [others - drawn for others, drawn in zip(*(view.values(m, view.window) for m in metrics), strict=True)]
    evidence = view.evidence("group/mixed_rate", "pool/mixed_expected", "pool/mixed_expected_others")
    return _found("warning", evidence, confidence_above(gain, 0.0, RATE_NOISE), view.window)


def find_small_groups(view: View) -> Sign | None:
    """Find groups so small that chance alone makes them equal, which other prompts would not mend."""
    metrics = ("pool/mixed_expected", "pool/mixed_expected_larger", "pool/mixed_expected_others")
    drawn, larger, others = map(view.mean, metrics)
    if view.knobs.group_size >= SMALL_GROUP or larger - drawn < LARGER_GIVES or others >= OTHERS_GIVE * drawn:
        return None
    told = f"group_size {view.knobs.group_size}, "
    return _rate(view, "group/no_signal_rate", SMALL_NO_SIGNAL, *metrics, told=told)


# ---------------------------------------------------------------- too little movement


def find_anchored(view: View) -> Sign | None:
    """Find a beta that holds the model where it was."""
    if view.knobs.beta <= BETA or view.mean("kl/mean") >= BETA_FREE_KL:
        return None
    evidence = f"beta {view.knobs.beta:g}, " + view.evidence("kl/mean", "reward/adjusted")
    return _found("warning", evidence, _confidence(view, "kl/mean", BETA_FREE_KL, below=True, floor=0.01), view.window)


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
    stuck = bool(looks) and looks[-1].score <= looks[0].ci95[1]
    if kl > STILL_KL and not (kl <= SLOW_KL and len(steps) >= SLOW_STEPS and stuck):
        return None
    evidence = (
        f"kl/mean at most {kl:.1e} at steps {steps[-MIN_STEPS].step}-{steps[-1].step}, after {len(steps)} updates"
    )
    if stuck:
        evidence += f", dev {looks[-1].score:.3f} against {looks[0].score:.3f} at the start"
    return _found("warning", evidence, 0.95 if kl <= STILL_KL else 0.8, steps)


def find_plateau(view: View) -> Sign | None:
    """Find that the last looks at dev neither rise nor beat what was before them; told once, at the look that shows
    it."""
    looks = [look for look in view.snapshot.dev if look.step >= view.last_rollback][-PLATEAU_LOOKS - 1 :]
    if len(looks) <= PLATEAU_LOOKS or view.look_age() != 0:
        return None
    before, *last = looks
    trend, most = compute_trend([look.score for look in last]), max(look.score for look in last)
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
    cost = [
        step.metrics["time/rollout_s"] / step.metrics["completion/tokens"]
        for step in steps
        if step.metrics.get("completion/tokens", 0.0) > 0 and "time/rollout_s" in step.metrics
    ]
    now, before = compute_median(cost[-3:]), compute_median(cost[:-3])
    if len(cost) < MIN_TREND or now < SLOWER * before:
        return None
    evidence = f"a token takes {1e3 * now:.2g} ms in the last 3 steps, {1e3 * before:.2g} ms before"
    return _found("note", evidence, 0.8, steps[-3:])


DETECTORS: Mapping[str, tuple[int, Callable[[View], Sign | None]]] = {
    "errored": (1, find_errored),
    "pays_everyone": (1, find_pays_everyone),
    "gamed": (MIN_STEPS, find_gamed),
    "dev_drop": (0, find_dev_drop),
    "not_finite": (0, find_not_finite),
    "truncation": (2, find_truncation),
    "chaos": (MIN_STEPS, find_chaos),
    "collapse": (MIN_STEPS, find_collapse),
    "kl_spike": (2, find_kl_spike),
    "length_inflation": (MIN_STEPS, find_length_inflation),
    "oscillation": (SWING_STEPS, find_oscillation),
    "gradient_spike": (1, find_gradient_spike),
    "poor_prompts": (MIN_STEPS, find_poor_prompts),
    "unsolved": (MIN_STEPS, find_unsolved),
    "flat": (MIN_STEPS, find_flat),
    "solved": (MIN_STEPS, find_solved),
    "small_groups": (MIN_STEPS, find_small_groups),
    "anchored": (MIN_STEPS, find_anchored),
    "no_op_learning_rate": (STILL_STEPS, find_no_op_learning_rate),
    "plateau": (0, find_plateau),
    "slow_sampling": (1, find_slow_sampling),
}
"""By kind: how many steps under the present knobs a detector needs, and the function that is asked then."""
