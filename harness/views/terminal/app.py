"""The dashboard on a terminal: draws a run again and again, and hands keys on. It only reads the record; what a person
asks for is a command in the store, as from ``grpo act``. So it may be left or killed at any time.

A look takes at most SHARE of a core: the longer one takes, the longer is the pause after it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from rich.live import Live

from harness.core.liveness import age_of, is_alive_run
from harness.errors import InputError, StoreUnavailable
from harness.store.history import read_back
from harness.store.reader import RunReader
from harness.store.snapshot import SnapshotReader
from harness.types import Action, RunRecord, Snapshot
from harness.views.console import Console
from harness.views.groups import StageRecord, group_of, load_group
from harness.views.terminal.controls import Hands
from harness.views.terminal.frame import Frame, Look, render
from harness.views.terminal.keyboard import Keyboard
from harness.views.terminal.panes import Machine

REFRESH_S = 0.5
SHARE = 0.015
PLAY_S = 0.25
"""Between two frames of a playback."""
PLAYED_S = 30.0
"""How long the playback of a whole run takes, at most."""


def draws(console: Console) -> bool:
    """Tell whether the dashboard can be drawn there; if not, a run is shown in plain lines."""
    return console.is_terminal and not console.is_dumb_terminal and console.encoding.lower().startswith("utf")


def in_foreground(fd: int) -> bool:
    """Tell whether this process is in the foreground of its terminal; in the background it must not touch it."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False


