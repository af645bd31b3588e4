"""``grpo branch``: from one checkpoint a few steps under each of several settings; the best on dev is kept."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from harness.cli.drive import drive
from harness.cli.options import DbOption, JsonFlag, OutOption, PlainFlag, RunName, print_json
from harness.commands import launch


def branch(
    run: RunName,
    settings: Annotated[list[str], typer.Argument(metavar="SETTING...", help="knob=value[,knob=value], one or more.")],
    steps: Annotated[int, typer.Option(help="Steps of each arm.")] = 6,
    at: Annotated[str | None, typer.Option(help="Checkpoint to start from: a step, a name or best.")] = None,
    note: Annotated[str, typer.Option(help="Why, for the decision log.")] = "",
    plain: PlainFlag = False,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Compare settings: the same weights, seeds and prompts under the present hyperparameters and each SETTING.

    The best on dev, prompt by prompt, is kept. A live run does this at its next boundary, within its budget; a run
    that has ended is resumed for it and ends with what was kept.

    Examples:

      grpo branch latest learning_rate=5e-5

      grpo branch night-1 temperature=0.8 temperature=1.2 --steps 10 --at best

      grpo branch night-1 learning_rate=5e-5,beta=0.01 --note "too fast?"
    """
    console = Console(stderr=as_json)
    found = launch.branch(
        run,
        settings,
        steps=steps,
        at=at,
        note=note,
        drive=partial(drive, console=console, plain=plain or as_json),
        db=db,
        out=out,
    )
    if as_json:
        print_json(found)
    elif found.asked:
        print(f"asked of {found.run}, which compares {len(settings) + 1} settings in {steps} steps each; "
              f"grpo watch {found.run} shows it")  # fmt: skip
    else:
        print(f"{found.kept} ({found.verdict}): {found.evidence}")
