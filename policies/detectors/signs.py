"""What detectors have in common: how a sign is written down, and how long they look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from harness.core.trends import confidence_above
from harness.types import StepRecord
from policies.view import View

Severity = Literal["severe", "warning", "note", "unknown"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

MIN_STEPS = 3
"""Steps under the present knobs before a rate is judged."""
TREND_STEPS = 16
"""Steps that a trend is looked for in, at most."""
MIN_TREND = 8
NORMAL_STEPS = 20
"""Steps before the newest that say what is normal, at most."""
RATE_NOISE = 0.05
"""The least noise of a rate of groups or completions in one step."""
TRUNCATED = 0.3
"""Share of cut completions from which on a limit may be too short."""


class Sign(NamedTuple):
    """A Finding without its kind, which the table of detectors gives."""

    severity: Severity
    evidence: str
    confidence: float
    first: int
    last: int


def found(severity: Severity, evidence: str, confidence: float, steps: Sequence[StepRecord]) -> Sign:
    return Sign(severity, evidence, confidence, steps[0].step, steps[-1].step)


def confidence_of(
    view: View, metric: str, threshold: float, *, below: bool = False, floor: float = RATE_NOISE
) -> float:
    """Return how likely the level of the newest steps is over ``threshold``, or below it; ``floor`` as in
    confidence_above."""
    side = -1 if below else 1
    return confidence_above([side * value for value in view.values(metric, view.window)], side * threshold, floor)


def rate(view: View, metric: str, threshold: float, *others: str, told: str = "") -> Sign | None:
    """Warn when the mean of a rate is at or over its threshold; the evidence is ``told``, the rate and the others."""
    if view.mean(metric) < threshold:
        return None
    return found("warning", told + view.evidence(metric, *others), confidence_of(view, metric, threshold), view.window)
