"""The ``grpo pool`` commands: what is done to prompts outside a run. Nothing here imports torch at the top."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(name="pool", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def _options(context: typer.Context) -> None:
    """Prepare pools of prompts."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Any source of prompts, as in pool.source.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="A new file for the rows that are kept.")],
    spec: Annotated[str, typer.Option(help="Recipe or file that gives the reward, columns and template.")],
    reference: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column with a full solution, as a model should write it.")
    ],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override a field; repeatable.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Give TRL-style rewards messages, as for a chat model.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Keep the rows of a source whose reference solution gets full marks under the spec's own reward.

    Examples:

      grpo pool convert hub:openai/gsm8k?config=main train.jsonl --spec my.toml --reference answer

      grpo pool convert raw.csv clean.jsonl --spec my.toml --reference solution --set pool.columns.prompt=question
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from harness.convert import convert_source
    from harness.spec import load_spec

    checked, _ = load_spec(spec, set_ or [])
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    with bar:
        task = bar.add_task("reading", total=None)
        found = convert_source(
            source,
            out,
            checked,
            reference=reference,
            chat=chat,
            progress=lambda phase, done, total: bar.update(
                task, description=phase, completed=done, total=total or None
            ),
        )
    if as_json:
        dropped = [{"reason": reason, "rows": d.rows, "first": d.first} for reason, d in found.dropped.items()]
        print(json.dumps({"out": str(out), "read": found.read, "kept": found.kept, "dropped": dropped}))
        return
    print(f"kept {found.kept:,} of {found.read:,} rows in {out}")
    for reason, drop in sorted(found.dropped.items(), key=lambda item: -item[1].rows):
        print(f"dropped {drop.rows:,}: {reason} (first: {drop.first})")
