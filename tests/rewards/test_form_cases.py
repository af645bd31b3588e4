"""Small completions with their right verdict, kind by kind: calls, structured output, form, composites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rewards import composite, function_call, structured
from rewards import format as form

FOLDER = Path(__file__).parent / "cases"
MODULES = {f"rewards.{m.__name__.rpartition('.')[2]}": m for m in (composite, form, function_call, structured)}
CASES = [
    json.loads(line)
    for name in ("calls", "structured", "format")
    for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_the_verdict_is_right(case: dict[str, Any]) -> None:
    truth = case["ground_truth"]
    score = MODULES[case["reward"]].score(case["completion"], truth if isinstance(truth, str) else json.dumps(truth))
    verdict = "errored" if score.errored else "right" if score.correct else "wrong"
    assert verdict in case["expected"].split("|"), (case["kind"], score, case.get("note"))
