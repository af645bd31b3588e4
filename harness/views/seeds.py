"""The same thing done with several seeds: how far its scores spread, of runs and of groups. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.config.changes import flatten
from harness.core.statistics import compute_spread, describe_spread
from harness.errors import InputError

OWN = ("name", "note", "output", "seed")
"""Sections of a spec in which the seeds of one thing may differ."""
SCORES = (("start", "baseline"), ("best", "best"), ("last", "final"))
"""Test scores of a run, as they are called here and in its review."""
SPREAD = ("accuracy", "reward", "thinking_proportion", "answer_proportion", "tokens")
"""What of a stage is told over groups."""


def find_seeds(
    runs: Sequence[Mapping[str, Any]], specs: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any] | None]
) -> list[dict[str, Any]]:
    """Find the sets of two or more ``runs``, summaries of a comparison, that differ in nothing but the seed, and tell
    how their test scores spread; of those with the same seed the first counts.

    ``stages`` are those of the runs' manifests, None of a run that is no stage: the model of one is the weights of its
    parent, and so those of its own seed.
    """
    sets: dict[str, dict[int, Mapping[str, Any]]] = {}
    for run, spec, stage in zip(runs, specs, stages, strict=True):
        sets.setdefault(_identify(spec, stage), {}).setdefault(run["seed"], run)
    return [_tell_set(list(by_seed.values())) for by_seed in sets.values() if len(by_seed) > 1]


def _identify(spec: Mapping[str, Any], stage: Mapping[str, Any] | None) -> str:
    """Write what makes a run what it is but for its seed: equal texts are seeds of each other."""
    chain: list[Mapping[str, Any]] = [spec]
    if stage is not None:
        by_name = {one["name"]: one for one in stage["stages"]}
        chain, name = [stage["spec"]], stage["from"]
        while name in by_name:
            chain.append(by_name[name]["spec"])
            name = by_name[name]["from"]
    return json.dumps([_without_own(part) for part in chain], sort_keys=True, default=str)


def _without_own(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flatten(spec).items() if name.partition(".")[0] not in OWN}


def _tell_set(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "runs": [run["run"] for run in runs],
        "seeds": [run["seed"] for run in runs],
        "metric": runs[0]["heldout"]["metric"],
    }
    for name, key in SCORES:
        told[name] = compute_spread([run["heldout"][key] for run in runs if run["heldout"][key] is not None])
    return told


def describe_seeds(found: Mapping[str, Any]) -> str:
    """Describe a set as ``3 seeds: start 0.031 ± 0.004 (0.03 to 0.04), best 0.512 ± 0.021 (0.49 to 0.53)``."""
    scores = ", ".join(f"{name} {describe_spread(found[name])}" for name, _ in SCORES if found[name])
    return f"{len(found['seeds'])} seeds: {scores or 'no test score yet'}"


# ---------------------------------------------------------------- groups


def build_groups_comparison(
    each: Mapping[str, Mapping[str, Any]], stages: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """Build the document of ``grpo compare GROUP GROUP... --json``. ``each`` are the documents of the groups by name,
    ``stages`` what their records say of the stages (harness/config/stages.py:describe).

    Stages that two groups or more have by name are told over these. Raises InputError where there are none.
    """
    counts = Counter(one["name"] for document in each.values() for one in document["answerers"])
    first = next(iter(each.values()))
    names = [name for name in counts if counts[name] > 1]
    if not set(names) - {first["reference"]}:
        had = "; ".join(f"{group}: {', '.join(one['name'] for one in stages[group])}" for group in each)
        raise InputError(f"compare: these groups have no stage of the same name that is scored in two of them ({had})")
    metrics = {document["metric"] for document in each.values()}
    return {
        "groups": list(each),
        "seeds": {group: document["seed"] for group, document in each.items()},
        "reference": first["reference"],
        "split": first["split"],
        "metric": "accuracy" if len(metrics) > 1 else metrics.pop(),
        "stages": [_tell_stage(name, each) for name in names],
        "differences": _tell_differences(names, each),
        "each": list(each.values()),
        "notes": [*_find_notes(each, stages, counts), *(note for one in each.values() for note in one["notes"])],
    }


def _tell_stage(name: str, each: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    found = {group: one for group, document in each.items() for one in document["answerers"] if one["name"] == name}
    told: dict[str, Any] = {"name": name, "from": next(iter(found.values()))["from"], "groups": list(found)}
    for score in SPREAD:
        told[score] = compute_spread([one[score] for one in found.values() if one[score] is not None])
    return told | {"by_group": {group: {score: one[score] for score in SPREAD} for group, one in found.items()}}


def _tell_differences(names: Sequence[str], each: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    pairs: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for group, document in each.items():
        for found in document["differences"]:
            if found["name"] in names and found["against"] in names:
                pairs.setdefault((found["name"], found["against"]), {})[group] = found
    return [
        {
            "name": name,
            "against": against,
            **{score: _tell_moves([one[score] for one in by_group.values()]) for score in ("accuracy", "reward")},
            "forgotten": compute_spread([len(one["forgotten"]) for one in by_group.values()]),
            "gained": compute_spread([len(one["gained"]) for one in by_group.values()]),
            "by_group": {
                group: {
                    **{score: one[score] for score in ("accuracy", "reward")},
                    "forgotten": len(one["forgotten"]),
                    "gained": len(one["gained"]),
                }
                for group, one in by_group.items()
            },
        }
        for (name, against), by_group in pairs.items()
    ]


def _tell_moves(moved: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Tell how differences spread, and how many are beyond their interval, to which side."""
    verdicts = Counter(one["verdict"] for one in moved)
    counts = {verdict: verdicts[verdict] for verdict in ("better", "worse", "unclear")}
    return {**(compute_spread([one["difference"] for one in moved]) or {}), **counts}


