"""The runs of a group: which stage is done, which is to be taken or continued, and from which weights.

Each stage of a spec is a run GROUP/STAGE. The record of a run says of which stage it is (``manifest["stage"]``), from
which checkpoint it began, and what the other stages are, so a group is resumed from the record alone. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.config.changes import WITHOUT_EFFECT, compute_changes
from harness.config.names import KNOWN_MODELS
from harness.config.schema import RunSpec
from harness.config.stages import BASE, Stage
from harness.core.formatting import format_changes
from harness.errors import InputError
from harness.store.reader import RunReader
from harness.types import RunDetails
from harness.views.groups import is_done

if TYPE_CHECKING:
    from harness.store.writer import RunStore

ADAPTER = "adapter_config.json"
OWN = ("name", "note", "output", "alerts", "prices")
"""What of a spec does not make another stage of it."""


@dataclass(frozen=True)
class Standing:
    """Where a stage stands: ``done``, to be taken (``new``), to be continued (``resume``), or done otherwise than it
    would be now (``changed``, and ``why``). ``run`` is its newest run."""

    state: Literal["done", "new", "resume", "changed"]
    run: RunDetails | None = None
    why: str = ""


def find_standing(
    store: RunReader, stage: Stage, spec: RunSpec, runs: Mapping[str, RunDetails], data_sha256: str
) -> Standing:
    """Find where a stage stands; ``spec`` is its own, with its steps settled, ``data_sha256`` of the pool now."""
    run = runs.get(stage.name)
    if run is None:
        return Standing("new")
    made = run.manifest["stage"]
    if made["parent"] != describe_parent(store, stage, runs):
        return Standing("changed", run, f"its parent {stage.parent} has changed since")
    # The model is the parent's, which was compared.
    before, after = ({**tree, "model": None} for tree in (made["spec"], spec.model_dump(mode="json")))
    changes = compute_changes(*({k: v for k, v in tree.items() if k not in OWN} for tree in (before, after)))
    if stage.parent == BASE:
        changes |= compute_changes({"model": made["spec"]["model"]}, {"model": spec.model_dump(mode="json")["model"]})
    changes = {name: change for name, change in changes.items() if name not in WITHOUT_EFFECT}
    if changes:
        return Standing("changed", run, f"it was made with another spec ({format_changes(changes)})")
    if run.manifest.get("data_sha256") not in ("", None, data_sha256):
        return Standing("changed", run, "the prompts of its pool have changed since")
    return Standing("done", run, _tell_continued(run)) if is_done(store, run) else Standing("resume", run)


def _tell_continued(run: RunDetails) -> str:
    """Tell how a run was continued by hand otherwise than its stage says, "" for not at all."""
    made = {**run.manifest["stage"]["spec"]}
    inherited = ("model", "lora", *OWN)
    changes = compute_changes(*({k: v for k, v in tree.items() if k not in inherited} for tree in (made, run.spec)))
    return f"continued with {format_changes(changes)}" if changes else ""


def describe_parent(store: RunReader, stage: Stage, runs: Mapping[str, RunDetails]) -> dict[str, Any] | None:
    """Return what a stage begins with, for its record: None for the model of the spec."""
    if stage.parent == BASE or (run := runs.get(stage.parent)) is None:
        return None
    return {"run": run.name, "uid": run.manifest.get("uid"), "step": store.best_step(run.id)}


def inherit(store: RunStore, stage: Stage, spec: RunSpec, runs: Mapping[str, RunDetails]) -> RunSpec:
    """Return the spec with the weights of the parent's best checkpoint as its model, and keep that checkpoint for good.

    An adapter is trained on, on the base that it was made for; whole weights stay so unless the stage asks for an
    adapter. Raises InputError where the parent has no checkpoint.
    """
    if stage.parent == BASE:
        return spec
    run = runs[stage.parent]
    best = next((c for c in store.load_checkpoints(run.id) if c.best), None)
    if best is None:
        raise InputError(f"stage {stage.name}: {run.name} has no checkpoint that was evaluated on dev")
    if not best.name:  # a named one is never deleted
        store.record_checkpoint(run.id, replace(best, name=f"for-{stage.name}"))
    before = RunSpec.model_validate(run.spec)
    folder = Path(best.path).absolute()
    model = {"name": str(folder), "chat": before.model.wants_chat, "revision": None, "date": before.model.date}
    lora = spec.lora
    if not (folder / ADAPTER).is_file():
        model["base"] = None
        lora = lora if lora.rank is not None else lora.model_copy(update={"rank": 0})
    else:
        model["base"] = before.model.base or _find_base(before.model.name)
    return spec.model_copy(update={"model": spec.model.model_copy(update=model), "lora": lora})


def _find_base(name: str) -> str | None:
    """Return the name of the model under an adapter that was put on it; None where the adapter itself says it."""
    own = name not in KNOWN_MODELS and (Path(name) / ADAPTER).is_file()
    return None if own else name


def free_group(names: Sequence[str], short_name: str) -> str:
    """Return ``short_name-1``, or the next number that no run and no group has."""
    taken = {name.partition("/")[0] for name in names}
    return next(name for number in range(1, 10**6) if (name := f"{short_name}-{number}") not in taken)


def free_run(names: Sequence[str], group: str, stage: str) -> str:
    """Return GROUP/STAGE, or with a number where a run has that name already."""
    name = f"{group}/{stage}"
    numbered = (f"{name}-{number}" for number in range(2, 10**6))
    return name if name not in names else next(other for other in numbered if other not in names)
