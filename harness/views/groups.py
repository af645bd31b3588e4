"""The runs of a group: its stages in their order, each with its newest run, and whether that is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.store.reader import RunReader
from harness.types import RunDetails, RunRecord, Status


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


def is_done(store: RunReader, run: RunRecord) -> bool:
    """Tell whether a stage is done: its budget is spent, or its decision policy stopped it. One that a person, Ctrl-C
    or a fault stopped is not."""
    if run.status != "stopped":
        return run.status == "finished"
    logged = store.load_decisions_at(run.id, run.last_step + 1)
    last = logged[-1] if logged else None
    # The reason, since a run that was continued after such a stop and then interrupted ended for another.
    return (
        last is not None
        and last.action.kind == "stop"
        and last.refused is None
        and last.source != "manual"
        and run.stop_reason == (last.evidence or f"stopped by {last.source}")
    )


def find_newest(runs: Mapping[str, RunDetails]) -> RunDetails:
    """Find the newest of the runs of a group, one or more, whose record says what its stages are now."""
    return max(runs.values(), key=lambda run: run.id)


def load_group(store: RunReader, group: str) -> tuple[StageRecord, ...]:
    """Load the stages of a group in their order, as the newest of its runs has them; none of what is no group."""
    runs = find_stage_runs(store, group)
    if not runs:
        return ()
    records = []
    for one in find_newest(runs).manifest["stage"]["stages"]:
        record, run = StageRecord(one["name"], one["from"]), runs.get(one["name"])
        if run is not None:
            record = StageRecord(one["name"], one["from"], run.id, run.status, store.best_score(run.id))
        records.append(record)
    return tuple(records)
