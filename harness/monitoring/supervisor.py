"""Drive a run away from the shell, and start it again when its process dies or hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from harness.core.liveness import RESTARTED, SILENT_S, SUPERVISOR, identify, is_alive_run
from harness.core.paths import database_path
from harness.core.processes import python_words
from harness.errors import HarnessError
from harness.store.opening import find_store
from harness.store.reader import find_reader
from harness.types import RunRecord
from harness.views.console import say
from harness.views.groups import group_of

RESTARTS = 5
"""How often a run, or a group, is started again without having got further than before."""
PAUSES_S = (1, 2, 4, 8, 16)
POLL_S = 1.0
INTERRUPTED = 130
"""Exit code, as a shell has it after Ctrl-C."""


def grpo(words: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start this program once more, as a process of its own."""
    return subprocess.Popen([*python_words("harness"), *words], **options)


# ---------------------------------------------------------------- started again when it dies


@dataclass(eq=False)
class Supervisor:
    """Runs ``grpo first`` and, whenever that process dies or hangs, ``grpo again``, until the run ``name`` ends by
    itself, or the group of that name.

    Only a death by a signal (the kernel's out-of-memory kill, a crash in native code) or a hang is answered: what the
    program reports itself, such as a broken reward, would happen again.
    """

    url: str
    name: str
    first: Sequence[str]
    again: Sequence[str]
    silent_s: float = SILENT_S
    child: subprocess.Popen[bytes] | None = field(default=None, init=False)
    ending: Event = field(default_factory=Event, init=False)

    def run(self) -> int:
        """Drive the run. Returns the exit code of the last process, or 1 when restarts did not help."""
        words, furthest, tries = self.first, -1, 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._pass_on)
        while True:
            kills_before = count_memory_kills()
            # A process group of its own, so that Ctrl-C reaches it once: from here.
            told = {SUPERVISOR: str(os.getpid()), **({RESTARTED: "1"} if words is self.again else {})}
            self.child = grpo(words, process_group=0, env=os.environ | told)
            hung = self._wait()
            code, record = self.child.returncode, find_record(self.url, self.name)
            progress, undone = self._look()
            # Exit code 1 with a run that still counts as running: it could not even begin, e.g. for a lock.
            unfinished = code == 1 and undone
            if self.ending.is_set():
                return code if code >= 0 else 128 - code
            if code >= 0 and not unfinished:
                return code
            death = describe_death(-code, count_memory_kills() - kills_before) if code < 0 else "could not continue"
            reason = hung or death
            tries = 1 if progress > furthest else tries + 1
            furthest = max(furthest, progress)
            if record is not None and record.pid == self.child.pid:  # it came as far as driving the run
                words = self.again
            if tries > RESTARTS:
                step = record.last_step if record else 0
                self._give_up(record, f"{reason}, {tries} times without getting beyond step {step}")
                if record is None or record.name == self.name or record.ended or not self._is_ours(record):
                    return 1
                tries = 1  # of a group, what does not come from this stage goes on
            self._note(record, "warning", f"the process {reason}; started again ({tries} of at most {RESTARTS})")
            if self.ending.wait(PAUSES_S[tries - 1]):
                return INTERRUPTED

    def _wait(self) -> str:
        """Wait until the process has ended. Return why it was killed, if it was killed from here."""
        assert self.child is not None
        last, since = 0.0, time.monotonic()
        while True:
            with suppress(subprocess.TimeoutExpired):
                self.child.wait(POLL_S)
                return ""
            record = find_record(self.url, self.name)
            # On this process's own clock: the time a machine sleeps is nobody's silence. After its end a run still
            # writes its report, without a heartbeat.
            if record is None or record.ended or record.heartbeat != last or not is_alive_run(record):
                last, since = record.heartbeat if record else 0.0, time.monotonic()
            elif time.monotonic() - since > self.silent_s:
                reason = f"was silent for {time.monotonic() - since:.0f} s in phase {record.phase or 'none'}"
                if self._note(record, "warning", f"the process {reason}: killing it"):
                    self.child.kill()
                    self.child.wait()
                    return reason + " and was killed"
                since = time.monotonic()  # the record cannot be written, which the run itself waits for too

    def _look(self) -> tuple[int, bool]:
        """Return how far the run, or the group, has come, as a number that grows with every step, end and file of
        scores; and whether anything that was driven from here is not at its end."""
        runs: list[RunRecord] = []
        with suppress(HarnessError):
            reader = find_reader(self.url)
            if reader is not None:
                with closing(reader):
                    runs = reader.list_runs()
        runs = [run for run in runs if run.name == self.name or group_of(run.name) == self.name]
        scores = database_path(self.url).absolute().parent / self.name / "scores"
        came = sum(run.last_step + run.ended for run in runs) + len(list(scores.glob("*.csv")))
        return came, any(not run.ended and self._is_ours(run) for run in runs)

    def _is_ours(self, run: RunRecord) -> bool:
        """Tell whether a process of this supervisor drove the run last."""
        return run.name == self.name or run.supervisor == f"{os.getpid()} {identify(os.getpid())}"

    def _pass_on(self, number: int, _frame: Any) -> None:
        self.ending.set()
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(number)

    def _note(self, record: RunRecord | None, level: str, text: str) -> bool:
        """Say it and put it on record. Return whether that could be written."""
        say(f"grpo: {text}", to_stderr=True)
        try:
            store = find_store(self.url)
            if record is not None and store is not None:
                store.record_event(record.id, record.last_step, level, text)
                store.close()
        except HarnessError:
            return False
        return True

    def _give_up(self, record: RunRecord | None, why: str) -> None:
        self._note(record, "critical", f"the process {why}: not started again")
        with suppress(HarnessError):
            store = find_store(self.url)
            if record is not None and store is not None and not record.ended:
                store.end_run(record.id, "failed", f"the process {why}", record.wall_s)
                store.close()


