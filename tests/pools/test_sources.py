from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.types import Prompt
from pools.sources import compute_id, load_prompts


def load(source: str | Path, *, template: str = "{prompt}", system: str = "") -> list[Prompt]:
    return load_prompts(str(source), template=template, system=system)


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
        ("geometry", "neither a .jsonl file nor one of arithmetic"),
        ("rows.csv", "neither a .jsonl file"),
        ("nowhere/rows.jsonl", "cannot read nowhere/rows.jsonl"),
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


def test_the_first_of_equal_prompts_is_kept(tmp_path: Path) -> None:
    rows = [
        {"prompt": "What is it?", "ground_truth": "first"},
        {"prompt": "  what  IS it? ", "ground_truth": "second"},
        {"prompt": "Ｗhat is it?", "ground_truth": "third"},
        {"prompt": "What is that?", "ground_truth": "other"},
    ]
    assert [p.ground_truth for p in load(write_rows(tmp_path / "rows.jsonl", *rows))] == ["first", "other"]


def test_ids_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}+{i}=", "ground_truth": 2 * i} for i in range(20)]
    forth = load(write_rows(tmp_path / "forth.jsonl", *rows))
    back = load(write_rows(tmp_path / "back.jsonl", *reversed(rows)))
    assert [prompt.id for prompt in forth] == [prompt.id for prompt in reversed(back)]


def test_blank_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "ground_truth": "1"}\n\n  \nnonsense\n', encoding="utf-8")
    with pytest.raises(InputError, match="row 4 is not JSON"):
        load(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1, 2]", "row 2 must be an object with prompt and ground_truth"),
        ('"text"', "row 2 must be an object"),
        ("{", "row 2 is not JSON"),
        ('{"ground_truth": "1"}', "row 2 has no prompt"),
        ('{"prompt": "b"}', "row 2 has no ground_truth"),
        ('{"prompt": " ", "ground_truth": "1"}', "row 2 has no prompt"),
        ('{"prompt": "b", "ground_truth": ""}', "row 2 has no ground_truth"),
        ('{"prompt": "b", "ground_truth": null}', "row 2 has no ground_truth"),
        ('{"prompt": "b", "ground_truth": true}', "row 2 has no ground_truth"),
        ('{"prompt": ["b"], "ground_truth": "1"}', "row 2 has no prompt"),
    ],
)
def test_a_bad_row_is_named_by_its_number(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "ground_truth": "1"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load(path)


def test_an_empty_file_has_no_prompts(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    with pytest.raises(InputError, match="has no prompts"):
        load(tmp_path / "rows.jsonl")


def test_a_file_that_is_not_utf8_is_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"prompt": "\xff", "ground_truth": "1"}')
    with pytest.raises(InputError, match="is not UTF-8"):
        load(tmp_path / "rows.jsonl")
