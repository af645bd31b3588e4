"""Find the run or model that a person names, and the record of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness.config.names import KNOWN_MODELS
from harness.core.paths import database_url
from harness.errors import InputError
from harness.models.hub import check_model_folder

if TYPE_CHECKING:
    from harness.checks.inputs import Inputs
    from harness.store.reader import RunReader
    from harness.store.writer import RunStore
    from harness.types import RunRecord

S = TypeVar("S", bound="RunReader")


def load_inputs(spec: str | None, overrides: Sequence[str]) -> Inputs:
    """Load a spec with its pool and reward, all without torch, to judge rows and start no run. Raises InputError."""
    from harness.checks.inputs import read_inputs
    from harness.config.load import load_spec

    return read_inputs(load_spec(spec, overrides)[0])


def open_reader(db: str | None, out: str, run: str) -> tuple[RunReader, RunRecord]:
    """Open the database to look only, and find the run: that needs no SQLAlchemy, so it comes at once.

    ``run`` is a name, the beginning of one, or "latest". Raises InputError when it means no one run.
    """
    from harness.store.reader import find_reader

    return _match(find_reader(database_url(out, db)), db, out, run)


def open_store_of(db: str | None, out: str, run: str) -> tuple[RunStore, RunRecord]:
    """Do the same to write; a database is created by nothing but a run."""
    from harness.store.opening import find_store

    return _match(find_store(database_url(out, db)), db, out, run)


def _match(store: S | None, db: str | None, out: str, run: str) -> tuple[S, RunRecord]:
    if store is None:
        raise InputError(f"no run named {run}: there is no database at {database_url(out, db)} yet")
    return store, store.match_run(run)


def match_model(name: str, db: str | None, out: str) -> tuple[str, RunStore | None]:
    """Find the run or model that is meant, and of a run its database.

    A run's whole name comes first, then models, then the beginning of a run's name. Raises InputError, before torch is
    loaded, when it is none of them.
    """
    from harness.store.opening import find_store

    store = find_store(database_url(out, db))
    known = {run.name for run in store.list_runs()} if store else set()
    if name in known:
        return name, store
    if name in KNOWN_MODELS or name.endswith(".gguf"):
        return name, None
    if Path(name).is_dir():
        check_model_folder(Path(name))
        return name, None
    if store and ((name == "latest" and known) or any(run.startswith(name) for run in known)):
        return store.match_run(name).name, store
    if "/" not in name:
        raise InputError(
            f"no run named {name}, and no model folder of that name; models by name: {', '.join(KNOWN_MODELS)}"
        )
    return name, None
