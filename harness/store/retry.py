"""What a run does while its database is locked or its disk is full: wait, say so, and go on where it was."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from threading import Event
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential
from tenacity.nap import sleep_using_event

from harness.errors import StoreUnavailable

log = logging.getLogger("grpo")
REMINDER_S = 60.0
R = TypeVar("R")


@dataclass
class Patience:
    """Waits until ``interrupted`` is set (Ctrl-C). ``say`` tells people now, ``note`` puts it in the run's record,
    ``beat`` is called before each attempt: who waits is not hung."""

    interrupted: Event
    _: KW_ONLY
    say: Callable[[str], None]
    note: Callable[[str], None]
    beat: Callable[[], None] = lambda: None
    warned: set[str] = field(default_factory=set)

    def outlast(self, fault: StoreUnavailable, attempt: Callable[[], R]) -> R:
        """``attempt`` once more, at growing intervals, until it works. Raises StoreUnavailable when interrupted."""
        if self.interrupted.is_set():
            raise fault
        started = reminded = time.monotonic()
        self._tell(f"{fault}; trying again until it works, Ctrl-C ends the run")

        def again() -> R:
            if self.interrupted.is_set():
                raise fault  # without one more attempt, which can take the seconds that SQLite waits for a lock
            self.beat()
            return attempt()

        def remind(_: object) -> None:
            nonlocal reminded
            if time.monotonic() - reminded >= REMINDER_S:
                reminded = time.monotonic()
                self._tell(f"still waiting after {reminded - started:.0f} s: {fault.cause}")

        result = Retrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_exponential(multiplier=0.5, max=30),
            sleep=sleep_using_event(self.interrupted),
            stop=stop_when_event_set(self.interrupted),
            before_sleep=remind,
            reraise=True,
        )(again)
        waited = time.monotonic() - started
        self._tell(f"{fault.what} could be written again after {waited:.0f} s")
        self.note(f"waited {waited:.0f} s: {fault.cause}")
        return result

    def warn(self, text: str) -> None:
        """Tell once what is wrong and does not stop the work yet."""
        if text not in self.warned:
            self.warned.add(text)
            self._tell(text)

    def _tell(self, text: str) -> None:
        log.warning("%s", text)
        self.say(text)
