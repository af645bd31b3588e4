"""Disjoint splits of a source: by content hash, so neither its order nor a run's seed matters."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from harness.errors import InputError
from harness.types import Prompt


def split_prompts(prompts: Sequence[Prompt], sizes: Mapping[str, int]) -> dict[str, list[Prompt]]:
    """``{split: prompts}`` for each of ``sizes``, and all the rest as train. Raises InputError if none is left."""
    ordered = sorted(prompts, key=lambda prompt: hashlib.sha256(f"split:{prompt.id}".encode()).digest())
    splits: dict[str, list[Prompt]] = {}
    start = 0
    for name in ("test", "dev", "probe"):  # test first: it must not move when the other sizes are changed
        size = sizes[name]
        splits[name] = ordered[start : start + size]
        start += size
    splits["train"] = ordered[start:]
    if not splits["train"]:
        raise InputError(
            f"pool.splits: {start} prompts for test, dev and probe leave none to train on: the source has "
            f"{len(prompts)}; take smaller splits or a larger source"
        )
    return splits
