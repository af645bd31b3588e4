"""Cutting the rows of a step into micro-batches of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def pack_rows(rows: Sequence[int], lengths: Sequence[int], group_size: int, micro_batch: int) -> Iterator[list[int]]:
    """``rows`` in micro-batches of at most ``micro_batch``, those of a group together where they fit.

    Groups of similar length meet, so that little is padded; the longest come first, so that memory runs out at once
    or not at all.
    """
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(row // group_size, []).append(row)
    filled: list[int] = []
    for group in sorted(groups.values(), key=lambda group: -max(lengths[row] for row in group)):
        if filled and len(filled) + len(group) > micro_batch:
            yield filled
            filled = []
        filled = filled + group
        while len(filled) > micro_batch:
            yield filled[:micro_batch]
            filled = filled[micro_batch:]
    if filled:
        yield filled
