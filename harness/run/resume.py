"""TODO"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from harness.config.changes import Changes, check_changes, compute_changes
from harness.config.load import apply_overrides, parse_spec
from harness.config.schema import RunSpec
from harness.core.liveness import refuse_running
from harness.errors import InputError
from harness.store.reader import RunReader
from harness.types import RunRecord


def plan_resume(store: RunReader, name: str, overrides: Sequence[str]) -> tuple[RunRecord, RunSpec, Changes]:
    """The run, the spec it would go on with, and how that differs from its own. Raises InputError when it lives, has
    nothing left to do, or would become another run."""
    record = store.find_run(name)
    refuse_running(record.name, record.status, record.pid, record.host, record.process, record.heartbeat)
    tree = store.load_run(record.id)["spec"]
    spec = parse_spec(apply_overrides(copy.deepcopy(tree), overrides))
    changes = compute_changes(parse_spec(tree).model_dump(mode="json"), spec.model_dump(mode="json"))
    check_changes(record.name, changes)
    if record.status == "finished" and record.last_step >= spec.budget.steps:
        raise InputError(
            f"{record.name} has taken all {spec.budget.steps} steps of its budget; "
            f"grpo resume {record.name} --steps {spec.budget.steps * 2} goes on"
        )
    return record, spec, changes
