"""Before the first step: how long, how many completions, how much disk, against the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.config.schema import RunSpec
from harness.core.formatting import format_bytes, format_duration
from harness.types import Knobs, Pool, Prompt


class Rehearser(Protocol):
    """A trainer that can time a step without taking it."""

    def rehearse(self, prompts: Sequence[Prompt], knobs: Knobs) -> float: ...

    def weights_bytes(self) -> int: ...


@dataclass(frozen=True)
class Forecast:
    """``seconds`` covers all steps of the budget, without the looks at dev and test."""

    step_s: float
    seconds: float
    completions: int
    disk_bytes: int
    over_budget: bool
    text: str


def compute_forecast(
    trainer: Rehearser,
    pool: Pool,
    knobs: Knobs,
    spec: RunSpec,
    *,
    free_bytes: int | None = None,
    memory_bytes: int | None = None,
) -> Forecast:
    """Time steps of one and of four prompts and draw the line through both. ``free_bytes`` are left on the disk,
    ``memory_bytes`` is what a step needs (harness/models/memory.py)."""
    few, more = 1, min(4, knobs.prompts_per_step)
    prompts = pool.draw(more, seed=0, focus=None, group_size=knobs.group_size)
    trainer.rehearse(prompts[:few], knobs)  # the first call pays for warming up
    seconds_few = trainer.rehearse(prompts[:few], knobs)
    seconds_more = trainer.rehearse(prompts[:more], knobs) if more > few else seconds_few
    slope = max(0.0, (seconds_more - seconds_few) / (more - few)) if more > few else 0.0
    step_s = max(seconds_few, seconds_few + slope * (knobs.prompts_per_step - few))
    seconds = step_s * spec.budget.steps
    completions = knobs.prompts_per_step * knobs.group_size * spec.budget.steps
    # Weights and Adam's two moments, for the newest few, the start, the best and the one being written. Retention
    # keeps it there, whatever the number of steps; only checkpoints that a person names come on top.
    disk = trainer.weights_bytes() * 3 * (spec.checkpoint.keep + 3)
    hours = spec.budget.hours
    over = hours is not None and seconds > hours * 3600
    text = (
        f"forecast: {step_s:.2g} s a step, {spec.budget.steps} steps in {format_duration(seconds)} at these "
        f"hyperparameters, "
        f"{completions:,} completions, {format_bytes(disk)} of checkpoints"
    )
    if memory_bytes is not None:
        text += f", {format_bytes(memory_bytes)} of memory"
    if over and hours is not None:
        text += f"; the budget of {hours:g} h allows about {int(hours * 3600 / step_s)} steps"
    if free_bytes is not None and disk > free_bytes:
        over = True
        text += f", but only {format_bytes(free_bytes)} are free: lower checkpoint.keep or choose another --out"
    return Forecast(step_s, seconds, completions, disk, over, text)
