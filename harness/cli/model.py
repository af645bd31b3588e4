"""``grpo eval``, ``sample``, ``probe`` and ``export``: a model outside a run, or whoever else answers. They load torch,
once all is checked, for a model in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from harness import commands
from harness.cli.completion import complete_spec
from harness.cli.options import (
    AnswererName,
    CheckpointOption,
    DbOption,
    JsonFlag,
    ModelOption,
    OutOption,
    RunName,
    SetOption,
    SpecName,
    TrustFlag,
    complain,
    print_json,
    print_result,
    show_progress,
)
from harness.cli.tables import describe_measured, render_probe
from harness.core.formatting import clean
from harness.errors import InputError
from harness.views.console import Console, say


def evaluate(
    answerer: AnswererName,
    split: Annotated[
        str | None,
        typer.Option(help="Split of the pool: test (the default), dev, probe, train, one of its own, or all."),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS",
            help="Rows of the source, such as 0-99 or 3,7-9, where 0 is the first: lines of JSONL, records of a CSV "
            "after its header, members of a list. Of all splits, or with --split those in it.",
        ),
    ] = None,
    checkpoint: CheckpointOption = "final",
    spec: Annotated[
        str | None,
        typer.Option(
            help="Recipe or file with pool and reward; default: a run and an export have their own, else as for grpo "
            "run.",
            autocompletion=complete_spec,
        ),
    ] = None,
    set_: SetOption = None,
    n: Annotated[
        int | None,
        typer.Option("-n", min=1, help="Completions per prompt, for pass@k; above 1 they need a temperature."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0.0, max=2.0, help="0 is greedy; default evaluate.temperature. A row's own goes first."),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="JSONL to which every answer is added as it arrives; what is in it is not asked again."
        ),
    ] = None,
    at_least: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Exit with 1 when the accuracy is below; what was not answered is wrong."),
    ] = None,
    output_file: Annotated[Path | None, typer.Option(help="CSV with one row per completion.")] = None,
    as_json: JsonFlag = False,
    trust: TrustFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Evaluate a run's checkpoint, any model, or whoever else answers, with the spec's fixed generation settings.

    Thinking (answer) proportion is the share of completions with a thinking (answer) section. A question that could
    not be asked is errored: it has no reward, and counts as not right in the accuracy. After Ctrl-C the same command
    with the same --record continues.

    Examples:

      grpo eval latest --checkpoint best --output-file test.csv

      grpo eval ./my-model --spec arithmetic

      grpo eval anthropic:claude-haiku-5-5 --spec math-gsm --split train --rows 0-99 --record teacher.jsonl

      grpo eval recorded:teacher.jsonl --spec math-gsm --split train --rows 0-99 --at-least 0.85
    """
    try:
        with show_progress("loading") as progress:
            found = commands.evaluate(
                answerer,
                split=split,
                rows=rows,
                n=n,
                temperature=temperature,
                checkpoint=checkpoint,
                spec=spec,
                overrides=set_ or (),
                record=record,
                output_file=output_file,
                db=db,
                out=out,
                progress=progress,
            )
    except KeyboardInterrupt:
        kept = (
            f"what arrived is in {record}, and the same command continues"
            if record
            else "nothing is kept without --record"
        )
        say(f"grpo: stopped; {kept}", to_stderr=True)
        raise
    if found.left_out:
        also = "" if split is None or split == "all" else f" or are in another split than {split}"
        say(f"grpo: --rows: {found.left_out:,} of these rows are no prompts of their own{also}", to_stderr=True)
    if record and found.cached:
        say(f"grpo: {found.cached:,} answers were in {record} already", to_stderr=True)
    if as_json:
        print_json(found)
    else:
        for line in describe_measured(found):
            say(line)
    if at_least is not None and found.accuracy < at_least:
        complain(f"--at-least: the accuracy {found.accuracy:.4f} is below {at_least:g}", 1)


