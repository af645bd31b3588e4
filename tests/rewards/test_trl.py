"""Reward functions as TRL's tutorials and TRL's own trainer have them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewards.contract import Reward, RewardDescription
from rewards.trl import TrainerState
from rewards.worker import RewardWorker
from tests.support.builders import make_prompt

PROMPTS = [make_prompt("a", ground_truth="1", columns={"answer": "1"}), make_prompt("b", ground_truth="2")]


def test_everything_that_trl_passes_arrives_by_keyword() -> None:
    seen: dict[str, Any] = {}

    def judge(**given: Any) -> list[float]:
        seen.update(given)
        return [0.0, 1.0]

    state = TrainerState(global_step=7, max_steps=10)
    scores = Reward({"judge": judge}).score(PROMPTS, ["x", "y"], [[1, 2], [3]], state)
    assert [score.reward for score in scores] == [0.0, 1.0]
    assert seen.keys() == {
        "prompts", "completions", "completion_ids", "answer", "ground_truth", "trainer_state", "log_extra",
        "log_metric",
    }  # fmt: skip
    assert (seen["completion_ids"], seen["answer"]) == ([[1, 2], [3]], ["1", None])
    assert (seen["trainer_state"].global_step, seen["trainer_state"].epoch) == (7, 0.7)


def test_a_function_without_keywords_gets_what_it_names() -> None:
    def judge(completions: list[str], answer: list[str]) -> list[bool]:
        return [text == right for text, right in zip(completions, answer, strict=True)]

    assert [score.reward for score in Reward({"judge": judge}).score(PROMPTS, ["1", "y"])] == [1.0, 0.0]


class Judge:
    """An object whose call is async and which keeps something of the loop between two calls."""

    def __init__(self) -> None:
        self.lock: asyncio.Lock | None = None
        self.loops: set[int] = set()

    async def __call__(self, completions: list[str], **columns: Any) -> Any:
        self.lock = self.lock or asyncio.Lock()
        self.loops.add(id(asyncio.get_running_loop()))
        async with self.lock:
            await asyncio.sleep(0)
        return np.array([len(text) / 10 for text in completions])


def test_async_functions_and_objects_are_awaited_in_one_loop() -> None:
    async def plain(completion: str, ground_truth: str) -> float:
        await asyncio.sleep(0)
        return float(completion == ground_truth)

    judge = Judge()
    reward = Reward({"judge": judge, "plain": plain}, range=(0.0, 2.0))
    for _ in range(2):
        assert [score.reward for score in reward.score(PROMPTS, ["1", "yyy"])] == [1.1, 0.3]
    assert len(judge.loops) == 1


TOGETHER = '''\
import asyncio

waiting = []
met = asyncio.Event()


async def judge(completion: str, ground_truth: str) -> float:
    """Answer nobody before all three have asked."""
    waiting.append(completion)
    if len(waiting) == 3:
        met.set()
    await met.wait()
    if completion == "bad":
        raise KeyError("no such model")
    return float(completion == ground_truth)
'''


def test_an_async_function_judges_the_completions_of_a_batch_at_the_same_time(tmp_path: Path) -> None:
    (tmp_path / "together.py").write_text(TOGETHER)
    description = RewardDescription((f"{tmp_path / 'together.py'}:judge",))
    with RewardWorker(description, time_limit=20.0) as worker:
        scores = worker.score([*PROMPTS, PROMPTS[0]], ["1", "y", "bad"])
    assert [score.reward for score in scores] == [1.0, 0.0, None]
    assert scores[2].error == "KeyError: 'no such model'"
    assert scores[0].seconds["judge"] > 0


async def fails(completions: list[str], **columns: Any) -> list[float]:
    raise KeyError("no such model")


def test_what_an_async_function_raises_is_its_error() -> None:
    assert Reward({"fails": fails}).score(PROMPTS[:1], ["x"])[0].error == "KeyError: 'no such model'"


def test_what_a_function_logs_is_told_of_each_completion() -> None:
    def judge(completions: list[str], log_metric: Any, log_extra: Any, **columns: Any) -> list[float]:
        log_metric("seen", 1)
        log_metric("seen", np.float32(2))
        log_metric("lost", float("nan"))
        log_extra("length", [len(text) for text in completions])
        log_extra("text", completions)
        log_extra("short", [1])
        return [0.0 for _ in completions]

    scores = Reward({"judge": judge}).score(PROMPTS, ["x", "yyy"])
    assert [score.logged for score in scores] == [{"seen": 1.5, "length": 1.0}, {"seen": 1.5, "length": 3.0}]


def test_what_cannot_be_logged_is_the_functions_error() -> None:
    def judge(completions: list[str], log_metric: Any, **columns: Any) -> list[float]:
        log_metric("seen", "many")
        return [0.0 for _ in completions]

    assert "could not convert string to float" in Reward({"judge": judge}).score(PROMPTS, ["x", "y"])[0].error


@pytest.mark.parametrize("chat", [False, True])
def test_completions_are_texts_or_messages(chat: bool) -> None:
    def judge(completions: list[Any], **columns: Any) -> list[float]:
        return [float((one[0]["content"] if isinstance(one, list) else one) == "x") for one in completions]

    assert [score.reward for score in Reward({"judge": judge}, chat=chat).score(PROMPTS, ["x", "y"])] == [1.0, 0.0]
