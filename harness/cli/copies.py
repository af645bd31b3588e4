"""``grpo adopt``: a run's folder into a database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import commands
from harness.cli.options import DbOption, JsonFlag, OutOption, print_json
from harness.views.console import say


def adopt(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A run's folder: it has checkpoints/.")],
    name: Annotated[str | None, typer.Option(help="Its name here; default that of the folder.")] = None,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Bring a run's folder (moved, copied, or without its database) into the database.

    A folder from elsewhere is copied and keeps every byte. The record comes from the harness.db beside it; without one
    the run continues from its newest checkpoint, and review says what is missing.

    Examples:

      grpo adopt /backup/runs/night-1

      grpo adopt runs/night-1 --name night-1-again
    """
    found = commands.adopt(folder, name=name, db=db, out=out, progress=lambda text, *_: say(f"{text} ...", as_json))
    if as_json:
        print_json(found)
    else:
        say(f"{found.name} in {found.folder} continues from step {found.step}: grpo resume {found.name}", as_json)
        if found.missing:
            say(found.missing, as_json)
