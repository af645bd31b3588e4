"""Compare the stages of groups by the CSVs of their scores (harness/commands/stages/scores.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.stages import BASE
from harness.core.step_metrics import is_graded
from harness.errors import InputError
from harness.models.evaluate import read_csv
from harness.views.answers import Answered, build_answer_comparison
from harness.views.groups import find_newest, find_stage_runs
from harness.views.seeds import build_groups_comparison

if TYPE_CHECKING:
    from harness.store.reader import RunReader
    from harness.types import RunDetails

SPLIT = "test"


def compare_groups(reader: RunReader, groups: Sequence[str]) -> dict[str, Any]:
    """Compare the stages of several groups, which are seeds of one pipeline. Raises InputError."""
    each = {group: compare_group(reader, group) for group in groups}
    stages = {group: find_newest(find_stage_runs(reader, group)).manifest["stage"]["stages"] for group in groups}
    return build_groups_comparison(each, stages)


def compare_group(reader: RunReader, group: str) -> dict[str, Any]:
    """Compare base and stages of a group. Raises InputError where there are no scores yet."""
    runs = find_stage_runs(reader, group)
    newest = find_newest(runs)
    described: Sequence[Mapping[str, Any]] = newest.manifest["stage"]["stages"]
    folder = _find_scores(reader, group, newest)
    index = folder / "scores.json"
    of: dict[str, Any] = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
    answered, notes = [], []
    for name, parent in [(BASE, None), *((one["name"], one["from"]) for one in described)]:
        run = runs.get(name)
        file = folder / f"{name}.csv"
        scored = read_csv(file) if file.is_file() else None
        if scored is None:
            notes.append(f"{name} has no scores yet: grpo resume {group}")
            continue
        whose = of.get(name, {})
        if run is not None and whose.get("run", run.name) != run.name:
            notes.append(f"the scores of {name} are those of {whose['run']}; {run.name} has none yet")
        kind = "base" if run is None else run.kind
        who = f"{whose['run']}@{whose['step']}" if whose.get("run") else whose.get("model", {}).get("name", name)
        more = {"kind": kind, "run": run and run.name}
        shares = scored.thinking_proportion, scored.answer_proportion
        answered.append(Answered(name, who, scored.examples, *shares, parent=parent, more=more))
    if not answered or answered[0].name != BASE:
        raise InputError(
            f"{group} has no scores yet: its stages write {folder} when they are done; grpo resume {group}"
        )
    graded = described[0]["spec"].get("reward", {}).get("graded")
    if graded is None:
        graded = is_graded([example.completion.score for each in answered for example in each.examples])
    document = build_answer_comparison(answered, graded=graded, split=SPLIT)
    return {"group": group, "seed": newest.seed, **document, "notes": notes}


def _find_scores(reader: RunReader, group: str, run: RunDetails) -> Path:
    """Find the folder of the scores: beside the database, or else where the runs were made."""
    beside = reader.path.absolute().parent / group / "scores"
    made = Path(run.folder).parent / "scores"
    return made if made.is_dir() and not beside.is_dir() else beside
