"""Read keys of a terminal, one by one: a thread reads them, and the terminal is given back as it was on any exit."""

from __future__ import annotations

import atexit
import codecs
import os
import queue
import re
import select
import termios
import threading
import tty
from contextlib import suppress
from typing import Self

ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end"}
"""By the last letter of what is sent, which begins as the mode of the terminal has it."""
NAMES = {f"\x1b{mode}{letter}": name for mode in "[O" for letter, name in ARROWS.items()} | {
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[1~": "home",
    "\x1b[4~": "end",
    "\r": "enter",
    "\n": "enter",
    "\t": "tab",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x15": "clear",
    "\x1b": "escape",
}
"""What terminals send for the keys that are no characters."""
KEY = re.compile(r"\x1b\[[0-9;]*[@-~]|\x1bO.|.", re.DOTALL)
BEGUN = re.compile(r"\x1b(\[[0-9;]*|O)?")
REST_S = 0.05
"""How long the rest of an escape sequence may take; an escape alone is the key."""


class Keyboard:
    """Within its context, keys come without Enter and are not shown. Ctrl-C and Ctrl-Z still reach the program."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._keys: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._before = termios.tcgetattr(fd)

    def __enter__(self) -> Self:
        atexit.register(self.give_back)
        tty.setcbreak(self.fd, termios.TCSADRAIN)  # what was typed ahead is kept
        self._wake, self._woken = os.pipe()
        self._thread = threading.Thread(target=self._read, name="keys", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._woken, b"x")
        self._thread.join(timeout=1)
        os.close(self._wake)
        os.close(self._woken)
        self.give_back()
        atexit.unregister(self.give_back)

    def give_back(self) -> None:
        """Restore the terminal, if it is still there."""
        with suppress(termios.error):
            termios.tcsetattr(self.fd, termios.TCSADRAIN, self._before)

    def get(self, timeout: float) -> str | None:
        """Return the next key: a character, or a name such as ``up`` or ``enter``; None after ``timeout`` seconds. What
        ``put`` gave comes the same way."""
        try:
            return self._keys.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return None

    def put(self, name: str) -> None:
        """Put a key as if it was pressed; may be called from a signal handler."""
        self._keys.put(name)

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        text = ""
        while True:
            ready, _, _ = select.select([self.fd, self._wake], [], [], REST_S if text else None)
            if self._wake in ready:
                return None
            if ready:
                data = b""
                with suppress(OSError):
                    data = os.read(self.fd, 1024)
                if not data:  # the terminal has gone
                    return self.put("gone")
                text += decoder.decode(data)
            keys, text = split_keys(text, complete=not ready)
            for key in keys:
                self.put(key)


def split_keys(text: str, *, complete: bool) -> tuple[list[str], str]:
    """Split ``text`` into the keys it spells, and what may be the beginning of one more unless ``complete``. Sequences
    that are none of ours, and other control characters, are dropped."""
    keys = []
    while text and (complete or not BEGUN.fullmatch(text)):
        found = KEY.match(text)
        part = found.group() if found else text
        if part in NAMES or (len(part) == 1 and part.isprintable()):
            keys.append(NAMES.get(part, part))
        text = text[len(part) :]
    return keys, text
