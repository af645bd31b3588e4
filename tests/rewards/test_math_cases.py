"""Answers as models write them, each with the verdict of a person: one case a line of cases/math.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rewards import math

CASES = [
    json.loads(line) for line in (Path(__file__).parent / "cases/math.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_the_verdict_is_that_of_a_person(case: dict[str, Any]) -> None:
    judge = getattr(math, case["reward"].partition(":")[2] or "score")
    found = judge(case["completion"], case["ground_truth"])
    verdict = "errored" if found.errored else "right" if found.correct else "wrong"
    assert verdict in case["expected"].split("|"), (case["kind"], found.reason, case["completion"][:200])
