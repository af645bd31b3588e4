"""Draw metrics over time, each a pure function of a snapshot: all on the same columns of steps, so that
what stands above each other happened together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from rich.text import Text

from harness.types import Snapshot
from harness.views.terminal.drawing import (
    VERDICT_STYLE,
    Lines,
    Point,
    Steps,
    cut,
    draw_plot,
    draw_sparkline,
    draw_stack,
    paint,
    title,
)

SIGNAL_PARTS = (
    ("mixed", "group/mixed_rate", "█", "green"),
    ("all-zero", "group/all_zero_rate", "░", "red"),
    ("zero-variance", "group/flat_rate", "▒", "yellow"),
    ("all-one", "group/all_one_rate", "▓", "blue"),
    ("errored", "completion/errored_rate", "!", "magenta"),
)
SOURCE_MARK = {"rules": "r", "llm": "l", "manual": "m", "experiment": "e", "agent": "a", "fixed": "f"}
GUTTER, GUTTER_WITH_LIMITS = 16, 25
"""Cells left of everything that is drawn over time, for names and values."""
OF_SFT = ("entropy/mean", "completion/tokens_mean")
"""What a run of kind sft has beside its loss and its gradient."""
LOW_ENTROPY, NO_ENTROPY = 0.25, 0.1
"""Shares of the first entropy under which there is little, and hardly any, left to explore with."""
HIGH_GRADIENT, WILD_GRADIENT = 3.0, 10.0
"""Times the usual gradient norm."""


def over_time(s: Snapshot, width: int, plot_rows: int, signal_rows: int) -> Lines:
    """Draw adjusted reward and dev on one axis, changes, signal and the other metrics, all on the same columns."""
    gutter = _gutter(width)
    room = width - gutter
    steps = Steps(1, max(2, s.steps_done))
    wide = gutter == GUTTER_WITH_LIMITS
    legend = "●┤ dev with interval, ★ best" if wide else "● dev  ★ best"
    if s.run.kind == "grpo":
        legend += "  ⠒⠒ adjusted reward" if wide else "  ⠒ adjusted"
    lines = [title("learning", width, legend)]
    lines += _learning(s, steps, gutter, room, plot_rows)
    lines.append(Text().append(f"{'changes':<{gutter}}", "dim").append_text(_changes(s, steps, room)))
    signal = _signal(s, steps, room)
    if s.run.kind == "grpo":
        lines.append(_signal_legend(s, width))
    for i, row in enumerate(draw_stack(signal, signal_rows) if s.run.kind == "grpo" else ()):
        label = "100%" if i == 0 else "0%" if i == signal_rows - 1 else ""
        lines.append(Text().append(f"{label:>{gutter - 1}} ", "dim").append_text(row))
    last = f"step {s.steps_done}"
    lines.append(Text().append(" " * gutter + "step 1" + f"{last:>{max(1, room - 6)}}", "dim"))
    return lines


def _gutter(width: int) -> int:
    return GUTTER_WITH_LIMITS if width >= 64 else min(GUTTER, width - 2)


def _learning(s: Snapshot, steps: Steps, gutter: int, room: int, rows: int) -> Lines:
    adjusted = steps.columns(s.buckets.get("reward/adjusted", ()), 2 * room)
    looks = s.dev
    real = [value for value in adjusted if math.isfinite(value)]
    low = min([*real, *(look.ci95[0] for look in looks), 0.0])
    high = max([*real, *(look.ci95[1] for look in looks), 0.1])
    best = max(looks, key=lambda look: look.rank, default=None)
    points = [
        Point(steps.column(look.step, room), look.ci95[0], look.score, look.ci95[1], "★" if look is best else "●")
        for look in looks
    ]
    drawn = draw_plot(adjusted, points, rows, low, high, line_style="cyan", style="magenta")
    labels = {0: f"{high:.2f}", rows - 1: f"{low:.2f}"}
    if low < 0 < high:
        labels.setdefault(min(rows - 1, int(high / (high - low) * rows)), "0")
    notes = _notes(s)
    lines = []
    for i, row in enumerate(drawn):
        words, style = notes[i] if i < len(notes) else ("", "")
        if gutter < GUTTER_WITH_LIMITS:
            words = " ".join(words.split(" ")[:2])
        line = cut(Text().append(words, style), gutter - 7, pad=True)
        lines.append(line.append(f"{labels.get(i, ''):>6} ", "dim").append_text(row))
    return lines


def _notes(s: Snapshot) -> list[tuple[str, str]]:
    """List the numbers to the plot, in the order of what matters."""
    notes = []
    if s.dev:
        last, best = s.dev[-1], max(s.dev, key=lambda look: look.rank)
        notes = [(f"● {last.score:.3f} dev", "bold magenta"), (f"★ {best.score:.3f} best", "magenta")]
    adjusted = s.steps[-1].metrics.get("reward/adjusted", math.nan) if s.steps else math.nan
    if math.isfinite(adjusted):
        notes.append((f"⠒ {adjusted:+.3f} adjusted", "cyan"))
    if s.dev:
        notes.append((f"  95% in {last.ci95[0]:.2f}-{last.ci95[1]:.2f}", "dim"))
        if not s.run.graded:
            notes.append((f"  {last.reward:.3f} dev reward", "dim"))
        if last.loss is not None:
            notes.append((f"  {last.loss:.4f} dev loss", "dim"))
    return notes


def _changes(s: Snapshot, steps: Steps, room: int) -> Text:
    """Draw a mark below the step that each change governed first: who made it, in the colour of its verdict."""
    cells: list[tuple[str, str]] = [(" ", "")] * room
    for d in s.decisions:
        if d.is_change:
            mark = "↩" if d.action == "rollback" else SOURCE_MARK[d.source]
            cells[steps.column(d.step, room)] = (mark, f"bold {VERDICT_STYLE.get(d.verdict or '', 'yellow')}")
    return paint(cells)


def _signal(s: Snapshot, steps: Steps, room: int) -> list[tuple[str, str, Sequence[float]]]:
    return [
        (glyph, style, steps.columns(s.buckets.get(metric, ()), room))
        for name, metric, glyph, style in SIGNAL_PARTS
        if name != "errored" or any(bucket.high > 0 for bucket in s.buckets.get(metric, ()))
    ]


def _signal_legend(s: Snapshot, width: int) -> Text:
    last = s.steps[-1].metrics if s.steps else {}
    line = Text().append("─ ", "dim").append("groups", "bold")
    for name, metric, glyph, style in SIGNAL_PARTS:
        share = last.get(metric, 0.0)
        if share >= 0.005 or (name != "errored" and not last):
            line.append(f"  {glyph} ", style).append(f"{name} {share:.0%}" if last else name)
    return line.append(" " + "─" * max(0, width - line.cell_len - 1), "dim")


def metrics(s: Snapshot, width: int) -> Lines:
    """Draw sparklines, each cell in the style of its worst step: plain, yellow beyond the first limit, red beyond the
    second. So a breach shows at every width."""
    gutter = _gutter(width)
    room = width - gutter
    steps = Steps(1, max(2, s.steps_done))
    start = next((bucket.mean for bucket in s.buckets.get("entropy/mean", ())), math.nan)
    usual = median([b.mean for b in s.buckets.get("grad/norm", ()) if b.mean > 0] or [math.nan])
    rows: tuple[tuple[str, str, str, tuple[float, float]], ...]
    rows = (  # name, metric, format, limits in the direction of harm
        ("KL", "kl/mean", ".3f", (0.5, 1.5)),
        ("entropy", "entropy/mean", ".3f", (LOW_ENTROPY * start, NO_ENTROPY * start)),
        ("truncated", "completion/truncated_rate", ".0%", (0.1, 0.3)),
        ("length", "completion/tokens_mean", ".1f", (0.9 * s.knobs.max_tokens, 0.97 * s.knobs.max_tokens)),
        ("grad", "grad/norm", ".3f", (HIGH_GRADIENT * usual, WILD_GRADIENT * usual)),
    )
    if s.run.kind == "sft":
        none = (math.nan, math.nan)
        loss = ("loss", "loss", ".3f", none)
        rows = (loss, *((name, metric, form, none) for name, metric, form, _ in rows if metric in OF_SFT), rows[-1])
    lines = []
    for name, metric, form, (warn, bad) in rows:
        value = s.steps[-1].metrics.get(metric, math.nan) if s.steps else math.nan
        falling = bad < warn
        style = _style_beyond(value, warn, bad)
        mark = {"bold red": "‼", "yellow": "!"}.get(style, " ")
        low = None if metric in ("entropy/mean", "completion/tokens_mean") else 0.0
        buckets = s.buckets.get(metric, ())
        styles = [_style_beyond(worst, warn, bad) for worst in steps.worst(buckets, room, lowest=falling)]
        line = Text().append(f"{name:<9}", "dim").append(f"{value:>6{form}}{mark}" if s.steps else f"{'-':>6} ", style)
        if gutter == GUTTER_WITH_LIMITS:
            limit = f"{warn:.0%}" if metric.endswith("_rate") else f"{warn:.2g}"
            line.append(f" ok{'>' if falling else '<'}{limit}" if math.isfinite(warn) else "", "dim")
        line.truncate(gutter, pad=True)
        lines.append(line.append_text(draw_sparkline(steps.columns(buckets, room), low, styles)))
    return lines


def _style_beyond(value: float, warn: float, bad: float) -> str:
    """Return the style of a value: beyond a limit is above it, or below it where the second is the lower one."""
    sign = -1 if bad < warn else 1
    return "bold red" if sign * value > sign * bad else "yellow" if sign * value > sign * warn else "cyan"