def describe_moves(moves: Mapping[str, Any]) -> str:
    """Describe differences as ``+0.062 ± 0.014, better in 2 of 3, worse in 1``."""
    told = [f"{verdict} in {moves[verdict]}" for verdict in ("better", "worse") if moves[verdict]]
    sd = "" if moves["sd"] is None else f" ± {moves['sd']:.3f}"
    if not told:
        return f"{moves['mean']:+.3f}{sd}, no clear difference in any of {moves['n']}"
    return f"{moves['mean']:+.3f}{sd}, {told[0]} of {moves['n']}{''.join(f', {one}' for one in told[1:])}"


def _find_notes(
    each: Mapping[str, Mapping[str, Any]], stages: Mapping[str, Sequence[Mapping[str, Any]]], counts: Counter[str]
) -> list[str]:
    """Say in which fields the groups differ beside the seed, and which of them have the same seed."""
    notes = []
    fields = {group: _list_fields(stages[group]) for group in each}
    names = dict.fromkeys(name for one in fields.values() for name in one)
    differing = [name for name in names if len({json.dumps(one.get(name), default=str) for one in fields.values()}) > 1]
    if differing:
        values = {name: ", ".join(_tell_value(one.get(name)) for one in fields.values()) for name in differing}
        told = "; ".join(f"{name}: {value}" for name, value in values.items())
        notes.append(f"these are not seeds of one pipeline, they differ in {told}")
    seeds = Counter(document["seed"] for document in each.values())
    for seed, count in seeds.items():
        if count > 1:
            same = [group for group, document in each.items() if document["seed"] == seed]
            notes.append(f"{', '.join(same)} have the same seed, {seed}")
    if alone := [name for name, count in counts.items() if count == 1]:
        notes.append(f"scored in one group alone, and left out: {', '.join(alone)}")
    return notes


def _list_fields(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Name what was given of each stage: ``STAGE.section.field``, and ``STAGE.from``."""
    fields: dict[str, Any] = {}
    for one in stages:
        fields[f"{one['name']}.from"] = one["from"]
        fields |= {f"{one['name']}.{name}": value for name, value in _without_own(one["spec"]).items()}
    return fields


def _tell_value(value: Any) -> str:
    return "unset" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def describe_groups(document: Mapping[str, Any]) -> str:
    """Say in a sentence how each stage stands against the first over all groups."""
    told = [
        f"{found['name']} {describe_moves(found[document['metric']])}"
        for found in document["differences"]
        if found["against"] == document["reference"]
    ]
    name = "Accuracy" if document["metric"] == "accuracy" else "Mean reward"
    return f"{name} against {document['reference']} over {len(document['groups'])} groups: {'; '.join(told)}"
