"""Write the heartbeat of a run: its phase and progress, and an event when it falls silent."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

from harness.types import Store

log = logging.getLogger("grpo")
BEAT_S = 0.5
"""Between two signs of life on record, at least."""
SILENT_S = 300.0
"""Without any sign from the work itself, after which it is said that the run is silent."""


@dataclass
class Pulse:
    """``harness.types.Progress`` into the record of a run. Within its context a thread watches for silence.

    ``wall_s`` tells how long the run was driven, ``note`` takes a text into its events.
    """

    store: Store
    run_id: int
    _: KW_ONLY
    wall_s: Callable[[], float]
    note: Callable[[str], None]
    silent_s: float = SILENT_S

    def __post_init__(self) -> None:
        self._heard = self._written = time.monotonic()
        self._doing = "starting"
        self._watched = threading.get_ident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pulse", daemon=True)

    def __call__(self, phase: str, done: int, total: int) -> None:
        self._heard = time.monotonic()
        self._doing = f"{phase} ({done} of {total})"
        if self._heard - self._written >= BEAT_S:
            self._written = self._heard
            self.store.beat(self.run_id, phase, done, total, self.wall_s())

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=1)

    def _watch(self) -> None:
        silent_since = None
        while not self._over.wait(min(1.0, self.silent_s / 4)):
            heard = self._heard
            if silent_since is not None and heard > silent_since:
                self.note(f"it reported again after {heard - silent_since:.0f} s")
                silent_since = None
            elif silent_since is None and time.monotonic() - heard > self.silent_s:
                silent_since = heard
                frame = sys._current_frames().get(self._watched)
                log.warning("silent; the work stands at\n%s", "".join(traceback.format_stack(frame)))
                self.note(
                    f"silent for {time.monotonic() - heard:.0f} s while {self._doing}; where it stands is in log.txt"
                )
