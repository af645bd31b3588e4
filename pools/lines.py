"""Choose prompts by the rows of the source that they come from: ``0-99`` or ``3,7-9``.

A row's number counts from 0: lines of JSONL, blank ones too, records of CSV after its header, members of a JSON list,
rows of anything else. So 0-99 are the first hundred.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.errors import InputError
from pools.table import PromptTable

PART = re.compile(r"\s*(\d{1,15})\s*(?:-\s*(\d{1,15})\s*)?")


def parse_lines(text: str) -> tuple[range, ...]:
    """Read ``3,7-9``, where both ends are in. Raises InputError."""
    found = [PART.fullmatch(part) for part in text.split(",")]
    ranges = tuple(range(int(part[1]), int(part[2] or part[1]) + 1) for part in found if part)
    if len(ranges) < len(found):
        raise InputError(f"--rows: it takes row numbers such as 0-99 or 3,7-9, the first row is 0, not {text!r}")
    for part in ranges:
        if not part:
            raise InputError(f"--rows: {part.start}-{part.stop - 1} must go from low to high")
    return ranges


def select_lines(prompts: PromptTable, ranges: Sequence[range]) -> tuple[PromptTable, int]:
    """Select the prompts whose rows are in ``ranges``, in the order of ``prompts``, and count the rows asked for that
    are none of them: refused or equal to another, or in another split. Raises InputError for a row beyond the end."""
    total = prompts.source_rows
    beyond = next((part for part in ranges if part.stop > total), None)
    if beyond is not None:
        raise InputError(f"--rows: there is no row {beyond.stop - 1}: the source has {total:,}, 0 to {total - 1}")
    wanted = np.zeros(total, bool)
    for part in ranges:
        wanted[part.start : part.stop] = True
    places: NDArray[np.int64] = np.flatnonzero(wanted[prompts.row_numbers])
    return prompts.select(places), int(wanted.sum()) - len(places)
