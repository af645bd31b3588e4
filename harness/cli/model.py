"""``grpo eval``, ``sample``, ``probe`` and ``export``: a model outside a run. They load torch, once all is checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from harness import commands
from harness.cli.completion import complete_spec
from harness.cli.options import (
    CheckpointOption,
    DbOption,
    JsonFlag,
    ModelName,
    OutOption,
    RunName,
    SetOption,
    SpecName,
    TrustFlag,
    print_json,
    print_result,
    show_progress,
)
from harness.cli.tables import render_probe
from harness.core.formatting import clean
from harness.errors import InputError
from harness.views.console import Console, say


def evaluate(
    model: ModelName,
    split: Annotated[str, typer.Option(help="Split of the pool: test, dev, probe, train or one of its own.")] = "test",
    checkpoint: CheckpointOption = "final",
    spec: Annotated[
        str | None,
        typer.Option(
            help="Of a model: recipe or file with pool and reward; an export has its own; else as for grpo run.",
            autocompletion=complete_spec,
        ),
    ] = None,
    output_file: Annotated[Path | None, typer.Option(help="CSV with one row per example.")] = None,
    as_json: JsonFlag = False,
    trust: TrustFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Evaluate a run's checkpoint or any model, with the spec's fixed generation settings.

    Thinking (answer) proportion is the share of completions with a thinking (answer) section.

    Examples:

      grpo eval latest --checkpoint best --output-file test.csv

      grpo eval ./my-model --spec arithmetic
    """
    with show_progress("loading") as progress:
        found = commands.evaluate(
            model,
            split=split,
            checkpoint=checkpoint,
            spec=spec,
            output_file=output_file,
            db=db,
            out=out,
            progress=progress,
        )
    if as_json:
        print_json(found)
        return
    low, high = found.ci95
    say(
        f"{found.model} on {split}: accuracy {found.accuracy:.4f} [{low:.4f}, {high:.4f}], reward {found.reward:.4f} "
        f"on {found.n} prompts"
    )
    say(f"thinking proportion {found.thinking_proportion:.4f}, answer proportion {found.answer_proportion:.4f}")
    say("reasons: " + ", ".join(f"{name} {count}" for name, count in found.reasons.items()))


def sample(
    model: ModelName = "latest",
    prompt: Annotated[
        list[str] | None, typer.Option(help="A prompt of your own; repeatable. Default: some of dev.")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Completions per prompt.")] = 1,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    checkpoint: CheckpointOption = "final",
    spec: Annotated[
        str | None,
        typer.Option(help="Of a model: recipe or file that gives pool and reward.", autocompletion=complete_spec),
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
        model,
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
        style = "green" if one.correct else "red" if one.correct is False else ""
        line = Text(clean(one.prompt) + " ", style="dim").append(clean(one.completion), style=style)
        console.print(line.append(f"  {one.reason}" if one.reason else "", style="dim"), soft_wrap=True)


def probe(
    spec: SpecName = None,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts of the probe split.")] = 50,
    n: Annotated[int, typer.Option("-n", min=2, help="Completions per prompt; at least the group size.")] = 16,
    set_: SetOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Probe before a run: can the model solve some of the pool, so that GRPO can improve it, and at which group size?

    Samples as the first step would, after the warm start if the spec has one.

    Examples:

      grpo probe smollm2

      grpo probe my.toml --prompts 100 --set model.name=./my-model
    """
    with show_progress("loading") as progress:
        found = commands.probe(spec, prompts=prompts, n=n, overrides=set_ or (), progress=progress)
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
