"""The ``grpo`` command: parse, build, run, print. What needs torch is imported where it is used."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.exceptions import TyperException

from harness import __version__
from harness.actions import parse_action
from harness.cli_branch import branch
from harness.cli_pool import app as pool_app
from harness.cli_replay import replay
from harness.cli_reward import COMMANDS as REWARD_COMMANDS
from harness.errors import HarnessError, InputError
from harness.options import (
    DbOption,
    DetachFlag,
    ForceFlag,
    HtmlOption,
    JsonFlag,
    OutOption,
    PlainFlag,
    RunName,
    SetOption,
    SuperviseFlag,
    UnsafeFlag,
    check_model,
    open_reader,
    open_store_of,
)
from harness.places import database_url, is_alive_run
from harness.text import clean, format_duration

if TYPE_CHECKING:
    from harness.beside import Beside
    from harness.build import Run
    from harness.types import Status

app = typer.Typer(
    name="grpo",
    help="Tune a language model by single GRPO steps, with a decision after each and a log that explains it.\n\n"
    "Start with: grpo run",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(pool_app)
for command in REWARD_COMMANDS:
    app.command()(command)
app.command()(branch)
app.command()(replay)

EXIT_BY_STATUS: dict[str, int] = {"finished": 0, "stopped": 0, "failed": 1}
INTERRUPTED = 130


def main() -> None:
    """Entry point: errors of ours are one line on stderr, with their exit code."""
    try:
        raise SystemExit(app(standalone_mode=False))
    except TyperException as error:  # a wrong flag or command
        command = next((word for word in sys.argv[1:2] if word in _command_names()), "")
        _complain(f"{error.format_message()} (see grpo {command}{' ' if command else ''}--help)", 2)
    except InputError as error:
        _complain(str(error), 2)
    except HarnessError as error:
        _complain(str(error), 1)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # e.g. grpo review | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def _command_names() -> set[str]:
    groups = {group.typer_instance.info.name or "" for group in app.registered_groups if group.typer_instance}
    return groups | {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}


def _complain(message: str, code: int) -> None:
    print(f"grpo: {message}", file=sys.stderr)
    raise SystemExit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"grpo {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
    if context.invoked_subcommand is None:
        print(context.get_help())


# ---------------------------------------------------------------- driving


@app.command()
def run(
    spec: Annotated[
        str | None, typer.Argument(metavar="[SPEC]", help="Recipe, .toml or .json; default arithmetic.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; default the recipe's with a number.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of model, draws and sampling.")] = None,
    steps: Annotated[int | None, typer.Option(help="Budget of steps.")] = None,
    hours: Annotated[float | None, typer.Option(help="Budget of hours.")] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="KIND", help="Decision policy: rules, fixed, llm or replay:RUN.")
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
    from harness.spec import load_spec

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
    _say("checking pool, reward and model ...", as_json)
    from harness.gate import pass_gate
    from harness.inputs import check_inputs, check_policy
    from harness.store import check_place, find_store

    splits, _ = check_inputs(checked)  # before torch is loaded, so that a wrong name shows at once
    url = database_url(checked.output.dir, checked.output.db)
    check_place(url, checked.name)
    check_policy(checked.policy.kind, find_store(url))
    if detach or supervise:
        from harness.store import free_name

        new = checked.name or free_name(url, short_name)
        _elsewhere(new, url, out=checked.output.dir, more=["--name", new], detach=detach, supervise=supervise)
    passage = pass_gate(checked, splits, force=force)
    from harness.build import start_run

    _drive(start_run(checked, short_name, interrupted, passage), interrupted, plain=plain, as_json=as_json)


@app.command()
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
    nothing before it is compared any more.

    Examples:

      grpo resume latest

      grpo resume arithmetic-1 --steps 200

      grpo resume night-1 --accept reward

      grpo resume night-1 --set pool.source=harder.jsonl --detach --supervise
    """
    from harness.eras import ACCEPTABLE, plan_resume
    from harness.inputs import check_policy

    flags = {"budget.steps": steps, "budget.hours": hours}
    given = [*(set_ or []), *(f"{key}={json.dumps(value)}" for key, value in flags.items() if value is not None)]
    for what in accept or ():
        if what not in ACCEPTABLE:
            raise InputError(f"--accept takes {' or '.join(ACCEPTABLE)}, not {what}")
    store = open_store_of(db, out, run)
    record, spec, changes = plan_resume(store, run, given)  # what is wrong shows before torch is loaded
    check_policy(record.policy, store)
    if detach or supervise:
        _elsewhere(record.name, store.url, out=out, more=[], detach=detach, supervise=supervise)
    interrupted = Event()
    _say("loading model, pool and checkpoint ...", as_json)
    from harness.gate import pass_gate
    from harness.inputs import check_inputs

    changed = bool(accept) or any(name.startswith(("reward.", "pool.")) for name in changes)
    passage = pass_gate(spec, check_inputs(spec)[0], force=force) if changed else None
    from harness.build import resume_run

    resumed = resume_run(store, record.name, interrupted, overrides=given, accepted=accept or (), passage=passage)
    _drive(resumed, interrupted, plain=plain, as_json=as_json)


