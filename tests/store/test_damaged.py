"""Databases damaged in every way we could think of: nothing ends in a traceback, and intact runs are shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.damage import RUNS, damage, damages, make_runs
from tests.support.program import Program

DAMAGES = list(damages())
LOOKS = (
    ("runs",),
    ("runs", "--json"),
    *(
        (command, run, *more)
        for run in RUNS
        for command, *more in (("review",), ("review", "--json"), ("watch", "--plain"))
    ),
    ("compare", "first", "broken"),
    ("act", "broken", "set", "temperature=0.9", "--no-wait"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_runs(tmp_path_factory.mktemp("whole"))


def test_there_are_enough_of_them() -> None:
    assert len(DAMAGES) >= 60


@pytest.mark.parametrize(("name", "shown", "spoil"), DAMAGES, ids=[name for name, _, _ in DAMAGES])
def test_a_damaged_database_is_told_in_a_line(
    name: str, shown: bool, spoil: Callable[[Path], None], whole: Path, program: Program
) -> None:
    damage(whole, program.folder / "runs", spoil)
    said = ""
    for words in LOOKS:
        done = program.here(*words, code=None)  # any exception but SystemExit would fail the test here
        assert done.returncode in (0, 1, 2)
        said += done.stderr
        if done.returncode:
            assert done.stderr.startswith("grpo: "), words
    table, _, column = name.partition(" ")[0].partition(".")
    if shown and table not in ("groups", "commands", "buckets"):  # which these do not read
        assert f"({column})" in said
    if shown:
        listed = program.here("runs").stdout
        assert "first" in listed
        assert "last" in listed
        for run in ("first", "last"):
            assert program.here("review", run).returncode == 0
        if not name.startswith("buckets"):  # which are summed up anew
            assert "damaged" in program.here("resume", "broken", "--steps", "20", code=2).stderr
