"""The grid: what the rules make of wrong first values of learning rate and temperature, against the best fixed ones.

    python -m tests.benchmarks.grid --out FOLDER [--arms subtract sort subtract-lora] [--seeds 0 1 2]
    python -m tests.benchmarks.grid --out FOLDER --report

An arm is a task, trained with full weights or with LoRA of rank 8. Its runs of 120 steps begin with each of three
learning rates and two temperatures, under ``rules`` and under ``fixed``. They are compared with the best fixed rate at
temperature 1, which is chosen beforehand by the mean of the last dev evaluations of one seed that is none of the
others. A run whose result is in FOLDER is not run again; delete the ``*.rules`` folders after a change of rules. In all
it takes some two hours of one core; processes with other arms may share a folder. The report is Markdown, for
docs/decisions.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean

from harness.models.runtime import prepare_process
from tests.benchmarks.gym_cells import Cell, Fault, run_cell
from tests.benchmarks.gym_report import Cells, Done, compute_mean, load_cells, table
from tests.benchmarks.gym_tasks import SORT, SUBTRACT, Task

STEPS = 120
RATES, TEMPERATURES = (1e-5, 1e-4, 1e-3), (0.7, 1.4)
STARTS = tuple(product(RATES, TEMPERATURES))
CHOSEN_BY = 9
"""The seed on which the best fixed rate is chosen."""
LAST = 5
"""Dev evaluations at the end of a run by which it is chosen."""
LORA = {"lora": {"rank": 8}}


@dataclass(frozen=True)
class Arm:
    task: Task
    rates: tuple[float, ...] = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
    """Those of which the best fixed one is chosen."""
    changes: Mapping[str, Mapping[str, int]] | None = None

    def fault(self, rate: float, temperature: float, steps: int) -> Fault:
        knobs = {"learning_rate": rate, "temperature": temperature}
        return Fault({"knobs": knobs, "budget": {"steps": steps}, **(self.changes or {})}, task=self.task)


ARMS = {
    "subtract": Arm(SUBTRACT),
    "sort": Arm(SORT),
    "subtract-lora": Arm(SUBTRACT, (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3), LORA),
}


@dataclass(frozen=True)
class Grid:
    """The runs of an arm in a folder."""

    folder: Path
    arm: str
    steps: int = STEPS

    def run(self, rate: float, temperature: float, seed: int, policy: str) -> Done:
        """Train it, unless its result is there."""
        cell = make_cell(self.arm, rate, temperature, seed, policy)
        run_cell(self.folder, cell, ARMS[self.arm].fault(rate, temperature, self.steps))
        return Done(cell, self.folder / "cells" / cell.name)

    def run_all(self, seeds: Sequence[int], starts: Sequence[tuple[float, float]] = STARTS) -> None:
        best = choose_rate({rate: self.run(rate, 1.0, CHOSEN_BY, "fixed") for rate in ARMS[self.arm].rates})
        for seed in seeds:
            self.run(best, 1.0, seed, "fixed")
            for (rate, temperature), policy in product(starts, ("rules", "fixed")):
                self.run(rate, temperature, seed, policy)


def make_cell(arm: str, rate: float, temperature: float, seed: int, policy: str) -> Cell:
    return Cell(f"{arm}-{rate:.0e}-at-{round(100 * temperature)}", seed, policy)


def choose_rate(tried: Mapping[float, Done]) -> float:
    """Return the learning rate whose last dev evaluations are best; of equal ones the lowest."""
    return max(sorted(tried), key=lambda rate: compute_last_dev(tried[rate]))


def compute_last_dev(done: Done) -> float:
    return float(fmean(done.result["dev"][-LAST:]))


def compute_dev(done: Done, steps: int = STEPS) -> float:
    """Mean of dev over the steps of a run: each evaluation holds until the next, the last to the end of the budget."""
    at, dev = done.result["dev_steps"], done.result["dev"]
    ends = [*at[1:], max(steps, at[-1])]
    spans = [end - start for start, end in zip(at, ends, strict=True)]
    return float(sum(span * value for span, value in zip(spans, dev, strict=True)) / sum(spans))


# ---------------------------------------------------------------- report


def write_report(folder: Path, arms: Sequence[str], seeds: Sequence[int]) -> str:
    cells = load_cells(folder)
    return "\n".join(line for arm in arms for line in tell_arm(cells, arm, seeds))


def tell_arm(cells: Cells, arm: str, seeds: Sequence[int]) -> Iterator[str]:
    chosen_by = {rate: make_cell(arm, rate, 1.0, CHOSEN_BY, "fixed") for rate in ARMS[arm].rates}
    tried = {rate: cells[cell] for rate, cell in chosen_by.items() if cell in cells}
    if not tried:
        return
    best = choose_rate(tried)
    here = [seed for seed in seeds if _is_whole(cells, arm, best, seed)]
    if not here:
        return
    dev = ", ".join(f"{rate:g}: {compute_last_dev(done):.3f}" for rate, done in tried.items())
    yield f"**`{arm}`**, {STEPS} steps. Last dev evaluations of seed {CHOSEN_BY} at temperature 1: {dev}.\n"
    rows = []
    for rate, temperature in STARTS:
        by = {
            policy: [cells[make_cell(arm, rate, temperature, seed, policy)] for seed in here]
            for policy in ("rules", "fixed")
        }
        rows.append([f"{rate:g} at {temperature:g}", *(_tell(done) for done in by.values()), ""])
    reference = [cells[make_cell(arm, best, 1.0, seed, "fixed")] for seed in here]
    rows.append([f"best fixed: {best:g} at 1", "", "", _tell(reference)])
    yield from table(["first values", "rules, by seed", "fixed", "best fixed"], rows)
    yield from table(["mean of the six starts", "rules", "fixed", "best fixed", "rules - best", "rules - fixed"], [
        _compare("test score of the last weights", [_means(cells, arm, best, seed, _final) for seed in here]),
        _compare("dev, mean over the run", [_means(cells, arm, best, seed, compute_dev) for seed in here]),
    ])  # fmt: skip


def _is_whole(cells: Cells, arm: str, best: float, seed: int) -> bool:
    expected = [make_cell(arm, *start, seed, policy) for start in STARTS for policy in ("rules", "fixed")]
    return {*expected, make_cell(arm, best, 1.0, seed, "fixed")} <= cells.keys()


def _tell(done: Sequence[Done]) -> str:
    return ", ".join(f"{one.final:.3f}" for one in done)


def _final(done: Done) -> float:
    return done.final


def _means(
    cells: Cells, arm: str, best: float, seed: int, measure: Callable[[Done], float]
) -> tuple[float, float, float]:
    """Return of a seed the mean over the starts under rules and under fixed, and the best fixed run."""
    rules, fixed = (
        fmean(measure(cells[make_cell(arm, *start, seed, policy)]) for start in STARTS) for policy in ("rules", "fixed")
    )
    return rules, fixed, measure(cells[make_cell(arm, best, 1.0, seed, "fixed")])


def _compare(name: str, of_seeds: Sequence[tuple[float, float, float]]) -> list[str]:
    """Return a row of the table; differences are paired by seed, their intervals over seeds."""
    means = [f"{fmean(values):.3f}" for values in zip(*of_seeds, strict=True)]
    to_best = compute_mean([rules - best for rules, _, best in of_seeds])
    to_fixed = compute_mean([rules - fixed for rules, fixed, _ in of_seeds])
    return [name, *means, str(to_best), str(to_fixed)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--report", action="store_true")
    asked = parser.parse_args()
    if not asked.report:
        prepare_process(1)
        for arm in asked.arms:
            Grid(asked.out, arm).run_all(asked.seeds)
    print(write_report(asked.out, asked.arms, asked.seeds))


if __name__ == "__main__":
    main()
