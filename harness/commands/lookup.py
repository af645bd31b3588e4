"""Find the run that a person names, and the record of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from harness.core.paths import database_url
from harness.errors import InputError

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
