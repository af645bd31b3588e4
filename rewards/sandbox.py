"""Runs programs that nobody has read: each in a process of its own that can compute and nothing else.

A *sandbox* is a zygote (rewards/zygote.py), a fresh interpreter that has imported the standard library and forks for
every program, so a program starts in a millisecond and leaves nothing to the next. What confines it, in layers:

    seccomp     an allow list of system calls (rewards/seccomp.py): no file, network, process, signal
    Landlock    the same denied again, by the kernel's access control
    rlimits     CPU seconds, memory, output, open files; a wide limit of wall-clock time backs the CPU limit
    a user      of its own, where the sandbox is started by root
    bwrap       own mount, process, network and user namespaces, where it is installed and works

    tier A: all.  tier B: without bwrap.  tier C: without Landlock.  none: without seccomp.

rewards/isolation.py finds the best tier and makes it prove itself.
"""

from __future__ import annotations

import errno
import marshal
import math
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rewards.seccomp import build_filter

CPU_LIMIT_S = 5
"""Per program, whatever the number of its cases. Time on the processor, so a busy machine fails no program; on one that
shares its cores or its memory bandwidth the same work may take up to three times as much."""
WALL_LIMIT_S = 10
"""For a program that sleeps. One that waits for a processor gets it back at PATIENCE for each second it had on one."""
LEAST_WALL_S = 2
PATIENCE = 60
"""As in rewards/zygote.py, which says why."""
MEMORY_LIMIT = 5 << 29
"""Bytes of address space: 2.5 GiB, so that a program may print 1 GB at once."""
FILE_LIMIT = 1 << 24
"""Bytes of all answers of a program, and of a script's output."""
ANSWER_LIMIT_S = 600.0
"""For a zygote to start or to report, well beyond what the other limits add up to."""
GRACE_S = 5.0

Tier = Literal["A", "B", "C", "none"]
HELLO, START, REPORT = struct.Struct("=i"), struct.Struct("=IIQ"), struct.Struct("=i?dQ")
"""As in rewards/zygote.py, which says what they hold."""
TEXT = 200
"""Bytes behind a message, at most, which name what failed."""

LIMITS = (
    (resource.RLIMIT_AS, "v", 1024, MEMORY_LIMIT, "kB of address space", "unlimited"),
    (resource.RLIMIT_FSIZE, "f", 1024, FILE_LIMIT, "kB of a file", "unlimited"),
    (resource.RLIMIT_NOFILE, "n", 1, 64, "open files", "1024"),
    (resource.RLIMIT_CPU, "t", 1, CPU_LIMIT_S + 1, "seconds on the processor", "unlimited"),
)
"""Of this process: the letter of ``ulimit``, its unit, what a program is given of it (as in rewards/zygote.py), its
name, and what to raise it to."""
NO_SECCOMP = "the kernel offers no seccomp"
FIXES = {
    errno.EMFILE: "raise `ulimit -n`, too many files are open",
    errno.EFBIG: "raise `ulimit -f`",
    errno.EAGAIN: "raise `ulimit -u`, or the limit of processes of the container",
}
"""By the number of an error, whichever call it comes from."""


class Lost(Exception):
    """The sandbox broke: somebody killed it, or the machine is out of something. Another one may do better."""


class Unfit(Lost):
    """No program can be run here, however little it is confined. The text says why and the fix."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended and what it wrote, whatever that is worth.

    ``reason`` is empty for exit status 0, else crashed, timeout or memory. ``cpu_s`` are seconds on the processor,
    ``idle_s`` those that count towards the limit of wall-clock time.
    """

    reason: str
    answers: bytes
    output: bytes
    cpu_s: float
    idle_s: float


