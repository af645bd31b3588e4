"""Start a new run: everything is checked before its record and folder are created."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.checks.gate import Passage
from harness.checks.inputs import Inputs, keep_splits
from harness.core.paths import database_url
from harness.errors import InputError
from harness.run.parts import build_parts
from harness.run.replay import check_same
from harness.run.runner import Run
from harness.store.opening import free_name, open_store, refuse_taken
from harness.types import RunDetails


def start_run(
    inputs: Inputs,
    short_name: str,
    passage: Passage | None = None,
    *,
    replay_of: RunDetails | None = None,
) -> Run:
    """Load the model, then create the run's record and folder. Raises InputError, and then nothing was created.

    ``passage`` is what preflight found, for the record; ``replay_of`` is the run that this one repeats.
    """
    spec = inputs.spec
    url = database_url(spec.output.dir, spec.output.db)
    parts = build_parts(inputs)
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
    keep_splits(spec, inputs.splits)
    if spec.note:
        store.record_event(run_id, 0, "info", spec.note)
    for level, text in passage.events if passage else ():
        store.record_event(run_id, 0, level, text)
    return Run(replace(parts, inputs=replace(inputs, spec=spec)), store, run_id, resumed=False)
