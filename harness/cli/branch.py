"""``grpo branch``: from one checkpoint a few steps under each of several settings; the best on dev goes on."""

from __future__ import annotations

import json
from threading import Event
from typing import Annotated

import typer
from rich.console import Console

from harness.cli.drive import INTERRUPTED, drive
from harness.cli.options import DbOption, JsonFlag, OutOption, PlainFlag, RunName, open_store_of
from harness.core.actions import parse_action
from harness.core.liveness import is_alive_run
from harness.errors import HarnessError, InputError


def branch(
    run: RunName,
    settings: Annotated[list[str], typer.Argument(metavar="SETTING...", help="knob=value[,knob=value], one or more.")],
    steps: Annotated[int, typer.Option(help="Steps of each arm.")] = 6,
    at: Annotated[str | None, typer.Option(help="Checkpoint to start from: a step, a name or best.")] = None,
    note: Annotated[str, typer.Option(help="Why, for the decision log.")] = "",
    plain: PlainFlag = False,
    as_json: JsonFlag = False,
    db: DbOption = None,
    out: OutOption = "runs",
) -> None:
    """Compare settings: the same weights, seeds and prompts under the present knobs and under each SETTING.

    What is best on dev, prompt by prompt, goes on. A live run does this at its next boundary, within its budget; a run
    that has ended is resumed for it and ends with what was kept.

    Examples:

      grpo branch latest learning_rate=5e-5

      grpo branch night-1 temperature=0.8 temperature=1.2 --steps 10 --at best

      grpo branch night-1 learning_rate=5e-5,beta=0.01 --note "too fast?"
    """
    action = parse_action(["branch", str(steps), *settings])
    first = [parse_action(["rollback", at])] if at is not None else []
    store, record = open_store_of(db, out, run)
    if is_alive_run(record):
        for asked in (*first, action):
            store.add_command(record.id, asked, note=note)
        if as_json:
            print(json.dumps({"run": record.name, "asked": True}))
        else:
            print(f"asked of {record.name}, which compares {len(settings) + 1} settings in {steps} steps each; "
                  f"grpo watch {record.name} shows it")  # fmt: skip
        return
    logged = bool(store.load_decisions_at(record.id, record.last_step + 1))  # what the run ended with takes its step
    total = record.last_step + logged + steps * (len(settings) + 1)
    from harness.run.resume import resume_run
    from harness.store.snapshot import SnapshotReader
    from harness.views.summary import format_decision

    console = Console(stderr=as_json)
    interrupted = Event()
    resumed = resume_run(store, record.name, interrupted, overrides=[f"budget.steps={total}"])
    for asked in (*first, action):
        resumed.store.add_command(record.id, asked, note=note)
    _, reason = drive(resumed, interrupted, console, plain=plain or as_json)
    if reason.startswith("interrupted"):
        raise SystemExit(INTERRUPTED)
    made = list(SnapshotReader(resumed.store, record.id).read().decisions)
    refused = next(
        (d for d in made if d.step > record.last_step and d.action in ("rollback", "branch") and d.refused), None
    )
    if refused is not None:
        raise InputError(f"{format_decision(refused)}: {refused.refused}")
    arms = [d for d in made if d.step > record.last_step and d.action == "branch"]
    if not arms or arms[0].verdict is None:
        raise HarnessError(f"the branch did not come to its end ({reason}); grpo review {record.name} tells more")
    if as_json:
        found = {
            "run": record.name,
            "kept": arms[0].measured,
            "verdict": arms[0].verdict,
            "evidence": arms[-1].evidence,
        }
        print(json.dumps(found))
    else:
        print(f"{arms[0].measured} ({arms[0].verdict}): {arms[-1].evidence}")
