"""Where the record of runs lies."""

from __future__ import annotations

from pathlib import Path

from harness.errors import InputError

PREFIX = "sqlite:///"
DATABASE = "harness.db"


def database_url(folder: str, url: str | None) -> str:
    """Return ``url`` (a SQLite URL or a path) if given, else DATABASE in ``folder``. Raises InputError."""
    place = url or str(Path(folder) / DATABASE)
    if "://" not in place:
        return PREFIX + place
    check_url(place)
    return place


def check_url(url: str) -> None:
    """Raise InputError for the address of another kind of database."""
    if not url.startswith(PREFIX) or url == PREFIX:
        raise InputError(f"db: {url} is not a SQLite file; give sqlite:///path/to/harness.db")


def database_path(url: str) -> Path:
    return Path(url.removeprefix(PREFIX))


def find_folder(database: Path, named: str) -> Path:
    """Return the folder of a run that its database calls ``named``: relative to the database's own folder, so that
    both can be moved and copied."""
    return database.absolute().parent / named


def is_inside(folder: Path, database: Path) -> bool:
    """Tell whether ``folder`` lies below the folder of the database, through whatever links."""
    place = database.absolute().parent.resolve()
    return place in folder.resolve().parents


def existing_parent(path: Path) -> Path:
    """Find the nearest existing folder above ``path``."""
    place = path.absolute().parent
    while not place.exists():
        place = place.parent
    return place


def database_flag(url: str) -> str:
    """Return the flag that finds a database again, when it is not where grpo looks first."""
    return "" if url == f"{PREFIX}runs/harness.db" else f" --db {url}"


def checkpoint_path(step: int) -> str:
    """Name the folder of a checkpoint within that of its run."""
    return f"checkpoints/step-{step:06d}"


def best_link(step: int, dev_score: float) -> str:
    """Name the link in a run's folder to its best checkpoint."""
    return f"best-step-{step}-dev-{dev_score:.3f}"
