"""Read the log of another trainer's run: one row per step, under our names."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter, itemgetter
from pathlib import Path

from harness.errors import InputError
from harness.logs.formats import Source, open_log
from harness.logs.names import NAMES, check_renamed, derive, few, find_column, may_be_read, run_of

REWARD = "reward/mean"
NOT_FINITE = {"nan", "inf", "-inf", "infinity", "-infinity"}
"""How loggers spell what JSON has no number for."""
W_AND_B_BANDS = ("__MIN", "__MAX")
"""Ends of columns that an export of W&B adds to each: the same value where it draws one run."""
LARGEST, SMALLEST = 3.4e38, 1e-45
"""Of the numbers of single precision, in which trainers compute at most: what lies beyond is infinite, or 0."""
ROUNDING = 1e-6
"""What a share may lie outside 0 and 1."""


@dataclass(frozen=True, slots=True)
class LogRow:
    """A training step. ``step`` is the trainer's own number; ``metrics`` holds finite values that it logged."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Log:
    """What a log says.

    ``rows`` are the steps with a reward and ``dev`` the evaluations, (step, score), both by step. ``recognised`` leads
    from a name in the log to ours ("dev" and "step" among them), ``ignored`` are the other numeric columns.
    ``not_finite`` has (step, name in the log) of recognised metrics that were NaN or infinite. ``skipped`` rows could
    not be read; ``notes`` say so, and what else a person should know, a line each.
    """

    path: Path
    format: str
    rows: tuple[LogRow, ...]
    dev: tuple[tuple[int, float], ...]
    recognised: Mapping[str, str]
    ignored: tuple[str, ...]
    not_finite: tuple[tuple[int, str], ...]
    skipped: int
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Columns:
    """What pass one learns of the columns: those with numbers, in order, and which stand in a row together."""

    numeric: dict[str, None] = field(default_factory=dict)
    together: list[tuple[str, ...]] = field(default_factory=list)


@dataclass(slots=True)
class _Step:
    """What the rows of one step say together."""

    step: int
    metrics: dict[str, float] = field(default_factory=dict)
    dev: float | None = None
    not_finite: tuple[str, ...] = ()


def read_log(path: Path, renamed: Mapping[str, str] | None = None) -> Log:
    """Read a log; ``renamed`` leads from our name to the log's, before the table of names. Raises InputError."""
    renamed = renamed or {}
    check_renamed(renamed)
    source = open_log(path)
    columns = _Columns()
    kept = list(_narrow(source.rows, renamed, columns))
    notes = [*source.notes, *_first_two(source.bad, "rows that could not be read")]
    chosen = _choose(path, source, columns, renamed, notes)
    steps = _merge(_number(kept, chosen, notes), chosen, notes)
    rows = tuple(LogRow(step.step, step.metrics) for step in steps if REWARD in step.metrics)
    if not rows:
        raise InputError(
            f"{path}: {few([chosen[REWARD]])} is NaN or infinite in every row; the run has no reward to judge"
        )
    return Log(
        path=path,
        format=source.format,
        rows=rows,
        dev=tuple((step.step, step.dev) for step in steps if step.dev is not None),
        recognised={name: ours for ours, name in chosen.items()},
        ignored=tuple(sorted(columns.numeric.keys() - set(chosen.values()))),
        not_finite=tuple((step.step, name) for step in steps for name in step.not_finite),
        skipped=len(source.bad),
        notes=tuple(notes),
    )


def _narrow(
    rows: Iterable[Mapping[str, object]], renamed: Mapping[str, str], columns: _Columns
) -> Iterator[dict[str, object]]:
    """Keep of each row what can be one of ours: a long log would not fit in memory whole.

    Names are looked up once per distinct set of keys, which a log has a few of.
    """
    plans: dict[tuple[str, ...], tuple[tuple[str, ...], set[str]]] = {}
    for nested in rows:
        row = dict(_flatten(nested)) if dict in map(type, nested.values()) else nested
        keys = tuple(row)
        if keys not in plans:
            names = [name for name in keys if not name.endswith(W_AND_B_BANDS)]
            plans[keys] = tuple(name for name in names if may_be_read(name, renamed)), set(names)
            columns.together.append(keys)
        wanted, unsure = plans[keys]
        if unsure:
            numeric = [name for name in keys if name in unsure and _to_number(row[name]) is not None]
            columns.numeric.update(dict.fromkeys(numeric))
            unsure.difference_update(numeric)
        yield {name: row[name] for name in wanted}