class Sandbox:
    """One zygote. Runs one program at a time, for one thread at a time."""

    def __init__(self, *, bwrap: str | None = None, filtered: bool = True) -> None:
        """Start it, with bwrap from that path. Raises Lost when it does not come up."""
        _check_limits()
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise _explain("socketpair", _number(error)) from None
        # -S and -P: nothing but the standard library. A fixed hash seed: sets have the same order in every sandbox.
        command = [sys.executable, "-s", "-S", "-P", "-B", str(Path(__file__).with_name("zygote.py"))]
        environment = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "MALLOC_ARENA_MAX": "1"}
        environment |= {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PYTHONHOME") if name in os.environ}
        if bwrap:
            command = [bwrap, "--unshare-all", "--cap-drop", "ALL", "--ro-bind", "/", "/", "--dev", "/dev", *command]
        try:
            with theirs:
                process = subprocess.Popen(
                    [*command, str(theirs.fileno()), str(FILE_LIMIT)],
                    pass_fds=[theirs.fileno()],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the harness
                )
        except (OSError, MemoryError) as error:
            ours.close()
            raise _explain("the start of a process", _number(error)) from None
        self.process_id = process.pid
        self._control = ours
        self._end = weakref.finalize(self, _end, process, ours)
        code = build_filter() if filtered else b""
        try:
            ours.settimeout(ANSWER_LIMIT_S)
            ours.send(code or b"\0")
            hello = ours.recv(HELLO.size + TEXT)
            (self.landlock,) = HELLO.unpack(hello[: HELLO.size])
        except (OSError, struct.error):
            self.end()
            raise Lost("the sandbox did not come up") from None
        if failure := hello[HELLO.size :]:
            self.end()
            raise _explain(*_split(failure))
        self.tier: Tier = "none" if not code else "C" if not self.landlock else "A" if bwrap else "B"

    def end(self) -> None:
        """End it and what runs in it."""
        self._end()

    def forget(self) -> None:
        """In a forked process: let go of it, it is the parent's."""
        if detached := self._end.detach():
            detached[2][0].returncode = 0  # or subprocess would complain that nobody waited for it
        self._control.close()

    def run(
        self, job: dict[str, Any], *, cpu_s: int = CPU_LIMIT_S, idled_s: float = 0.0, script: bool = False
    ) -> Outcome:
        """Run what a job says (rewards/zygote.py). Raises Lost, after which another sandbox is needed.

        ``idled_s`` of the limit of wall-clock time were used up by earlier processes of the same program; LEAST_WALL_S
        are left to each all the same.
        """
        wall_s = math.ceil(max(min(LEAST_WALL_S, WALL_LIMIT_S), WALL_LIMIT_S - idled_s))
        started = time.monotonic()
        with ExitStack() as stack:
            try:
                files = [stack.enter_context(_memory_file(name)) for name in ("job", "answers", "output")[: 2 + script]]
                _write(files[0], marshal.dumps(job))
            except (OSError, MemoryError) as error:
                raise _explain("a file in memory", _number(error)) from None
            limits = START.pack(cpu_s, wall_s, MEMORY_LIMIT)
            try:
                socket.send_fds(self._control, [limits], files)
                report = self._control.recv(REPORT.size + TEXT)
                status, overran, spent, memory = REPORT.unpack(report[: REPORT.size])
            except (OSError, struct.error):
                raise Lost("the sandbox was killed") from None
            if failure := report[REPORT.size :]:
                raise _explain(*_split(failure))
            reason = _reason(status, overran=overran or spent >= cpu_s, large=memory > MEMORY_LIMIT // 8)
            idle = max(0.0, time.monotonic() - started - PATIENCE * spent)
            try:
                return Outcome(reason, _read(files[1]), _read(files[2]) if script else b"", spent, idle)
            except MemoryError:
                raise _explain("the answers of a program", errno.ENOMEM) from None


def _check_limits() -> None:
    """Raise Unfit when this process may not give a program what it is given."""
    for limit, letter, unit, needed, what, enough in LIMITS:
        allowed = resource.getrlimit(limit)[1]  # a soft limit can be raised to the hard one
        if allowed != resource.RLIM_INFINITY and allowed < needed:
            raise Unfit(
                f"ulimit -{letter} is {allowed // unit:,} {what} and a program is given {needed // unit:,}: "
                f"raise it with `ulimit -{letter} {enough}`, or in the job or container"
            )


def _explain(what: str, number: int) -> Lost:
    """Say that ``what`` failed with the error of that number, and the fix where one is known."""
    if what == "seccomp":
        return Lost(NO_SECCOMP)
    why = os.strerror(number) if number else "unknown error"
    if number in FIXES:
        return Unfit(f"{what} failed ({why}): {FIXES[number]}")
    if number in (errno.ENOSYS, errno.EPERM):
        return Unfit(
            f"{what} is missing here ({why}): use Linux 5.13 or newer, in a container with a seccomp profile that "
            "allows it"
        )
    return Lost(f"{what} failed in the sandbox ({why})")


def _split(failure: bytes) -> tuple[str, int]:
    """The name and the number of an error, as the zygote tells them."""
    what, _, number = failure.decode(errors="replace").rpartition(" ")
    return what, int(number) if number.isdecimal() else 0


def _number(error: OSError | MemoryError) -> int:
    return errno.ENOMEM if isinstance(error, MemoryError) else error.errno or 0


def _reason(status: int, *, overran: bool, large: bool) -> str:
    """Why a program ended, from its wait status. Raises Lost when it was not its own doing."""
    if os.WIFEXITED(status):
        return "crashed" if os.WEXITSTATUS(status) else ""
    number = os.WTERMSIG(status)
    if number in (signal.SIGXCPU, signal.SIGPROF) or (number == signal.SIGKILL and overran):
        return "timeout"
    if number == signal.SIGKILL:  # which it cannot send itself
        if large:  # the kernel was out of memory and took the largest
            return "memory"
        raise Lost("somebody killed a program in the sandbox")
    return "crashed"


@contextmanager
def _memory_file(name: str) -> Iterator[int]:
    file = os.memfd_create(name)
    try:
        yield file
    finally:
        os.close(file)


def _write(file: int, data: bytes) -> None:
    with open(file, "wb", closefd=False) as stream:
        stream.write(data)


def _read(file: int) -> bytes:
    """The content. The program is dead, so this does not change any more."""
    parts, at = [], 0
    while part := os.pread(file, FILE_LIMIT + 1 - at, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _end(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    control.close()  # at which it ends its program and itself; bwrap ends after it
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
