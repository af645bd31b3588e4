"""Answers as models give them, each with the verdict that it deserves: cases/code.jsonl, a kind at a time.

They come from public reports of graders that were wrong, in other words and numbers. A case is never changed to suit
the verifier; what it decides on purpose stands in docs/rewards.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rewards.code import score

CASES = [json.loads(line) for line in (Path(__file__).parent / "cases" / "code.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("case", CASES, ids=[f"{case['kind']}-{case['id']}" for case in CASES])
def test_an_answer_is_judged_as_it_deserves(case: dict[str, Any]) -> None:
    verdict = score(case["completion"], json.dumps(case["ground_truth"]))
    found = "errored" if verdict.errored else "right" if verdict.correct else "wrong"
    assert found in case["expected"].split("|"), (case.get("note"), verdict)
    if found == "right":
        assert verdict.reward == 1.0
