"""A frame of the dashboard: ``render`` is a pure function of a snapshot and of what the person chose to see, so it
shows any run from any terminal, live or played back. ``harness.views.terminal.app`` draws one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import rich.console
from rich.console import ConsoleOptions, RenderResult
from rich.text import Text

from harness.types import Snapshot
from harness.views.groups import StageRecord
from harness.views.terminal.curves import metrics, over_time
from harness.views.terminal.drawing import Lines, beside, cut, fit
from harness.views.terminal.lists import decisions, feed, samples
from harness.views.terminal.panes import (
    Machine,
    budget,
    checkpoints,
    draw_stages,
    experiment,
    headline,
    knobs,
    pool,
    user_actions,
)

SCREENS = ("overview", "decisions", "samples", "run")
HELP = """\
LOOK                                   ACT (each asks first, and takes a note)
1 overview    2 decisions              p  pause, or continue
3 samples     4 run and checkpoints    n  next: one step while paused
Tab   the next screen                  s  set a hyperparameter and pin it
↑ ↓   scroll   PgUp PgDn  by pages     f  target pass rate: easier, harder, 0.5
/     show only what holds a word      r  release a pinned hyperparameter
← →   a step back, a step forward      x  samples of the fixed prompts
Space plays the run back   End  now    w  write a checkpoint
q     leave; the run continues         b  back to a checkpoint: best, or a step
?     this help                        Q  stop the run; it saves first
                                       :  any action, as after grpo act RUN

An action is queued and applied before the next step, in the order asked; "user actions" shows when
that was. A hyperparameter that you set is pinned: no policy changes it until you release it.

The letters below the curve are changes: r rules, l LLM, m manual (a person), e experiment,
↩ rollback; green helped, red hurt, yellow not judged. Only mixed groups have signal. Adjusted
reward is the reward minus what was expected of the prompts, so harder prompts do not lower it.
KL, entropy, truncated (cut at max_tokens), length, grad(ient norm): yellow !, red ‼ beyond limits.
"""
NARROW, WIDE, TALL = 70, 100, 30


@dataclass(frozen=True)
class Look:
    """What the person at the keys chose to see. ``prompt`` is what is being typed, ``message`` the answer to the last
    key; ``at`` is the step that is played back, None for now."""

    screen: str = "overview"
    skip: int = 0
    words: str = ""
    at: int | None = None
    prompt: str = ""
    message: str = ""
    keys: bool = True


NOW = Look()


@dataclass(frozen=True)
class Frame:
    """Lines that fit the terminal; rich has nothing left to wrap."""

    lines: tuple[Text, ...]

    @property
    def plain(self) -> str:
        return "\n".join(line.plain for line in self.lines)

    def __rich_console__(self, console: rich.console.Console, options: ConsoleOptions) -> RenderResult:
        for i, line in enumerate(self.lines):
            yield from line.render(console, end="\n" if i + 1 < len(self.lines) else "")


def render(
    snapshot: Snapshot,
    *,
    age: float,
    width: int = 100,
    height: int = 30,
    alive: bool = True,
    look: Look = NOW,
    machine: Machine | None = None,
    now: float | None = None,
    stages: Sequence[StageRecord] = (),
) -> Frame:
    """Render one frame, at most ``height`` lines. ``age`` is that of the heartbeat in seconds, ``now`` epoch
    seconds; ``stages`` those of the run's group."""
    now = time.time() if now is None else now
    lines = headline(snapshot, age, alive, width, look.at)
    if stages:
        lines.append(draw_stages(stages, snapshot.run.id))
    room = height - len(lines) - 1
    match look.screen:
        case "help":
            lines += [Text().append(line) for line in ["", *HELP.splitlines()]]
        case "decisions":
            lines += decisions(snapshot, width, room, words=look.words, skip=look.skip, full=True)
        case "samples":
            lines += samples(snapshot, width, room, words=look.words, skip=look.skip, full=True)
        case "run":
            lines += _run(snapshot, width, room, now, machine)
        case _:
            lines += _overview(snapshot, width, room, look, now, machine)
    return Frame(
        tuple(cut(line, width) for line in (*fit(lines, height - 1), _footer(look, width, ended=snapshot.run.ended)))
    )


def scroll_limit(snapshot: Snapshot, look: Look) -> int:
    """Return the number of rows that the screen can be scrolled."""
    if look.screen == "samples":
        return max(0, len({sample.prompt for sample in snapshot.samples}) - 1)
    return max(0, len(feed(snapshot, look.words)) - 1)


def _overview(s: Snapshot, width: int, room: int, look: Look, now: float, machine: Machine | None) -> Lines:
    """Curves on the left, the state on the right, below them decisions, user actions and samples."""
    if width < NARROW:
        return over_time(s, width, 4, 2) + metrics(s, width) + decisions(s, width, 6, words=look.words, skip=look.skip)
    tall = room >= TALL - 6
    right = 60 if width >= 160 else 50 if width >= WIDE else 31
    left = width - right - 3
    signal_rows = 8 if room >= 45 else 4 if tall else 2
    plot_rows = room - 35 if room >= 45 else 8 if room >= 32 else 6 if tall else 4
    curves = over_time(s, left, plot_rows, signal_rows) + metrics(s, left)
    state = knobs(s, right) + experiment(s, right)
    for pane in (pool(s, right), budget(s, right, machine)):
        state += pane if tall or len(state) + len(pane) <= len(curves) else []
    if room >= 45:
        state += checkpoints(s, right, 5)
    upper = beside(curves, fit(state, len(curves)), left, width)
    rest = room - len(upper)
    words, skip = look.words, look.skip
    if rest >= 10:
        hand = user_actions(s, width, 2 if rest < 14 else 4, now)
        decided = decisions(s, width, (rest - len(hand)) // 2, words=words, skip=skip)
        return upper + decided + hand + samples(s, width, rest - len(hand) - len(decided), words=words)
    if any(c.state in ("waiting", "taken") for c in s.commands) and rest >= 4:
        return upper + decisions(s, width, rest - 2, words=words, skip=skip) + user_actions(s, width, 2, now)
    return upper + decisions(s, width, rest, words=words, skip=skip)


def _run(s: Snapshot, width: int, room: int, now: float, machine: Machine | None) -> Lines:
    half = (width - 3) // 2
    other = width - half - 3
    left = knobs(s, half) + experiment(s, half)
    right = budget(s, other, machine) + pool(s, other) + checkpoints(s, other, 8)
    upper = beside(left, right, half, width)[: max(0, room - 4)]
    return upper + user_actions(s, width, max(2, room - len(upper)), now)


def _footer(look: Look, width: int, *, ended: bool) -> Text:
    if look.prompt:
        return Text().append(look.prompt, "bold")
    if look.message:
        return Text().append(look.message, "bold yellow")
    if not look.keys:
        return Text()
    places = "  ".join(f"{i} {name}" for i, name in enumerate(SCREENS, 1))
    acts = "p pause  s set  f pass rate  b back  Q stop  Space play back" if width >= WIDE else "p s f b Q act"
    return Text().append(f"{places}  {'Space play back' if ended else acts}  ? keys  q leave", "dim")
