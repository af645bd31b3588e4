"""Ground truth and completions for the tests of rewards.code."""

from __future__ import annotations

import json
from typing import Any

from harness.types import Score
from rewards.code import score


def fence(program: str) -> str:
    return f"Let me think.\n\n```python\n{program}\n```\n"


def calls(*cases: tuple[list[Any], Any], entry_point: str = "f", **values: Any) -> str:
    """Ground truth of a function: (args, expected) pairs."""
    rows = [{"args": args, "expected": expected} for args, expected in cases]
    return json.dumps({"entry_point": entry_point, "cases": rows, **values})


def runs(*cases: tuple[str, str]) -> str:
    """Ground truth of a script: (stdin, stdout) pairs."""
    return json.dumps({"cases": [{"stdin": given, "stdout": expected} for given, expected in cases]})


DOUBLE = calls(*[([n], 2 * n) for n in (1, 2, 3, 40, 500)])
ADD = runs(("1 2\n", "3\n"), ("4 5\n", "9\n"), ("10 20\n", "30\n"))


def judge(program: str, ground_truth: str = DOUBLE) -> Score:
    return score(fence(program), ground_truth)
