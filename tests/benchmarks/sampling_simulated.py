"""Samplers against uniform draws on a simulated learner: what chooses their design before a model is trained.

    python -m tests.benchmarks.sampling_simulated [--seeds 20]

Prints JSON. The pool, its history and its samplers are the real ones; only the model is simulated, as
tests/support/simulated_learner.py says.

Levels are known to the sampler by label, or by nothing, or by the length of the prompt, which correlates with
difficulty at 0.7. The target is what uniform reaches on average at 60% of the rollouts; a run that never arrives counts
with all of them, which understates the ratio where that is uniform. Rates up to the target are those of each run until
its own arrival; ``whole`` ones are over equal rollouts, where a fast learner runs out of frontier.
"""

from __future__ import annotations

import argparse
import json
from statistics import fmean, median
from typing import Any

from harness.types import Sampler
from tests.support.simulated_learner import SCENARIOS, STEPS, Scenario, simulate


def compare(scenario: Scenario, seeds: int) -> dict[str, Any]:
    uniform = [simulate(scenario, "uniform", seed) for seed in range(seeds)]
    target = fmean(run.scores[int(0.6 * STEPS)] for run in uniform)
    samplers: list[Sampler] = ["frontier", "dynamic"] + (["curriculum"] if scenario.known_by == "label" else [])
    result: dict[str, Any] = {
        "target": round(target, 3),
        "uniform": {"mixed_rate": round(fmean(run.mixed_rate(run.arrival(target)) for run in uniform), 3)},
    }
    for sampler in samplers:
        runs = [simulate(scenario, sampler, seed) for seed in range(seeds)]
        pairs = list(zip(uniform, runs, strict=True))
        mixed = [(u.mixed_rate(u.arrival(target)), r.mixed_rate(r.arrival(target))) for u, r in pairs]
        whole = [(u.mixed_rate(-1), r.mixed_rate(-1)) for u, r in pairs]
        fewer = [u.rollouts[u.arrival(target)] / r.rollouts[r.arrival(target)] for u, r in pairs]
        result[sampler] = {
            "mixed_rate": round(fmean(mine for _, mine in mixed), 3),
            "live_groups_per_rollout_x": round(fmean(mine / base for base, mine in mixed), 2),
            "no_signal_x": round(fmean((1 - mine) / (1 - base) for base, mine in mixed), 2),
            "whole_live_groups_per_rollout_x": round(fmean(mine / base for base, mine in whole), 2),
            "whole_no_signal_x": round(fmean((1 - mine) / (1 - base) for base, mine in whole), 2),
            "fewer_rollouts_to_target_x": {"median": round(median(fewer), 2), "worst seed": round(min(fewer), 2)},
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    print(json.dumps({"seeds": seeds, **{s.name: compare(s, seeds) for s in SCENARIOS}}, indent=2))


if __name__ == "__main__":
    main()
