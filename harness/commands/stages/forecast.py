"""Before the first stage of a group: what all of them take, and their scores, from a rehearsal of each."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import psutil

from harness.core.formatting import format_bytes, format_duration
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.checks.inputs import Inputs
    from harness.config.stages import Stage

HIDDEN = ".rehearsal-"
"""Of the folder that a rehearsal writes a checkpoint into, before its process's number."""
BETWEEN_S = 2.0
"""Preflight and report of a stage."""


@dataclass(frozen=True, slots=True)
class StageForecast:
    """What a stage takes, its scores among it. ``usd`` is None without a price."""

    name: str
    seconds: float
    memory_bytes: int
    disk_bytes: int
    usd: float | None


def forecast_stages(
    stages: Sequence[Stage], due: Mapping[str, tuple[Inputs, int]], folder: Path, say: Callable[[str], None]
) -> list[StageForecast]:
    """Rehearse each stage that is ``due``, by name its inputs and the steps that are left of it, on the model of the
    spec. ``say`` is told which.

    ``folder`` is where the runs will lie. Raises InputError where model, prompts and settings of a stage do not fit
    together, and RunFailed where memory does not suffice.
    """
    for left in folder.glob(f"{HIDDEN}*"):  # by a process that was killed
        number = left.name.removeprefix(HIDDEN).partition("-")[0]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            shutil.rmtree(left, ignore_errors=True)
    found: list[StageForecast] = []
    learned: dict[str, bool] = {"base": False}
    for stage in stages:
        learned[stage.name] = learned[stage.parent] or stage.spec.kind == "sft" or stage.spec.warmstart.steps > 0
        if stage.name in due:
            say(f"rehearsing {stage.name}, for the forecast ...")
            try:
                found.append(_forecast(stage, *due[stage.name], folder, learned[stage.parent], first=not found))
            except InputError as error:
                raise InputError(f"stage {stage.name}: {error}") from None
    return found


def _forecast(stage: Stage, inputs: Inputs, steps: int, folder: Path, as_shown: bool, *, first: bool) -> StageForecast:
    from harness.checks.inputs import choose_demonstrations
    from harness.models.runtime import release_memory
    from harness.run.parts import build_parts, build_trainer, forecast_run
    from harness.training.forecast import compute_usd, time_warm_start

    release_memory()
    started = time.perf_counter()
    parts = build_parts(inputs)
    spec = parts.inputs.spec
    load_s, warm_start_s = time.perf_counter() - started, 0.0
    with TemporaryDirectory(dir=folder, prefix=f"{HIDDEN}{os.getpid()}-") as there:
        if spec.warmstart.steps:
            shown = choose_demonstrations(spec, parts.inputs.splits["train"])
            warm_start_s = time_warm_start(parts.loaded, shown, spec.warmstart, folder=Path(there))
        trainer, _, demonstrations = build_trainer(parts, Path(there))
        try:
            costs, found = forecast_run(
                parts,
                trainer,
                demonstrations,
                folder=Path(there),
                steps=steps,
                as_shown=as_shown or spec.warmstart.steps > 0,
                thorough=True,
            )
        finally:
            parts.reward.close()
    # Each model is loaded once more for its scores, and with the first stage the base is scored.
    scores_s = load_s + costs.test_s + (load_s + costs.first_test_s if first else 0.0)
    seconds = load_s + warm_start_s + found.seconds + BETWEEN_S + scores_s
    usd = compute_usd(spec.budget, seconds)
    return StageForecast(stage.name, seconds, found.memory_bytes, found.disk_bytes, usd)


def describe_forecast(found: Sequence[StageForecast], folder: Path) -> list[str]:
    """Say it, a line for each stage and one for all."""
    from harness.training.forecast import describe_shortage

    width = max(len(one.name) for one in found)
    lines = [
        f"  {one.name:{width}}  {format_duration(one.seconds)}, {format_bytes(one.memory_bytes)} of memory, "
        f"{format_bytes(one.disk_bytes)} of disk"
        for one in found
    ]
    seconds, disk = sum(one.seconds for one in found), sum(one.disk_bytes for one in found)
    memory = max(one.memory_bytes for one in found)
    prices = [one.usd for one in found if one.usd is not None]
    money = f", ${sum(prices):.2f}" if prices else ""
    short = describe_shortage(disk, shutil.disk_usage(folder).free)
    return [
        f"forecast of {len(found)} stages with their scores, as the hyperparameters are:",
        *lines,
        f"  {'all':{width}}  {format_duration(seconds)}, {format_bytes(memory)} of memory, {format_bytes(disk)} of disk"
        f"{money}{short}",
    ]
