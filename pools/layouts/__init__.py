"""Rows as other projects publish them, brought into our columns: found by looking at the first rows, said in one line.

    layout = find_layout([row.values for row in first])      # GSM8K layout: question, answer after ####
    layout.convert({"question": "2+2?", "answer": "2+2=4\n#### 4"})["ground_truth"]      # "4"

Names and forms of columns are those of the data sets' own cards; docs/pools.md has the table.
"""

from __future__ import annotations

from collections.abc import Sequence

from pools.layouts import answers, chats, programs
from pools.layouts.base import Layout as Layout
from pools.layouts.base import Values, mostly

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


def _is_ours(row: Values) -> bool:
    return ("prompt" in row or "messages" in row) and row.get("ground_truth") is not None
