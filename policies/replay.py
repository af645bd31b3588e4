"""The decision policy that repeats the decisions of another run, at the same steps.

With that run's own spec and seed it gives the same run again (harness.run.replay); with another model or seed it is a
schedule that was found once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.types import Action, Decision, Snapshot


class ReplayPolicy:
    """``harness.types.DecisionPolicy``. ``decisions_at`` gives what is to be repeated at a step, None where nothing was
    decided."""

    repeats = True

    def __init__(self, kind: str, decisions_at: Callable[[int], Sequence[Decision] | None]) -> None:
        self.kind = kind
        self.decisions_at = decisions_at

    def decide(self, snapshot: Snapshot) -> Sequence[Decision]:
        step = snapshot.steps_done + 1
        decisions = self.decisions_at(step)
        if decisions is None:
            return (Decision(Action("continue"), "fixed", f"{self.kind} has no decision for step {step}"),)
        return decisions
