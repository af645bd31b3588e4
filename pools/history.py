"""What a run has seen of its prompts: Beta posteriors of correctness, with forgetting, since the model changes.

A prompt's evidence fades with every step and with every new group of it (Qu et al. 2025, MoPPS, discount theirs
too). What has faded, or was never there, is borrowed from its kin, their label and the pool (docs/pools.md).
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.types import Group, Score

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

STEP_RETENTION = 0.5 ** (1 / 50)
"""What is left of a prompt's evidence after a step: half after fifty."""
GROUP_RETENTION = 0.5
"""What is left of it, besides, when a new group of the prompt arrives."""
SHARED_RETENTION = 0.98
"""What is left of the evidence of kin, label and pool when a group arrives that counts in full."""
LEAST_STRENGTH, MOST_STRENGTH = 0.3, 16.0
"""Bounds on the strength of a prior, in completions: low where similar prompts differ much."""
PARENT_GROUPS = 1.0
"""Groups' worth of weight that the label has in the prior of its kin, and the pool in that of a label."""
LENGTHS = 8
"""Kin are the prompts of one label and one of so many classes of length, equal parts of the pool."""
SMALLEST = 0.01
"""Least parameter of a posterior: nothing is ever certain."""

CORRECT, WRONG, REWARD, ALIKE, GRADED = range(5)
"""Columns of a prompt's evidence, in completions. Errored ones are left out. ``ALIKE`` has those that were compared
with another one that is right as they are, or wrong as they are; ``GRADED`` those of them whose reward was another."""
GROUPS, RATE, DIFFER, MEAN_REWARD, SHARED_ALIKE, SHARED_GRADED = range(6)
"""Columns of shared evidence: groups, and sums over them of pass rate, of the share of pairs of completions of
which one is correct and one is wrong, of mean reward, and of what ALIKE and GRADED count."""
UNKNOWN = np.array([2.0, 1.0, 2 / 3, 0.0, 0.0, 0.0])
"""Two groups' worth of Beta(1, 1), whose completions differ in a third of the pairs, so a pool begins there."""
GRADED_STRENGTH = 2.0
"""Completions' worth of weight that shared evidence has in how often rewards of a prompt differ within a side."""
ROW = np.dtype([("evidence", "<f4", 5), ("seen_at", "<i4")])
FIRST_ROW = np.dtype([("evidence", "<f4", 3), ("seen_at", "<i4")])
"""As checkpoints have it from before rewards were compared within a side."""


