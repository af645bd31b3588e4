"""Finding, checking and opening the database of a runs folder."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from harness.core.paths import check_url, database_path, existing_parent, is_inside
from harness.errors import InputError
from harness.store.connection import connect
from harness.store.rows import dump_json
from harness.store.writer import RunStore, refuse_name

NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "lustre"})


def find_store(url: str) -> RunStore | None:
    """The database at ``url`` if there is one; creates nothing."""
    return open_store(url) if database_path(url).exists() else None


def check_place(url: str, name: str, folder: Path) -> None:
    """Raises InputError if a run called ``name``, which lies in ``folder``, could not be recorded at ``url``; creates
    nothing."""
    if not is_inside(folder / (name or "run"), database_path(url)):
        raise InputError(
            f"output.dir: {folder} is not the folder of the database {database_path(url)}, nor below it, as runs are "
            "so that both can be moved and copied; leave out --out, or --db"
        )
    store = find_store(url)
    if store is not None:
        refuse_taken(store, name)
        return
    parent = existing_parent(database_path(url))
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(
            f"db: cannot write {database_path(url)}: {parent} is not writable; choose another --db or --out"
        )


def free_name(url: str, short_name: str) -> str:
    """``short_name-1``, or the next number that no run at ``url`` has."""
    store = find_store(url)
    names = [run.name for run in store.list_runs()] if store else []
    taken = {*names, *(name.partition("/")[0] for name in names)}  # groups too
    return next(name for number in range(1, 10**6) if (name := f"{short_name}-{number}") not in taken)


def refuse_taken(store: RunStore, name: str) -> None:
    if any(run.name == name or run.name.startswith(f"{name}/") for run in store.list_runs()):
        raise refuse_name(name)


def open_store(url: str) -> RunStore:
    """The database at ``url`` (``sqlite:///path``), created and migrated as needed. Raises InputError."""
    check_url(url)
    path = database_path(url)
    file_system = _file_system_of(path)
    if file_system in NETWORK_FILE_SYSTEMS:
        raise InputError(f"db: {path} lies on {file_system}, where SQLite's locks fail; use --db with a local disk")
    engine = create_engine(
        "sqlite://",
        creator=lambda: connect(path),
        json_serializer=dump_json,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",  # transactions are begun and committed in RunStore.write, and nowhere else
    )
    store = RunStore(engine, url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch()
    except OSError as error:
        raise store.explain_opening(error, "write") from error
    store.bring_up_to_date("write")
    return store


def _file_system_of(path: Path) -> str:
    """The type of the file system that ``path`` lies on, "" where the machine does not say."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    place = path.absolute().resolve()
    best, kind = "", ""
    for line in mounts.splitlines():
        _, point, file_system, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if place.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, file_system
    return kind
