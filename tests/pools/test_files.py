from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InputError
from pools.files import READERS, check_file
from pools.rows import ROW_LIMIT
from pools.sources import load_prompts

GOOD = {"prompt": "a", "ground_truth": "1"}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def read(path: Path) -> list[dict[str, Any]]:
    return [dict(row.values) for row in READERS[path.suffix](path)]


def refuse(path: Path, content: bytes, message: str) -> None:
    """Loading a file of this content is one line that says ``message``."""
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_prompts(str(path), columns={}, template="{prompt}", system="")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("pool.source: ")
    assert len(str(caught.value)) < 500


@given(rows=st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=3), max_size=5), indent=st.none() | st.just(1))
def test_json_is_read_as_python_reads_it(tmp_path_factory: Any, rows: list[Any], indent: int | None) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.json"
    path.write_text(json.dumps(rows, indent=indent))
    assert read(path) == json.loads(path.read_text())


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["no BOM", "BOM"])
@pytest.mark.parametrize(
    ("suffix", "lines"),
    [
        (".jsonl", [b'{"prompt": "a", "n": "1"}', b'{"prompt": "\xc3\xa9", "n": "2"}', b""]),
        (".json", [b"[", b'{"prompt": "a", "n": "1"}', b',{"prompt": "\xc3\xa9", "n": "2"}', b"]", b""]),
        (".csv", [b"prompt,n", b"a,1", b"\xc3\xa9,2", b""]),
    ],
)
def test_marks_and_ends_of_lines_do_not_matter(
    tmp_path: Path, suffix: str, lines: list[bytes], mark: bytes, end: bytes
) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(mark + end.join(lines))
    assert read(path) == [{"prompt": "a", "n": "1"}, {"prompt": "é", "n": "2"}]


def test_csv_values_may_hold_commas_quotes_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('prompt,ground_truth\n"a, ""b""\nc",1\n\nd,2\n')
    assert [row["prompt"] for row in read(path)] == ['a, "b"\nc', "d"]


@pytest.mark.parametrize("header", [",prompt,ground_truth", "Unnamed: 0,prompt,ground_truth", '"",prompt,ground_truth'])
def test_the_index_of_a_data_frame_is_left_out(tmp_path: Path, header: str) -> None:
    (tmp_path / "rows.csv").write_text(f"{header}\n0,a,1\n1,b,2\n")
    assert read(tmp_path / "rows.csv") == [{"prompt": "a", "ground_truth": "1"}, {"prompt": "b", "ground_truth": "2"}]
    refuse(tmp_path / "short.csv", f"{header}\n0,a\n".encode(), "has 2 values for 3 columns")
    refuse(tmp_path / "twice.csv", b",,prompt\n0,a,1\n", "the header has '' twice or without a name")
    refuse(tmp_path / "long.csv", b"x" * 5000 + b"," + b"x" * 5000 + b"\n", r"the header has 'x{90,96}\.\.\. twice")


def test_blank_lines_are_counted(tmp_path: Path) -> None:
    refuse(tmp_path / "rows.jsonl", b'{"prompt": "a", "ground_truth": "1"}\n\n  \nnonsense\n', "row 4 is not JSON")


