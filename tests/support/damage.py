"""Databases of three runs, each damaged in one way: cut short, flipped bytes, bad rows, lost tables, another schema."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from harness.store.writer import RunStore
from harness.types import Action, Decision
from tests.support.builders import (
    create_run,
    make_checkpoint,
    make_evaluation,
    make_sample,
    make_store,
    record_decision,
    record_step,
)

RUNS = ("first", "broken", "last")
BAD_VALUES = {
    "runs.spec": ["null", "[]", "{", '{"budget": 7}'],
    "runs.manifest": ["null", "3"],
    "runs.knobs": ["{}", "null", '{"temperature": "hot"}'],
    "runs.bounds": ['{"temperature": 1}', "[]"],
    "runs.pins": ["5"],
    "runs.eras": ["{}", '[{"weights_step": "x"}]'],
    "runs.status": ["odd"],
    "runs.heartbeat": ["soon"],
    "runs.created": ["1e300"],
    "runs.last_step": ["many"],
    "steps.metrics": ["{}", "null", '{"reward/mean": "high"}'],
    "steps.knobs": ["{}"],
    "groups.rewards": ["oops"],
    "decisions.changes": ["7", '{"temperature": 3}'],
    "decisions.argument": ["{"],
    "evaluations.answers": ["[]", '{"a": [1]}'],
    "evaluations.pass_at": ["{}", "[[8, 0.5]]", '[[8, "x", 0, 1]]'],
    "evaluations.accuracy": ["good"],
    "checkpoints.hashes": ["3"],
    "completions.reward": ["high"],
    "completions.completion": [b"\xff\xfe"],
    "commands.changes": ["{"],
    "events.text": [b"\xff"],
    "buckets.total": ["much"],
}
TABLES = [
    "runs",
    "steps",
    "groups",
    "completions",
    "decisions",
    "commands",
    "evaluations",
    "checkpoints",
    "events",
    "buckets",
]


def make_runs(folder: Path) -> Path:
    """Record three ended runs and return their database, whole in one file."""
    store = make_store(folder)
    for name in RUNS:
        _record(store, name, folder)
    store.close()
    path = folder / "harness.db"
    with closing(sqlite3.connect(path)) as c:
        c.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def _record(store: RunStore, name: str, folder: Path) -> None:
    run_id = create_run(store, name, folder=name)
    (folder / name).mkdir()
    store.record_evaluation(run_id, 0, make_evaluation(0.3))
    store.record_evaluation(run_id, 0, make_evaluation(0.3, split="test"))
    store.record_checkpoint(run_id, make_checkpoint(0))
    for step in range(1, 13):
        action = Action("set", {"temperature": 1.0 + step / 100}) if step % 3 == 0 else Action("continue")
        changes = {"temperature": {"from": 1.0, "to": 1.0 + step / 100}} if step % 3 == 0 else {}
        record_decision(store, run_id, step, Decision(action, "rules", "evidence"), changes)
        record_step(store, run_id, step, {"reward/mean": step / 12})
    store.record_samples(run_id, 12, [make_sample(12, kind="fixed")])
    store.record_evaluation(run_id, 12, make_evaluation(0.6))
    store.record_evaluation(run_id, 12, make_evaluation(0.6, split="test"))
    store.record_checkpoint(run_id, make_checkpoint(12))
    store.add_command(run_id, Action("save"), later=True)
    store.record_event(run_id, 12, "warning", "an event")
    store.end_run(run_id, "finished", "budget of 12 steps spent", 12.0)


def damages() -> Iterator[tuple[str, bool, Callable[[Path], None]]]:
    """Yield a name, whether the other two runs must still be shown, and what damages the database."""
    for size in (0, 1, 60, 100, 512, 4096, 0.25, 0.5, 0.75, 0.95):
        yield f"truncated to {size}", False, lambda path, size=size: _truncate(path, size)  # type: ignore[misc]
    for seed in range(12):
        yield f"flipped bytes {seed}", False, lambda path, seed=seed: _flip(path, seed)  # type: ignore[misc]
    for place, values in BAD_VALUES.items():
        for value in values:
            yield f"{place} = {value!r}", True, lambda path, p=place, v=value: _spoil(path, p, v)  # type: ignore[misc]
    for table in TABLES:
        yield f"no table {table}", False, lambda path, t=table: _execute(path, f"DROP TABLE {t}")  # type: ignore[misc]
    yield "a newer schema", False, lambda path: _execute(path, "PRAGMA user_version = 99")
    yield "no database", False, lambda path: path.write_bytes(b"not a database at all" * 400) and None


def _truncate(path: Path, size: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(size if size >= 1 or size == 0 else size * len(data))])


def _flip(path: Path, seed: int) -> None:
    rng, data = random.Random(seed), bytearray(path.read_bytes())
    for _ in range(2**seed):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _spoil(path: Path, place: str, value: str | bytes) -> None:
    table, column = place.split(".")
    run = "SELECT id FROM runs WHERE name = 'broken'"
    where = f"id = ({run})" if table == "runs" else f"run_id = ({run})"
    if table == "groups":
        where = f"step_id IN (SELECT id FROM steps WHERE run_id = ({run}))"
    _execute(path, f"UPDATE {table} SET {column} = ? WHERE {where}", (value,))


def _execute(path: Path, statement: str, values: tuple[object, ...] = ()) -> None:
    with closing(sqlite3.connect(path)) as c:
        c.execute("PRAGMA foreign_keys = OFF")
        c.execute(statement, values)
        c.commit()


def damage(whole: Path, folder: Path, spoil: Callable[[Path], None]) -> None:
    """Make a runs folder in ``folder`` with a damaged copy of the database ``whole``."""
    shutil.copytree(whole.parent, folder)
    spoil(folder / "harness.db")
