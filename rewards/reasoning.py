"""Tasks of reasoning-gym whose answers rewards.math cannot read, or which have several right ones.

    pool.source = "reasoning:sudoku,jugs?size=1000"
    reward.function = "rewards.reasoning"

Right is the gold answer, up to white space; for the tasks of OWN_SCORER (harness/types/reasoning_tasks.py) also what
the task's own scorer gives 1.0. Scorers that run what a model wrote are never asked; parts of 1.0 are not paid, since
some are for substrings. The answer is what follows the thinking, without answer tags around all of it.

It is called as TRL calls rewards, for the columns ``task`` and ``metadata`` that pools/reasoning.py gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from harness.types import Score
from harness.types.reasoning_tasks import OWN_SCORER
from rewards.contract import errored
from rewards.format import is_cut_in_thinking, read_answer

FULL = 1 - 1e-9
LONGEST = 20_000
"""Characters of an answer that a scorer is asked about."""


def score(
    completions: Sequence[Any],
    ground_truth: Sequence[str],
    task: Sequence[str] = (),
    metadata: Sequence[Any] = (),
    **_: Any,
) -> list[Score]:
    """Score completions, 1.0 or 0.0; reason codes: right, wrong, empty_answer, too_long, cut_in_thinking. Errored where
    a row has no gold answer, or reasoning-gym is not installed."""
    tasks = [*task, *[""] * (len(completions) - len(task))]
    entries = [*metadata, *[None] * (len(completions) - len(metadata))]
    texts = [completion if isinstance(completion, str) else completion[-1]["content"] for completion in completions]
    return [_judge(*row) for row in zip(texts, ground_truth, tasks, entries, strict=True)]


def compute_reward(completion: str, ground_truth: str) -> float:
    """1.0 for the gold answer, 0.0 for anything else whatever its type; never raises."""
    if not isinstance(completion, str) or not isinstance(ground_truth, str):
        return 0.0
    return _judge(completion, ground_truth, "", None).reward or 0.0


def _judge(completion: str, gold: str, task: str | None, metadata: Mapping[str, Any] | None) -> Score:
    if not gold.strip():
        return errored("the ground truth is empty")
    if is_cut_in_thinking(completion):
        return Score(0.0, False, "cut_in_thinking")
    answer = read_answer(completion)
    if not answer:
        return Score(0.0, False, "empty_answer")
    if len(answer) > LONGEST + len(gold):
        return Score(0.0, False, "too_long")
    if answer.split() == gold.split():
        return Score(1.0, True, "right")
    if task not in OWN_SCORER or not metadata:
        return Score(0.0, False, "wrong")
    try:
        scorer = _load_scorer(task)
    except ImportError as error:
        return errored(f"it needs reasoning-gym ({error}): pip install reasoning-gym==0.1.25")
    try:
        right = scorer.score_answer(answer, {"answer": gold, "question": "", "metadata": metadata}) >= FULL
    except Exception:  # an answer that the scorer did not expect
        right = False
    return Score(float(right), right, "right" if right else "wrong")


@lru_cache
def _load_scorer(task: str) -> Any:
    from reasoning_gym import factory

    return factory.create_dataset(task, size=1, seed=0)