def sample(
    answerer: AnswererName = "latest",
    prompt: Annotated[
        list[str] | None, typer.Option(help="A prompt of your own; repeatable. Default: some of dev.")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Completions per prompt.")] = 1,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    checkpoint: CheckpointOption = "final",
    spec: Annotated[
        str | None,
        typer.Option(
            help="Recipe or file that gives pool and reward, unless a run's own do.", autocompletion=complete_spec
        ),
    ] = None,
    as_json: JsonFlag = False,
    trust: TrustFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Sample completions to read.

    Examples:

      grpo sample

      grpo sample latest --prompt "12+34=" -n 4 --temperature 1
    """
    found = commands.sample(
        answerer,
        prompts=prompt or (),
        n=n,
        temperature=temperature,
        seed=seed,
        checkpoint=checkpoint,
        spec=spec,
        db=db,
        out=out,
    )
    if as_json:
        print_json(found)
        return
    console = Console()
    for one in found:
        if one.error:
            say(f"grpo: {clean(one.prompt)}: {clean(one.error)}", to_stderr=True)
            continue
        style = "green" if one.correct else "red" if one.correct is False else ""
        line = Text(clean(one.prompt) + " ", style="dim").append(clean(one.completion), style=style)
        console.print(line.append(f"  {one.reason}" if one.reason else "", style="dim"), soft_wrap=True)


def probe(
    spec: SpecName = None,
    model: ModelOption = None,
    checkpoint: CheckpointOption = "final",
    prompts: Annotated[int, typer.Option(min=1, help="Prompts of the probe split.")] = 50,
    n: Annotated[int, typer.Option("-n", min=2, help="Completions per prompt; at least the group size.")] = 16,
    set_: SetOption = None,
    as_json: JsonFlag = False,
    trust: TrustFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Probe before a run: can the model solve some of the pool, so that GRPO can improve it, and at which group size?

    Samples as the first step would, after the warm start if the spec has one, or asks whoever else --model names.

    Examples:

      grpo probe smollm2

      grpo probe my.toml --prompts 100 --set model.name=./my-model
    """
    with show_progress("loading") as progress:
        found = commands.probe(
            spec,
            model=model,
            checkpoint=checkpoint,
            prompts=prompts,
            n=n,
            overrides=set_ or (),
            db=db,
            out=out,
            progress=progress,
        )
    print_result(found, as_json, render_probe)


def export(
    run: RunName,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="New folder; default RUN-STEP here.")
    ] = None,
    best: Annotated[bool, typer.Option("--best", help="The best checkpoint by dev: what is exported anyway.")] = False,
    checkpoint: Annotated[str, typer.Option(help="Another one: final, a step or a name.")] = "best",
    adapter: Annotated[bool, typer.Option("--adapter", help="The adapter alone, not merged into its base.")] = False,
    as_: Annotated[
        Literal["model", "run"],
        typer.Option("--as", help="A model, or the run itself: a runs folder with its record and checkpoints."),
    ] = "model",
    trust: TrustFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Export a run's model as one folder that transformers loads, or copy the run with its record.

    The model comes with a card written from the record. A copy of a run, or of all, is a runs folder of its own: grpo
    resume RUN --out FOLDER continues there, grpo adopt brings it into another database.

    Examples:

      grpo export latest --best

      grpo export night-1 --checkpoint 40 --to ./my-model

      grpo export night-1 --adapter

      grpo export all --as run --to ./backup
    """
    if as_ == "run":
        if best or adapter or checkpoint != "best":
            raise InputError("--as run: it copies all checkpoints; leave out --best, --checkpoint and --adapter")
        copied = commands.copy_runs(run, to or Path(f"{run}-copy"), db=db, out=out, progress=_say_phase)
        say(f"{', '.join(copied.runs)} in {copied.folder}; to see it: grpo runs --out {copied.folder}")
        return
    if best and checkpoint != "best":
        raise InputError("--best and --checkpoint: give one of them")
    found = commands.export(
        run,
        to=to,
        checkpoint=checkpoint,
        adapter=adapter,
        db=db,
        out=out,
        progress=_say_phase,
    )
    place = found.folder if found.folder.is_absolute() else f"./{found.folder}"
    say(f"{found.title} is in {found.folder}; to score it: grpo eval {place}")


def _say_phase(phase: str, done: int, total: int) -> None:
    say(f"{phase} ...", to_stderr=False)
