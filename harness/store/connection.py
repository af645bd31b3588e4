"""TODO"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

LOCK_WAIT_S = 5.0
"""How long SQLite itself waits for another process to finish writing."""


PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}
"""Faults of the place and not of the statement: later the same statement may work."""


def connect(path: Path) -> sqlite3.Connection:
    """To a database that is there: one that has gone is an error, not a new one."""
    place = f"file:{quote(str(path.absolute()))}?mode=rw"
    connection = sqlite3.connect(place, uri=True, timeout=LOCK_WAIT_S, isolation_level=None)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection
