"""The decision policy that never acts: the baseline every other one must beat."""

from __future__ import annotations

from harness.types import Action, Decision, Snapshot


class FixedPolicy:
    kind = "fixed"
    repeats = False

    def decide(self, snapshot: Snapshot) -> Decision:
        return Decision(Action("continue"), "fixed", "fixed: no hyperparameter is ever changed")
