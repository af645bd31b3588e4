"""What the commands share that drive a run: its view beside it, its signals, and what is said when it ends."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, Any

from harness.core.paths import database_flag
from harness.views.console import Console, say

if TYPE_CHECKING:
    from harness.run.runner import Run
    from harness.types import Status
    from harness.views.terminal.companion import Beside

INTERRUPTED = 130
"""Exit code."""


def drive(run: Run, *, plain: bool, as_json: bool, group: str = "") -> tuple[Status, str]:
    """Take a run to its end with a view beside it. Returns how and why it ended. How one of a ``group`` that was
    interrupted is continued, its caller tells."""
    from harness.views.terminal.companion import Beside

    console = Console(stderr=as_json)
    console.print(f"run {run.name} in {run.folder}", soft_wrap=True)
    view = Beside(run.store, run.run_id, console, plain=plain or as_json)
    _catch_signals(run.interrupted, view)
    with view:
        status, reason = run.drive()
    if reason.startswith("interrupted") and not group:
        say(f"interrupted; to continue: grpo resume {run.name}{database_flag(run.store.url)}", to_stderr=True)
    return status, reason


def raise_at_signals() -> None:
    """Raise KeyboardInterrupt at the first signal, where no run is driven that would end after its step."""

    def handle(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handle)


def _catch_signals(interrupted: Event, view: Beside) -> None:
    """Handle signals: the first one ends the run after the step in progress, the second one abandons that step."""

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
