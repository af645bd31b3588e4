"""The snapshot as detectors and rules read it: the steps under the present knobs, and what was tried before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from statistics import fmean

from harness.types import DecisionRecord, EvaluationRecord, Knobs, KnobValue, PairedLook, Snapshot, StepRecord

SHORT = 4
"""Steps that a rate is averaged over, at most."""
FALLING, FALLING_STEPS = -0.08, 3
"""``reward/adjusted`` over the last steps from which on rewards are said to fall."""
GOOD_DEV = 0.97
"""Share of the way from the lowest to the highest score that is good enough."""
P = 0.01
"""How unlikely by chance a trend or a loss on dev must be."""
IN_REWARD = ("reward/mean", "reward/std", "reward/adjusted", "group/mean_error", "group/mean_spread")
"""Metrics in units of the reward, which detectors see as shares of its range."""


class NotLogged(Exception):
    """No step has what a detector asks for: an older record, or the log of another trainer. So it cannot tell."""


class View:
    """What is looked at more than once, computed once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.knobs = snapshot.knobs
        self.next_step = snapshot.steps_done + 1
        self.changes: tuple[DecisionRecord, ...] = tuple(d for d in snapshot.decisions if d.is_change)
        self.changed_at: dict[str, int] = {knob: d.step for d in self.changes for knob in d.changes}
        # A decision governs the step of its own number: that step already ran under the new knobs.
        last_change = max((d.step for d in self.changes), default=0)
        self.since: tuple[StepRecord, ...] = tuple(s for s in snapshot.steps if s.step >= last_change)
        """The live steps since the last change, the only ones that tell of the present knobs."""
        self.window = self.since[-SHORT:]
        self.range = snapshot.run.reward_range

    # ------------------------------------------------------------ steps

    def mean(self, metric: str) -> float:
        """Return the mean over the newest steps under the present knobs, as ``values`` has them."""
        return fmean(self.values(metric, self.window))

    def values(self, metric: str, steps: Sequence[StepRecord] | None = None) -> list[float]:
        """Return the metric of the steps since the last change unless others are given, in order; 0 where a step lacks
        it. Amounts of reward are shares of the range of rewards. Raises NotLogged where no step of the snapshot has
        it."""
        chosen = self.since if steps is None else steps
        values = [step.metrics.get(metric, 0.0) for step in chosen]
        if not any(values) and chosen and not self.has(metric):
            raise NotLogged(metric)
        if metric not in IN_REWARD or self.range == (0.0, 1.0):
            return values
        low, high = self.range
        start = low if metric == "reward/mean" else 0.0
        return [(value - start) / (high - low) for value in values]

    def has(self, metric: str) -> bool:
        """Whether any step of the snapshot has the metric."""
        return any(metric in step.metrics for step in self.snapshot.steps)

    def evidence(self, *metrics: str) -> str:
        """Return the means of those metrics that are logged in words, as they are, with their steps."""
        shown = ", ".join(
            f"{metric} {fmean(step.metrics.get(metric, 0.0) for step in self.window):.2f}"
            for metric in metrics
            if self.has(metric)
        )
        return f"{shown} over steps {self.window[0].step}-{self.window[-1].step}"

    def lost(self, steps: Sequence[StepRecord]) -> list[float]:
        """Return the share of groups of each step without signal and without a right completion."""
        unsolved, zero, flat = (self.values(f"group/{kind}_rate", steps) for kind in ("unsolved", "all_zero", "flat"))
        return [min(wrong, low + equal) for wrong, low, equal in zip(unsolved, zero, flat, strict=True)]

    @cached_property
    def is_falling(self) -> bool:
        """Whether rewards of the last steps lie clearly below what the same prompts gave before, more than by the
        chance of which prompts were drawn."""
        adjusted = self.values("reward/adjusted")[-FALLING_STEPS:]
        noise = self.mean("reward/std") / math.sqrt(self.knobs.prompts_per_step * FALLING_STEPS)
        return len(adjusted) == FALLING_STEPS and fmean(adjusted) <= min(FALLING, -1.64 * noise) and max(adjusted) < 0

    # ------------------------------------------------------------ dev

    @property
    def last_rollback(self) -> int:
        """The step that the newest rollback governs, that to an arm of a branch included; 0 without one."""
        back = (d.step for d in self.snapshot.decisions if d.action in ("rollback", "branch") and d.refused is None)
        return max(back, default=0)

    @property
    def newest_look(self) -> EvaluationRecord | None:
        """The newest look at dev whose weights the present ones came from."""
        looks = self.snapshot.dev
        return looks[-1] if looks and looks[-1].step >= self.last_rollback else None

    @property
    def best_look(self) -> EvaluationRecord | None:
        """As the store has it: the earliest of equal ones."""
        return max(self.snapshot.dev, key=lambda look: look.rank, default=None)

    def look_age(self) -> int | None:
        """Return the steps since the newest look at dev; None without one."""
        look = self.newest_look
        return None if look is None else self.snapshot.steps_done - look.step

    @property
    def newest_pairs(self) -> list[PairedLook]:
        """The newest look at dev against earlier ones, prompt by prompt."""
        look = self.newest_look
        return [pair for pair in self.snapshot.paired_dev if look is not None and pair.after == look.step]

    @property
    def has_learned(self) -> bool:
        """Whether the newest look at dev lies above the interval of the first one."""
        looks = self.snapshot.dev
        return bool(looks) and looks[-1].score > looks[0].ci95[1]

    @property
    def good_score(self) -> float:
        """The score on dev from which on nothing is left to learn."""
        low, high = self.snapshot.run.reward_range if self.snapshot.run.graded else (0.0, 1.0)
        return low + GOOD_DEV * (high - low)

    @property
    def loss_on_dev(self) -> PairedLook | None:
        """The newest look at dev against the best one, where it lost more than chance takes."""
        best = self.best_look
        pairs = (pair for pair in self.newest_pairs if best is not None and pair.before == best.step)
        return next((pair for pair in pairs if pair.p_fell < P), None)

    # ------------------------------------------------------------ what was tried

    def kept_knobs(self, target: int) -> dict[str, KnobValue]:
        """Return the knobs that a rollback to ``target`` would lose: changed since, and not judged to have hurt. The
        target pass rate is not among them: it was chosen for the weights that are left."""
        names = {knob for d in self.changes if d.step > target and d.verdict != "hurt" for knob in d.changes}
        return {name: getattr(self.knobs, name) for name in sorted(names - self.snapshot.pins - {"focus"})}


def sampling(knobs: Knobs) -> tuple[float, int, float | None]:
    """Return what decides, beside the weights, which texts come: only under the same can texts and rewards be
    compared."""
    return knobs.temperature, knobs.max_tokens, knobs.focus