def _flatten(row: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in row.items():
        if isinstance(value, dict) and prefix.count("/") < 20:  # deeper, it is no metric
            yield from _flatten(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def _to_number(value: object) -> float | None:
    """Return the number that a logger meant, None for what is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) > LARGEST:
            return math.inf
        return 0.0 if abs(value) < SMALLEST else float(value)
    if isinstance(value, str):
        head, slash, total = value.partition("/")
        if slash and head.isdecimal() and total.isdecimal():  # ms-swift: step 300/2622
            return float(head)
        return math.nan if value.lower() in NOT_FINITE else None
    return None


def _choose(
    path: Path, source: Source, columns: _Columns, renamed: Mapping[str, str], notes: list[str]
) -> dict[str, str]:
    """Choose the column of each of our metrics that the log has. Raises InputError without a reward."""
    chosen = {ours: find_column(ours, columns.numeric, renamed)[0] for ours in renamed}
    free = [name for name in columns.numeric if name not in chosen.values()]
    if REWARD not in chosen:
        rewards = find_column(REWARD, free, {})
        if len(rewards) != 1:
            raise _no_reward(path, source, columns, rewards)
        chosen[REWARD] = rewards[0]
    reward = chosen[REWARD]
    runs = {run_of(name) for name in free} - {"", run_of(reward)}
    if runs:
        notes.append(f"columns of other runs were left out: {few(runs, 3)}")
        free = [name for name in free if run_of(name) not in runs]
    beside = {name for keys in columns.together if reward in keys for name in keys}
    for ours in [ours for ours in NAMES if ours not in chosen]:
        # W&B counts its own steps beside the trainer's: the rows that train decide whose number it is.
        fits = find_column(ours, [name for name in free if name in beside] if ours == "step" else free, {})
        if len(fits) > 1:
            notes.append(
                f"several evaluations: {few(fits[:1])} was read; --map dev=NAME reads another of {few(fits, 4)}"
            )
        if fits:
            chosen[ours] = fits[0]
    return chosen


def _no_reward(path: Path, source: Source, columns: _Columns, rewards: tuple[str, ...]) -> InputError:
    name_it = "name the one to judge by with --map reward/mean=NAME"
    if not columns.numeric:
        return InputError(f"{path}: read as {source.format}, it has no row with a number; give a metric log")
    if rewards:
        return InputError(f"{path}: several rewards and no sum of them: {few(rewards)}; {name_it}")
    if source.format == "CSV" and not find_column("step", columns.numeric, {}):
        return InputError(
            f"{path}: neither a step nor a reward among its columns, as in a table with one run per row; "
            f"give the log of one run, with one step per row, or {name_it}: {few(columns.numeric)}"
        )
    return InputError(f"{path}: no row has a reward by a name known here; {name_it}: {few(columns.numeric)}")


def _number(
    rows: list[dict[str, object]], chosen: Mapping[str, str], notes: list[str]
) -> list[tuple[int, dict[str, object]]]:
    """Give each row its step: that of the row before where it says none."""
    if "step" not in chosen:
        notes.append("no column has the step, so rows are counted from 1; --map step=NAME names one")
        return list(enumerate(rows, 1))
    numbered, last = [], 0
    for row in rows:
        value = _to_number(row.get(chosen["step"]))
        last = int(value) if value is not None and 0 <= value < 2**53 else last  # neither NaN nor infinite
        numbered.append((last, row))
    trained = [step for step, row in numbered if chosen[REWARD] in row]
    if sum(after < before for before, after in pairwise(trained)) > sum(a > b for b, a in pairwise(trained)):
        notes.append("rows did not stand in the order of steps: sorted")
        numbered.sort(key=itemgetter(0))
    return numbered


def _merge(numbered: list[tuple[int, dict[str, object]]], chosen: dict[str, str], notes: list[str]) -> list[_Step]:
    """Merge rows of one step, where the later value wins, and drop what a resumed run took again.

    It did when the step of a row with a reward goes back: what was said of that step and of later ones is void. Other
    rows may come late, as evaluations do.
    """
    wanted = [(ours, name) for ours, name in chosen.items() if ours != "step"]
    of = attrgetter("step")
    steps: list[_Step] = []
    resumes: list[str] = []
    trained, again = None, 0
    for number, (step, row) in enumerate(numbered, 1):
        if _to_number(row.get(chosen[REWARD])) is not None:
            if trained is not None and step < trained:
                resumes.append(f"steps went back from {trained} to {step} at row {number}: read from there as a resume")
                del steps[bisect_left(steps, step, key=of) :]
            again += step == trained
            trained = step
        at = len(steps) if not steps or steps[-1].step < step else bisect_left(steps, step, key=of)
        if at == len(steps) or steps[at].step != step:
            steps.insert(at, _Step(step))
        _add(steps[at], row, wanted)
    notes += _first_two(resumes, "resumes")
    if again:
        notes.append(
            f"{again} times {few([chosen['step']])} is that of the reward before, and the later row counts; "
            "--map step=NAME reads another number"
        )
    _drop_no_shares(steps, chosen, notes)
    for merged in steps:
        derive(merged.metrics)
    return steps


def _drop_no_shares(steps: Iterable[_Step], chosen: dict[str, str], notes: list[str]) -> None:
    """Leave out what should be a share and is none, such as percent, a count, or a score that can be negative."""
    for ours in [ours for ours in chosen if ours.endswith("_rate") and "/" in ours]:
        values = [step.metrics[ours] for step in steps if ours in step.metrics]
        if not values or -ROUNDING <= min(values) <= max(values) <= 1 + ROUNDING:
            continue
        name = few([chosen.pop(ours)])
        notes.append(f"{name} was not read as {ours}: from {min(values):.4g} to {max(values):.4g} it is no share")
        for step in steps:
            step.metrics.pop(ours, None)


def _add(step: _Step, row: Mapping[str, object], wanted: Iterable[tuple[str, str]]) -> None:
    for ours, name in wanted:
        value = _to_number(row[name]) if name in row else None
        if value is None:
            continue
        if not math.isfinite(value):
            step.not_finite += (name,)
        elif ours == "dev":
            step.dev = value
        else:
            step.metrics[ours] = value


def _first_two(lines: list[str], what: str) -> list[str]:
    return [*lines[:2], f"and {len(lines) - 2} more {what}"] if len(lines) > 3 else lines
