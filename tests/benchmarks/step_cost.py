"""What the harness itself costs: a step (decide, draw, record) without generation, reward and TRL, and a look at a run.

    python -m tests.benchmarks.step_cost [--quick] [--steps 10 1000 100000] [--prompts 100 3300 100000]

Prints JSON: milliseconds per step (median and 95th percentile of 150) on top of so many recorded steps, and with so
many prompts, uniform and focused draws; seconds of a look at the longest run, within a process and as the commands
``runs``, ``watch`` and ``review`` on a terminal; resident memory over 10,000 steps. Everything is real (controller,
session, rules, pool, database) but the trainer, which answers at once with 16 groups of 8 completions.

A long run is not waited for: 50 steps are taken, with looks, samples and a person's change, and their rows are copied
by SQL, table by table, until there are as many as asked for (tests/support/bench.py).
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import json
import os
import pty
import resource
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from harness.store.snapshot import SnapshotReader
from harness.views.console import Console
from harness.views.terminal.frame import render
from tests.support.bench import build, measure_steps


def measure_looks(steps: int) -> dict[str, Any]:
    """Seconds (median of 5) of looking at a run: within this process, and as a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        bench = build(Path(folder), steps=steps, prompts=3300)
        built_s = time.perf_counter() - started
        bench.store.update_run(bench.run_id, status="finished", stop_reason="budget spent")
        frames = []
        for _ in range(5):
            started = time.perf_counter()
            snapshot = SnapshotReader(bench.store, bench.run_id).read(whole_run=True)
            with Path(os.devnull).open("w") as nowhere:
                console = Console(file=nowhere, width=120, height=40, force_terminal=True)
                console.print(render(snapshot, age=0.0, width=120, height=40))
            frames.append(time.perf_counter() - started)
        bench.store.close()
        db = f"{folder}/harness.db"
        result = {
            "steps": steps,
            "built_in_s": round(built_s, 1),
            "database_mib": round(Path(db).stat().st_size / 2**20),
            "first_frame_s": round(median(frames), 3),
        }
        page = Path(folder) / "page.html"
        for words in (["runs"], ["watch", "bench"], ["review", "bench"], ["review", "bench", "--json"]):
            seconds = median(_time_process([*words, "--db", db]) for _ in range(5))
            result[f"grpo {' '.join(words)}"] = round(seconds, 3)
        seconds = median(_time_process(["review", "bench", "--html", str(page), "--db", db]) for _ in range(5))
        result |= {"grpo review bench --html": round(seconds, 3), "page_mib": round(page.stat().st_size / 2**20, 2)}
    return result


def _time_process(words: Sequence[str]) -> float:
    """Seconds from start to exit, on a terminal of 120 by 40."""
    ours, theirs = pty.openpty()
    os.write(ours, b"q")  # what leaves a dashboard after its first frame
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *words], stdin=theirs, stdout=theirs, stderr=theirs,
        env=os.environ | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(theirs)
    try:
        while os.read(ours, 1 << 16):
            pass
    except OSError:  # Linux says so when the other end is closed
        pass
    assert process.wait() == 0
    os.close(ours)
    return time.perf_counter() - started


def measure_memory(steps: int) -> dict[str, Any]:
    """Resident MiB of this process after 1,000 steps and after so many more."""
    with tempfile.TemporaryDirectory() as folder:
        bench = build(Path(folder), steps=0, prompts=3300)
        seen = []
        for n in (1000, steps):
            for _ in range(n):
                bench.step()
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
            seen.append(round(pages * resource.getpagesize() / 2**20, 1))
        bench.store.close()
    return {"after_steps": [1000, 1000 + steps], "rss_mib": seen}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 1000, 10_000, 100_000])
    parser.add_argument("--prompts", type=int, nargs="+", default=[100, 3300, 100_000])
    parser.add_argument("--quick", action="store_true", help="steps only")
    arguments = parser.parse_args()
    report: dict[str, Any] = {
        "by_steps": measure_steps([{"steps": steps, "prompts": 3300} for steps in arguments.steps]),
        "by_prompts": measure_steps([{"steps": 10, "prompts": n} for n in arguments.prompts]),
        "by_prompts_focused": measure_steps([{"steps": 10, "prompts": n, "focus": 0.5} for n in arguments.prompts]),
    }
    if not arguments.quick:
        report |= {"looks": measure_looks(max(arguments.steps)), "memory": measure_memory(10_000)}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
