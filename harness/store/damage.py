"""Damaged rows: what no version of this program wrote. They are named and left out, and the rest is shown.

A look that fails at a row is taken again on views of the same names that leave such rows out. So a sound database,
which is nearly every one, is read without a check.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from harness.store.migrations import MIGRATIONS
from harness.store.rows import NO_TIME
from harness.types import Knobs, Status

TYPES: Mapping[str, tuple[type, ...]] = {
    "INTEGER": (int,),
    "BOOLEAN": (int,),
    "FLOAT": (int, float),
    "VARCHAR": (str,),
    "JSON": (str, int, float),
}
"""What SQLite gives of a column, by its declared type."""
LISTS = ("pins", "eras", "rewards", "tokens", "pass_at", "correct of groups")
"""Columns of JSON that hold a list; the others hold an object, but for ANY."""
ANY = ("argument",)
NUMBER = (int, float, type(None))


@dataclass(frozen=True, slots=True, order=True)
class Damage:
    """A row that is left out, and the column that shows that it is damaged; row 0 is a table that is missing."""

    table: str
    row: int
    column: str
    run: str = ""

    def __str__(self) -> str:
        if not self.row:
            return f"the table {self.table} is missing"
        return f"the run {self.run} ({self.column})" if self.run else f"{self.table} row {self.row} ({self.column})"


def hide_damage(c: sqlite3.Connection, found: Callable[[Damage], None]) -> None:
    """Put a view of intact rows in the place of each table, as this connection sees it, and an empty table in that of
    one that is missing. ``found`` is told of each damaged row when a query comes upon it."""
    schema = sqlite3.connect(":memory:")
    for migration in MIGRATIONS:
        migration(schema)
    tables = schema.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    schema.close()
    for table, statement in tables:
        columns = c.execute(f"PRAGMA main.table_info({table})").fetchall()
        if not columns:
            found(Damage(table, 0, ""))
            c.execute(statement.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
            continue
        names = [column["name"] for column in columns]

        def is_intact(*values: Any, table: str = table, columns: Sequence[sqlite3.Row] = columns) -> bool:
            damage = check_row(table, columns, values)
            if damage is not None:
                found(damage)
            return damage is None

        c.create_function(f"is_intact_{table}", len(names), is_intact, deterministic=True)
        where = f"is_intact_{table}({', '.join(names)})"
        c.execute(f"CREATE TEMP VIEW {table} AS SELECT * FROM main.{table} WHERE {where}")


def find_damage(c: sqlite3.Connection, run_id: int) -> list[Damage]:
    """Find the damaged rows of one run."""
    damages = []
    for table in ("runs", "steps", "completions", "decisions", "commands", "evaluations", "checkpoints", "events"):
        columns = c.execute(f"PRAGMA main.table_info({table})").fetchall()
        key = "id" if table == "runs" else "run_id"
        for row in c.execute(f"SELECT * FROM main.{table} WHERE {key} = ?", (run_id,)):
            damages.append(check_row(table, columns, tuple(row)))
    groups = c.execute("PRAGMA main.table_info(groups)").fetchall()
    of_run = "SELECT * FROM main.groups WHERE step_id IN (SELECT id FROM main.steps WHERE run_id = ?)"
    for row in c.execute(of_run, (run_id,)):
        damages.append(check_row("groups", groups, tuple(row)))
    return [damage for damage in damages if damage is not None]


def check_row(table: str, columns: Sequence[sqlite3.Row], values: Sequence[Any]) -> Damage | None:
    """Find what is wrong with a row, given ``PRAGMA table_info`` and its values."""
    row: dict[str, Any] = {}
    for column, value in zip(columns, values, strict=True):
        name, kind = column["name"], column["type"]
        damage = Damage(table, row.get("id") or 1, name, str(row.get("name", "")) if table == "runs" else "")
        if value is None and not column["notnull"]:
            continue
        if not isinstance(value, TYPES.get(kind, (object,))):
            return damage
        row[name] = value
        if kind == "JSON":
            try:
                row[name] = json.loads(str(value))
            except (ValueError, TypeError):
                return damage
            if name in ANY:
                continue
            wanted = list if name in LISTS or f"{name} of {table}" in LISTS else dict
            if not isinstance(row[name], wanted) or not SHAPES.get(f"{table}.{name}", lambda _: True)(row[name]):
                return damage
    if table == "runs":
        if row["status"] not in get_args(Status):
            return Damage(table, row["id"], "status", row["name"])
        for name in ("created", "heartbeat"):
            if not 0 <= row[name] < NO_TIME:
                return Damage(table, row["id"], name, row["name"])
    return None


def _are_knobs(knobs: Mapping[str, Any]) -> bool:
    return knobs.keys() == Knobs.__dataclass_fields__.keys() and all(isinstance(v, NUMBER) for v in knobs.values())


SHAPES: Mapping[str, Callable[[Any], bool]] = {
    "runs.spec": lambda spec: isinstance(spec.get("budget", {}), dict),
    "runs.knobs": _are_knobs,
    "runs.bounds": lambda bounds: all(isinstance(pair, list) and len(pair) == 2 for pair in bounds.values()),
    "runs.eras": lambda eras: all(
        isinstance(era, dict)
        and isinstance(era.get("weights_step"), int)
        and isinstance(era.get("last_step"), int)
        and isinstance(era.get("changes"), dict)
        for era in eras
    ),
    "steps.knobs": _are_knobs,
    "steps.metrics": lambda m: (
        not m.keys().isdisjoint(("reward/mean", "loss")) and all(isinstance(value, NUMBER) for value in m.values())
    ),
    "decisions.changes": lambda changes: all(
        isinstance(change, dict) and {"from", "to"} <= change.keys() for change in changes.values()
    ),
    "evaluations.answers": lambda answers: all(
        isinstance(answer, list) and len(answer) == 3 and all(isinstance(value, NUMBER) for value in answer)
        for answer in answers.values()
    ),
    "evaluations.pass_at": lambda rates: all(
        isinstance(rate, list) and len(rate) == 4 and all(isinstance(value, int | float) for value in rate)
        for rate in rates
    ),
    "checkpoints.hashes": lambda hashes: all(isinstance(value, str) for value in hashes.values()),
}
"""What must hold of a column's value, where more than its type is read."""
