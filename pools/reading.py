"""Read the rows of a source into columns: each becomes a prompt, or is refused, merged or skipped, and is counted.

A million rows are read one at a time. Of each that makes a prompt two numbers stay until the end, its id and a hash of
its ground truth; sorting them tells which are equal, which costs less memory than a set of what was seen.
"""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness.errors import InputError
from harness.types import Prompt
from pools.counts import RowCounts, SkipCounter
from pools.identity import compute_place, format_id, identify
from pools.layouts import ArrangedRows
from pools.messages import fill_prompt
from pools.rows import Row, encode_columns, encode_messages, make_prompt
from pools.table import make_batches

KEPT_COLUMNS = ("id", "difficulty", "system", "tools", "temperature", "max_tokens")
"""Columns that a pool keeps, whatever the reward asks for: templates show ``tools`` to the model, and an evaluation
asks a row with its own ``temperature`` and ``max_tokens``."""
UNJUDGED = "nothing to judge by"
SHOWN = 60
"""Characters of a prompt or ground truth in a message."""


@dataclass(frozen=True, slots=True)
class RowRules:
    """What is asked of rows, and what is done with those that fall short.

    ``wanted`` are the columns that the reward asks for besides, unset all. ``conflicts`` says what happens to equal
    prompts with different ground truths, ``strip`` what is cut from demonstrations. ``identity`` normalised is that of
    runs from before ids were exact: prompts of one family are one prompt.
    """

    wanted: frozenset[str] | None = None
    needs_truth: bool = True
    conflicts: Literal["refuse", "first", "drop"] = "refuse"
    skip_bad: bool = False
    strip: tuple[str, ...] = ()
    identity: Literal["exact", "normalised"] = "exact"

    def to_json(self) -> str:
        wanted = None if self.wanted is None else sorted(self.wanted)
        values = (wanted, self.needs_truth, self.conflicts, self.skip_bad, self.strip, self.identity)
        return json.dumps(values)


DEFAULT_RULES = RowRules()


