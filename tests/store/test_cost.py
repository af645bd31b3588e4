"""What the harness costs does not grow. Only ratios of runs that take turns: no seconds, since machines differ."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from tests.support.bench import build, measure_steps

GENEROUS = 1.5


@pytest.mark.parametrize(
    "cases",
    [
        [{"steps": 10, "prompts": 1000}, {"steps": 5000, "prompts": 1000}],
        [{"steps": 10, "prompts": 4000, "focus": 0.5}, {"steps": 10, "prompts": 20_000, "focus": 0.5}],
    ],
    ids=["recorded steps", "prompts in the pool"],
)
def test_a_step_costs_the_same_however_much_there_is(cases: list[dict[str, Any]]) -> None:
    # What else runs on the machine can push one ratio up, but what really grows is over the line every time.
    ratios: list[float] = []
    while len(ratios) < 3 and (not ratios or ratios[-1] >= GENEROUS):
        ratios.append(measure_steps(cases)[1]["to_the_first"])
    assert ratios[-1] < GENEROUS, ratios


def test_stepping_leaves_nothing_behind_in_memory(tmp_path: Path) -> None:
    bench = build(tmp_path, steps=300, prompts=100)
    held = []
    for _ in range(2):
        for _ in range(150):
            bench.step()
        gc.collect()
        held.append(len(gc.get_objects()))
    bench.store.close()
    assert held[1] < held[0] + 200
