"""Copy the record of a run from one database into another, or beside itself under another name."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Table
from sqlmodel import SQLModel

from harness.core.paths import checkpoint_path
from harness.store.reader import RunReader
from harness.store.rows import dump_json
from harness.store.writer import RunStore, add_rows
from harness.types import CheckpointRecord

Rows = Iterable[tuple[str, dict[str, Any]]]
"""Rows with the name of their table, each after those that it refers to by their ``id``."""
JSON_COLUMNS = ("spec", "manifest", "bounds", "eras", "knobs", "pins", "forecast")
OF_NO_PROCESS = {"pid": 0, "process": "", "supervisor": "", "phase": ""}
"""Columns of a run that nothing drives."""


def read_rows(source: RunReader, run_id: int, changed: Mapping[str, Any], steps: Collection[int]) -> Rows:
    """Yield all rows of a run, in one consistent view, of its checkpoints those of ``steps``.

    The columns ``changed`` take the place of the run's own. Raises StoreUnavailable.
    """
    with source.read() as c:
        for name, table in _tables().items():
            for found in c.execute(_select(table), {"run": run_id}):
                row = dict(found)
                if name == "runs":
                    row |= OF_NO_PROCESS | _encode(changed)
                if name != "checkpoints" or row["step"] in steps:
                    yield name, row


def insert_rows(target: RunStore, rows: Rows) -> None:
    """Insert the rows of one run in one transaction, under ids of their own.

    Raises StoreUnavailable, and then nothing was written.
    """
    ids: dict[str, dict[int, int]] = defaultdict(dict)
    tables = _tables()
    with target.write() as c:
        for name, row in rows:
            own = row.pop("id", None)
            for key in tables[name].foreign_keys:
                referring = key.parent.name
                if row.get(referring) is not None:
                    row[referring] = ids[key.column.table.name][row[referring]]
            inserted = add_rows(c, name, [row])
            if own is not None:
                ids[name][own] = inserted


def rows_of_card(
    card: Mapping[str, Any],
    state: Mapping[str, Any],
    checkpoints: Sequence[CheckpointRecord],
    *,
    name: str,
    folder: str,
    missing: str,
) -> Rows:
    """Yield the rows of a run whose record is lost: from the card of its folder, the ``state`` in its newest checkpoint
    and its ``checkpoints``; ``missing`` says what was not to be found."""
    now = time.time()
    run: dict[str, Any] = {column.name: 0 for column in _tables()["runs"].columns}
    run |= {**card} | {column: state[column] for column in ("policy", "last_step", "weights_step", "knobs", "pins")}
    eras = card["eras"][: state["era"]]
    told = {"status": "stopped", "stop_reason": missing, "host": "", "forecast": {}, "eras": eras}
    told["manifest"] = card["manifest"] | {"missing": missing}
    start = eras[-1]["weights_step"] if eras else 0
    place = {"id": 1, "name": name, "folder": folder, "era_start": start, "graded": None}
    yield "runs", _encode(run | OF_NO_PROCESS | told | place)
    for c in checkpoints:
        row = {"run_id": 1, "step": c.step, "at": now, "name": c.name, "path": checkpoint_path(c.step)}
        yield "checkpoints", row | {"hashes": dump_json(dict(c.hashes))}
    event = {"run_id": 1, "step": state["last_step"], "at": now, "level": "warning", "text": missing}
    yield "events", event


def _tables() -> dict[str, Table]:
    return {table.name: table for table in SQLModel.metadata.sorted_tables}


def _encode(run: Mapping[str, Any]) -> dict[str, Any]:
    return {name: dump_json(value) if name in JSON_COLUMNS else value for name, value in run.items()}


def _select(table: Table) -> str:
    if table.name == "runs":
        return "SELECT * FROM runs WHERE id = :run"
    if "run_id" in table.columns:
        return f"SELECT * FROM {table.name} WHERE run_id = :run"
    return f"SELECT * FROM {table.name} WHERE step_id IN (SELECT id FROM steps WHERE run_id = :run)"
