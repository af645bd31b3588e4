"""What the commands share: their common options, and how they find the record of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from harness.errors import InputError
from harness.places import database_url

if TYPE_CHECKING:
    from harness.reader import RunReader
    from harness.store import RunStore

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, or 'latest'.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
PlainFlag = Annotated[bool, typer.Option("--plain", help="Plain lines instead of the dashboard.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override a field; repeatable.")
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page that opens offline, with plots.")
]
DetachFlag = Annotated[bool, typer.Option("--detach", help="Run away from this terminal; grpo watch shows it.")]
SuperviseFlag = Annotated[
    bool, typer.Option("--supervise", help="Start again from the checkpoint when the process dies or hangs.")
]
DbOption = Annotated[str | None, typer.Option("--db", metavar="URL", help="Database, e.g. sqlite:///runs/harness.db.")]
OutOption = Annotated[str, typer.Option("--out", metavar="DIR", help="Where runs lie.")]


def _allow_unsafe_code(wanted: bool) -> bool:
    if wanted:
        from harness.gate import allow_unsafe_code

        allow_unsafe_code(wanted)
    return wanted


UnsafeFlag = Annotated[
    bool,
    typer.Option(
        "--unsafe-code",
        callback=_allow_unsafe_code,
        help="Run programs although this machine cannot confine them (no Landlock); recorded.",
    ),
]
ForceFlag = Annotated[bool, typer.Option("--force", help="Go on though preflight fails; recorded.")]

S = TypeVar("S")


def open_reader(db: str | None, out: str, run: str) -> RunReader:
    """The database that should hold ``run``, to look only: that needs no SQLAlchemy, so it comes at once."""
    from harness.reader import find_reader

    return _there(find_reader(database_url(out, db)), db, out, run)


def open_store_of(db: str | None, out: str, run: str) -> RunStore:
    """The database that should hold ``run``; created by nothing but a run."""
    return _there(open_store_if_any(db, out), db, out, run)


def _there(store: S | None, db: str | None, out: str, run: str) -> S:
    if store is None:
        raise InputError(f"no run named {run}: there is no database at {database_url(out, db)} yet")
    return store


def open_store_if_any(db: str | None, out: str) -> RunStore | None:
    from harness.store import find_store

    return find_store(database_url(out, db))


def check_model(name: str, db: str | None, out: str) -> RunStore | None:
    """The database if there is one. Raises InputError, before torch is loaded, when ``name`` is no run and no model."""
    from harness.spec import KNOWN_MODELS

    store = open_store_if_any(db, out)
    known = {run.name for run in store.list_runs()} if store else set()
    if name in known or (name == "latest" and known) or name in KNOWN_MODELS or name.endswith(".gguf"):
        return store
    folder = Path(name)
    if folder.is_dir():
        if not any((folder / file).exists() for file in ("config.json", "adapter_config.json")):
            raise InputError(f"{name} holds no model: a config.json or adapter_config.json is missing")
    elif "/" not in name:
        raise InputError(
            f"no run named {name}, and no model folder of that name; models by name: {', '.join(KNOWN_MODELS)}"
        )
    return store