class Dashboard:
    """One terminal that shows one run. ``beside`` is set for the one that belongs to ``grpo run``: it goes when the
    run has ended or died, and Ctrl-C is the run's to answer. Of a ``group`` it shows the newest run, and goes on to the
    next one."""

    def __init__(
        self, store: RunReader, run_id: int, console: Console, *, beside: bool = False, group: str = ""
    ) -> None:
        self.store = store
        self.group = group
        self.stages: tuple[StageRecord, ...] = ()
        self.reader = SnapshotReader(store, run_id)
        self.run_id = run_id
        self.console = console
        self.beside = beside
        self.hands = Hands(self._queue)
        self._process: psutil.Process | None = None
        self._parent = os.getppid()

    @property
    def orphaned(self) -> bool:
        """Tell whether the process that started this one died: then the shell has the terminal."""
        return os.getppid() != self._parent

    def run(self) -> None:
        """Draw until the person leaves, then restore the terminal."""
        fd = sys.stdin.fileno() if sys.stdin.isatty() else -1
        keyboard = Keyboard(fd) if fd >= 0 and in_foreground(fd) else None
        with self._signals(keyboard):
            while self._draw(keyboard):
                os.kill(os.getpid(), signal.SIGSTOP)  # Ctrl-Z, with the terminal given back
                while not in_foreground(fd):
                    if self.hands.left:  # told to end, or the terminal is gone
                        return
                    time.sleep(REFRESH_S)

    def say(self, text: str) -> None:
        """Show a line, from the next frame on until a key is pressed; from any thread."""
        if text:
            self.hands.look = replace(self.hands.look, message=text)

    def _draw(self, keyboard: Keyboard | None) -> bool:
        """Draw frames until the person leaves (False) or suspends it (True)."""
        with keyboard or nullcontext(), Live(console=self.console, screen=True, auto_refresh=False) as live:
            seen: Snapshot | None = None
            due = 0.0
            while not self.hands.left:
                started, spent = time.monotonic(), time.process_time()
                if started >= due:
                    seen = self._read() or seen
                if seen is not None:
                    shown = self._shown(seen)
                    live.update(self._frame(shown, keyboard is not None), refresh=True)
                    if self.beside and (seen.run.ended or self.orphaned):
                        return False
                if started >= due:
                    due = started + max(REFRESH_S, (time.process_time() - spent) / SHARE)
                wait = PLAY_S if self.hands.playing else due - time.monotonic()
                keys = self._next_keys(keyboard, wait)
                if "suspend" in keys:
                    return True
                if seen is None:
                    continue
                for key in keys:
                    if key != "redraw":
                        self.hands.press(key, seen)
                if not keys and self.hands.playing:
                    self.hands.play_on(seen, max(1, round(seen.run.last_step * PLAY_S / PLAYED_S)))
        return False

    def _next_keys(self, keyboard: Keyboard | None, wait: float) -> list[str]:
        """Return all that were pressed since; without any the first that comes, or none after ``wait`` seconds."""
        if keyboard is None:
            time.sleep(max(0.0, wait))
            return []
        keys, key = [], keyboard.get(wait)
        while key is not None:
            keys.append(key)
            key = keyboard.get(0)
        return keys

    def _read(self) -> Snapshot | None:
        """Read the run; None when it cannot be read just now."""
        with suppress(StoreUnavailable):
            snapshot = self.reader.read(whole_run=True)
            if self.group and snapshot.run.ended and (newest := self.store.match_run(self.group)).id != self.run_id:
                self.run_id = newest.id
                self.reader = SnapshotReader(self.store, self.run_id)
                snapshot = self.reader.read(whole_run=True)
            if group := group_of(snapshot.run.name):
                self.stages = load_group(self.store, group)
            self.hands.notice(snapshot)
            return snapshot
        return None

    def _shown(self, seen: Snapshot) -> Snapshot:
        at = self.hands.look.at
        if at is None:
            return seen
        with suppress(StoreUnavailable):
            return read_back(self.store, seen, at)
        return seen

    def _frame(self, snapshot: Snapshot, keys: bool) -> Frame:
        width, height = self.console.size
        run, alive = snapshot.run, is_alive_run(snapshot.run)
        look = self.hands.look if keys else Look(keys=False)
        machine = self._machine(run) if alive and not run.ended else None
        return render(
            snapshot,
            age=age_of(run),
            width=width,
            height=height,
            alive=alive,
            look=look,
            machine=machine,
            stages=self.stages,
        )

    def _machine(self, run: RunRecord) -> Machine | None:
        """Measure what the run takes; None when it is driven on another machine."""
        try:
            if run.host != os.uname().nodename:
                return None
            if self._process is None or self._process.pid != run.pid:
                self._process = psutil.Process(run.pid)
            cpu = self._process.cpu_percent() / 100
            memory = self._process.memory_info().rss
            disk = shutil.disk_usage(Path(run.folder).parent).free
        except (psutil.Error, OSError):
            return None
        free = psutil.virtual_memory().available
        return Machine(cpu, memory, os.getloadavg()[0], os.cpu_count() or 1, free, disk)

    def _queue(self, action: Action, note: str) -> int:
        from harness.store.opening import find_store

        store = find_store(self.store.url)
        if store is None:
            raise InputError("the database is no longer there")
        with closing(store):
            return store.add_command(self.run_id, action, note=note)

    @contextmanager
    def _signals(self, keyboard: Keyboard | None) -> Iterator[None]:
        """Handle signals: a resize redraws, an end of the terminal or of us gives it back, in the middle of no frame.
        Ctrl-C leaves, or belongs to the run beside us."""

        def tell(key: str) -> None:
            if keyboard is not None:
                keyboard.put(key)

        def leave(_number: int, _frame: FrameType | None) -> None:
            self.hands.left = True
            tell("redraw")

        def interrupt(_number: int, _frame: FrameType | None) -> None:
            self.say("Ctrl-C: the run finishes this step, then saves; once more to abandon the step")
            tell("redraw")

        handlers: dict[signal.Signals, Any] = {
            signal.SIGWINCH: lambda *_: tell("redraw"),
            signal.SIGTERM: leave,
            signal.SIGHUP: leave,
            signal.SIGTTIN: signal.SIG_IGN,  # in the background these would stop the run beside us as well
            signal.SIGTTOU: signal.SIG_IGN,
            **({signal.SIGTSTP: lambda *_: tell("suspend")} if keyboard is not None else {}),
            signal.SIGINT: interrupt if self.beside else leave,
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
