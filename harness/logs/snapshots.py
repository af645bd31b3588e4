"""The log of another trainer as the snapshots that our detectors and rules read, one for each of its rows.

A row may be the mean of several steps; detectors count rows. What a log lacks stays missing, with three exceptions that
follow from what it has: of rewards within [0, 1], groups whose rewards are all the same are taken to earn 0 or 1, so
that the mean reward bounds how many do; what cut completions earn at least; and how many mixed groups have no right
completion at least.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from scipy import special

from harness.core.knobs import DEFAULT_BOUNDS
from harness.core.trends import compute_median, compute_noise
from harness.logs.read import Log, LogRow
from harness.types import (
    CheckpointRecord,
    DecisionRecord,
    EvaluationRecord,
    EventRecord,
    Knobs,
    PairedLook,
    RunRecord,
    Snapshot,
    StepRecord,
)

SHOWN = 200
"""Rows of a snapshot at most, as many as a run of ours shows its decision policy."""
MOST_ROWS = 1000
"""Rows from which on neighbours are averaged: detectors look at every one."""
MOSTLY = 0.9
"""Share of the rows that must have a metric; what is missing between is taken from the row before."""
BEFORE = 8
"""Rows that say what was expected of the next."""
MOST_PROMPTS = 1024
LARGEST_GROUP = 16
"""Completions of a group, at most, where the log does not say how many there are."""
LOOKS, LEAST_NOISE = 6, 0.01
"""Evaluations from which on their noise is known, and the least that it is taken for."""
NO_EVALUATION = DecisionRecord(1, "rules", "evaluate", None, {}, "", "", "")
"""Nobody can evaluate a log: as if that had been asked for once, in vain."""
UNSAID = {"temperature": "temperature", "chaos": "temperature", "anchored": "beta"}
"""Findings that rest on a hyperparameter, which no log states."""


def make_snapshots(log: Log) -> Iterator[Snapshot]:
    """Yield what a decision policy would have seen after each row."""
    rows = fill(merge_rows(log.rows))
    reward_range = compute_range(rows)
    steps = _make_steps(rows, reward_range)
    run = _make_run(log, reward_range)
    looks = _make_looks(log)
    faults = tuple(EventRecord(step, "error", f"{name} is not finite", 0.0) for step, name in log.not_finite)
    for i, step in enumerate(steps):
        rate = step.metrics.get("learning_rate", 0.0)
        dev = tuple(look for look in looks if look.step <= step.step)
        best = max(dev, key=lambda look: look.rank, default=None)
        yield Snapshot(
            run=run,
            step=step.step,
            steps_done=step.step,
            knobs=replace(step.knobs, learning_rate=rate) if rate > 0 else step.knobs,
            bounds=DEFAULT_BOUNDS,
            pins=frozenset(),
            decisions=(NO_EVALUATION,),
            steps=steps[max(0, i + 1 - SHOWN) : i + 1],
            evaluations=dev,
            paired_dev=tuple(_pair(dev)),
            # As if there were one at each evaluation, to tell what a rollback would go back to.
            checkpoints=tuple(CheckpointRecord(look.step, "", "", look is best) for look in dev),
            faults=tuple(fault for fault in faults if fault.step <= step.step),
        )


# ---------------------------------------------------------------- rows


def merge_rows(rows: Sequence[LogRow]) -> list[LogRow]:
    """Average neighbours, as many as it takes to have MOST_ROWS; a log of fewer stays as it is."""
    size = -(-len(rows) // MOST_ROWS)
    if size <= 1:
        return list(rows)
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    return [LogRow(part[-1].step, _average(part)) for part in parts]


def _average(rows: Sequence[LogRow]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.metrics.items():
            values.setdefault(name, []).append(value)
    return {name: fmean(found) for name, found in values.items()}


def fill(rows: Sequence[LogRow]) -> list[LogRow]:
    """Keep the metrics that most rows have, and give each row all of them."""
    counts: dict[str, int] = {}
    for row in rows:
        for name in row.metrics:
            counts[name] = counts.get(name, 0) + 1
    kept = [name for name, count in counts.items() if count >= MOSTLY * len(rows)]
    now = {name: next(row.metrics[name] for row in rows if name in row.metrics) for name in kept}
    filled = []
    for row in rows:
        now = {name: row.metrics.get(name, value) for name, value in now.items()}
        filled.append(LogRow(row.step, now))
    return filled


def compute_range(rows: Sequence[LogRow]) -> tuple[float, float]:
    """Return the lowest and the highest reward: 0 and 1 where all mean rewards lie between, else what the run's own
    means and their spread reach."""
    means = [row.metrics["reward/mean"] for row in rows]
    if min(means) >= 0 and max(means) <= 1:
        return 0.0, 1.0
    spread = [row.metrics.get("reward/std", 0.0) for row in rows]
    low = min(mean - std for mean, std in zip(means, spread, strict=True))
    high = max(mean + std for mean, std in zip(means, spread, strict=True))
    return low, high if high > low else low + max(1.0, abs(low))


# ---------------------------------------------------------------- steps


def _make_steps(rows: Sequence[LogRow], reward_range: tuple[float, float]) -> tuple[StepRecord, ...]:
    """Make the steps; ``update/applied`` is how many of the trainer's a row stands for."""
    rates = [row.metrics.get("learning_rate", 0.0) for row in rows]
    lengths = [row.metrics.get("completion/tokens_max", row.metrics.get("completion/tokens_mean", 0.0)) for row in rows]
    all_rewards = [row.metrics["reward/mean"] for row in rows]
    noise = compute_noise(all_rewards)
    spread = fmean(row.metrics.get("reward/std", noise) for row in rows)
    knobs = Knobs(
        learning_rate=max(rates) or Knobs().learning_rate,
        max_tokens=round(max(lengths)) or 1,
        # How many prompts a row rests on is not logged: as many as its noise is that of.
        prompts_per_step=min(MOST_PROMPTS, max(1, round((spread / noise) ** 2))) if noise else MOST_PROMPTS,
    )
    steps: list[StepRecord] = []
    rewards: list[float] = []
    for row in rows:
        reward, last = row.metrics["reward/mean"], steps[-1].step if steps else 0
        metrics = {
            "reward/std": noise,  # where it is not logged
            **_derive(row.metrics, rewards[-1:], reward_range),
            "reward/adjusted": reward - compute_median(rewards[-BEFORE:]) if rewards else 0.0,
            "update/applied": float(max(1, row.step - last)),
        }
        steps.append(StepRecord(row.step, last, knobs, metrics | dict(row.metrics)))
        rewards.append(reward)
    return tuple(steps)


