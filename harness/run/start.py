"""A new run: everything is checked before its record and folder are created."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event

from harness.checks.gate import Passage
from harness.checks.inputs import keep_splits
from harness.config.schema import PolicySpec, RunSpec
from harness.core.paths import database_url
from harness.errors import InputError
from harness.monitoring.notifiers import build_hooks
from harness.run.parts import build_parts
from harness.run.policies import check_policy
from harness.run.replay import check_same
from harness.run.runner import Run
from harness.store.opening import check_place, find_store, free_name, open_store, refuse_taken
from harness.types import RunDetails


def start_run(
    spec: RunSpec,
    short_name: str,
    interrupted: Event,
    passage: Passage | None = None,
    *,
    replay_of: RunDetails | None = None,
) -> Run:
    """Check everything, then create the run's record and folder. Raises InputError, and then nothing was created.

    ``passage`` is what preflight found (harness/checks/gate.py), for the record; ``replay_of`` is the run that this one
    is to repeat exactly.
    """
    url = database_url(spec.output.dir, spec.output.db)
    check_place(url, spec.name)
    kind = check_policy(spec.policy.kind, find_store(url))
    build_hooks(spec.alerts.webhook, spec.alerts.command)
    spec = spec.model_copy(update={"policy": PolicySpec(kind=kind)})
    parts = build_parts(spec)
    if replay_of is not None:
        check_same(replay_of, parts.manifest)
        parts = replace(parts, manifest=parts.manifest | {"replay_of": replay_of.name})
    store = open_store(url)
    name = spec.name or free_name(url, short_name)
    refuse_taken(store, name)
    folder = Path(spec.output.dir).absolute() / name
    if folder.exists():
        raise InputError(f"name: {folder} exists already, though no run in {url} has that name; choose another --name")
    spec = spec.model_copy(update={"name": name})
    run_id = store.create_run(
        name=name,
        seed=spec.seed,
        policy=spec.policy.kind,
        spec=spec.model_dump(mode="json"),
        manifest=parts.manifest | (passage.manifest if passage else {}),
        folder=str(folder),
        knobs=parts.knobs,
        bounds=parts.bounds,
    )
    folder.mkdir(parents=True)
    keep_splits(spec, parts.splits)
    if spec.note:
        store.record_event(run_id, 0, "info", spec.note)
    for level, text in passage.events if passage else ():
        store.record_event(run_id, 0, level, text)
    return Run(replace(parts, spec=spec), store, run_id, interrupted, resumed=False)
