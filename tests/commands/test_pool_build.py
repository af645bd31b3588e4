"""`grpo pool build`: real completions, stopped and taken up again, and what is refused."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path

import pytest

from harness.commands.pool_build import Journal
from harness.errors import InputError
from tests.support.program import Program

BUILD = ("pool", "build", "pool.jsonl", "--spec", "mini.toml", "-n", "4")
SLOWLY = ("--set", "evaluate.batch=4", "--set", "pool.source=arithmetic?digits=2&size=100&slips=0.65")
"""Prompt by prompt, so that a build can be stopped between two."""
SOMETIMES = """
def score(completion, ground_truth):
    return float(len(completion) % 2)
"""


@pytest.fixture
def easy(program: Program) -> Program:
    """A program whose reward an untrained model sometimes earns."""
    (program.folder / "sometimes.py").write_text(SOMETIMES)
    text = (program.folder / "mini.toml").read_text()
    text = text.replace("steps = 40", "steps = 0").replace("size=600", "size=140")
    (program.folder / "mini.toml").write_text(text + '\n[reward]\nfunction = "sometimes.py"\n')
    return program


def test_what_is_kept_had_mixed_outcomes_and_the_same_spec_reads_it(easy: Program) -> None:
    found = json.loads(easy.here(*BUILD, "--json").stdout)
    rows = [json.loads(line) for line in (easy.folder / "pool.jsonl").read_text().splitlines()]
    assert found["kept"] == found["mixed"] == len(rows) > 10
    assert found["never"] + found["mixed"] + found["always"] == found["total"]
    assert all(row["pass_rate"] in (0.25, 0.5, 0.75) for row in rows)
    assert not (easy.folder / "pool.jsonl.part").exists()
    source = ["--set", "pool.source=pool.jsonl", "--set", "pool.splits.test=5"]
    easy.here("probe", "mini.toml", *source, "--prompts", "2", "-n", "4", "--json")


def test_a_build_that_is_interrupted_goes_on_and_ends_in_the_same_file(easy: Program) -> None:
    easy.here(*BUILD, *SLOWLY)
    whole = (easy.folder / "pool.jsonl").read_bytes()
    (easy.folder / "pool.jsonl").unlink()
    process = easy.start(*BUILD, *SLOWLY)
    part = easy.folder / "pool.jsonl.part"
    easy.wait_for(lambda: part.exists() and part.read_bytes().count(b"\n") > 3)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    with part.open("a") as file:
        file.write('{"cut by a cra')
    assert easy.here(*BUILD, *SLOWLY, "--set", "seed=7", code=2).stderr.startswith(
        "grpo: OUT: pool.jsonl.part is a build with another seed (0); give the same again, or delete"
    )
    again = json.loads(easy.here(*BUILD, *SLOWLY, "--json").stdout)
    assert again["before"] >= 3
    assert (easy.folder / "pool.jsonl").read_bytes() == whole


def test_it_stops_at_the_size_asked_for(easy: Program) -> None:
    found = json.loads(easy.here(*BUILD, *SLOWLY, "--size", "5", "--json").stdout)
    assert found["kept"] == 5
    assert found["never"] + found["mixed"] + found["always"] < found["total"]
    assert len((easy.folder / "pool.jsonl").read_text().splitlines()) == 5


def test_without_a_mixed_outcome_nothing_is_written_and_the_mend_is_said(easy: Program) -> None:
    done = easy.here(*BUILD, "--set", "reward.function=rewards.solution", code=2)
    assert "had mixed outcomes in 4 completions" in done.stderr
    assert "try more completions (-n) or another source" in done.stderr
    assert not (easy.folder / "pool.jsonl").exists()


def test_a_pool_can_be_built_for_the_model_of_a_run(easy: Program) -> None:
    easy.here("run", "mini.toml", "--name", "night", "--steps", "2", "--plain", "--force")
    found = json.loads(easy.here(*BUILD, "--size", "3", "--model", "night", "--json").stdout)
    assert found["kept"] == 3
    assert easy.here(*BUILD[:2], "other.jsonl", *BUILD[3:], "--model", "nigt", code=2).stderr.startswith(
        "grpo: no run named nigt"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no json\n", "is damaged; delete it to start again"),
        (b"[1, 2]\n3\n", "is damaged; delete it to start again"),
        (b'{"seed": 1}\n', "is a build with another seed \\(1\\)"),
    ],
)
def test_another_file_in_its_place_is_refused_as_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "pool.jsonl.part"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        Journal(path, {"seed": 0})
    assert path.read_bytes() == content


def test_a_journal_keeps_what_was_added(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "part", {"seed": 0})
    journal.add({"a": 1, "b": 2})
    journal.add({"c": 0})
    assert Counter(Journal(tmp_path / "part", {"seed": 0}).correct) == {"a": 1, "b": 2, "c": 0}
