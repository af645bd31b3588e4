"""Rules: one change at a time, each from numbers that are stored with it.

    mostly unsolved      truncated? raise max_tokens; else an easier focus; else temperature
    mostly solved        look at dev; good? stop (which saves); else a harder focus
    flat groups          only the format is paid: temperature, then stop for a person
    KL spike, swings     lower the learning rate, then temperature towards 1
    dev below its best   roll back, then halve the learning rate
    not finite           halve the learning rate
    no movement          raise the learning rate

The rules are asked in the order of RULES; the first that speaks decides. A rule looks only at steps taken
since the last change, so it judges the present knobs, and a knob rests for COOL_DOWN steps after its change.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from statistics import fmean, median

from harness.types import Action, Decision, EvaluationRecord, KnobValue, Snapshot, StepRecord

# Every threshold of the rules, in one place.
WINDOW = 4
"""Steps that a rule averages over, at most."""
MIN_STEPS = 3
"""Steps under the present knobs before a rule judges them."""
COOL_DOWN = 6
"""Steps that a knob rests after a change; a clearly too low token limit need not wait."""
UNSOLVED = 0.6
TRUNCATED = 0.3
SOLVED = 0.75
GOOD_DEV = 0.97
FLAT = 0.5
KL_SPIKE = 0.5
KL_SPIKE_FACTOR = 6.0
"""A spike is over both: KL_SPIKE nats per token, and this many times the median of the steps before."""
SWING_STEPS = 12
SWING_STD = 0.12
SWING_CORRELATION = -0.5
"""Swings: rewards that alternate (lag-1 correlation below) and by more than this standard deviation."""
TINY_KL = 1e-4
NO_MOVEMENT_STEPS = 15
MORE_TOKENS = 1.5
WARMER = 1.25
SLOWER = 0.5
FASTER = 3.0


class RulesPolicy:
    """``harness.types.DecisionPolicy`` by rules; a pure function of the snapshot."""

    kind = "rules"

    def decide(self, snapshot: Snapshot) -> Decision:
        view = _View(snapshot)
        for rule in RULES:
            decision = rule(view)
            if decision is not None:
                return decision
        return _continue(view)


class _View:
    """The snapshot as the rules see it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.knobs = snapshot.knobs
        applied = [d for d in snapshot.decisions if d.refused is None]
        self.last = applied[-1] if applied else None
        self.changes = {name: d.step for d in applied for name in d.changes}
        rolled_back = [d.step for d in applied if d.action == "rollback"]
        changed_at = max([*self.changes.values(), *rolled_back], default=0)
        # A decision governs the step of its own number: that step already ran under the new knobs.
        since = [step for step in snapshot.steps if step.step >= changed_at]
        self.since = since
        self.window: list[StepRecord] = since[-WINDOW:]
        self.next_step = snapshot.steps_done + 1

    @property
    def ready(self) -> bool:
        return len(self.since) >= MIN_STEPS

    def mean(self, metric: str) -> float:
        return fmean(step.metrics[metric] for step in self.window)

    def may_change(self, knob: str, *, rest: int = COOL_DOWN) -> bool:
        return knob not in self.snapshot.pins and self.next_step - self.changes.get(knob, -rest) >= rest

    def moved(self, knob: str, factor: float) -> float | int | None:
        """The knob times ``factor`` within its bounds; None when it cannot move."""
        low, high = self.snapshot.bounds[knob]
        old = getattr(self.knobs, knob)
        new = min(high, max(low, old * factor))
        new = round(new) if knob == "max_tokens" else float(f"{new:.4g}")
        return None if new == old else new

    def evidence(self, *metrics: str) -> str:
        shown = ", ".join(f"{metric} {self.mean(metric):.2f}" for metric in metrics)
        first, last = self.window[0].step, self.window[-1].step
        return f"{shown} over steps {first}-{last}"

    def dev(self) -> tuple[EvaluationRecord, EvaluationRecord] | None:
        """The newest and the best dev look."""
        looks = self.snapshot.dev
        return (looks[-1], max(looks, key=lambda look: look.accuracy)) if looks else None


def _set(knob: str, value: KnobValue, evidence: str, hypothesis: str, expected: str) -> Decision:
    return Decision(Action("set", {knob: value}), "rules", evidence, hypothesis, expected)


