"""Copy runs with their record, and bring a run's folder into a database.

    copy_runs(reader, records, Path("backup"))              # backup/harness.db and backup/night-1: a runs folder itself
    adopt_folder(Path("backup/night-1"), url, "night-1")    # into runs/harness.db and runs/night-1

What is copied is only read: it keeps every byte.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from harness.core.liveness import refuse_running
from harness.core.paths import DATABASE, checkpoint_path, database_path, database_url, existing_parent, is_inside
from harness.errors import InputError
from harness.run.card import CARD, read_card, write_card
from harness.run.checkpoints import find_checkpoints, is_intact, read_state
from harness.store.copying import insert_rows, read_rows, rows_of_card
from harness.store.opening import open_store, refuse_taken
from harness.store.reader import RunReader, find_reader
from harness.store.writer import RunStore
from harness.types import CheckpointRecord, Progress, RunRecord, no_progress

SPLITS = "splits"
"""Folder beside those of the runs: which prompt is in which split, for every source."""
COPIED_FROM = "copied_from"
"""Of the manifest of a copy: the ``uid`` of what it was copied from."""
CHECKPOINTS = Path(checkpoint_path(0)).parent


@dataclass(frozen=True, slots=True)
class Copied:
    """A runs ``folder`` with a database of its own, in which ``runs`` are."""

    folder: Path
    runs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Adopted:
    """A run that the database did not know, or not there. It continues from ``step``; ``missing`` says what its record
    lacks, "" for nothing."""

    name: str
    folder: Path
    step: int
    missing: str


def copy_runs(reader: RunReader, records: Sequence[RunRecord], to: Path, progress: Progress = no_progress) -> Copied:
    """Copy runs with checkpoints and record into the new folder ``to``. They may be running.

    ``to`` appears whole or not at all. Raises InputError, and then nothing was written.
    """
    if to.exists():
        raise InputError(f"--to: {to} exists already; choose another")
    if not existing_parent(to).is_dir():
        raise InputError(f"--to: {existing_parent(to)} is not a folder")
    whole = to.with_name(f".{to.name}.partial")
    shutil.rmtree(whole, ignore_errors=True)  # of one that was killed
    whole.mkdir(parents=True)
    try:
        splits = reader.path.parent / SPLITS
        if splits.is_dir():
            shutil.copytree(splits, whole / SPLITS)
        with closing(open_store(database_url(str(whole), None))) as store:
            for done, one in enumerate(records):
                progress(f"copying {one.name}", done, len(records))
                named = Path(*Path(one.folder).parts[-1 - one.name.count("/") :])  # GROUP/STAGE, of a group
                _copy_run(reader, one, reader.folder_of(one), store, whole / named, one.name)
        whole.rename(to)
    finally:
        shutil.rmtree(whole, ignore_errors=True)
    return Copied(to, tuple(one.name for one in records))


def adopt_folder(folder: Path, url: str, name: str | None = None, progress: Progress = no_progress) -> Adopted:
    """Bring a run's folder (moved, copied, or without its database) into the database at ``url``, as ``name``; default
    that of the folder, of a stage with its group's.

    Its record comes from the database beside the folder, else from this one, of which the folder is then a copy.
    Without either it continues from its newest checkpoint, with a record that begins there. A folder from elsewhere is
    copied. Raises InputError, and then nothing was written.
    """
    folder = folder.absolute()
    if not (folder / CHECKPOINTS).is_dir():
        raise InputError(f"FOLDER: {folder} is not the folder of a run: it has no {CHECKPOINTS}/")
    card = read_card(folder)
    name = name or "/".join(folder.parts[-2:] if card and "/" in card["name"] else folder.parts[-1:])
    inside = is_inside(folder, database_path(url))
    with closing(open_store(url)) as store:
        moved = _find_run(store, folder, card, gone=True) if inside else None
        if moved is not None:
            store.update_run(moved.id, folder=_name_in(store, folder))
            return _tell(store, moved.name)
        refuse_taken(store, name)
        target = folder if inside else store.path.absolute().parent / name
        unfinished = card is not None and read_card(target) == card  # an earlier call was killed before its rows
        if target.exists() and not inside and not unfinished:
            raise InputError(f"name: {target} exists already, though no run of it does; choose another --name")
        with _open_beside(folder) as beside:
            for reader in filter(None, (beside, store)):
                record = _find_run(reader, folder, card)
                if record is not None:
                    refuse_running(
                        record.name, record.status, record.pid, record.host, record.process, record.heartbeat
                    )
                    progress(f"copying {record.name}", 0, 1)
                    _copy_run(reader, record, folder, store, target, name)
                    return _tell(store, name, store.load_run(store.find_run(name).id).manifest.get("missing", ""))
        if card is None:
            raise InputError(f"FOLDER: {folder} has no {CARD}, and no {DATABASE} beside it knows it: put that back")
        return _adopt_without_record(folder, card, store, target, name)


def _adopt_without_record(folder: Path, card: dict[str, Any], store: RunStore, target: Path, name: str) -> Adopted:
    found = find_checkpoints(folder)
    if not found or found[0].step != 0:
        raise InputError(f"FOLDER: {folder} cannot be continued: the checkpoint of step 0, which KL needs, is missing")
    if not target.exists():
        _copy_folder(folder, target, found)
    missing = f"adopted without its record: what was before step {found[-1].step + 1} is missing"
    state = read_state(Path(found[-1].path))
    insert_rows(store, rows_of_card(card, state, found, name=name, folder=_name_in(store, target), missing=missing))
    return _tell(store, name, missing)


# ---------------------------------------------------------------- whose folder it is


@contextmanager
def _open_beside(folder: Path) -> Iterator[RunReader | None]:
    """Open a copy of the database beside a folder, or beside that of its group: to read one that is not closed would
    write beside it."""
    place = next((place for place in folder.parents[:2] if (place / DATABASE).is_file()), folder.parent)
    with tempfile.TemporaryDirectory() as temporary:
        for file in (DATABASE, f"{DATABASE}-wal"):
            with suppress(FileNotFoundError):
                shutil.copy(place / file, temporary)
        try:
            reader = find_reader(database_url(temporary, None))
        except InputError:  # damaged: as if it were not there
            reader = None
        yield reader
        if reader is not None:
            reader.close()


def _find_run(reader: RunReader, folder: Path, card: dict[str, Any] | None, *, gone: bool = False) -> RunRecord | None:
    """Find the run that a folder is of, by its card or, before there were cards, by the folder's name; with ``gone``
    only one whose own folder is not there any more. Raises InputError for one that is there in its own right."""
    uid = card["manifest"].get("uid") if card else None
    for run in reader.list_runs():
        own = Path(run.folder)
        if own.is_dir() and own.samefile(folder):
            raise InputError(f"FOLDER: {folder} is that of {run.name} already; to continue: grpo resume {run.name}")
        same = reader.load_run(run.id).manifest.get("uid") == uid if uid else own.name == folder.name
        if same and not (gone and own.is_dir()):
            return run
    return None


def _name_in(store: RunStore, folder: Path) -> str:
    return str(folder.resolve().relative_to(store.path.absolute().parent.resolve()))


def _tell(store: RunStore, name: str, missing: str = "") -> Adopted:
    run = store.find_run(name)
    return Adopted(name, Path(run.folder), store.load_checkpoints(run.id)[-1].step, missing)


# ---------------------------------------------------------------- copies


def _copy_run(source: RunReader, record: RunRecord, folder: Path, store: RunStore, target: Path, name: str) -> None:
    """Copy a run into ``store`` as ``name``, its ``folder`` to ``target`` unless it is that: first the files, which
    appear whole, then all rows at once."""
    saved = source.load_checkpoints(record.id)
    kept = _find_intact(target, saved) if target.exists() else _copy_folder(folder, target, saved)
    if not kept:
        raise InputError(f"{record.name} has no intact checkpoint in {folder}")
    manifest = source.load_run(record.id).manifest
    manifest = manifest | {"uid": uuid4().hex, COPIED_FROM: manifest.get("uid")} | _find_parent(store, manifest)
    run = {"name": name, "folder": _name_in(store, target), "manifest": manifest}
    if damaged := source.find_damage(record):
        source.leave_out_damage()
        manifest["missing"] = f"copied without what was damaged: {damaged}"
    if not record.ended:
        run |= {"status": "stopped", "stop_reason": "copied before its end"}
    insert_rows(store, read_rows(source, record.id, run, {checkpoint.step for checkpoint in kept}))
    write_card(target, store.load_run(store.find_run(name).id))


def _find_parent(store: RunStore, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``stage`` of a manifest with the copy of its parent for its parent, where that was copied before."""
    stage: dict[str, Any] = manifest.get("stage") or {}
    parent: dict[str, Any] | None = stage.get("parent")
    for run in store.list_runs():
        copied = store.load_run(run.id).manifest
        if parent and copied.get(COPIED_FROM, "") == parent["uid"]:
            return {"stage": stage | {"parent": parent | {"run": run.name, "uid": copied["uid"]}}}
    return {}


def _copy_folder(folder: Path, target: Path, checkpoints: Sequence[CheckpointRecord]) -> list[CheckpointRecord]:
    """Copy a run's folder and return those of its ``checkpoints`` that are intact in the copy: a run that is running
    may delete one meanwhile. ``target`` appears whole."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for checkpoint in checkpoints:
            with suppress(shutil.Error, FileNotFoundError):
                shutil.copytree(folder / checkpoint_path(checkpoint.step), partial / checkpoint_path(checkpoint.step))
        for path in folder.iterdir():
            if path.is_file() and not path.name.startswith("."):
                shutil.copy2(path, partial, follow_symlinks=False)
        kept = _find_intact(partial, checkpoints)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return kept


def _find_intact(folder: Path, checkpoints: Sequence[CheckpointRecord]) -> list[CheckpointRecord]:
    return [c for c in checkpoints if is_intact(folder / checkpoint_path(c.step), c.hashes)]
