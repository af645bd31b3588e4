"""Findings about the texts that are sampled: noise, one text for all, cut and ever longer ones."""

from __future__ import annotations

from statistics import fmean

from harness.core.trends import compute_median, compute_trend
from harness.types import DecisionRecord, StepRecord
from policies.detectors.signs import MIN_STEPS, TREND_STEPS, TRUNCATED, Sign, confidence_of, found, rate
from policies.detectors.updates import is_rate_open
from policies.view import P, View, sampling

TRUNCATED_BEFORE = 0.1
"""Completions that the same limit cut this seldom at first are not too long for it, but grew."""
CUT_PAID, CUT_EARNS_MORE = 0.5, 0.2
"""Share of the full reward that cut completions earn on average, and that they earn more than at first, from which on
their end is not what is missing."""
STILL_CUT = 0.75
"""Share of the cut completions that a rise of max_tokens leaves, from which on it was in vain."""
LONGER, EARNING = 1.3, 0.2
"""Growth of answers that is worth a word unless they earn by it: rewards rise, less likely by chance than this."""
EXPLODED, EXPLODED_ALONE, MORE_RIGHT = 2.0, 3.0, 0.05
"""Times the run's own length from which on answers have exploded, unless so many more are right; the second where that
is not known: a reward alone may pay for the length itself."""
ALIKE = 0.08
"""Share of the texts of a group beyond the first that differ, under which they are one text."""
VARIED = 0.9
NO_SIGNAL = 0.6
ENTROPY_LOST = 0.25
ENTROPY_GROWN, ENTROPY_NOISE = 3.0, 0.1
"""An explosion is over both: this many times the run's own level, and nats per token, of which noise has one or more
and a sure model less than this."""
HOT = 1.15
AWAY = 0.15
"""How far from 1 a temperature is asked what it costs."""
COLLAPSE_UNSOLVED = 0.35
"""Unsolved groups from which on one text for all is a fault and not success."""


def _varied(view: View) -> float:
    """Return how much the texts of a group differ: 0 all the same, 1 no two alike."""
    alike = 1 / view.knobs.group_size
    return (view.mean("completion/distinct_rate") - alike) / (1 - alike)


def _find_alike(view: View) -> list[StepRecord]:
    """Return the steps of the snapshot that sampled as the present ones do."""
    return [step for step in view.snapshot.steps if sampling(step.knobs) == sampling(view.knobs)]


def _rambles(view: View) -> bool:
    """Tell whether samples are hot and nearly no two alike."""
    return view.knobs.temperature >= HOT and _varied(view) >= VARIED


def find_chaos(view: View) -> Sign | None:
    """Find noise instead of answers: the temperature is too high."""
    if fmean(view.lost(view.window)) < 0.3 or not _rambles(view):
        return None
    evidence = view.evidence("completion/distinct_rate", "group/unsolved_rate", "completion/correct_rate")
    told = f"temperature {view.knobs.temperature:g}, {evidence}"
    return found("warning", told, confidence_of(view, "group/unsolved_rate", 0.3), view.window)


def find_entropy_explosion(view: View) -> Sign | None:
    """Find texts that dissolve into noise at any temperature: entropy far above the run's own level while rewards fall.
    A low level alone is no fault, and one that rises with the rewards is worth a note."""
    alike = _find_alike(view)
    entropy = view.values("entropy/mean", alike)
    if len(entropy) <= MIN_STEPS:
        return None
    now, level = fmean(entropy[-MIN_STEPS:]), min(entropy[0], compute_median(entropy[:-MIN_STEPS]))
    if now < max(ENTROPY_NOISE, ENTROPY_GROWN * level):
        return None
    evidence = (
        f"entropy/mean {now:.2f}, {now / level:.1f} times its level before" if level > 0 else f"entropy/mean {now:.2f}"
    )
    evidence += "; " + view.evidence("reward/mean", "completion/correct_rate", "completion/tokens_mean")
    return found("severe" if view.is_falling else "note", evidence, 0.9, alike[-MIN_STEPS:])


def find_collapse(view: View) -> Sign | None:
    """Find one text for all though it is not right: nothing to compare, so nothing to learn."""
    varied, early = _varied(view), compute_median(view.values("entropy/mean", _find_alike(view)[:MIN_STEPS]))
    lost = early > 0 and view.mean("entropy/mean") <= ENTROPY_LOST * early and varied <= 2 * ALIKE
    same = varied <= ALIKE and view.mean("group/no_signal_rate") >= NO_SIGNAL
    if view.mean("group/unsolved_rate") < COLLAPSE_UNSOLVED or not (same or lost):
        return None
    evidence = view.evidence("completion/distinct_rate", "group/no_signal_rate", "group/unsolved_rate", "entropy/mean")
    spoilt = view.is_falling and view.knobs.temperature >= 1
    confidence = confidence_of(view, "completion/distinct_rate", 0.5, below=True)
    return found("severe" if spoilt else "warning", evidence, confidence, view.window)


def find_temperature(view: View) -> Sign | None:
    """Find a temperature away from 1 that nobody has compared with 1, where samples are the model's own: groups of the
    same prompts tell what it costs. Not before the first learning rate is settled, which changes more."""
    temperature, steps = view.knobs.temperature, view.snapshot.steps
    tried = any("temperature" in d.changes or d.action == "branch" for d in view.snapshot.decisions)
    if abs(temperature - 1) < AWAY or tried or is_rate_open(view) or fmean(view.lost(view.window)) >= 1 - AWAY:
        return None
    evidence = f"temperature {temperature:g} for {len(steps)} steps, never compared with 1, "
    evidence += view.evidence("group/mixed_rate", "reward/mean")
    return found("warning", evidence, 0.5, view.window)


