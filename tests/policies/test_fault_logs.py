"""Logs of real runs of the fault gym (seed 0, `fixed`), cut where their fault was first found: it must still be found
there, and the unfaulted run must raise no alarm. ``python -m tests.benchmarks.fault_gym --out FOLDER --logs FILE``
writes them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.types import Action, EvaluationRecord, Knobs, PairedLook, Snapshot, StepRecord
from policies.detectors import detect
from policies.rules import RulesPolicy
from tests.builders import make_checkpoint, make_snapshot

LOGS = Path(__file__).parent.parent / "assets" / "fault-gym.json"
WIDE = {"temperature": (0.1, 3.0)}


@cache
def load_logs() -> dict[str, dict[str, Any]]:
    logs: dict[str, dict[str, Any]] = json.loads(LOGS.read_text())
    return logs


def load_snapshot(fault: str) -> Snapshot:
    log = load_logs()[fault]
    knobs = Knobs(**log["knobs"])
    snapshot = make_snapshot(
        [StepRecord(int(step), int(step) - 1, knobs, metrics) for step, metrics in log["steps"].items()],
        knobs=knobs,
        evaluations=tuple(EvaluationRecord(**look | {"ci95": tuple(look["ci95"])}) for look in log["dev"]),
        paired_dev=tuple(PairedLook(**pair) for pair in log["paired"]),
        checkpoints=tuple(make_checkpoint(look["step"]) for look in log["dev"]),
    )
    return replace(snapshot, bounds=snapshot.bounds | WIDE)


def alarms(snapshot: Snapshot) -> set[str]:
    return {finding.kind for finding in detect(snapshot) if finding.severity in ("warning", "severe")}


CASES: dict[str, tuple[set[str], Action]] = {}


@pytest.mark.parametrize("fault", CASES)
def test_a_fault_of_a_real_run_is_named_and_answered(fault: str) -> None:
    kinds, action = CASES[fault]
    snapshot = load_snapshot(fault)
    assert alarms(snapshot) & kinds
    decided = RulesPolicy().decide(snapshot).action
    assert (decided.kind, set(decided.changes)) == (action.kind, set(action.changes))


def test_a_healthy_run_raises_no_alarm_at_any_step() -> None:
    whole = load_snapshot("none")
    for n in range(1, len(whole.steps) + 1):
        steps = whole.steps[:n]
        snapshot = replace(whole, steps=steps, step=n, steps_done=n, paired_dev=())
        assert not alarms(replace(snapshot, evaluations=tuple(e for e in whole.evaluations if e.step <= n))), n