class History:
    """Arrays over the prompts of a pool, known here by their places in it. ``clock`` counts the recorded steps."""

    def __init__(self, labels: Sequence[str], lengths: NDArray[np.int32]) -> None:
        """``labels`` and ``lengths`` (characters of the text) of the prompts, in their order."""
        size = len(labels)
        self.clock = 0
        self.evidence = np.zeros((size, 5), np.float32)
        self.seen_at = np.zeros(size, np.int32)
        self._order = np.empty(size, np.int32)
        self._seen = 0
        self.labels = sorted(set(labels))
        number = {label: i for i, label in enumerate(self.labels)}
        self.label_of = np.fromiter((number[label] for label in labels), np.int32, size)
        edges = np.unique(np.quantile(lengths, np.arange(1, LENGTHS) / LENGTHS))
        kin = self.label_of.astype(np.int64) * LENGTHS + np.searchsorted(edges, lengths)
        self._kin, kin_of = np.unique(kin, return_inverse=True)
        self.kin_of = kin_of.astype(np.int32)
        self._by_kin = np.zeros((len(self._kin), len(UNKNOWN)))
        self._by_label = np.zeros((len(self.labels), len(UNKNOWN)))
        self._pool = np.zeros(len(UNKNOWN))

    # ------------------------------------------------------------ what is known

    @property
    def seen(self) -> NDArray[np.int32]:
        """Places of the prompts seen so far, in the order of their first group."""
        return self._order[: self._seen]

    @cached_property
    def of_label(self) -> list[NDArray[np.int32]]:
        """Places of the prompts of each of ``labels``."""
        order = np.argsort(self.label_of, kind="stable").astype(np.int32)
        return np.split(order, np.cumsum(np.bincount(self.label_of))[:-1])

    def posterior(self, places: Places) -> tuple[Floats, Floats]:
        """Return parameters a and b of the Beta posterior of correctness of each place."""
        mean, strength, _ = self._prior(self._borrow(places))
        left = self._left(places)
        a = mean * strength + left * self.evidence[places, CORRECT]
        b = (1 - mean) * strength + left * self.evidence[places, WRONG]
        return np.maximum(a, SMALLEST), np.maximum(b, SMALLEST)

    def expected_rewards(self, places: Places) -> Floats:
        """Return the posterior mean of the reward of each place; 0 while nothing was seen."""
        _, strength, prior = self._prior(self._borrow(places))
        correct, wrong, reward, *_ = (self._left(places) * self.evidence[places].T).astype(float)
        rewards: Floats = (prior * strength + reward) / (strength + correct + wrong)
        return rewards

    def grading(self, places: Places) -> Floats:
        """Return for each place how likely two completions differ in reward that are both right, or both wrong: 0
        where a reward only tells right from wrong."""
        if not self._pool[SHARED_GRADED]:
            return np.zeros(len(places))
        shared = self._borrow(places)
        prior = shared[:, SHARED_GRADED] / np.maximum(shared[:, SHARED_ALIKE], 1e-9)
        alike, graded = self._left(places) * self.evidence[places][:, [ALIKE, GRADED]].T
        likely: Floats = (GRADED_STRENGTH * prior + graded) / (GRADED_STRENGTH + alike)
        return likely

    def label_rates(self) -> Floats:
        """Return the mean pass rate of the prior of each of ``labels``."""
        return self._prior(self._borrow_label(np.arange(len(self.labels))))[0]

    def _left(self, places: Places) -> Floats:
        return STEP_RETENTION ** (self.clock - self.seen_at[places]).astype(np.float64)

    def _borrow(self, places: Places) -> Floats:
        kin = self.kin_of[places]
        shared: Floats = self._by_kin[kin] + _as_groups(self._borrow_label(self.label_of[places]), PARENT_GROUPS)
        return shared

    def _borrow_label(self, labels: NDArray[Any]) -> Floats:
        pool = self._pool + UNKNOWN
        # Nothing is known of rewards before the first one, not even that it is 0.
        pool[MEAN_REWARD] = self._pool[MEAN_REWARD] / max(self._pool[GROUPS], 1e-9) * pool[GROUPS]
        shared: Floats = self._by_label[labels] + _as_groups(pool, PARENT_GROUPS)
        return shared

    @staticmethod
    def _prior(shared: Floats) -> tuple[Floats, Floats, Floats]:
        """Return mean, strength and mean reward of the Beta prior that shared evidence gives.

        By moments of the beta-binomial: two completions of a prompt whose pass rate is Beta with mean m and strength
        s = a + b differ with probability 2 E[p (1 - p)] = 2 m (1 - m) s / (s + 1).
        """
        mean, differ, reward = (shared[:, column] / shared[:, GROUPS] for column in (RATE, DIFFER, MEAN_REWARD))
        share = np.clip(differ / np.maximum(2 * mean * (1 - mean), 1e-9), 0.0, 0.99)
        return mean, np.clip(share / (1 - share), LEAST_STRENGTH, MOST_STRENGTH), reward

    # ------------------------------------------------------------ what is learnt

    def record(self, groups: Sequence[tuple[int, Group]]) -> None:
        """Add the groups of one step, each with the place of its prompt."""
        self.clock += 1
        for place, group in groups:
            scores = [c.score for c in group.completions if c.score.reward is not None]
            if not scores:
                continue
            n, correct = len(scores), sum(score.correct for score in scores)
            reward = sum(score.reward or 0.0 for score in scores)
            alike, graded = _compare_sides(scores)
            left = float(STEP_RETENTION ** (self.clock - self.seen_at[place])) if self.seen_at[place] else 0.0
            if not self.seen_at[place]:
                self._meet(place)
            seen_now = (correct, n - correct, reward, alike, graded)
            self.evidence[place] = self.evidence[place] * (left * GROUP_RETENTION) + seen_now
            self.seen_at[place] = self.clock
            if n < 2:
                continue  # says nothing of how much prompts differ
            # A prompt tells of others as far as it was not known itself: those drawn often must not speak for all.
            weight = 1 - left
            differ = 2 * correct * (n - correct) / (n * (n - 1))
            new = weight * np.array([1.0, correct / n, differ, reward / n, alike, graded])
            kept = 1 - weight * (1 - SHARED_RETENTION)
            kin, label = self.kin_of[place], self.label_of[place]
            self._by_kin[kin] = self._by_kin[kin] * kept + new
            self._by_label[label] = self._by_label[label] * kept + new
            self._pool = self._pool * kept + new

    # ------------------------------------------------------------ into a checkpoint and back

    def state(self) -> dict[str, Any]:
        """Return all of it but the ids of ``seen``, as plain JSON and exact to the last bit: 32 bytes a prompt seen."""
        rows = np.zeros(self._seen, ROW)
        rows["evidence"], rows["seen_at"] = self.evidence[self.seen], self.seen_at[self.seen]
        return {
            "clock": self.clock,
            "rows": base64.b64encode(rows.tobytes()).decode("ascii"),
            "pool": self._pool.tolist(),
            "labels": {self.labels[i]: self._by_label[i].tolist() for i in np.flatnonzero(self._by_label[:, GROUPS])},
            "kin": {self._kin_name(i): self._by_kin[i].tolist() for i in np.flatnonzero(self._by_kin[:, GROUPS])},
        }

    def load_state(self, state: Mapping[str, Any], seen: Sequence[int | None]) -> None:
        """Load what ``state`` gave, in place of what is here. ``seen`` has the places of its rows, None for a prompt
        that the pool no longer has."""
        content = base64.b64decode(state["rows"])
        rows = np.frombuffer(content, ROW if len(content) == len(seen) * ROW.itemsize else FIRST_ROW)
        columns = rows["evidence"].shape[1]
        kept = [row for row, place in enumerate(seen) if place is not None]
        places = np.array([seen[row] for row in kept], np.int32)
        self._forget()
        self.clock, self._seen = state["clock"], len(kept)
        self._order[: len(kept)] = places
        self.evidence[places, :columns], self.seen_at[places] = rows["evidence"][kept], rows["seen_at"][kept]
        self._pool[: len(state["pool"])] = state["pool"]
        for i, label in enumerate(self.labels):
            _fill(self._by_label[i], state["labels"].get(label, ()))
        for i in range(len(self._kin)):
            _fill(self._by_kin[i], state["kin"].get(self._kin_name(i), ()))

    def load_first_state(self, rows: Sequence[Sequence[float]], seen: Sequence[int | None]) -> None:
        """Load a state as this class once gave it: correct, wrong and summed reward of each prompt, nothing shared."""
        self._forget()
        self.clock = 1
        for place, (correct, wrong, reward, _) in zip(seen, rows, strict=True):
            if place is not None:
                self._meet(place)
                self.evidence[place, :3], self.seen_at[place] = (correct, wrong, reward), self.clock

    def _forget(self) -> None:
        for array in (self.evidence, self.seen_at, self._by_label, self._by_kin, self._pool):
            array[:] = 0
        self._seen = 0

    def _meet(self, place: int) -> None:
        self._order[self._seen] = place
        self._seen += 1

    def _kin_name(self, i: int | np.integer[Any]) -> str:
        label, length = divmod(int(self._kin[i]), LENGTHS)
        return f"{length} {self.labels[label]}"


def _compare_sides(scores: Sequence[Score]) -> tuple[float, float]:
    """Return what ALIKE and GRADED count of one group: each side but for one completion, and the share of the pairs of
    a side whose rewards differ, in completions."""
    alike = graded = 0.0
    for side in (True, False):
        counts = Counter(score.reward for score in scores if score.correct == side).values()
        n = sum(counts)
        if n > 1:
            alike += n - 1
            graded += n - sum(count * (count - 1) for count in counts) / n - 1
    return alike, graded


def _fill(row: Floats, stored: Sequence[float]) -> None:
    """Fill a row of shared evidence with a stored one, which may have fewer columns."""
    row[: len(stored)] = stored


def _as_groups(shared: Floats, n: float) -> Floats:
    """Scale shared evidence to the weight of ``n`` groups."""
    return shared * (n / shared[..., GROUPS, None])
