"""Runs in this process, from a spec to a Run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from harness.checks.inputs import prepare_inputs
from harness.config.schema import RunSpec
from harness.run import resume, start
from harness.run.runner import Run
from harness.store.writer import RunStore


def start_run(spec: RunSpec, name: str, *, replay_of: Mapping[str, Any] | None = None) -> Run:
    """Start a run of a checked spec, without preflight."""
    return start.start_run(prepare_inputs(spec), name, replay_of=replay_of)


def resume_run(store: RunStore, name: str, *, overrides: Sequence[str] = (), accepted: Collection[str] = ()) -> Run:
    """Resume a run with ``overrides`` of its spec, without preflight."""
    plan = resume.plan_resume(store, name, overrides)
    return resume.resume_run(store, plan, prepare_inputs(plan.spec), accepted=accepted)