def roll_back(view: _View) -> Decision | None:
    """Dev fell below its best by more than the noise of both."""
    looks = view.dev()
    if looks is None or looks[0].step != view.snapshot.step or view.snapshot.step != view.snapshot.steps_done:
        return None
    now, best = looks
    noise = 1.96 * math.sqrt(sum(e.accuracy * (1 - e.accuracy) / e.n for e in (now, best)))
    if best.accuracy - now.accuracy <= noise or not any(c.step == best.step for c in view.snapshot.checkpoints):
        return None
    return Decision(
        Action("rollback", argument=best.step),
        "rules",
        f"dev {now.accuracy:.3f} at step {now.step} against {best.accuracy:.3f} at step {best.step}: "
        f"{best.accuracy - now.accuracy:.3f} lower, noise {noise:.3f}",
        "the updates since the best checkpoint did harm",
        f"dev back to about {best.accuracy:.3f}",
    )


def slow_down_after_rollback(view: _View) -> Decision | None:
    """The same steps at the same rate would end in the same place."""
    last = view.last
    if last is None or last.action != "rollback" or last.source != "rules" or last.step < view.snapshot.steps_done:
        return None
    slower = view.moved("learning_rate", SLOWER)
    if slower is None or not view.may_change("learning_rate", rest=1):
        return None
    return _set(
        "learning_rate", slower, f"rolled back before step {last.step}",
        "the learning rate was too high for these weights", "dev stays at its best or rises",
    )  # fmt: skip


def slow_down_after_fault(view: _View) -> Decision | None:
    """A gradient or the weights were not finite at the last step: the next update must be smaller."""
    faults = view.snapshot.faults
    if not faults or faults[-1].step < view.snapshot.steps_done or view.snapshot.steps_done == 0:
        return None
    slower = view.moved("learning_rate", SLOWER)
    if slower is None or "learning_rate" in view.snapshot.pins:
        return None
    return _set(
        "learning_rate", slower, f"step {faults[-1].step}: {faults[-1].text}",
        "updates are so large that numbers overflow", "every update is finite",
    )  # fmt: skip


def raise_max_tokens(view: _View) -> Decision | None:
    """Answers are cut before they end, and most groups stay unsolved for it."""
    if len(view.since) < 2 or view.mean("completion/truncated_rate") < TRUNCATED:
        return None
    if view.mean("group/unsolved_rate") < TRUNCATED or not view.may_change("max_tokens", rest=2):
        return None
    more = view.moved("max_tokens", MORE_TOKENS)
    if more is None:
        return None
    return _set(
        "max_tokens", more,
        view.evidence("group/unsolved_rate", "completion/truncated_rate"),
        "completions are cut before the answer, so nothing can be rewarded",
        "completion/truncated_rate falls, group/unsolved_rate falls",
    )  # fmt: skip


def calm_down(view: _View) -> Decision | None:
    """KL jumped, or the reward swings from step to step: smaller updates, then a temperature nearer to 1."""
    evidence = _kl_spike(view) or _swings(view)
    if evidence is None:
        return None
    slower = view.moved("learning_rate", SLOWER)
    if slower is not None and view.may_change("learning_rate"):
        return _set(
            "learning_rate", slower, evidence, "updates are too large", "kl/mean and the swings of reward/mean fall"
        )
    temperature = round((view.knobs.temperature + 1.0) / 2, 3)
    if view.knobs.temperature > 1.0 and temperature != view.knobs.temperature and view.may_change("temperature"):
        return _set("temperature", temperature, evidence, "samples are too wild", "kl/mean falls")
    return None


def _kl_spike(view: _View) -> str | None:
    kl = [step.metrics["kl/mean"] for step in view.since]
    if len(kl) < MIN_STEPS or kl[-1] < KL_SPIKE or kl[-1] < KL_SPIKE_FACTOR * median(kl[:-1][-20:]):
        return None
    return f"kl/mean {kl[-1]:.3f} at step {view.since[-1].step}, median before {median(kl[:-1][-20:]):.3f}"


def _swings(view: _View) -> str | None:
    rewards = [step.metrics["reward/adjusted"] for step in view.since[-SWING_STEPS:]]
    if len(rewards) < SWING_STEPS:
        return None
    mean = fmean(rewards)
    spread = math.sqrt(fmean((reward - mean) ** 2 for reward in rewards))
    if spread < SWING_STD:
        return None
    correlation = fmean((a - mean) * (b - mean) for a, b in pairwise(rewards)) / spread**2
    if correlation > SWING_CORRELATION:
        return None
    return f"reward/adjusted swings: standard deviation {spread:.2f}, lag-1 correlation {correlation:.2f}"


