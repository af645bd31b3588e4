"""``grpo init``: the first spec. Nothing here imports torch."""

from __future__ import annotations

from typing import Annotated

import typer

from harness import commands
from harness.cli.options import JsonFlag, print_json
from harness.core.formatting import clean
from harness.views.console import say


def init(
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="Data (a file, hub:...), TRL's GRPOConfig as JSON, or a recipe; default the recipe arithmetic.",
        ),
    ] = None,
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where spec.toml is written.")] = ".",
    list_: Annotated[bool, typer.Option("--list", help="List the recipes and write nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a spec from your data or your TRL configuration: spec.toml, and reward.py where no verifier fits.

    It looks at the rows, names their layout and the verifier that judges their reference answers right, and says what
    to type next. No file is overwritten.

    Examples:

      grpo init --from data.jsonl

      grpo init --from "hub:openai/gsm8k?config=main&split=train" --out gsm8k

      grpo init --from grpo_config.json

      grpo init --list

      grpo init --from math-gsm
    """
    if list_:
        found = commands.recipes()
        print_json(found) if as_json else say("\n".join(f"{name}: {title}" for name, title in found.items()))
        return
    started = commands.init(from_, out=out)
    if as_json:
        print_json(started)
        return
    for line in started.says:
        say(clean(line))
    if started.left:
        say("not taken (docs/from-trl.md):")
    for name, value, reason in started.left:
        say(f"  {clean(str(name))} = {clean(str(value))[:60]}: {reason}")
    say(f"wrote {', '.join(map(str, started.files))}")
    say("next:")
    for command in started.next:
        say(f"  {command}")
