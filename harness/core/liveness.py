"""Tell whether the process of a run lives, and how old its last update is."""

from __future__ import annotations

import os
import socket
import time
from functools import cache
from pathlib import Path

from harness.errors import InputError
from harness.types import RunRecord, Status

SUPERVISOR = "GRPO_SUPERVISOR"
"""The environment variable with the number of the process that starts a run again when it dies."""
SILENT_S = 1800.0
"""A process that has said nothing for so long is taken for hung, or on another machine for dead."""
RESTARTED = "GRPO_RESTARTED"
"""The environment variable that says that this process takes the place of one that died."""


def was_restarted() -> bool:
    """Tell whether the supervisor started this process in place of one that died."""
    return bool(os.environ.get(RESTARTED))


def is_alive_run(run: RunRecord) -> bool:
    """Tell whether the process that drives the run, or drove it last, lives."""
    return is_alive(run.pid, run.host, run.process, run.heartbeat)


def is_alive(pid: int, host: str, process: str, heartbeat: float) -> bool:
    """Tell whether a process lives, ``heartbeat`` in epoch seconds. On another machine (or in a container that is gone)
    it counts as alive until it has been silent for SILENT_S."""
    if host != socket.gethostname():
        return time.time() - heartbeat < SILENT_S
    if process:
        return process == identify(pid)
    try:  # a machine without /proc: another process may have that number by now, which cannot be seen
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return pid > 0


def identify_supervisor() -> str:
    """Identify the process that starts this one again when it dies, as ``pid boot:start``; "" without one."""
    number = os.environ.get(SUPERVISOR, "")
    return f"{number} {identify(int(number))}" if number.isdecimal() else ""


def is_supervised(supervisor: str, host: str) -> bool:
    """Tell whether the process of ``identify_supervisor`` lives, here."""
    number, _, process = supervisor.partition(" ")
    return host == socket.gethostname() and process != "" and process == identify(int(number))


def refuse_running(name: str, status: Status, pid: int, host: str, process: str, heartbeat: float) -> None:
    """Raise InputError when a live process drives the run."""
    if status in ("running", "paused") and is_alive(pid, host, process, heartbeat):
        where, until = "", ""
        if host != socket.gethostname():
            where = f" on {host}"
            until = f"; it counts as dead when its last update is {SILENT_S / 60:.0f} min old"
        raise InputError(f"{name} is still running (process {pid}{where}); grpo watch {name} shows it{until}")


def identify(pid: int) -> str:
    """Identify a process as ``boot:start``, which no other on this machine ever has; empty when dead or without
    /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # Fields 3, 4, ... come after the name in brackets, which may itself hold spaces and brackets.
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else f"{boot_id()}:{fields[18]}"


@cache
def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def boot_clock() -> float:
    """Return seconds on a clock that nobody sets and all processes of one boot share; epoch seconds without one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.time() if clock is None else time.clock_gettime(clock)


def age_of(run: RunRecord) -> float:
    """Return the seconds since the last update. Between machines and boots only the wall clock compares, which may have
    jumped."""
    same_boot = run.process.startswith(f"{boot_id()}:")
    return max(0.0, boot_clock() - run.heartbeat_boot if same_boot else time.time() - run.heartbeat)