def _cut_at_first(view: View) -> float:
    """Return how many completions the present limit cut at the first step that it governed."""
    since = max(view.changed_at.get(knob, 0) for knob in ("max_tokens", "temperature"))
    first = next(step for step in view.snapshot.steps if step.step >= since)
    return first.metrics.get("completion/truncated_rate", 0.0)


def find_truncation(view: View) -> Sign | None:
    """Find a limit that cuts answers: from the first step on, or because they grew and earn by it. Noise has no end at
    any limit."""
    if fmean(view.lost(view.window)) < TRUNCATED or _is_cut_paid(view) or _rambles(view) or find_vain_rises(view):
        return None
    if _cut_at_first(view) < TRUNCATED_BEFORE and view.mean("reward/adjusted") <= 0:
        return None
    return rate(view, "completion/truncated_rate", TRUNCATED, "group/unsolved_rate", "group/mixed_rate")


VainRise = tuple[DecisionRecord, float, float]


def _is_cut_paid(view: View) -> bool:
    """Tell whether cut completions earn enough, or more and more, so that the answer comes before the cut."""
    if not view.has("completion/truncated_paid"):  # an older record
        return False
    paid = view.values("completion/truncated_paid")
    return view.mean("completion/truncated_paid") >= CUT_PAID or paid[-1] - paid[0] >= CUT_EARNS_MORE


def find_cut_but_paid(view: View) -> Sign | None:
    """Find answers that earn their reward before they are cut: they need an end, and more tokens only cost."""
    if view.mean("completion/truncated_paid") < CUT_PAID:
        return None
    return rate(view, "completion/truncated_rate", TRUNCATED, "completion/truncated_paid", "completion/tokens_mean")


def find_never_ends(view: View) -> Sign | None:
    """Find a model that fills any limit: two rises of max_tokens in a row hardly cut fewer completions."""
    rises = find_vain_rises(view)
    if not rises or view.mean("completion/truncated_rate") < TRUNCATED:
        return None
    told = "; ".join(
        f"{before:.0%} cut at {rise.changes['max_tokens']['from']} tokens, {after:.0%} at "
        f"{rise.changes['max_tokens']['to']} (from step {rise.step})"
        for rise, before, after in rises
    )
    return found("warning", f"{told}; it needs an end: trainer.stop, the EOS token, or a warm start", 0.9, view.window)


def find_vain_rises(view: View) -> list[VainRise]:
    """Find the last two rises of max_tokens with the share of cut completions before and after, if both left more than
    three quarters of it; else none."""
    rises = [
        d
        for d in view.changes
        if "max_tokens" in d.changes and (d.changes["max_tokens"]["to"] or 0) > (d.changes["max_tokens"]["from"] or 0)
    ][-2:]
    vain = []
    for rise in rises:
        limits = rise.changes["max_tokens"]
        before = [s for s in view.snapshot.steps if s.step < rise.step and s.knobs.max_tokens == limits["from"]]
        after = [s for s in view.snapshot.steps if s.step >= rise.step and s.knobs.max_tokens == limits["to"]]
        cut = [view.values("completion/truncated_rate", steps) for steps in (before[-MIN_STEPS:], after[:MIN_STEPS])]
        if len(cut[1]) < 2 or not cut[0] or fmean(cut[1]) <= STILL_CUT * fmean(cut[0]):
            return []
        vain.append((rise, fmean(cut[0]), fmean(cut[1])))
    return vain if len(vain) == 2 else []


def find_length_inflation(view: View) -> Sign | None:
    """Find completions that grow though it earns them nothing: over the last steps, or to many times the length of the
    run until then."""
    steps = view.since[-TREND_STEPS:]
    exploded = _find_explosion(view)
    if exploded is not None:
        return exploded
    lengths, cut = view.values("completion/tokens_mean", steps), view.mean("completion/truncated_rate")
    ran_away = cut >= TRUNCATED and _cut_at_first(view) < TRUNCATED_BEFORE
    earns = (
        fmean(view.values("reward/adjusted", steps[-MIN_STEPS:])) > 0
        or compute_trend(view.values("reward/mean", steps)).p_rises < EARNING
    )
    if not ran_away and (earns or lengths[-1] < LONGER * lengths[0]):
        return None
    trend = compute_trend(lengths)
    if not ran_away and (trend.p_rises > P or trend.rise < (LONGER - 1) * compute_median(lengths[:MIN_STEPS])):
        return None
    evidence = (
        f"completion/tokens_mean {fmean(lengths[:2]):.0f} -> {fmean(lengths[-2:]):.0f} over steps "
        f"{steps[0].step}-{steps[-1].step}, completion/truncated_rate {cut:.2f}, reward/adjusted does not rise"
    )
    return found("severe" if ran_away and view.is_falling else "warning", evidence, 1 - trend.p_rises, steps)


def _find_explosion(view: View) -> Sign | None:
    lengths = view.values("completion/tokens_mean")
    if len(lengths) < 2 * MIN_STEPS:
        return None
    now, level = fmean(lengths[-MIN_STEPS:]), compute_median(lengths[:-MIN_STEPS])
    judged = view.has("completion/correct_rate")
    if level == 0 or now < (EXPLODED if judged else EXPLODED_ALONE) * level:
        return None
    if judged:
        right = view.values("completion/correct_rate")
        if fmean(right[-MIN_STEPS:]) - compute_median(right[:-MIN_STEPS]) >= MORE_RIGHT:
            return None
    evidence = f"completion/tokens_mean {now:.0f}, {now / level:.1f} times the {level:.0f} of the steps before; "
    evidence += view.evidence("reward/mean", "completion/correct_rate")
    return found("severe" if view.is_falling else "warning", evidence, 0.9, view.window)
