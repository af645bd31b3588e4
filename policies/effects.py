"""Every change is an experiment: what it did, told from what the steps before it forecast.

``EffectJudge`` gives a verdict on each change that can be judged by now, and undoes what hurt. docs/decisions.md says
how. The controller asks it before the decision policy, which then sees the verdicts. Pure, as a policy is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.core.actions import Direction, Expectation, parse_expected
from harness.core.statistics import Difference
from harness.core.trends import compute_change, compute_level, compute_noise
from harness.types import (
    Action,
    Decision,
    DecisionRecord,
    EffectVerdict,
    KnobValue,
    PairedLook,
    Snapshot,
    StepRecord,
    Verdict,
)
from policies.rules import MEASURED_AFTER
from policies.view import View

BEFORE = 12
"""Steps under the knobs before the change that make the forecast, at most."""
AFTER = MEASURED_AFTER
LOOK_WITHIN = 30
"""Steps after which a change that is judged on dev alone is no longer waited for."""
NOISE_STEPS = 60
NOISE_FLOOR = 0.02
"""The least noise of rewards in one step; of other metrics this share of their level."""
HARM = -0.05
"""``reward/adjusted`` after a change, from which on it has done harm."""
HARM_LEVEL = 0.99
DEV_P = 0.01

UNSAID = {"grpo": (Expectation("reward/adjusted", "rises"),), "sft": (Expectation("dev", "rises"),)}
"""What a change is for that does not say what it expects, by the kind of run."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A change with the steps and the look at dev that it is judged on."""

    change: DecisionRecord
    before: Sequence[StepRecord]
    after: Sequence[StepRecord]
    dev: PairedLook | None


class EffectJudge:
    """``harness.types.EffectJudge``."""

    def judge(self, snapshot: Snapshot) -> tuple[Verdict, ...]:
        """Return verdicts on the changes without one that are due, oldest first."""
        return tuple(_judge(snapshot, experiment) for experiment in find_due(snapshot))


# ---------------------------------------------------------------- which


def find_due(snapshot: Snapshot) -> list[Experiment]:
    """Find the changes without a verdict that can have one now, oldest first."""
    changes = [d for d in snapshot.decisions if d.is_change]
    due = []
    for change in changes:
        if change.verdict is not None or change.action == "branch":  # which compares by itself
            continue
        earlier = max((d.step for d in changes if d.step < change.step), default=0)
        later = min((d.step for d in changes if d.step > change.step), default=None)
        before = [s for s in snapshot.steps if earlier <= s.step < change.step]
        after = [s for s in snapshot.steps if s.step >= change.step and (later is None or s.step < later)]
        experiment = Experiment(change, before[-BEFORE:], after[:AFTER], _find_dev(snapshot, change.step))
        if later is not None or _has_what_it_waits_for(experiment, snapshot):
            due.append(experiment)
    return due


def _has_what_it_waits_for(experiment: Experiment, snapshot: Snapshot) -> bool:
    change, pair = experiment.change, experiment.dev
    taken = snapshot.steps_done - change.step + 1
    # A rollback leaves behind the steps it would be compared with.
    on_dev_alone = change.action == "rollback" or all(e.metric == "dev" for e in _expectations(snapshot, change))
    if not on_dev_alone:
        return taken >= AFTER
    return taken >= LOOK_WITHIN or (pair is not None and pair.after - change.step + 1 >= AFTER)


def _expectations(snapshot: Snapshot, change: DecisionRecord) -> tuple[Expectation, ...]:
    return parse_expected(change.expected) or UNSAID[snapshot.run.kind]


def _find_dev(snapshot: Snapshot, step: int) -> PairedLook | None:
    """Return the newest look at dev against the last one before the change, if most of the steps between came after it:
    what went wrong before is not its doing."""
    before = max((look.step for look in snapshot.dev if look.step < step), default=None)
    pair = next((pair for pair in snapshot.paired_dev if pair.before == before), None)
    return pair if pair is not None and pair.after - (step - 1) >= max(1, step - 1 - pair.before) else None


# ---------------------------------------------------------------- what it did


def _judge(snapshot: Snapshot, experiment: Experiment) -> Verdict:
    together = [d for d in snapshot.decisions if d.is_change and d.step == experiment.change.step]
    expectations = _expectations(snapshot, experiment.change)
    judged = [_judge_expectation(snapshot, experiment, expectation) for expectation in expectations]
    signs, told = [sign for sign, _ in judged], [text for _, text in judged]
    harm = _find_harm(snapshot, experiment)
    verdict: EffectVerdict = "hurt" if harm or "hurt" in signs else "helped" if "helped" in signs else "unclear"
    measured = "; ".join([*told, *(text for text in harm if text not in told)])
    revert = None
    if verdict == "hurt" and experiment.change is together[-1]:
        revert = _undo(snapshot, experiment, together, measured)
    if len(together) > 1:
        verdict, measured = "confounded", f"{len(together)} changes were made at once, so this is of all: {measured}"
    return Verdict(experiment.change.id, verdict, measured, revert)


