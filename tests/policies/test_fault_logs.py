"""Logs of real runs of the fault gym (seed 0, decision policy `fixed`), cut where the rules first would act: the fault
must still be named and answered there, and the unfaulted run must raise no alarm.

``python -m tests.benchmarks.fault_gym --out FOLDER --logs tests/assets/fault-gym.json`` writes them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.types import Action, EvaluationRecord, Knobs, Snapshot, StepRecord
from policies.detectors import detect
from policies.rules import RulesPolicy
from tests.support.builders import make_checkpoint, make_pair, make_snapshot

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
        evaluations=tuple(
            EvaluationRecord(**look | {"ci95": tuple(look["ci95"]), "score": look["accuracy"]}) for look in log["dev"]
        ),
        paired_dev=tuple(make_pair(**pair) for pair in log["paired"]),
        checkpoints=tuple(make_checkpoint(look["step"]) for look in log["dev"]),
    )
    return replace(snapshot, bounds=snapshot.bounds | WIDE)


def alarms(snapshot: Snapshot) -> set[str]:
    return {finding.kind for finding in detect(snapshot) if finding.severity in ("warning", "severe")}


CASES: dict[str, tuple[set[str], Action]] = {
    "lr-x10": ({"dev_drop"}, Action("rollback", {"learning_rate": 1e-4}, 0)),
    "lr-by-100": ({"no_op_learning_rate", "learning_rate"}, Action("rollback", {"learning_rate": 1e-4}, 0)),
    "max-tokens": ({"truncation"}, Action("set", {"max_tokens": 40})),
    "cold": ({"collapse"}, Action("set", {"temperature": 1.0})),
    "hot": ({"chaos"}, Action("set", {"temperature": 1.0})),
    "all-hard": ({"poor_prompts"}, Action("focus", {"focus": 0.5})),
    "all-easy": ({"poor_prompts"}, Action("focus", {"focus": 0.5})),
    "group-2": ({"small_groups"}, Action("set", {"group_size": 4})),
    "beta": ({"anchored"}, Action("set", {"beta": 0.05})),
    "raises": ({"errored"}, Action("stop")),
    "exploited": ({"gamed"}, Action("stop")),
    "pays-all": ({"pays_everyone"}, Action("stop")),
}


@pytest.mark.parametrize("fault", CASES)
def test_a_fault_of_a_real_run_is_named_and_answered(fault: str) -> None:
    kinds, action = CASES[fault]
    snapshot = load_snapshot(fault)
    assert alarms(snapshot) & kinds
    decided = RulesPolicy().decide(snapshot).action
    assert (decided.kind, decided.argument) == (action.kind, action.argument)
    assert dict(decided.changes) == pytest.approx(dict(action.changes), rel=0.05)


def test_a_healthy_run_raises_no_alarm_at_any_step() -> None:
    whole = load_snapshot("none")
    for n in range(1, len(whole.steps) + 1):
        steps = whole.steps[:n]
        snapshot = replace(whole, steps=steps, step=n, steps_done=n, paired_dev=())
        assert not alarms(replace(snapshot, evaluations=tuple(e for e in whole.evaluations if e.step <= n))), n
