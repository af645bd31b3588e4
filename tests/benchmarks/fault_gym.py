"""The fault gym: what decisions are worth on real runs that begin with a fault, and who names the fault.

    python -m tests.benchmarks.fault_gym --out FOLDER [--seeds 0 1 2] [--policies fixed rules llm] [--faults lr-x10 ...]
    python -m tests.benchmarks.fault_gym --out FOLDER --report

A cell is a run of the embedded model under a fault, a seed and a decision policy (gym_cells.py); ``none`` is the
unfaulted run. A cell whose result is in FOLDER is not run again, so the gym may be stopped and started; delete the
``*.rules`` folders after a change of detectors or rules. ``llm`` is answered by a scripted server (gym_llm.py). The
report is Markdown, for docs/decisions.md. It asks rldoctor and rlprobe too (``pip install --no-deps rldoctor==0.2.0
rlprobe==0.1.0``), which are no dependencies of the project.

Scores are accuracies on 300 test prompts, greedy, of the weights that the run ended with.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from harness.models.runtime import prepare_process
from tests.benchmarks.gym_cells import FAULTS, HEALTHY, UNFAULTED, Cell, run_cell
from tests.benchmarks.gym_llm import answer
from tests.benchmarks.gym_report import write_logs, write_report
from tests.support.answers_server import Server

POLICIES = ("fixed", "rules", "llm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=POLICIES)
    parser.add_argument("--faults", nargs="+", default=[HEALTHY, *FAULTS], choices=[HEALTHY, *FAULTS])
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--logs", type=Path, help="write the small logs that the tests read")
    asked = parser.parse_args()
    if asked.logs:
        write_logs(asked.out, asked.logs)
        return
    if asked.report:
        print(write_report(asked.out, asked.seeds))
        return
    prepare_process(1)
    os.environ["ANTHROPIC_API_KEY"] = "the scripted server asks for none"
    with Server([answer]) as server:
        os.environ["ANTHROPIC_BASE_URL"] = server.url
        for policy in asked.policies:
            for seed in asked.seeds:
                for fault in asked.faults:
                    server.requests.clear()
                    run_cell(asked.out, Cell(fault, seed, policy), FAULTS.get(fault, UNFAULTED))


if __name__ == "__main__":
    main()
