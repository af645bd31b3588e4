"""A spec with stages: several runs, each from the model of another, out of one file.

[knobs]                      # sections above the stages hold for all of them
temperature = 0.9
[[stage]]
name = "learned"             # of the run: GROUP/learned
kind = "sft"
examples = 256               # of a stage of kind sft, fields of [sft] may stand right here
[[stage]]
name = "tuned"
from = "learned"             # default: the stage before; "base" is [model]
knobs.max_tokens = 512       # any section
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.load import apply_overrides, load_tree, parse_spec
from harness.config.schema import RunSpec, SftSpec, is_run_name, nearest
from harness.errors import InputError

STAGE = "stage"
BASE = "base"
RESERVED = (BASE, "best", "latest")
"""Names that mean something else where a model is named."""
FOR_ALL = ("name", "output", "seed")
"""What a stage has not for itself: of different seeds, an adapter of one stage would not fit the model of another."""


@dataclass(frozen=True)
class Stage:
    """A run of a group. ``spec`` is checked, and has the model of [model] still; ``parent`` is the stage whose best
    checkpoint it begins with, or BASE."""

    name: str
    parent: str
    spec: RunSpec


@dataclass(frozen=True)
class Stages:
    """The stages of a spec in their order: each stands after its parent. ``name`` is the spec's, "" where it has none;
    ``short_name`` that of its recipe or file."""

    name: str
    short_name: str
    stages: tuple[Stage, ...]

    def find(self, name: str) -> Stage:
        """Return a stage by name. Raises InputError."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise InputError(f"--stage: no stage named {name}{nearest(name, [stage.name for stage in self.stages])}")


def load_stages(source: str | None, overrides: Sequence[str] = ()) -> Stages | None:
    """Load the stages of a spec, None where it has none. ``overrides`` hold for all of them,
    ``STAGE.section.field=...`` for one. ``source`` and errors as load_spec."""
    tree, short_name = load_tree(source)
    if STAGE not in tree:
        return None
    return Stages(str(tree.get("name", "")), short_name, expand(tree, overrides))


def expand(tree: Mapping[str, Any], overrides: Sequence[str] = ()) -> tuple[Stage, ...]:
    """Make the stages of a plain tree. Raises InputError."""
    given = tree[STAGE]
    if not isinstance(given, list) or not given or not all(isinstance(one, dict) for one in given):
        raise InputError("stage: write each as [[stage]], with a name")
    names = [_check_name(one.get("name"), i) for i, one in enumerate(given)]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"stage: two are named {name}; each needs a name of its own")
    for_all = [override for override in overrides if _stage_of(override) not in names]
    above = {name: value for name, value in tree.items() if name not in (STAGE, "name")}
    stages: list[Stage] = []
    for name, one in zip(names, given, strict=True):
        for_one = [override.partition(".")[2] for override in overrides if _stage_of(override) == name]
        parent = _check_parent(name, one.get("from", stages[-1].name if stages else BASE), stages)
        stages.append(Stage(name, parent, _make_spec(name, above, one, for_all, for_one)))
    return tuple(stages)


def _make_spec(
    name: str, above: Mapping[str, Any], given: Mapping[str, Any], for_all: Sequence[str], for_one: Sequence[str]
) -> RunSpec:
    own = {field: value for field, value in given.items() if field not in ("name", "from")}
    for field in FOR_ALL[1:]:
        if field in own:
            raise InputError(f"stage {name}: {field} holds for all stages; write it above them")
    kind = own.get("kind", above.get("kind"))
    if kind == "sft":
        short = {field: own.pop(field) for field in SftSpec.model_fields if field in own}
        own["sft"] = {**short, **own.get("sft", {})}
    one: dict[str, Any] = apply_overrides(own, for_one)
    every: dict[str, Any] = apply_overrides({}, for_all)
    tree = _merge(_merge(above, one), every)
    # What is said of one stage on the command line beats what is said there of all.
    tree = _merge(tree, apply_overrides({}, for_one))
    if kind == "sft":
        # Steps of the other stages are not for one that says in [sft] how long it is, nor is their LLM.
        said = {"steps", "epochs"} & tree.get("sft", {}).keys()
        if said and not any("steps" in part.get("budget", {}) for part in (one, every)):
            tree["budget"] = {field: value for field, value in tree.get("budget", {}).items() if field != "steps"}
        if tree.get("policy", {}).get("kind") == "llm" and "kind" not in one.get("policy", {}):
            tree["policy"] = {**tree["policy"], "kind": "rules"}
    try:
        return parse_spec(tree)
    except InputError as error:
        raise InputError(f"stage {name}: {error}") from None


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Put the fields of ``above`` over those of ``below``, section by section."""
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        merged[name] = _merge(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return json.loads(json.dumps(merged, default=str))  # type: ignore[no-any-return]  # nothing is shared


def _check_name(name: Any, place: int) -> str:
    if not isinstance(name, str) or not name:
        raise InputError(f"stage: number {place + 1} has no name; its run is GROUP/NAME")
    if name in RESERVED or name in RunSpec.model_fields:
        raise InputError(f"stage: {name} means something else; take another name")
    if not is_run_name(name):
        raise InputError(f"stage: {name!r} must be letters, digits, '-', '_' or '.', at most 80 of them")
    return name


def _check_parent(name: str, parent: Any, before: Sequence[Stage]) -> str:
    names = [BASE, *(stage.name for stage in before)]
    if parent not in names:
        raise InputError(f"stage {name}: from is {parent!r}, which is no stage before it: {', '.join(names)}")
    return str(parent)


def _stage_of(override: str) -> str:
    return override.partition("=")[0].partition(".")[0].strip()


def describe(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """Return the stages as plain JSON, for the record of each of their runs: of their specs what was given."""
    return [
        {"name": s.name, "from": s.parent, "spec": s.spec.model_dump(mode="json", exclude_unset=True)} for s in stages
    ]


def load_described(described: Sequence[Mapping[str, Any]]) -> tuple[Stage, ...]:
    """Load what ``describe`` returned. Raises InputError."""
    return tuple(Stage(one["name"], one["from"], parse_spec(one["spec"])) for one in described)
