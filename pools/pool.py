"""The train split with its history: which prompts a step draws, and what reward to expect of each.

History is a Beta posterior of correctness and a running mean of reward per prompt, both with forgetting,
since the model changes. A prompt not seen yet borrows from its label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import InputError
from harness.types import Group, Prompt

FORGETTING = 0.8
"""What is left of a prompt's evidence when a new group of it arrives."""
LABEL_FORGETTING = 0.98
"""The same for a label, which gets a group far more often."""
PRIOR_STRENGTH = 2.0
"""Completions' worth of weight that the label's mean has in a prompt's own estimate."""
FOCUS_WIDTH = 0.2
"""How far from the focus a pass rate may lie and still be drawn often (standard deviation)."""
EXPLORATION = 0.1
"""Weight of the prompts furthest from the focus, against 1 for those on it."""
WHOLE_POOL = 4096
"""Prompts up to which a draw with a focus looks at the whole pool."""
CANDIDATES = 64
"""Of a larger pool it looks at so many for each prompt drawn: the cost does not grow with the pool."""


class PromptPool:
    """``harness.types.Pool`` over a list of prompts. A draw is a pure function of (seed, history)."""

    def __init__(self, prompts: Sequence[Prompt], *, draw_share: float) -> None:
        self.prompts = list(prompts)
        self.draw_share = draw_share
        self._index = {prompt.id: i for i, prompt in enumerate(self.prompts)}
        labels = sorted({prompt.label for prompt in self.prompts})
        self._label_of = np.array([labels.index(prompt.label) for prompt in self.prompts])
        # Columns: correct, wrong, summed reward, completions.
        self._seen = np.zeros((len(self.prompts), 4))
        self._labels = np.tile(np.array([1.0, 1.0, 0.0, 0.0]), (len(labels), 1))

    def largest_draw(self) -> int:
        return max(1, int(len(self.prompts) * self.draw_share))

    def check_draw(self, n: int) -> None:
        """Raises InputError when a step of ``n`` prompts would draw more than its share of the pool."""
        if n > self.largest_draw():
            raise InputError(
                f"knobs.prompts_per_step: {n} is more than {self.draw_share:.0%} of the {len(self.prompts)} train "
                f"prompts: at most {self.largest_draw()}, or a larger pool, or a larger pool.draw_share"
            )

    def draw(self, n: int, *, seed: int, focus: float | None) -> list[Prompt]:
        """``n`` distinct prompts: uniform, or mostly those with a pass rate near ``focus``."""
        rng = np.random.default_rng(seed)
        n = min(n, self.largest_draw())
        if focus is None:
            return [self.prompts[i] for i in rng.choice(len(self.prompts), size=n, replace=False)]
        candidates = self._candidates(rng, CANDIDATES * n)
        distance = (self.pass_rates(candidates) - focus) / FOCUS_WIDTH
        weights = EXPLORATION + (1 - EXPLORATION) * np.exp(-0.5 * distance**2)
        # Weighted draw without replacement (Efraimidis and Spirakis 2006): the n smallest of Exp(1) / weight.
        keys = rng.exponential(size=len(candidates)) / weights
        smallest = np.argpartition(keys, n - 1)[:n]
        return [self.prompts[i] for i in candidates[smallest[np.argsort(keys[smallest])]]]

    def _candidates(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        """All prompts, or ``n`` of a large pool."""
        size = len(self.prompts)
        if size <= max(WHOLE_POOL, n):
            return np.arange(size)
        return rng.choice(size, size=n, replace=False, shuffle=False)

    def pass_rates(self, of: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float64]:
        """Posterior mean of correctness of the prompts ``of`` these places, or of all."""
        label = self._labels[:, 0] / (self._labels[:, 0] + self._labels[:, 1])
        prior = label[self._label_of[of]] * PRIOR_STRENGTH
        correct, wrong = self._seen[of, 0], self._seen[of, 1]
        rates: NDArray[np.float64] = (correct + prior) / (correct + wrong + PRIOR_STRENGTH)
        return rates

    def expected_reward(self, prompt_id: str) -> float:
        """Posterior mean of the prompt's reward before the step; 0 while nothing like it was seen."""
        i = self._index[prompt_id]
        label_sum, label_n = self._labels[self._label_of[i], 2:]
        prior = label_sum / label_n if label_n else 0.0
        reward_sum, n = self._seen[i, 2:]
        return float((reward_sum + prior * PRIOR_STRENGTH) / (n + PRIOR_STRENGTH))

    def record(self, groups: Sequence[Group]) -> None:
        """Add what a step saw. Errored completions say nothing about the model and are left out."""
        for group in groups:
            judged = [c.score for c in group.completions if c.score.reward is not None]
            if not judged:
                continue
            correct = sum(score.correct for score in judged)
            reward = sum(score.reward or 0.0 for score in judged)
            evidence = np.array([correct, len(judged) - correct, reward, len(judged)])
            i = self._index[group.prompt.id]
            self._seen[i] = self._seen[i] * FORGETTING + evidence
            label = self._label_of[i]
            self._labels[label] = self._labels[label] * LABEL_FORGETTING + evidence

    def state(self) -> dict[str, Any]:
        """The history as plain JSON, exact to the last digit."""
        seen = np.flatnonzero(self._seen[:, 3])
        return {
            "seen": {self.prompts[i].id: self._seen[i].tolist() for i in seen},
            "labels": self._labels.tolist(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._seen[:] = 0.0
        for prompt_id, evidence in state["seen"].items():
            if prompt_id in self._index:
                self._seen[self._index[prompt_id]] = evidence
        self._labels[:] = np.array(state["labels"])
