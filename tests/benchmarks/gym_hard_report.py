"""The tables of the harder gym, from its cells on disk, as Markdown."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import fmean

from harness.core.step_metrics import GOOD_MIXED
from tests.benchmarks.gym_cells import Cell
from tests.benchmarks.gym_diagnosis import Seen, ask_ours
from tests.benchmarks.gym_hard import CANNOT, CELLS, CONTROLS, NIGHTS, NOISE, START_VALUES, TWINS, find_control
from tests.benchmarks.gym_report import NEAR, Cells, Done, compute_mean, count_kinds, is_false, load_cells, table

TEACHES = ("set", "focus", "rollback", "branch")
"""Actions that change what a run does; a healthy one needs none."""
NEWEST = 10
"""Steps at the end that tell whether signal is back."""
BORNE = 0.05
"""Score under fixed that a run under noise may miss: two standard errors of a difference on 300 prompts that mostly
agree."""


def write_report(folder: Path, seeds: Sequence[int]) -> str:
    cells = load_cells(folder)
    parts = [
        *tell_healthy(cells, seeds),
        *tell_diagnosis(cells, seeds),
        *tell_ends(cells, seeds, "Nights", NIGHTS),
        *tell_ends(cells, seeds, "Noise", NOISE),
        *tell_ends(cells, seeds, "Start values", START_VALUES),
        *tell_ends(cells, seeds, "Twins of real runs", TWINS),
    ]
    return "\n".join(parts)


def find(cells: Cells, names: Iterable[str], seeds: Sequence[int]) -> Iterator[tuple[Done, Done]]:
    """Yield the cells of a name and a seed, under `fixed` and under `rules`, where both are there."""
    for name in names:
        for seed in seeds:
            fixed, rules = (cells.get(Cell(name, seed, policy)) for policy in ("fixed", "rules"))
            if fixed is not None and rules is not None:
                yield fixed, rules


def score(done: Done, which: str = "final") -> float:
    """Return the score on test: accuracy, or mean reward where the reward is graded."""
    return float((done.result["rewards"] if CELLS[done.cell.fault].graded else done.result)[which])


def load_seen(done: Done) -> list[Seen]:
    """Load what was found while the cell ran, under whatever its hyperparameters were then."""
    lines = (done.place / "findings.jsonl").read_text().splitlines()
    return [Seen(*json.loads(line)) for line in lines]


def load_actions(done: Done) -> list[tuple[int, str, str]]:
    """Load what the policy did beside continuing: step, action and evidence."""
    with closing(sqlite3.connect(done.place / "harness.db")) as c:
        sql = "SELECT step, action, evidence FROM decisions WHERE action NOT IN ('continue', 'evaluate') ORDER BY id"
        return [(int(step), str(action), str(evidence)) for step, action, evidence in c.execute(sql)]


# ---------------------------------------------------------------- health


def tell_healthy(cells: Cells, seeds: Sequence[int]) -> Iterator[str]:
    rows, differences = [], []
    for fixed, rules in find(cells, CONTROLS, seeds):
        differences.append(score(rules) - score(fixed))
        acts = [f"{step} {action}" for step, action, _ in load_actions(rules) if action in TEACHES]
        alarms = [seen for seen in load_seen(rules) if is_false(seen, rules)]
        rows.append(
            [
                f"`{fixed.cell.fault}`", str(fixed.cell.seed), f"{score(fixed, 'before'):.3f}", f"{score(fixed):.3f}",
                f"{score(rules):.3f}", f"{differences[-1]:+.3f}", ", ".join(acts) or "none", count_kinds(alarms),
                tell_end(rules),
            ]
        )  # fmt: skip
    if rows:
        rows.append(["all", "", "", "", "", str(compute_mean(differences)), "", "", ""])
        yield "**Healthy controls**: test score of the last weights (mean reward where the reward is graded).\n"
        head = ["task", "seed", "before", "fixed", "rules", "difference", "changes", "false alarms (steps)", "end"]
        yield from table(head, rows)


def tell_end(done: Done) -> str:
    reason = str(done.result["reason"]).replace("|", "/").partition("; ")[0].partition(" (")[0]
    return "budget" if done.result["status"] == "finished" else f"step {done.result['last_step']}: {reason}"


def compute_signal(done: Done) -> float:
    """Return the mean share of mixed groups over the last steps."""
    return fmean(step.metrics["group/mixed_rate"] for step in done.snapshots[-1].steps[-NEWEST:])


def load_stop(done: Done) -> str | None:
    """Return the finding by which the policy stopped the run, None when it did not."""
    stops = [evidence for _, action, evidence in load_actions(done) if action == "stop"]
    kinds = {kind for fault in CELLS.values() for kind in fault.right}
    return next((kind for kind in sorted(kinds) if f"{kind}:" in stops[-1]), "other") if stops else None


# ---------------------------------------------------------------- diagnosis


def tell_diagnosis(cells: Cells, seeds: Sequence[int]) -> Iterator[str]:
    """Tell whether the fault is named: in the log of `fixed`, and while `rules` ran, whose answers show more."""
    rows, hits, total = [], {"fixed": 0, "rules": 0}, 0
    for name, fault in CELLS.items():
        for right in filter(None, (fault.right, fault.second)):
            pairs = list(find(cells, [name], seeds))
            first = {
                "fixed": [_first(ask_ours(fixed.snapshots), right) for fixed, _ in pairs],
                "rules": [_first(iter(load_seen(rules)), right) for _, rules in pairs],
            }
            total += len(pairs)
            for policy, seen in first.items():
                hits[policy] += sum(one is not None for one in seen)
            if pairs:
                rows.append(
                    [
                        f"`{name}`",
                        *(_tell(seen) for seen in first.values()),
                        ", ".join(f"`{kind}`" for kind in sorted(right)),
                    ]
                )
    if rows:
        rows.append(["all", *(f"{n} of {total} ({n / total:.0%})" for n in hits.values()), ""])
        yield "**Diagnosis**: step of the first right finding, by seed, and the finding.\n"
        yield from table(["cell", "in the log of fixed", "while rules ran", "right are"], rows)


def _first(seen: Iterator[Seen], right: frozenset[str]) -> Seen | None:
    return next((one for one in seen if one.kind in right), None)


def _tell(first: Sequence[Seen | None]) -> str:
    steps = ", ".join("-" if seen is None else str(seen.step) for seen in first)
    kinds = sorted({f"`{seen.kind}`" for seen in first if seen is not None})
    return " ".join([steps, *kinds])


# ---------------------------------------------------------------- ends


def tell_ends(cells: Cells, seeds: Sequence[int], title: str, names: Mapping[str, object]) -> Iterator[str]:
    """Tell how each run ended, and whether that is as it should be."""
    rows, differences, well = [], [], []
    for fixed, rules in find(cells, names, seeds):
        control = find_control(fixed.cell.fault)
        healthy = cells.get(Cell(control, fixed.cell.seed, "fixed")) if control else None
        differences.append(score(rules) - score(fixed))
        well.append(is_well(fixed, rules, healthy))
        rows.append(
            [
                f"`{fixed.cell.fault}`", str(fixed.cell.seed), "" if healthy is None else f"{score(healthy):.3f}",
                f"{score(fixed):.3f}", f"{score(rules):.3f}", "yes" if well[-1] else "no", tell_end(rules),
                ", ".join(f"{step} {action}" for step, action, _ in load_actions(rules) if action in TEACHES) or "none",
            ]
        )  # fmt: skip
    if rows:
        rows.append(["all", "", "", "", str(compute_mean(differences)), f"{sum(well)} of {len(well)}", "", ""])
        yield f"**{title}**: test score of the last weights.\n"
        head = ["cell", "seed", "healthy, fixed", "fixed", "rules", "as it should", "end under rules", "changes"]
        yield from table(head, rows)


def is_well(fixed: Done, rules: Done, healthy: Done | None) -> bool:
    """Tell whether a run under rules ended as it should: stopped by what is wrong, or as good as the healthy one; where
    it can bear what is wrong, not stopped, and no worse than under fixed by more than chance. A start that can do no
    more than it does is well off with groups that have signal again."""
    name, stopped = rules.cell.fault, load_stop(rules)
    if name in NOISE or name == "raises-3":
        return stopped is None and score(rules) >= score(fixed) - BORNE
    if name in CANNOT and compute_signal(rules) >= GOOD_MIXED:
        return score(rules) >= score(fixed) - BORNE
    recovered = healthy is not None and score(rules) >= NEAR * score(healthy)
    return recovered or stopped in CELLS[name].right
