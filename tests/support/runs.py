"""Small runs within this process, of the real model, trainer and store."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.checks.inputs import check_policy, prepare_inputs
from harness.config.load import parse_spec
from harness.config.schema import PolicySpec, RunSpec
from harness.core.paths import database_url
from harness.run import start
from harness.run.runner import Run
from harness.store.history import load_history
from harness.store.opening import find_store
from harness.store.writer import RunStore
from harness.views.review import build_review
from tests.support.program import MINI

KEY = "sk-ant-api03-NobodyMaySeeThis-0123456789"
"""Of an API that a scripted server speaks."""
REWARD = "def reward(completion, ground_truth):\n    return {value}\n"
"""A reward in a file of its own."""


def start_run(spec: RunSpec, name: str, *, replay_of: Mapping[str, Any] | None = None) -> Run:
    """Start a run of a checked spec, without preflight."""
    kind = check_policy(spec.policy.kind, find_store(database_url(spec.output.dir, spec.output.db)), spec)
    spec = spec.model_copy(update={"policy": PolicySpec(kind=kind)})
    return start.start_run(prepare_inputs(spec), name, replay_of=replay_of)


def resume_run(store: RunStore, name: str, *, overrides: Sequence[str] = (), accepted: Collection[str] = ()) -> Run:
    """Resume a run with ``overrides`` of its spec, without preflight."""
    plan = start.plan_resume(store, name, overrides)
    return start.resume_run(store, plan, prepare_inputs(plan.spec), accepted=accepted)


def start_mini(folder: Path, *, name: str = "s", seed: int = 0, **sections: dict[str, Any]) -> Run:
    """Create the mini run without a warm start, under the policy ``fixed``, or as ``sections`` say."""
    tree = tomllib.loads(MINI) | {"name": name, "seed": seed, "output": {"dir": str(folder)}}
    tree |= {"warmstart": {"steps": 0}, "policy": {"kind": "fixed"}}
    for section, fields in sections.items():
        tree[section] = tree.get(section, {}) | fields
    return start_run(parse_spec(tree), name)


def start_night(folder: Path, *, name: str = "night", **sections: Any) -> Run:
    """Create the same under the policy ``llm``."""
    return start_mini(folder, name=name, **{"policy": {"kind": "llm"}, **sections})


def review(run: Run) -> dict[str, Any]:
    """Build the document of ``grpo review --json``."""
    return build_review(load_history(run.store, run.name))
