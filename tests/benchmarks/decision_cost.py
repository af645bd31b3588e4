"""What a decision by rules and a verdict cost on the largest snapshot there is, which is that of any long run.

    python -m tests.benchmarks.decision_cost

Prints JSON: milliseconds of CPU time (median and 95th percentile of 300), with an experiment open. The rules are
measured on the healthy log of tests/assets, repeated to 200 steps with noise, 50 decisions and 64 looks at dev.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median, quantiles

from harness.types import Snapshot
from policies.effects import EffectJudge
from policies.rules import RulesPolicy
from tests.support.builders import make_change, make_look, make_pair, make_snapshot
from tests.support.fault_snapshots import load_steps

LAST = 100_000


def make_long_run() -> Snapshot:
    """As a reader shows a run of 100,000 steps: the last 200."""
    rng = random.Random(0)
    pattern = load_steps("steps-healthy.json")[20:]
    steps = []
    for i, number in enumerate(range(LAST - 199, LAST + 1)):
        source = pattern[i % len(pattern)]
        metrics = {name: value * rng.uniform(0.95, 1.05) for name, value in source.metrics.items()}
        steps.append(replace(source, step=number, parent=number - 1, metrics=metrics))
    changes = tuple(
        replace(make_change(LAST - 500 + 9 * i, "learning_rate", 1e-4, 2e-4), id=i, verdict="unclear")
        for i in range(49)
    )
    looks = tuple(make_look(LAST - 10 * i, 0.8 + rng.uniform(-0.02, 0.02)) for i in reversed(range(64)))
    return make_snapshot(
        steps,
        knobs=steps[-1].knobs,
        decisions=(*changes, replace(make_change(LAST - 30, "temperature", 0.9, 1.0), id=49)),
        evaluations=looks,
        paired_dev=tuple(make_pair(look.step, LAST, 200, 10, 12) for look in looks[-17:-1]),
    )


def measure(ask: Callable[[], object]) -> dict[str, float]:
    ask()
    spent = []
    for _ in range(300):
        started = time.process_time()
        ask()
        spent.append(1e3 * (time.process_time() - started))
    return {"median_ms": round(median(spent), 3), "p95_ms": round(quantiles(spent, n=20)[-1], 3)}


def main() -> None:
    snapshot, rules, judge = make_long_run(), RulesPolicy(), EffectJudge()
    print(
        json.dumps({"decide": measure(lambda: rules.decide(snapshot)), "judge": measure(lambda: judge.judge(snapshot))})
    )


if __name__ == "__main__":
    main()
