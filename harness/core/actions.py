"""Parse words: a person's as an action (``set temperature=0.9``, ``focus easier``, ``rollback 40``), a decision's as
what it expects (``group/mixed_rate rises``)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from harness.core.branch import check_branch, parse_branch
from harness.core.knobs import KNOB_NAMES, apply_action, compute_focus, parse_assignments
from harness.errors import InputError, Refused
from harness.types import Action, RunKind, Snapshot

USAGE = {
    "set": "set knob=value ...",
    "focus": "focus easier | harder | unset | 0.5",
    "release": "release knob",
    "pause": "pause",
    "resume": "resume",
    "step": "step (one, while paused)",
    "stop": "stop",
    "save": "save NAME (not a number, best or final)",
    "sample": "sample",
    "evaluate": "evaluate",
    "rollback": "rollback STEP | NAME | best",
    "branch": "branch STEPS knob=value,... [knob=value,...]",
    "policy": "policy rules | fixed | llm | replay:RUN",
}


def parse_action(words: Sequence[str]) -> Action:
    """Parse ``words`` as an action. Raises InputError with the usage; the run checks bounds and pins when it applies
    it."""
    verb, *rest = words or [""]
    if verb not in USAGE:
        raise InputError(f"no action {verb!r}; actions are: {'; '.join(USAGE.values())}")
    try:
        match verb, rest:
            case "set", [_, *_]:
                return Action("set", parse_assignments(rest))
            case "focus", [word]:
                if word not in ("easier", "harder"):
                    return Action("focus", {"focus": compute_focus(word, None, {"focus": (0.0, 1.0)})})
                return Action("focus", argument=word)
            case "release", [knob] if knob in KNOB_NAMES:
                return Action("release", argument=knob)
            case "save", [name] if _is_checkpoint_name(name):
                return Action("save", argument=name)
            case "rollback", [target] if target.isdecimal() or target == "best" or _is_checkpoint_name(target):
                return Action("rollback", argument=int(target) if target.isdecimal() else target)
            case "branch", [_, _, *_]:
                parse_branch(" ".join(rest))
                return Action("branch", argument=" ".join(rest))
            case "policy", [kind]:
                return Action("policy", argument=kind)
            case (("pause" | "resume" | "step" | "stop" | "sample" | "evaluate"), []):
                return Action(verb)
    except Refused as refusal:
        raise InputError(str(refusal)) from None
    raise InputError(
        f"usage: grpo act RUN {USAGE[verb]}"
        + (f" with a hyperparameter of {', '.join(KNOB_NAMES)}" if verb in ("set", "release", "branch") else "")
    )


def check_action(words: Sequence[str], snapshot: Snapshot) -> Action:
    """Parse the ``words`` of a decision policy as an action that the run as it stands would take.

    Raises InputError as parse_action does, and Refused for a value out of bounds, a pinned knob, or a checkpoint that
    is not there.
    """
    action = parse_action(words)
    check_kind(action, snapshot.run.kind)
    if action.kind in ("set", "focus"):
        apply_action(snapshot.knobs, action, snapshot.bounds, snapshot.pins)
    elif action.kind == "branch":
        left = snapshot.run.budget_steps - snapshot.steps_done
        check_branch(action, snapshot.knobs, snapshot.bounds, snapshot.pins, steps_left=left)
    elif action.kind == "rollback":
        steps = [checkpoint.step for checkpoint in snapshot.checkpoints]
        names = {c.name for c in snapshot.checkpoints} | {"best" for c in snapshot.checkpoints if c.best}
        if action.argument not in steps and action.argument not in names:
            raise Refused(f"no checkpoint {action.argument}; there are: {', '.join(map(str, steps)) or 'none'}")
    return action


def check_kind(action: Action, kind: RunKind) -> None:
    """Raise Refused for an action that a run of this kind does not have: of sft the learning rate is all that there is
    to change."""
    if kind == "grpo":
        return
    others = sorted(action.changes.keys() - {"learning_rate"})
    if action.kind in ("focus", "branch") or others:
        what = ", ".join(others) if others else action.kind
        raise Refused(f"{what}: a run of kind sft has learning_rate alone to change; others: {', '.join(IN_SFT)}")


IN_SFT = ("evaluate", "sample", "save", "rollback", "pause", "resume", "step", "stop", "release", "policy")
"""What else may be done with a run of kind sft."""


def _is_checkpoint_name(name: str) -> bool:
    """Letters, digits and marks, but nothing that already names a checkpoint: a step, best, final."""
    marks = all(c.isalnum() or c in "-_." for c in name)
    number = name.lstrip("-").replace(".", "", 1).isdecimal()
    return bool(name) and marks and not number and name not in ("best", "final")


# ---------------------------------------------------------------- what a decision expects

Direction = Literal["rises", "falls"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
_EXPECTED = re.compile(rf"\b(dev|[a-z]+/[a-z_]+) ({'|'.join(DIRECTIONS)})\b")


@dataclass(frozen=True, slots=True)
class Expectation:
    """A metric (or dev, compared prompt by prompt) and where it should go."""

    metric: str
    direction: Direction


def parse_expected(text: str) -> tuple[Expectation, ...]:
    """Read what a decision's own words expect, in their order; empty where they name no metric and direction."""
    return tuple(Expectation(metric, direction) for metric, direction in _EXPECTED.findall(text))
