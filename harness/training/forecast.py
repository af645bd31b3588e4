"""Before the first step: how long, how many completions, how much disk, against the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.config.schema import RunSpec
from harness.core.formatting import format_bytes, format_duration
from harness.training.grpo import StepTrainer
from harness.training.supervised import SupervisedTrainer
from harness.types import Knobs, Pool, Prompt


@dataclass(frozen=True)
class Forecast:
    """``seconds`` covers all steps of the budget, without the looks at dev and test."""

    step_s: float
    seconds: float
    completions: int
    disk_bytes: int
    over_budget: bool
    text: str


def time_rollouts(trainer: StepTrainer, pool: Pool, knobs: Knobs) -> float:
    """Time a step of GRPO, in s: steps of one and of four prompts, and the line through both."""
    prompts = pool.draw(min(4, knobs.prompts_per_step), seed=0, focus=None, group_size=knobs.group_size)
    trainer.rehearse(prompts[:1], knobs)  # the first call pays for warming up
    seconds_one = trainer.rehearse(prompts[:1], knobs)
    further = len(prompts) - 1
    slope = max(0.0, trainer.rehearse(prompts, knobs) - seconds_one) / further if further else 0.0
    return seconds_one + slope * (knobs.prompts_per_step - 1)


def time_supervised(trainer: SupervisedTrainer, prompts: Sequence[Prompt]) -> float:
    """Time a step on the demonstrations of ``prompts``, in s."""
    trainer.rehearse(prompts[:1])  # the first call pays for warming up
    return trainer.rehearse(prompts)


def compute_forecast(
    spec: RunSpec, *, step_s: float, completions: int, weights_bytes: int, free_bytes: int, memory_bytes: int
) -> Forecast:
    """Compute what steps of ``step_s`` come to. ``completions`` are those of all steps (of demonstrations too),
    ``weights_bytes`` the size of what is trained. ``free_bytes`` are left on the disk, ``memory_bytes`` is what a step
    needs (harness/models/memory.py)."""
    seconds = step_s * spec.budget.steps
    # Weights and Adam's two moments, for the newest few, the start, the best and the one being written. Retention
    # keeps it there, whatever the number of steps; only checkpoints that a person names come on top.
    disk = weights_bytes * 3 * (spec.checkpoint.keep + 3)
    hours = spec.budget.hours
    learned = "demonstrations" if spec.kind == "sft" else "completions"
    text = (
        f"forecast: {step_s:.2g} s a step, {spec.budget.steps} steps in {format_duration(seconds)} at these "
        f"hyperparameters, {completions:,} {learned}, {format_bytes(disk)} of checkpoints, "
        f"{format_bytes(memory_bytes)} of memory"
    )
    excess = ""
    if hours is not None and seconds > hours * 3600:
        excess += f"; the budget of {hours:g} h allows about {int(hours * 3600 / step_s)} steps"
    if disk > free_bytes:
        excess += f", but only {format_bytes(free_bytes)} are free: lower checkpoint.keep or choose another --out"
    return Forecast(step_s, seconds, completions, disk, bool(excess), text + excess)
