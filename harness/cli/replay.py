"""``grpo replay``: take a run again from its decision log, and say whether it came out the same."""

from __future__ import annotations

import json
from dataclasses import asdict
from threading import Event
from typing import Annotated

import typer
from rich.console import Console

from harness.cli.drive import INTERRUPTED, drive
from harness.cli.options import DbOption, JsonFlag, OutOption, PlainFlag, RunName, open_store_of
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
    from harness.config.schema import AlertsSpec
    from harness.run.replay import find_changes, find_difference, plan_replay

    store, record = open_store_of(db, out, run)
    record, spec = plan_replay(store, record.name, name or "")  # what is wrong shows before torch is loaded
    spec = spec.model_copy(update={"alerts": AlertsSpec()})  # whoever is asked to look was told of the run itself
    first = store.load_run(record.id)
    from harness.run.start import start_run

    console = Console(stderr=as_json)
    interrupted = Event()
    started = start_run(spec, f"{record.name}-replay", interrupted, replay_of=first)
    _, reason = drive(started, interrupted, console, plain=plain or as_json)
    if reason.startswith("interrupted"):
        raise SystemExit(INTERRUPTED)
    again = store.find_run(started.name)
    difference = find_difference(store, record, again)
    changes = find_changes(first.manifest, store.load_run(again.id).manifest)
    if as_json:
        found = {"run": again.name, "replay_of": record.name, "steps": record.last_step, "identical": not difference}
        print(json.dumps(found | {"difference": asdict(difference) if difference else None, "environment": changes}))
    elif difference is None:
        print(f"{again.name} is {record.name} again: {record.last_step} steps, the same to the last bit")
    if difference is not None:
        why = f" (changed since: {', '.join(changes)})" if changes else ""
        raise HarnessError(
            f"{again.name} differs from {record.name} first at step {difference.step}: {difference.what} "
            f"was {difference.then}, is {difference.now}{why}"
        )
