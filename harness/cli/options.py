"""What the commands share: their common options, and how they speak to a person or print a document."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import RenderableType

from harness.cli.completion import complete_model, complete_run, complete_spec
from harness.types import Progress
from harness.views.console import Console, say

RunName = Annotated[
    str,
    typer.Argument(metavar="RUN", help="Name of a run, its beginning, or 'latest'.", autocompletion=complete_run),
]
ANSWERERS_HELP = (
    "Who answers: a run or RUN@CHECKPOINT, a model folder, a .gguf file, a hub id, anthropic:MODEL, openai:MODEL, or "
    "recorded:FILE."
)
AnswererName = Annotated[str, typer.Argument(metavar="ANSWERER", help=ANSWERERS_HELP, autocompletion=complete_model)]
ModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="ANSWERER", help=f"{ANSWERERS_HELP} Default the spec's own model.", autocompletion=complete_model
    ),
]
SpecName = Annotated[
    str | None,
    typer.Argument(
        metavar="SPEC",
        help="Recipe, .toml or .json; default spec.toml here, else the recipe arithmetic.",
        autocompletion=complete_spec,
    ),
]
CheckpointOption = Annotated[str, typer.Option(help="Of a run: best, final, a step or a name.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
PlainFlag = Annotated[bool, typer.Option("--plain", help="Plain lines instead of the dashboard.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override a field; repeatable.")
]
StageOption = Annotated[str | None, typer.Option("--stage", metavar="NAME", help="Of a group, this stage alone.")]
AgainFlag = Annotated[bool, typer.Option("--again", help="Take stages anew that are done; their runs stay.")]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page that opens offline, with plots.")
]
DetachFlag = Annotated[bool, typer.Option("--detach", help="Run away from this terminal; grpo watch shows it.")]
SuperviseFlag = Annotated[
    bool, typer.Option("--supervise", help="Start again from the checkpoint when the process dies or hangs.")
]
DbOption = Annotated[str | None, typer.Option("--db", metavar="URL", help="Database, e.g. sqlite:///runs/harness.db.")]
OutOption = Annotated[str, typer.Option("--out", metavar="DIR", help="Where runs lie.")]


def _allow_unsafe_code(wanted: bool) -> bool:
    if wanted:
        from rewards.isolation import UNSAFE

        os.environ[UNSAFE] = "1"  # an environment reaches every process in which rewards run
    return wanted


UnsafeFlag = Annotated[
    bool,
    typer.Option(
        "--unsafe-code",
        callback=_allow_unsafe_code,
        help="Run programs although this machine cannot confine them (no Landlock); recorded.",
    ),
]


def _trust(wanted: bool) -> bool:
    if wanted:
        from harness.checks.trust import TRUST

        os.environ[TRUST] = "1"
    return wanted


TrustFlag = Annotated[
    bool,
    typer.Option("--trust", callback=_trust, help="Run the code that the record names, although you did not make it."),
]
ForceFlag = Annotated[bool, typer.Option("--force", help="Run although preflight fails; recorded.")]

LONG_WORD, KEPT = re.compile(r"\S{300,}"), 60
"""What was given is in the message: of something endless its beginning and its end tell which it was."""
LONGEST = 1200
"""Characters of a message."""


def complain(message: str, code: int) -> NoReturn:
    """Print one line on stderr and end with exit code ``code``."""
    brief = LONG_WORD.sub(lambda word: f"{word[0][:KEPT]}…{word[0][-KEPT:]}", message)
    if len(brief) > LONGEST:
        brief = f"{brief[: LONGEST - KEPT]} … {brief[-KEPT:]}"
    say(f"grpo: {brief}", to_stderr=True)
    raise SystemExit(code)


def print_json(result: Any) -> None:
    """Print the result of a command, or a tuple of them, as one JSON document."""

    def encode(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        return value.to_json() if hasattr(value, "to_json") else asdict(value)

    say(json.dumps(result, default=encode, allow_nan=False))


def print_result(result: Any, as_json: bool, render: Callable[[Any], RenderableType]) -> None:
    """Print the result of a command, as one JSON document or as ``render`` draws it for a person."""
    if as_json:
        print_json(result)
    else:
        Console().print(render(result))


@contextmanager
def show_progress(first: str) -> Iterator[Progress]:
    """Show on stderr how long work goes, with ``first`` until it says more; nothing in a pipe, nothing afterwards."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    ) as bar:
        task = bar.add_task(first, total=None)
        yield lambda phase, done, total: bar.update(task, description=phase, completed=done, total=total or None)