def find_easier(view: _View) -> Decision | None:
    """Mostly unsolved for another reason than the token limit."""
    if not view.ready or view.mean("group/unsolved_rate") < UNSOLVED:
        return None
    if view.mean("completion/truncated_rate") >= TRUNCATED or view.mean("group/flat_rate") >= FLAT:
        return None
    evidence = view.evidence("group/unsolved_rate", "completion/truncated_rate", "reward/mean")
    low, high = view.snapshot.bounds["focus"]
    if view.may_change("focus") and (view.knobs.focus or low) < high:
        return Decision(
            Action("focus", argument="easier"), "rules", evidence,
            "the prompts are too hard for the model as it is", "group/unsolved_rate falls, group/mixed_rate rises",
        )  # fmt: skip
    warmer = view.moved("temperature", WARMER)
    if warmer is not None and view.may_change("temperature") and view.mean("completion/distinct_rate") < 0.9:
        return _set(
            "temperature", warmer, evidence, "samples are too alike to find an answer", "group/unsolved_rate falls"
        )
    return None


def finish_or_harder(view: _View) -> Decision | None:
    """Mostly solved: good on dev means done, else there is more to learn on harder prompts."""
    if not view.ready or view.mean("group/solved_rate") < SOLVED:
        return None
    evidence = view.evidence("group/solved_rate", "group/mixed_rate")
    looks = view.dev()
    if looks is None or view.snapshot.steps_done - looks[0].step >= MIN_STEPS:
        return Decision(
            Action("evaluate"), "rules", evidence, "the train prompts are mostly solved; dev tells how far that goes"
        )
    if looks[0].accuracy >= GOOD_DEV:
        return Decision(
            Action("stop"), "rules", f"dev {looks[0].accuracy:.3f} (good is {GOOD_DEV}), {evidence}",
            "there is nothing left to learn from this pool", "the test score is near dev",
        )  # fmt: skip
    if view.may_change("focus") and (view.knobs.focus or 1.0) > view.snapshot.bounds["focus"][0]:
        return Decision(
            Action("focus", argument="harder"), "rules", f"dev {looks[0].accuracy:.3f}, {evidence}",
            "solved prompts teach nothing", "group/mixed_rate rises",
        )  # fmt: skip
    return None


def leave_flat(view: _View) -> Decision | None:
    """Groups of equal rewards between the ends: only the format is paid, so there is nothing to learn from."""
    if not view.ready or view.mean("group/flat_rate") < FLAT:
        return None
    evidence = view.evidence("group/flat_rate", "completion/correct_rate", "completion/distinct_rate")
    warmer = view.moved("temperature", WARMER)
    if warmer is not None and "temperature" not in view.changes and view.may_change("temperature"):
        return _set(
            "temperature", warmer, f"the reward pays the format only: {evidence}",
            "more varied samples may hit a right answer", "group/flat_rate falls",
        )  # fmt: skip
    if view.may_change("temperature"):
        return Decision(
            Action("stop"), "rules", f"the reward pays the format only and temperature did not help: {evidence}",
            "the reward or the data needs a person", "",
        )  # fmt: skip
    return None


def speed_up(view: _View) -> Decision | None:
    """Nothing moves: KL is tiny and dev is where it was."""
    looks = view.dev()
    steps = view.since[-NO_MOVEMENT_STEPS:]
    if looks is None or len(steps) < NO_MOVEMENT_STEPS or not view.may_change("learning_rate"):
        return None
    moved = [step.metrics["kl/mean"] for step in steps]
    mixed = fmean(step.metrics["group/mixed_rate"] for step in steps)
    first = view.snapshot.dev[0]
    if not all(kl <= TINY_KL for kl in moved) or mixed < 0.1 or looks[0].accuracy > first.ci95[1]:
        return None
    faster = view.moved("learning_rate", FASTER)
    if faster is None:
        return None
    return _set(
        "learning_rate", faster,
        f"kl/mean at most {max(moved):.1e} over {len(steps)} steps, dev {looks[0].accuracy:.3f} "
        f"against {first.accuracy:.3f} at the start, group/mixed_rate {mixed:.2f}",
        "updates are too small to change the model", "kl/mean rises, reward/adjusted rises",
    )  # fmt: skip


def _continue(view: _View) -> Decision:
    if not view.window:
        return Decision(Action("continue"), "rules", "no step under the present knobs yet")
    return Decision(
        Action("continue"), "rules",
        view.evidence("reward/mean", "group/no_signal_rate", "completion/truncated_rate", "kl/mean"),
    )  # fmt: skip


RULES: tuple[Callable[[_View], Decision | None], ...] = (
    roll_back,
    slow_down_after_fault,
    slow_down_after_rollback,
    raise_max_tokens,
    calm_down,
    find_easier,
    leave_flat,
    finish_or_harder,
    speed_up,
)
