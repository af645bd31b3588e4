"""The runs of a group: its stages in their order, each with its newest run."""

from __future__ import annotations

from dataclasses import dataclass

from harness.store.reader import RunReader
from harness.types import RunDetails, Status


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A stage of a group and where it stands: ``status`` is None before it began, ``best`` its best score on dev."""

    name: str
    parent: str
    run_id: int = 0
    status: Status | None = None
    best: float | None = None


def group_of(run: str) -> str:
    """Return the group of the run of that name, "" where it is of none."""
    group, slash, _ = run.partition("/")
    return group if slash else ""


def find_stage_runs(store: RunReader, group: str) -> dict[str, RunDetails]:
    """Find the newest run of each stage of a group, by the stage's name."""
    found: dict[str, RunDetails] = {}
    for record in store.list_runs():
        if group_of(record.name) == group:
            details = store.load_run(record.id)
            if stage := details.manifest.get("stage"):
                found[stage["name"]] = details
    return found


def load_group(store: RunReader, group: str) -> tuple[StageRecord, ...]:
    """Load the stages of a group in their order, as the newest of its runs has them; none of what is no group."""
    runs = find_stage_runs(store, group)
    if not runs:
        return ()
    newest = max(runs.values(), key=lambda run: run.id)
    records = []
    for one in newest.manifest["stage"]["stages"]:
        record, run = StageRecord(one["name"], one["from"]), runs.get(one["name"])
        if run is not None:
            record = StageRecord(one["name"], one["from"], run.id, run.status, store.best_score(run.id))
        records.append(record)
    return tuple(records)
