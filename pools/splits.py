"""Disjoint named splits of a source, by content hash: neither its order nor a run's seed matters.

Every prompt has a fixed *place*, a hash of its family (pools/identity.py). Prompts of one family are in one split: no
near-duplicate of a test prompt is trained on. A split's share is either

- a **fraction**: the prompts whose place lies in an interval of that length. No other prompt has a say in it, so a
  source may grow and each prompt stays where it is; the split grows with it.
- a **size**: the lowest places that are free. Exact, but a new prompt may have a lower place than one that was in, so
  what was once given out is kept in a file (``load_assigned``, ``record_assigned``) and stays; new prompts are for
  train. (No rule without memory can do this: let two disjoint sources each be given their test prompts; of their union
  all of them must be test, which is twice the size.)

A size is exact also where families are large: one that does not fit is passed over for the next that does. Where none
does, the last is cut, and its other prompts are in no split. Nor are those of a family that was given out when it had
fewer, where they would make the split too large.

Fractions are cut from the upper end and sizes taken from the lower, in the order test, dev, probe, then any others by
name: test does not move when the others change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.core.files import write_whole
from harness.errors import InputError
from pools.identity import compute_place
from pools.table import PromptTable

FIRST = ("test", "dev", "probe")
USUAL = {"probe": (0.1, 100), "dev": (0.1, 200), "test": (0.2, 300)}
"""Share of a source, and the most prompts that are of use."""
Share = int | float
Assigned = Mapping[str, Sequence[str]]
"""Families of the prompts that were given to each split of a size, in that order."""


def split_prompts(
    prompts: PromptTable, shares: Mapping[str, Share], assigned: Assigned | None = None
) -> dict[str, PromptTable]:
    """Cut ``{split: prompts}`` for each of ``shares``; all the rest is train, unless train has a share too.

    Those ``assigned`` before stay, as many as the size still allows; a split asked for more, or which lost some, is
    filled up from the free ones. Raises InputError when there are not enough prompts.
    """
    places = prompts.places
    order = np.argsort(places, kind="stable")
    names = [name for name in FIRST if name in shares]
    names += sorted(shares.keys() - {*FIRST, "train"}) + ["train"] * ("train" in shares)
    free = np.ones(len(places), dtype=bool)
    rows: dict[str, NDArray[np.int64]] = {}

    above = 0.0
    fractions = [name for name in names if isinstance(shares[name], float)]
    for name in fractions:
        above += shares[name]
        lowest = max(0, round((1.0 - above) * 2**64))
        rows[name] = order[(free & (places >= np.uint64(lowest)))[order]]
        free[rows[name]] = False

    given = {name: _find(families, places, order) for name, families in (assigned or {}).items()}
    sized = {name: int(shares[name]) for name in names if name not in fractions}
    for name, size in sized.items():
        kept = given.get(name, order[:0])
        rows[name], used_up = _keep(kept[free[kept]], places, size)
        free[used_up] = False
    elsewhere = np.zeros(len(places), dtype=bool)
    for others in given.values():
        elsewhere[others] = True
    for name, size in sized.items():
        candidates = order[free[order]]
        # Of another spec's splits last: so far no run that kept to either has trained on them.
        candidates = np.concatenate([candidates[~elsewhere[candidates]], candidates[elsewhere[candidates]]])
        more = _take(candidates, places, size - len(rows[name]))
        rows[name] = np.concatenate([rows[name], more])
        free[rows[name]] = False
        if (missing := size - len(rows[name])) and free.any():
            family = np.flatnonzero(free & (places == places[candidates[np.argmax(free[candidates])]]))
            rows[name] = np.concatenate([rows[name], family[:missing]])
            free[family] = False

    if "train" not in shares:
        rows["train"] = order[free[order]]
    _check(rows, sized, fractions, len(places))
    return {name: prompts.select(found) for name, found in rows.items()}


def propose_sizes(total: int) -> dict[str, int]:
    """Propose sizes of probe, dev and test for a source of ``total`` prompts, most of which stay for training."""
    return {name: max(1, min(most, int(total * share))) for name, (share, most) in USUAL.items()}


def load_assigned(path: Path) -> dict[str, list[str]]:
    """Load what ``record_assigned`` kept; nothing when there is no such file. Raises InputError when it is damaged."""
    try:
        kept: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))["splits"]
        return {name: [str(family) for family in families] for name, families in kept.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"pool.splits: cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"pool.splits: {path} is damaged, which says which prompts belong to which split; put it back, or delete "
            "it and the splits are cut again"
        ) from None


def record_assigned(path: Path, source: str, splits: Mapping[str, PromptTable], shares: Mapping[str, Share]) -> None:
    """Add the prompts of every split of a size to what ``path`` keeps for ``source``; all of it or nothing."""
    kept = load_assigned(path)
    before = {name: list(ids) for name, ids in kept.items()}
    for name, share in shares.items():
        if isinstance(share, int):
            kept[name] = list(dict.fromkeys([*kept.get(name, []), *splits[name].compute_families()]))
    if kept == before:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as part:
        part.write_text(json.dumps({"source": source, "splits": kept}), encoding="utf-8")


def _find(families: Sequence[str], places: NDArray[np.uint64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the rows of those ``families`` among the prompts, in the order of ``families``."""
    wanted = np.array([compute_place(family) for family in families], dtype=np.uint64)
    ordered = places[order]
    starts, ends = np.searchsorted(ordered, wanted, "left"), np.searchsorted(ordered, wanted, "right")
    lengths = ends - starts
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows: NDArray[np.int64] = order[np.repeat(starts, lengths) + within]
    return rows


