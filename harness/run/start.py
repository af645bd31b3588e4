"""Start a new run, or continue a stopped or killed one from its newest intact checkpoint.

Everything is checked before anything is created or changed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from harness.checks.gate import Passage
from harness.checks.inputs import Inputs, check_policy, keep_splits
from harness.checks.trust import SIGNATURE, load_trusted, sign
from harness.config.changes import Changes, check_changes, check_silent, compute_changes, find_measured
from harness.config.load import apply_overrides, parse_spec
from harness.config.schema import OutputSpec, RunSpec
from harness.core.formatting import format_changes
from harness.core.liveness import refuse_running, was_restarted
from harness.core.paths import database_path, database_url
from harness.errors import InputError
from harness.run.answerers import check_all_judges
from harness.run.card import write_card
from harness.run.checkpoints import Checkpoints
from harness.run.parts import Parts, build_parts
from harness.run.replay import check_same
from harness.run.runner import Run
from harness.store.opening import free_name, open_store, refuse_taken
from harness.store.reader import RunReader
from harness.store.writer import RunStore
from harness.types import RunDetails, RunRecord
from harness.views.groups import is_done
from pools.counts import describe_counts


def start_run(
    inputs: Inputs,
    short_name: str,
    passage: Passage | None = None,
    *,
    replay_of: RunDetails | None = None,
    stage: Mapping[str, Any] | None = None,
) -> Run:
    """Load the model, then create the run's record and folder. Raises InputError, and then nothing was created.

    ``passage`` is what preflight found, for the record; ``replay_of`` is the run that this one repeats, ``stage`` what
    the record says of the stage that it is (harness/commands/stages/standing.py).
    """
    spec = inputs.spec
    url = database_url(spec.output.dir, spec.output.db)
    parts = build_parts(inputs)
    spec = _with_date(spec, parts)
    if replay_of is not None:
        check_same(replay_of, parts.manifest)
        parts = replace(parts, manifest=parts.manifest | {"replay_of": replay_of.name})
    store = open_store(url)
    name = spec.name or free_name(url, short_name)
    refuse_taken(store, name)
    folder = Path(spec.output.dir).absolute() / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"name: {folder} exists already, though no run in {url} has that name; grpo adopt {folder}")
    spec = spec.model_copy(update={"name": name})
    place = database_path(url).absolute().parent
    made = {"uid": uuid4().hex, SIGNATURE: sign(spec, place)} | ({"stage": dict(stage)} if stage else {})
    folder.mkdir(parents=True, exist_ok=True)  # first: what a kill leaves then is empty, and no run without a folder
    run_id = store.create_run(
        name=name,
        seed=spec.seed,
        policy=spec.policy.kind,
        spec=spec.model_dump(mode="json"),
        manifest=parts.manifest | (passage.manifest if passage else {}) | made,
        folder=os.path.relpath(folder, place),
        knobs=parts.knobs,
        bounds=parts.bounds,
        graded=find_graded(spec, passage),
    )
    write_card(folder, store.load_run(run_id))
    keep_splits(spec, inputs.splits)
    if spec.note:
        store.record_event(run_id, 0, "info", spec.note)
    if inputs.counts.noteworthy or inputs.counts.layout:
        level = "warning" if inputs.counts.noteworthy else "info"
        store.record_event(run_id, 0, level, f"pool: {describe_counts(inputs.counts)}")
    for level, text in passage.events if passage else ():
        store.record_event(run_id, 0, level, text)
    return Run(replace(parts, inputs=replace(inputs, spec=spec)), store, run_id)


def _with_date(spec: RunSpec, parts: Parts) -> RunSpec:
    """Keep the date that prompts show, so that it is the same on a resume."""
    model = spec.model.model_copy(update={"date": parts.loaded.date or spec.model.date})
    return spec.model_copy(update={"model": model})


def find_graded(spec: RunSpec, passage: Passage | None) -> bool | None:
    """Tell whether evaluations are judged by mean reward: as the spec says, else where a judge grades, else as
    preflight found it; None where the first evaluation is to decide."""
    if spec.reward.graded is not None:
        return spec.reward.graded
    if spec.reward.judges:
        return True
    return True if passage and passage.report.graded else None


@dataclass(frozen=True)
class Plan:
    """A run that can be resumed, the spec it continues with, and how that differs from its own."""

    record: RunRecord
    spec: RunSpec
    changes: Changes


def plan_resume(store: RunReader, name: str, overrides: Sequence[str] = ()) -> Plan:
    """Plan how a run continues; ``overrides`` (``section.field=value``) change its spec. Raises InputError when it is
    running, has nothing left to do, or would become another run, when its folder is not below the database's, and when
    its policy or its code cannot be asked here."""
    record = store.find_run(name)
    refuse_running(record.name, record.status, record.pid, record.host, record.process, record.heartbeat)
    folder = store.folder_of(record)
    store.check_run(record)
    before = load_trusted(store, record).model_dump(mode="json")
    details = store.load_run(record.id)
    spec = parse_spec(apply_overrides(details.spec, overrides))
    changes = compute_changes(before, spec.model_dump(mode="json"))
    check_changes(record.name, changes)
    if record.status == "finished" and record.last_step >= spec.budget.steps:
        raise InputError(
            f"{record.name} has taken all {spec.budget.steps} steps of its budget; "
            f"grpo resume {record.name} --steps {spec.budget.steps * 2} continues"
        )
    parent = (details.manifest.get("stage") or {}).get("parent")
    if parent and not Path(spec.model.name).is_dir():
        raise InputError(
            f"{record.name} began with step {parent['step']} of {parent['run']}, which is not at {spec.model.name} any "
            "more: put that folder back"
        )
    check_policy(record.policy, store, spec)
    check_all_judges(spec)
    # Where the run lies now, which may not be where it was begun.
    place = OutputSpec(dir=str(folder.parents[record.name.count("/")]), db=store.url)
    return Plan(record, spec.model_copy(update={"output": place}), changes)


def resume_run(
    store: RunStore,
    plan: Plan,
    inputs: Inputs,
    *,
    accepted: Collection[str] = (),
    passage: Passage | None = None,
) -> Run:
    """Continue a stopped or killed run from its newest intact checkpoint; ``inputs`` are those of the plan's spec.

    ``accepted`` names what may differ though the spec does not say so: reward, data. ``passage`` as in start_run.
    Raises InputError, and then the run is as it was.
    """
    record, spec, changes = plan.record, inputs.spec, dict(plan.changes)
    row = store.load_run(record.id)
    parts = build_parts(inputs)
    spec = _with_date(spec, parts)  # a run of before the spec had one
    changes |= check_silent(record.name, row.manifest, parts.manifest, changes, accepted)
    measured = find_measured(changes)
    checkpoints = Checkpoints(store, record.id, Path(row.folder) / "checkpoints", keep=1)
    newest = checkpoints.find_newest_behind(row.weights_step)
    era = {"weights_step": newest.step, "changes": measured} if newest and measured else None
    made = {
        "missing": row.manifest.get("missing", ""),
        "uid": row.manifest.get("uid") or uuid4().hex,
        SIGNATURE: sign(spec, store.path.absolute().parent),
        **({"stage": row.manifest["stage"]} if "stage" in row.manifest else {}),
    }
    # One transaction with becoming the driver: another resume may have been faster, and an era is begun once.
    store.adopt_run(
        record.id,
        era=era,
        restarted=was_restarted(),
        spec=spec.model_dump(mode="json") | {"output": row.spec.get("output", {})},
        manifest=(parts.manifest if changes else row.manifest) | (passage.manifest if passage else {}) | made,
        bounds={knob: list(pair) for knob, pair in parts.bounds.items()},
        **({"graded": find_graded(spec, passage)} if era else {}),
    )
    write_card(Path(row.folder), store.load_run(record.id))
    keep_splits(spec, inputs.splits)
    if changes:
        text = f"resumed with {format_changes(changes)}" + (": a new era, nothing before is compared" if era else "")
        store.record_event(record.id, row.last_step, "warning" if era else "info", text)
    for level, text in passage.events if passage else ():
        store.record_event(record.id, row.last_step, level, text)
    for what in ("threads", "versions"):
        if row.manifest.get(what) != parts.manifest[what]:
            text = f"{what} differ from when the run began, so it does not continue bit for bit"
            store.record_event(record.id, row.last_step, "warning", text)
    own_end = spec.kind == "sft" or "stage" in row.manifest
    return Run(parts, store, record.id, unfinished=own_end and not is_done(store, row))
