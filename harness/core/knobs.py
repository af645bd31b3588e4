"""Check hyperparameters against their bounds and pins, and apply actions to them."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields, replace

from harness.core.formatting import format_knob
from harness.errors import Refused
from harness.types import Action, Knobs, KnobValue

KNOB_NAMES: tuple[str, ...] = tuple(field.name for field in fields(Knobs))
WHOLE_NUMBERS = frozenset({"max_tokens", "group_size", "prompts_per_step"})
DEFAULT_BOUNDS: dict[str, tuple[float, float]] = {
    "temperature": (0.3, 1.5),
    "max_tokens": (4, 4096),
    "learning_rate": (1e-7, 1e-2),
    "group_size": (2, 64),
    "prompts_per_step": (1, 1024),
    "beta": (0.0, 1.0),
    "focus": (0.05, 0.95),
}
"""Lowest and highest value of each knob unless the spec's [bounds] says otherwise."""

LARGEST = sys.float_info.max
"""A whole number of four hundred digits is no float."""
FOCUS_STEP = 0.15
FOCUS_START = 0.5


def check_value(name: str, value: KnobValue, bounds: Mapping[str, tuple[float, float]]) -> KnobValue:
    """Return the value as the knob stores it. Raises Refused, naming the knob and the allowed values."""
    if name not in KNOB_NAMES:
        near = difflib.get_close_matches(name, KNOB_NAMES, 1)
        raise Refused(
            f"no hyperparameter named {name}" + (f", did you mean {near[0]}?" if near else f": {', '.join(KNOB_NAMES)}")
        )
    if value is None:
        if name != "focus":
            raise Refused(f"{name} needs a number")
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
        raise Refused(f"{name} must be a finite number, not {value!r:.40}")
    if name in WHOLE_NUMBERS:
        if value != int(value):
            raise Refused(f"{name} must be a whole number, not {value!r}")
        value = int(value)
    low, high = bounds[name]
    if not low <= value <= high:
        raise Refused(f"{name} {value:g} is outside its bounds [{low:g}, {high:g}]")
    return value


def compute_focus(word: str, focus: float | None, bounds: Mapping[str, tuple[float, float]]) -> float | None:
    """Compute the next target pass rate from ``easier``, ``harder``, ``unset`` or a number. Raises Refused."""
    if word == "unset":
        return None
    if word in ("easier", "harder"):
        low, high = bounds["focus"]
        start = FOCUS_START if focus is None else focus
        moved = start + (FOCUS_STEP if word == "easier" else -FOCUS_STEP)
        return round(min(high, max(low, moved)), 6)
    try:
        return _finite(word)
    except ValueError:
        raise Refused(f"focus takes easier, harder, unset or a pass rate such as 0.5, not {word!r}") from None


def apply_changes(
    knobs: Knobs, changes: Mapping[str, KnobValue], bounds: Mapping[str, tuple[float, float]]
) -> tuple[Knobs, dict[str, dict[str, KnobValue]]]:
    """Return new knobs and ``{knob: {"from": old, "to": new}}``. All changes apply or none; raises Refused."""
    checked = {name: check_value(name, value, bounds) for name, value in changes.items()}
    before = asdict(knobs)
    after = replace(knobs, **checked)  # type: ignore[arg-type]
    return after, {name: {"from": before[name], "to": value} for name, value in checked.items()}


def apply_action(
    knobs: Knobs, action: Action, bounds: Mapping[str, tuple[float, float]], pinned: Collection[str]
) -> tuple[Knobs, dict[str, dict[str, KnobValue]]]:
    """Apply ``set`` or ``focus`` to the knobs, as apply_changes. Raises Refused, also for a knob in ``pinned``."""
    wanted = dict(action.changes)
    if action.kind == "focus" and not wanted:
        wanted["focus"] = compute_focus(str(action.argument), knobs.focus, bounds)
    if untouchable := sorted(wanted.keys() & set(pinned)):
        raise Refused(f"{', '.join(untouchable)} is pinned by a person until released")
    return apply_changes(knobs, wanted, bounds)


def parse_assignments(words: list[str]) -> dict[str, KnobValue]:
    """Parse ``["temperature=0.9"]`` as changes. Raises Refused for a word that is not ``knob=number``."""
    changes: dict[str, KnobValue] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise Refused(f"set takes knob=value, not {word!r}")
        try:
            changes[name.strip()] = int(text) if name.strip() in WHOLE_NUMBERS else _finite(text)
        except ValueError:
            raise Refused(f"{name} needs a number, not {text!r}") from None
    if not changes:
        raise Refused("set takes at least one knob=value")
    return changes


def _finite(text: str) -> float:
    """A number that JSON can hold too. Raises ValueError."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value


def describe(action: Action) -> str:
    """Describe an action in a few words, for people."""
    changes = " ".join(f"{name}={format_knob(value)}" for name, value in action.changes.items())
    if action.kind == "set" or (action.kind == "focus" and changes):
        return changes
    argument = "" if action.argument is None else str(action.argument)
    return " ".join(filter(None, (action.kind, argument, changes)))