@dataclass
class Reading:
    """One source on its way into columns: ``read`` all of it, then ``finish``."""

    rows: ArrangedRows
    source: str
    names: Mapping[str, str]
    template: str
    rules: RowRules
    _rows: int = 0
    _missing: array[int] = field(default_factory=lambda: array("q"))
    _next: int = 0
    _ids: array[int] = field(default_factory=lambda: array("Q"))
    _truths: array[int] = field(default_factory=lambda: array("q"))
    _skipped: SkipCounter = field(default_factory=SkipCounter)
    _unwritable: Counter[str] = field(default_factory=Counter)

    def read(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows that make a prompt, in SCHEMA, equal ones too. Raises InputError for one that does not."""
        self._rows, self._ids, self._truths = 0, array("Q"), array("q")
        self._missing, self._next = array("q"), 0
        self._skipped, self._unwritable = SkipCounter(), Counter()
        yield from make_batches(self._make_columns())

    def finish(self) -> dict[str, Any]:
        """Say what became of the rows, as JSON: ``counts``, ``left_out``, those of the batches that are no prompts of
        their own, and ``missing``, the numbers of rows that are not in the batches. Raises InputError for a conflict,
        and when no prompt is left."""
        self._missing.extend(range(self._next, self._rows + self.rows.dropped))
        ids, truths = np.frombuffer(self._ids, np.uint64), np.frombuffer(self._truths, np.int64)
        again, first = _find_equal(ids)
        differ = again[truths[again] != truths[first]]
        if len(differ) and self.rules.conflicts == "refuse":
            place = int(np.argmin(np.where(truths[again] != truths[first], again, len(ids))))
            raise self._refuse_conflict(int(first[place]), int(again[place]))
        if self.rows.dropped:
            self._skipped.add(UNJUDGED, self.rows.first_dropped, self.rows.dropped)
        conflicts = differ
        if self.rules.conflicts == "drop":
            conflicts = np.flatnonzero(np.isin(ids, ids[differ]))
        left_out = np.union1d(again, conflicts)
        counts = RowCounts(
            read=self._rows + self.rows.dropped,
            kept=len(ids) - len(left_out),
            merged=len(left_out) - len(conflicts),
            conflicts=len(conflicts),
            skipped=self._skipped.by_reason,
            unwritable=dict(self._unwritable),
            layout=self.rows.said,
        )
        if not counts.kept:
            raise InputError(f"pool.source: {self.source} has no prompts{self._say_why_none(counts)}")
        return {"counts": counts.to_json(), "left_out": left_out.tolist(), "missing": self._missing.tolist()}

    def _make_columns(self) -> Iterator[tuple[Any, ...]]:
        for _, prompt, encoded in self._make_prompts():
            who = identify(fill_prompt(prompt, self.template))
            number = who.id if self.rules.identity == "exact" else who.family
            self._ids.append(number)
            self._truths.append(hash(prompt.ground_truth))
            place = compute_place(format_id(who.family))
            texts = (prompt.text, prompt.ground_truth, prompt.label, prompt.system, prompt.demonstration)
            yield number, place, *texts, *encoded

    def _make_prompts(self) -> Iterator[tuple[str, Prompt, tuple[str | None, str | None]]]:
        """Yield every prompt with the name of its row, and its other columns and its messages as JSON."""
        rules = self.rules
        unwritable = self._unwritable if rules.wanted is None else None
        wanted = None if rules.wanted is None else rules.wanted.union(KEPT_COLUMNS)
        named: dict[Any, str] = {}
        for row in self.rows:
            number = self._rows + self.rows.dropped if row.number is None else row.number
            self._missing.extend(range(self._next, number))
            self._next = number + 1
            self._rows += 1
            try:
                if row.fault is not None:
                    raise row.fault
                prompt = make_prompt(row, self.names, wanted=wanted, needs_truth=rules.needs_truth)
                encoded = encode_columns(row, prompt, unwritable), encode_messages(row, prompt)
                _refuse_second(row, named)
            except InputError as error:
                self._skip(row, error)
                self._missing.append(number)
                continue
            yield row.where, _strip(prompt, rules.strip), encoded

    def _skip(self, row: Row, error: InputError) -> None:
        """Count a bad row by what is wrong with it. Raises InputError unless that is allowed."""
        if not self.rules.skip_bad:
            hint = "; pool.skip_bad = true leaves such rows out" if self._ids else ""  # else all may be like that
            raise InputError(f"{error}{hint}") from None
        reason = str(error).removeprefix(row.where).lstrip(": ").partition(": ")[0].partition(";")[0]
        self._skipped.add(reason, row.where.removeprefix("pool.source: "))

    def _refuse_conflict(self, first: int, second: int) -> InputError:
        """Build the error about two rows, which are read again to be shown."""
        again = replace(self)._make_prompts()
        found = [found for number, found in enumerate(islice(again, second + 1)) if number in (first, second)]
        where = [row.removeprefix("pool.source: ") for row, _, _ in found]
        truths = [repr(prompt.ground_truth[:SHOWN]) for _, prompt, _ in found]
        return InputError(
            f"pool.source: {' and '.join(where)} have the same prompt, {found[0][1].text[:SHOWN]!r}, with different "
            f'ground truths, {" and ".join(truths)}; correct one, or set pool.conflicts = "first" to keep the first or '
            '"drop" to keep neither'
        )

    def _say_why_none(self, counts: RowCounts) -> str:
        layout = f" ({counts.layout})" if counts.layout else ""
        if counts.skipped:
            reason, skip = max(counts.skipped.items(), key=lambda item: item[1].rows)
            return f": all {counts.read:,} rows were skipped, the first {skip.first}: {reason}{layout}"
        return f": all {counts.read:,} rows are in conflict" if counts.conflicts else ""


def _find_equal(ids: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the places whose id stood before, and the first place of each of those ids."""
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    begins = np.ones(len(ids), bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    if begins.all():
        return order[:0], order[:0]
    first = order[np.maximum.accumulate(np.where(begins, np.arange(len(ids)), 0))]
    return order[~begins], first[~begins]


def _strip(prompt: Prompt, patterns: Sequence[str]) -> Prompt:
    """Cut what the patterns match from the demonstration."""
    if not patterns or prompt.demonstration is None:
        return prompt
    shown = prompt.demonstration
    for pattern in patterns:
        shown = re.sub(pattern, "", shown)
    return replace(prompt, demonstration=shown if shown.strip() else None)


def _refuse_second(row: Row, named: dict[Any, str]) -> None:
    """Rows with an ``id`` must have each its own: two of the same mean that a file was joined wrongly."""
    own = row.values.get("id")
    if not isinstance(own, str | int):
        return
    if own in named:
        raise InputError(f"{row.where} has the id {own!r} of {named[own].rpartition(': ')[2]}; ids must differ")
    named[own] = row.where
