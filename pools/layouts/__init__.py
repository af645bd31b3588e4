"""Rows as other projects publish them, brought into our columns: found by looking at the first rows, said in one line.

    layout = find_layout([row.values for row in first])      # GSM8K layout: question, answer after ####
    layout.convert({"question": "2+2?", "answer": "2+2=4\n#### 4"})["ground_truth"]      # "4"

Names and forms of columns are those of the data sets' own cards; docs/pools.md has the table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from pools.layouts import answers, chats, programs
from pools.layouts.base import Layout as Layout
from pools.layouts.base import Values, attempt, mostly
from pools.rows import Row

LOOKED_AT = 100
"""First rows of a source by which its layout is found."""


def find_layout(rows: Sequence[Values]) -> Layout | None:
    """Find the layout of the first rows of a source; None where they have our own columns, or no known ones."""
    if not rows or mostly(rows, _is_ours):
        return None
    narrow_first = (
        *programs.FINDERS,
        *answers.FINDERS,
        *chats.FINDERS,
        answers.find_question_answer,
        *chats.WIDE_FINDERS,
    )
    return next((layout for find in narrow_first if (layout := find(rows))), None)


class ArrangedRows:
    """The rows of a source in our columns: of its layout, and of dotted names that reach into nested objects.

    ``open_rows`` opens the source. ``columns`` are those of the spec: where they name a prompt no layout is looked for.
    ``rewards`` are its reward functions, unset where any layout will do.
    ``layout`` and the count of ``dropped`` rows, with the ``first_dropped``, are known once the rows were read.
    """

    def __init__(
        self,
        open_rows: Callable[[], Iterator[Row]],
        columns: Mapping[str, str],
        rewards: Collection[str] | None = None,
    ) -> None:
        self._open = open_rows
        self._columns = columns
        self._rewards = rewards
        self.layout: Layout | None = None
        self.read = 0
        self.dropped = 0
        self.first_dropped = ""

    def __iter__(self) -> Iterator[Row]:
        self.read, self.dropped, self.first_dropped = 0, 0, ""
        rows = self._open()
        first = [] if "prompt" in self._columns else list(islice(rows, LOOKED_AT))
        self.layout = find_layout([row.values for row in first])
        if self.layout and self.layout.readable and self._rewards and self.layout.reward not in self._rewards:
            self.layout = None
        dotted = [name for name in self._columns.values() if "." in name]
        if self.layout is None and not dotted:
            yield from chain(first, rows)
            return
        for row in chain(first, rows):
            self.read += 1
            values: Values | None = row.values
            if self.layout is not None:
                values = attempt(self.layout.convert, row.values)
            if values is None:
                self.dropped += 1
                self.first_dropped = self.first_dropped or row.where.removeprefix("pool.source: ")
                continue
            for name in dotted:
                values = _reach(values, name)
            yield row if values is row.values else replace(row, values=values)

    @property
    def said(self) -> str:
        """The layout in one line, with the rows that it drops; empty for our own columns."""
        if self.layout is None:
            return ""
        dropped = (
            f"{self.dropped:,} of {self.read:,} rows dropped, with nothing to judge by (first: {self.first_dropped})"
        )
        return self.layout.says + (f"; {dropped}" if self.dropped else "")


def _reach(values: Values, name: str) -> Values:
    """Add a column of the dotted ``name`` with what stands there in nested objects."""
    found: Any = values
    for part in () if name in values else name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return values if found is None or found is values else {**values, name: found}


def _is_ours(row: Values) -> bool:
    return ("prompt" in row or "messages" in row) and row.get("ground_truth") is not None
