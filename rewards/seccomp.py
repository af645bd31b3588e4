"""The system calls that a judged program may make, as a seccomp filter in the kernel's own BPF.

An allow list: a pure computation with threads, sleep and pipes needs the calls below and nothing else. It has no way to
open, stat or delete a file, to reach a network, to start, signal or trace a process, to map executable memory, to
raise a limit, or to make kernel objects that outlive it. What is not listed fails with EPERM, so that a library falls
back or raises; a call of another architecture (32 bit, x32), whose numbers mean other things, kills the program.

Numbers are those of asm/unistd_64.h (x86-64) and asm-generic/unistd.h (aarch64), the format that of linux/filter.h.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass

CALLS = {
    # name: (x86-64, aarch64), the frequent ones first; None where an architecture does not have it
    "read": (0, 63),
    "write": (1, 64),
    "futex": (202, 98),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "clock_gettime": (228, 113),
    "close": (3, 57),
    "lseek": (8, 62),
    "pread64": (17, 67),
    "readv": (19, 65),
    "writev": (20, 66),
    "mremap": (25, 216),
    "getrandom": (318, 278),
    # threads
    "exit": (60, 93),
    "exit_group": (231, 94),
    "gettid": (186, 178),
    "rseq": (334, 293),
    "sched_getaffinity": (204, 123),
    "sched_yield": (24, 124),
    "set_robust_list": (273, 99),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    # time
    "alarm": (37, None),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "getitimer": (36, 102),
    "gettimeofday": (96, 169),
    "nanosleep": (35, 101),
    "pause": (34, None),
    "setitimer": (38, 103),
    "time": (201, None),
    "times": (100, 153),
    # who and where am I
    "getegid": (108, 177),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getrusage": (98, 165),
    "getuid": (102, 174),
    "sysinfo": (99, 179),
    "uname": (63, 160),
    # pipes and waiting on them (asyncio)
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_pwait": (281, 22),
    "epoll_wait": (232, None),
    "eventfd2": (290, 19),
    "getsockopt": (55, 209),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "poll": (7, None),
    "ppoll": (271, 73),
    "pselect6": (270, 72),
    "recvfrom": (45, 207),
    "select": (23, None),
    "sendto": (44, 206),
    "shutdown": (48, 210),
}


@dataclass(frozen=True, slots=True)
class Check:
    """A condition on an argument: ``argument & mask`` is ``value``, or with ``equal`` false is anything else."""

    argument: int
    mask: int
    value: int = 0
    equal: bool = True


ANY_INT = 0xFFFF_FFFF
CLONE_THREAD, THREAD_FLAGS = 0x0001_0000, 0x007D_0F00
PROT_EXEC, MAP_STACK = 0x4, 0x2_0000
F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC = 0, 1, 2, 3, 4, 1030
TCGETS, FIONREAD, FIONBIO, FIOCLEX = 0x5401, 0x541B, 0x5421, 0x5451
MADV_DONTNEED, MADV_FREE = 4, 8
AF_UNIX, SOCK_STREAM, SOCK_OPTIONS = 1, 1, 0x8_0800

Rule = tuple[int | None, int | None, tuple[Check, ...]]
RULES: list[Rule] = [
    # (x86-64, aarch64, checks that must all hold); several rules of one call are alternatives
    # Code cannot be made at run time, and a thread's stack has at least 1 MiB, so RLIMIT_AS bounds threads too.
    (9, 222, (Check(2, PROT_EXEC), Check(3, MAP_STACK))),  # mmap
    (9, 222, (Check(2, PROT_EXEC), Check(1, 0xFFF0_0000, equal=False))),
    (10, 226, (Check(2, PROT_EXEC),)),  # mprotect
    (28, 233, (Check(2, ANY_INT, MADV_DONTNEED),)),  # madvise
    (28, 233, (Check(2, ANY_INT, MADV_FREE),)),
    # A new thread of this process with the flags of a C library, never a process or a namespace.
    (56, 220, (Check(0, ANY_INT & ~THREAD_FLAGS), Check(0, CLONE_THREAD, CLONE_THREAD))),  # clone
    # Not F_SETOWN and F_SETSIG, which can have the kernel send a signal to any process.
    *[(72, 25, (Check(1, ANY_INT, c),)) for c in (F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC)],
    *[(16, 29, (Check(1, ANY_INT, request),)) for request in (TCGETS, FIONREAD, FIONBIO, FIOCLEX)],  # ioctl
    # prlimit64 to look at one's own limits: no new values, no other process.
    (302, 261, (Check(0, ANY_INT), Check(2, 0xFFFF_FFFF_FFFF_FFFF))),
    (97, 163, ()),  # getrlimit
    # A connected pair of stream sockets, which can reach nobody else.
    (53, 199, (Check(0, ANY_INT, AF_UNIX), Check(1, ANY_INT & ~SOCK_OPTIONS, SOCK_STREAM))),
]
SOCKET = (41, 198)
CLONE3 = 435
"""On both: takes its flags from memory, which a filter cannot read. A C library that is told ENOSYS uses clone."""

MACHINES = {"x86_64": (0, 0xC000_003E), "aarch64": (1, 0xC000_00B7)}
"""Column of the tables and AUDIT_ARCH value."""

LOAD, JUMP, JUMP_EQUAL, JUMP_AT_LEAST, AND, RETURN = 0x20, 0x05, 0x15, 0x35, 0x54, 0x06
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF_0000, 0x0005_0000, 0x8000_0000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data; arguments are 64 bit, little endian here."""
X32 = 0x4000_0000


