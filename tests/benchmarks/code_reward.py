"""How many programs and cases per second rewards.code judges.

    python -m tests.benchmarks.code_reward [--workers 2] [--seconds 5]

Workers are processes that ask ``score`` again and again, as the harness's reward workers do. Programs are short and
all different; "programs" have 2 cases each, "cases" come 20 to a program. Prints JSON, with CPU seconds per program
beside the rates: on a busy machine these say more.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

from rewards.code import score
from rewards.isolation import SANDBOXES

PROGRAM = (
    "Some reasoning.\n\n```python\ndef f(numbers, k={seed}):\n    return sum(n + k - {seed} for n in numbers)\n```\n"
)


def ground_truth(cases: int) -> str:
    return json.dumps(
        {
            "entry_point": "f",
            "cases": [{"args": [list(range(n))], "expected": n * (n - 1) // 2} for n in range(2, cases + 2)],
        }
    )


def cpu_seconds() -> float:
    """Of this process, its sandbox and the programs that have run in it."""
    spent = sum(os.times()[:2])
    for sandbox in SANDBOXES._idle:
        fields = Path(f"/proc/{sandbox.process_id}/stat").read_text().rpartition(")")[2].split()
        spent += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return spent


def judge(cases: int, script: bool, seconds: float, start: float, results: multiprocessing.Queue[Any]) -> None:
    truth = ground_truth(cases)
    if script:
        truth = json.dumps({"cases": [{"stdin": f"{n}\n", "stdout": f"{n + 1}\n"} for n in range(cases)]})
    text = "```python\nprint(int(input()) + 1)  # {seed}\n```" if script else PROGRAM
    assert score(text.replace("{seed}", "0"), truth).correct  # the sandbox is up
    time.sleep(max(0.0, start - time.time()))
    until, done, before = time.monotonic() + seconds, 0, cpu_seconds()
    while time.monotonic() < until:
        done += 1
        assert score(text.replace("{seed}", str(done)), truth).correct
    results.put((done, cpu_seconds() - before))


def measure(cases: int, *, workers: int, seconds: float, script: bool = False) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[Any] = context.Queue()
    start = time.time() + 3.0
    processes = [context.Process(target=judge, args=(cases, script, seconds, start, results)) for _ in range(workers)]
    for process in processes:
        process.start()
    counts, spent = zip(*[results.get() for _ in processes], strict=True)
    for process in processes:
        process.join()
    done = sum(counts)
    return {
        "programs_per_s": round(done / seconds),
        "cases_per_s": round(done * cases / seconds),
        "cpu_ms_per_program": round(1000 * sum(spent) / done, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    ways = {"programs": (2, False), "cases": (20, False), "scripts": (2, True)}
    print(
        json.dumps(
            {
                "workers": options.workers,
                "cores": len(os.sched_getaffinity(0)),
                "load_before": os.getloadavg()[0],
                "tier": SANDBOXES.isolation.tier,
                **{
                    name: measure(cases, workers=options.workers, seconds=options.seconds, script=script)
                    for name, (cases, script) in ways.items()
                },
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
