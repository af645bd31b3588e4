"""A terminal for tests: the real program behind a pseudo-terminal, its bytes made into a screen."""

from __future__ import annotations

import os
import shlex
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pyte

SLOW_S = 240.0
"""A start of torch beside other work may take half a minute."""


class Terminal:
    """``grpo words`` in ``folder``, on a screen of its own; with ``shell`` as the first command of a shell."""

    def __init__(
        self, folder: Path, *words: str, width: int = 120, height: int = 40, shell: bool = False, **environment: str
    ) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.Stream(self.screen)
        command = [sys.executable, "-m", "harness", *words]
        if shell:
            command = ["sh", "-c", f"{shlex.join(command)}; sleep 600"]
        self.process = pexpect.spawn(
            command[0],
            command[1:],
            cwd=str(folder),
            dimensions=(height, width),
            env=inherited | {"TERM": "xterm-256color", "USER": "ann"} | environment,
        )
        self.sent = b""
        """Every byte that the program has written."""

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def last_words(self) -> str:
        """What was written after the screen was given back. The screen may show it broken over two lines."""
        return self.sent.rpartition(b"\x1b[?1049l")[2].decode("utf-8", "replace")

    def read(self, seconds: float = 0.2) -> bool:
        """What the program has written meanwhile onto the screen; False after its end."""
        try:
            data = self.process.read_nonblocking(1 << 16, timeout=seconds)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.sent += data
        self._stream.feed(data.decode("utf-8", "replace"))
        return True

    def wait_for(self, wanted: str | Callable[[], Any], *, seconds: float = SLOW_S) -> None:
        """Until the screen shows a text, or something is so."""
        until = time.monotonic() + seconds
        while not (wanted in self.text if isinstance(wanted, str) else wanted()):
            alive = self.read()
            if not alive or time.monotonic() > until:
                shown = wanted in self.text if isinstance(wanted, str) else wanted()
                assert shown, f"{wanted!r} never came ({'ended' if not alive else f'{seconds} s'})\n{self.text}"
                return

    def wait_for_end(self, *, seconds: float = SLOW_S) -> int:
        """The exit code."""
        until = time.monotonic() + seconds
        while self.read():
            assert time.monotonic() < until, self.text
        self.process.wait()
        return int(self.process.exitstatus if self.process.exitstatus is not None else -1)

    def press(self, keys: str) -> None:
        self.process.send(keys)

    def resize(self, width: int, height: int) -> None:
        self.screen.resize(height, width)
        self.process.setwinsize(height, width)

    @property
    def is_cooked(self) -> bool:
        """Whether lines are typed with echo again, as a shell wants it."""
        local = termios.tcgetattr(self.process.child_fd)[3]
        return bool(local & termios.ECHO) and bool(local & termios.ICANON)

    @property
    def is_restored(self) -> bool:
        """Cooked, on the ordinary screen, with a cursor."""
        ordinary = self.sent.rfind(b"\x1b[?1049l") > self.sent.rfind(b"\x1b[?1049h")
        cursor = self.sent.rfind(b"\x1b[?25h") > self.sent.rfind(b"\x1b[?25l")
        return self.is_cooked and ordinary and cursor

    def close(self) -> None:
        self.process.close(force=True)
