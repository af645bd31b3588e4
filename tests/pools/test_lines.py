"""Rows of a source by their numbers: of every kind of file, and past what its layout drops and what is equal."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import InputError
from pools.lines import parse_lines, select_lines
from pools.sources import load_prompts

ROWS = [{"question": f"q{n}", "answer": f"so\n#### {n}"} for n in range(12)]
ROWS[3] = ROWS[11] = {"question": "q", "answer": "it has no answer"}
ROWS[5] = ROWS[4]


def write(path: Path) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
        return
    with path.open("w", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, ["question", "answer"])
            writer.writeheader()
            writer.writerows(ROWS)
        elif path.suffix == ".json":
            json.dump(ROWS, file)
        else:
            file.writelines(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_numbers_are_those_of_the_source(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    write(path)
    prompts = load_prompts(str(path), columns={}, template="{prompt}", system="")
    assert prompts.source_rows == 12
    assert prompts.row_numbers.tolist() == [0, 1, 2, 4, 6, 7, 8, 9, 10]
    chosen, left_out = select_lines(prompts, parse_lines("3, 5-8,11"))
    assert [prompt.text for prompt in chosen] == ["q6", "q7", "q8"]
    assert left_out == 3
    assert [prompt.text for prompt in select_lines(prompts[6:], parse_lines("0-9"))[0]] == ["q8", "q9"]
    with pytest.raises(InputError, match="there is no row 12: the source has 12, 0 to 11"):
        select_lines(prompts, parse_lines("7,12"))


@pytest.mark.parametrize("text", ["", "a", "1,", "2-1", "1-2-3", "-1", "1" * 40])
def test_what_is_no_list_of_rows_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--rows: "):
        parse_lines(text)
