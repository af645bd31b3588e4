from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import InputError
from harness.types import Prompt
from pools.identity import compute_id
from pools.sources import identify_source, load_prompts


def load(source: str | Path, *, template: str = "{prompt}", system: str = "", **columns: str) -> list[Prompt]:
    return list(load_prompts(str(source), columns=columns, template=template, system=system))


def write_rows(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_a_generator_takes_its_options_from_the_query() -> None:
    prompts = load("arithmetic?size=30&digits=1&slips=0.5")
    assert len(prompts) == 30
    assert {prompt.label for prompt in prompts} == {"1 digit"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("arithmetic?digits=x", r"arithmetic\?digits needs a number, not 'x'"),
        ("arithmetic?digit=3", "digit"),
        ("arithmetic?digits=12", "digits is 1 to 9"),
        ("arithmetic?digits=1&size=100", "there are not 100 distinct sums"),
        ("geometry", r"'geometry' is neither a file \(.jsonl, .json, .csv, .parquet\), hub:.*, nor one of arithmetic"),
        ("rows.txt", "'rows.txt' is neither a file"),
        ("rows.jsonl?size=3", "rows.jsonl is a file and takes no options"),
    ],
)
def test_a_wrong_source_is_wrong_input(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(source)


def test_a_row_keeps_its_truth_label_demonstration_and_other_columns(tmp_path: Path) -> None:
    row = {"prompt": "1+1=", "ground_truth": 2, "label": "easy", "demonstration": "two", "tests": ["a", 1], "k": None}
    (prompt,) = load(write_rows(tmp_path / "rows.jsonl", row), template="Q: {prompt}", system="Be brief.")
    assert prompt == Prompt(
        id=compute_id("Q: 1+1="),
        text="Q: 1+1=",
        ground_truth="2",
        label="easy",
        system="Be brief.",
        demonstration="two",
        columns={"tests": ["a", 1], "k": None},
    )


def test_braces_in_a_prompt_are_left_as_they_are(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", {"prompt": "f = {x} {}", "ground_truth": "1"})
    assert load(rows, template="<{prompt}>")[0].text == "<f = {x} {}>"


def test_ids_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}+{i}=", "ground_truth": 2 * i} for i in range(20)]
    forth = load(write_rows(tmp_path / "forth.jsonl", *rows))
    back = load(write_rows(tmp_path / "back.jsonl", *reversed(rows)))
    assert [prompt.id for prompt in forth] == [prompt.id for prompt in reversed(back)]


def test_columns_are_mapped_and_stay_under_their_own_names(tmp_path: Path) -> None:
    row = {"question": "1+1=", "answer": 2, "level": "easy", "working": "two", "prompt": "not this one"}
    names = {"prompt": "question", "ground_truth": "answer", "label": "level", "demonstration": "working"}
    (prompt,) = load(write_rows(tmp_path / "rows.jsonl", row), **names)
    assert (prompt.text, prompt.ground_truth, prompt.label, prompt.demonstration) == ("1+1=", "2", "easy", "two")
    assert prompt.columns == {"answer": 2, "level": "easy", "working": "two", "prompt": "not this one"}


def test_two_rows_with_one_id_are_wrong_input(tmp_path: Path) -> None:
    rows = [{"id": i % 3, "prompt": f"{i}+{i}=", "ground_truth": "x"} for i in range(4)]
    with pytest.raises(InputError, match=r"rows.jsonl row 4 has the id 0 of .*rows.jsonl row 1; ids must differ"):
        load(write_rows(tmp_path / "rows.jsonl", *rows))


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_a_file_without_rows_has_no_prompts(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), path)
    else:
        path.touch()
    with pytest.raises(InputError, match="has no prompts"):
        load(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_format_gives_the_same_prompts(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"prompt": f"Größe {i}\n„{i}“, oder?", "ground_truth": str(2 * i), "label": f"level {i % 3}", "unit": "cm"}
        for i in range(50)
    ]
    expected = load(write_rows(tmp_path / "expected.jsonl", *rows), template="Q: {prompt}")
    path = tmp_path / f"rows{suffix}"
    if suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows) if suffix == ".jsonl" else json.dumps(rows))
    assert load(path, template="Q: {prompt}") == expected


def test_a_source_keeps_its_name_when_it_grows_or_is_moved_with_its_runs(tmp_path: Path) -> None:
    def named(source: str, base: str = "runs") -> str:
        return identify_source(source, base=tmp_path / base)

    assert named("arithmetic?size=10&digits=2") == named("arithmetic?digits=2&size=99") == "arithmetic?digits=2"
    assert named("hub:org/name?split=train[:10]&config=main") == "hub:org/name?config=main&split=train"
    assert named("hub:org/name?split=test") != named("hub:org/name?split=train")
    assert named(f"{tmp_path}/a.jsonl") == "../a.jsonl"
    assert named(f"{tmp_path}/a.jsonl", "elsewhere/runs") == "../../a.jsonl"
    assert named("prompts.py:make?size=3") == "prompts.py:make"


def test_a_question_about_another_system_message_is_another_prompt(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "system", "content": f"A is {n}."}, {"role": "user", "content": "What is A?"}],
         "ground_truth": n}
        for n in (1, 2)
    ]  # fmt: skip
    assert [p.ground_truth for p in load(write_rows(tmp_path / "rows.jsonl", *rows))] == ["1", "2"]


def test_a_question_mark_may_be_part_of_a_file_name(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "what?.jsonl", {"prompt": "1+1=", "ground_truth": "2"})
    assert [prompt.text for prompt in load(path)] == ["1+1="]
    assert identify_source(str(path), base=tmp_path / "runs") == "../what?.jsonl"
    with pytest.raises(InputError, match="takes no options"):
        load(tmp_path / "other.jsonl?size=3")
