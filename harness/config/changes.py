"""What may change when a run is resumed, and what such a change does to comparisons.

A run goes on bit for bit only with the spec, pool and reward it began with. Anything else must be said. What is
measured or learned from differently begins a new *era*: rewards, dev scores and the best checkpoint of the time
before are kept in the record, but nothing is compared with them any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from harness.errors import InputError

FIXED = ("kind", "name", "seed", "model", "lora", "warmstart", "sft", "output")
"""Sections that make a run what it is."""
UNMEASURED = frozenset(
    {
        "evaluate.every",
        "evaluate.batch",
        "trainer.micro_batch",
        "trainer.signal_only",
        "reward.workers",
        "reward.startup_limit",
    }
)
WITHOUT_EFFECT = frozenset(
    {"budget.price_per_hour", "budget.usd", "model.threads", "reward.workers", "reward.startup_limit"}
)
"""What a run that has ended would have come to the same with."""
ERA_SECTIONS = ("reward", "judge", "pool", "trainer", "evaluate")
ACCEPTABLE = {"reward": "reward_sha256", "data": "data_sha256"}
"""What ``--accept`` names, and the hash in the manifest that tells whether it changed."""
SECTIONS_OF = {"reward": ("reward.", "judge."), "data": ("pool.",)}

Changes = dict[str, dict[str, Any]]


def compute_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """Compute ``{"section.field": {"from": ..., "to": ...}}`` of two specs as plain trees."""
    old, new = (flatten(_without_texts(tree), depth=2) for tree in (before, after))
    return {
        name: {"from": old.get(name), "to": new.get(name)}
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    }


def _without_texts(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec with the fields of judges one by one, without what is kept of their rubrics: whether that changed
    tells the hash of the reward."""
    judges = {
        f"{name}.{field}": value
        for name, judge in tree.get("judge", {}).items()
        for field, value in judge.items()
        if field != "text"
    }
    return {**tree, "judge": judges}


def check_changes(run: str, changes: Changes) -> None:
    """Raise InputError for a change that would make it another run."""
    for name, change in changes.items():
        section, _, field = name.partition(".")
        if section in FIXED and name != "model.threads":
            raise InputError(
                f"{name}: cannot change on a resume, it makes the run what it is; start a new run with grpo run"
            )
        if name == "policy.kind":
            kind = change["to"]
            raise InputError(f"{name}: switched between steps: grpo act {run} policy {kind} --no-wait, then resume")
        if section == "knobs":
            raise InputError(
                f"{name}: hyperparameters change between steps: grpo act {run} set {field}=... --no-wait, then resume"
            )


def check_silent(
    run: str, old: Mapping[str, Any], new: Mapping[str, Any], changes: Changes, accepted: Collection[str]
) -> Changes:
    """Find what differs between two manifests though the spec does not say so, as changes. Raises InputError unless
    each is in ``accepted``."""
    found: Changes = {}
    for what, key in ACCEPTABLE.items():
        said = any(name.startswith(SECTIONS_OF[what]) for name in changes)
        if not old.get(key) or old[key] == new.get(key) or said:  # "": not known (harness.store.migrations)
            continue
        if what not in accepted:
            raise InputError(
                f"{what}: the {_describe(what, old, new)} since {run} was last driven; "
                f"grpo resume {run} --accept {what} continues with it in a new era, or put back what was there"
            )
        found[what] = {"from": str(old.get(key))[:12], "to": str(new.get(key))[:12]}
    return found


def find_measured(changes: Changes) -> Changes:
    """Find those that begin an era: what was measured before them cannot be compared with what comes after."""
    return {
        name: change
        for name, change in changes.items()
        if name in ACCEPTABLE or (name.partition(".")[0] in ERA_SECTIONS and name not in UNMEASURED)
    }


def _describe(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if what == "reward":
        what = "code of the reward, or a judge's rubric," if new.get("judges") else "code of the reward"
        return f"{what} has changed{_describe_program(old, new)}"
    before, after = (sum(m.get("split_sizes", {}).values()) for m in (old, new))
    return f"pool's prompts or ground truths have changed ({before:,} rows then, {after:,} now)"


def _describe_program(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Say by which versions of this program two manifests were written, where they differ: rewards of ours change with
    it."""
    names = [f"commit {m['git_commit'][:7]}" if m.get("git_commit") else "" for m in (old, new)]
    if not all(names) or names[0] == names[1]:
        versions = [m.get("versions", {}).get("grpo-harness") for m in (old, new)]
        names = [f"version {version}" if version else "" for version in versions]
    return f" ({names[0]} of this program then, {names[1]} now)" if all(names) and names[0] != names[1] else ""


def flatten(tree: Mapping[str, Any], *, depth: int | None = None) -> dict[str, Any]:
    """Name the values of a spec by where they stand, ``section.field``, at most ``depth`` names deep; what lies deeper
    stays a tree, and an empty one has no values to name."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and depth != 1:
            below = flatten(value, depth=depth and depth - 1)
            flat |= {f"{name}.{inner}": each for inner, each in below.items()}
        else:
            flat[name] = value
    return flat
