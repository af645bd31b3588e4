"""The tables of the fault gym, from its cells on disk, as Markdown."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy import special

from harness.types import Snapshot
from policies.rules import RulesPolicy
from tests.benchmarks.gym_cells import FAULTS, HEALTHY, Cell
from tests.benchmarks.gym_diagnosis import OTHERS, Judge, Seen, ask_ours, load_snapshots, shorten
from tests.benchmarks.gym_rewards import BREAKS_AT

OURS = "this harness"
NEAR = 0.95
HEALTHY_SEEDS = range(5)
WITHIN = 3
DONE = 0.03
"""Dev accuracy below its last from which on a run has arrived: what then says that nothing more comes is right."""


@dataclass(frozen=True)
class Done:
    """A cell on disk."""

    cell: Cell
    place: Path

    @cached_property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.place / "result.json").read_text())
        return found

    @cached_property
    def snapshots(self) -> list[Snapshot]:
        return load_snapshots(self.place / "harness.db")

    @property
    def final(self) -> float:
        return float(self.result["final"])

    @property
    def best(self) -> float:
        return float(self.result["best"])


Cells = Mapping[Cell, Done]


def load_cells(folder: Path) -> Cells:
    found = {}
    for path in sorted(folder.glob("cells/*/result.json")):
        fault, seed, policy = path.parent.name.split(".")
        cell = Cell(fault, int(seed), policy)
        found[cell] = Done(cell, path.parent)
    return found


def write_report(folder: Path, seeds: Sequence[int]) -> str:
    cells = load_cells(folder)
    parts = [
        *tell_diagnosis(cells, seeds),
        *tell_recovery(cells, seeds),
        *tell_stops(cells, seeds),
        *tell_healthy(cells),
    ]
    return "\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


@dataclass(frozen=True)
class Mean:
    """A mean of paired differences with its 95% interval (t)."""

    n: int
    mean: float
    reach: float

    def __str__(self) -> str:
        return (
            f"{self.mean:+.3f}"
            if self.n < 2
            else f"{self.mean:+.3f} [{self.mean - self.reach:+.3f}, {self.mean + self.reach:+.3f}]"
        )


def compute_mean(differences: Sequence[float]) -> Mean:
    n = len(differences)
    if n < 2:
        return Mean(n, fmean(differences) if n else float("nan"), float("nan"))
    return Mean(n, fmean(differences), float(special.stdtrit(n - 1, 0.975)) * stdev(differences) / n**0.5)


# ---------------------------------------------------------------- diagnosis


def judges() -> Mapping[str, Judge]:
    ours = {fault: set(entry.right) for fault, entry in FAULTS.items()}
    return {OURS: Judge(ask_ours, ours), **OTHERS}


def tell_diagnosis(cells: Cells, seeds: Sequence[int]) -> Iterator[str]:
    """Whether each names the fault in the log of the `fixed` run, and the step at which it does so first."""
    asked, rows = judges(), []
    hits = dict.fromkeys(asked, 0)
    total = 0
    for fault in FAULTS:
        here = [cells[cell] for seed in seeds if (cell := Cell(fault, seed, "fixed")) in cells]
        total += len(here)
        row = [f"`{fault}`", str(len(here))]
        for who, judge in asked.items():
            first = [find_first(judge.ask(done.snapshots), judge.right[fault], fault) for done in here]
            hits[who] += sum(seen is not None for seen in first)
            row.append(tell_first(first))
        rows.append(row)
    healthy = [cells[cell] for seed in HEALTHY_SEEDS if (cell := Cell(HEALTHY, seed, "fixed")) in cells]
    steps = sum(len(done.snapshots) for done in healthy)
    alarms = {
        who: [seen for done in healthy for seen in judge.ask(done.snapshots) if is_false(seen, done)]
        for who, judge in asked.items()
    }
    yield "**Diagnosis** of the `fixed` runs: step of the first right finding, by seed, and the finding.\n"
    yield from table(["fault", "cells", *asked], rows)
    yield from table(
        ["", *asked],
        [
            ["right, of all faulted cells", *(f"{hits[who]} of {total} ({hits[who] / total:.0%})" for who in asked)],
            [
                f"false alarms per 1,000 of {steps} healthy steps",
                *(f"{1000 * len(alarms[who]) / steps:.1f}" for who in asked),
            ],
            ["and of these", *(count_kinds(alarms[who]) for who in asked)],
        ],
    )


def tell_first(first: Sequence[Seen | None]) -> str:
    """The step by seed, and by which findings."""
    steps = ", ".join("-" if seen is None else str(seen.step) for seen in first)
    kinds = sorted({seen.kind for seen in first if seen is not None})
    return f"{steps} {', '.join(f'`{kind}`' for kind in kinds)}".strip()


def find_first(seen: Iterator[Seen], right: set[str], fault: str) -> Seen | None:
    """A reward that breaks at a step cannot be known before."""
    earliest = BREAKS_AT if fault in ("raises", "pays-all") else 1
    return next((s for s in seen if s.step >= earliest and s.kind in right), None)


def is_false(seen: Seen, done: Done) -> bool:
    """Of an unfaulted run everything is, but that nothing more comes once dev is where it ends."""
    end = done.result["dev"][-1]
    arrived = next(look.step for look in done.snapshots[-1].dev if look.accuracy >= end - DONE)
    return seen.kind not in ("plateau", "solved") or seen.step < arrived


def count_kinds(seen: Sequence[Seen]) -> str:
    kinds = sorted({s.kind for s in seen})
    return ", ".join(f"{kind} {sum(s.kind == kind for s in seen)}" for kind in kinds) or "none"


# ---------------------------------------------------------------- recovery


def tell_recovery(cells: Cells, seeds: Sequence[int]) -> Iterator[str]:
    recoverable = [fault for fault, entry in FAULTS.items() if not entry.stops]
    for policy in ("rules", "llm"):
        rows, differences, of_best, of_faults, near = [], [], [], [], []
        for fault in recoverable:
            trios = [
                (
                    cells[Cell(HEALTHY, seed, "fixed")],
                    cells[Cell(fault, seed, "fixed")],
                    cells[Cell(fault, seed, policy)],
                )
                for seed in seeds
                if {Cell(HEALTHY, seed, "fixed"), Cell(fault, seed, "fixed"), Cell(fault, seed, policy)} <= cells.keys()
            ]
            if not trios:
                continue
            here = [done.final - fixed.final for _, fixed, done in trios]
            differences += here
            of_faults.append(fmean(here))
            of_best += [done.best - fixed.best for _, fixed, done in trios]
            reached = [done.final >= NEAR * healthy.final for healthy, _, done in trios]
            near += reached
            rows.append(
                [
                    f"`{fault}`", tell_scores(h for h, _, _ in trios), tell_scores(f for _, f, _ in trios),
                    tell_scores(d for _, _, d in trios), f"{fmean(here):+.3f}", f"{sum(reached)} of {len(reached)}",
                ]
            )  # fmt: skip
        if not rows:
            continue
        yield f"**Recovery** by `{policy}`: test score of the last weights, by seed.\n"
        head = ["fault", "unfaulted, fixed", "fixed", policy, "difference", f"{NEAR:.0%} of unfaulted"]
        rows.append(
            ["all", "", "", "", str(compute_mean(differences)), f"{sum(near)} of {len(near)} ({fmean(near):.0%})"]
        )
        rows.append(["all, interval over faults", "", "", "", str(compute_mean(of_faults)), ""])
        rows.append(["all, best checkpoint by dev", "", "", "", str(compute_mean(of_best)), ""])
        yield from table(head, rows)


def tell_scores(cells: Iterator[Done]) -> str:
    return ", ".join(f"{done.final:.3f}" for done in cells)


# ---------------------------------------------------------------- stops


def tell_stops(cells: Cells, seeds: Sequence[int]) -> Iterator[str]:
    rows = []
    for policy in ("rules", "llm"):
        for fault in (fault for fault, entry in FAULTS.items() if entry.stops):
            for seed in seeds:
                done, fixed = cells.get(Cell(fault, seed, policy)), cells.get(Cell(fault, seed, "fixed"))
                if done is None or fixed is None:
                    continue
                sign = find_sign(fault, fixed)
                stopped = done.result["status"] == "stopped"
                last = done.result["last_step"]
                right = stopped and any(f"{kind}:" in load_last_evidence(done) for kind in FAULTS[fault].right)
                after = "" if sign is None else f"{last - sign:+d}"
                rows.append(
                    [
                        f"`{policy}`", f"`{fault}`", str(seed), str(sign), str(last) if stopped else "not", after,
                        "yes" if right and sign is not None and last - sign <= WITHIN else "no",
                        load_last_evidence(done).partition(":")[0] if stopped else done.result["reason"],
                    ]
                )  # fmt: skip
    if rows:
        yield f"**Stops**: the first step that can show the fault, the last step taken (bar: {WITHIN} later).\n"
        yield from table(
            ["policy", "fault", "seed", "first sign", "last step", "later", "in time, rightly", "why"], rows
        )


def load_last_evidence(done: Done) -> str:
    with closing(sqlite3.connect(done.place / "harness.db")) as c:
        row = c.execute("SELECT evidence FROM decisions WHERE action = 'stop' ORDER BY id DESC LIMIT 1").fetchone()
    return str(row[0]) if row else ""


def find_sign(fault: str, fixed: Done) -> int | None:
    """The first step at which an omniscient reader of the log could know."""
    steps = fixed.snapshots[-1].steps
    if fault == "raises":
        return next((s.step for s in steps if s.metrics["completion/errored_rate"] > 0), None)
    if fault == "pays-all":
        return BREAKS_AT
    return find_exploit(fixed)


def find_exploit(fixed: Done) -> int | None:
    """The first look at dev that is worse than the best before, prompt by prompt (p < 0.01), or the first step at which
    over the groups of it and the two before wrong completions earn more than in the first three steps and fewer are
    right, both by two standard errors. This reader knows which completions were wrong and paid, the policies do not."""
    steps = fixed.snapshots
    worse = next((s.steps_done for s in steps if any(p.p_fell < 0.01 for p in s.paired_dev)), None)
    with closing(sqlite3.connect(fixed.place / "harness.db")) as c:
        rows = c.execute(
            "SELECT step, rewards, correct FROM steps JOIN groups ON groups.step_id = steps.id WHERE state = 'live'"
        ).fetchall()
    right: dict[int, list[float]] = {}
    credit: dict[int, list[float]] = {}
    for step, rewards, correct in rows:
        flags = json.loads(correct)
        wrong = [reward for reward, flag in zip(json.loads(rewards), flags, strict=True) if not flag]
        right.setdefault(step, []).append(fmean(flags))
        credit.setdefault(step, []).extend([fmean(wrong)] if wrong else [])

    def over(values: dict[int, list[float]], first: int) -> list[float]:
        return [value for step in range(first, first + WITHIN) for value in values[step]]

    for step in sorted(right)[2 * WITHIN - 1 :]:
        now, start = step - WITHIN + 1, min(right)
        if is_above(over(credit, now), over(credit, start)) and is_above(over(right, start), over(right, now)):
            return step if worse is None else min(step, worse)
    return worse


def is_above(a: Sequence[float], b: Sequence[float]) -> bool:
    error = (stdev(a) ** 2 / len(a) + stdev(b) ** 2 / len(b)) ** 0.5
    return fmean(a) - fmean(b) > 2 * error


# ---------------------------------------------------------------- health


def tell_healthy(cells: Cells) -> Iterator[str]:
    for policy in ("rules", "llm"):
        pairs = [
            (cells[Cell(HEALTHY, seed, "fixed")], cells[Cell(HEALTHY, seed, policy)])
            for seed in HEALTHY_SEEDS
            if {Cell(HEALTHY, seed, "fixed"), Cell(HEALTHY, seed, policy)} <= cells.keys()
        ]
        if not pairs:
            continue
        yield f"**Unfaulted**, `{policy}` against `fixed`: test score of the last weights.\n"
        rows = [
            [
                str(f.cell.seed),
                f"{f.result['before']:.3f}",
                f"{f.final:.3f}",
                f"{d.final:.3f}",
                f"{d.final - f.final:+.3f}",
            ]
            for f, d in pairs
        ]
        rows.append(["all", "", "", "", str(compute_mean([d.final - f.final for f, d in pairs]))])
        yield from table(["seed", "before", "fixed", policy, "difference"], rows)


# ---------------------------------------------------------------- for the tests


def write_logs(folder: Path, target: Path) -> None:
    """Of seed 0 the log of each faulted `fixed` run up to the step after which the rules would act, and that of the
    unfaulted run: the asset of tests/policies/test_fault_logs.py."""
    cells, rules = load_cells(folder), RulesPolicy()
    kept = {HEALTHY: shorten(cells[Cell(HEALTHY, 0, "fixed")].snapshots[-1], 40)}
    for fault in FAULTS:
        snapshots = cells[Cell(fault, 0, "fixed")].snapshots
        kept[fault] = shorten(next(s for s in snapshots if rules.decide(s).action.kind != "continue"), 12)
    target.write_text(json.dumps(kept, separators=(",", ":")) + "\n")