def build_filter() -> bytes:
    """The filter as an array of struct sock_filter; empty on an architecture that it is not written for."""
    if platform.machine() not in MACHINES:
        return b""
    column, architecture = MACHINES[platform.machine()]
    code = [
        _instruction(LOAD, ARCHITECTURE),
        _instruction(JUMP_EQUAL, architecture, 1, 0),
        _instruction(RETURN, KILL_PROCESS),
        _instruction(LOAD, NUMBER),
        _instruction(JUMP_AT_LEAST, X32, 0, 1),
        _instruction(RETURN, KILL_PROCESS),
    ]
    for numbers in CALLS.values():
        if (number := numbers[column]) is not None:
            code += [_instruction(JUMP_EQUAL, number, 0, 1), _instruction(RETURN, ALLOW)]
    for x86_64, aarch64, checks in RULES:
        if (number := (x86_64, aarch64)[column]) is not None:
            body = _check_all(checks)
            code += [_instruction(JUMP_EQUAL, number, 0, len(body)), *body]
    code += [
        _instruction(JUMP_EQUAL, CLONE3, 0, 1),
        _instruction(RETURN, ERRNO | errno.ENOSYS),
        _instruction(RETURN, ERRNO | errno.EPERM),
    ]
    return b"".join(code)


def build_offline_filter(families: Sequence[int]) -> bytes:
    """A filter that allows everything but sockets of other address families than these; empty where there is none."""
    if platform.machine() not in MACHINES:
        return b""
    column, architecture = MACHINES[platform.machine()]
    code = [
        _instruction(LOAD, ARCHITECTURE),
        _instruction(JUMP_EQUAL, architecture, 1, 0),
        _instruction(RETURN, ERRNO | errno.EPERM),
        _instruction(LOAD, NUMBER),
        _instruction(JUMP_EQUAL, SOCKET[column], 0, len(families) + 2),
        _instruction(LOAD, ARGUMENTS),
        *[_instruction(JUMP_EQUAL, family, len(families) - n, 0) for n, family in enumerate(families)],
        _instruction(RETURN, ERRNO | errno.EACCES),
        _instruction(RETURN, ALLOW),
    ]
    return b"".join(code)


def _check_all(checks: tuple[Check, ...]) -> list[bytes]:
    """Instructions that allow when all checks hold; else they load the number again and fall through."""
    body = [_instruction(RETURN, ALLOW), _instruction(LOAD, NUMBER)]
    for check in reversed(checks):
        for half in (1, 0):  # the accumulator has 32 bits
            mask, value = (check.mask >> 32 * half) & ANY_INT, (check.value >> 32 * half) & ANY_INT
            if mask:
                miss = len(body) - 1  # to the last instruction, which loads the number
                hits = (0, miss) if check.equal else (miss, 0)
                body = [
                    _instruction(LOAD, ARGUMENTS + 8 * check.argument + 4 * half),
                    _instruction(AND, mask),
                    _instruction(JUMP_EQUAL, value, *hits),
                    *body,
                ]
    return body


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
