"""A snapshot with each fault that the detectors know, and what such snapshots are made of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.types import EventRecord, Knobs, Snapshot, StepRecord
from policies.detectors.groups import DRY_NIGHT, DRY_STEPS
from policies.detectors.updates import FIRST_STEPS, STILL_STEPS
from tests.support.builders import (
    make_change,
    make_look,
    make_pair,
    make_run_record,
    make_snapshot,
    make_step,
    make_steps,
)

ASSETS = Path(__file__).parent.parent / "assets"
UNSOLVED = {"group/unsolved_rate": 0.97, "group/all_zero_rate": 0.97, "group/mixed_rate": 0.03}


def series(n: int, **metrics: Any) -> tuple[StepRecord, ...]:
    """Steps whose metrics (``reward__mean``) are numbers, or functions of the step."""
    return tuple(
        make_step(
            step,
            {name.replace("__", "/"): value(step) if callable(value) else value for name, value in metrics.items()},
        )
        for step in range(1, n + 1)
    )


def at(knobs: Knobs, steps: tuple[StepRecord, ...]) -> Snapshot:
    return make_snapshot([replace(step, knobs=knobs) for step in steps], knobs=knobs)


def from_step(first: int, then: float, before: float) -> Any:
    return lambda step: then if step >= first else before


def load_steps(name: str) -> tuple[StepRecord, ...]:
    rows = json.loads((ASSETS / name).read_text())
    return tuple(StepRecord(row["step"], row["step"] - 1, Knobs(**row["knobs"]), row["metrics"]) for row in rows)


def make_never_ending() -> Snapshot:
    """Two rises of max_tokens, and still nearly all is cut."""
    limits = {1: 64, 5: 96, 9: 144}
    steps = [
        make_step(
            step,
            {"completion/truncated_rate": 0.9, "group/unsolved_rate": 0.9, "group/all_zero_rate": 0.5},
            knobs=Knobs(max_tokens=limits[max(first for first in limits if first <= step)]),
        )
        for step in range(1, 13)
    ]
    rises = tuple(make_change(first, "max_tokens", before, limits[first]) for first, before in ((5, 64), (9, 96)))
    return make_snapshot(steps, knobs=Knobs(max_tokens=144), decisions=rises)


FAULTS: dict[str, tuple[Snapshot, str]] = {
    "errored": (make_snapshot(series(12, completion__errored_rate=from_step(11, 0.06, 0.0))), "severe"),
    "pays_everyone": (
        make_snapshot(
            series(12, completion__correct_rate=from_step(11, 1.0, 0.5), reward__adjusted=from_step(11, 0.5, 0))),
        "severe",
    ),
    "gamed": (
        make_snapshot(
            series(
                14, completion__correct_rate=lambda s: 0.5 - 0.02 * s, reward__mean=lambda s: 0.5 + 0.01 * s
            )
        ),
        "severe",
    ),
    "proxy_only": (
        make_snapshot(series(DRY_NIGHT, group__proxy_rate=0.45, group__mixed_rate=0.5, group__unsolved_rate=0.9)),
        "severe",
    ),
    "dev_drop": (
        make_snapshot(
            make_steps(20),
            evaluations=(make_look(0, 0.4), make_look(10, 0.8), make_look(20, 0.6)),
            paired_dev=(make_pair(0, 20, 200, 60, 20), make_pair(10, 20, 200, 5, 45)),
        ),
        "severe",
    ),
    "reward_drop": (make_snapshot(series(20, reward__mean=from_step(18, 0.05, 0.7))), "severe"),
    "not_finite": (make_snapshot(make_steps(4), faults=(EventRecord(4, "error", "not finite", 0.0),)), "severe"),
    "chaos": (at(
            Knobs(temperature=2.5),
            series(4, completion__distinct_rate=1.0, group__unsolved_rate=0.8, group__all_zero_rate=0.8),
        ),
        "warning",
    ),
    "collapse": (
        at(
            Knobs(temperature=0.1),
            series(4, completion__distinct_rate=0.13, group__no_signal_rate=0.9, group__unsolved_rate=0.5),
        ),
        "warning",
    ),
    "cut_but_paid": (
        make_snapshot(series(4, completion__truncated_rate=0.9, completion__truncated_paid=0.8)), "warning"
    ),
    "entropy_explosion": (
        make_snapshot(series(16, entropy__mean=from_step(14, 1.2, 0.2), reward__adjusted=from_step(14, -0.3, 0.0))),
        "severe",
    ),
    "kl_spike": (make_snapshot(series(12, kl__mean=from_step(11, 0.6, 0.01))), "warning"),
    "oscillation": (make_snapshot(series(20, reward__adjusted=lambda s: 0.3 if s % 2 else -0.3)), "warning"),
    "gradient_spike": (make_snapshot(series(20, grad__norm=from_step(19, 9.0, 0.3))), "warning"),
    "instability": (
        make_snapshot(
            series(32, grad__norm=from_step(20, 0.9, 0.3), reward__mean=from_step(24, 0.78, 0.88))
        ),
        "warning",
    ),
    "length_inflation": (
        make_snapshot(series(16, completion__tokens_mean=lambda s: 20.0 + 2 * s, reward__adjusted=-0.01)), "warning"
    ),
    "truncation": (make_snapshot(
            series(2, completion__truncated_rate=0.8, group__unsolved_rate=0.8, group__all_zero_rate=0.8)), "warning"),
    "never_ends": (make_never_ending(), "warning"),
    "temperature": (
        replace(
            at(Knobs(temperature=1.4), make_steps(8)),
            evaluations=(make_look(0, 0.5),), run=make_run_record(budget_steps=100),
        ),
        "warning",
    ),
    "poor_prompts": (
        make_snapshot(
            series(
                4, group__mixed_rate=0.3, pool__mixed_expected=0.2, pool__mixed_expected_larger=0.3,
                pool__mixed_expected_others=0.7,
            )
        ),
        "warning",
    ),
    "unsolved": (make_snapshot(make_steps(DRY_STEPS, UNSOLVED)), "warning"),
    "flat": (
        make_snapshot(series(DRY_STEPS, group__flat_rate=0.98, group__mixed_rate=0.02, completion__correct_rate=0.02)),
        "warning",
    ),
    "solved": (make_snapshot(series(4, group__solved_rate=0.9, group__mixed_rate=0.1)), "warning"),
    "no_middle": (
        make_snapshot(
            series(DRY_STEPS, group__all_zero_rate=0.45, group__all_one_rate=0.45, group__mixed_rate=0.1)), "warning",
    ),
    "large_groups": (
        at(Knobs(group_size=32), series(DRY_STEPS, group__mixed_tokens_rate=0.15, group__mixed_rate=0.15)), "warning"
    ),
    "no_signal": (make_snapshot(series(DRY_NIGHT, group__mixed_rate=0.02, completion__truncated_rate=0.1)), "warning"),
    "anchored": (at(Knobs(beta=0.5), make_steps(4)), "warning"),
    "learning_rate": (make_snapshot(series(6, kl__mean=lambda s: 2e-5 * s)), "warning"),
    "no_op_learning_rate": (make_snapshot(series(FIRST_STEPS + STILL_STEPS, kl__mean=1e-7)), "warning"),
    "small_groups": (
        at(
            Knobs(group_size=2),
            series(
                4, group__no_signal_rate=0.6, pool__mixed_expected=0.4, pool__mixed_expected_larger=0.7,
                pool__mixed_expected_others=0.42,
            ),
        ),
        "warning",
    ),
    "plateau": (
        make_snapshot(
            make_steps(90), evaluations=tuple(make_look(s, 0.5 + 0.01 * (s % 20 == 0)) for s in range(0, 91, 10))),
        "warning",
    ),
    "slow_sampling": (
        make_snapshot(series(12, completion__tokens=1000.0, time__rollout_s=from_step(10, 9.0, 1.0))), "note"
    ),
}  # fmt: skip
