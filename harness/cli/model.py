"""``grpo eval``, ``sample``, ``probe`` and ``export``: a model outside a run. They load torch, once all is checked."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from harness.cli.completion import complete_spec
from harness.cli.options import (
    DbOption,
    JsonFlag,
    ModelName,
    OutOption,
    RunName,
    SetOption,
    SpecName,
    match_model,
    open_store_of,
    say,
)
from harness.core.formatting import clean
from harness.errors import InputError


def evaluate(
    model: ModelName,
    split: Annotated[str, typer.Option(help="Split of the pool: test, dev, probe, train or one of its own.")] = "test",
    checkpoint: Annotated[str, typer.Option(help="Of a run: best, final, a step or a name.")] = "final",
    spec: Annotated[
        str | None,
        typer.Option(
            help="Of a model: recipe or file with pool and reward; an export has its own; else recipe arithmetic.",
            autocompletion=complete_spec,
        ),
    ] = None,
    output_file: Annotated[Path | None, typer.Option(help="CSV with one row per example.")] = None,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Accuracy of a run's checkpoint or of any model, with the spec's fixed generation settings.

    Thinking (answer) proportion is the share of completions with a thinking (answer) section.

    Examples:

      grpo eval latest --checkpoint best --output-file test.csv

      grpo eval ./my-model --spec arithmetic
    """
    model, store = match_model(model, db, out)
    from harness.commands.targets import load_target, measure

    target = load_target(model, checkpoint=checkpoint, spec=spec, store=store)
    console = Console(stderr=True)
    with console.status(f"evaluating {target.title} on {split}") as status:
        result, examples = measure(target, split, lambda phase, done, total: status.update(f"{phase} {done}/{total}"))
    if output_file is not None:
        from harness.models.evaluate import write_csv

        write_csv(output_file, examples)
    if as_json:
        print(json.dumps(result))
        return
    low, high = result["ci95"]
    print(
        f"{target.title} on {split}: accuracy {result['accuracy']:.4f} [{low:.4f}, {high:.4f}] on {result['n']} prompts"
    )
    print(
        f"thinking proportion {result['thinking_proportion']:.4f}, answer proportion {result['answer_proportion']:.4f}"
    )
    print("reasons: " + ", ".join(f"{name} {count}" for name, count in result["reasons"].items()))


def sample(
    model: ModelName = "latest",
    prompt: Annotated[
        list[str] | None, typer.Option(help="A prompt of your own; repeatable. Default: some of dev.")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Completions per prompt.")] = 1,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    checkpoint: Annotated[str, typer.Option(help="Of a run: best, final, a step or a name.")] = "final",
    spec: Annotated[
        str | None,
        typer.Option(help="Of a model: recipe or file that gives pool and reward.", autocompletion=complete_spec),
    ] = None,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Completions to read.

    Examples:

      grpo sample

      grpo sample latest --prompt "12+34=" -n 4 --temperature 1
    """
    model, store = match_model(model, db, out)
    from harness.commands.targets import load_target, take_samples

    target = load_target(model, checkpoint=checkpoint, spec=spec, store=store)
    rows = take_samples(target, prompt, n=n, temperature=temperature, seed=seed)
    if as_json:
        print(json.dumps(rows))
        return
    console = Console()
    for row in rows:
        style = "green" if row["correct"] else "red" if row["correct"] is False else ""
        line = Text(clean(row["prompt"]) + " ", style="dim").append(clean(row["completion"]), style=style)
        console.print(line.append(f"  {row['reason']}" if row["reason"] else "", style="dim"), soft_wrap=True)


def probe(
    spec: SpecName = None,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts of the probe split.")] = 50,
    n: Annotated[int, typer.Option("-n", min=2, help="Completions per prompt; at least the group size.")] = 16,
    set_: SetOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Before a run: can the model do some of the pool, so that GRPO has something to amplify, and at which group size?

    Samples as the first step would, after the warm start if the spec has one.

    Examples:

      grpo probe smollm2

      grpo probe my.toml --prompts 100 --set model.name=./my-model
    """
    from harness.checks.inputs import check_inputs
    from harness.config.load import load_spec

    checked, _ = load_spec(spec, set_ or [])
    check_inputs(checked)  # before torch is loaded
    from harness.checks.probe import compute_probe, judge
    from harness.cli.tables import render_probe
    from harness.commands.targets import load_start, probe_start

    console = Console(stderr=True)
    with console.status(f"loading {checked.model.name}") as status:

        def show(phase: str, done: int, total: int) -> None:
            status.update(f"{phase} {done}/{total}")

        target = load_start(checked, show)
        knobs, _ = checked.first_knobs(target.loaded.recommended_group_size)
        groups = probe_start(target, prompts=prompts, n=max(n, knobs.group_size), progress=show)
    found = compute_probe(groups, group_size=knobs.group_size)
    verdict, advice = judge(found, knobs)
    if as_json:
        print(json.dumps(asdict(found) | {"group_size": knobs.group_size, "verdict": verdict, "advice": advice}))
    else:
        Console().print(render_probe(found, knobs, verdict, advice))


def export(
    run: RunName,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="New folder; default RUN-STEP here.")
    ] = None,
    best: Annotated[bool, typer.Option("--best", help="The best checkpoint by dev: what is exported anyway.")] = False,
    checkpoint: Annotated[str, typer.Option(help="Another one: final, a step or a name.")] = "best",
    adapter: Annotated[bool, typer.Option("--adapter", help="The adapter alone, not merged into its base.")] = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """A run's model as one folder that transformers loads, with a model card written from the run's record.

    Examples:

      grpo export latest --best

      grpo export night-1 --checkpoint 40 --to ./my-model

      grpo export night-1 --adapter
    """
    if best and checkpoint != "best":
        raise InputError("--best and --checkpoint: give one of them")
    store, record = open_store_of(db, out, run)
    name = record.name
    folder = to or Path(f"{name}-{checkpoint}")
    if folder.exists():
        raise InputError(f"--to: {folder} exists already; choose another")
    from harness.commands.model_export import export_run

    say(f"exporting {checkpoint} of {name} ...", as_json=False)
    target = export_run(store, name, checkpoint, folder, adapter=adapter)
    print(f"{target.title} is in {folder}; to score it: grpo eval {folder if folder.is_absolute() else f'./{folder}'}")
