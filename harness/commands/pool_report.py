"""Describe a run's pool: which prompts it has not seen, has solved, or never solves, and how that went over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from harness.store.reader import RunReader
from harness.types import RunRecord, SampleRecord
from pools.identity import parse_id
from pools.table import PromptTable
from pools.view import RATE_BINS, Standing, Window, compute_windows, rank_prompts

WINDOWS = 24
"""Columns of the pool's heat map, at most."""
SAMPLE_FIELDS = ("step", "completion", "reward", "reason")
CLASSES = ("unseen", "frontier", "solved", "hopeless")


@dataclass(frozen=True, slots=True)
class Shown:
    """A prompt with its standing and the completions of it that were kept for people, newest first."""

    standing: Standing
    prompt: str
    samples: tuple[SampleRecord, ...]

    def to_json(self) -> dict[str, Any]:
        standing = self.standing
        return {
            "prompt_id": standing.prompt_id,
            "prompt": self.prompt,
            "label": standing.label,
            "pass_rate": standing.rate,
            "groups": standing.groups,
            "last_step": standing.last_step,
            "samples": [{name: getattr(sample, name) for name in SAMPLE_FIELDS} for sample in self.samples],
        }


@dataclass(frozen=True, slots=True)
class PoolView:
    """``windows`` cover the present era of the run. ``hardest`` and ``easiest`` have no prompt in common."""

    run: str
    prompts: int
    windows: tuple[Window, ...]
    hardest: tuple[Shown, ...]
    easiest: tuple[Shown, ...]

    def to_json(self) -> dict[str, Any]:
        last = self.windows[-1] if self.windows else None
        return {
            "run": self.run,
            "prompts": self.prompts,
            **{name: getattr(last, name) if last else self.prompts * (name == "unseen") for name in CLASSES},
            "rate_bins": list(RATE_BINS),
            "windows": [
                {"first": w.first, "last": w.last, "groups": list(w.rates)}
                | {name: getattr(w, name) for name in CLASSES}
                for w in self.windows
            ],
            "hardest": [shown.to_json() for shown in self.hardest],
            "easiest": [shown.to_json() for shown in self.easiest],
        }


def load_pool_view(reader: RunReader, run: RunRecord, train: PromptTable, *, n: int) -> PoolView:
    """Load the view of a pool, with ``n`` of the hardest and of the easiest prompts."""
    groups = reader.load_groups(run.id)
    ranked = rank_prompts(groups)
    hardest = ranked[:n]
    easiest = list(islice(reversed(ranked), min(n, len(ranked) - len(hardest))))
    place_of = {number: place for place, number in enumerate(train.numbers.tolist())} if ranked else {}
    texts = {
        standing.prompt_id: train[place_of[number]].text
        for standing in (*hardest, *easiest)
        if (number := parse_id(standing.prompt_id)) in place_of
    }
    samples = reader.load_samples_of(run.id, list(texts.values()))

    def show(standing: Standing) -> Shown:
        text = texts.get(standing.prompt_id, f"(prompt {standing.prompt_id}: not in the source any more)")
        return Shown(standing, text, tuple(samples.get(text, ())))

    windows = compute_windows(groups, pool_size=len(train), count=WINDOWS)
    return PoolView(run.name, len(train), tuple(windows), tuple(map(show, hardest)), tuple(map(show, easiest)))


def select_seen(
    train: PromptTable, standings: Sequence[Standing], *, below: float | None
) -> tuple[PromptTable, list[float]]:
    """Select the prompts of these standings with a pass rate under ``below``, and those rates, in the order of the
    pool."""
    rates = {parse_id(s.prompt_id): s.rate for s in standings if below is None or s.rate < below}
    chosen = train.select(np.flatnonzero(np.isin(train.numbers, np.array(list(rates), np.uint64))))
    return chosen, [rates[number] for number in chosen.numbers.tolist()]
