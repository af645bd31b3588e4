"""Before the first step: how long a run takes, and what memory, disk and money, from rehearsals of its parts.

Steps are timed at growing sizes, and weights stay as they are. A run forecasts its steps; a thorough rehearsal, before
all stages of a group, has evaluations and checkpoints too. Of a model that supervised training will change, answers are
taken to be as long as the demonstrations.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from harness.config.schema import BudgetSpec, RunSpec, TrainerSpec, WarmstartSpec
from harness.core.formatting import format_bytes, format_duration
from harness.models.evaluate import ModelEvaluator, score_texts
from harness.models.generate import generate_texts
from harness.models.load import LoadedModel
from harness.models.memory import count_states
from harness.training.grpo import StepTrainer
from harness.training.supervised import SupervisedTrainer
from harness.types import Knobs, Pool, Prompt, Score, no_progress
from pools.demonstrations import Demonstrations

ENOUGH_S = 3.0
"""In a thorough rehearsal, work of a size that takes longer is not timed at a larger one: the line through the last two
says the rest."""
REPEAT_S = 0.5
"""For how long the largest size is timed there, at least."""
REPORT_BYTES = 5_000_000
"""Of report.html, most of which draws the plots."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What the parts of a run take, in s: a step, an evaluation of dev and of test (``first_``: of the model that it
    begins with), the samples for people, a checkpoint; 0 where it was not rehearsed. ``start_bytes`` is a checkpoint
    without the optimizer's state, which has ``state_bytes``."""

    step_s: float
    first_dev_s: float = 0.0
    first_test_s: float = 0.0
    dev_s: float = 0.0
    test_s: float = 0.0
    sample_s: float = 0.0
    save_s: float = 0.0
    start_bytes: int = 0
    state_bytes: int = 0


@dataclass(frozen=True)
class Forecast:
    """``seconds`` covers all steps of the budget, and what of ``Costs`` was rehearsed; ``usd`` is None without a
    price."""

    step_s: float
    seconds: float
    completions: int
    disk_bytes: int
    memory_bytes: int
    usd: float | None
    over_budget: bool
    text: str


# ---------------------------------------------------------------- timing


def time_growing(
    work: Callable[[int], object], most: int, *, least: int = 4, thorough: bool = True
) -> Callable[[int], float]:
    """Time ``work`` of size 1, of ``least`` (or ``most`` if that is less), and where ``thorough`` of larger sizes up to
    ``most`` until it takes long. Return what says the time of any size, in s."""
    sizes, seconds = [1], [_time(work, 1)]
    enough_s, repeat_s = (ENOUGH_S, REPEAT_S) if thorough else (0.0, 0.0)
    while sizes[-1] < most and (len(sizes) == 1 or seconds[-1] < enough_s):
        reached = sizes[-1] * enough_s / max(seconds[-1], 1e-3)
        sizes.append(min(most, max(4 * sizes[-1], least, int(reached))))
        seconds.append(_time(work, sizes[-1]))
    again: list[float] = []
    while sum(again) + seconds[-1] < repeat_s:
        again.append(_time(work, sizes[-1]))
    seconds[-1] = fmean(again or seconds[-1:])  # the first call of a size pays for warming up
    if len(sizes) == 1:
        return lambda size: seconds[0] * size
    slope = max(0.0, (seconds[-1] - seconds[-2]) / (sizes[-1] - sizes[-2]))
    return lambda size: max(0.0, seconds[-1] + slope * (size - sizes[-1]))


def _time(work: Callable[[int], object], size: int) -> float:
    started = time.perf_counter()
    work(size)
    return time.perf_counter() - started


@dataclass
class Unasked:
    """``harness.types.Scorer`` in the place of judges, whose replies take money."""

    range: tuple[float, float] = (0.0, 1.0)

    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Score]:
        """Judge nothing."""
        return [Score(0.0, False, "") for _ in completions]


