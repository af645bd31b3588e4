"""Runs that are copied, moved and renamed, and databases that name folders of others."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from harness.store.migrations import MIGRATIONS
from tests.support.chaos import differences, fingerprint
from tests.support.program import Program

COLD = ("mini.toml", "--set", "warmstart.steps=0", "--set", "checkpoint.every=2")


def hash_tree(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A run of 4 steps, which nobody changes."""
    program = Program(tmp_path_factory.mktemp("original"))
    program.here("run", *COLD, "--name", "orig", "--steps", "4")
    return program


@pytest.fixture(scope="module")
def ended(original: Program, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What becomes of it at step 6."""
    program = Program(tmp_path_factory.mktemp("ended"))
    shutil.copytree(original.folder / "runs", program.folder / "runs")
    program.here("resume", "orig", "--steps", "6")
    return fingerprint(program.folder, "orig")


def execute(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "harness.db")) as c:
        c.execute(statement, values)
        c.commit()


def test_a_copy_goes_its_own_way(original: Program, ended: dict[str, Any], program: Program) -> None:
    before = hash_tree(original.folder / "runs")
    shutil.copytree(original.folder / "runs", program.folder / "elsewhere" / "runs")
    program.folder /= "elsewhere"
    program.here("resume", "orig", "--steps", "6")
    assert not differences(fingerprint(program.folder, "orig"), ended)
    assert hash_tree(original.folder / "runs") == before
    assert str(program.folder) in program.review("orig")["folder"]


def test_a_renamed_runs_folder_is_where_out_says(original: Program, program: Program) -> None:
    shutil.copytree(original.folder / "runs", program.folder / "moved")
    program.here("resume", "orig", "--steps", "5", "--out", "moved")
    assert not (program.folder / "runs").exists()


@pytest.mark.parametrize("named", ["{victim}", "../victim", "link"])
def test_a_folder_that_is_not_below_the_database_is_refused(original: Program, program: Program, named: str) -> None:
    runs, victim = program.folder / "runs", program.folder / "victim"
    shutil.copytree(original.folder / "runs", runs)
    shutil.copytree(runs / "orig", victim)
    (runs / "link").symlink_to(victim)
    execute(runs, "UPDATE runs SET folder = ?", named.format(victim=victim))
    before = hash_tree(victim)
    refused = program.here("resume", "orig", "--steps", "6", code=2).stderr
    assert "is not below" in refused
    assert "grpo adopt" in refused
    assert refused.count("\n") == 1
    assert hash_tree(victim) == before


def test_a_link_within_the_folder_is_no_way_out(original: Program, program: Program) -> None:
    runs, victim = program.folder / "runs", program.folder / "victim"
    shutil.copytree(original.folder / "runs", runs)
    (runs / "orig" / "checkpoints").rename(victim)
    (runs / "orig" / "checkpoints").symlink_to(victim)
    before = hash_tree(victim)
    assert "is not below" in program.here("resume", "orig", "--steps", "6", code=2).stderr
    assert hash_tree(victim) == before


def test_a_moved_run_is_told_and_adopted(original: Program, ended: dict[str, Any], program: Program) -> None:
    runs = program.folder / "runs"
    shutil.copytree(original.folder / "runs", runs)
    (runs / "orig").rename(runs / "other")
    assert "is not there" in program.here("resume", "orig", "--steps", "6", code=2).stderr
    program.here("adopt", "runs/other")
    program.here("resume", "orig", "--steps", "6")
    assert not differences(fingerprint(program.folder, "orig"), ended)


def test_a_folder_from_elsewhere_is_adopted_with_its_record(
    original: Program, ended: dict[str, Any], program: Program
) -> None:
    before = hash_tree(original.folder / "runs")
    found = json.loads(program.here("adopt", str(original.folder / "runs" / "orig"), "--json").stdout)
    assert (found["name"], found["step"], found["missing"]) == ("orig", 4, "")
    assert hash_tree(original.folder / "runs") == before
    program.here("resume", "orig", "--steps", "6")
    assert not differences(fingerprint(program.folder, "orig"), ended)
    assert "already" in program.here("adopt", "runs/orig", code=2).stderr


def test_a_folder_beside_its_original_becomes_a_second_run(original: Program, program: Program) -> None:
    runs = program.folder / "runs"
    shutil.copytree(original.folder / "runs", runs)
    shutil.copytree(runs / "orig", runs / "again")
    program.here("adopt", "runs/again")
    before = hash_tree(runs / "orig")
    program.here("resume", "again", "--steps", "5")
    assert program.review("again")["steps"] == 5
    assert program.review("orig")["steps"] == 4
    assert hash_tree(runs / "orig") == before


def test_a_folder_without_any_database_continues(original: Program, program: Program) -> None:
    shutil.copytree(original.folder / "runs" / "orig", program.folder / "runs" / "orig")
    told = program.here("adopt", "runs/orig").stdout
    assert "what was before step 5 is missing" in told
    program.here("resume", "orig", "--steps", "6")
    review = program.here("review", "orig").stdout
    assert "what was before step 5 is missing" in review
    document = program.review("orig")
    assert document["status"] == "finished"
    assert [step for step in document["reward"]["by_step"] if step is not None]


def test_what_is_intact_of_a_damaged_record_is_adopted(original: Program, program: Program) -> None:
    runs = program.folder / "runs"
    shutil.copytree(original.folder / "runs", runs)
    execute(runs, "UPDATE steps SET metrics = '{}' WHERE step = 2")
    refused = program.here("resume", "orig", "--steps", "6", code=2).stderr
    assert "steps row 2 (metrics); grpo adopt" in refused
    told = program.here("adopt", "runs/orig", "--out", "other").stdout
    assert "without what was damaged: steps row 2 (metrics)" in told
    program.here("resume", "orig", "--steps", "6", "--out", "other")
    assert "steps row 2" in program.here("review", "orig", "--out", "other").stdout


def _is_whole(database: Path) -> bool:
    if not database.exists():
        return False
    with closing(sqlite3.connect(database)) as c, suppress(sqlite3.DatabaseError):
        return bool(c.execute("PRAGMA quick_check").fetchone() == ("ok",))
    return False


def test_a_run_is_copied_while_it_runs(program: Program) -> None:
    process = program.start("run", *COLD, "--name", "live", "--steps", "500", "--plain")
    program.wait_for(lambda: program.last_step("live") >= 9)
    program.here("export", "live", "--as", "run", "--to", "copy")
    # By hand, without the -wal in which SQLite keeps the first megabytes of a record.
    plain = program.folder / "plain"
    while not _is_whole(plain / "harness.db"):  # else it stood still while SQLite wrote the -wal into the file
        shutil.rmtree(plain, ignore_errors=True)
        plain.mkdir()
        process.send_signal(signal.SIGSTOP)  # which may delete an old checkpoint while a plain copy reads it
        shutil.copy(program.folder / "runs" / "harness.db", plain)
        shutil.copytree(program.folder / "runs" / "live", plain / "live")
        process.send_signal(signal.SIGCONT)
    assert process.poll() is None
    program.kill(process)
    (found,) = json.loads(program.here("runs", "--json", "--out", "plain").stdout)
    assert found["steps"] >= 4
    program.here("resume", "live", "--out", "plain", "--steps", "12")
    copied = json.loads(program.here("runs", "--json", "--out", "copy").stdout)
    assert [(run["run"], run["status"]) for run in copied] == [("live", "stopped")]
    program.here("resume", "live", "--out", "copy", "--steps", "12")
    refused = program.here("export", "live", "--as", "run", "--to", "copy", code=2)
    assert "exists already" in refused.stderr


def test_what_is_no_run_is_refused(program: Program) -> None:
    (program.folder / "empty").mkdir()
    assert "is not the folder of a run" in program.here("adopt", "empty", code=2).stderr
    (program.folder / "empty" / "checkpoints").mkdir()
    assert "run.json" in program.here("adopt", "empty", code=2).stderr
    assert "is not the folder of a run" in program.here("adopt", "nowhere", code=2).stderr


def test_a_database_that_is_moved_away_or_replaced_is_told_and_waited_for(program: Program) -> None:
    runs = program.folder / "runs"
    process = program.start("run", *COLD, "--name", "live", "--steps", "12", "--plain")
    program.wait_for(lambda: program.last_step("live") >= 2)
    (runs / "harness.db").rename(runs / "kept.db")
    # Not only said by the heartbeat: the next write waits.
    program.wait_for(lambda: "put it back; trying again" in (runs / "live" / "log.txt").read_text())
    shutil.copy(runs / "kept.db", runs / "harness.db")
    assert process.poll() is None
    (runs / "kept.db").rename(runs / "harness.db")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "put it back" in said
    review = program.review("live")
    assert review["steps"] == 12
    assert any("waited" in event["text"] and "moved away" in event["text"] for event in review["events"])


def _as_then(found: dict[str, Any]) -> dict[str, Any]:
    """Without the rewards by prompt, which were not kept then."""
    rows = [{k: v for k, v in row.items() if k not in ("answers", "tie")} for row in found["evaluations"]]
    return found | {"evaluations": sorted(rows, key=lambda row: (row["split"], row["step"]))}


CORRECT_THEN = "(SELECT json_group_object(key, json_extract(value, '$[1]')) FROM json_each(evaluations.answers))"


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_a_database_of_an_older_schema_opens_and_resumes(
    original: Program, ended: dict[str, Any], program: Program, version: int
) -> None:
    """Its columns are those of then, and its folders the absolute paths that were written then."""
    runs = program.folder / "runs"
    shutil.copytree(original.folder / "runs", runs)
    newer = runs / "newer.db"
    for file in list(runs.glob("harness.db*")):  # with the -wal of a connection that was not closed yet
        file.rename(runs / file.name.replace("harness", "newer"))
    with closing(sqlite3.connect(runs / "harness.db", isolation_level=None)) as c:
        for migration in MIGRATIONS[:version]:
            migration(c)
        c.execute(f"PRAGMA user_version = {version}")
        c.execute("ATTACH ? AS newer", (str(newer),))
        for (table,) in c.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
            columns = ", ".join(row[1] for row in c.execute(f"PRAGMA main.table_info({table})"))
            then = columns.replace("correct", CORRECT_THEN) if table == "evaluations" else columns
            c.execute(f"INSERT INTO main.{table} ({columns}) SELECT {then} FROM newer.{table}")
        if version == 1:  # the second makes these
            c.execute("DELETE FROM buckets WHERE metric IN ('group/solved_rate', 'group/unsolved_rate')")
        c.execute("UPDATE runs SET folder = ?", (str(original.folder / "runs" / "orig"),))
    for file in list(runs.glob("newer.db*")):
        file.unlink()
    before = hash_tree(original.folder / "runs")
    assert program.review("orig")["steps"] == 4
    if version in (1, 4):
        program.here("resume", "orig", "--steps", "6")
        assert not differences(*map(_as_then, (fingerprint(program.folder, "orig"), ended)))
        assert hash_tree(original.folder / "runs") == before
