"""How a pool fared under a run: pure functions of the groups that the run recorded.

Prompts are unseen, hopeless (hardly ever right), solved (hardly ever wrong) or, in between or where grades give their
groups signal all the same, at the frontier. Unlike the posterior that draws, a class is about the prompt's own groups
alone: nothing is borrowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.types import SeenGroup
from pools.history import GROUP_RETENTION

SOLVED, HOPELESS = 0.95, 0.05
"""Pass rates from which, and up to which, a group of 8 is mixed in less than four of ten cases."""
RATE_BINS = ("none", "to 20%", "to 40%", "to 60%", "to 80%", "below all", "all")
"""Columns of the heat map: share of a group's completions that are correct."""


@dataclass(frozen=True, slots=True)
class Window:
    """Steps ``first`` to ``last``: groups by RATE_BINS, and the prompts by class after the last of them."""

    first: int
    last: int
    rates: tuple[int, ...]
    unseen: int
    frontier: int
    solved: int
    hopeless: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A prompt after all its groups: ``rate`` of the newest ones, each group weighing half of the one after it."""

    prompt_id: str
    label: str
    rate: float
    groups: int
    last_step: int


def compute_class_counts(correct: ArrayLike, wrong: ArrayLike, graded: ArrayLike) -> dict[str, int]:
    """Count prompts, ``{frontier, solved, hopeless: prompts}``, from the own evidence of prompts seen, of any scale.
    ``graded`` tells of each whether its groups have signal though all are right, or all wrong."""
    good, bad = np.asarray(correct, float), np.asarray(wrong, float)
    rate = np.where(np.asarray(graded, bool), 0.5, good / np.maximum(good + bad, 1e-9))
    solved, hopeless = int((rate >= SOLVED).sum()), int((rate <= HOPELESS).sum())
    return {"frontier": len(rate) - solved - hopeless, "solved": solved, "hopeless": hopeless}


def compute_windows(groups: Iterable[SeenGroup], *, pool_size: int, count: int) -> list[Window]:
    """Cut the run into at most ``count`` windows of equally many steps, without groups that have nothing judged."""
    judged = [group for group in groups if group.judged]
    if not judged:
        return []
    first, last = min(group.step for group in judged), max(group.step for group in judged)
    width = -(-(last - first + 1) // count)
    by_window: dict[int, list[SeenGroup]] = {start: [] for start in range(first, last + 1, width)}
    for group in judged:
        by_window[group.step - (group.step - first) % width].append(group)
    evidence: Evidence = {}
    windows = []
    for start, inside in by_window.items():
        for group in sorted(inside, key=lambda group: group.step):
            _add(evidence, group)
        rates = Counter(_rate_bin(group) for group in inside)
        correct, wrong, graded, plain = np.array(list(evidence.values())).T
        counts = compute_class_counts(correct, wrong, graded > plain)
        bins = tuple(rates[i] for i in range(len(RATE_BINS)))
        end = min(start + width - 1, last)
        windows.append(Window(start, end, bins, unseen=pool_size - len(evidence), **counts))
    return windows


def rank_prompts(groups: Iterable[SeenGroup]) -> list[Standing]:
    """Rank every prompt with a judged group, the hardest first; of equally hard ones that which had more groups."""
    evidence: Evidence = {}
    ranked: dict[str, Standing] = {}
    for group in sorted((group for group in groups if group.judged), key=lambda group: group.step):
        correct, wrong, *_ = _add(evidence, group)
        before = ranked.get(group.prompt_id)
        rate, many = correct / (correct + wrong), before.groups + 1 if before else 1
        ranked[group.prompt_id] = Standing(group.prompt_id, group.label, rate, many, group.step)
    return sorted(ranked.values(), key=lambda standing: (standing.rate, -standing.groups, standing.prompt_id))


Evidence = dict[str, tuple[float, float, float, float]]
"""By prompt: correct and wrong completions, and groups that are all right or all wrong, with signal and without."""


def _add(evidence: Evidence, group: SeenGroup) -> tuple[float, float, float, float]:
    before = evidence.get(group.prompt_id, (0.0,) * 4)
    one_sided = group.correct in (0, group.judged)
    new = group.correct, group.judged - group.correct, one_sided and group.mixed, one_sided and not group.mixed
    correct, wrong, graded, plain = (old * GROUP_RETENTION + more for old, more in zip(before, new, strict=True))
    evidence[group.prompt_id] = correct, wrong, graded, plain
    return evidence[group.prompt_id]


def _rate_bin(group: SeenGroup) -> int:
    if group.correct in (0, group.judged):
        return 0 if group.correct == 0 else len(RATE_BINS) - 1
    return -(-5 * group.correct // group.judged)
