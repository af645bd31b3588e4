"""``grpo runs``, ``grpo review`` and ``grpo compare``: what is on record."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from harness.cli.completion import complete_run
from harness.cli.drive import database_flag
from harness.cli.options import DbOption, HtmlOption, JsonFlag, OutOption, RunName, open_reader
from harness.core.liveness import is_alive_run
from harness.core.paths import database_url
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.types import RunRecord


def runs(as_json: JsonFlag = False, db: DbOption = None, out: OutOption = "runs") -> None:
    """List all runs, the oldest first.

    Examples:

      grpo runs

      grpo runs --json --out elsewhere
    """
    from harness.cli.tables import render_runs
    from harness.store.reader import find_reader

    reader = find_reader(database_url(out, db))
    found = [to_row(record, reader.best_step(record.id)) for record in reader.list_runs()] if reader else []
    if as_json:
        print(json.dumps(found))
    elif found:
        # In a pipe no row is folded, however long its name.
        console = Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=10_000)
        console.print(render_runs(found, now=time.time()))
    else:
        print("no runs yet; start one with: grpo run")


def to_row(record: RunRecord, best_step: int | None) -> dict[str, Any]:
    """A run as ``grpo runs --json`` tells it. ``created`` is in seconds since 1970."""
    return {
        "run": record.name,
        "status": record.status,
        "alive": record.status in ("running", "paused") and is_alive_run(record),
        "stop_reason": record.stop_reason,
        "policy": record.policy,
        "seed": record.seed,
        "steps": record.last_step,
        "rollouts": record.rollouts,
        "wall_s": round(record.wall_s, 1),
        "best_step": best_step,
        "created": record.created,
    }


def review(
    run: RunName = "latest",
    html: HtmlOption = None,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """What a run did and why: scores, signal, every decision with its evidence, samples before and after.

    A run writes the page itself when it ends: report.html in its folder.

    Examples:

      grpo review latest

      grpo review night-1 --html night-1.html
    """
    from harness.cli.tables import render_review
    from harness.store.history import load_history
    from harness.views.review import build_review

    store, record = open_reader(db, out, run)
    if html is not None:
        from harness.commands.report import write_report

        write_report(store, record.name, html, where=database_flag(store.url))
        if not as_json:
            print(html)
            return
    document = build_review(load_history(store, record.name, whole_run=as_json))
    if as_json:
        print(json.dumps(document, allow_nan=False))
    else:
        Console().print(render_review(document))


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...", help="Names of runs, their beginnings, or 'latest'.", autocompletion=complete_run
        ),
    ],
    html: HtmlOption = None,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """What differs between runs: scores with intervals, spec, knobs and decisions. The first is the reference.

    Where the test prompts are the same, scores are compared prompt by prompt.

    Examples:

      grpo compare rules-1 fixed-1

      grpo compare night-1 night-2 night-3 --html nights.html
    """
    from harness.cli.tables import render_comparison
    from harness.store.history import load_history
    from harness.views.comparison import build_comparison

    store, first = open_reader(db, out, runs[0])
    records = [first, *(store.match_run(name) for name in runs[1:])]
    if len({record.id for record in records}) < max(2, len(records)):
        raise InputError("compare takes two or more different runs; grpo runs lists them")
    names = [record.name for record in records]
    if html is not None:
        from harness.commands.report import write_comparison

        write_comparison(store, names, html)
        if not as_json:
            print(html)
            return
    histories = [load_history(store, name, whole_run=False) for name in names]
    document = build_comparison(histories, [store.load_run(record.id).spec for record in records])
    if as_json:
        print(json.dumps(document, allow_nan=False))
    else:
        Console().print(render_comparison(document))
