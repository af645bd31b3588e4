"""The ``grpo pool`` commands: prompts before, beside and after a run. Nothing here imports torch at the top."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import commands
from harness.cli.completion import complete_spec
from harness.cli.options import (
    CheckpointOption,
    DbOption,
    JsonFlag,
    ModelOption,
    OutOption,
    RunName,
    SetOption,
    TrustFlag,
    print_json,
    print_result,
    show_progress,
)
from harness.cli.tables import describe_demonstrated, render_pool
from harness.views.console import say

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def _options(context: typer.Context) -> None:
    """Make a pool of prompts, see how a run went through it, take out what still fails.

    Examples:

      grpo pool show latest

      grpo pool build frontier.jsonl --spec my.toml
    """
    if context.invoked_subcommand is None:
        say(context.get_help())


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="Any source of prompts, as in pool.source; or recorded:FILE for its right answers."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="A new file for the rows that are kept.")],
    spec: Annotated[
        str | None,
        typer.Option(
            help="Recipe or file that gives the reward, columns and template; default that of a known layout.",
            autocompletion=complete_spec,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Column with a full solution, as a model should write it; default demonstration."
        ),
    ] = None,
    set_: SetOption = None,
    chat: Annotated[bool, typer.Option("--chat", help="Give TRL-style rewards messages, as for a chat model.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Keep the rows of a source whose reference solution scores 1.0 under the spec's own reward.

    Of recorded answers: keep the rows of the spec's source that were answered right, each with its shortest right
    answer as its demonstration, and tell why the others are not right.

    Examples:

      grpo pool convert hub:openai/gsm8k?config=main train.jsonl --spec my.toml --reference answer

      grpo pool convert raw.csv clean.jsonl --spec my.toml --reference solution --set pool.columns.prompt=question

      grpo pool convert recorded:qwen.jsonl clean.jsonl --spec my.toml
    """
    with show_progress("reading") as progress:
        found = commands.pool.convert(
            source, out, spec=spec, reference=reference, overrides=set_ or (), chat=chat, progress=progress
        )
    if as_json:
        print_json(found)
        return
    from harness.commands.pool_convert import Demonstrated

    if isinstance(found, Demonstrated):
        for line in describe_demonstrated(found):
            say(line)
        return
    if found.layout:
        say(found.layout)
    say(f"kept {found.kept:,} of {found.read:,} rows in {out}")
    for reason, drop in sorted(found.dropped.items(), key=lambda item: -item[1].rows):
        say(f"dropped {drop.rows:,}: {reason} (first: {drop.first})")


@app.command()
def build(
    out_file: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="A new file for the prompts that are kept.")],
    spec: Annotated[
        str,
        typer.Option(
            help="Recipe or file that gives the source, reward and hyperparameters.", autocompletion=complete_spec
        ),
    ],
    model: ModelOption = None,
    checkpoint: CheckpointOption = "final",
    n: Annotated[int, typer.Option("-n", min=2, help="Completions per prompt.")] = 8,
    size: Annotated[int | None, typer.Option(min=1, help="Stop when so many prompts are found.")] = None,
    set_: SetOption = None,
    as_json: JsonFlag = False,
    trust: TrustFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Keep the train prompts of a larger source that the present model gets sometimes right and sometimes wrong.

    After Ctrl-C the same command continues.

    Examples:

      grpo pool build frontier.jsonl --spec arithmetic -n 8 --set pool.source=arithmetic?digits=5

      grpo pool build next.jsonl --spec my.toml --model night-1 --checkpoint best --size 2000
    """
    try:
        with show_progress("reading") as progress:
            found = commands.pool.build(
                out_file,
                spec=spec,
                model=model,
                checkpoint=checkpoint,
                n=n,
                size=size,
                overrides=set_ or (),
                db=db,
                out=out,
                progress=progress,
            )
    except KeyboardInterrupt:
        if (part := Path(f"{out_file}.part")).exists():
            say(f"grpo: stopped; the same command continues from {part}", to_stderr=True)
        raise
    if as_json:
        print_json(found)
        return
    looked = found.never + found.mixed + found.always
    say(f"kept {found.kept:,} of {looked:,} prompts in {out_file}: some of {n} completions right, others wrong")
    say(f"left out: {found.always:,} always right, {found.never:,} never right")
    say(f"to train on it: grpo run {spec} --set pool.source={out_file}")


@app.command()
def show(
    run: RunName = "latest",
    n: Annotated[int, typer.Option("-n", min=0, help="Prompts of the hardest and of the easiest.")] = 5,
    as_json: JsonFlag = False,
    trust: TrustFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Show how a run goes through its prompts: unseen, frontier, solved, never solved, pass rates over time, extremes.

    Examples:

      grpo pool show

      grpo pool show night-1 -n 10
    """
    print_result(commands.pool.show(run, n=n, db=db, out=out), as_json, render_pool)


@app.command()
def export(
    run: RunName,
    out_file: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="A new file.")],
    failed: Annotated[
        bool, typer.Option("--failed", help="Only prompts that are wrong more often than right by now.")
    ] = False,
    trust: TrustFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Export the prompts that a run has seen as a new source, each with its pass_rate.

    Examples:

      grpo pool export latest seen.jsonl

      grpo pool export night-1 failing.jsonl --failed
    """
    found = commands.pool.export(run, out_file, failed=failed, db=db, out=out)
    say(f"{found.written:,} of {found.seen:,} prompts seen are in {out_file}")