def _keep(
    rows: NDArray[np.int64], places: NDArray[np.uint64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keep ``size`` of the rows that a split was given before, and tell all whose families it then has: the first of
    every family, which may be all that it was given, before any second one."""
    if len(rows) <= size:
        return rows, rows
    of = places[rows]
    begins = np.concatenate([[True], of[1:] != of[:-1]])
    kept = begins & (np.cumsum(begins) <= size)
    theirs = np.isin(of, of[kept])
    others = np.flatnonzero(theirs & ~kept)
    kept[others[: size - int(kept.sum())]] = True
    return rows[kept], rows[theirs]


def _take(rows: NDArray[np.int64], places: NDArray[np.uint64], size: int) -> NDArray[np.int64]:
    """Take the first ``size`` rows, in whole families, which stand together: of those that would not fit none."""
    if len(rows) <= size or size == 0:
        return rows[:size]
    of = places[rows]
    starts = np.flatnonzero(np.concatenate([[True], of[1:] != of[:-1]]))
    ends = np.append(starts[1:], len(rows))
    whole = int(np.searchsorted(ends, size, "right"))
    taken = [rows[: ends[whole - 1] if whole else 0]]
    left = size - len(taken[0])
    while left and (fit := np.flatnonzero(ends[whole:] - starts[whole:] <= left)).size:
        whole += int(fit[0]) + 1
        taken.append(rows[starts[whole - 1] : ends[whole - 1]])
        left -= len(taken[-1])
    return np.concatenate(taken)


def _check(
    rows: Mapping[str, NDArray[np.int64]], sized: Mapping[str, int], fractions: Sequence[str], total: int
) -> None:
    short = any(len(rows[name]) < size for name, size in sized.items())
    if short or not len(rows["train"]):
        by_fraction = sum(len(rows[name]) for name in fractions)
        wanted = ", ".join(f"{name} {size}" for name, size in sized.items())
        fault = "leave none to train on" if not len(rows["train"]) else "are too many"
        taken = f", {by_fraction} of them taken by fractions" if by_fraction else ""
        fitting = ", ".join(f"{name} = {size}" for name, size in propose_sizes(total).items())
        raise InputError(
            f"pool.splits: {sum(sized.values())} prompts ({wanted}) {fault}: the source has {total}{taken}; "
            f"take smaller splits or a larger source, e.g. pool.splits = {{ {fitting} }}"
        )
    for name in fractions:
        if not len(rows[name]):
            raise InputError(
                f"pool.splits: the fraction for {name} of {total} prompts is none; take a larger one, or give a size "
                "(a pool that was built or exported holds train prompts alone, which no fraction finds)"
            )
