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

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from rewards.seccomp import build_filter

CPU_LIMIT_S = 3
"""Per program, whatever the number of its cases. Time on the processor, so a busy machine fails no program."""
WALL_LIMIT_S = 30.0
"""For a program that sleeps; wide, since a program that waits for a processor takes long too."""
MEMORY_LIMIT = 5 << 29
"""Bytes of address space: 2.5 GiB, so that a program may print 1 GB at once."""
OUTPUT_LIMIT = 1 << 24
"""Bytes of standard output that are kept of a script."""
MESSAGE_LIMIT = 1 << 25
"""Bytes of one message from a program. The zygote sends none as large."""
START_LIMIT_S = 60.0
EXIT_LIMIT_S = 10.0
"""For a program that has closed its channel to be gone."""

Tier = Literal["A", "B", "C", "none"]
START, END, REPORT, LENGTH = struct.Struct("=IIQQ"), struct.Struct("=d"), struct.Struct("=id?Q"), struct.Struct("=I")
"""As in rewards/zygote.py, which says what they hold."""


class Lost(Exception):
    """The sandbox broke: somebody killed it, or the machine is out of something. Another one may do better."""


class Ended(Exception):
    """The program has ended, or was ended, before it gave its answer. ``reason`` is a reason code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Sandbox:
    """One zygote. Runs one program at a time; must not be used by two threads at once."""

    def __init__(self, *, bwrap: str | None = None, filtered: bool = True) -> None:
        """Start it. ``bwrap`` is the path of that program. Raises Lost when it does not come up."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # -P and -S: nothing of the harness can be imported; a fixed hash seed: sets have the same order everywhere.
        command = [sys.executable, "-s", "-S", "-P", "-B", str(Path(__file__).with_name("zygote.py"))]
        environment = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "MALLOC_ARENA_MAX": "1"}
        environment |= {n: os.environ[n] for n in ("LD_LIBRARY_PATH", "PYTHONHOME") if n in os.environ}
        if bwrap:
            command = [bwrap, "--unshare-all", "--cap-drop", "ALL", "--ro-bind", "/", "/", "--dev", "/dev", *command]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [*command, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the harness
                )
        except OSError as error:
            ours.close()
            raise Lost(f"the sandbox cannot be started: {error}") from None
        self._control = ours
        self._stop = weakref.finalize(self, _stop, self._process, ours)
        try:
            ours.settimeout(START_LIMIT_S)
            ours.send(build_filter() if filtered else b"")
            hello = json.loads(ours.recv(1 << 16))
        except (OSError, ValueError):
            self.stop()
            raise Lost("the sandbox did not come up") from None
        filtered = filtered and bool(build_filter())
        self.landlock = int(hello["landlock"])
        """The kernel's version of Landlock, 0 for none."""
        self.tier: Tier = "none" if not filtered else "C" if not self.landlock else "A" if bwrap else "B"

    @property
    def process_id(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """End it and what runs in it."""
        self._stop()

    def forget(self) -> None:
        """Let go of it in a process that was forked, and leave it to the parent."""
        self._stop.detach()
        self._control.close()
        self._process.returncode = 0  # or it would be waited for

    @contextmanager
    def run(self, job: dict[str, Any], *, cpu_s: int = CPU_LIMIT_S, output: int | None = None) -> Iterator[Program]:
        """A program that runs as ``job`` says (rewards/zygote.py) until the end of the with block, at the latest.

        ``output`` is a file descriptor for its standard output. Raises Lost.
        """
        ours, theirs = socket.socketpair()
        limits = START.pack(cpu_s, int(WALL_LIMIT_S), MEMORY_LIMIT, OUTPUT_LIMIT)
        try:
            with theirs:
                socket.send_fds(self._control, [limits], [theirs.fileno(), *([] if output is None else [output])])
        except OSError:
            ours.close()
            raise Lost("the sandbox was killed") from None
        with ours:
            program = Program(ours, self._control, cpu_s)
            try:
                program.send(job)
                yield program
            finally:
                program.end()


class Program:
    """One program: messages to it, messages from it, and how it ended."""

    def __init__(self, channel: socket.socket, control: socket.socket, cpu_s: int) -> None:
        self._channel, self._control, self._cpu_limit = channel, control, cpu_s
        self._until = time.monotonic() + WALL_LIMIT_S
        self._ended = False
        self.cpu_s = 0.0
        """Seconds on the processor, once it has ended."""

    def send(self, message: dict[str, Any]) -> None:
        """Raises Ended or Lost."""
        data = json.dumps(message).encode()
        with self._channel_errors():
            self._channel.sendall(LENGTH.pack(len(data)) + data)

    def receive(self) -> bytes:
        """One message as the program sent it: JSON of any content, or none. Raises Ended or Lost."""
        (size,) = LENGTH.unpack(self._read(LENGTH.size))
        if size > MESSAGE_LIMIT:
            raise Ended("forged")
        return self._read(size)

    def end(self, patience: float = 0.0) -> str:
        """Give it ``patience`` seconds, then kill it. Returns why it ended, empty for exit status 0. Raises Lost."""
        if self._ended:
            return ""
        self._ended = True
        try:
            self._control.settimeout(patience + EXIT_LIMIT_S)
            self._control.send(END.pack(patience))
            status, self.cpu_s, killed, memory = REPORT.unpack(self._control.recv(REPORT.size))
        except (OSError, struct.error):
            raise Lost("the sandbox was killed") from None
        if os.WIFEXITED(status):
            return "crashed" if os.WEXITSTATUS(status) else ""
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU or (number == signal.SIGKILL and self.cpu_s >= self._cpu_limit):
            return "timeout"
        if number == signal.SIGKILL and not killed:
            if memory > MEMORY_LIMIT // 8:  # the kernel ran out and took the largest
                return "memory"
            raise Lost("somebody killed a program in the sandbox")
        return "crashed"

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            with self._channel_errors():
                part = self._channel.recv(min(size - len(data), 1 << 20))
                if not part:
                    raise ConnectionResetError
            data += part
        return bytes(data)

    @contextmanager
    def _channel_errors(self) -> Iterator[None]:
        left = self._until - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self._channel.settimeout(left)
            yield
        except TimeoutError:
            self.end()
            raise Ended("timeout") from None
        except OSError:
            raise Ended(self.end(EXIT_LIMIT_S)) from None


def _stop(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    control.close()
    process.kill()  # its children go with it
    with suppress(subprocess.TimeoutExpired):
        process.wait(5.0)
