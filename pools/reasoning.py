"""Prompts and gold answers of reasoning-gym tasks (the extra ``reasoning``), along their curricula.

    reasoning:chain_sum?size=2000&max_digits=2
    reasoning:chain_sum,gcd?size=1000&levels=0-3        250 rows per level of each task, labelled ``gcd level 2``

Questions and gold answers are taken, and what a task's own scorer needs where no verifier of ours will do
(harness/types/reasoning_tasks.py). A Python of its own makes the rows, under a fixed hash seed: six tasks depend on it,
and what a task prints must not get among the rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from harness.errors import InputError
from harness.types.reasoning_tasks import OWN_SCORER
from pools.rows import Row, say

OWN_OPTIONS = ("size", "seed", "levels")
ENTRY = "from pools.reasoning import serve; serve()"


def read_reasoning(tasks: str, options: Mapping[str, Any]) -> Iterator[Row]:
    """Yield ``size`` rows of each task, duplicates among them; other ``options`` go to the tasks. Raises InputError."""
    source = f"reasoning:{tasks}"
    # sys.path is this process's from the first line on, so every name means the same file as here.
    code = f"import sys; sys.path[:] = {[entry for entry in sys.path if isinstance(entry, str)]!a}; {ENTRY}"
    with subprocess.Popen(
        [sys.executable, "-c", code, tasks, json.dumps(dict(options))],
        env=os.environ | {"PYTHONHASHSEED": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        try:
            for number, line in enumerate(process.stdout, 1):
                values = json.loads(line)
                if "problem" in values:
                    raise InputError(f"pool.source: {source}: {values['problem']}")
                yield Row(f"pool.source: {source} row {number}", values)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise InputError(f"pool.source: {source}: the process that makes its rows ended with code {process.returncode}")


def version() -> str:
    """Return what the rows depend on beside tasks and options."""
    from importlib import metadata

    try:
        return f"{metadata.version('reasoning-gym')} on Python {sys.version}"
    except metadata.PackageNotFoundError:
        return "not installed"


# ---------------------------------------------------------------- the other process


def serve() -> None:
    """Write the rows of the tasks in ``sys.argv`` as JSON lines, or ``{"problem": ...}`` as the last one."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # some tasks print
    with out:
        try:
            for row in _make_rows(sys.argv[1].split(","), json.loads(sys.argv[2])):
                out.write(json.dumps(row) + "\n")
        except BrokenPipeError:
            os._exit(0)
        except Exception as error:
            out.write(json.dumps({"problem": say(error) or type(error).__name__}) + "\n")


def _make_rows(tasks: list[str], options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    try:
        from reasoning_gym import factory
    except ImportError as error:
        raise InputError(f"needs reasoning-gym ({error}): pip install reasoning-gym==0.1.25") from None
    for task in tasks:
        if not task:
            raise InputError("it names no task; give one, such as reasoning:chain_sum")
        if task not in factory.DATASETS or task == "composite":
            raise InputError(f"no task named {task}{_nearest(task, sorted(factory.DATASETS))}")
    size, seed = _whole(options, "size", 500), _whole(options, "seed", 0)
    more = {name: value for name, value in options.items() if name not in OWN_OPTIONS}
    levels = _levels(str(options["levels"])) if "levels" in options else [None]
    for task in tasks:
        for place, level in enumerate(levels):
            rows = size * (place + 1) // len(levels) - size * place // len(levels)
            if rows:
                yield from _rows_of(task, level, dict(more, size=rows, seed=seed))


def _rows_of(task: str, level: int | None, settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    from reasoning_gym import factory
    from reasoning_gym.coaching.base_curriculum import DefaultCurriculumContext, RangeAttributeMode

    label = task
    if level is not None:
        if not factory.has_curriculum(task):
            raise InputError(f"{task} has no curriculum: leave out levels")
        curriculum = factory.create_curriculum(task)
        highest = max((len(attribute.levels) for attribute in curriculum.attributes.values()), default=1) - 1
        if level > highest:
            raise InputError(f"{task} has levels 0 to {highest}, not {level}")
        curriculum.set_global_level(level)
        # Only what is new at a level: by default it holds all that are easier, and a label would say little.
        context = DefaultCurriculumContext(mode=RangeAttributeMode.UPPER_BOUND)
        settings = vars(curriculum.generate_configuration(settings, context)) | settings
        label = f"{task} level {level}"
    try:
        for entry in factory.create_dataset(task, **settings):
            if entry["answer"] is None:
                raise InputError(f"{task} has no gold answer: only its own scorer can judge it")
            if not entry["answer"].strip():
                continue  # of ab, an answer may be that nothing is left
            row = {"prompt": entry["question"], "ground_truth": entry["answer"], "label": label, "task": task}
            yield row | ({"metadata": entry["metadata"]} if task in OWN_SCORER else {})
    except InputError:
        raise
    except Exception as error:  # a hundred tasks by many hands; some have levels for which there is nothing to ask
        raise InputError(f"{label}: {error or type(error).__name__}") from None


def _levels(text: str) -> list[int | None]:
    """Read ``2`` or ``0-3``."""
    low, dash, high = text.partition("-")
    try:
        levels = list(range(int(low), int(high if dash else low) + 1))
    except ValueError:
        levels = []
    if not levels or levels[0] < 0:
        raise InputError(f"levels is a number such as 2 or a range such as 0-3, not {text!r}")
    return list(levels)


def _whole(options: Mapping[str, Any], name: str, default: int) -> int:
    value = options.get(name, default)
    if type(value) is not int or value < (name == "size"):
        raise InputError(f"{name} is a whole number, not {value!r}")
    return value


def _nearest(name: str, names: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, names, 1, 0.5)
    return f", did you mean {near[0]}?" if near else f"; there are {len(names)}, see reasoning-gym's gallery"
