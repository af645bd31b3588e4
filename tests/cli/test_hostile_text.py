"""Whatever stands in a record, no command writes what a terminal, a page or a spreadsheet would obey."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.completion import complete_model
from harness.core.formatting import clean, clean_cell, clean_lines
from tests.support.builders import create_run, make_store
from tests.support.program import Program

HOSTILE = (
    "=cmd|' /C calc'!A0\x1b]52;c;aGk=\x07\x1b]0;title\x07\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\x1b[31m\x1b[2J\x9b31m"
    "\u202eright\u202c\u2066iso\u2069\x00\x7f\r\u200b<script>harm()</script>[red]x[/red] :smile: שלום مرحبا 日本"
)
KEPT = "שלום"
BAD = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff]")
RUN = ("run", "mini.toml", "--set", "warmstart.steps=0", "--name", "night", "--steps", "4", "--plain")
READS = (
    ("runs",),
    ("review", "night"),
    ("compare", "night", "night"),
    ("watch", "night", "--plain"),
    ("pool", "show", "night"),
    ("act", "night", "set", "temperature=0.9", "--no-wait"),
    ("act", "night", "stop"),
    ("resume", "night"),
    ("review", "nobody\x1b[31m"),
    ("replay", "night"),
)
COUNTED = {
    *("name", "folder", "path", "status", "state", "kind", "split", "policy", "source", "action", "metric", "host"),
    *("process", "supervisor", "prompt_id"),
}
"""Columns by which rows are found, or whose values are ours alone: other text in them is damage, not a text."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A run whose record is hostile in every column of text."""
    program = Program(tmp_path_factory.mktemp("hostile"))
    program.here(*RUN)
    with closing(sqlite3.connect(program.folder / "runs" / "harness.db")) as c:
        for (table,) in c.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, kind, *_ in c.execute(f"PRAGMA table_info({table})").fetchall():
                if kind == "VARCHAR" and column not in COUNTED:
                    c.execute(f"UPDATE {table} SET {column} = ? || {column}", (HOSTILE,))
        c.execute("UPDATE events SET level = 'warning'")
        c.execute("UPDATE runs SET manifest = json_set(manifest, '$.missing', ?)", (HOSTILE,))
        c.commit()
    return program


def test_every_column_of_text_was_filled(program: Program) -> None:
    with closing(sqlite3.connect(program.folder / "runs" / "harness.db")) as c:
        for column in (
            "completions.reason",
            "completions.prompt",
            "decisions.evidence",
            "events.text",
            "runs.stop_reason",
        ):
            table, name = column.split(".")
            assert c.execute(f"SELECT count(*) FROM {table} WHERE {name} LIKE '=cmd%'").fetchone()[0], column


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_no_command_writes_it_raw(program: Program, words: tuple[str, ...]) -> None:
    done = program.here(*words, code=None)
    for text in (done.stdout, done.stderr):
        assert not BAD.search(text), BAD.search(text)
    if words[0] == "review" and done.returncode == 0:
        assert KEPT in done.stdout


def test_a_document_is_ascii(program: Program) -> None:
    for words in (("runs", "--json"), ("review", "night", "--json"), ("pool", "show", "night", "--json")):
        said = program.here(*words).stdout
        assert said.isascii()
        assert not BAD.search(said)
        json.loads(said)


def test_pages_are_clean(program: Program) -> None:
    program.here("review", "night", "--html", "page.html")
    program.here("compare", "night", "night", "--html", "compare.html", code=None)
    for name in ("page.html", "compare.html"):
        page = program.folder / name
        if page.exists():
            text = page.read_text(encoding="utf-8")
            shown = re.sub(r"<script[^>]*>.*?</script>|<style.*?</style>", "", text, flags=re.DOTALL)
            assert not BAD.search(shown), BAD.search(shown)
            assert "harm()</script>" not in text
            assert KEPT in shown


def test_a_table_of_examples_is_no_formula(program: Program) -> None:
    rows = [{"prompt": f"{HOSTILE[:24]} {i}+{i}=", "ground_truth": str(2 * i), "label": "@SUM(1)"} for i in range(80)]
    (program.folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    program.here("run", "mini.toml", "--set", "pool.source=rows.jsonl", "--set", "warmstart.steps=0", "--name", "rows",
                 "--steps", "1", "--force", "--set", "pool.splits={probe=5,dev=5,test=10}")  # fmt: skip
    program.here("eval", "rows", "--output-file", "out.csv")
    with (program.folder / "out.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert any(cell.startswith("'=cmd") for cell in cells)
    assert "'@SUM(1)" in cells
    assert not any(cell.startswith(("=", "+", "@")) for cell in cells)
    assert not any(BAD.search(cell) for cell in cells)


SURROGATE_REWARD = """
import json
from harness.types import Score
def score(completion, ground_truth):
    if len(completion) % 2:
        raise ValueError(json.loads('"\\\\ud800"'))
    return Score(0.0, False, json.loads('"\\\\ud800"'))
"""


def test_a_lone_surrogate_ends_no_run(program: Program) -> None:
    (program.folder / "sur.py").write_text(SURROGATE_REWARD, encoding="utf-8")
    more = ("--set", "reward.function=sur.py:score", "--set", "reward.errored_limit=1.0", "--force")
    program.here("run", "mini.toml", "--set", "warmstart.steps=0", "--name", "sur", "--steps", "2", *more)
    program.here("resume", "sur", "--steps", "3", "--force")
    program.here("eval", "sur", "--output-file", "sur.csv")
    assert "�" in (program.folder / "sur.csv").read_text(encoding="utf-8")


@given(st.text())
def test_clean_text_is_printable_and_stays(text: str) -> None:
    for found in (clean(text), clean_lines(text), clean_cell(text)):
        assert not BAD.search(found.replace("\t", " "))
        found.encode()
    assert clean(clean(text)) == clean(text)


@pytest.mark.parametrize("text", ["שלום עולם", "می‌خواهم", "مرحبا", "日本語", "👩‍💻 é", "naïve – “x”"])
def test_legitimate_text_survives(text: str) -> None:
    assert clean(text) == clean_lines(text) == clean_cell(text) == text


@pytest.mark.parametrize(
    ("text", "shown"), [("=1+1", "'=1+1"), ("-5", "-5"), ("+1e3", "+1e3"), ("-x", "'-x"), ("@a", "'@a")]
)
def test_a_formula_is_text(text: str, shown: str) -> None:
    assert clean_cell(text) == shown


def test_the_shell_is_offered_no_name_that_it_would_obey(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for name in ("plain", "other\x1b[31m\u202e"):
        create_run(store, name, status=f"running{HOSTILE}")
    (tmp_path / "file\x1b]0;title\x07").mkdir()
    (tmp_path / "files").mkdir()
    context = SimpleNamespace(params={"out": str(tmp_path)})
    offered = complete_model(cast(typer.Context, context), "")
    offered += complete_model(cast(typer.Context, context), f"{tmp_path}/")
    assert not [part for pair in offered for part in pair if BAD.search(part)]
    words = [word for word, _ in offered]
    assert "plain" in words
    assert f"{tmp_path}/files/" in words
    assert not [word for word in words if "other" in word or "title" in word]
