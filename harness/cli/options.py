"""What the commands share: their common options, and how they find the record of runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from harness.cli.completion import complete_model, complete_run, complete_spec
from harness.config.names import KNOWN_MODELS
from harness.core.formatting import clean_lines
from harness.core.paths import database_url
from harness.errors import InputError
from harness.models.hub import check_model_folder

if TYPE_CHECKING:
    from harness.store.reader import RunReader
    from harness.store.writer import RunStore
    from harness.types import RunRecord

RunName = Annotated[
    str,
    typer.Argument(metavar="RUN", help="Name of a run, its beginning, or 'latest'.", autocompletion=complete_run),
]
ModelName = Annotated[
    str,
    typer.Argument(metavar="RUN|MODEL", help="A run, a model folder or a hub id.", autocompletion=complete_model),
]
SpecName = Annotated[
    str | None,
    typer.Argument(metavar="SPEC", help="Recipe, .toml or .json; default arithmetic.", autocompletion=complete_spec),
]
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
        from harness.checks.gate import allow_unsafe_code

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

S = TypeVar("S", bound="RunReader")


def open_reader(db: str | None, out: str, run: str) -> tuple[RunReader, RunRecord]:
    """The database and the run that is meant, to look only: that needs no SQLAlchemy, so it comes at once."""
    from harness.store.reader import find_reader

    return _match(find_reader(database_url(out, db)), db, out, run)


def open_store_of(db: str | None, out: str, run: str) -> tuple[RunStore, RunRecord]:
    """The same to write; a database is created by nothing but a run."""
    return _match(open_store_if_any(db, out), db, out, run)


def _match(store: S | None, db: str | None, out: str, run: str) -> tuple[S, RunRecord]:
    if store is None:
        raise InputError(f"no run named {run}: there is no database at {database_url(out, db)} yet")
    return store, store.match_run(run)


def open_store_if_any(db: str | None, out: str) -> RunStore | None:
    from harness.store.opening import find_store

    return find_store(database_url(out, db))


def match_model(name: str, db: str | None, out: str) -> tuple[str, RunStore | None]:
    """The run or model that is meant, and the database if there is one. A run's whole name comes first, then models,
    then the beginning of a run's name. Raises InputError, before torch is loaded, when it is none of them."""
    store = open_store_if_any(db, out)
    known = {run.name for run in store.list_runs()} if store else set()
    if name in known or name in KNOWN_MODELS or name.endswith(".gguf"):
        return name, store
    if Path(name).is_dir():
        check_model_folder(Path(name))
        return name, store
    if store and ((name == "latest" and known) or any(run.startswith(name) for run in known)):
        return store.match_run(name).name, store
    if "/" not in name:
        raise InputError(
            f"no run named {name}, and no model folder of that name; models by name: {', '.join(KNOWN_MODELS)}"
        )
    return name, store


LONG_WORD, KEPT = re.compile(r"\S{300,}"), 60
"""What was given is in the message: of something endless its beginning and its end tell which it was."""


def complain(message: str, code: int) -> NoReturn:
    """One line on stderr, and the end with exit code ``code``."""
    brief = LONG_WORD.sub(lambda word: f"{word[0][:KEPT]}…{word[0][-KEPT:]}", clean_lines(message))
    print(f"grpo: {brief}", file=sys.stderr)
    raise SystemExit(code)


def say(text: str, as_json: bool) -> None:
    """To the person who waits; stdout stays clean for a JSON document."""
    print(text, file=sys.stderr if as_json else sys.stdout, flush=True)
