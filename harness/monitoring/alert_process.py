"""Send the alerts of a run, in a process of its own. It only reads the record, so nothing it does, and no receiver that
hangs, can delay a step or fail the run; and it outlives a run that is killed, which it tells too.

    run      starts it, and at its end waits until the last alert is out, for at most LEAVE_S
    lookout  looks at the record, sends what is new, notes in the run's events what it sent and what it could not send
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import Self

from harness.core.liveness import age_of, is_alive_run, is_supervised
from harness.core.processes import python_words
from harness.errors import StoreUnavailable
from harness.monitoring.alerts import Alert, build_message, find_alerts
from harness.monitoring.notifiers import Hook, build_hooks, deliver
from harness.store.reader import RunReader, find_reader
from harness.store.snapshot import SnapshotReader
from harness.types import EventRecord, Snapshot

POLL_S = 1.0
LEAVE_S = 60.0
"""How long a run that has ended waits for its last alerts: one delivery with all its attempts."""
PATIENT_S = 2.0
"""After which it says what it waits for."""
ALONE_S = 86_400.0
"""How long it stays at most after the run's process has left: a supervisor may take its time."""
NICE = 10


@dataclass(eq=False)
class Lookout:
    """The run's side: within its context another process is on the lookout. ``say`` tells people what it waits for,
    ``note`` puts a text into the run's events. Without ``wanted`` it does nothing."""

    url: str
    run_id: int
    _: KW_ONLY
    wanted: bool
    say: Callable[[str], None]
    note: Callable[[str], None]
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        if self.wanted:
            words = [*python_words("harness.monitoring.alert_process"), self.url, str(self.run_id)]
            quiet = subprocess.DEVNULL
            try:
                # Out of reach of Ctrl-C and of the end of a terminal; the end of its stdin is the end of this process.
                self._process = subprocess.Popen(
                    words, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True
                )
            except OSError as fault:
                self.note(f"no alerts: their process could not be started: {fault.strerror}")
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        why = ""
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENT_S)
            if process.poll() is None:
                self.say(f"sending the last alerts, for at most {LEAVE_S:.0f} s")
                process.wait(LEAVE_S - PATIENT_S)
        except subprocess.TimeoutExpired:
            why = f"given up after {LEAVE_S:.0f} s"
        except KeyboardInterrupt:
            why = "given up: interrupted"
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        elif process.returncode != 0:
            why = f"their process ended with exit code {process.returncode}"
        if why:
            self.note(f"the last alerts may not be out: {why}")


# ---------------------------------------------------------------- the other process


class Stdin:
    """From which nothing comes but its end, when the run's process has left."""

    ended_at: float | None = None

    def wait(self) -> bool:
        """Wait a moment, or until the end. False when that is so long ago that there will be no more on record."""
        if self.ended_at is not None:
            time.sleep(POLL_S)
            return time.monotonic() - self.ended_at < ALONE_S
        if select.select([sys.stdin], [], [], POLL_S)[0]:
            self.ended_at = time.monotonic()
        return True


class Watch:
    """Looks at one run until it has ended, is gone, or is driven by another process, which has a lookout of its own."""

    def __init__(self, reader: RunReader, run_id: int, hooks: Sequence[Hook], kinds: Sequence[str]) -> None:
        self.reader = reader
        self.look = SnapshotReader(reader, run_id)
        self.run_id = run_id
        self.hooks = hooks
        self.kinds = kinds
        self.told = reader.load_events(run_id, "alert ")
        self.unwritten: list[EventRecord] = []
        self.driver = self.look.read().run.process

    def run(self, stdin: Stdin) -> None:
        while stdin.wait():
            with suppress(StoreUnavailable):
                self._write()
                if self._is_over(self.look.read(), left=stdin.ended_at is not None):
                    return

    def _is_over(self, s: Snapshot, *, left: bool) -> bool:
        """Tell what is new. Return whether there will be nothing more to tell."""
        if s.run.process != self.driver:
            return True
        alive = not left and is_alive_run(s.run)
        ended = s.run.ended
        if not alive and not ended and is_supervised(s.run.supervisor, s.run.host):
            return False  # it is started again, or given up, which is an end on record
        for alert in find_alerts(s, self.told, alive=alive, age=age_of(s.run)):
            if alert.kind in self.kinds:
                self._tell(alert, s)
        return (ended or not alive) and not self.unwritten

    def _tell(self, alert: Alert, s: Snapshot) -> None:
        message = build_message(alert, s, now=time.time())
        with ThreadPoolExecutor(len(self.hooks)) as side_by_side:
            faults = [fault for fault in side_by_side.map(lambda hook: deliver(hook, message), self.hooks) if fault]
        outcome = f"not delivered, {'; '.join(faults)}" if faults else "sent"
        event = EventRecord(alert.step, "warning" if faults else "info", f"{alert.text} ({outcome})", time.time())
        self.told.append(event)
        self.unwritten.append(event)
        with suppress(StoreUnavailable):
            self._write()

    def _write(self) -> None:
        """Put on record what was told. Raises StoreUnavailable, and then the rest is kept for the next time."""
        if not self.unwritten:
            return
        from harness.store.opening import find_store

        store = find_store(self.reader.url)
        if store is None:
            return
        with closing(store):
            while self.unwritten:
                event = self.unwritten[0]
                store.record_event(self.run_id, event.step, event.level, event.text)
                del self.unwritten[0]


def main() -> None:
    """Run ``python -m harness.monitoring.alert_process URL RUN_ID``, with the end of its run on stdin."""
    os.nice(NICE)
    url, run_id = sys.argv[1], int(sys.argv[2])
    reader = find_reader(url)
    if reader is None:
        return
    stdin = Stdin()
    while stdin.wait():
        with suppress(StoreUnavailable):
            alerts = reader.load_run(run_id).spec["alerts"]
            Watch(reader, run_id, build_hooks(alerts["webhook"], alerts["command"]), alerts["on"]).run(stdin)
            return


if __name__ == "__main__":
    main()
