from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.types import Prompt
from pools.identity import compute_id, compute_place, normalise
from pools.sources import load_prompts
from pools.table import BATCH, PromptTable

SIZE = 2 * BATCH + 7
"""So that there are three batches, the last of them short."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> PromptTable:
    path: Path = tmp_path_factory.mktemp("table") / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for i in range(SIZE):
            row = {"prompt": f"é{i}", "ground_truth": i, "label": f"l{i % 3}", "tests": [i]}
            file.write(json.dumps(row | ({"demonstration": "so"} if i % 2 else {})) + "\n")
    return load_prompts(str(path), columns={}, template="Q: {prompt}", system="Be brief.")


def test_a_prompt_is_what_its_row_said(table: PromptTable) -> None:
    assert len(table) == SIZE
    for i in (0, 1, BATCH - 1, BATCH, SIZE - 1):
        assert table[i] == Prompt(
            id=table.ids[i],
            text=f"Q: é{i}",
            ground_truth=str(i),
            label=f"l{i % 3}",
            system="Be brief.",
            demonstration="so" if i % 2 else None,
            columns={"tests": [i]},
        )
    assert table[-1] == table[SIZE - 1]
    for i in (SIZE, -SIZE - 1):
        with pytest.raises(IndexError):
            table[i]


@given(
    rows=st.lists(st.integers(0, SIZE - 1), max_size=30),
    part=st.builds(slice, *[st.none() | st.integers(-40, 40)] * 2, st.sampled_from([None, 1, 2, -1])),
)
@settings(deadline=None)
def test_a_part_is_the_same_list_of_prompts(table: PromptTable, rows: list[int], part: slice) -> None:
    expected = [table[i] for i in rows]
    selected = table.select(np.array(rows, dtype=np.int64))
    assert list(selected) == expected
    assert list(selected[part]) == expected[part]
    assert [selected[i] for i in range(len(selected))] == expected
    assert selected.ids == [prompt.id for prompt in expected]
    assert selected.labels == [prompt.label for prompt in expected]
    assert selected.places.tolist() == [compute_place(compute_id(normalise(prompt.text))) for prompt in expected]
    assert selected.text_lengths.tolist() == [len(prompt.text) - len("Q: ") for prompt in expected]


def test_all_prompts_come_in_order_from_every_batch(table: PromptTable) -> None:
    backwards = table.select(np.arange(SIZE)[::-1])
    assert [prompt.ground_truth for prompt in table] == [str(i) for i in range(SIZE)]
    assert [prompt.ground_truth for prompt in backwards] == [str(i) for i in reversed(range(SIZE))]