def _elsewhere(name: str, url: str, *, out: str, more: list[str], detach: bool, supervise: bool) -> NoReturn:
    """The same command in another process: away from this terminal, under supervision, or both."""
    from harness.supervise import Supervisor, own_words, start_detached

    words = [*own_words(without=("--detach", "--supervise")), *more]
    if not detach:
        again = ["resume", name, "--db", url, "--out", out, *(w for w in words if w == "--plain")]
        raise SystemExit(Supervisor(url, name, words, again).run())
    _say(f"starting {name} ...", as_json=True)
    output = Path(out) / f"{name}.out"
    words = [word for word in words if word not in ("--plain", "--json")] + ["--plain"]
    code, said = start_detached(url, name, [*words, *(["--supervise"] if supervise else [])], output)
    if code:
        _complain(said.removeprefix("grpo: "), code)
    if "--json" in sys.argv:
        print(json.dumps({"run": name, "pid": int(said)}))
    else:
        where = _where(url)
        print(
            f"{name} runs in process {said}, away from this terminal; what it prints is in {output}\n"
            f"watch it: grpo watch {name}{where}\nstop it:  grpo act {name} stop{where}"
        )
    raise SystemExit(0)


def _drive(run: Run, interrupted: Event, *, plain: bool, as_json: bool) -> None:
    """Run to the end with a view beside it, then tell what happened."""
    from harness.report import build_review, render_review
    from harness.snapshot import load_history

    console = Console(stderr=as_json)
    status, reason = drive(run, interrupted, console, plain=plain or as_json)
    if as_json:
        print(json.dumps(build_review(load_history(run.store, run.name)), allow_nan=False))
    else:
        console.print()
        console.print(render_review(build_review(load_history(run.store, run.name))))
    if status == "failed":
        _complain(f"{run.name} failed: {reason}\nlog: {run.folder / 'log.txt'}", EXIT_BY_STATUS[status])
    if reason.startswith("interrupted"):
        raise SystemExit(INTERRUPTED)


def drive(run: Run, interrupted: Event, console: Console, *, plain: bool) -> tuple[Status, str]:
    """Run to the end with a view beside it. Returns how and why it ended."""
    from harness.beside import Beside

    console.print(f"run {run.name} in {run.folder}", markup=False, highlight=False, soft_wrap=True)
    view = Beside(run.store, run.run_id, console, plain=plain)
    _catch_signals(interrupted, view)
    with view:
        status, reason = run.drive()
    if reason.startswith("interrupted"):
        print(f"interrupted; to go on: grpo resume {run.name}{_where(run.store.url)}", file=sys.stderr)
    return status, reason


def _where(url: str) -> str:
    """The flag that finds a database again, when it is not where grpo looks first."""
    return "" if url == "sqlite:///runs/harness.db" else f" --db {url}"


def _catch_signals(interrupted: Event, view: Beside) -> None:
    """The first one ends the run after the step in progress, the second one abandons that step."""

    def handle(_number: int, _frame: Any) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        if view.drawn:  # it says so itself
            return
        with suppress(OSError):  # after a dropped connection there is no terminal to tell
            os.write(2, b"\nfinishing this step, then saving; once more to abandon the step\n")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handle)


