"""The train split with its history: which prompts a step draws, and what to expect of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from harness.errors import InputError
from harness.types import Group, Prompt
from pools.history import CORRECT, WRONG, Floats, History, Places
from pools.sampler import Sampler, compute_mixed_rate, compute_top_up, draw_curriculum, draw_frontier, draw_uniform
from pools.view import compute_class_counts

LOOKED_AT = 4096
"""Prompts seen from which the shares of the classes are taken, at most."""


class PromptPool:
    """``harness.types.Pool`` over a list of prompts. A draw is a pure function of (seed, history)."""

    def __init__(self, prompts: Sequence[Prompt], *, draw_share: float, sampler: Sampler) -> None:
        self.prompts = list(prompts)
        self.draw_share = draw_share
        self.sampler = sampler
        self.history = History(self.prompts)
        # A dict from id to place would be most of the pool's memory: 75 bytes a prompt instead of 12.
        hashes = np.fromiter((hash(prompt.id) for prompt in self.prompts), np.int64, len(self.prompts))
        self._by_hash = np.argsort(hashes).astype(np.int32)
        self._hashes = hashes[self._by_hash]
        if sampler == "curriculum" and len(self.history.labels) < 2:
            raise InputError(
                "pool.sampler: curriculum goes from label to label, and all train prompts have the same one; "
                "label the rows of pool.source, or take frontier"
            )

    def largest_draw(self) -> int:
        return max(1, int(len(self.prompts) * self.draw_share))

    def check_draw(self, n: int) -> None:
        """Raises InputError when a step of ``n`` prompts would draw more than its share of the pool."""
        if n > self.largest_draw():
            raise InputError(
                f"knobs.prompts_per_step: {n} is more than {self.draw_share:.0%} of the {len(self.prompts)} train "
                f"prompts: at most {self.largest_draw()}, or a larger pool, or a larger pool.draw_share"
            )

    # ------------------------------------------------------------ which prompts

    def draw(self, n: int, *, seed: int, focus: float | None, group_size: int) -> list[Prompt]:
        """``n`` distinct prompts as the sampler chooses them for groups of ``group_size``.

        A focus is a target pass rate; uniform and frontier then both draw mostly prompts near it.
        """
        return [self.prompts[place] for place in self._draw(n, seed, focus, group_size)]

    def top_up(
        self, groups: Sequence[Group], n: int, *, seed: int, focus: float | None, group_size: int
    ) -> list[Prompt]:
        """More prompts for a dynamic step that wants ``n`` mixed groups and has rolled out ``groups``.

        None when enough are mixed, when the step has rolled out as many as it may, or when the sampler is another.
        """
        if self.sampler != "dynamic":
            return []
        more = compute_top_up(sum(_is_mixed(group) for group in groups), len(groups), n)
        drawn = self._places([group.prompt for group in groups]).tolist()
        more = min(more, len(self.prompts) - len(drawn))
        return [self.prompts[place] for place in self._draw(more, seed, focus, group_size, drawn)] if more else []

    def _draw(
        self, n: int, seed: int, focus: float | None, group_size: int, excluded: Collection[int] = ()
    ) -> list[int]:
        rng = np.random.default_rng(seed)
        n = n if excluded else min(n, self.largest_draw())
        if self.sampler == "curriculum":
            places = draw_curriculum(self.history, rng, n, focus=focus, excluded=excluded)
        elif self.sampler == "uniform" and focus is None:
            places = draw_uniform(self.history, rng, n, excluded=excluded)
        else:
            places = draw_frontier(self.history, rng, n, focus=focus, group_size=group_size, excluded=excluded)
        return [int(place) for place in places]

    # ------------------------------------------------------------ what is known

    def expected_rewards(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        """Posterior mean of each prompt's reward before the step, by id; 0 while nothing was seen."""
        rewards = self.history.expected_rewards(self._places(prompts)).tolist()
        return dict(zip((prompt.id for prompt in prompts), rewards, strict=True))

    def pass_rates(self) -> Floats:
        """Posterior mean of correctness of every prompt."""
        a, b = self.history.posterior(np.arange(len(self.prompts)))
        rates: Floats = a / (a + b)
        return rates

    def outlook(self, drawn: Sequence[Prompt], group_size: int) -> dict[str, float]:
        """What the posterior says of the pool and of a step's prompts before it, as metrics.

        ``pool/*_rate``: shares of the pool by class. ``pool/mixed_expected``: share of mixed groups among those drawn;
        ``_larger``: of the same prompts with twice the group size; ``_frontier``: of those that frontier would draw.
        Divided by their group sizes they are mixed groups per rollout. For given prompts and group sizes from 3 on,
        that never rises with the group size: 1 - p^G - q^G grows by p q (p^(G-1) + q^(G-1)) from G to G + 1, which
        falls with G, and at 2 and 3 the quotient is p q. So other prompts can give more mixed groups per rollout, a
        larger group only more of the rollouts that lie in mixed groups, at best (p near 0 or 1) at no cost.
        """
        history = self.history
        best = draw_frontier(history, np.random.default_rng(0), len(drawn), focus=None, group_size=group_size)
        seen = history.seen[:: -(-len(history.seen) // LOOKED_AT) or 1]
        counts = compute_class_counts(history.evidence[seen, CORRECT], history.evidence[seen, WRONG])
        share_seen = len(history.seen) / len(self.prompts)
        rates = {name: share_seen * count / max(len(seen), 1) for name, count in counts.items()}
        return {
            "pool/unseen_rate": 1 - share_seen,
            **{f"pool/{name}_rate": rate for name, rate in rates.items()},
            "pool/mixed_expected": self._mean_mixed(self._places(drawn), group_size),
            "pool/mixed_expected_larger": self._mean_mixed(self._places(drawn), 2 * group_size),
            "pool/mixed_expected_frontier": self._mean_mixed(best, group_size),
        }

    def _mean_mixed(self, places: Places, group_size: int) -> float:
        return float(compute_mixed_rate(*self.history.posterior(places), group_size).mean())

    # ------------------------------------------------------------ history

    def record(self, groups: Sequence[Group]) -> None:
        """Add what a step saw. Errored completions say nothing about the model and are left out."""
        self.history.record(list(zip(self._places([group.prompt for group in groups]).tolist(), groups, strict=True)))

    def state(self) -> dict[str, Any]:
        """The history as plain JSON, exact to the last bit: some 40 bytes for each prompt seen."""
        return {"seen": [self.prompts[place].id for place in self.history.seen], **self.history.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Exactly what ``state`` gave. Prompts that the pool no longer has are left out."""
        self.history.load_state(state, [self._find(prompt_id) for prompt_id in state["seen"]])

    def _places(self, prompts: Sequence[Prompt]) -> Places:
        """Their places in the pool. Raises KeyError for a prompt that is not of this pool."""
        places = [self._find(prompt.id) for prompt in prompts]
        if None in places:
            raise KeyError(prompts[places.index(None)].id)
        return np.array(places, np.int64)

    def _find(self, prompt_id: str) -> int | None:
        at = int(np.searchsorted(self._hashes, hash(prompt_id)))
        while at < len(self._hashes) and self._hashes[at] == hash(prompt_id):
            place = int(self._by_hash[at])
            if self.prompts[place].id == prompt_id:
                return place
            at += 1
        return None


def _is_mixed(group: Group) -> bool:
    return len({c.score.reward for c in group.completions if c.score.reward is not None}) > 1
