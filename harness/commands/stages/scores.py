"""Score the models of a group on the same prompts, a CSV each.

runs/GROUP/scores/base.csv, STAGE.csv and scores.json, which says of which weights each is: what is there already for
the same weights and settings is not measured again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.stages import BASE
from harness.core.files import write_whole
from harness.types import no_progress
from harness.views.groups import find_stage_runs, is_done

if TYPE_CHECKING:
    from harness.config.stages import Stage
    from harness.store.writer import RunStore

MEASURED = ("pool", "reward", "judge", "evaluate", "seed")
"""What of a spec says how a model is scored: that of the first stage, for all of them."""


def score_group(
    store: RunStore, group: str, stages: Sequence[Stage], folder: Path, say: Callable[[str], None]
) -> list[str]:
    """Score the base and the best checkpoint of every stage that is done on test, and say each score. Return the names
    of those that were measured now."""
    runs = {name: run for name, run in find_stage_runs(store, group).items() if is_done(store, run)}
    scores = folder / group / "scores"
    scores.mkdir(parents=True, exist_ok=True)
    index = scores / "scores.json"
    known: dict[str, Any] = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
    spec = stages[0].spec
    how = {name: spec.model_dump(mode="json")[name] for name in MEASURED}
    wanted = {BASE: {"model": spec.model_dump(mode="json")["model"], **how}}
    for stage in stages:
        if run := runs.get(stage.name):
            uid, step = run.manifest.get("uid"), store.best_step(run.id)
            wanted[stage.name] = {"run": run.name, "uid": uid, "step": step, **how}
    measured = []
    for name, key in wanted.items():
        file = scores / f"{name}.csv"
        if known.get(name) == key and file.is_file():
            continue
        from harness.checks.inputs import choose_prompts
        from harness.commands.targets import measure
        from harness.models.evaluate import write_csv
        from harness.models.runtime import release_memory
        from harness.run.answerers import load_checkpoint, load_start

        release_memory()
        if name == BASE:
            no_warm_start = spec.warmstart.model_copy(update={"steps": 0})
            target = load_start(spec.model_copy(update={"warmstart": no_warm_start}), no_progress)
        else:
            target = load_checkpoint(store, str(key["run"]), "best")
        alike = target.spec.model_copy(update={section: getattr(spec, section) for section in MEASURED})
        found = measure(replace(target, spec=alike), choose_prompts(alike, split="test"), progress=no_progress)
        with write_whole(file) as part:
            write_csv(part, found.examples, found.thinking_tags, found.functions)
        known[name] = key
        with write_whole(index) as part:
            part.write_text(json.dumps(known, indent=1), encoding="utf-8")
        say(f"  {name}: accuracy {found.accuracy:.3f}, mean reward {found.reward:.3f} on {found.n:,} prompts")
        measured.append(name)
        del target, found  # before the next model is loaded
    return measured
