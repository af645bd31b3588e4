"""Acting on a run that lives."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from harness.commands.lookup import open_store_of
from harness.core.actions import check_kind, parse_action
from harness.core.knobs import check_value
from harness.core.liveness import is_alive_run, is_supervised
from harness.errors import HarnessError, InputError, Refused
from harness.types import RunRecord

POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of an action: the run took or refused it before ``step``, or nobody waited for that."""

    command: int
    state: str
    """applied, refused or queued."""
    alive: bool
    """Whether a process drives the run; else a queued action applies when the run is resumed."""
    step: int | None = None
    result: str = ""


def act(
    run: str,
    words: Sequence[str],
    *,
    note: str = "",
    wait: bool = True,
    timeout: float = 600.0,
    db: str | None = None,
    out: str = "runs",
) -> Applied:
    """Ask ``run`` to take an action before its next step, and wait for that up to ``timeout`` seconds.

    ``words`` are those of ``grpo act``: ``["set", "temperature=0.9"]``. With ``wait=False`` a run that nothing drives
    takes actions too, except pause, resume, step and stop. Raises InputError for words that are no action and for a run
    that would never apply it, HarnessError when the run ended, died or let the time pass.
    """
    action = parse_action(words)
    store, record = open_store_of(db, out, run)
    if not wait:  # nobody would hear the run refuse it
        bounds = store.load_run(record.id).bounds
        try:
            check_kind(action, record.kind)
            for knob, value in action.changes.items():
                check_value(knob, value, bounds)
        except Refused as refusal:
            raise InputError(str(refusal)) from None
    command = store.add_command(record.id, action, note=note, later=not wait)
    if not wait:
        return Applied(command, "queued", not record.ended and _is_driven(record))
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        asked = store.load_command(command)
        if asked.state in ("applied", "refused"):
            return Applied(command, asked.state, True, asked.step, asked.result)
        if asked.state == "expired":
            raise HarnessError(f"expired: {asked.result}")
        record = store.find_run(record.name)
        if record.ended:
            raise HarnessError(
                f"{record.name} ended in the middle of the action ({record.stop_reason or record.status})"
            )
        if not _is_driven(record):
            raise HarnessError(f"the process of {record.name} died; the action waits for: grpo resume {record.name}")
        time.sleep(POLL_S)
    raise HarnessError(f"command {command} still waits after {timeout:g} s; it applies before the next step")


def _is_driven(run: RunRecord) -> bool:
    """Tell whether a process drives the run, or its supervisor is about to start one."""
    return is_alive_run(run) or is_supervised(run.supervisor, run.host)