@app.command()
def act(
    run: RunName,
    words: Annotated[list[str], typer.Argument(metavar="ACTION...", help="What to do, see the examples.")],
    note: Annotated[str, typer.Option(help="Why, for the decision log.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is applied or refused.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 600.0,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Act on a running run; it applies the action before its next step. A knob set by hand stays yours until released.

    Actions apply in the order asked, whoever asked. Those that still wait when a run ends expire. With --no-wait a run
    that nothing drives takes actions too: they apply when it is resumed; pause, resume, step and stop never do.

    Examples:

      grpo act latest set temperature=0.9

      grpo act latest focus harder --note "too many solved"

      grpo act latest pause | resume | step | stop | sample | evaluate

      grpo act latest save before-lunch

      grpo act latest rollback 40 | rollback best

      grpo act latest release temperature

      grpo act latest policy fixed | policy llm | policy replay:night-1
    """
    action = parse_action(words)
    store = open_store_of(db, out, run)
    record = store.find_run(run)
    command_id = store.add_command(record.id, action, note=note, later=not wait)
    if not wait:
        print(f"queued as command {command_id}" + ("" if is_alive_run(record) else ": it applies on grpo resume"))
        return
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        state, step, result = store.load_command(command_id)
        if state in ("applied", "refused"):
            print(f"{state} before step {step}: {result}")
            raise typer.Exit(0 if state == "applied" else 1)
        if state == "expired":
            _complain(f"expired: {result}", 1)
        record = store.find_run(record.name)
        if record.status in ("finished", "stopped", "failed"):
            _complain(f"{record.name} ended in the middle of the action ({record.stop_reason or record.status})", 1)
        if not is_alive_run(record):
            _complain(f"the process of {record.name} is gone; the action waits for: grpo resume {record.name}", 1)
        time.sleep(0.1)
    _complain(f"command {command_id} still waits after {timeout:g} s; it applies before the next step", 1)


# ---------------------------------------------------------------- looking


@app.command()
def watch(run: RunName = "latest", plain: PlainFlag = False, db: DbOption = None, out: OutOption = "runs") -> None:
    """Show a run live from any terminal, act on it with keys (? tells them), or play it back.

    q or Ctrl-C leaves the run alone. In a pipe, or with --plain, a line for each step until the run ends.
    """
    from harness.plain import follow
    from harness.snapshot import SnapshotReader
    from harness.watch import Dashboard, draws

    store = open_reader(db, out, run)
    record = store.find_run(run)
    console = Console()
    with suppress(KeyboardInterrupt):
        if plain or not draws(console):
            follow(SnapshotReader(store, record.id), console)
        else:
            Dashboard(store, record.id, console).run()
    if record.status in ("running", "paused") and is_alive_run(record):
        print(f"left {record.name}; it goes on", file=sys.stderr)


@app.command()
def runs(as_json: JsonFlag = False, db: DbOption = None, out: OutOption = "runs") -> None:
    """List all runs."""
    from harness.reader import find_reader

    store = find_reader(database_url(out, db))
    rows = []
    for record in store.list_runs() if store else ():
        best = store.best_step(record.id) if store else None
        gone = record.status in ("running", "paused") and not is_alive_run(record)
        rows.append(
            {
                "run": record.name,
                "status": record.status,
                "alive": record.status in ("running", "paused") and not gone,
                "stop_reason": record.stop_reason,
                "policy": record.policy,
                "seed": record.seed,
                "steps": record.last_step,
                "rollouts": record.rollouts,
                "wall_s": round(record.wall_s, 1),
                "best_step": best,
                "created": record.created,
            }
        )
    if as_json:
        print(json.dumps(rows))
        return
    if not rows:
        print("no runs yet; start one with: grpo run")
        return
    table = Table(box=None)
    for column in ("run", "status", "policy", "seed", "steps", "best step", "time", "why it ended"):
        table.add_column(column, overflow="fold")
    for row in rows:
        process_gone = row["status"] in ("running", "paused") and not row["alive"]
        why = f"process gone: grpo resume {row['run']}" if process_gone else str(row["stop_reason"])
        best_step = "-" if row["best_step"] is None else str(row["best_step"])
        cells = (row["run"], row["status"], row["policy"], row["seed"], row["steps"], best_step)
        table.add_row(*(Text(str(cell)) for cell in cells), format_duration(float(str(row["wall_s"]))), Text(why))
    Console().print(table)


@app.command()
def review(
    run: RunName = "latest",
    html: HtmlOption = None,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """What a run did and why: scores, signal, every decision with its evidence, samples before and after.

    A run writes the page itself when it ends: report.html in its folder.

    Examples:

      grpo review latest

      grpo review night-1 --html night-1.html
    """
    from harness.report import build_review, render_review
    from harness.snapshot import load_history

    store = open_reader(db, out, run)
    if html is not None:
        from harness.report_file import write_report

        write_report(store, run, html, where=_where(store.url))
        if not as_json:
            print(html)
            return
    document = build_review(load_history(store, run, whole_run=as_json))
    if as_json:
        print(json.dumps(document, allow_nan=False))
    else:
        Console().print(render_review(document))


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Names of runs, or 'latest'.")],
    html: HtmlOption = None,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """What differs between runs: scores with intervals, spec, knobs and decisions. The first is the reference.

    Where the test prompts are the same, scores are compared prompt by prompt.

    Examples:

      grpo compare rules-1 fixed-1

      grpo compare night-1 night-2 night-3 --html nights.html
    """
    from harness.compare import build_comparison, render_comparison
    from harness.snapshot import load_history

    store = open_reader(db, out, runs[0])
    records = [store.find_run(name) for name in runs]
    if len({record.id for record in records}) < max(2, len(records)):
        raise InputError("compare takes two or more different runs; grpo runs lists them")
    names = [record.name for record in records]
    if html is not None:
        from harness.report_file import write_comparison

        write_comparison(store, names, html)
        if not as_json:
            print(html)
            return
    histories = [load_history(store, name, whole_run=False) for name in names]
    document = build_comparison(histories, [store.load_run(record.id)["spec"] for record in records])
    if as_json:
        print(json.dumps(document, allow_nan=False))
    else:
        Console().print(render_comparison(document))


# ---------------------------------------------------------------- measuring


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A run, a model folder or a hub id.")],
    split: Annotated[str, typer.Option(help="Split of the pool: test, dev, probe, train or one of its own.")] = "test",
    checkpoint: Annotated[str, typer.Option(help="Of a run: best, final, a step or a name.")] = "final",
    spec: Annotated[
        str | None, typer.Option(help="Of a model: recipe or file that gives pool and reward; an export has its own.")
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
    store = check_model(model, db, out)
    from harness.measure import load_target, measure

    target = load_target(model, checkpoint=checkpoint, spec=spec, store=store)
    console = Console(stderr=True)
    with console.status(f"evaluating {target.title} on {split}") as status:
        result, examples = measure(target, split, lambda phase, done, total: status.update(f"{phase} {done}/{total}"))
    if output_file is not None:
        from harness.evaluate import write_csv

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


@app.command()
def sample(
    model: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A run, a model folder or a hub id.")] = "latest",
    prompt: Annotated[
        list[str] | None, typer.Option(help="A prompt of your own; repeatable. Default: some of dev.")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Completions per prompt.")] = 1,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    checkpoint: Annotated[str, typer.Option(help="Of a run: best, final, a step or a name.")] = "final",
    spec: Annotated[str | None, typer.Option(help="Of a model: recipe or file that gives pool and reward.")] = None,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Completions to read.

    Example: grpo sample latest --prompt "12+34=" -n 4 --temperature 1
    """
    store = check_model(model, db, out)
    from harness.measure import load_target, take_samples

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


@app.command()
def probe(
    spec: Annotated[
        str | None, typer.Argument(metavar="[SPEC]", help="Recipe, .toml or .json; default arithmetic.")
    ] = None,
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
    from harness.inputs import check_inputs
    from harness.spec import load_spec

    checked, _ = load_spec(spec, set_ or [])
    check_inputs(checked)  # before torch is loaded
    from harness.measure import load_start, probe_start
    from harness.probe import compute_probe, judge, render_probe

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


@app.command()
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
    store = open_store_of(db, out, run)
    name = store.find_run(run).name
    folder = to or Path(f"{name}-{checkpoint}")
    if folder.exists():
        raise InputError(f"--to: {folder} exists already; choose another")
    from harness.export import export_run

    _say(f"exporting {checkpoint} of {name} ...", as_json=False)
    target = export_run(store, name, checkpoint, folder, adapter=adapter)
    print(f"{target.title} is in {folder}; to score it: grpo eval {folder if folder.is_absolute() else f'./{folder}'}")


@app.command()
def doctor(as_json: JsonFlag = False, db: DbOption = None, out: OutOption = "runs") -> None:
    """What this machine offers: versions, cores, memory, GPU, disk, the database."""
    from harness.doctor import examine

    findings = examine(db, out)
    if as_json:
        print(json.dumps([{"what": f.what, "found": f.found, "ok": f.ok, "mend": f.mend} for f in findings]))
    else:
        table = Table(box=None, show_header=False)
        for finding in findings:
            mark = Text("ok", style="green") if finding.ok else Text("mend", style="red")
            table.add_row(mark, finding.what, Text(finding.found), Text(finding.mend, style="yellow"))
        Console().print(table)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


def _say(text: str, as_json: bool) -> None:
    print(text, file=sys.stderr if as_json else sys.stdout, flush=True)
