"""Where the record of runs lies, and whether the process of a run lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path

PREFIX = "sqlite:///"


def database_url(folder: str, url: str | None) -> str:
    """``url`` (a SQLite URL or a path) if given, else harness.db in ``folder``."""
    place = url or str(Path(folder) / "harness.db")
    return place if "://" in place else PREFIX + place


def database_path(url: str) -> Path:
    return Path(url.removeprefix(PREFIX))


def existing_parent(path: Path) -> Path:
    """The nearest folder above ``path`` that is there."""
    place = path.absolute().parent
    while not place.exists():
        place = place.parent
    return place


def best_link(step: int, dev_accuracy: float) -> str:
    """The name under which a run's folder shows its best checkpoint to people."""
    return f"best-step-{step}-dev-{dev_accuracy:.3f}"


def is_alive(pid: int, host: str) -> bool:
    """Whether the process of a run lives. Of another machine nothing is known, so it counts as alive."""
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return pid > 0
