"""This process without a network, for a reward that is looked at before it is trusted.

Python's own sockets are refused with a word to whoever asks (``sys.addaudithook``), and each attempt is noted. On Linux
a seccomp filter refuses sockets of the internet to everything else: libraries in C, and processes that are started.
Sockets within the machine (AF_UNIX) stay.
"""

from __future__ import annotations

import ctypes
import errno
import sys
from pathlib import Path
from typing import Any

from rewards import seccomp

EVENTS = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
}
"""Audit events and which of their arguments names the place."""
MOST_NOTES = 20
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOCAL = (1, 16)
"""AF_UNIX and AF_NETLINK, which tells what interfaces there are."""


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def deny_network(notes: Path) -> None:
    """From here on, in this process and its children. Attempts that Python sees become lines of the file ``notes``."""
    noted: set[str] = set()

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS:
            return
        place = arguments[EVENTS[event]]
        if event.startswith("socket.get"):
            text = f"look up {place}"
        elif isinstance(place, tuple):
            text = f"connect to {place[0]}:{place[1]}"
        else:  # a path, or a connected pair
            return
        if text not in noted and len(noted) < MOST_NOTES:
            noted.add(text)
            with open(notes, "a", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123
                file.write(text + "\n")
        raise PermissionError(errno.EACCES, f"preflight has no network: an attempt to {text}")

    sys.addaudithook(refuse)
    code = seccomp.build_offline_filter(LOCAL)
    if sys.platform == "linux" and code:
        libc = ctypes.CDLL(None, use_errno=True)
        program = _Program(len(code) // 8, code)
        zero = ctypes.c_ulong(0)
        libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero)
        libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(program), zero, zero)
