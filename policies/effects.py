"""Every change is an experiment: what it did, told from what the steps before it forecast.

``EffectJudge`` gives a verdict on each change that can be judged by now, and undoes what hurt. docs/decisions.md says
how. The controller asks it before the decision policy, which then sees the verdicts. Pure, as a policy is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.core.actions import Direction, Expectation, parse_expected
from harness.core.statistics import Difference, compute_paired, compute_paired_p
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

UNSAID = (Expectation("reward/adjusted", "rises"),)
"""What a change is for that does not say what it expects."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A change with the steps it is judged on. ``closed`` says that no more steps will come: another change came."""

    change: DecisionRecord
    before: tuple[StepRecord, ...]
    after: tuple[StepRecord, ...]
    closed: bool
    dev: PairedLook | None


class EffectJudge:
    """``harness.types.EffectJudge``."""

    def judge(self, snapshot: Snapshot) -> tuple[Verdict, ...]:
        """Verdicts on the changes without one that are due, oldest first."""
        return tuple(_judge(snapshot, experiment) for experiment in find_due(snapshot))


# ---------------------------------------------------------------- which


def find_due(snapshot: Snapshot) -> list[Experiment]:
    """Changes without a verdict that can have one now, oldest first."""
    changes = [d for d in snapshot.decisions if d.is_change]
    starts = sorted({d.step for d in changes})
    due = []
    for change in changes:
        if change.verdict is not None or change.action == "branch":  # which compares by itself
            continue
        earlier = max((step for step in starts if step < change.step), default=0)
        later = min((step for step in starts if step > change.step), default=None)
        experiment = Experiment(
            change,
            before=tuple(s for s in snapshot.steps if earlier <= s.step < change.step)[-BEFORE:],
            after=tuple(s for s in snapshot.steps if s.step >= change.step and (later is None or s.step < later))[
                :AFTER
            ],
            closed=later is not None,
            dev=_find_dev(snapshot, change.step),
        )
        if experiment.closed or _has_what_it_waits_for(experiment, snapshot.steps_done):
            due.append(experiment)
    return due


def _has_what_it_waits_for(experiment: Experiment, steps_done: int) -> bool:
    first = experiment.change.step
    if not _on_dev_alone(experiment.change):
        return steps_done - first + 1 >= AFTER
    looked = experiment.dev is not None and experiment.dev.after - first + 1 >= AFTER
    return looked or steps_done - first + 1 >= LOOK_WITHIN


def _on_dev_alone(change: DecisionRecord) -> bool:
    """A rollback leaves behind the steps it would be compared with."""
    return change.action == "rollback" or all(e.metric == "dev" for e in parse_expected(change.expected) or UNSAID)


def _find_dev(snapshot: Snapshot, step: int) -> PairedLook | None:
    """The newest look at dev against the last one before the change, if most of the steps between came after it: what
    went wrong before is not its doing."""
    before = max((look.step for look in snapshot.dev if look.step < step), default=None)
    pair = next((pair for pair in snapshot.paired_dev if pair.before == before), None)
    return pair if pair is not None and pair.after - (step - 1) >= max(1, step - 1 - pair.before) else None


# ---------------------------------------------------------------- what it did


def _judge(snapshot: Snapshot, experiment: Experiment) -> Verdict:
    change = experiment.change
    told: list[str] = []
    signs: list[EffectVerdict] = []
    for expectation in parse_expected(change.expected) or UNSAID:
        if expectation.metric == "dev":
            sign, text = _judge_dev(experiment, expectation.direction)
        else:
            sign, text = _judge_metric(snapshot, experiment, expectation)
        signs.append(sign)
        told.append(text)
    harm = _find_harm(snapshot, experiment)
    told += [text for text in harm if text not in told]
    verdict: EffectVerdict = "hurt" if harm or "hurt" in signs else "helped" if "helped" in signs else "unclear"
    measured = "; ".join(told)
    revert = _undo(snapshot, experiment, measured) if verdict == "hurt" else None
    return Verdict(change.id, verdict, measured, revert)


