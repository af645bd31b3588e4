"""A step on a machine where another process computes, as it is now and as it was when threads waited spinning.

    python -m tests.benchmarks.busy_machine [--rounds 3] [--steps 3] [--threads N]

Two processes hold the same model, the one of the recipe ``arithmetic``, and take the same steps by turns: ``now`` as
``grpo run`` has it (OMP_WAIT_POLICY passive, short turns on the processor), ``before`` with OpenMP's and Linux's own
ways. Each round times both on the machine as it is, then beside one busy process per core. Prints JSON: median seconds,
and as a ratio to the idle ones of the same process; ``load`` is the machine's load average before the start, which
tells how idle "idle" was.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

BUSY = "while True: pass"
WAYS = ("now", "before")


def take_steps(way: str, threads: int) -> None:
    """Be one of the two: time a step for each line of stdin."""
    if way == "before":
        import torch  # noqa: F401  # and with it OpenMP, which reads its variables now

    from harness.config.schema import LoraSpec, ModelSpec, TrainerSpec
    from harness.models import runtime
    from harness.models.load import load_model
    from harness.training.grpo import StepTrainer
    from harness.types import Knobs
    from tests.support.tiny import PROMPTS, DigitScorer

    if way == "before":
        runtime.take_short_turns = lambda: None
    runtime.prepare_process(threads)
    knobs = Knobs(max_tokens=48, group_size=8, prompts_per_step=8)
    with tempfile.TemporaryDirectory() as folder:
        trainer = StepTrainer(
            load_model(ModelSpec(), LoraSpec(rank=0), seed=0), DigitScorer(), TrainerSpec(), errored_limit=0.1,
            folder=Path(folder), seed=0,
        )  # fmt: skip
        for line in sys.stdin:
            started = time.perf_counter()
            trainer.step(PROMPTS, knobs, learning_rate=1e-6, seed=int(line))
            print(time.perf_counter() - started, flush=True)


class Stepper:
    def __init__(self, way: str, threads: int) -> None:
        words = [sys.executable, "-m", __spec__.name, "--child", way, "--threads", str(threads)]
        own = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        self.process = subprocess.Popen(words, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def step(self, seed: int) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{seed}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def measure(rounds: int, steps: int, threads: int) -> dict[str, Any]:
    """Time both processes by turns, idle and busy by turns too."""
    load = os.getloadavg()[0]
    steppers = {way: Stepper(way, threads) for way in WAYS}
    seconds: dict[str, dict[str, list[float]]] = {way: {"idle": [], "busy": []} for way in WAYS}
    for stepper in steppers.values():
        stepper.step(0)  # warms up
    for _ in range(rounds):
        for state in ("idle", "busy"):
            cores = len(os.sched_getaffinity(0)) if state == "busy" else 0
            others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(cores)]
            try:
                for seed in range(1, steps + 1):
                    for way, stepper in steppers.items():
                        seconds[way][state].append(stepper.step(seed))
            finally:
                for other in others:
                    other.kill()
                    other.wait()
    for stepper in steppers.values():
        stepper.process.kill()
        stepper.process.wait()
    return {
        "threads": threads,
        "load": round(load, 2),
        **{
            way: {
                "idle_s": round(median(found["idle"]), 3),
                "busy_s": round(median(found["busy"]), 3),
                "busy_to_idle": round(median(found["busy"]) / median(found["idle"]), 2),
                "all": {state: [round(s, 2) for s in times] for state, times in found.items()},
            }
            for way, found in seconds.items()
        },
        "now_to_before": {
            state: round(median(seconds["now"][state]) / median(seconds["before"][state]), 3)
            for state in ("idle", "busy")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        take_steps(arguments.child, arguments.threads)
    else:
        print(json.dumps(measure(arguments.rounds, arguments.steps, arguments.threads), indent=2))


if __name__ == "__main__":
    main()
