"""``grpo replay``: take a run again from its decision log, and say whether it came out the same."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from harness.cli.drive import drive
from harness.cli.options import DbOption, JsonFlag, OutOption, PlainFlag, RunName, print_json
from harness.commands import launch
from harness.errors import HarnessError


def replay(
    run: RunName,
    name: Annotated[str | None, typer.Option(help="Name of the new run; default RUN-replay with a number.")] = None,
    plain: PlainFlag = False,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Take a run again from its decision log: rollbacks, a person's commands and an LLM's decisions, without any API.

    Exit code 0 when every step is the same to the last bit, 1 when one differs; it names the first.

    Examples:

      grpo replay latest

      grpo replay night-1 --name night-1-again
    """
    console = Console(stderr=as_json)
    found = launch.replay(run, name=name, drive=partial(drive, console=console, plain=plain or as_json), db=db, out=out)
    difference = found.difference
    if as_json:
        print_json(found)
    elif difference is None:
        print(f"{found.run} is {found.replay_of} again: {found.steps} steps, the same to the last bit")
    if difference is not None:
        why = f" (changed since: {', '.join(found.environment)})" if found.environment else ""
        raise HarnessError(
            f"{found.run} differs from {found.replay_of} first at step {difference.step}: {difference.what} "
            f"was {difference.then}, is {difference.now}{why}"
        )
