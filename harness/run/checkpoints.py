"""Checkpoint folders: complete under their own name or not there at all, and checked against their hashes.

runs/<name>/checkpoints/step-000040/   weights, tokenizer, optimizer.pt, session.json, and hashes.json of these
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

from harness.core.files import hash_file, sync
from harness.core.paths import best_link, checkpoint_path
from harness.errors import Refused, StoreUnavailable
from harness.types import CheckpointRecord, Store

STATE_FILE = "session.json"
HASH_FILE = "hashes.json"
"""What the record also says of a checkpoint, for whoever finds its folder without a record."""
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@dataclass
class Checkpoints:
    """The checkpoints of one run: rows in the store, folders on disk. One of a step in ``wanted`` is written and kept,
    whatever the spec says: a replay will roll back to it."""

    store: Store
    run_id: int
    folder: Path
    _: KW_ONLY
    keep: int
    wanted: set[int] = field(default_factory=set)

    def write(
        self, step: int, state: Mapping[str, Any], write_weights: Callable[[Path], None], *, name: str = ""
    ) -> CheckpointRecord:
        """Write a folder on disk; its row is the caller's to record, after the folder is complete.

        Raises StoreUnavailable when the disk does not take it, after the run's patience with that.
        """
        folder = self.folder.parent / checkpoint_path(step)
        hashes = self.store.patiently(lambda: write_folder(folder, state, write_weights))
        return CheckpointRecord(step, name, str(folder), best=False, hashes=hashes)

    def find(self, target: str | int | None) -> CheckpointRecord:
        """Find one by step, by name (the newest of several), or the best by dev (None or ``best``). Raises Refused
        where there is none such, or it is damaged."""
        checkpoints = self.store.load_checkpoints(self.run_id)
        asked = "best" if target is None else str(target)  # no name is a number
        for checkpoint in reversed(checkpoints):
            if checkpoint.best if asked == "best" else asked in (str(checkpoint.step), checkpoint.name):
                if not is_intact(Path(checkpoint.path), checkpoint.hashes):
                    raise Refused(f"the checkpoint of step {checkpoint.step} is damaged: {checkpoint.path}")
                return checkpoint
        steps = ", ".join(str(checkpoint.step) for checkpoint in checkpoints) or "none"
        raise Refused(f"no checkpoint {asked}; there are: {steps}")

    def find_newest(
        self, among: Callable[[int], bool] = lambda step: True
    ) -> tuple[CheckpointRecord | None, list[int]]:
        """Find the newest one ``among`` those whose step passes that is intact, and the steps of the damaged ones
        passed over."""
        damaged: list[int] = []
        for checkpoint in reversed(self.store.load_checkpoints(self.run_id)):
            if not among(checkpoint.step):
                continue
            if is_intact(Path(checkpoint.path), checkpoint.hashes):
                return checkpoint, damaged
            damaged.append(checkpoint.step)
        return None, damaged

    def find_newest_behind(self, step: int, *, itself: bool = True) -> CheckpointRecord | None:
        """Find the newest intact one that the weights of ``step`` came through, if need be but for their own: not the
        one of the highest number, which may be what a rollback left."""
        came_through = {0, *self.store.load_ancestors(self.run_id, step)} - (set() if itself else {step})
        return self.find_newest(came_through.__contains__)[0]

    def prune(self, held: Set[int] = frozenset()) -> None:
        """Keep the start (the reference), the newest few, the best by dev, the named ones and those ``held``."""
        checkpoints = self.store.load_checkpoints(self.run_id)
        kept = {0, *held, *self.wanted, *(checkpoint.step for checkpoint in checkpoints[-self.keep :])}
        for checkpoint in checkpoints:
            if not (checkpoint.step in kept or checkpoint.best or checkpoint.name):
                self.store.drop_checkpoint(self.run_id, checkpoint.step)  # the row first: none names a lost folder
                shutil.rmtree(checkpoint.path, ignore_errors=True)

    def link_best(self, checkpoint: CheckpointRecord, dev_score: float) -> None:
        """Make a link beside the checkpoints that says in its name which is the best, in place of the one before."""
        target = Path(self.folder.name) / Path(checkpoint.path).name

        def link() -> None:
            with _telling_disk_faults("the link to the best checkpoint"):
                for old in self.folder.parent.glob("best-step-*"):
                    if old.is_symlink():  # a copy may hold the folder itself in its place
                        old.unlink()
                with suppress(FileExistsError):
                    (self.folder.parent / best_link(checkpoint.step, dev_score)).symlink_to(target)

        self.store.patiently(link)

    def drop_orphans(self) -> None:
        """Delete folders without a row: a crash came between the two."""
        known = {Path(checkpoint.path).name for checkpoint in self.store.load_checkpoints(self.run_id)}
        for path in self.folder.glob("*"):
            if path.is_dir() and path.name not in known:
                shutil.rmtree(path, ignore_errors=True)


def write_folder(folder: Path, state: Mapping[str, Any], write_weights: Callable[[Path], None]) -> dict[str, str]:
    """Write weights and ``state`` to ``folder`` and return the SHA-256 of each file.

    Everything is written beside it, synced to disk and renamed, so a kill leaves no half checkpoint. Raises
    StoreUnavailable for a fault of the disk; what was half written then is gone, since it takes the space it needs.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with _telling_disk_faults(f"the checkpoint {folder}"):
            partial.mkdir(parents=True)
            write_weights(partial)
            (partial / STATE_FILE).write_text(json.dumps(state), encoding="utf-8")
            hashes = {}
            for path in sorted(partial.rglob("*")):
                if path.is_file():
                    sync(path)
                    hashes[str(path.relative_to(partial))] = hash_file(path)
            (partial / HASH_FILE).write_text(json.dumps(hashes, indent=1), encoding="utf-8")
            sync(partial / HASH_FILE)
            sync(partial)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
            sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return hashes


@contextmanager
def _telling_disk_faults(what: str) -> Iterator[None]:
    """Raise StoreUnavailable for a fault of the disk; what is none passes as it is."""
    try:
        yield
    except Exception as error:
        cause = _disk_fault(error)
        if not cause:
            raise
        raise StoreUnavailable(f"{what} cannot be written: {cause}", what=what, cause=cause) from error


def _disk_fault(error: BaseException | None) -> str:
    """Return what the system said of the disk, "" if it is not about that."""
    while error is not None:
        for number in DISK_FAULTS:
            # safetensors and tokenizers have exceptions of their own, with the system's words in the text.
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return os.strerror(number)
        if "inline_container.cc" in str(error):
            return "torch could not write its file"  # on a full disk, and it does not say more
        error = error.__cause__ or error.__context__
    return ""


def is_intact(folder: Path, hashes: Mapping[str, str]) -> bool:
    """Tell whether every file is there and as it was written."""
    try:
        return all(hash_file(folder / name) == digest for name, digest in hashes.items())
    except OSError:
        return False


def read_state(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    return state


def find_checkpoints(folder: Path) -> list[CheckpointRecord]:
    """Find the intact checkpoints of a run's folder without its record, oldest first."""
    found = []
    for path in sorted(folder.glob(checkpoint_path(0).replace("0", "[0-9]"))):
        try:
            hashes = json.loads((path / HASH_FILE).read_text(encoding="utf-8"))
            step = read_state(path)["weights_step"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if path == folder / checkpoint_path(step) and is_intact(path, hashes):
            found.append(CheckpointRecord(step, "", str(path), best=False, hashes=hashes))
    return found
