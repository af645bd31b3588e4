"""The harder gym: whether decisions hold on other tasks and rewards, and whether nights without signal end.

    python -m tests.benchmarks.hard_gym --out FOLDER [--seeds 0 1 2] [--policies fixed rules] [--cells all-zero ...]
    python -m tests.benchmarks.hard_gym --out FOLDER --report

The cells are those of gym_hard.py, of 60 steps each. A cell whose result is in FOLDER is not run again, so the gym may
be stopped and started. A seed takes some 35 minutes of one core; two processes with other seeds may share a folder.
Delete the ``*.rules`` folders after a change of detectors or rules. The report is Markdown, for docs/decisions.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.models.runtime import prepare_process
from tests.benchmarks.gym_cells import Cell, run_cell
from tests.benchmarks.gym_hard import CELLS
from tests.benchmarks.gym_hard_report import write_report

POLICIES = ("fixed", "rules")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=POLICIES)
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=CELLS)
    parser.add_argument("--report", action="store_true")
    asked = parser.parse_args()
    if asked.report:
        print(write_report(asked.out, asked.seeds))
        return
    prepare_process(1)
    for seed in asked.seeds:
        for name in asked.cells:
            for policy in asked.policies:
                run_cell(asked.out, Cell(name, seed, policy), CELLS[name])


if __name__ == "__main__":
    main()
