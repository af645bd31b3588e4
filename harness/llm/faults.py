"""Why there is no reply. Every text is one line without secrets, so it may be kept."""

from __future__ import annotations


class Fault(Exception):
    """There is no reply. ``billed``: the request may have been processed all the same, and then it costs."""

    def __init__(self, message: str, *, billed: bool = False) -> None:
        super().__init__(message)
        self.billed = billed


class Passing(Fault):
    """One that may be over at the next attempt, ``after_s`` seconds from now if the server said when."""

    def __init__(self, message: str, *, billed: bool = False, after_s: float | None = None) -> None:
        super().__init__(message, billed=billed)
        self.after_s = after_s


class Unreachable(Passing):
    """Nothing was sent, since there was no connection."""


class Barred(Fault):
    """One that all other questions would meet too: a refused key, no money, no such model."""


class Interrupted(Fault):
    """Nobody waits for the answer any more."""
