"""Count what became of the rows of a source: prompts, and rows that were merged, in conflict or skipped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.core.formatting import shorten

MOST_REASONS, OTHER = 12, "another reason"
SHOWN = 120
"""Characters of a reason, or of what is said of a row."""
QUOTED = re.compile(r"(?<!\w)(?:'[^']*(?:'|$)|\"[^\"]*(?:\"|$))")
"""What a message says of its own row: without it, equal faults have one reason."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Rows skipped for one reason, and the name of the first."""

    rows: int
    first: str


class SkipCounter:
    """Count rows that are left out by reason, MOST_REASONS of them; all others have one together."""

    def __init__(self) -> None:
        self._by_reason: dict[str, Skipped] = {}

    def add(self, reason: str, where: str, rows: int = 1) -> None:
        reason = shorten(QUOTED.sub("...", reason), SHOWN)
        if reason not in self._by_reason and len(self._by_reason) >= MOST_REASONS:
            reason = OTHER
        before = self._by_reason.get(reason) or Skipped(0, shorten(where, SHOWN))
        self._by_reason[reason] = Skipped(before.rows + rows, before.first)

    @property
    def by_reason(self) -> dict[str, Skipped]:
        """What was counted, the commonest reason first."""
        return dict(sorted(self._by_reason.items(), key=lambda item: -item[1].rows))


@dataclass(frozen=True, slots=True)
class RowCounts:
    """``read`` is the sum of ``kept``, ``merged`` (equal to an earlier row), ``conflicts`` (left out since the same
    prompt has another ground truth) and those ``skipped``, by reason. ``unwritable`` counts the rows of a column in
    which JSON cannot hold the value, so that the reward does not get it. ``layout`` says in one line how the source
    writes its rows (pools/layouts), empty for our own columns."""

    read: int
    kept: int
    merged: int = 0
    conflicts: int = 0
    skipped: Mapping[str, Skipped] = field(default_factory=dict)
    unwritable: Mapping[str, int] = field(default_factory=dict)
    layout: str = ""

    @property
    def noteworthy(self) -> bool:
        """Whether any row was left out, or any value."""
        return self.read != self.kept or bool(self.unwritable)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def parse_counts(document: Mapping[str, Any]) -> RowCounts:
    """Read what ``to_json`` wrote."""
    skipped = {reason: Skipped(**each) for reason, each in document["skipped"].items()}
    return RowCounts(**{**document, "skipped": skipped})


def describe_counts(counts: RowCounts) -> str:
    """Describe them in one line: ``6,000 rows read, 5,990 prompts: 4 merged (equal), 6 skipped (...)``."""
    layout = f"{counts.layout}; " if counts.layout else ""
    told = []
    if counts.merged:
        told.append(f"{counts.merged:,} merged (equal)")
    if counts.conflicts:
        told.append(f"{counts.conflicts:,} left out in conflict (equal prompt, other ground truth)")
    if counts.skipped:
        reasons = "; ".join(f"{why}: {skip.rows:,}, first {skip.first}" for why, skip in counts.skipped.items())
        told.append(f"{sum(skip.rows for skip in counts.skipped.values()):,} skipped ({reasons})")
    for column, rows in counts.unwritable.items():
        told.append(f"column {column} left out of {rows:,} (no JSON)")
    return f"{layout}{counts.read:,} rows read, {counts.kept:,} prompts" + (": " + ", ".join(told) if told else "")
