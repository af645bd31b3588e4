"""A million prompts as Arrow columns: about 100 bytes each beside their text, made into Prompts when asked for.

A list of a million Prompt objects takes 400 MB and more; these columns a fifth of it, and next to nothing of the
process's own when they are mapped from a file (pools/cache.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from harness.types import Prompt
from pools.counts import RowCounts
from pools.identity import format_id, identify
from pools.messages import fill_messages, write_transcript, write_turn
from pools.rows import decode_messages

BATCH = 1 << 14
"""Rows of every batch but the last, so that a row's place needs no search."""
NUMBERS = ("id", "place")
TEXTS = ("text", "ground_truth", "label", "system", "demonstration", "columns", "messages")
SCHEMA = pa.schema([(name, pa.uint64()) for name in NUMBERS] + [(name, pa.string()) for name in TEXTS])
"""``text`` is without the template, ``system`` empty where the spec's own holds, ``columns`` JSON, and ``messages``
that of encode_messages, null for all plain prompts."""


class PromptTable(Sequence[Prompt]):
    """Prompts in the order of ``rows`` (row numbers of the batches; unset: all of them).

    ``ids``, ``places``, ``labels`` and ``column`` look at all prompts without making any of them. ``counts`` says what
    became of the rows of the source, also for a part of it. ``missing`` are the numbers of rows of the source, from 0,
    that are in no batch.
    """

    def __init__(
        self,
        batches: Sequence[pa.RecordBatch],
        *,
        template: str,
        system: str,
        rows: NDArray[np.int64] | None = None,
        counts: RowCounts | None = None,
        missing: NDArray[np.int64] | None = None,
    ) -> None:
        self._batches = batches
        self._columns = [batch.columns for batch in batches]  # pyarrow makes these anew when asked
        self._table = pa.Table.from_batches(batches, schema=SCHEMA)
        self._template = template
        self._system = system
        self._rows = rows
        self._missing = np.empty(0, np.int64) if missing is None else missing
        self.counts = counts or RowCounts(read=len(self), kept=len(self))

    def __len__(self) -> int:
        return self._table.num_rows if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Prompt: ...
    @overload
    def __getitem__(self, index: slice) -> PromptTable: ...
    def __getitem__(self, index: int | slice) -> Prompt | PromptTable:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"prompt {index} of {size}")
        row = index % size if self._rows is None else int(self._rows[index])
        place = row % BATCH
        return self._make(*[column[place].as_py() for column in self._columns[row // BATCH]])

    def __iter__(self) -> Iterator[Prompt]:
        for start in range(0, len(self), BATCH):
            part = self._take(slice(start, start + BATCH))
            for values in zip(*(column.to_pylist() for column in part.columns), strict=True):
                yield self._make(*values)

    def select(self, places: NDArray[np.int64]) -> PromptTable:
        """Return those at ``places`` of this sequence, in that order, over the same columns."""
        rows = places if self._rows is None else self._rows[places]
        return PromptTable(
            self._batches,
            template=self._template,
            system=self._system,
            rows=rows,
            counts=self.counts,
            missing=self._missing,
        )

    @property
    def source_rows(self) -> int:
        """How many rows the source has, those that made no prompt too."""
        return int(self._table.num_rows) + len(self._missing)

    @property
    def row_numbers(self) -> NDArray[np.int64]:
        """The number of each prompt's row in the source, 0 the first."""
        rows = np.arange(len(self)) if self._rows is None else self._rows
        before = self._missing - np.arange(len(self._missing))  # rows of the batches before each missing one
        return rows + np.searchsorted(before, rows, "right")

    @property
    def ids(self) -> list[str]:
        return [format_id(number) for number in self.numbers.tolist()]

    @property
    def numbers(self) -> NDArray[np.uint64]:
        """The ids as the numbers they are."""
        return np.asarray(self.column("id"))

    @property
    def places(self) -> NDArray[np.uint64]:
        """Where each stands when splits are cut (pools/splits.py)."""
        return np.asarray(self.column("place"))

    def compute_families(self) -> list[str]:
        """Compute the family of each (pools/identity.py), which takes making them all."""
        own = PromptTable(self._batches, template=self._template, system="", rows=self._rows, counts=self.counts)
        return [format_id(identify(prompt).family) for prompt in own]

    @property
    def labels(self) -> list[str]:
        labels: list[str] = self.column("label").to_pylist()
        return labels

    @property
    def text_lengths(self) -> NDArray[np.int32]:
        """Characters of each text, without the template."""
        return np.asarray(pc.utf8_length(self.column("text")))

    def to_rows(self, names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield the prompts as rows of a source again, without template; ``names`` as from pools.rows.name_columns."""
        for row in self._take(slice(0, len(self))).to_pylist():
            prompt: Any = row["text"]
            turns, calls = decode_messages(row["messages"]) if row["messages"] else ((), ())
            if row["system"] or turns:
                system = [{"role": "system", "content": row["system"]}] if row["system"] else []
                prompt = [*system, *(turns or [{"role": "user", "content": prompt}])]
            values = row | {"prompt": prompt, "label": row["label"] or None}
            if calls:
                said = row["demonstration"].removesuffix(write_turn({"content": "", "tool_calls": calls})).rstrip("\n")
                values["demonstration"] = {"role": "assistant", "content": said, "tool_calls": calls}
            kept = {} if row["columns"] is None else json.loads(row["columns"])
            yield kept | {column: values[field] for field, column in names.items() if values[field] is not None}

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column of SCHEMA, in the order of the prompts."""
        column = self._table.column(name)
        return column if self._rows is None else column.take(pa.array(self._rows))

    def _take(self, part: slice) -> pa.Table:
        if self._rows is None:
            return self._table.slice(part.start, part.stop - part.start)
        return self._table.take(pa.array(self._rows[part]))

    def _make(self, *values: Any) -> Prompt:
        number, _, text, truth, label, system, demonstration, columns, messages = values
        prompt = Prompt(
            format_id(number),
            self._template.replace("{prompt}", text),
            truth,
            label,
            system or self._system,
            demonstration,
            {} if columns is None else json.loads(columns),
        )
        if messages is None:
            return prompt
        turns, calls = decode_messages(messages)
        if turns:
            turns = fill_messages(turns, self._template)
            prompt = replace(prompt, text=write_transcript(turns), messages=turns)
        return replace(prompt, calls=calls)


def make_batches(rows: Iterator[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
    """Gather rows of SCHEMA into batches."""
    while part := list(islice(rows, BATCH)):
        yield pa.record_batch(list(zip(*part, strict=True)), schema=SCHEMA)
