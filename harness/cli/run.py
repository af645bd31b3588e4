"""``grpo run``, ``resume``, ``replay`` and ``branch``: what drives a run, here or away from the terminal."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from harness.cli.completion import complete_policy
from harness.cli.drive import INTERRUPTED, drive, raise_at_signals
from harness.cli.options import (
    AgainFlag,
    DbOption,
    DetachFlag,
    ForceFlag,
    JsonFlag,
    OutOption,
    PlainFlag,
    RunName,
    SetOption,
    SpecName,
    StageOption,
    SuperviseFlag,
    TrustFlag,
    UnsafeFlag,
    complain,
    print_json,
    print_result,
)
from harness.cli.tables import render_review, render_stages
from harness.commands import launch
from harness.commands.stages import group as group_runs
from harness.core.paths import database_flag
from harness.errors import HarnessError, InputError, RunFailed
from harness.views.console import Console, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.run.runner import Run
    from harness.types import Status


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
    stage: StageOption = None,
    again: AgainFlag = False,
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

    A spec with stages starts a group: each stage is a run GROUP/STAGE, from the best checkpoint of its parent. Of a
    group that is there already (--name), stages that are done under the same spec, data and parent are not done again.
    --set STAGE.section.field=VALUE holds for one stage.

    Examples:

      grpo run

      grpo run my.toml --name night-1 --hours 8

      grpo run arithmetic --policy fixed --set knobs.temperature=0.7

      grpo run arithmetic --policy replay:night-1 --seed 7

      grpo run my.toml --detach --supervise

      grpo run stages.toml --name night-1 --stage tuned --set tuned.knobs.beta=0.1 --again
    """
    tell = partial(say, to_stderr=as_json)
    group = group_runs.prepare_group(
        spec,
        name=name,
        stage=stage,
        again=again,
        seed=seed,
        steps=steps,
        hours=hours,
        policy=policy,
        overrides=set_ or (),
        db=db,
        out=out,
        say=tell,
    )
    if group is not None:
        if detach or supervise:
            folder = group.stages[0].spec.output.dir
            more, kept = ["--name", group.name], _keep(stage, again=again, force=force)
            _elsewhere(group.name, group.url, out=folder, more=more, kept=kept, detach=detach, supervise=supervise)
        _drive_group(group, force=force, plain=plain, as_json=as_json)
        return
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
    stage: StageOption = None,
    again: AgainFlag = False,
    force: ForceFlag = False,
    unsafe_code: UnsafeFlag = False,
    detach: DetachFlag = False,
    supervise: SuperviseFlag = False,
    plain: PlainFlag = False,
    as_json: JsonFlag = False,
    trust: TrustFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Continue a stopped or killed run from its newest checkpoint, bit for bit.

    A change of what is measured or learned from (reward, pool, trainer, evaluate) must be given, and begins a new era:
    nothing before it is compared any more. Name, seed, model, lora, warmstart and output stay; hyperparameters and
    policy are changed by grpo act RUN ... --no-wait.

    The name of a group continues the stages of it that are not done.

    Examples:

      grpo resume latest

      grpo resume arithmetic-1 --steps 200

      grpo resume night-1 --accept reward

      grpo resume night-1 --set pool.source=harder.jsonl --detach --supervise
    """
    group = group_runs.prepare_group_resume(run, stage=stage, again=again, db=db, out=out)
    if group is not None:
        if steps or hours or set_ or accept:
            runs = ", ".join(group.find_runs())
            raise InputError(
                f"{run} is a group, of which each stage is changed by itself: grpo resume RUN, one of {runs}"
            )
        if detach or supervise:
            kept = _keep(stage, again=again, force=force)
            _elsewhere(group.name, group.url, out=out, more=[], kept=kept, detach=detach, supervise=supervise)
        _drive_group(group, force=force, plain=plain, as_json=as_json)
        return
    if stage is not None or again:
        raise InputError(f"--stage and --again are for a group of runs, and {run} is none")
    prepared = launch.prepare_resume(
        run,
        steps=steps,
        hours=hours,
        overrides=set_ or (),
        accept=accept or (),
        db=db,
        out=out,
        say=partial(say, to_stderr=as_json),
    )
    if detach or supervise:
        name = prepared.plan.record.name
        _elsewhere(name, prepared.store.url, out=out, more=[], detach=detach, supervise=supervise)
    _drive(prepared.start(force=force, say=partial(say, to_stderr=as_json)), plain=plain, as_json=as_json)


def replay(
    run: RunName,
    name: Annotated[str | None, typer.Option(help="Name of the new run; default RUN-replay with a number.")] = None,
    plain: PlainFlag = False,
    as_json: JsonFlag = False,
    trust: TrustFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Take a run again from its decision log: rollbacks, a person's commands and an LLM's decisions, without any API.

    Exit code 0 when every step is the same to the last bit, 1 when one differs; it names the first.

    Examples:

      grpo replay latest

      grpo replay night-1 --name night-1-again
    """
    found = launch.replay(run, name=name, drive=partial(drive, plain=plain, as_json=as_json), db=db, out=out)
    difference = found.difference
    if as_json:
        print_json(found)
    elif difference is None:
        say(f"{found.run} is {found.replay_of} again: {found.steps} steps, the same to the last bit")
    if difference is not None:
        why = f" (changed since: {', '.join(found.environment)})" if found.environment else ""
        raise HarnessError(
            f"{found.run} differs from {found.replay_of} first at step {difference.step}: {difference.what} "
            f"was {difference.then}, is {difference.now}{why}"
        )


