"""``grpo runs``, ``grpo review`` and ``grpo compare``: what is on record."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from harness import commands
from harness.cli.completion import complete_model, complete_spec
from harness.cli.options import (
    DbOption,
    HtmlOption,
    JsonFlag,
    OutOption,
    RunName,
    print_json,
    print_result,
    show_progress,
)
from harness.cli.tables import render_comparison, render_diagnosis, render_review, render_runs
from harness.commands.report import Document
from harness.core.formatting import clean
from harness.errors import InputError
from harness.views.console import Console, say


def runs(as_json: JsonFlag = False, db: DbOption = None, out: OutOption = "runs") -> None:
    """List all runs, the oldest first.

    Examples:

      grpo runs

      grpo runs --json --out elsewhere
    """
    found = commands.list_runs(db=db, out=out)
    if as_json:
        print_json(found)
    elif found:
        # In a pipe no row is folded, however long its name.
        console = Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=10_000)
        console.print(render_runs(found, now=time.time()))
    else:
        say("no runs yet; start one with: grpo run")


def review(
    run: RunName = "latest",
    html: HtmlOption = None,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Review what a run did and why: scores, signal, every decision with its evidence, samples before and after.

    A run writes the page itself when it ends: report.html in its folder.

    Examples:

      grpo review latest

      grpo review night-1 --html night-1.html
    """
    found = commands.review(run, html=html, whole_run=as_json, db=db, out=out)
    _print(found, html, as_json, render_review)


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME NAME...",
            help="Runs, groups of stages (one will do), or whoever answers: RUN@CHECKPOINT, a model folder, a .gguf "
            "file, a hub id, anthropic:MODEL, openai:MODEL, recorded:FILE.",
            autocompletion=complete_model,
        ),
    ],
    spec: Annotated[
        str | None,
        typer.Option(
            help="Of whoever answers: the recipe or file with the prompts and the reward; default that of the first "
            "run or exported model.",
            autocompletion=complete_spec,
        ),
    ] = None,
    html: HtmlOption = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write a table with a row for each that is compared.")
    ] = None,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Compare runs, stages, models and whoever answers, with intervals. The first is the reference.

    Runs, by their records: scores, spec, hyperparameters and decisions. Where the test prompts are the same, scores are
    compared prompt by prompt. Of a run whose evaluations took several completions of each prompt (evaluate.n) it says
    whether training added capability or concentrated it. Runs that differ in nothing but the seed are told as a set:
    mean, standard deviation, lowest and highest.

    A group, by the scores of its stages: each against the base and against its parent, and what it forgot. Several
    groups are seeds of the same stages.

    Anything else, and runs beside it, answers the test prompts of --spec and is judged by its reward; a run by its
    last checkpoint, or RUN@best. One model is in memory at a time. Exit code 1 when accuracy or mean reward of one fell
    beyond the interval against the first. Records, made by grpo eval --record, answer again at no cost; beside them
    models answer the prompts that they have.

    Examples:

      grpo compare rules-1 fixed-1

      grpo compare night-1 night-2 night-3 --html nights.html

      grpo compare gsm8k-1 --html stages.html --csv stages.csv

      grpo compare gsm8k-1 gsm8k-2 gsm8k-3

      grpo compare ./base night-1@best --spec math-gsm

      grpo compare openai:qwen3-30b anthropic:claude-haiku-5-5 --spec math-gsm

      grpo compare recorded:monday.jsonl recorded:today.jsonl --spec math-gsm
    """
    with show_progress("comparing") as progress:
        found = commands.compare(names, spec=spec, html=html, csv=csv, db=db, out=out, progress=progress)
    written = [file for file in (html, csv) if file is not None]
    if written and not as_json:
        say("\n".join(map(str, written)))
    else:
        print_result(found.document, as_json, render_comparison)
    if found.document.get("fell") and "group" not in found.document:
        raise typer.Exit(1)


def diagnose(
    log: Annotated[str, typer.Argument(metavar="LOG|RUN", help="Log of a run by any trainer, or a run of ours.")],
    mapped: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="OURS=THEIRS", help="Which name of the log is a metric of ours; repeatable."),
    ] = None,
    html: HtmlOption = None,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Say what is wrong with a run, from its log: findings with steps, evidence and advice, and what the rules would
    have done at the first sign and at the end.

    Reads trainer_state.json and the log history of TRL (JSON, JSON lines), metrics of verl and tinker-cookbook, exports
    of W&B, and CSV with a row per step. What the log lacks leaves findings unknown.

    Examples:

      grpo diagnose output/checkpoint-500/trainer_state.json

      grpo diagnose metrics.jsonl --map reward/mean=my_reward --html diagnosis.html

      grpo diagnose night-1
    """
    found = commands.diagnose(log, renamed=_parse_names(mapped or []), html=html, db=db, out=out)
    if html is not None and not as_json:
        say(html)
    else:
        print_result(found, as_json, render_diagnosis)


def _parse_names(mapped: list[str]) -> dict[str, str]:
    """Parse OURS=THEIRS. Raises InputError."""
    for text in mapped:
        if not all(text.partition("=")):
            raise InputError(f"--map {clean(text)}: write OURS=THEIRS, such as --map reward/mean=my_reward")
    return dict(text.split("=", 1) for text in mapped)


def _print(found: Document, html: Path | None, as_json: bool, render: Callable[[Any], RenderableType]) -> None:
    if html is not None and not as_json:
        say(html)
    else:
        print_result(found.document, as_json, render)
