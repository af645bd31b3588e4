"""The verifier on real answers of models, where this machine has them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rewards.math import score

REAL = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the data sets are not here")


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (REAL / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("whole", [False, True], ids=["box", "solution"])
def test_gsm8k_answers_of_a_thinking_model(whole: bool) -> None:
    reasons: Counter[str] = Counter()
    for row in rows("answers_qwen3_gsm8k"):
        truth = row["original_assistant_content"]
        truth = truth if whole else truth[truth.rindex("\\boxed") :].strip()
        reasons[score(row["regenerated_content"], truth).reason] += 1
    assert reasons == {"right": 93, "cut_in_thinking": 6, "wrong": 1}


def test_harder_answers_of_a_thinking_model() -> None:
    found = Counter(score(r["regenerated_content"], r["original_assistant_content"]).reason
                    for r in rows("answers_qwen3_openr1"))  # fmt: skip
    assert found["cut_in_thinking"] == 42
    assert found["right"] == 7, "the others give another value, the letter of an option, or several answers"


def test_right_answers_of_a_small_model() -> None:
    found = Counter(score(r["completion"], r["ground_truth"]).reason for r in rows("answers_small_model_gsm8k"))
    assert found == {"right": 10, "not_extracted": 1}, "the last one is cut before its answer"


def test_math_answers_with_the_scores_of_another_grader() -> None:
    pairs = [(score(text, r["gt"]), judged) for r in rows("answers_qwen25_math")
             for text, judged in zip(r["code"], r["score"], strict=True)]  # fmt: skip
    right = [found.correct for found, judged in pairs if judged]
    assert sum(right) >= 0.99 * len(right)
    assert not any(found.errored for found, _ in pairs)