LONG = b"x" * (10 * 2**20)
LINE = json.dumps(GOOD).encode()


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".jsonl", LINE + b"\n[1, 2]", "row 2 must be an object with prompt and ground_truth"),
        (".jsonl", LINE + b'\n{"prompt": "b"', "row 2 is not JSON: Expecting"),
        (".jsonl", LINE + b'\n{"prompt": "\xff"}', r"row 2 is not UTF-8: invalid start byte at byte 13; save it as"),
        (".jsonl", json.dumps(GOOD).encode("utf-16"), "row 1 is not UTF-8: .* it looks like UTF-16"),
        (".jsonl", LINE + b"\n" + LONG, r"row 2 holds more than 4.0 MiB"),
        (".jsonl", LINE + b'\n{"prompt": "b", "ground_truth": NaN}', "row 2 is not JSON: NaN is not a finite number"),
        (".jsonl", LINE + b'\n{"prompt": "b", "ground_truth": "1", "difficulty": NaN}', "row 2 .*NaN"),
        (".jsonl", LINE + b'\n{"prompt": "b", "ground_truth": "1", "difficulty": 1e999}', "row 2: difficulty is inf"),
        (".jsonl", LINE + b'\n{"prompt": "b", "ground_truth": ' + b"9" * 5000 + b"}", "row 2 .*more than 4,300 digits"),
        (".jsonl", LINE + b'\n{"prompt": "b", "ground_truth": "1", "x": ' + b"[" * 10**5, "row 2 .*nested too deep"),
        (".jsonl", b'{"prompt": "\\ud800", "ground_truth": "1"}', "row 1 holds half of a surrogate pair"),
        (".json", b"{}", "must hold a list of objects; one object a line is .jsonl"),
        (".json", b"[" + LINE + b"," + b"3]", "row 2 must be an object"),
        (".json", b"[" + LINE + b" " + LINE + b"]", "row 1 is followed by '{' instead of , or ]"),
        (".json", b"[" + LINE, "row 1 is followed by 'the end of the file'"),
        (".json", b"[" + LINE + b",]", "row 2 is not JSON"),
        (".json", b"[" + LINE + b"]]", "continues after the end of its list"),
        (".json", b"[]]", "continues after the end of its list"),
        (".json", b'["\xff"]', "is not UTF-8"),
        (".json", json.dumps([GOOD, {"prompt": "x" * (10 * 2**20), "ground_truth": "1"}]).encode(), "row 2 holds 10.0"),
        (".csv", b"prompt,ground_truth\na,1\nb\n", r"row 2 \(line 3\) has 1 values for 2 columns"),
        (".csv", b"prompt,ground_truth\na,1\nb,2,3\n", r"row 2 \(line 3\) has 3 values for 2 columns"),
        (".csv", b"prompt,prompt\na,1\n", "the header has 'prompt' twice"),
        (".csv", b"prompt,ground_truth\na,1\n\xff,1", "line 3 is not UTF-8"),
        (".csv", b'prompt,ground_truth\na,1\n"b,2\n', r"row 2 \(line 3\) is not CSV: unexpected end of data"),
        (".csv", b"prompt,ground_truth\na,1\nb,\n", r"row 2 \(line 3\) has no ground_truth: it is empty"),
        (".csv", b"prompt,ground_truth,difficulty\na,1,2\nb,1,nan\n", r"row 2 \(line 3\): difficulty is nan"),
        (".csv", b"question;answer\na;1\n", r"row 1 \(line 2\) has no prompt: its columns are question;answer"),
        (".csv", b"prompt,ground_truth\na,1\n" + LONG + b",1\n", "line 3 holds more than 4.0 MiB"),
        (".parquet", b"", "cannot be read as Parquet: "),
        (".parquet", b"PAR1" + b"\0" * 100 + b"PAR1", "cannot be read as Parquet: "),
        (".parquet", LINE, "cannot be read as Parquet: "),
    ],
    ids=lambda value: value[:60].decode("latin-1") if isinstance(value, bytes) else value,
)
def test_what_is_wrong_is_one_line_with_the_row(tmp_path: Path, suffix: str, content: bytes, message: str) -> None:
    refuse(tmp_path / f"rows{suffix}", content, message)


def test_a_parquet_file_with_a_damaged_page_names_the_row_before_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.Table.from_pylist([{"prompt": f"{i} " + "x" * 50, "ground_truth": str(i)} for i in range(20_000)])
    pq.write_table(table, path, row_group_size=10_000, compression="zstd", use_dictionary=False)
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content[start + 40 : start + 1000] = b"\xff" * 960
    refuse(path, bytes(content), r"cannot be read as Parquet after row 9\d{3}: ")


def test_parquet_refuses_nan_and_bytes_by_row_and_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([GOOD | {"difficulty": 0.5}, GOOD | {"difficulty": float("nan")}]), path)
    refuse(path, path.read_bytes(), "row 2: difficulty is nan, not a finite number")
    pq.write_table(pa.Table.from_pylist([GOOD | {"image": b"\x89PNG"}]), path)
    refuse(path, path.read_bytes(), "row 1: image cannot be written as JSON: bytes is not JSON")


def test_places_that_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name, message in {
        "folder.jsonl": r"is a folder; name a file in it, or hub:.*folder.jsonl for a data set",
        "pipe.jsonl": "is not a file that can be read twice",
        "gone.jsonl": "cannot read .*gone.jsonl: No such file or directory",
        "a\0b.jsonl": "cannot read .*: .*null",
    }.items():
        with pytest.raises(InputError, match=message):
            check_file(tmp_path / name)


def test_a_row_just_below_the_limit_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "x" * (ROW_LIMIT - 100), "ground_truth": "1"}))
    assert len(read(path)) == 1