def find_record(url: str, name: str) -> RunRecord | None:
    """Read the record of a run, of a group that of the one worked on last; None before there is one, or while it cannot
    be read."""
    try:
        reader = find_reader(url)
        if reader is None:
            return None
        with closing(reader):
            return reader.find_run(name)
    except HarnessError:
        return None


def describe_death(number: int, memory_kills: int) -> str:
    """Describe a death: ``was killed by SIGKILL ...``, with the kernel's reason where it gives one."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number == signal.SIGKILL and memory_kills > 0:
        return f"was killed by {name}: the kernel ran out of memory (lower trainer.micro_batch or knobs.max_tokens)"
    return f"was killed by {name}"


def count_memory_kills() -> int:
    """Count processes that the kernel has killed for want of memory: in this container, else on this machine."""
    for path in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        with suppress(OSError, ValueError, KeyError):
            counts = dict(line.split(" ") for line in Path(path).read_text(encoding="utf-8").splitlines())
            return int(counts["oom_kill"])
    return 0


# ---------------------------------------------------------------- away from the terminal


def start_detached(url: str, name: str, words: Sequence[str], output: Path) -> tuple[int | None, int, str]:
    """Start ``grpo words`` in a session of its own, its output in the file ``output``, and wait until the run goes.

    Returns the number of the process that drives it, exit code 0 and ""; or None, the exit code and the output of a
    process that ended before.
    """
    before = _pid_of(url, name)
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("ab") as file:
        process = grpo(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    while process.poll() is None:
        pid = _pid_of(url, name)
        if pid not in (None, before):
            return pid, 0, ""
        time.sleep(POLL_S / 10)
    text = output.read_text(encoding="utf-8", errors="replace").strip()
    with suppress(OSError):
        output.unlink()
    return None, process.returncode, text


def _pid_of(url: str, name: str) -> int | None:
    record = find_record(url, name)
    return record.pid if record is not None and is_alive_run(record) else None


def own_words(*, without: Sequence[str]) -> list[str]:
    """Return the words this program was called with, except the flags ``without``."""
    return [word for word in sys.argv[1:] if word not in without]
