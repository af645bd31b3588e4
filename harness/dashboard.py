"""The live view: ``render`` is a pure function of a snapshot, so it shows any run from any terminal.

``follow`` repeats it until the run ends: a live frame on a terminal, plain lines elsewhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict
from threading import Event

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.errors import StoreUnavailable
from harness.places import age_of
from harness.snapshot import SnapshotReader
from harness.text import clean, format_duration, format_knob
from harness.types import DecisionRecord, Snapshot, StepRecord

REFRESH_S = 0.5
BLOCKS = "▁▂▃▄▅▆▇█"
SIGNAL_PARTS = (
    ("mixed", "group/mixed_rate", "green"),
    ("all-zero", "group/all_zero_rate", "red"),
    ("flat", "group/flat_rate", "yellow"),
    ("all-one", "group/all_one_rate", "blue"),
)
ENDED = ("finished", "stopped", "failed")
STATUS_STYLE = {"running": "green", "paused": "yellow", "finished": "cyan", "stopped": "cyan", "failed": "bold red"}


# ---------------------------------------------------------------- a frame


def render(snapshot: Snapshot, *, age: float, width: int = 100, height: int = 30) -> RenderableType:
    """One frame. ``age`` is the age of the heartbeat in seconds."""
    parts: list[RenderableType] = [_headline(snapshot, age), _curves(snapshot, width)]
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(width=42)
    table.add_column(ratio=1)
    table.add_row(_knobs(snapshot), _decisions(snapshot, rows=4 if width >= 100 else 7, wrap=width >= 100))
    parts.append(table)
    if height >= 30:
        parts.append(_samples(snapshot, rows=height - 25))
    return Group(*parts)


def _headline(snapshot: Snapshot, age: float) -> RenderableType:
    run = snapshot.run
    line = Text()
    line.append(f"{run.name}  ", style="bold")
    line.append(run.status, style=STATUS_STYLE[run.status])
    line.append(f"  policy {run.policy}  seed {run.seed}  step {snapshot.steps_done} of {run.budget_steps}")
    line.append(f"  {format_duration(run.wall_s)}", style="dim")
    if run.stop_reason:
        line.append(f"\n{run.stop_reason}")
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    if run.status in ("running", "paused") and run.phase:
        style = "dim" if age < 30 else "bold red"
        grid.add_row(
            run.phase,
            ProgressBar(total=max(1, run.phase_total), completed=run.phase_done),
            Text(f"{run.phase_done}/{run.phase_total}  heard {age:.0f} s ago", style=style),
        )
    return Panel(Group(line, grid), border_style="dim", padding=(0, 1))


def _curves(snapshot: Snapshot, width: int) -> RenderableType:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(ratio=1, no_wrap=True)
    room = max(10, width - 40)
    rows = (
        ("reward", "reward/mean", "{:.3f}", (0.0, None)),
        ("reward adjusted", "reward/adjusted", "{:+.3f}", (None, None)),
        ("KL to the start", "kl/mean", "{:.4f}", (0.0, None)),
        ("entropy", "entropy/mean", "{:.3f}", (0.0, None)),
        ("truncated", "completion/truncated_rate", "{:.0%}", (0.0, 1.0)),
    )
    steps = snapshot.steps
    for label, metric, form, (low, high) in rows:
        values = [step.metrics.get(metric, 0.0) for step in steps]
        shown = form.format(values[-1]) if values else "-"
        grid.add_row(label, shown, Text(compute_sparkline(values, room, low, high), style="cyan"))
    dev = snapshot.dev
    if dev:
        best = max(dev, key=lambda look: look.accuracy)
        now = dev[-1]
        spark = compute_sparkline([look.accuracy for look in dev], room, 0.0, 1.0)
        text = Text(spark, style="magenta")
        text.append(f"  [{now.ci95[0]:.2f}, {now.ci95[1]:.2f}]  best {best.accuracy:.3f} at step {best.step}", "dim")
        grid.add_row("dev accuracy", f"{now.accuracy:.3f}", text)
    if steps:
        grid.add_row("groups", "", _signal_bar(steps[-1].metrics, max(6, min(40, width - 78))))
    return Panel(grid, title="learning", title_align="left", border_style="dim", padding=(0, 1))


def _signal_bar(metrics: Mapping[str, float], width: int) -> Text:
    bar = Text()
    legend = Text("  ")
    for name, key, style in SIGNAL_PARTS:
        share = metrics[key]
        bar.append("█" * round(share * width), style=style)
        legend.append(f"{name} {share:.0%}  ", style=style)
    return bar + legend


def _knobs(snapshot: Snapshot) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    changed = {name: d.step for d in snapshot.decisions if d.refused is None for name in d.changes}
    for name, value in asdict(snapshot.knobs).items():
        mark = "pinned" if name in snapshot.pins else (f"step {changed[name]}" if name in changed else "")
        table.add_row(name, Text(format_knob(value), style="bold"), Text(mark, style="yellow" if mark else ""))
    return Panel(table, title="knobs", title_align="left", border_style="dim", padding=(0, 1))


def _decisions(snapshot: Snapshot, rows: int, wrap: bool) -> RenderableType:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(justify="right", width=5)
    table.add_column(width=10)
    table.add_column(overflow="ellipsis", no_wrap=not wrap, ratio=1)
    acted = [d for d in snapshot.decisions if d.action != "continue"][-rows:]
    for decision in reversed(acted):
        style = "red" if decision.refused else ""
        table.add_row(
            str(decision.step),
            Text(decision.source, style="dim"),
            Text(f"{format_decision(decision)}  ", style=style or "bold").append(
                decision.refused or decision.evidence, style="dim"
            ),
        )
    if not acted:
        table.add_row("", "", Text("no change yet", style="dim"))
    return Panel(table, title="decisions", title_align="left", border_style="dim", padding=(0, 1))


def _samples(snapshot: Snapshot, rows: int) -> RenderableType:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=13, no_wrap=True)
    table.add_column(width=5, no_wrap=True)
    table.add_column(overflow="ellipsis", no_wrap=True, ratio=1)
    shown = [s for s in snapshot.samples if s.kind != "fixed"] or list(snapshot.samples)
    for sample in shown[: max(2, min(rows, 8))]:
        style = "green" if sample.correct else "red"
        reward = "error" if sample.reward is None else f"{sample.reward:.2f}"
        text = Text(clean(sample.prompt)[:24] + " ", style="dim").append(clean(sample.completion), style="")
        table.add_row(Text(sample.reason, style=style), reward, text)
    if not shown:
        table.add_row(Text("none yet", style="dim"))
    return Panel(table, title="samples of the last step", title_align="left", border_style="dim", padding=(0, 1))


# ---------------------------------------------------------------- words and marks


def compute_sparkline(values: Sequence[float], width: int, low: float | None, high: float | None) -> str:
    """The newest values as blocks, the range taken from the data where ``low`` or ``high`` is None."""
    shown = [value for value in values[-width:] if not math.isnan(value)]
    if not shown:
        return ""
    bottom = min(shown) if low is None else low
    top = max(shown) if high is None else high
    span = top - bottom
    if span <= 0:
        return BLOCKS[0] * len(shown)
    return "".join(BLOCKS[min(7, max(0, int((value - bottom) / span * 8)))] for value in shown)


def format_decision(decision: DecisionRecord) -> str:
    """``max_tokens 20 -> 30``, the verb, or for a rollback both."""
    moves = ", ".join(
        f"{knob} {format_knob(change['from'])} -> {format_knob(change['to'])}"
        for knob, change in decision.changes.items()
        if decision.action != "rollback" or change["from"] != change["to"]
    )
    if decision.changes and decision.action != "rollback":
        return moves
    verb = decision.action if decision.argument is None else f"{decision.action} {decision.argument}"
    return f"{verb}, {moves}" if moves else verb


# ---------------------------------------------------------------- again and again


def follow(reader: SnapshotReader, console: Console, *, plain: bool, done: Event | None = None) -> None:
    """Show a run until ``done`` is set, or without one (from another terminal) until its record has ended.

    What cannot be read just now is shown later.
    """
    plain_lines = PlainLines()
    live = Live(console=console, auto_refresh=False, vertical_overflow="crop") if not plain else None
    with live or nullcontext():
        while True:
            last_look = done is not None and done.is_set()
            snapshot = None
            with suppress(StoreUnavailable):
                snapshot = reader.read(whole_run=True)
            if snapshot is not None and live is None:
                for line in plain_lines.update(snapshot):
                    console.print(line, markup=False, highlight=False, soft_wrap=True)
            elif snapshot is not None and live is not None:
                frame = render(snapshot, age=age_of(snapshot.run), width=console.width, height=console.height)
                live.update(frame, refresh=True)
            if last_look or (done is None and snapshot is not None and snapshot.run.status in ENDED):
                return
            if done is None:
                time.sleep(REFRESH_S)
            else:
                done.wait(REFRESH_S)


class PlainLines:
    """One line for each new step, decision, look and event, and a sign of life in long phases."""

    def __init__(self) -> None:
        self._step = 0
        self._told: set[tuple[float, int, str]] = set()
        self._looks: set[tuple[int, str]] = set()
        self._alive = ("", 0)

    def update(self, s: Snapshot) -> list[str]:
        """What is new in ``s`` since the last call, in the order of the run."""
        lines: list[tuple[float, str]] = []
        # Compared with the last look and not by their times: a clock may be set back.
        told = self._told
        self._told = {(e.at, e.step, e.text) for e in s.events} | {(d.at, d.step, d.action) for d in s.decisions}
        for event in s.events:
            if (event.at, event.step, event.text) not in told:
                lines.append((event.step + 0.2, f"{event.level}: {event.text}"))
        for d in s.decisions:
            if (d.at, d.step, d.action) not in told and d.action != "continue":
                refused = f" refused ({d.refused})" if d.refused else ""
                lines.append((d.step - 0.5, f"decision by {d.source}: {format_decision(d)}{refused} | {d.evidence}"))
        for look in s.evaluations:
            if (look.step, look.split) not in self._looks:
                self._looks.add((look.step, look.split))
                low, high = look.ci95
                lines.append((look.step + 0.1, f"{look.split} accuracy {look.accuracy:.3f} [{low:.3f}, {high:.3f}]"))
        for step in s.steps:
            if step.step > self._step:
                self._step = step.step
                lines.append((step.step, format_step(step)))
        if not lines and s.run.phase and s.run.status == "running":
            # Long phases say that they live, every tenth of the way.
            alive = (s.run.phase, 10 * s.run.phase_done // max(1, s.run.phase_total))
            if alive != self._alive and (self._step == 0 or alive[0] != self._alive[0]):
                lines.append((self._step, f"{s.run.phase} {s.run.phase_done}/{s.run.phase_total}"))
            self._alive = alive
        return [f"step {math.ceil(at - 0.25):>4}  {line}" for at, line in sorted(lines, key=lambda item: item[0])]


def format_step(step: StepRecord) -> str:
    m = step.metrics
    return (
        f"reward {m['reward/mean']:.3f} adjusted {m['reward/adjusted']:+.3f} no signal {m['group/no_signal_rate']:.0%} "
        f"truncated {m['completion/truncated_rate']:.0%} KL {m['kl/mean']:.4f} {m['time/step_s']:.2f} s"
    )
