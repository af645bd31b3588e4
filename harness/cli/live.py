"""``grpo act`` and ``grpo watch``: a run that lives, from any terminal."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from harness import commands
from harness.cli.completion import complete_action
from harness.cli.options import DbOption, OutOption, PlainFlag, RunName
from harness.commands.lookup import open_reader
from harness.core.liveness import is_alive_run
from harness.views.console import Console, say


def act(
    run: RunName,
    words: Annotated[
        list[str],
        typer.Argument(metavar="ACTION...", help="What to do, see the examples.", autocompletion=complete_action),
    ],
    note: Annotated[str, typer.Option(help="Why, for the decision log.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is applied or refused.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 600.0,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Act on a running run; it applies the action before its next step. A hyperparameter you set stays pinned.

    A decision policy changes it again only after release.

    Actions apply in the order asked, whoever asked. Those that still wait when a run ends expire. With --no-wait a run
    that nothing drives takes actions too: they apply when it is resumed; pause, resume, step and stop never do.

    Examples:

      grpo act latest set temperature=0.9

      grpo act latest focus harder --note "too many solved"

      grpo act latest focus 0.5 | focus unset

      grpo act latest pause | resume | step | stop | sample | evaluate

      grpo act latest save before-lunch

      grpo act latest rollback 40 | rollback best | rollback before-lunch

      grpo act latest branch 6 learning_rate=5e-5

      grpo act latest release temperature

      grpo act latest policy fixed | policy llm | policy replay:night-1
    """
    done = commands.act(run, words, note=note, wait=wait, timeout=timeout, db=db, out=out)
    if done.state == "queued":
        say(f"queued as command {done.command}" + ("" if done.alive else ": it applies on grpo resume"))
        return
    say(f"{done.state} before step {done.step}: {done.result}")
    raise typer.Exit(0 if done.state == "applied" else 1)


def watch(run: RunName = "latest", plain: PlainFlag = False, db: DbOption = None, out: OutOption = "runs") -> None:
    """Show a run live from any terminal, act on it with keys (? tells them), or play it back.

    q or Ctrl-C leaves the run alone. Of a group it shows the stage at work, and then the next one. In a pipe, or with
    --plain, a line for each step until the run ends.

    Examples:

      grpo watch

      grpo watch night-1 --plain | grep warning
    """
    from harness.store.snapshot import SnapshotReader
    from harness.views.terminal.app import Dashboard, draws
    from harness.views.terminal.lines import follow, follow_group

    store, record = open_reader(db, out, run)
    group = run if record.name.startswith(f"{run}/") else ""
    console = Console()
    with suppress(KeyboardInterrupt):
        if not plain and draws(console):
            Dashboard(store, record.id, console, group=group).run()
        elif group:
            follow_group(store, group, console)
        else:
            follow(SnapshotReader(store, record.id), console)
    if record.status in ("running", "paused") and is_alive_run(record):
        say(f"left {record.name}; it continues", to_stderr=True)
