"""The score of a completion is that of the completion: alone, in a batch, in whichever process, thread and order."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rewards import composite, function_call, length, math, structured
from rewards import format as form

ROOT = Path(__file__).parent.parent.parent
CALL = {"name": "f", "arguments": {"a": {"$any": [1, 2]}, "b": "x"}}
CALLS = json.dumps({"calls": [CALL, {"name": "g", "arguments": {}}, CALL]})
MADE = [{"name": "f", "arguments": {"a": n, "b": "x"}} for n in (1, 2, 3)] + [{"name": "g", "arguments": {}}]
RECORD = json.dumps({"equals": {"a": [1, 2], "b": {"c": 3}}})
PARTS = {"sum": {"reward": "rewards.math", "ground_truth": "42"}, "rest": {"reward": "rewards.format",
                                                                        "ground_truth": ""}}  # fmt: skip
FORM = "<think>x</think><answer>1</answer>"
CASES: list[tuple[Any, str, str]] = [
    *((math, rf"\boxed{{{answer}}}", truth) for answer in ("42", "6*7", "x+1", r"\sqrt{8}")
      for truth in ("42", "1+x", r"2\sqrt{2}", "???")),
    *((function_call, json.dumps(MADE[i:j]), CALLS) for i in range(4) for j in range(i, 5)),
    *((structured, text, RECORD) for text in ('{"a": [1, 2], "b": {"c": 3}}', '{"a": [2, 1]}', '{"b": {"c": 3}}', "{")),
    *((composite, text, json.dumps({"parts": PARTS})) for text in (r"\boxed{42}", FORM)),
    *((form, text, "") for text in (FORM, "x")),
    *((length, r"\boxed{1}" + " " * n, "") for n in (0, 1000)),
]  # fmt: skip


def judge(case: tuple[Any, str, str]) -> list[Any]:
    module, completion, truth = case
    score = module.score(completion, truth)
    return [score.reward, score.correct, score.reason, dict(score.components), score.error]


def elsewhere(seed: str) -> list[list[Any]]:
    code = "import json, tests.rewards.test_purity as t; print(json.dumps([t.judge(case) for case in t.CASES]))"
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


def test_a_score_depends_on_nothing_but_the_texts() -> None:
    alone = [judge(case) for case in CASES]
    order = random.Random(0).sample(range(len(CASES)), len(CASES))
    shuffled = {i: judge(CASES[i]) for i in order}
    assert [shuffled[i] for i in range(len(CASES))] == alone
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(judge, CASES)) == alone
    for seed in ("1", "12345"):
        assert elsewhere(seed) == alone
    assert {reason for _, _, reason, _, _ in alone} >= {"right", "errored", "not_literal", "wrong", "extra_call"}
