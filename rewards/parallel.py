"""A reward judged by several workers side by side, and no pair of texts judged twice.

A function of (completion, ground truth) sees nothing else, so equal pairs have equal scores (preflight proves it) and
are asked once. A TRL-style function sees prompts, columns and the whole batch: everything is asked, of one worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from harness.types import Prompt, Score
from rewards.trl import START, TrainerState
from rewards.worker import RewardWorker


class ParallelReward:
    """``harness.types.Scorer`` over RewardWorkers of the same reward. One call at a time.

    ``whole`` says that the reward judges whole batches; it is also told the token ids and the ``state`` of the trainer.
    """

    def __init__(self, workers: Sequence[RewardWorker], *, whole: bool) -> None:
        self.workers = workers[:1] if whole else workers
        self.range = workers[0].range
        self.whole = whole
        self.state: Callable[[], TrainerState] = lambda: START
        # The kernel ends a worker with the thread that started it, so each has a thread that stays.
        self._threads = [ThreadPoolExecutor(1, "reward") for _ in self.workers[1:]]

    def __enter__(self) -> ParallelReward:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def takes_ids(self) -> bool:
        return self.whole

    def keep_in(self, folder: Path, *, replayed: Path | None = None) -> None:
        """Keep what the reward prints in a file of ``folder``. It is judged anew where a run is ``replayed``."""
        for worker in self.workers:
            worker.log = folder / "reward.txt"

    def close(self) -> None:
        """End the workers. A later ``score`` would start others."""
        for worker, thread in zip(self.workers[1:], self._threads, strict=True):
            thread.submit(worker.close).result()
        self.workers[0].close()

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], ids: Sequence[Sequence[int]] | None = None
    ) -> list[Score]:
        if self.whole:
            return self.workers[0].score(prompts, completions, ids, self.state())
        pairs = [(prompt.ground_truth, prompt.prefill, text) for prompt, text in zip(prompts, completions, strict=True)]
        first = {pair: i for i, pair in reversed([*enumerate(pairs)])}
        asked = sorted(first.values())
        scores = self._divide([prompts[i] for i in asked], [completions[i] for i in asked])
        by_pair = dict(zip([pairs[i] for i in asked], scores, strict=True))
        return [by_pair[pair] for pair in pairs]

    def _divide(self, prompts: list[Prompt], completions: list[str]) -> list[Score]:
        """Every n-th to the same worker: the completions of a hard prompt stand together."""
        n = len(self.workers)
        others = [
            thread.submit(worker.score, prompts[i::n], completions[i::n])
            for i, (worker, thread) in enumerate(zip(self.workers[1:], self._threads, strict=True), 1)
        ]
        parts: list[list[Score]] = [[] for _ in range(n)]
        try:
            parts[0] = self.workers[0].score(prompts[::n], completions[::n])
            parts[1:] = [other.result() for other in others]
        except BaseException:  # such as Ctrl-C: the others must not go on
            for worker in self.workers[1:]:
                worker.abandon()
            wait(others)
            for worker in self.workers[1:]:
                worker.abandoned = False
            raise
        return [parts[i % n][i // n] for i in range(len(prompts))]
