"""The train split with its history: which prompts a step draws, and what to expect of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.errors import InputError
from harness.types import Group, Prompt, Sampler
from pools.history import History, Places
from pools.identity import parse_id
from pools.outlook import compute_outlook
from pools.sampler import compute_top_up, draw_curriculum, draw_frontier
from pools.table import PromptTable


class PromptPool:
    """``harness.types.Pool`` over a table of prompts. A draw is a pure function of (seed, history)."""

    def __init__(self, prompts: PromptTable, *, draw_share: float, sampler: Sampler) -> None:
        self.prompts = prompts
        self.draw_share = draw_share
        self.sampler: Sampler = sampler
        self.history = History(prompts.labels, prompts.text_lengths)
        # A dict from id to place would be most of the pool's memory: 75 bytes a prompt instead of 12.
        numbers = prompts.numbers
        self._by_number = np.argsort(numbers).astype(np.int32)
        self._numbers = numbers[self._by_number]
        if sampler == "curriculum" and len(self.history.labels) < 2:
            raise InputError(
                "pool.sampler: curriculum goes from label to label, and all train prompts have the same one; "
                "label the rows of pool.source, or take frontier"
            )

    def largest_draw(self) -> int:
        return max(1, int(len(self.prompts) * self.draw_share))

    def check_draw(self, n: int) -> None:
        """Raise InputError when a step of ``n`` prompts would draw more than its share of the pool."""
        if n > self.largest_draw():
            raise InputError(
                f"knobs.prompts_per_step: {n} is more than {self.draw_share:.0%} of the {len(self.prompts)} train "
                f"prompts: at most {self.largest_draw()}, or a larger pool, or a larger pool.draw_share"
            )

    # ------------------------------------------------------------ which prompts

    def draw(self, n: int, *, seed: int, focus: float | None, group_size: int) -> list[Prompt]:
        """Draw ``n`` distinct prompts as the sampler chooses them for groups of ``group_size``. With a target pass rate
        ``focus`` uniform and frontier both draw mostly prompts near it."""
        rng = np.random.default_rng(seed)
        n = min(n, self.largest_draw())
        if self.sampler == "curriculum":
            places = draw_curriculum(self.history, rng, n, focus=focus)
        elif self.sampler == "uniform" and focus is None:
            places = rng.choice(len(self.prompts), size=n, replace=False)
        else:
            places = draw_frontier(self.history, rng, n, focus=focus, group_size=group_size)
        return self._at(places)

    def top_up(
        self, groups: Sequence[Group], n: int, *, seed: int, focus: float | None, group_size: int
    ) -> list[Prompt]:
        """Draw more prompts for a dynamic step that wants ``n`` mixed groups and has these so far; none when they are
        enough, when the step has drawn as many as it may, or when the sampler is another."""
        mixed = sum(group.mixed for group in groups)
        more = min(compute_top_up(mixed, len(groups), n), len(self.prompts) - len(groups))
        if self.sampler != "dynamic" or more == 0:
            return []
        rng, excluded = np.random.default_rng(seed), self._places([group.prompt for group in groups])
        return self._at(draw_frontier(self.history, rng, more, focus=focus, group_size=group_size, excluded=excluded))

    def find(self, prompt_ids: Sequence[str]) -> list[Prompt]:
        """Return the prompts with these ids, in their order; one that is not of this pool is left out."""
        return self._at(place for place in map(self._find, prompt_ids) if place is not None)

    # ------------------------------------------------------------ what is known

    def expected_rewards(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        """Return the posterior mean of each prompt's reward before the step, by id; 0 while nothing was seen."""
        rewards = self.history.expected_rewards(self._places(prompts)).tolist()
        return {prompt.id: reward for prompt, reward in zip(prompts, rewards, strict=True)}

    def outlook(self, drawn: Sequence[Prompt], group_size: int) -> dict[str, float]:
        """Compute the metrics of the prompts a step draws, before it, beside those that frontier would have drawn."""
        others = draw_frontier(self.history, np.random.default_rng(0), len(drawn), focus=None, group_size=group_size)
        return compute_outlook(self.history, self._places(drawn), others, group_size)

    # ------------------------------------------------------------ history

    def record(self, groups: Sequence[Group]) -> None:
        """Add what a step saw. Errored completions say nothing about the model and are left out."""
        self.history.record(list(zip(self._places([group.prompt for group in groups]).tolist(), groups, strict=True)))

    def state(self) -> dict[str, Any]:
        """Return the history as plain JSON, exact to the last bit: some 55 bytes for each prompt seen."""
        seen = self.prompts.select(self.history.seen.astype(np.int64)).ids
        return {"seen": seen, **self.history.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Load exactly what ``state`` gave. Prompts that the pool no longer has are left out."""
        places = [self._find(prompt_id) for prompt_id in state["seen"]]
        if isinstance(state["seen"], Mapping):  # a checkpoint from before this history
            self.history.load_first_state(list(state["seen"].values()), places)
        else:
            self.history.load_state(state, places)

    def _places(self, prompts: Sequence[Prompt]) -> Places:
        """Find their places in the pool. Raises KeyError for a prompt that is not of this pool."""
        places = [self._find(prompt.id) for prompt in prompts]
        if None in places:
            raise KeyError(prompts[places.index(None)].id)
        return np.array(places, np.int64)

    def _at(self, places: Iterable[int]) -> list[Prompt]:
        return [self.prompts[int(place)] for place in places]

    def _find(self, prompt_id: str) -> int | None:
        number = np.uint64(parse_id(prompt_id))
        at = int(np.searchsorted(self._numbers, number))
        return int(self._by_number[at]) if at < len(self._numbers) and self._numbers[at] == number else None
