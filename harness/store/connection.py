"""Connections to SQLite, and which of its faults pass."""

from __future__ import annotations

import random
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

LOCK_WAIT_S = 5.0
"""How long SQLite itself waits for another process to finish writing."""
MOMENTS = random.Random()
"""Not the generator that steps are seeded with."""
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


def begin_writing(sqlite: sqlite3.Connection) -> None:
    """Take the lock, trying for LOCK_WAIT_S. SQLite's own wait looks ever more seldom, so that who waits beside several
    busy writers may never see the moment between two of them; this looks often, and at random moments."""
    sqlite.execute("PRAGMA busy_timeout = 0")
    until = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            sqlite.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(MOMENTS.uniform(0.001, 0.01))
