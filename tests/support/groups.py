"""Groups of stages on record with their scores, without any training: the store and the CSVs are real."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.models.evaluate import write_csv
from harness.store.writer import RunStore
from harness.types import Completion, Example, Prompt, Score
from tests.support.builders import create_run

PROMPTS = 60
Right = Callable[[int], bool]
STAGES: Mapping[str, str] = {"learned": "base", "tuned": "learned"}
"""The parent of each stage."""
MEANT: Mapping[str, Right] = {
    "base": lambda i: i < 6,
    "learned": lambda i: 2 <= i < 30,
    "tuned": lambda i: 4 <= i < 50,
}
"""Which prompts each gets right: from stage to stage more, and some are forgotten."""


def write_scores(file: Path, right: Right, *, text: str = "so", n: int = PROMPTS) -> None:
    """Write the CSV of one model: ``text`` stands in each of its answers."""
    examples = []
    for i in range(n):
        done = f"<think>{text}</think><SOLUTION>{2 * i if right(i) else 7777 + i}</SOLUTION>"
        score = Score(float(right(i)), right(i), "right" if right(i) else "wrong", {"exact": float(right(i))})
        examples.append(Example(Prompt(f"p{i}", f"{i}+{i}=", str(2 * i)), Completion(done, 12, False, score)))
    write_csv(file, examples, {})


def record_group(
    store: RunStore,
    name: str,
    *,
    seed: int = 0,
    right: Mapping[str, Right] = MEANT,
    stages: Mapping[str, str] = STAGES,
    text: str = "so",
    **learned: Any,
) -> None:
    """Record finished runs of ``stages`` and the scores of those in ``right``; ``learned`` are fields of [sft]."""
    described = [
        {"name": stage, "from": parent, "spec": {"kind": "sft", "seed": seed, "sft": learned or {"steps": 3}}}
        for stage, parent in stages.items()
    ]
    folder = store.path.parent / name / "scores"
    folder.mkdir(parents=True)
    index: dict[str, Any] = {"base": {"model": {"name": "tiny"}}}
    for one in described:
        stage = str(one["name"])
        spec = {**dict(one["spec"]), "name": f"{name}/{stage}"}  # type: ignore[call-overload]
        manifest = {"stage": {**one, "parent": None, "stages": described}}
        run = create_run(store, f"{name}/{stage}", seed=seed, spec=spec, manifest=manifest)
        store.update_run(run, status="finished")
        index[stage] = {"run": f"{name}/{stage}", "step": 3}
    for model, answers in right.items():
        write_scores(folder / f"{model}.csv", answers, text=text)
    (folder / "scores.json").write_text(json.dumps(index))