def _judge_expectation(snapshot: Snapshot, experiment: Experiment, expected: Expectation) -> tuple[EffectVerdict, str]:
    metric, steps, pair = expected.metric, experiment.after, experiment.dev
    if metric == "dev":
        if pair is None:
            return "unclear", "dev: no evaluation after it"
        rose = pair.p_rose < DEV_P
        return _sign(expected.direction, rose=rose, fell=_fell(pair)), _tell_dev(pair)
    before, after = _values(experiment.before, metric), _values(steps, metric)
    if experiment.change.action == "rollback" or not before or not after:
        return "unclear", f"{metric}: no steps {'before' if after else 'after'} it to compare"
    change = compute_change(before, after, noise=_noise(snapshot, experiment, metric))
    text = (
        f"{metric} {_mean(before):.3g} -> {_mean(after):.3g}, {_format(_within(change, metric))} against the forecast, "
        f"steps {steps[0].step}-{steps[-1].step} after {experiment.before[0].step}-{experiment.before[-1].step}"
    )
    return _sign(expected.direction, rose=change.low > 0, fell=change.high < 0), text


def _within(change: Difference, metric: str) -> Difference:
    """Cut the interval of a rate to what a difference of two rates can be."""
    if not metric.endswith("_rate"):
        return change
    value, low, high = (min(1.0, max(-1.0, end)) for end in (change.value, change.low, change.high))
    return Difference(value, low, high)


def _sign(expected: Direction, *, rose: bool, fell: bool) -> EffectVerdict:
    good, bad = (rose, fell) if expected == "rises" else (fell, rose)
    return "helped" if good else "hurt" if bad else "unclear"


def _fell(pair: PairedLook) -> bool:
    return pair.p_fell < DEV_P


def _find_harm(snapshot: Snapshot, experiment: Experiment) -> list[str]:
    """Tell what the change should not have done, whatever it was for; empty if nothing."""
    found = []
    pair, change = experiment.dev, experiment.change
    if pair is not None and _fell(pair):
        found.append(_tell_dev(pair))
    # Warmer samples earn less and colder ones more, whatever the weights are worth.
    adjusted = _values(experiment.after, "reward/adjusted")
    if len(adjusted) > 2 and change.action != "rollback" and "temperature" not in change.changes:
        level = compute_level(adjusted, noise=_noise(snapshot, experiment, "reward/adjusted"), level=HARM_LEVEL)
        if level.high < HARM:
            found.append(f"reward/adjusted {_format(level)} at 99%: rewards fell below what the same prompts gave")
    return found


def _values(steps: Sequence[StepRecord], metric: str) -> list[float]:
    return [step.metrics[metric] for step in steps if metric in step.metrics]


def _noise(snapshot: Snapshot, experiment: Experiment, metric: str) -> float:
    """Return the noise of one step, from the run's own history, and not less than that of a draw of so few prompts."""
    steps = [*experiment.before, *experiment.after]
    level = _mean(_values(steps, metric))
    prompts = min(step.knobs.prompts_per_step for step in steps)
    if metric.startswith("reward/"):
        floor = max(NOISE_FLOOR, _mean(_values(steps, "reward/std")) / math.sqrt(prompts))
    elif metric.endswith("_rate"):  # of groups, or of completions that within a group are alike
        share = (level * prompts + 1) / (prompts + 2)
        floor = math.sqrt(share * (1 - share) / prompts)
    else:
        floor = NOISE_FLOOR * abs(level)
    return max(compute_noise(_values(snapshot.steps[-NOISE_STEPS:], metric)), floor, 1e-12)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _format(interval: Difference) -> str:
    return f"{interval.value:+.3g} [{interval.low:+.3g}, {interval.high:+.3g}]"


def _tell_dev(pair: PairedLook) -> str:
    return (
        f"dev {_format(Difference(pair.difference, *pair.ci95))} from step {pair.before} to {pair.after}, "
        f"{pair.gained} of {pair.n} prompts gained and {pair.lost} lost"
    )


# ---------------------------------------------------------------- undoing it


def _undo(
    snapshot: Snapshot, experiment: Experiment, together: Sequence[DecisionRecord], measured: str
) -> Decision | None:
    """Go back to the knobs from before, those of all changes that were made ``together``, and on paired dev evidence to
    the weights; None where the change is to stay."""
    change, pair = experiment.change, experiment.dev
    if any(d.action == "rollback" or d.source == "experiment" for d in together):
        return None
    moved = [move for d in reversed(together) for move in d.changes.items()]
    back = {knob: ends["from"] for knob, ends in moved if _may_go_back(snapshot, knob, ends)}
    evidence = f"the change before step {change.step} hurt: {measured}"
    if pair is not None and _fell(pair) and any(c.step == pair.before for c in snapshot.checkpoints):
        knobs = View(snapshot).kept_knobs(pair.before) | back
        why = "weights and hyperparameters from before it are better, prompt by prompt"
        return Decision(Action("rollback", knobs, pair.before), "experiment", evidence, why, "dev rises back")
    if not back:
        return None
    action = Action("focus" if set(back) == {"focus"} else "set", back)
    if snapshot.run.kind == "sft":
        return Decision(action, "experiment", evidence, "without the change dev stays as before", "dev rises")
    why = "without the change rewards stay as before"
    return Decision(action, "experiment", evidence, why, "reward/adjusted rises")


def _may_go_back(snapshot: Snapshot, knob: str, ends: Mapping[str, KnobValue]) -> bool:
    """Tell whether a knob may be undone. A smaller learning rate stays: it can slow a harm down but not do one, and one
    that has become too small has a finding of its own."""
    old, new = ends["from"], ends["to"]
    if knob in snapshot.pins or old == new or getattr(snapshot.knobs, knob) != new:
        return False
    return knob != "learning_rate" or old is None or new is None or new > old
