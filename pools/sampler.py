"""Which prompts of a pool a step draws, by the samplers of docs/pools.md. Every choice is a pure function of the
history and a random generator.

Frontier scores candidates with Thompson sampling (MoPPS, Qu et al. 2025) tempered by the expected signal: the best of
many samples would be the luckiest of the prompts never seen, the best of many expectations always the same. Published
work chooses by rolling out first and dropping groups without signal (DAPO, SPEED-RL) or by skipping prompts that had
none before (GRESO); here nothing is rolled out only to be dropped, unless ``dynamic`` asks for it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pools.history import Floats, History, Places
from pools.outlook import compute_equal_rate, compute_mixed_rate

EXPLORED = 1 / 16
"""Share of a frontier draw, on average, that is taken uniformly, so that every prompt has its turn."""
REST = 2
"""Steps from one group of a prompt to its next, at least, where a sampler chooses."""
FRESH_AGAIN = 10
"""Steps after which a prompt that had a group counts half as much as one that never had: of prompts that promise
the same, others teach more than the same ones over and over."""
CANDIDATES = 2048
"""Prompts that a draw scores, at most: a smaller pool whole, of a larger one half of those seen and half of all."""
FOCUS_WIDTH = 0.15
"""How far from the focus a pass rate may lie and still be drawn often (standard deviation)."""
CURRENT = 0.7
"""Share of a curriculum draw from the current label; the rest comes from all, to measure the other labels."""
MOST_DRAWN = 4
"""A dynamic step rolls out at most so many times the prompts it was asked for."""
NONE = np.empty(0, np.int64)


def draw_frontier(
    history: History,
    rng: np.random.Generator,
    n: int,
    *,
    focus: float | None,
    group_size: int,
    excluded: Places = NONE,
) -> Places:
    """Draw ``n`` distinct places, none ``excluded``: those with the best scores and, on average a share EXPLORED,
    others."""
    candidates = _find_candidates(history, rng, n, excluded)
    freshness = 1 - 0.5 ** (_compute_ages(history, candidates) / FRESH_AGAIN)
    scores = _score(history, rng, candidates, focus, group_size) * freshness
    best_first = np.argsort(-scores, kind="stable")  # a partition would be faster, and differ between processors
    best = n - int(rng.binomial(n, EXPLORED))
    others = rng.choice(best_first[best:], size=n - best, replace=False)
    places: Places = candidates[np.concatenate([best_first[:best], others])]
    return places


def draw_curriculum(history: History, rng: np.random.Generator, n: int, *, focus: float | None) -> Places:
    """Draw ``n`` distinct places: a share CURRENT of the easiest label that is not mastered, the rest of any.

    A label is mastered at a pass rate of (1 + focus) / 2, 0.75 without one. When all are, the hardest stays current.
    """
    rates = _measure_labels(history, rng)
    easiest_first = np.argsort(-rates, kind="stable")
    still_open = easiest_first[rates[easiest_first] < (1 + (0.5 if focus is None else focus)) / 2]
    current = int(still_open[0] if len(still_open) else easiest_first[-1])
    of_label = _sample(rng, history.of_label[current], max(CANDIDATES, 4 * n))
    rested = of_label[_compute_ages(history, of_label) >= REST]
    chosen = rng.choice(rested, size=min(len(rested), math.ceil(CURRENT * n)), replace=False)
    others = _find_candidates(history, rng, n - len(chosen), chosen)
    return np.concatenate([chosen, rng.choice(others, size=n - len(chosen), replace=False)])


def _measure_labels(history: History, rng: np.random.Generator) -> Floats:
    """Return the pass rate of each label: of prompts seen, and as if there were one more that its prior speaks for."""
    places = _sample(rng, history.seen, CANDIDATES)
    a, b = history.posterior(places)
    label, size = history.label_of[places], len(history.labels)
    total = np.bincount(label, a / (a + b), minlength=size) + history.label_rates()
    rates: Floats = total / (np.bincount(label, minlength=size) + 1)
    return rates


def _find_candidates(history: History, rng: np.random.Generator, n: int, excluded: Places) -> Places:
    """Return places that have rested: of the whole pool, or of so many of a large one that ``n`` are left."""
    size, many = len(history.label_of), max(CANDIDATES, 4 * n) + len(excluded)
    if size <= many:
        places = np.arange(size)
    else:
        seen = _sample(rng, history.seen, many // 2)
        places = np.union1d(seen, rng.choice(size, size=many - len(seen), replace=False, shuffle=False))
    places = places[~np.isin(places, excluded)]
    rested = places[_compute_ages(history, places) >= REST]
    return rested if len(rested) >= n else places


def _compute_ages(history: History, places: Places) -> Floats:
    """Return the steps since the last group of each prompt; infinite where there was none."""
    seen_at = history.seen_at[places]
    return np.where(seen_at == 0, np.inf, history.clock + 1 - seen_at)


def _sample(rng: np.random.Generator, places: NDArray[np.integer], most: int) -> Places:
    if len(places) > most:
        places = rng.choice(places, size=most, replace=False, shuffle=False)
    return places.astype(np.int64, copy=False)


def _score(history: History, rng: np.random.Generator, places: Places, focus: float | None, group_size: int) -> Floats:
    """Return the signal at a pass rate sampled from the posterior times the signal to expect of it: an order, not a
    rate."""
    a, b = history.posterior(places)
    sampled = rng.beta(a, b)
    if focus is None:
        grading = history.grading(places)
        same = sampled**group_size + (1 - sampled) ** group_size
        mixed = 1 - same * compute_equal_rate(grading, group_size)
        return mixed * compute_mixed_rate(a, b, group_size, grading)
    # A Gaussian around the focus; its expectation as if the posterior were Gaussian too.
    mean = a / (a + b)
    variance = FOCUS_WIDTH**2 + mean * (1 - mean) / (a + b + 1)
    expected = FOCUS_WIDTH / np.sqrt(variance) * np.exp(-((mean - focus) ** 2) / (2 * variance))
    near: Floats = np.exp(-((sampled - focus) ** 2) / (2 * FOCUS_WIDTH**2))
    return near * expected


def compute_top_up(mixed: int, drawn: int, wanted: int) -> int:
    """Return how many more prompts a dynamic step rolls out that has ``mixed`` of ``drawn`` groups and wants
    ``wanted``: as many as the measured rate asks for, at most ``wanted`` at once (which fits into memory) and
    MOST_DRAWN times that in all."""
    rate = (mixed + 1) / (drawn + 2)
    return max(0, min(math.ceil((wanted - mixed) / rate), wanted, MOST_DRAWN * wanted - drawn))
