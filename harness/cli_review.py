"""``grpo runs``, ``grpo review`` and ``grpo compare``: what is on record."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cli_drive import database_flag
from harness.completion import complete_run
from harness.errors import InputError
from harness.options import DbOption, HtmlOption, JsonFlag, OutOption, RunName, open_reader
from harness.places import database_url, is_alive_run
from harness.text import format_duration


def runs(as_json: JsonFlag = False, db: DbOption = None, out: OutOption = "runs") -> None:
    """List all runs."""
    from harness.reader import find_reader

    store = find_reader(database_url(out, db))
    rows = []
    for record in store.list_runs() if store else ():
        best = store.best_step(record.id) if store else None
        gone = record.status in ("running", "paused") and not is_alive_run(record)
        rows.append(
            {
                "run": record.name,
                "status": record.status,
                "alive": record.status in ("running", "paused") and not gone,
                "stop_reason": record.stop_reason,
                "policy": record.policy,
                "seed": record.seed,
                "steps": record.last_step,
                "rollouts": record.rollouts,
                "wall_s": round(record.wall_s, 1),
                "best_step": best,
                "created": record.created,
            }
        )
    if as_json:
        print(json.dumps(rows))
        return
    if not rows:
        print("no runs yet; start one with: grpo run")
        return
    table = Table(box=None)
    for column in ("run", "status", "policy", "seed", "steps", "best step", "time", "why it ended"):
        table.add_column(column, overflow="fold")
    for row in rows:
        process_gone = row["status"] in ("running", "paused") and not row["alive"]
        why = f"process gone: grpo resume {row['run']}" if process_gone else str(row["stop_reason"])
        best_step = "-" if row["best_step"] is None else str(row["best_step"])
        cells = (row["run"], row["status"], row["policy"], row["seed"], row["steps"], best_step)
        table.add_row(*(Text(str(cell)) for cell in cells), format_duration(float(str(row["wall_s"]))), Text(why))
    Console().print(table)


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
    from harness.report import build_review, render_review
    from harness.snapshot import load_history

    store, record = open_reader(db, out, run)
    if html is not None:
        from harness.report_file import write_report

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
    from harness.compare import build_comparison, render_comparison
    from harness.snapshot import load_history

    store, first = open_reader(db, out, runs[0])
    records = [first, *(store.match_run(name) for name in runs[1:])]
    if len({record.id for record in records}) < max(2, len(records)):
        raise InputError("compare takes two or more different runs; grpo runs lists them")
    names = [record.name for record in records]
    if html is not None:
        from harness.report_file import write_comparison

        write_comparison(store, names, html)
        if not as_json:
            print(html)
            return
    histories = [load_history(store, name, whole_run=False) for name in names]
    document = build_comparison(histories, [store.load_run(record.id)["spec"] for record in records])
    if as_json:
        print(json.dumps(document, allow_nan=False))
    else:
        Console().print(render_comparison(document))
