"""Handle keys: from a key to a changed look, or to a person's action that is asked for, confirmed and queued.

``Hands`` knows no terminal and no database: it is told of keys and of the snapshot on screen, and calls ``queue``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from harness.core.actions import parse_action
from harness.core.knobs import check_value, describe
from harness.errors import HarnessError, Refused
from harness.types import Action, Snapshot
from harness.views.terminal.frame import SCREENS, Look, scroll_limit
from harness.views.terminal.panes import describe_as_typed

PAGE = 10
ASKS = {
    "s": ("set ", "knob=value ..."),
    "f": ("focus ", "easier, harder, unset or a pass rate"),
    "r": ("release ", "a pinned hyperparameter"),
    "w": ("save ", "a name"),
    "b": ("rollback ", "best or a step"),
    ":": ("", "an action, as after grpo act RUN"),
}
"""Keys that need more words: what they begin with, and what is wanted."""
VERBS = {"n": "step", "x": "sample", "Q": "stop"}
CURSOR = "▏"


@dataclass
class Hands:
    """The person at the keys. ``queue`` takes an action and its note, and returns the number of the command; it
    raises HarnessError."""

    queue: Callable[[Action, str], int]
    look: Look = field(default_factory=Look)
    playing: bool = False
    left: bool = False
    _typing: str = ""
    """What is being typed: ``action``, ``words`` to show only what holds them, ``note`` (that confirms), or nothing."""
    _text: str = ""
    _asked: Action | None = None
    _queued: int | None = None

    def press(self, key: str, s: Snapshot) -> None:
        """Handle one key, while ``s`` is on screen."""
        self.look = replace(self.look, message="")
        if self._typing:
            self._type(key, s)
        else:
            self._command(key, s)
        self._show_prompt()

    def notice(self, s: Snapshot) -> None:
        """Say when the action that was queued last has been applied."""
        command = next((c for c in s.commands if c.id == self._queued), None)
        if command is None or command.state in ("waiting", "taken"):
            return
        self._queued = None
        if command.state == "applied":
            waited = (command.applied_at or command.asked_at) - command.asked_at
            text = f"applied before step {command.step}, {max(0.0, waited):.1f} s after it was asked: {command.result}"
        else:
            text = f"{command.state}: {command.result}"
        self.look = replace(self.look, message=text)

    def play_on(self, s: Snapshot, by: int) -> None:
        """Go to the next frame of a playback, ``by`` steps later; after the last step show the present."""
        at = (self.look.at or 0) + by
        self.playing = at < s.run.last_step
        self.look = replace(self.look, at=at if self.playing else None)

    # ------------------------------------------------------------ keys that look

    def _command(self, key: str, s: Snapshot) -> None:
        look = self.look
        match key:
            case "q" | "gone":
                self.left = True
            case "?" | "h":
                self.look = replace(look, screen="overview" if look.screen == "help" else "help")
            case "tab" | "escape":
                place = SCREENS.index(look.screen) + 1 if look.screen in SCREENS else 0
                self.look = replace(look, screen=SCREENS[place % len(SCREENS)] if key == "tab" else "overview", skip=0)
            case "1" | "2" | "3" | "4":
                self.look = replace(look, screen=SCREENS[int(key) - 1], skip=0)
            case "up" | "k" | "down" | "j" | "page up" | "page down":
                by = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -PAGE}.get(key, PAGE)
                self.look = replace(look, skip=max(0, min(scroll_limit(s, look), look.skip + by)))
            case "/":
                self._typing, self._text = "words", look.words
            case " ":
                self.playing = not self.playing
                if self.playing and look.at is None:
                    self.look = replace(look, at=1)
            case "left" | "right":
                self.playing = False
                at = (s.run.last_step if look.at is None else look.at) + (1 if key == "right" else -1)
                self.look = replace(look, at=max(1, at) if at < s.run.last_step else None)
            case "home" | "end":
                self.playing = False
                self.look = replace(look, at=1 if key == "home" else None)
            case "p":
                self._confirm("resume" if s.run.status == "paused" else "pause", s)
            case _ if key in VERBS:
                self._confirm(VERBS[key], s)
            case _ if key in ASKS:
                self._typing, self._text = "action", ASKS[key][0]
                if key == "r" and len(s.pins) == 1:
                    self._text += next(iter(s.pins))

    # ------------------------------------------------------------ keys that act

    def _type(self, key: str, s: Snapshot) -> None:
        match key:
            case "escape" | "gone":
                self._typing = ""
                self.left = key == "gone"
            case "backspace":
                self._text = self._text[:-1]
            case "clear":
                self._text = ""
            case "enter" if self._typing == "words":
                self.look = replace(self.look, words=self._text, skip=0)
                self._typing = ""
            case "enter" if self._typing == "action":
                self._confirm(self._text, s)
            case "enter":
                self._queue()
            case _ if len(key) == 1 and key.isprintable():
                self._text += key

    def _confirm(self, words: str, s: Snapshot) -> None:
        """Ask whether to queue an action. What can be known to be wrong is said at once; the run checks again when it
        applies the action."""
        try:
            action = parse_action(words.split())
            for knob, value in action.changes.items():
                check_value(knob, value, s.bounds)
            if action.kind in ("resume", "step") and s.run.status != "paused":
                raise Refused("the run is not paused: p pauses it")
        except HarnessError as error:
            self.look = replace(self.look, message=str(error))
            return
        self._asked, self._typing, self._text = action, "note", ""

    def _queue(self) -> None:
        if self._asked is None:
            return
        self._typing = ""
        try:
            self._queued = self.queue(self._asked, self._text.strip())
            message = f"queued as command {self._queued}: {describe(self._asked)}, for the next step"
        except HarnessError as error:
            message = f"not queued: {error}"
        self.look = replace(self.look, message=message)

    def _show_prompt(self) -> None:
        prompt, typed = "", f"{self._text}{CURSOR}"
        if self._typing == "words":
            prompt = f"show only what holds: {typed}  (Enter, Esc)"
        elif self._typing == "action":
            hints = [hint for start, hint in ASKS.values() if self._text.startswith(start)]  # the last fits any
            wrong = f"  {self.look.message}" if self.look.message else ""  # in sight until it is put right
            prompt = f"{typed}  ({hints[0]}; Esc drops it){wrong}"
        elif self._typing and self._asked is not None:
            asked = describe_as_typed(self._asked)
            prompt = f"{asked}?  Enter queues it, Esc drops it; a note, if you like: {typed}"
        self.look = replace(self.look, prompt=prompt)