def measure_costs(
    spec: RunSpec,
    trainer: StepTrainer | SupervisedTrainer,
    evaluator: ModelEvaluator,
    *,
    knobs: Knobs,
    pool: Pool,
    demonstrations: Demonstrations | None,
    folder: Path,
    as_shown: bool = False,
    thorough: bool = True,
) -> Costs:
    """Rehearse a step, and where ``thorough`` the other parts of a run. ``as_shown``: its model will have learned from
    demonstrations before it begins, as that of a run of kind sft will before its second evaluation. A checkpoint is
    written into ``folder`` and deleted."""
    timed = partial(time_growing, thorough=thorough)
    state_bytes = count_states(trainer.spec.optimizer) * trainer.weights_bytes()
    if isinstance(trainer, SupervisedTrainer):
        shown = demonstrations.draw(1) if demonstrations else []
        step_s = timed(lambda n: trainer.rehearse(shown[:n]), len(shown), least=len(shown))(len(shown))
    else:
        drawn = pool.draw(knobs.prompts_per_step, seed=0, focus=None, group_size=knobs.group_size)
        lengths = _count_shown(evaluator.loaded, drawn, knobs.max_tokens) if as_shown else None
        rehearse = partial(_rehearse, trainer, drawn, knobs, lengths)
        step_s = timed(rehearse, len(drawn), least=-(-trainer.micro_batch // knobs.group_size))(len(drawn))
    if not thorough:
        return Costs(step_s, start_bytes=trainer.weights_bytes(), state_bytes=state_bytes)
    dev, test = (evaluator.splits[split] for split in ("dev", "test"))
    learned = as_shown or spec.kind == "sft"
    first = _time_answers(evaluator, dev, as_shown=as_shown)
    later = first if as_shown == learned else _time_answers(evaluator, dev, as_shown=learned)
    loss_s = 0.0
    if isinstance(trainer, SupervisedTrainer):
        loss_s = timed(lambda n: trainer.measure_loss(dev[:n]), len(dev))(len(dev))
    save_s, start_bytes = _time_checkpoint(trainer, folder)
    return Costs(
        step_s,
        first_dev_s=first(len(dev)) + loss_s,
        first_test_s=first(len(test)),
        dev_s=later(len(dev)) + loss_s,
        test_s=later(len(test)),
        sample_s=later(min(spec.sample.prompts, len(dev))),
        save_s=save_s * (1 + state_bytes / start_bytes),
        start_bytes=start_bytes,
        state_bytes=state_bytes,
    )


def time_warm_start(loaded: LoadedModel, shown: Sequence[Prompt], spec: WarmstartSpec, *, folder: Path) -> float:
    """Time the warm start on the demonstrations of ``shown``, in s, by steps that leave the weights as they are."""
    trainer = SupervisedTrainer(loaded, TrainerSpec(micro_batch=spec.batch), folder=folder, seed=0)
    batch = shown[: spec.batch]
    return time_growing(lambda n: trainer.rehearse(batch[:n]), len(batch))(len(batch)) * spec.steps


def _rehearse(
    trainer: StepTrainer, prompts: Sequence[Prompt], knobs: Knobs, lengths: Sequence[int] | None, n: int
) -> None:
    trainer.rehearse(prompts[:n], knobs, None if lengths is None else lengths[:n])


def _time_answers(evaluator: ModelEvaluator, prompts: Sequence[Prompt], *, as_shown: bool) -> Callable[[int], float]:
    """Time answers to some of the prompts, with their scores. Return what says the time of so many, in s."""
    spec, n = evaluator.spec, evaluator.spec.n
    prompts = list(prompts[: spec.batch])
    lengths = _count_shown(evaluator.loaded, prompts, spec.max_tokens) if as_shown else None

    def answer(some: int) -> None:
        rows = [prompt for prompt in prompts for _ in range(n)][:some]
        texts = generate_texts(
            evaluator.loaded,
            rows,
            max_tokens=spec.max_tokens,
            temperature=spec.temperature,
            stop=evaluator.stop,
            batch_size=spec.batch,
            seed=0,
            lengths=None if lengths is None else [length for length in lengths for _ in range(n)][:some],
            progress=no_progress,
            phase="forecasting",
        )
        score_texts(evaluator.scorer, rows, texts)

    batch = time_growing(answer, min(spec.batch, len(prompts) * n))

    def whole(of_prompts: int) -> float:
        full, rest = divmod(of_prompts * n, spec.batch)
        return full * batch(spec.batch) + (batch(rest) if rest else 0.0)

    return whole


def _count_shown(loaded: LoadedModel, prompts: Sequence[Prompt], most: int) -> list[int] | None:
    """Count the tokens of the demonstrations, at most ``most``; None where a prompt has none."""
    if any(prompt.demonstration is None for prompt in prompts):
        return None
    shown = [loaded.renderer.demonstrate(prompt) for prompt in prompts]
    return [max(1, min(most, len(ids) - prompt_length)) for ids, prompt_length in shown]


def _time_checkpoint(trainer: StepTrainer | SupervisedTrainer, folder: Path) -> tuple[float, int]:
    """Write one that has no optimizer state yet, delete it, and return what it takes, in s and bytes."""
    with TemporaryDirectory(dir=folder, prefix="forecast-") as there:
        started = time.perf_counter()
        trainer.save(Path(there))
        seconds = time.perf_counter() - started
        return seconds, sum(file.stat().st_size for file in Path(there).iterdir())


# ---------------------------------------------------------------- what they come to


def compute_forecast(
    spec: RunSpec, costs: Costs, *, steps: int, completions: int, free_bytes: int, memory_bytes: int
) -> Forecast:
    """Compute what ``steps`` more of the steps of a run come to, with all that lies between them. ``completions`` are
    those of all of them (of demonstrations too). ``free_bytes`` are left on the disk."""
    budget, ends = spec.budget, spec.budget.steps

    def find_due(every: int) -> set[int]:
        return {step for step in range(ends - steps + 1, ends + 1) if step % every == 0}

    looks = find_due(spec.evaluate.every) | ({ends} if spec.kind == "sft" else set())
    sampled = find_due(spec.sample.every)
    saved = {ends} | looks | find_due(spec.checkpoint.every)
    seconds = (
        costs.step_s * steps
        + costs.dev_s * len(looks)
        + costs.sample_s * (len(sampled) + 1)
        + costs.save_s * len(saved)
        + costs.test_s * (2 if len(looks) > 1 else 1)  # of the last weights, and of the best
    )
    if steps == ends:
        seconds += costs.first_dev_s + costs.first_test_s + costs.sample_s
    step_s = seconds / steps if steps else 0.0
    allowed = math.inf if budget.hours is None else budget.hours * 3600
    # Retention keeps it there whatever the number of steps: the newest few, the best, the start without optimizer
    # state, and the report. Only checkpoints that a person names come on top.
    kept = min(len(saved), spec.checkpoint.keep + 1)
    disk = costs.start_bytes + (costs.start_bytes + costs.state_bytes) * kept + REPORT_BYTES
    usd = compute_usd(budget, min(seconds, allowed))
    learned = "demonstrations" if spec.kind == "sft" else "completions"
    text = (
        f"forecast: {costs.step_s:.2g} s a step, {steps} steps in {format_duration(seconds)} at these "
        f"hyperparameters, {completions:,} {learned}, {format_bytes(disk)} of disk, {format_bytes(memory_bytes)} "
        "of memory"
    )
    text += ", what judges take not counted" if spec.reward.judges else ""
    text += "" if usd is None else f", ${usd:.2f} at ${budget.price_per_hour:g} an hour"
    excess = ""
    if seconds > allowed:
        excess += f"; the budget of {budget.hours:g} h allows about {int(allowed / step_s)} steps"
    excess += describe_shortage(disk, free_bytes)
    return Forecast(costs.step_s, seconds, completions, disk, memory_bytes, usd, bool(excess), text + excess)


def compute_usd(budget: BudgetSpec, seconds: float) -> float | None:
    """Compute what the machine costs for so long, in USD; None without a price."""
    return None if budget.price_per_hour is None else seconds / 3600 * budget.price_per_hour


def describe_shortage(disk_bytes: int, free_bytes: int) -> str:
    """Say that a disk has no room for so much, and what helps; "" where it has."""
    if disk_bytes <= free_bytes:
        return ""
    return f", but only {format_bytes(free_bytes)} are free: lower checkpoint.keep or choose another --out"
