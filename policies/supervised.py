"""Rules of a run of kind sft: they see dev, the loss and faults, and the learning rate is all that they may change."""

from __future__ import annotations

from collections.abc import Callable

from harness.types import Action, Decision, Snapshot
from policies.detectors import detect
from policies.rules import SLOWER, Case, roll_back, tell
from policies.view import View


class SupervisedRules:
    """``harness.types.DecisionPolicy`` by rules; a pure function of the snapshot."""

    kind = "rules"
    repeats = False

    def decide(self, snapshot: Snapshot) -> Decision:
        view, findings = View(snapshot), detect(snapshot)
        case = Case(view, {f.kind: f for f in findings if f.severity in ("severe", "warning")})
        decided = next((decision for rule in RULES if (decision := rule(case)) is not None), None)
        if decided is not None:
            return decided
        if not view.window:
            return Decision(Action("continue"), "rules", "no step under the present learning rate yet")
        return Decision(Action("continue"), "rules", view.evidence("loss", "grad/norm"))


def slow_down(case: Case) -> Decision | None:
    """Make updates smaller after one that was not finite."""
    finding = case.first("not_finite")
    wanted = case.scaled("learning_rate", SLOWER)
    return case.set(finding, "learning_rate", wanted, "updates are too large", "dev rises")


def stop_early(case: Case) -> Decision | None:
    """Stop where dev gains no more: what comes now only learns the examples by heart. The best checkpoint is kept."""
    finding = case.first("plateau")
    if finding is None:
        return None
    why = "further steps learn the examples and not the task; the best checkpoint is kept"
    return Decision(Action("stop"), "rules", tell(finding), why, "the test score is near dev")


RULES: tuple[Callable[[Case], Decision | None], ...] = (roll_back, slow_down, stop_early)
"""The most pressing first."""
