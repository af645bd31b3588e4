"""The cells of the harder gym: other tasks than sums, nights without signal, verifiers and data that are wrong, two
faults at once. What each is to show stands beside it; tests/benchmarks/hard_gym.py runs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmarks import hard_rewards
from tests.benchmarks.gym_cells import Fault
from tests.benchmarks.gym_programs import CALL, CODE
from tests.benchmarks.gym_tasks import (
    COLLAPSED,
    ENDLESS,
    HALVES,
    LONGER,
    MASTERED,
    PROXY,
    SORT,
    SORT_HARD,
    SORT_PARTS,
    SUBTRACT,
    SUBTRACT_HARD,
    WRONG_DATA,
    Task,
)

STEPS = 60
HARM = ("kl_spike", "entropy_explosion", "collapse", "oscillation", "dev_drop", "not_finite", "learning_rate")
HEAT = ("chaos", "temperature")


def _cell(
    task: Task,
    *right: str,
    knobs: Mapping[str, float] | None = None,
    reward: str = "",
    second: Sequence[str] = (),
    graded: bool = False,
) -> Fault:
    changes: dict[str, Mapping[str, Any]] = {"knobs": knobs or {}, "budget": {"steps": STEPS}}
    if reward:
        # It is the decision policy that must stop, not the session at more than a tenth.
        changes["reward"] = {"function": f"{Path(hard_rewards.__file__)}:{reward}", "errored_limit": 0.5}
    return Fault(changes, frozenset(right), task=task, second=frozenset(second), graded=graded)


CONTROLS: dict[str, Fault] = {
    "subtract": _cell(SUBTRACT),
    "subtract-hard": _cell(SUBTRACT_HARD),
    "sort": _cell(SORT),
    "sort-hard": _cell(SORT_HARD),
    "parts": _cell(SORT_PARTS, graded=True),
    "code": _cell(CODE, graded=True),
    "call": _cell(CALL, graded=True),
}
"""Healthy runs, by task; the last three are graded: hardly anything is fully right in them at first."""

NIGHTS: dict[str, Fault] = {
    "all-zero": _cell(SUBTRACT, "no_signal", reward="pays_nobody"),
    "too-strict": _cell(SUBTRACT, "no_signal", reward="is_too_strict"),
    "all-same": _cell(SORT, "no_signal", "flat", reward="pays_the_same", graded=True),
    "never-ends": _cell(ENDLESS, "never_ends"),
    "collapsed": _cell(COLLAPSED, "collapse", reward="pays_right"),
    "no-middle": _cell(HALVES, "no_middle", reward="pays_right"),
    "mastered": _cell(MASTERED, "solved", "no_signal"),
    "raises-3": _cell(SUBTRACT, "errored", reward="raises_on_3"),
    "raises-6": _cell(SUBTRACT, "errored", reward="raises_on_6"),
}
"""Runs from which nothing, or nothing right, can be learned as they are: they must recover, or end and say why. Only
``raises-3`` is to be told of and not ended."""

NOISE: dict[str, Fault] = {
    "noisy-verifier": _cell(SUBTRACT, reward="is_often_wrong"),
    "wrong-data": _cell(WRONG_DATA),
}
"""What a run can bear: it must be neither stopped nor spoilt."""

START_VALUES: dict[str, Fault] = {
    f"{name}-{task.name}": _cell(task, *right, knobs=knobs)
    for task in (SUBTRACT, SORT)
    for name, right, knobs in (
        ("rate-high", HARM, {"learning_rate": 1e-3}),
        ("rate-low", ("learning_rate", "no_op_learning_rate"), {"learning_rate": 1e-5}),
        ("warm", HEAT, {"temperature": 1.45}),
    )
} | {
    "rate-and-limit": _cell(SUBTRACT, *HARM, second=["truncation"], knobs={"learning_rate": 1e-3, "max_tokens": 20}),
    "rate-and-heat": _cell(SORT, *HARM, second=HEAT, knobs={"learning_rate": 1e-3, "temperature": 1.6}),
}
"""Hyperparameters to begin with that cost score; the last two are two faults at once."""

TWINS: dict[str, Fault] = {
    "explodes": _cell(SUBTRACT, *HARM, knobs={"learning_rate": 1e-2}),
    "longer": _cell(LONGER, "length_inflation", graded=True),
    "letters": _cell(PROXY, "proxy_only", "gamed"),
}
"""What real runs of others died of (docs/diagnose.md), made anew."""

CELLS = CONTROLS | NIGHTS | NOISE | START_VALUES | TWINS


RECOVERABLE = {*START_VALUES, "raises-3", "raises-6", "explodes"}
CANNOT = {"collapsed", "no-middle"}
"""Nights of a start that can do no more than it does, whatever is changed."""


def find_control(name: str) -> str | None:
    """Return the name of the healthy run that a cell should end like; None where nothing can make it so."""
    alike = [control for control, healthy in CONTROLS.items() if healthy.task.name == CELLS[name].task.name]
    return alike[0] if alike and name in RECOVERABLE else None


def shorten(fault: Fault, steps: int, warm_start: int) -> Fault:
    """Make a cell of few steps on a start of few, for the tests."""
    start = replace(fault.task.start, steps=warm_start)
    changes = {**fault.changes, "budget": {"steps": steps}, "evaluate": {"every": steps, "batch": 50}}
    changes["pool"] = {"splits": {"probe": 0, "dev": 20, "test": 20}}
    return replace(fault, changes=changes, task=replace(fault.task, start=start))
