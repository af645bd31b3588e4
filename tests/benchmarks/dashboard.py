"""What the dashboard costs: a frame of a long run, its share of a core, and whether a step is slower for it.

    python -m tests.benchmarks.dashboard [--steps 100000] [--seconds 30]

Prints JSON. ``frame``: milliseconds of CPU (median of 20) to render a frame of each size, to read a snapshot after one
more step, and to write the frame to a terminal. ``share``: of a core, taken by ``grpo watch`` on a terminal of 200 by
60 while the run takes a step every 0.3 s, after its start. ``step``: milliseconds of a step (median) while the
dashboard draws as it does beside ``grpo run`` (its own process, low priority), and while that process is stopped; the
two take turns. The run is that of tests.support.bench: all is real but the trainer, which answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

import psutil

from harness.store.snapshot import SnapshotReader
from harness.views.console import Console
from harness.views.terminal.frame import render
from tests.support.bench import Bench, build

SIZES = ((80, 24), (120, 40), (200, 60))
WARM_S = 5.0


def cpu_ms(do: Callable[[], object], before: Callable[[], object] = lambda: None, n: int = 20) -> float:
    """Median milliseconds of CPU, ``before`` each not counted; the first time is not counted either."""
    seen = []
    for _ in range(n + 1):
        before()
        started = time.process_time()
        do()
        seen.append(1000 * (time.process_time() - started))
    return round(median(seen[1:]), 2)


def measure_frames(bench: Bench) -> dict[str, Any]:
    reader = SnapshotReader(bench.store, bench.run_id)
    snapshot = reader.read(whole_run=True)
    report: dict[str, Any] = {"read_ms": cpu_ms(lambda: reader.read(whole_run=True), before=bench.step)}
    for width, height in SIZES:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            console = Console(file=nowhere, width=width, height=height, force_terminal=True, color_system="256")
            frame = render(snapshot, age=0.0, width=width, height=height)
            report[f"{width}x{height}"] = {
                "render_ms": cpu_ms(lambda w=width, h=height: render(snapshot, age=0.0, width=w, height=h)),  # type: ignore[misc]
                "write_ms": cpu_ms(lambda c=console, f=frame: c.print(f)),  # type: ignore[misc]
            }
    return report


@contextmanager
def dashboard(*words: str, pass_fds: Sequence[int] = ()) -> Iterator[psutil.Process]:
    """``python -m words`` on a terminal of 200 by 60 whose output is read and dropped."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, True)
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "200", "LINES": "60"}
    process = subprocess.Popen(
        [sys.executable, "-m", *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
        start_new_session=True, pass_fds=pass_fds,
    )  # fmt: skip
    os.close(theirs)

    def drop() -> None:
        try:
            while os.read(ours, 1 << 16):
                pass
        except OSError:
            return

    Thread(target=drop, daemon=True).start()
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait()


def measure_share(bench: Bench, seconds: float) -> float:
    with dashboard("harness", "watch", "bench", "--db", bench.store.url) as process:
        until = time.monotonic() + WARM_S
        while time.monotonic() < until:
            time.sleep(0.3)
            bench.step()
        before, started = process.cpu_times(), time.monotonic()
        while time.monotonic() - started < seconds:
            time.sleep(0.3)
            bench.step()
        after, passed = process.cpu_times(), time.monotonic() - started
    return round((after.user + after.system - before.user - before.system) / passed, 4)


def measure_steps(bench: Bench, seconds: float) -> dict[str, float]:
    """Steps one after the other, a second with the dashboard and a second without."""
    seen: dict[bool, list[float]] = {True: [], False: []}
    nothing_said, _ = os.pipe()
    words = ("harness.views.terminal.companion", bench.store.url, str(bench.run_id), str(nothing_said))
    with dashboard(*words, pass_fds=[nothing_said]) as process:
        time.sleep(WARM_S)
        started, drawing = time.monotonic(), True
        while time.monotonic() - started < seconds:
            turn = time.monotonic() + 1.0
            while time.monotonic() < turn:
                seen[drawing].append(bench.step())
            drawing = not drawing
            process.send_signal(signal.SIGCONT if drawing else signal.SIGSTOP)
    shown, alone = (round(median(seen[drawing]), 3) for drawing in (True, False))
    return {"with_ms": shown, "without_ms": alone, "ratio": round(shown / alone, 3), "steps": len(seen[True])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = build(Path(folder), steps=arguments.steps, prompts=3300)
        report = {
            "steps": arguments.steps,
            "frame": measure_frames(bench),
            "share": measure_share(bench, arguments.seconds),
            "step": measure_steps(bench, arguments.seconds),
        }
        bench.store.close()
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
