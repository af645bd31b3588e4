"""Build a pool of prompts on which the present model is sometimes right: the others give no signal.

What was rolled out is kept beside the file to be written, batch by batch, so a build that was stopped
continues. Only prompts of the spec's train split are looked at: those of dev and test stay unseen.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.checks.inputs import build_splits
from harness.commands.files import write_lines
from harness.commands.targets import take_groups
from harness.core.seeds import derive_seed
from harness.errors import InputError
from harness.run.answerers import Target, build_scorer
from harness.types import Group, Progress
from pools.rows import encode, name_columns


@dataclass(frozen=True, slots=True)
class Built:
    """Prompts by what ``n`` completions of each were; ``kept`` of the mixed ones are in ``out``. An earlier call had
    rolled out ``before`` of them."""

    out: Path
    n: int
    total: int
    before: int
    never: int
    mixed: int
    always: int
    kept: int


def build_pool_file(target: Target, out: Path, *, n: int, size: int | None, progress: Progress) -> Built:
    """Write the train prompts with mixed outcomes to ``out``, each with its ``pass_rate``, until ``size`` are found.

    The rows have the columns that the spec names, so the same spec reads the file. Raises InputError; what was rolled
    out until then stays for the next call.
    """
    spec = target.spec
    train = build_splits(spec)["train"]
    knobs, _ = spec.first_knobs(target.recommended_group_size)
    journal = Journal(
        out.with_name(out.name + ".part"),
        {
            "source": spec.pool.source,
            "model": {"name": target.title, "weights_step": target.step},
            "completions": n,
            "temperature": knobs.temperature,
            "max_tokens": knobs.max_tokens,
            "reward": spec.reward.functions,
            "seed": spec.seed,
        },
    )
    before = len(journal.correct)
    counts: list[int] = []
    mixed = 0
    batch = max(1, spec.evaluate.batch // n)
    with build_scorer(spec, chat=target.chat) as reward:
        for start in range(0, len(train), batch):
            if size is not None and mixed >= size:
                break
            prompts = train[start : start + batch]
            if any(prompt_id not in journal.correct for prompt_id in prompts.ids):
                seed = derive_seed(spec.seed, "pool build", start)
                groups = take_groups(target, list(prompts), n=n, reward=reward, seed=seed, whole=True)
                journal.add({group.prompt.id: _count_correct(group) for group in groups})
            counts += [journal.correct[prompt_id] for prompt_id in prompts.ids]
            mixed = sum(0 < count < n for count in counts)
            progress(f"{mixed:,} mixed of", len(counts), len(train))
    built = Built(out, n, len(train), before, counts.count(0), mixed, counts.count(n), kept=min(mixed, size or mixed))
    if not mixed:
        raise InputError(
            f"no prompt of {len(counts):,} had mixed outcomes in {n} completions ({built.never:,} never right, "
            f"{built.always:,} always), so {out} was not written: try more completions (-n) or another source"
        )
    places = [place for place, count in enumerate(counts) if 0 < count < n][: built.kept]
    rows = train.select(np.array(places)).to_rows(name_columns(spec.pool.columns))
    write_lines(out, (encode({**row, "pass_rate": counts[place] / n}) for place, row in zip(places, rows, strict=True)))
    journal.path.unlink()
    return built


def _count_correct(group: Group) -> int:
    """Count the correct completions. Raises InputError when the reward could judge none: a pool must not be chosen by a
    broken reward."""
    scores = [completion.score for completion in group.completions]
    if all(score.errored for score in scores):
        raise InputError(f"reward: it failed on every completion of {group.prompt.text[:60]!r}: {scores[0].error}")
    return sum(score.correct for score in scores)


class Journal:
    """What was rolled out: a line that says for which build, then one for each batch, ``{prompt id: correct}``."""

    def __init__(self, path: Path, build: Mapping[str, Any]) -> None:
        """Raises InputError when the file is another build's, damaged, or cannot be written."""
        self.path = path
        self.correct: dict[str, int] = {}
        try:
            whole = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
            os.truncate(path, sum(map(len, whole)))  # of a line cut by a crash nothing is left
        except FileNotFoundError:
            whole = []
        except OSError as error:
            raise InputError(f"OUT: cannot use {path}: {error.strerror}") from None
        if not whole:
            self._write("w", build)
            return
        try:
            begun, *batches = map(json.loads, whole)
            name = next((name for name in build if begun.get(name) != build[name]), None)
            for batch in batches:
                self.correct |= batch
        except (ValueError, TypeError, AttributeError):
            raise InputError(f"OUT: {path} is damaged; delete it to start again") from None
        if name is not None:
            raise InputError(
                f"OUT: {path} is a build with another {name} ({begun.get(name)!r}); give the same again, or delete the "
                "file to start again"
            )

    def add(self, batch: Mapping[str, int]) -> None:
        self.correct |= batch
        self._write("a", batch)

    def _write(self, mode: str, document: Mapping[str, Any]) -> None:
        try:
            with self.path.open(mode, encoding="utf-8") as file:
                file.write(json.dumps(document) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(f"OUT: cannot write {self.path}: {error.strerror}") from None
