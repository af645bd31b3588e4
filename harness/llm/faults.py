"""Why there is no reply. Every text is one line without secrets, so it may be kept."""

from __future__ import annotations

import math

from tenacity import RetryCallState, wait_exponential

LONGEST_WAIT_S = 30.0
"""Between two attempts, whatever the server asks for."""


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


def wait_s(state: RetryCallState) -> float:
    """Wait as long as the server asked for, else 1, 2, 4 ... seconds. No chance in it: a run seeds all it does."""
    fault = state.outcome.exception() if state.outcome else None
    asked = fault.after_s if isinstance(fault, Passing) else None
    return min(LONGEST_WAIT_S, wait_exponential()(state) if asked is None else asked)


def read_retry_after(header: str) -> float | None:
    """Read the seconds of a Retry-After header; a date or nonsense is None."""
    try:
        seconds = float(header)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
