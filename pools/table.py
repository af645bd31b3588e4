"""A million prompts as Arrow columns: about 100 bytes each beside their text, made into Prompts when asked for.

A list of a million Prompt objects takes 400 MB and more; these columns a fifth of it, and next to nothing of the
process's own when they are mapped from a file (pools/cache.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from harness.types import Prompt

BATCH = 1 << 14
"""Rows of every batch but the last, so that a row's place needs no search."""
NUMBERS, TEXTS = ("id", "place"), ("text", "ground_truth", "label", "system", "demonstration", "columns")
SCHEMA = pa.schema([(name, pa.uint64()) for name in NUMBERS] + [(name, pa.string()) for name in TEXTS])
"""``text`` is without the template, ``system`` empty where the spec's own holds, ``columns`` JSON."""


class PromptTable(Sequence[Prompt]):
    """Prompts in the order of ``rows`` (row numbers of the batches; unset: all of them).

    ``layout`` says in one line how the source writes its rows (pools/layouts), empty for our own columns. ``ids``,
    ``places``, ``labels`` and ``column`` look at all prompts without making any of them.
    """

    def __init__(
        self,
        batches: Sequence[pa.RecordBatch],
        *,
        template: str,
        system: str,
        rows: NDArray[np.int64] | None = None,
        layout: str = "",
    ) -> None:
        self._batches = batches
        self._columns = [batch.columns for batch in batches]  # pyarrow makes these anew when asked
        self._table = pa.Table.from_batches(batches, schema=SCHEMA)
        self._template = template
        self._system = system
        self._rows = rows
        self.layout = layout

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
        return PromptTable(self._batches, template=self._template, system=self._system, rows=rows, layout=self.layout)

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
            prompt = row["text"]
            if row["system"]:
                prompt = [{"role": "system", "content": row["system"]}, {"role": "user", "content": prompt}]
            values = row | {"prompt": prompt, "label": row["label"] or None}
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
        number, _, text, truth, label, system, demonstration, columns = values
        return Prompt(
            id=format_id(number),
            text=self._template.replace("{prompt}", text),
            ground_truth=truth,
            label=label,
            system=system or self._system,
            demonstration=demonstration,
            columns={} if columns is None else json.loads(columns),
        )


def make_batches(rows: Iterator[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
    """Gather rows of SCHEMA into batches."""
    while part := list(islice(rows, BATCH)):
        yield pa.record_batch(list(zip(*part, strict=True)), schema=SCHEMA)


def format_id(number: int) -> str:
    """Write the id of a prompt as 16 hexadecimal digits."""
    return f"{number:016x}"


def parse_id(prompt_id: str) -> int:
    return int(prompt_id, 16)
