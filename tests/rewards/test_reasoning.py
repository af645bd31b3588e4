from __future__ import annotations

import inspect
import json
import re
from typing import Any

import pytest

from harness.types import Score
from harness.types.reasoning_tasks import AS_TEXT, EXPRESSIONS, OWN_SCORER, RUNS_TEXT, describe_verifiers
from pools.reasoning import _make_rows
from rewards import countdown
from rewards.contract import RewardDescription, load_reward
from rewards.reasoning import compute_reward
from tests.support.builders import make_prompt

pytest.importorskip("reasoning_gym")
QUICK = sorted(OWN_SCORER - {"knight_swap", "codeio", "group_anagrams"})
"""The others take seconds to make a row."""


def judge(row: dict[str, Any], *completions: str, chat: bool = False) -> list[Score]:
    row = json.loads(json.dumps(row))
    columns = {name: row[name] for name in ("task", "metadata") if name in row}
    prompt = make_prompt(ground_truth=row["ground_truth"], columns=columns)
    reward = load_reward(RewardDescription(("rewards.reasoning",), chat=chat))
    return reward.score([prompt] * len(completions), list(completions))


@pytest.mark.parametrize("task", [*QUICK, "ab", "arc_1d", "spiral_matrix", "polynomial_multiplication"])
def test_gold_answers_are_right_and_no_others(task: str) -> None:
    rows = list(_make_rows([task], {"size": 2, "seed": 3}))
    assert all(("metadata" in row) == (task in OWN_SCORER) for row in rows)
    for row in rows:
        gold = row["ground_truth"]
        texts = (
            gold,
            f"<think>so</think>\n<answer>\n{gold}\n</answer>",
            f"{gold}\nA bad cab",
            "7",
            "",
            "<think>",
            "[" * 9999,
        )
        reasons = [score.reason for score in judge(row, *texts)]
        assert reasons == ["right", "right", "wrong", "wrong", "empty_answer", "cut_in_thinking", "wrong"]
        assert compute_reward(gold, gold) == 1.0


def test_another_right_answer_is_right_where_the_tasks_own_scorer_says_so() -> None:
    (row,) = _make_rows(["palindrome_partitioning"], {"size": 1, "seed": 1})
    other = json.dumps([*reversed(json.loads(row["ground_truth"]))], indent=1)
    assert [score.reason for score in judge(row, other, chat=True)] == ["right"]
    (plain,) = _make_rows(["rotate_matrix"], {"size": 1, "seed": 1})
    assert [score.reason for score in judge(plain, plain["ground_truth"] + " 1")] == ["wrong"]


def test_scorers_that_run_what_a_model_wrote_are_known_by_name_and_never_asked() -> None:
    from reasoning_gym import factory

    runs = re.compile(r"\b(?:eval|exec|parse_expr|sympify)\((?!entry|metadata)")
    found = set()
    for task, (dataset, _) in factory.DATASETS.items():
        if task != "composite" and runs.search(inspect.getsource(dataset.score_answer)):
            found.add(task)
    assert found == RUNS_TEXT
    assert not OWN_SCORER & RUNS_TEXT
    assert factory.DATASETS.keys() >= OWN_SCORER | AS_TEXT | EXPRESSIONS


@pytest.mark.parametrize("task", sorted(EXPRESSIONS))
def test_the_golds_of_number_games_are_truths_of_countdown(task: str) -> None:
    for row in _make_rows([task], {"size": 12}):
        gold = row["ground_truth"]
        assert countdown.check_ground_truth(gold) is None
        assert countdown.score(countdown.write_reference(gold) or "", gold).correct


def test_what_a_task_needs_is_said_in_one_line() -> None:
    said = describe_verifiers(["jugs", "gcd", "countdown", "n_queens"])
    assert "jugs: rewards.reasoning, by the task's own scorer; n_queens: rewards.reasoning, as text (its own" in said
    assert said.endswith("; countdown: rewards.countdown (its own scorer runs what a model wrote, so it is refused)")
    assert describe_verifiers(["gcd", "chain_sum"]) == ""