def _judge_metric(snapshot: Snapshot, experiment: Experiment, expected: Expectation) -> tuple[EffectVerdict, str]:
    metric, steps = expected.metric, experiment.after
    before, after = _values(experiment.before, metric), _values(steps, metric)
    if experiment.change.action == "rollback" or not before or not after:
        return "unclear", f"{metric}: no steps {'before' if after else 'after'} it to compare"
    change = compute_change(before, after, noise=_noise(snapshot, experiment, metric))
    sign = 1 if expected.direction == "rises" else -1
    good, bad = (change.low > 0, change.high < 0) if sign > 0 else (change.high < 0, change.low > 0)
    text = (
        f"{metric} {_mean(before):.3g} -> {_mean(after):.3g}, {_format(change)} against the forecast, "
        f"steps {steps[0].step}-{steps[-1].step} after {experiment.before[0].step}-{experiment.before[-1].step}"
    )
    return "helped" if good else "hurt" if bad else "unclear", text


def _judge_dev(experiment: Experiment, direction: Direction) -> tuple[EffectVerdict, str]:
    pair = experiment.dev
    if pair is None:
        return "unclear", "dev: no evaluation after it"
    interval = compute_paired(pair.gained, pair.lost, pair.n)
    gained, lost = (pair.gained, pair.lost) if direction == "rises" else (pair.lost, pair.gained)
    good, bad = compute_paired_p(lost, gained) < DEV_P, compute_paired_p(gained, lost) < DEV_P
    return "helped" if good else "hurt" if bad else "unclear", _tell_dev(pair, interval)


def _find_harm(snapshot: Snapshot, experiment: Experiment) -> list[str]:
    """What the change should not have done, whatever it was for: in words, empty if nothing."""
    found = []
    pair, change = experiment.dev, experiment.change
    if pair is not None and compute_paired_p(pair.gained, pair.lost) < DEV_P:
        found.append(_tell_dev(pair, compute_paired(pair.gained, pair.lost, pair.n)))
    # Warmer samples earn less and colder ones more, whatever the weights are worth.
    if len(experiment.after) > 2 and change.action != "rollback" and "temperature" not in change.changes:
        adjusted = _values(experiment.after, "reward/adjusted")
        level = compute_level(adjusted, noise=_noise(snapshot, experiment, "reward/adjusted"), level=HARM_LEVEL)
        if level.high < HARM:
            found.append(f"reward/adjusted {_format(level)} at 99%: rewards fell below what the same prompts gave")
    return found


def _values(steps: tuple[StepRecord, ...], metric: str) -> list[float]:
    return [step.metrics[metric] for step in steps if metric in step.metrics]


def _noise(snapshot: Snapshot, experiment: Experiment, metric: str) -> float:
    """Of one step, from the run's own history, and not less than that of a draw of so few prompts."""
    steps = experiment.before + experiment.after
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


def _tell_dev(pair: PairedLook, interval: Difference) -> str:
    return (
        f"dev {_format(interval)} from step {pair.before} to {pair.after}, "
        f"{pair.gained} of {pair.n} prompts gained and {pair.lost} lost"
    )


# ---------------------------------------------------------------- undoing it


def _undo(snapshot: Snapshot, experiment: Experiment, measured: str) -> Decision | None:
    """Back to the knobs from before, and on paired dev evidence to the weights; None where it is to stay."""
    change, pair = experiment.change, experiment.dev
    if change.action == "rollback" or change.source == "experiment":
        return None
    back = {knob: ends["from"] for knob, ends in change.changes.items() if _may_go_back(snapshot, knob, ends)}
    evidence = f"the change before step {change.step} hurt: {measured}"
    lost = pair is not None and compute_paired_p(pair.gained, pair.lost) < DEV_P
    if pair is not None and lost and any(c.step == pair.before for c in snapshot.checkpoints):
        knobs = View(snapshot).kept_knobs(pair.before) | back
        why = "weights and hyperparameters from before it are better, prompt by prompt"
        return Decision(Action("rollback", knobs, pair.before), "experiment", evidence, why, "dev rises back")
    if not back:
        return None
    kind: Literal["focus", "set"] = "focus" if set(back) == {"focus"} else "set"
    why = "without the change rewards stay as before"
    return Decision(Action(kind, back), "experiment", evidence, why, "reward/adjusted rises")


def _may_go_back(snapshot: Snapshot, knob: str, ends: Mapping[str, KnobValue]) -> bool:
    """A smaller learning rate stays: it can slow a harm down but not do one, and one that has become too small has a
    finding of its own."""
    old, new = ends["from"], ends["to"]
    if knob in snapshot.pins or old == new or getattr(snapshot.knobs, knob) != new:
        return False
    return knob != "learning_rate" or old is None or new is None or new > old
