"""``grpo run`` and ``grpo resume``: here, away from the terminal, or under supervision."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from harness.cli.completion import complete_policy
from harness.cli.drive import INTERRUPTED, database_flag, drive
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
    open_store_of,
    say,
)
from harness.core.paths import database_url
from harness.errors import InputError, RunFailed

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
    from harness.config.load import load_spec

    if name == "":
        raise InputError("--name: it is empty; leave it out for the recipe's name with a number")
    flags = {
        "name": name,
        "seed": seed,
        "budget.steps": steps,
        "budget.hours": hours,
        "policy.kind": policy,
        "output.db": db,
    }
    given = [f"{key}={json.dumps(value)}" for key, value in flags.items() if value is not None]
    # A flag of the shell beats --set, which beats the file; --out only counts when it is not the default.
    if out != "runs":
        given.append(f"output.dir={json.dumps(out)}")
    checked, short_name = load_spec(spec, [*(set_ or []), *given])
    interrupted = Event()
    say("checking pool, reward and model ...", as_json)
    from harness.checks.gate import pass_gate
    from harness.checks.inputs import check_inputs
    from harness.models.hub import check_model_name
    from harness.monitoring.notifiers import build_hooks
    from harness.run.policies import check_policy
    from harness.store.opening import check_place, find_store

    check_model_name(checked.model.name)
    splits, _ = check_inputs(checked)  # before torch is loaded, so that a wrong name shows at once
    url = database_url(checked.output.dir, checked.output.db)
    check_place(url, checked.name)
    check_policy(checked.policy.kind, find_store(url))
    build_hooks(checked.alerts.webhook, checked.alerts.command)
    if detach or supervise:
        from harness.store.opening import free_name

        new = checked.name or free_name(url, short_name)
        _elsewhere(new, url, out=checked.output.dir, more=["--name", new], detach=detach, supervise=supervise)
    say("preflight: the reward on a sample of the pool ...", as_json)
    passage = pass_gate(checked, splits, force=force)
    say(f"loading torch and the model {checked.model.name} ...", as_json)
    from harness.run.start import start_run

    _drive(start_run(checked, short_name, interrupted, passage), interrupted, plain=plain, as_json=as_json)


def resume(
    run: RunName,
    steps: Annotated[int | None, typer.Option(help="New budget of steps, in all.")] = None,
    hours: Annotated[float | None, typer.Option(help="New budget of hours, in all.")] = None,
    set_: SetOption = None,
    accept: Annotated[
        list[str] | None, typer.Option(metavar="WHAT", help="Go on though it has changed: reward or data; repeatable.")
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
    """Go on with a stopped or killed run from its newest checkpoint, bit for bit.

    A change of what is measured or learned from (reward, pool, trainer, evaluate) must be said, and begins a new era:
    nothing before it is compared any more. Name, seed, model, lora, warmstart and output stay; knobs and policy are
    changed by grpo act RUN ... --no-wait.

    Examples:

      grpo resume latest

      grpo resume arithmetic-1 --steps 200

      grpo resume night-1 --accept reward

      grpo resume night-1 --set pool.source=harder.jsonl --detach --supervise
    """
    from harness.config.changes import ACCEPTABLE
    from harness.monitoring.notifiers import build_hooks
    from harness.run.policies import check_policy
    from harness.run.resume import plan_resume

    flags = {"budget.steps": steps, "budget.hours": hours}
    given = [*(set_ or []), *(f"{key}={json.dumps(value)}" for key, value in flags.items() if value is not None)]
    for what in accept or ():
        if what not in ACCEPTABLE:
            raise InputError(f"--accept takes {' or '.join(ACCEPTABLE)}, not {what}")
    store, record = open_store_of(db, out, run)
    record, spec, changes = plan_resume(store, record.name, given)  # what is wrong shows before torch is loaded
    check_policy(record.policy, store)
    build_hooks(spec.alerts.webhook, spec.alerts.command)
    if detach or supervise:
        _elsewhere(record.name, store.url, out=out, more=[], detach=detach, supervise=supervise)
    interrupted = Event()
    say("loading model, pool and checkpoint ...", as_json)
    from harness.checks.gate import pass_gate
    from harness.checks.inputs import check_inputs

    changed = bool(accept) or any(name.startswith(("reward.", "pool.")) for name in changes)
    passage = pass_gate(spec, check_inputs(spec)[0], force=force) if changed else None
    from harness.run.resume import resume_run

    resumed = resume_run(store, record.name, interrupted, overrides=given, accepted=accept or (), passage=passage)
    _drive(resumed, interrupted, plain=plain, as_json=as_json)


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


def _drive(run: Run, interrupted: Event, *, plain: bool, as_json: bool) -> None:
    """Run to the end with a view beside it, then tell what happened."""
    from harness.cli.tables import render_review
    from harness.store.history import load_history
    from harness.views.review import build_review

    console = Console(stderr=as_json)
    status, reason = drive(run, interrupted, console, plain=plain or as_json)
    if as_json:
        print(json.dumps(build_review(load_history(run.store, run.name)), allow_nan=False))
    else:
        console.print()
        console.print(render_review(build_review(load_history(run.store, run.name))))
    if status == "failed":
        raise RunFailed(f"{run.name} failed: {reason}\nlog: {run.folder / 'log.txt'}")
    if reason.startswith("interrupted"):
        raise SystemExit(INTERRUPTED)
