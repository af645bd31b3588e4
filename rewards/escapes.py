"""Attempts to get out of the sandbox, run inside it before it is trusted: every one must fail.

The text of this file is a judged program like any other (rewards/isolation.py); its function tries everything and
tells what happened. On a machine without the sandbox every attempt would do something, but nothing harmful.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """A function of the C library. Raises OSError when it fails."""
    if getattr(libc, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def tcp(port: int) -> None:
    socket.socket().connect(("127.0.0.1", port))


def udp() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"out", ("127.0.0.1", 9))


def abstract_socket(name: str) -> None:
    socket.socket(socket.AF_UNIX).connect("\0" + name)


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def spawn() -> None:
    os.posix_spawn("/bin/true", ["true"], {})


def look_for_descriptors() -> None:
    """One that was left open: 0 to 2 are the streams, 3 is the channel."""
    for number in range(4, 64):
        try:
            os.dup(number)
        except OSError:
            continue
        return
    raise OSError("no open file descriptor but its own")


def attempt_all(host: int, folder: str, port: int, name: str) -> dict[str, str]:
    """What each attempt gave: ``got out``, or the error. ``host`` is the process to attack, ``folder`` holds a file
    ``kept``, somebody listens on ``port`` and on the abstract socket ``name``."""
    attempts: dict[str, Callable[[], object]] = {
        "read a file": lambda: open("/etc/passwd").read(),
        "list a folder": lambda: os.listdir("/"),
        "look whether a file exists": lambda: os.stat("/etc/passwd"),
        "read the environment of the harness": lambda: open(f"/proc/{host}/environ", "rb").read(1),
        "open the memory of the harness": lambda: open(f"/proc/{host}/mem", "r+b"),
        "write a file": lambda: Path(folder, "attack").write_text("out"),
        "delete a file": lambda: Path(folder, "kept").unlink(),
        "use an inherited file": look_for_descriptors,
        "make a file in memory": lambda: os.memfd_create("attack"),
        "make shared memory": lambda: call("shmget", 0x5EED, 4096, 0o1600),
        "connect over TCP": lambda: tcp(port),
        "send over UDP": udp,
        "connect to a local socket": lambda: abstract_socket(name),
        "signal the harness": lambda: os.kill(host, 0),
        "signal everybody": lambda: os.kill(-1, 0),
        "trace the harness": lambda: call("ptrace", 0x4206, host, None, None),  # PTRACE_SEIZE, which stops nothing
        "look at the limits of the harness": lambda: resource.prlimit(host, resource.RLIMIT_CPU),
        "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8)),
        "map executable memory": lambda: mmap.mmap(-1, 4096, prot=7),
        "enter a namespace of its own": lambda: call("unshare", 0x1000_0000),
        "get a descriptor of the harness": lambda: os.pidfd_open(host),
        "start io_uring": lambda: call("syscall", 425, 1, ctypes.create_string_buffer(120)),
        "open by openat2": lambda: call("syscall", 437, -100, b"/etc/passwd", ctypes.create_string_buffer(24), 24),
        "make a file system": lambda: call("syscall", 430, b"tmpfs", 0),  # fsopen
        "fork": fork,
        "start a program": spawn,
        "become a program": lambda: os.execv("/bin/false", ["false"]),
    }
    outcome = {}
    for attempt, function in attempts.items():
        try:
            function()
            outcome[attempt] = "got out"
        except BaseException as error:
            outcome[attempt] = f"{type(error).__name__}: {error}"
    return outcome
