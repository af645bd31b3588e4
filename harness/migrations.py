"""The schema through time: a plain list of functions, applied in order and never changed once released.

``PRAGMA user_version`` says how many of them a database has seen.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection
from sqlmodel import SQLModel

from harness import records  # noqa: F401  (defines the tables)
from harness.errors import InputError


def first_schema(connection: Connection) -> None:
    """Version 1. Once a second migration exists, this becomes its own frozen SQL."""
    SQLModel.metadata.create_all(connection)


MIGRATIONS: list[Callable[[Connection], None]] = [first_schema]


def migrate(connection: Connection) -> None:
    """Bring a database to the newest schema, in the caller's transaction."""
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if version > len(MIGRATIONS):
        raise InputError(
            f"the database has schema {version}, this version knows {len(MIGRATIONS)}: use the newer grpo that wrote it"
        )
    for number, migration in enumerate(MIGRATIONS[version:], version + 1):
        migration(connection)
        connection.exec_driver_sql(f"PRAGMA user_version = {number}")
