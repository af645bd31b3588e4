"""Which isolation this machine offers, proved by attempts to break it, and the sandboxes made with it.

``SANDBOXES`` starts nothing before the first program. A tier is trusted when rewards/escapes.py, run inside, got out
nowhere. Below tier B nothing is run (Refused) unless the environment has GRPO_UNSAFE_CODE=1: an environment reaches the
processes in which rewards run, and is recorded with the run.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rewards.sandbox import Lost, Sandbox, Tier, Unfit

UNSAFE = "GRPO_UNSAFE_CODE"
GOT_OUT = "got out"
MEND = (
    "use Linux 5.13 or newer with Landlock on x86-64 or aarch64 (in a container: a seccomp profile that allows it), "
    f"or run the programs all the same with --unsafe-code ({UNSAFE}=1) where nothing can be lost"
)


class Refused(Exception):
    """This machine cannot confine a program well enough. The text says what is missing and the mend."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What was found. ``attempts`` says what each attempt to get out gave, ``refusal`` why no program is run here.

    ``options`` make a Sandbox of this kind.
    """

    tier: Tier
    landlock: int = 0
    attempts: Mapping[str, str] = field(default_factory=dict)
    refusal: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def escapes(self) -> list[str]:
        return [attempt for attempt, outcome in self.attempts.items() if outcome == GOT_OUT]


def probe_sandbox(*, unsafe: bool | None = None) -> Isolation:
    """The best isolation that holds here; takes about a second. Without ``unsafe`` the environment decides."""
    unsafe = os.environ.get(UNSAFE) == "1" if unsafe is None else unsafe
    if sys.platform != "linux":
        return Isolation(
            "none", refusal=f"programs are run on Linux only, this is {platform.system()}; use a container"
        )
    bwrap = shutil.which("bwrap")
    ways: list[dict[str, Any]] = [
        *([{"bwrap": bwrap}] if bwrap else []),
        {},
        *([{"filtered": False}] if unsafe else []),
    ]
    found, problems = [], []
    for options in ways:
        try:
            isolation = _examine(options)
        except Unfit as error:
            return Isolation("none", refusal=f"no program can be run: {error}")
        except Lost as error:
            problems.append(str(error))
            continue
        if isolation.escapes:
            problems.append(f"an attempt to {isolation.escapes[0]} got out")
        elif isolation.tier in ("C", "none"):
            problems.append("the kernel has no Landlock" if isolation.tier == "C" else "it has no seccomp")
        else:
            return isolation
        found.append(isolation)
    if unsafe and found:
        return found[0]
    return replace(found[0] if found else Isolation("none"), refusal=f"no safe sandbox: {'; '.join(problems)}; {MEND}")


def _examine(options: Mapping[str, Any]) -> Isolation:
    """A sandbox of this kind and what the attempts gave. Raises Lost when they cannot be made in it."""
    with ExitStack() as stack:
        sandbox = Sandbox(**options)
        stack.callback(sandbox.end)
        if sandbox.tier == "none":
            return Isolation("none", sandbox.landlock, options=options)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sandbox-probe-")))
        folder.chmod(0o777)
        kept, attack = folder / "kept", folder / "attack"
        kept.touch()
        kept.chmod(0o666)
        name = f"sandbox-probe-{secrets.token_hex(8)}"
        try:
            port = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        except OSError:  # this process has no network either (rewards/offline.py)
            port = 9
        local = socket.socket(socket.AF_UNIX)
        stack.enter_context(local).bind("\0" + name)
        local.listen()
        job = {
            "program": Path(__file__).with_name("escapes.py").read_text(encoding="utf-8"),
            "setup": "",
            "entry_point": "attempt_all",
            "token": "",
            "cases": [[[os.getpid(), str(folder), port, name], {}]],
        }
        outcome = sandbox.run(job)
        try:
            attempts = dict(json.loads(outcome.answers)["value"]["$dict"])
        except (ValueError, KeyError):
            raise Lost(f"the attempts to get out did not come to an end: {outcome}") from None
        if attack.exists():
            attempts["write a file"] = GOT_OUT
        if not kept.exists():
            attempts["delete a file"] = GOT_OUT
        return Isolation(sandbox.tier, sandbox.landlock, attempts, options=options)


class Sandboxes:
    """Sandboxes for any number of threads, at most one for each core; made when needed, kept for the next program."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start afresh, in a forked process: the parent's sandboxes are the parent's."""
        for sandbox in getattr(self, "_idle", []):
            sandbox.forget()
        self._idle: list[Sandbox] = []
        self._slots = threading.BoundedSemaphore(len(os.sched_getaffinity(0)))
        self._probing = threading.Lock()
        self._isolation: Isolation | None = None

    @property
    def isolation(self) -> Isolation:
        """As probed before the first program."""
        with self._probing:
            found = self._isolation or probe_sandbox()
            if found.attempts or not found.refusal:  # else nothing came up, which may pass
                self._isolation = found
            return found

    @contextmanager
    def one(self) -> Iterator[Sandbox]:
        """A sandbox, once one is free; thrown away when the block raises. Raises Refused or Lost."""
        if self.isolation.refusal:
            raise Refused(self.isolation.refusal)
        with self._slots:
            try:
                sandbox = self._idle.pop()
            except IndexError:
                sandbox = Sandbox(**self.isolation.options)
            try:
                yield sandbox
            except BaseException:
                sandbox.end()
                raise
            self._idle.append(sandbox)


SANDBOXES = Sandboxes()
os.register_at_fork(after_in_child=SANDBOXES.forget)