def branch(
    run: RunName,
    settings: Annotated[list[str], typer.Argument(metavar="SETTING...", help="knob=value[,knob=value], one or more.")],
    steps: Annotated[int, typer.Option(help="Steps of each arm.")] = 6,
    at: Annotated[str | None, typer.Option(help="Checkpoint to start from: a step, a name or best.")] = None,
    note: Annotated[str, typer.Option(help="Why, for the decision log.")] = "",
    plain: PlainFlag = False,
    as_json: JsonFlag = False,
    trust: TrustFlag = False,
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
    found = launch.branch(
        run,
        settings,
        steps=steps,
        at=at,
        note=note,
        drive=partial(drive, plain=plain, as_json=as_json),
        db=db,
        out=out,
    )
    if as_json:
        print_json(found)
    elif found.asked:
        say(f"asked of {found.run}, which compares {len(settings) + 1} settings in {steps} steps each; "
              f"grpo watch {found.run} shows it")  # fmt: skip
    else:
        say(f"{found.kept} ({found.verdict}): {found.evidence}")


def _keep(stage: str | None, *, again: bool, force: bool) -> list[str]:
    """Return the words that say how a group is continued as it was begun."""
    return [*(["--stage", stage] if stage else []), *(["--again"] if again else []), *(["--force"] if force else [])]


def _elsewhere(
    name: str, url: str, *, out: str, more: list[str], kept: Sequence[str] = (), detach: bool, supervise: bool
) -> NoReturn:
    """Give the same command to another process: away from this terminal, under supervision, or both. A resume after
    its death has the words ``kept`` too."""
    from harness.monitoring.supervisor import Supervisor, own_words, start_detached

    words = [*own_words(without=("--detach", "--supervise")), *more]
    if not detach:
        again = ["resume", name, "--db", url, "--out", out, *kept, *(w for w in words if w == "--plain")]
        raise SystemExit(Supervisor(url, name, words, again).run())
    say(f"starting {name} ...", to_stderr=True)
    output = Path(out) / f"{name}.out"
    words = [word for word in words if word not in ("--plain", "--json")] + ["--plain"]
    pid, code, said = start_detached(url, name, [*words, *(["--supervise"] if supervise else [])], output)
    if code:
        *before, last = said.splitlines() or [""]
        for line in before if code != 2 else ():  # of wrong input the last one says all
            say(line, to_stderr=True)
        complain(last.removeprefix("grpo: "), code)
    if "--json" in sys.argv:
        print_json({"run": name, "pid": pid})
    elif pid is None:  # there was nothing left to drive
        say(said)
    else:
        where = database_flag(url)
        say(
            f"{name} runs in process {pid}, away from this terminal; what it prints is in {output}\n"
            f"watch it: grpo watch {name}{where}\nstop it:  grpo act {name} stop{where}"
        )
    raise SystemExit(0)


def _drive_group(group: group_runs.Group, *, force: bool, plain: bool, as_json: bool) -> None:
    """Take the stages of a group with a view beside each, then tell what became of them."""

    def drive_stage(run: Run) -> tuple[Status, str]:
        try:
            return drive(run, plain=plain, as_json=as_json, group=group.name)
        finally:
            raise_at_signals()

    again = f"grpo resume {group.name}{database_flag(group.url)}"
    raise_at_signals()
    try:
        outcomes = group.drive(drive_stage, force=force, say=partial(say, to_stderr=as_json))
    except KeyboardInterrupt:
        say(f"interrupted; to continue: {again}", to_stderr=True)
        raise SystemExit(INTERRUPTED) from None
    if as_json:
        print_json({"group": group.name, "stages": [outcome.to_json() for outcome in outcomes]})
    else:
        Console().print(render_stages(group.name, outcomes))
    states = {outcome.state for outcome in outcomes}
    if states & {"failed", "waits", "changed"}:
        left = [outcome.stage for outcome in outcomes if outcome.state in ("failed", "waits", "changed")]
        raise RunFailed(f"{group.name}: not done: {', '.join(left)}; to continue: {again}")


def _drive(run: Run, *, plain: bool, as_json: bool) -> None:
    """Take a run to its end with a view beside it, then tell what happened."""
    from harness.store.history import load_history
    from harness.views.review import build_review

    status, reason = drive(run, plain=plain, as_json=as_json)
    if not as_json:
        say()
    print_result(build_review(load_history(run.store, run.name)), as_json, render_review)
    if status == "failed":
        raise RunFailed(f"{run.name} failed: {reason}\nlog: {run.folder / 'log.txt'}")
    if reason.startswith("interrupted"):
        raise SystemExit(INTERRUPTED)
