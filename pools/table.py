"""A million prompts as Arrow columns: about 100 bytes each beside their text, made into Prompts when asked for.

A list of a million Prompt objects takes 400 MB and more; these columns a fifth of it, and next to nothing of the
process's own when they are mapped from a file (pools/cache.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from harness.types import Prompt

BATCH = 1 << 14
"""Rows of every batch but the last, so that a row's place needs no search."""
SCHEMA = pa.schema(
    [
        ("id", pa.uint64()),
        ("place", pa.uint64()),
        ("text", pa.string()),
        ("ground_truth", pa.string()),
        ("label", pa.string()),
        ("system", pa.string()),
        ("demonstration", pa.string()),
        ("columns", pa.string()),
    ]
)
"""``text`` is without the template, ``system`` empty where the spec's own holds, ``columns`` JSON."""


class PromptTable(Sequence[Prompt]):
    """Prompts in the order of ``rows`` (row numbers of the batches; unset: all of them).

    ``ids``, ``places``, ``labels`` and ``column`` look at all prompts without making any of them.
    """

    def __init__(
        self, batches: Sequence[pa.RecordBatch], *, template: str, system: str, rows: NDArray[np.int64] | None = None
    ) -> None:
        self._batches = batches
        self._columns = [batch.columns for batch in batches]  # pyarrow makes these anew when asked
        self._table = pa.Table.from_batches(batches, schema=SCHEMA)
        self._template = template
        self._system = system
        self._rows = rows

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
        """Those at ``places`` of this sequence, in that order, over the same columns."""
        rows = places if self._rows is None else self._rows[places]
        return PromptTable(self._batches, template=self._template, system=self._system, rows=rows)

    @property
    def ids(self) -> list[str]:
        return [format_id(number) for number in self.numbers.tolist()]

    @property
    def numbers(self) -> NDArray[np.uint64]:
        """The ids as the numbers they are."""
        numbers: NDArray[np.uint64] = self.column("id").to_numpy()
        return numbers

    @property
    def places(self) -> NDArray[np.uint64]:
        """Where each stands when splits are cut (pools/splits.py)."""
        places: NDArray[np.uint64] = self.column("place").to_numpy()
        return places

    @property
    def labels(self) -> list[str]:
        labels: list[str] = self.column("label").to_pylist()
        return labels

    @property
    def text_lengths(self) -> NDArray[np.int32]:
        """Characters of each text, without the template."""
        lengths: NDArray[np.int32] = pc.utf8_length(self.column("text")).to_numpy()
        return lengths

    def to_rows(self, names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """The prompts as rows of a source again, without template; ``names`` as from pools.rows.name_columns."""
        for row in self._take(slice(0, len(self))).to_pylist():
            prompt = row["text"]
            if row["system"]:
                prompt = [{"role": "system", "content": row["system"]}, {"role": "user", "content": prompt}]
            values = {
                "prompt": prompt,
                "ground_truth": row["ground_truth"],
                "label": row["label"] or None,
                "demonstration": row["demonstration"],
            }
            kept = {} if row["columns"] is None else json.loads(row["columns"])
            yield kept | {names[field]: value for field, value in values.items() if value is not None}

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of SCHEMA, in the order of the prompts."""
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


class TableBuilder:
    """Rows of SCHEMA, gathered until they fill a batch."""

    def __init__(self) -> None:
        self._columns: list[list[Any]] = [[] for _ in SCHEMA]

    def __len__(self) -> int:
        return len(self._columns[0])

    def append(self, *values: Any) -> None:
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)

    def take(self) -> pa.RecordBatch:
        """What was gathered since the last call."""
        batch = pa.record_batch(self._columns, schema=SCHEMA)
        self._columns = [[] for _ in SCHEMA]
        return batch


def format_id(number: int) -> str:
    """The id of a prompt as 16 hexadecimal digits."""
    return f"{number:016x}"


def parse_id(prompt_id: str) -> int:
    return int(prompt_id, 16)
