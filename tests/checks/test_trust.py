"""Whose code a record may run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.program import Program

REWARD = """
from pathlib import Path
Path({mark!r}).touch()
def score(completion, ground_truth):
    return float(ground_truth in completion)
"""
SOURCE = """
from pathlib import Path
Path({mark!r}).touch()
def rows():
    for i in range(200):
        yield {{"prompt": f"{{i}}+{{i}}=", "ground_truth": str(2 * i)}}
"""
OWN = ("--set", "reward.function=mine.py:score", "--set", "pool.source=rows.py:rows")
COLD = ("mini.toml", "--set", "warmstart.steps=0", "--steps", "1", "--name", "own", "--force")
READS = (
    ("resume", "own", "--steps", "2"),
    ("replay", "own"),
    ("eval", "own"),
    ("sample", "own"),
    ("pool", "show", "own"),
    ("pool", "export", "own", "seen.jsonl"),
    ("export", "own", "--to", "model"),
    ("branch", "own", "temperature=0.9"),
)


@pytest.fixture
def mark(program: Program) -> Path:
    """A file that the reward and the source of the run ``own`` make when they are imported."""
    mark = program.folder / "imported"
    (program.folder / "mine.py").write_text(REWARD.format(mark=str(mark)))
    (program.folder / "rows.py").write_text(SOURCE.format(mark=str(mark)))
    home = {"HOME": str(program.folder / "home"), "XDG_STATE_HOME": ""}
    program.here("run", *COLD, *OWN, environment=home)
    mark.unlink()
    return mark


def test_code_of_another_record_is_run_with_trust_alone(program: Program, mark: Path) -> None:
    stranger = {"HOME": str(program.folder / "stranger"), "XDG_STATE_HOME": ""}
    for words in READS:
        refused = program.here(*words, code=2, environment=stranger)
        assert "add --trust" in refused.stderr, words
        assert "mine.py:score, rows.py:rows" in refused.stderr
        assert not mark.exists(), words
    program.here("review", "own", environment=stranger)
    program.here("pool", "show", "own", "--trust", environment=stranger)
    assert mark.exists()


def test_who_made_it_in_this_folder_is_not_asked(program: Program, mark: Path) -> None:
    home = {"HOME": str(program.folder / "home"), "XDG_STATE_HOME": ""}
    program.here("pool", "show", "own", environment=home)
    shutil.copytree(program.folder / "runs", program.folder / "copy")
    assert "add --trust" in program.here("pool", "show", "own", "--out", "copy", code=2, environment=home).stderr
    program.here("resume", "own", "--steps", "2", "--out", "copy", "--trust", "--force", environment=home)
    program.here("pool", "show", "own", "--out", "copy", environment=home)


def test_what_is_part_of_the_program_needs_no_trust(program: Program) -> None:
    program.here("run", *COLD, environment={"HOME": "/nowhere", "XDG_STATE_HOME": ""})
    program.here("pool", "show", "own", environment={"HOME": str(program.folder), "XDG_STATE_HOME": ""})
