"""``grpo run`` and ``grpo resume``: here, away from the terminal, or under supervision."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from harness import commands
from harness.cli.completion import complete_policy
from harness.cli.drive import INTERRUPTED, drive
from harness.cli.options import (
    DbOption,
    DetachFlag,
    ForceFlag,
    JsonFlag,
    OutOption,
    PlainFlag,
    RunName,
    SetOption,
    SpecName,
    SuperviseFlag,
    UnsafeFlag,
    complain,
    print_json,
    say,
)
from harness.commands import launch
from harness.core.paths import database_flag
from harness.errors import RunFailed

if TYPE_CHECKING:
    from harness.run.runner import Run


def run(
    spec: SpecName = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; default the recipe's with a number.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of model, draws and sampling.")] = None,
    steps: Annotated[int | None, typer.Option(help="Budget of steps.")] = None,
    hours: Annotated[float | None, typer.Option(help="Budget of hours.")] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="Decision policy: rules, fixed, llm or replay:RUN.", autocompletion=complete_policy
        ),
    ] = None,
    set_: SetOption = None,
    force: ForceFlag = False,
    unsafe_code: UnsafeFlag = False,
    detach: DetachFlag = False,
    supervise: SuperviseFlag = False,
    plain: PlainFlag = False,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Start a run: check, preflight, warm start, then steps with a decision after each.

    Examples:

      grpo run

      grpo run my.toml --name night-1 --hours 8

      grpo run arithmetic --policy fixed --set knobs.temperature=0.7

      grpo run arithmetic --policy replay:night-1 --seed 7

      grpo run my.toml --detach --supervise
    """
    tell = partial(say, as_json=as_json)
    prepared = launch.prepare_run(
        spec,
        name=name,
        seed=seed,
        steps=steps,
        hours=hours,
        policy=policy,
        overrides=set_ or (),
        db=db,
        out=out,
        say=tell,
    )
    if detach or supervise:
        from harness.store.opening import free_name

        new = prepared.inputs.spec.name or free_name(prepared.url, prepared.short_name)
        folder = prepared.inputs.spec.output.dir
        _elsewhere(new, prepared.url, out=folder, more=["--name", new], detach=detach, supervise=supervise)
    _drive(prepared.start(force=force, say=tell), plain=plain, as_json=as_json)


def resume(
    run: RunName,
    steps: Annotated[int | None, typer.Option(help="New budget of steps, in all.")] = None,
    hours: Annotated[float | None, typer.Option(help="New budget of hours, in all.")] = None,
    set_: SetOption = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(metavar="WHAT", help="Continue although it has changed: reward or data; repeatable."),
    ] = None,
    force: ForceFlag = False,
    unsafe_code: UnsafeFlag = False,
    detach: DetachFlag = False,
    supervise: SuperviseFlag = False,
    plain: PlainFlag = False,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Continue a stopped or killed run from its newest checkpoint, bit for bit.

    A change of what is measured or learned from (reward, pool, trainer, evaluate) must be given, and begins a new era:
    nothing before it is compared any more. Name, seed, model, lora, warmstart and output stay; hyperparameters and
    policy are changed by grpo act RUN ... --no-wait.

    Examples:

      grpo resume latest

      grpo resume arithmetic-1 --steps 200

      grpo resume night-1 --accept reward

      grpo resume night-1 --set pool.source=harder.jsonl --detach --supervise
    """
    prepared = launch.prepare_resume(
        run, steps=steps, hours=hours, overrides=set_ or (), accept=accept or (), db=db, out=out
    )
    if detach or supervise:
        name = prepared.plan.record.name
        _elsewhere(name, prepared.store.url, out=out, more=[], detach=detach, supervise=supervise)
    _drive(prepared.start(force=force, say=partial(say, as_json=as_json)), plain=plain, as_json=as_json)


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
        print(f"{found.name} in {found.folder} continues from step {found.step}: grpo resume {found.name}")
        if found.missing:
            print(found.missing)


def _elsewhere(name: str, url: str, *, out: str, more: list[str], detach: bool, supervise: bool) -> NoReturn:
    """The same command in another process: away from this terminal, under supervision, or both."""
    from harness.monitoring.supervisor import Supervisor, own_words, start_detached

    words = [*own_words(without=("--detach", "--supervise")), *more]
    if not detach:
        again = ["resume", name, "--db", url, "--out", out, *(w for w in words if w == "--plain")]
        raise SystemExit(Supervisor(url, name, words, again).run())
    say(f"starting {name} ...", as_json=True)
    output = Path(out) / f"{name}.out"
    words = [word for word in words if word not in ("--plain", "--json")] + ["--plain"]
    code, said = start_detached(url, name, [*words, *(["--supervise"] if supervise else [])], output)
    if code:
        complain(said.removeprefix("grpo: "), code)
    if "--json" in sys.argv:
        print(json.dumps({"run": name, "pid": int(said)}))
    else:
        where = database_flag(url)
        print(
            f"{name} runs in process {said}, away from this terminal; what it prints is in {output}\n"
            f"watch it: grpo watch {name}{where}\nstop it:  grpo act {name} stop{where}"
        )
    raise SystemExit(0)


def _drive(run: Run, *, plain: bool, as_json: bool) -> None:
    """Run to the end with a view beside it, then tell what happened."""
    from harness.cli.tables import render_review
    from harness.store.history import load_history
    from harness.views.review import build_review

    console = Console(stderr=as_json)
    status, reason = drive(run, console, plain=plain or as_json)
    if as_json:
        print(json.dumps(build_review(load_history(run.store, run.name)), allow_nan=False))
    else:
        console.print()
        console.print(render_review(build_review(load_history(run.store, run.name))))
    if status == "failed":
        raise RunFailed(f"{run.name} failed: {reason}\nlog: {run.folder / 'log.txt'}")
    if reason.startswith("interrupted"):
        raise SystemExit(INTERRUPTED)
