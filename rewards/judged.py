"""Judges beside verifiers, as one reward.

    reward = JudgedReward({"math": 0.7, "helpful": 0.3}, {"helpful": judge}, workers)
    reward.keep_in(folder)          # from here on what judges fail on is on record, and a replay fails on the same
    reward.score(prompts, completions)
    reward.take_metrics()           # judge/cost_usd, judge/cached_rate, judge/latency since the last time

The verifiers of the reward are judged by ``workers`` in processes without a network; then the judges (rewards/judge.py)
are asked, from this process, about what the verifiers did not fail on. The reward is the weighted sum. Where a judge
has no verdict, the completion is errored, never 0.

A reward with a judge is recorded, not deterministic: the replies are in ``judge-NAME.jsonl`` (harness/llm/record.py),
and what had no verdict, batch by batch, in FAILURES, since a later reply to the same question must not change what an
earlier step saw.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import add
from pathlib import Path

from harness.types import Prompt, Score
from rewards.contract import NONE, Within, errored
from rewards.judge import Judge, Tally
from rewards.parallel import ParallelReward
from rewards.trl import START, TrainerState

FAILURES = "judge-failures.jsonl"
"""In a run's folder, a line for each batch with completions on which a judge had no verdict:
``{"batch": HASH, "judge": "helpful", "failed": {"3": "why"}}``."""
Batch = tuple[str, str]
"""Hash of what is judged, with how often it was, and the judge."""


class JudgedReward:
    """``harness.types.Scorer`` over judges, and the ``workers`` of the verifiers beside them, None where there are
    none. ``weights`` name every function of the reward in its order, ``judges`` those that are judges. One call at a
    time.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        judges: Mapping[str, Judge],
        workers: ParallelReward | None,
        *,
        range: tuple[float, float] = (0.0, 1.0),
        solved_at: float | None = None,
    ) -> None:
        self.weights = weights
        self.judges = judges
        self.workers = workers
        self.range = range
        self.solved_at = range[1] if solved_at is None else solved_at
        self._within = Within(range)
        self._state: Callable[[], TrainerState] = lambda: START
        self._failures: Path | None = None
        self._failed: dict[Batch, Mapping[int, str]] = {}
        self._known: dict[Batch, Mapping[int, str]] = {}
        self._times: Counter[str] = Counter()

    def __enter__(self) -> JudgedReward:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and close the records. A later ``score`` would start and open others."""
        if self.workers:
            self.workers.close()
        for judge in self.judges.values():
            judge.close()

    @property
    def takes_ids(self) -> bool:
        return self.workers is not None and self.workers.takes_ids

    @property
    def state(self) -> Callable[[], TrainerState]:
        return self._state

    @state.setter
    def state(self, state: Callable[[], TrainerState]) -> None:
        self._state = state
        if self.workers:
            self.workers.state = state

    def keep_in(self, folder: Path, *, replayed: Path | None = None) -> None:
        """Keep in ``folder`` what has no verdict and what verifiers print. What had none in the folder of the run that
        is ``replayed`` has none again."""
        if self.workers:
            self.workers.keep_in(folder)
        self._failures = folder / FAILURES
        self._failed = _read_failures(self._failures)
        if self._failures.is_file() and not self._failures.read_bytes().endswith(b"\n"):
            with self._failures.open("a", encoding="utf-8") as file:  # a torn line, which the next must not continue
                file.write("\n")
        self._known = _read_failures(replayed / FAILURES) if replayed else {}
        self._times.clear()

    def take_metrics(self) -> Mapping[str, float]:
        """Return the metrics of what judges were asked since this was last called."""
        return reduce(add, (judge.take_tally() for judge in self.judges.values()), Tally()).compute_metrics()

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], ids: Sequence[Sequence[int]] | None = None
    ) -> list[Score]:
        nothing = Score(0.0, False, "")
        parts = self.workers.score(prompts, completions, ids) if self.workers else [nothing] * len(prompts)
        batch = self._name_batch(prompts, completions)
        failed: dict[int, str] = {}
        shares: dict[str, dict[int, float]] = {}
        for name, judge in self.judges.items():
            asked = [i for i, part in enumerate(parts) if i not in failed and _is_open(part)]
            verdicts = judge.judge([prompts[i] for i in asked], [completions[i] for i in asked])
            found = dict(zip(asked, verdicts, strict=True))
            errors = {i: verdict.error for i, verdict in found.items() if verdict.share is None}
            errors |= self._known.get((batch, name), {})
            self._record_failures((batch, name), errors)
            failed |= {i: f"judge {name}: {why}" for i, why in errors.items()}
            shares[name] = {i: verdict.share for i, verdict in found.items() if verdict.share is not None}
        return self._within.check(
            [
                errored(failed[i]) if i in failed
                else self._add(part, {name: found[i] for name, found in shares.items()}) if _is_open(part)
                else part
                for i, part in enumerate(parts)
            ]
        )  # fmt: skip

    def _add(self, part: Score, shares: Mapping[str, float]) -> Score:
        """Add the judges' shares to what the verifiers gave."""
        given = 0.0 if part.reward is None else part.reward
        total = math.fsum([given, *(self.weights[name] * share for name, share in shares.items())])
        each = {**part.components, **shares}
        components = {name: each[name] for name in self.weights if name in each} if len(self.weights) > 1 else {}
        correct = total >= self.solved_at
        reason = "right" if correct else "wrong" if part.reason in ("", "errored") else part.reason
        return Score(total, correct, reason, components, logged=part.logged, seconds=part.seconds)

    def _name_batch(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> str:
        rows = [[prompt.id, text] for prompt, text in zip(prompts, completions, strict=True)]
        texts = hashlib.sha256(json.dumps([self._state().global_step, rows]).encode()).hexdigest()
        self._times[texts] += 1  # two checkpoints may give the same answers at one step
        return f"{texts}-{self._times[texts]}"

    def _record_failures(self, batch: Batch, failed: Mapping[int, str]) -> None:
        """Put it on record where it is not what the record has: a step that a resume takes again may fail on less."""
        if self._failures is None or self._failed.get(batch, {}) == failed:
            return
        self._failed[batch] = failed
        told = {str(i): failed[i] for i in sorted(failed)}
        with self._failures.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"batch": batch[0], "judge": batch[1], "failed": told}) + "\n")


def _is_open(part: Score) -> bool:
    """Whether a judge is to be asked: not where the verifiers failed, nor where their time was out, which is the lowest
    reward. Where each left a completion to others, the judges are the others."""
    if part.errored:
        return part.error == NONE
    return part.reason != "timeout" or bool(part.components)


def _read_failures(path: Path) -> dict[Batch, Mapping[int, str]]:
    """Read what had no verdict by batch; a later line of the same batch wins, a torn one at the end is none."""
    found: dict[Batch, Mapping[int, str]] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                values = json.loads(line)
                found[values["batch"], values["judge"]] = {
                    int(place): str(why) for place, why in values["failed"].items()
                }
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
    return found
