"""The ``grpo pool`` commands: prompts before, beside and after a run. Nothing here imports torch at the top."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.completion import complete_model, complete_spec
from harness.cli.options import (
    DbOption,
    JsonFlag,
    OutOption,
    RunName,
    SetOption,
    match_model,
    open_reader,
)
from harness.errors import InputError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from harness.commands.evaluate import Target
    from harness.config.schema import RunSpec
    from harness.store.writer import RunStore
    from harness.types import Progress

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def _options(context: typer.Context) -> None:
    """Prompts: make a pool, see how a run went through it, take out what still fails.

    Examples:

      grpo pool show latest

      grpo pool build frontier.jsonl --spec my.toml
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Any source of prompts, as in pool.source.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="A new file for the rows that are kept.")],
    spec: Annotated[
        str,
        typer.Option(help="Recipe or file that gives the reward, columns and template.", autocompletion=complete_spec),
    ],
    reference: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column with a full solution, as a model should write it.")
    ],
    set_: SetOption = None,
    chat: Annotated[bool, typer.Option("--chat", help="Give TRL-style rewards messages, as for a chat model.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Keep the rows of a source whose reference solution gets full marks under the spec's own reward.

    Examples:

      grpo pool convert hub:openai/gsm8k?config=main train.jsonl --spec my.toml --reference answer

      grpo pool convert raw.csv clean.jsonl --spec my.toml --reference solution --set pool.columns.prompt=question
    """
    from harness.commands.pool_convert import convert_source
    from harness.config.load import load_spec

    checked, _ = load_spec(spec, set_ or [])
    with _bar() as bar:
        found = convert_source(source, out, checked, reference=reference, chat=chat, progress=_progress(bar))
    if as_json:
        dropped = [{"reason": reason, "rows": d.rows, "first": d.first} for reason, d in found.dropped.items()]
        print(json.dumps({"out": str(out), "read": found.read, "kept": found.kept, "dropped": dropped}))
        return
    print(f"kept {found.kept:,} of {found.read:,} rows in {out}")
    for reason, drop in sorted(found.dropped.items(), key=lambda item: -item[1].rows):
        print(f"dropped {drop.rows:,}: {reason} (first: {drop.first})")


@app.command()
def build(
    out_file: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="A new file for the prompts that are kept.")],
    spec: Annotated[
        str, typer.Option(help="Recipe or file that gives the source, reward and knobs.", autocompletion=complete_spec)
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|MODEL",
            help="A run, a model folder or a hub id; default the spec's own.",
            autocompletion=complete_model,
        ),
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="Of a run: best, final, a step or a name.")] = "final",
    n: Annotated[int, typer.Option("-n", min=2, help="Completions per prompt.")] = 8,
    size: Annotated[int | None, typer.Option(min=1, help="Stop when so many prompts are found.")] = None,
    set_: SetOption = None,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Of a larger source, keep the train prompts that the present model gets sometimes right and sometimes wrong.

    What is stopped (Ctrl-C) goes on with the same command.

    Examples:

      grpo pool build frontier.jsonl --spec arithmetic -n 8 --set pool.source=arithmetic?digits=5

      grpo pool build next.jsonl --spec my.toml --model night-1 --checkpoint best --size 2000
    """
    from harness.checks.inputs import check_inputs
    from harness.commands.jsonl import check_place
    from harness.config.load import load_spec

    check_place(out_file)
    checked, _ = load_spec(spec, set_ or [])
    check_inputs(checked)
    store = None
    if model is not None:
        model, store = match_model(model, db, out)
    from harness.commands.pool_build import build_pool_file

    with _bar() as bar:
        progress = _progress(bar)
        target = _load(checked, model, checkpoint, store, progress)
        which = {"name": target.title, "weights_step": target.step}
        try:
            found = build_pool_file(target, out_file, n=n, size=size, model=which, progress=progress)
        except KeyboardInterrupt:
            print(f"grpo: stopped; the same command goes on from {out_file}.part", file=sys.stderr)
            raise
    if as_json:
        print(json.dumps({"out": str(out_file)} | asdict(found)))
        return
    looked = found.never + found.mixed + found.always
    print(f"kept {found.kept:,} of {looked:,} prompts in {out_file}: some of {n} completions right, others wrong")
    print(f"left out: {found.always:,} always right, {found.never:,} never right")
    print(f"to train on it: grpo run {spec} --set pool.source={out_file}")


@app.command()
def show(
    run: RunName = "latest",
    n: Annotated[int, typer.Option("-n", min=0, help="Prompts of the hardest and of the easiest.")] = 5,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """How a run goes through its prompts: unseen, frontier, solved, hopeless, pass rates over time, extremes.

    Examples:

      grpo pool show

      grpo pool show night-1 -n 10
    """
    from rich.console import Console

    from harness.checks.inputs import build_splits
    from harness.cli.tables import render_pool
    from harness.commands.pool_report import load_pool_view, to_json
    from harness.config.load import parse_spec

    reader, found = open_reader(db, out, run)
    train = build_splits(parse_spec(reader.load_run(found.id).spec))["train"]
    view = load_pool_view(reader, found, train, n=n)
    if as_json:
        print(json.dumps(to_json(view)))
    else:
        Console().print(render_pool(view))


@app.command()
def export(
    run: RunName,
    out_file: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="A new file.")],
    failed: Annotated[
        bool, typer.Option("--failed", help="Only prompts that are wrong more often than right by now.")
    ] = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """The prompts that a run has seen, as a new source, each with its pass_rate.

    Examples:

      grpo pool export latest seen.jsonl

      grpo pool export night-1 failing.jsonl --failed
    """
    from harness.checks.inputs import build_splits
    from harness.commands.jsonl import check_place, write_lines
    from harness.commands.pool_report import load_standings, select_seen
    from harness.config.load import parse_spec
    from pools.rows import encode, name_columns

    check_place(out_file)
    reader, found = open_reader(db, out, run)
    spec = parse_spec(reader.load_run(found.id).spec)
    standings = load_standings(reader, found.id)
    chosen, rates = select_seen(build_splits(spec)["train"], standings, below=0.5 if failed else None)
    if not rates:
        which = "is wrong more often than right" if failed else "was drawn"
        raise InputError(f"{found.name}: no prompt {which}, so nothing was written")
    rows = chosen.to_rows(name_columns(spec.pool.columns))
    write_lines(out_file, (encode(row | {"pass_rate": rate}) for row, rate in zip(rows, rates, strict=True)))
    print(f"{len(rates):,} of {len(standings):,} prompts seen are in {out_file}")


# ---------------------------------------------------------------- helpers


def _load(spec: RunSpec, model: str | None, checkpoint: str, store: RunStore | None, progress: Progress) -> Target:
    """The model to roll out with, under ``spec``."""
    from dataclasses import replace

    from harness.commands.evaluate import load_start, load_target

    if model is None:
        return load_start(spec, progress)
    return replace(load_target(model, checkpoint=checkpoint, spec=None, store=store), spec=spec)


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )


def _progress(bar: Bar) -> Progress:
    task = bar.add_task("reading", total=None)
    return lambda phase, done, total: bar.update(task, description=phase, completed=done, total=total or None)