def _derive(
    metrics: Mapping[str, float], before: Sequence[float], reward_range: tuple[float, float]
) -> dict[str, float]:
    """Return what follows from the metrics of a row and from the reward ``before``, as bounds from below."""
    low, high = reward_range
    reward = metrics["reward/mean"]
    found: dict[str, float] = {}
    if "group/no_signal_rate" in metrics:
        silent, mixed = metrics["group/no_signal_rate"], metrics["group/mixed_rate"]
        if {"group/all_one_rate", "group/all_zero_rate"} <= metrics.keys():
            one, zero = metrics["group/all_one_rate"], metrics["group/all_zero_rate"]
            flat = max(0.0, silent - one - zero)
        elif silent == 1 and low < reward < high and before == [reward]:
            one, zero, flat = 0.0, 0.0, silent  # all earn the same, step after step
        else:
            one, zero, flat = max(0.0, reward - mixed), max(0.0, silent - reward), 0.0
        if flat or reward_range == (0.0, 1.0) or "group/all_one_rate" in metrics:
            found |= {"group/all_one_rate": one, "group/all_zero_rate": zero, "group/flat_rate": flat}
            found |= {"group/solved_rate": one, "group/unsolved_rate": zero + flat}
        if "completion/correct_rate" in metrics:
            found["group/proxy_rate"] = max(0.0, mixed - LARGEST_GROUP * metrics["completion/correct_rate"])
    if (cut := metrics.get("completion/truncated_rate")) is not None:
        paid = (reward - low) / (high - low)
        found["completion/truncated_paid"] = max(0.0, (paid - (1 - cut)) / cut) if cut else 0.0
    return found


# ---------------------------------------------------------------- run and evaluations


def _make_run(log: Log, reward_range: tuple[float, float]) -> RunRecord:
    """Make the record of a run of which only the log is known; evaluations outside [0, 1] are mean rewards."""
    last = log.rows[-1].step
    scores = [score for _, score in log.dev]
    graded = bool(scores) and not 0 <= min(scores) <= max(scores) <= 1
    if graded:
        reward_range = min(*scores, reward_range[0]), max(*scores, reward_range[1])
    return RunRecord(
        id=0, name=log.path.name, status="finished", stop_reason="", seed=0, policy="", folder="", pid=0, host="",
        created=0.0, wall_s=0.0, heartbeat=0.0, phase="", phase_done=0, phase_total=0, rollouts=0, budget_steps=last,
        budget_hours=None, reward_range=reward_range, last_step=last, graded=graded,
    )  # fmt: skip


def _make_looks(log: Log) -> tuple[EvaluationRecord, ...]:
    """Make the evaluations. How many prompts they had is not known, so their interval is that of their own noise."""
    half = 1.96 * compute_noise([score for _, score in log.dev])
    return tuple(
        EvaluationRecord(step, "dev", 0, score, (score - half, score + half), score, score) for step, score in log.dev
    )


def _pair(looks: Sequence[EvaluationRecord]) -> Iterator[PairedLook]:
    """Compare the newest evaluation with those before, by the noise of the series."""
    if len(looks) < LOOKS:
        return
    *earlier, newest = looks
    se = max(compute_noise([look.score for look in looks]) * math.sqrt(2), LEAST_NOISE)
    best = max(earlier, key=lambda look: look.rank)
    for look in {best.step: best, earlier[-1].step: earlier[-1]}.values():
        apart = newest.score - look.score
        interval = apart - 1.96 * se, apart + 1.96 * se
        p_rose, p_fell = float(special.ndtr(-apart / se)), float(special.ndtr(apart / se))
        yield PairedLook(look.step, newest.step, 0, 0, 0, apart, se, interval, p_rose, p_fell)
