"""Show the run that this process drives: the dashboard as a process of its own, or plain lines.

A process of its own, since drawing is pure Python: within this one it would hold the interpreter while a step wants it.
It runs at low priority, and whatever becomes of it, the run continues and the terminal is given back.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import termios
from contextlib import suppress
from threading import Event, Thread
from typing import Self

from harness.core.formatting import clean_lines
from harness.core.processes import python_words
from harness.store.reader import RunReader, find_reader
from harness.store.snapshot import SnapshotReader
from harness.views.console import Console, say
from harness.views.terminal.lines import follow

POLL_S = 0.5
LEAVE_S = 5.0
NICE = 10


class Beside:
    """Within its context the run is shown. ``drawn`` says that the dashboard is on the terminal."""

    def __init__(self, store: RunReader, run_id: int, console: Console, *, plain: bool) -> None:
        from harness.views.terminal.app import draws

        self.store = store
        self.run_id = run_id
        self.console = console
        self.drawn = not plain and draws(console)
        self._done = Event()
        self._thread = Thread(target=self._show if self.drawn else self._tell, name="view", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(timeout=3 * LEAVE_S)

    def _tell(self) -> None:
        follow(SnapshotReader(self.store, self.run_id), self.console, done=self._done)

    def _show(self) -> None:
        before = termios.tcgetattr(0) if os.isatty(0) else None
        theirs, ours = os.pipe()
        told, streams = Told(ours), (sys.stdout, sys.stderr)
        words = [*python_words("harness.views.terminal.companion"), self.store.url, str(self.run_id), str(theirs)]
        child = subprocess.Popen(words, pass_fds=[theirs])
        os.close(theirs)
        try:
            sys.stdout = sys.stderr = told  # in the middle of a frame it would tear that
            while child.poll() is None and not self._done.wait(POLL_S):
                pass
        finally:
            code = _end(child)
            sys.stdout, sys.stderr = streams
            told.fd = -1
            os.close(ours)
            self.drawn = False
            if code != 0:  # it could not do this itself
                self.console.set_alt_screen(True)
                self.console.set_alt_screen(False)
                self.console.show_cursor(True)
                if before is not None:
                    with suppress(termios.error):
                        termios.tcsetattr(0, termios.TCSADRAIN, before)
            streams[1].write(clean_lines(told.getvalue()))
        if not self._done.is_set():
            self.console.print("the dashboard ended; the run continues, and grpo watch shows it again")
            self._tell()


class Told(io.StringIO):
    """What this process prints while the dashboard has the terminal: shown there at once, and kept for afterwards."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.fd = fd
        os.set_blocking(fd, False)

    def write(self, text: str) -> int:
        with suppress(OSError):  # the dashboard has gone, or is behind: nothing waits for it
            os.write(self.fd, text.encode())
        return super().write(text)


def _end(child: subprocess.Popen[bytes]) -> int:
    for stop in (child.terminate, child.kill):
        if child.poll() is None:
            stop()
        with suppress(subprocess.TimeoutExpired):
            return child.wait(timeout=LEAVE_S)
    return -1


def main() -> None:
    """Run ``python -m harness.views.terminal.companion URL RUN_ID FD``; FD brings the output of the run's process."""
    from harness.views.terminal.app import Dashboard

    os.nice(NICE)
    url, run_id, fd = sys.argv[1:]
    store = find_reader(url)
    if store is None:
        return
    dashboard = Dashboard(store, int(run_id), Console(), beside=True)

    def listen() -> None:
        with open(int(fd), encoding="utf-8", errors="replace") as lines:  # noqa: PTH123
            for line in lines:
                dashboard.say(line.strip())

    Thread(target=listen, daemon=True).start()
    dashboard.run()
    if dashboard.orphaned:
        say(f"the process of the run died; to continue: grpo resume {store.load_run(int(run_id)).name}")


if __name__ == "__main__":
    main()
