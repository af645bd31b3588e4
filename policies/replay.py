"""The decision policy that repeats the decisions of another run, at the same steps.

With that run's own spec and seed it gives the same run again (harness.run.replay); with another model or seed it is a
schedule that was found once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.types import Action, Decision, Snapshot


@dataclass
class ReplayPolicy:
    """``harness.types.DecisionPolicy``. ``decisions_at`` gives what is to be repeated at a step, None where nothing was
    decided."""

    repeats = True

    kind: str
    decisions_at: Callable[[int], Sequence[Decision] | None]

    def decide(self, snapshot: Snapshot) -> Sequence[Decision]:
        step = snapshot.steps_done + 1
        decisions = self.decisions_at(step)
        if decisions is None:
            return (Decision(Action("continue"), "fixed", f"{self.kind} has no decision for step {step}"),)
        return decisions
