"""Several workers judge as one does, and nothing twice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.types import Prompt
from rewards.contract import RewardDescription, load_reward
from rewards.parallel import ParallelReward
from rewards.trl import TrainerState
from rewards.worker import RewardWorker

HOSTILE = Path(__file__).parents[1] / "support" / "hostile.py"
Make = Callable[..., ParallelReward]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    made: list[ParallelReward] = []

    def make(name: str, *, workers: int, time_limit: float = 10.0) -> ParallelReward:
        description = RewardDescription((f"{HOSTILE}:{name}",))
        whole = load_reward(description).takes_batches
        reward = ParallelReward([RewardWorker(description, time_limit=time_limit) for _ in range(workers)], whole=whole)
        made.append(reward)
        return reward

    yield make
    for reward in made:
        reward.close()


def asked(tmp_path: Path) -> list[str]:
    return (tmp_path / "asked").read_text().splitlines()


def ask(reward: ParallelReward, *texts: str, truth: str = "a") -> list[Any]:
    return reward.score([Prompt(f"{i}", "?", truth) for i in range(len(texts))], texts)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_scores_come_in_the_order_of_the_texts(make: Make, workers: int) -> None:
    reward = make("equals", workers=workers)
    texts = [*"abacadaebf", "a"]
    assert [score.reward for score in ask(reward, *texts)] == [float(text == "a") for text in texts]
    assert ask(reward) == []


def test_pairs_that_differ_in_the_prefill_are_not_equal() -> None:
    def turns(prefill: str) -> tuple[dict[str, str], ...]:
        return ({"role": "user", "content": "?"}, {"role": "assistant", "content": prefill})

    with ParallelReward([RewardWorker(RewardDescription(("rewards.format",)))], whole=False) as reward:
        prompts = [Prompt(prefill, "?", "2", messages=turns(prefill)) for prefill in ("<think>Well.</think>", "Well.")]
        scores = reward.score(prompts, ["<answer>2</answer>"] * 2)
    assert [score.reward for score in scores] == [1.0, 0.0]


@pytest.mark.parametrize("workers", [1, 2])
def test_equal_pairs_are_judged_once_and_pairs_that_differ_in_the_truth_are_not_equal(
    make: Make, workers: int, tmp_path: Path
) -> None:
    reward = make("equals", workers=workers)
    prompts = [Prompt("1", "?", "a"), Prompt("2", "??", "a"), Prompt("3", "?", "b"), Prompt("1", "?", "a")]
    assert [score.reward for score in reward.score(prompts, ["a"] * 4)] == [1.0, 1.0, 0.0, 1.0]
    assert len(asked(tmp_path)) == 2


def test_a_completion_that_loops_costs_its_time_once(make: Make, tmp_path: Path) -> None:
    reward = make("loops", workers=2, time_limit=0.3)
    assert [s.reason for s in ask(reward, *["LOOP"] * 6, "a")] == ["timeout"] * 6 + ["right"]
    assert asked(tmp_path).count("LOOP") == 1


def test_a_trl_style_reward_gets_the_whole_batch_with_what_is_there_twice(make: Make, tmp_path: Path) -> None:
    reward = make("batch_is_slow", workers=3)
    assert [score.reward for score in ask(reward, "x", "x", "y")] == [0.75] * 3
    assert asked(tmp_path) == ["x x y"]


def test_the_workers_are_processes_of_their_own_and_stay(make: Make) -> None:
    reward = make("process_id", workers=2)
    reward.range = (0.0, 1e9)
    texts = [str(n) for n in range(10)]
    for worker in reward.workers:
        worker.description = RewardDescription((f"{HOSTILE}:process_id",), range=(0.0, 1e9))
    first = {score.reward for score in ask(reward, *texts)}
    assert len(first) == 2
    assert os.getpid() not in first
    assert {score.reward for score in ask(reward, *texts)} == first


def test_a_killed_worker_loses_nothing(make: Make) -> None:
    reward = make("equals", workers=2)
    ask(reward, "a", "b")
    for worker in reward.workers:
        assert worker._process is not None
        worker._process._process.kill()
    assert [score.reward for score in ask(reward, "a", "b", "c", "d")] == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("moment", [0.0, 0.5])
def test_an_interrupt_ends_all_workers_and_the_next_call_is_answered(make: Make, moment: float) -> None:
    reward = make("loops", workers=2, time_limit=60.0)
    ask(reward, "a", "b")
    main = reward.workers[0]

    def interrupt(*_: Any) -> list[Any]:
        time.sleep(moment)
        raise KeyboardInterrupt

    real = main.score
    main.score = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        ask(reward, "b", "LOOP", "c", "LOOP ")
    main.score = real  # type: ignore[method-assign]
    assert [score.reward for score in ask(reward, "a", "b")] == [1.0, 0.0]


def test_only_a_function_that_takes_batches_is_told_ids_and_state(make: Make) -> None:
    reward = make("counts_ids", workers=2)
    reward.state = lambda: TrainerState(global_step=3, max_steps=4)
    assert reward.takes_ids
    prompts = [Prompt("1", "?", "a"), Prompt("2", "?", "a")]
    scores = reward.score(prompts, ["x", "x"], [[1, 2], [1, 2, 3]])
    assert [(score.reward, score.logged["step"]) for score in scores] == [(0.2, 3.0), (0.3, 3.0)]
    assert not make("equals", workers=1).takes_ids
