"""Signs of a run that learns from demonstrations: dev alone tells what its steps are worth."""

from __future__ import annotations

from policies.detectors.signs import Sign
from policies.view import NotLogged, View

PATIENCE = 3
"""Dev evaluations without a gain from which on there is none to be expected."""


def find_no_gain(view: View) -> Sign | None:
    """Find that neither the score on dev nor the loss there was better than before in the last evaluations; told once,
    at the evaluation that shows it. After a rollback it begins to count anew."""
    if view.snapshot.steps and not view.snapshot.dev:
        raise NotLogged("dev")
    looks = view.snapshot.dev
    last = [look for look in looks if look.step >= view.last_rollback][-PATIENCE:]
    before = [look for look in looks if look.step < last[0].step] if last else []
    if len(last) < PATIENCE or not before or view.look_age() != 0:
        return None
    best, most = max(look.score for look in before), max(look.score for look in last)
    losses = [[look.loss for look in part if look.loss is not None] for part in (before, last)]
    if most > best or (all(losses) and min(losses[1]) < min(losses[0])):
        return None
    evidence = f"dev at most {most:.3f} in the last {PATIENCE} evaluations, {best:.3f} before"
    if all(losses):
        evidence += f"; loss on dev at least {min(losses[1]):.4f}, {min(losses[0]):.4f} before"
    return Sign("warning", evidence, 0.9, before[-1].step, last[-1].step)
