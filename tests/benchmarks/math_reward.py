"""How many completions a second the mathematics reward judges, on one core.

    python -m tests.benchmarks.math_reward [--seconds 3]

``fast`` are numbers, compared in the process itself, alone and at the end of a long text: per second of CPU, so that
what else the machine does matters little. ``slow`` are pairs of expressions that differ from one to the next, compared
by math-verify in its own process, and ``costly`` one that never ends: by the clock. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from itertools import count, islice

from rewards import math

REASONING = "First we add the two numbers, then we carry the one, and so on until nothing is left to add. " * 20
FAST = {
    "integer": (r"\boxed{1234}", "1234"),
    "integer, wrong": (r"\boxed{1235}", "1234"),
    "integer after 1,900 characters": (REASONING + r"So the answer is \boxed{1234}.", "1234"),
    "money with separator": (r"\boxed{\$1,234}", "1234"),
    "fraction": (r"\boxed{\frac{3}{4}}", "0.75"),
    "unit": (r"\boxed{5\text{ meters}}", "5 meters"),
}


def rate(
    calls: Iterator[tuple[str, str]],
    judge: Callable[[str, str], object],
    seconds: float,
    chunk: int,
    clock: Callable[[], float] = time.process_time,
) -> float:
    """The best of chunks of calls a second: what the machine does else only ever slows one down."""
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        batch = list(islice(calls, chunk))
        started = clock()
        for completion, truth in batch:
            judge(completion, truth)
        best = max(best, len(batch) / (clock() - started))
    return round(best)


def forever(case: tuple[str, str]) -> Iterator[tuple[str, str]]:
    while True:
        yield case


def expressions() -> Iterator[tuple[str, str]]:
    for n in count(1):
        yield rf"\boxed{{\sqrt{{{4 * n * n + 4 * n}}}}}", rf"2\sqrt{{{n * n + n}}}"


def polynomials() -> Iterator[tuple[str, str]]:
    for n in count(1):
        yield rf"\boxed{{x^2+{2 * n}x+{n * n}}}", f"(x+{n})^2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each case")
    seconds = parser.parse_args().seconds
    math.score(r"\boxed{\sqrt{8}}", r"2\sqrt{2}")  # starts the process
    started = time.perf_counter()
    math.score(r"\boxed{9^{9^{9^{9}}}}", r"\sqrt{2}")
    costly = time.perf_counter() - started
    found = {
        "fast_per_s": {name: rate(forever(case), math.score, seconds, 2_000) for name, case in FAST.items()},
        "fast_float_per_s": rate(forever(FAST["integer"]), math.compute_reward, seconds, 2_000),
        "slow_per_s": {
            "roots": rate(expressions(), math.score, seconds, 20, time.perf_counter),
            "polynomials": rate(polynomials(), math.score, seconds, 20, time.perf_counter),
        },
        "costly_s": round(costly, 2),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
