"""What a pool costs in a step: time of a draw and of all else it does, and size of its state, by pool size.

    python -m tests.benchmarks.pool_draw [--sizes 100 10000 1000000]

Prints JSON. Each size runs in a process of its own; for memory and loading see tests.benchmarks.pool_load. Times are
milliseconds of CPU time (all of it is one thread) over STEPS steps of 16 prompts, after SEEN prompts were seen, or half
the pool: median and 95th percentile.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable
from typing import Any, get_args

import numpy as np

from harness.types import Completion, Group, Sampler, Score
from pools.pool import PromptPool
from tests.support.builders import make_prompt, make_table

SEEN = 20_000
STEPS, PER_STEP, GROUP_SIZE = 100, 16, 8
COMPLETIONS = tuple(Completion("", 1, False, Score(float(ok), ok, "")) for ok in (True, False) * (GROUP_SIZE // 2))


def timed(results: dict[str, list[float]], name: str, work: Callable[[], Any]) -> Any:
    started = time.process_time()
    made = work()
    results.setdefault(name, []).append((time.process_time() - started) * 1e3)
    return made


def measure(size: int) -> dict[str, Any]:
    prompts = make_table([make_prompt(f"{i}+{i % 997}", label=f"level {i % 5}") for i in range(size)])
    started = time.process_time()
    pool = PromptPool(prompts, draw_share=0.5, sampler="frontier")
    build_s = time.process_time() - started
    pool.record([Group(prompt, COMPLETIONS) for prompt in prompts[: min(SEEN, size // 2)]])
    times: dict[str, list[float]] = {}
    for step in range(STEPS):
        for name in get_args(Sampler):
            for group_size in (GROUP_SIZE, 64):
                pool.sampler = name
                aim = {"seed": step, "focus": None, "group_size": group_size}
                drawn = timed(times, f"draw {name}, groups of {group_size}", lambda aim=aim: pool.draw(PER_STEP, **aim))
        timed(times, "expected rewards", lambda drawn=drawn: pool.expected_rewards(drawn))
        timed(times, "outlook", lambda drawn=drawn: pool.outlook(drawn, GROUP_SIZE))
        groups = [Group(prompt, COMPLETIONS) for prompt in drawn]
        timed(times, "record", lambda groups=groups: pool.record(groups))
    state = timed(times, "state as JSON", lambda: json.dumps(pool.state()))
    timed(times, "load state", lambda: pool.load_state(json.loads(state)))
    return {
        "prompts": size,
        "build_s": round(build_s, 3),
        "seen": len(pool.history.seen),
        "state_bytes": len(state),
        "ms": {
            name: {"median": round(float(np.median(spent)), 3), "p95": round(float(np.quantile(spent, 0.95)), 3)}
            for name, spent in times.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 10_000, 100_000, 1_000_000])
    sizes = parser.parse_args().sizes
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as processes:
        print(json.dumps(processes.map(measure, sizes, chunksize=1), indent=2))


if __name__ == "__main__":
    main()
