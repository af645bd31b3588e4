"""Draw the marks of the dashboard: sparklines, a plot of dots, stacked columns, lines side by side. Pure text, no
snapshot.

Everything over time is drawn on columns of the same steps, so what stands above each other happened together. Shapes
differ as well as colours: a frame reads without them (NO_COLOR). Only the terminal's own sixteen colours are used,
which light and dark themes both keep legible.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from rich.text import Text

from harness.core.formatting import clean
from harness.types import Bucket

BLOCKS = "▁▂▃▄▅▆▇█"
BRAILLE = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character's dots, by row from the top and by column."""
VERDICT_STYLE = {"helped": "green", "hurt": "red"}
Lines = list[Text]


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps ``first`` to ``last``, drawn on columns."""

    first: int
    last: int

    def column(self, step: float, width: int) -> int:
        """Return the column of ``step`` among ``width`` columns."""
        place = (step - self.first) / max(1, self.last - self.first + 1)
        return min(width - 1, max(0, int(place * width)))

    def columns(self, buckets: Sequence[Bucket], width: int) -> list[float]:
        """Compute the mean of each of ``width`` columns; a column without a bucket of its own shows the one before, NaN
        if there is none."""
        return _carry_on(
            sum(bucket.mean * bucket.n for bucket in part) / sum(bucket.n for bucket in part) if part else None
            for part in self._placed(buckets, width)
        )

    def worst(self, buckets: Sequence[Bucket], width: int, *, lowest: bool) -> list[float]:
        """Compute the highest (or ``lowest``) single step of each column, with ``columns``'s way with empty ones."""
        placed = self._placed(buckets, width)
        if lowest:
            return _carry_on(min((bucket.low for bucket in part), default=None) for part in placed)
        return _carry_on(max((bucket.high for bucket in part), default=None) for part in placed)

    def _placed(self, buckets: Sequence[Bucket], width: int) -> list[list[Bucket]]:
        """Sort the buckets into columns."""
        placed: list[list[Bucket]] = [[] for _ in range(width)]
        for bucket in buckets:
            if self.first <= bucket.first <= self.last:
                placed[self.column(bucket.first, width)].append(bucket)
        return placed


def _carry_on(values: Iterable[float | None]) -> list[float]:
    """Put the one before where there is none, NaN before the first."""
    shown, before = [], math.nan
    for value in values:
        before = before if value is None else value
        shown.append(before)
    return shown


# ---------------------------------------------------------------- one line


def compute_sparkline(values: Sequence[float], width: int, low: float | None, high: float | None) -> str:
    """Draw the newest values as blocks, the range taken from the data where ``low`` or ``high`` is None."""
    return "".join(_blocks(values[-width:], low, high))


def draw_sparkline(values: Sequence[float], low: float | None, styles: Sequence[str]) -> Text:
    """Draw one cell for each of ``values``, in its style."""
    blocks = _blocks(values, low, None)
    return paint((block, style) if block else (" ", "") for block, style in zip(blocks, styles, strict=True))


def _blocks(values: Sequence[float], low: float | None, high: float | None) -> list[str]:
    """Return the block of each value, none for what is not a number."""
    real = [value for value in values if math.isfinite(value)]
    bottom = min(real, default=0.0) if low is None else low
    top = max(real, default=0.0) if high is None else high
    return [BLOCKS[min(7, int(8 * _share(v, bottom, top)))] if math.isfinite(v) else "" for v in values]


def _share(value: float, low: float, high: float) -> float:
    """Return the place of ``value`` between ``low`` (0) and ``high`` (1)."""
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.0


def draw_shares(shares: Sequence[tuple[str, str, float]], width: int) -> Text:
    """Draw (glyph, style, share) as one bar of ``width`` cells, the last part taking what rounding leaves."""
    bar, used = Text(), 0
    total = sum(share for _, _, share in shares)
    reached = 0.0
    for glyph, style, share in shares:
        reached += share
        until = round(width * reached / total) if total else 0
        bar.append(glyph * (until - used), style=style)
        used = until
    return bar


def paint(cells: Iterable[tuple[str, str]]) -> Text:
    """Paint glyphs with their styles; neighbours of one style are one span, which is what a frame's cost depends on."""
    runs = groupby(cells, key=itemgetter(1))
    return Text.assemble(*(("".join(glyph for glyph, _ in run), style) for style, run in runs))


# ---------------------------------------------------------------- several lines


@dataclass(frozen=True, slots=True)
class Point:
    """A measured value with its interval, at a column."""

    column: int
    low: float
    value: float
    high: float
    glyph: str


def draw_plot(
    line: Sequence[float], points: Sequence[Point], height: int, low: float, high: float, *, line_style: str, style: str
) -> Lines:
    """Draw ``line`` (two values for each cell) as dots and ``points`` with their intervals, on one axis from low to
    high."""
    width = len(line) // 2
    bits = [[0] * width for _ in range(height)]
    before: int | None = None
    for x, value in enumerate(line[: 2 * width]):
        if not math.isfinite(value):
            before = None
            continue
        y = _row(value, low, high, 4 * height)
        start = y if before is None else before + (y > before) - (y < before)  # a line without gaps
        for dot in range(min(start, y), max(start, y) + 1):
            bits[dot // 4][x // 2] |= BRAILLE[dot % 4][x % 2]
        before = y
    cells = [[(chr(0x2800 + b), line_style) if b else (" ", "") for b in row] for row in bits]
    if low < 0 < high:
        zero = cells[_row(0.0, low, high, height)]
        zero[:] = [("╌", "dim") if glyph == " " else (glyph, cell) for glyph, cell in zero]
    for point in points:
        top, bottom = (_row(value, low, high, height) for value in (point.high, point.low))
        for y in range(top, bottom + 1):
            cells[y][point.column] = ("│", style)
    for point in points:  # after all intervals, so that none hides a value
        cells[_row(point.value, low, high, height)][point.column] = (point.glyph, f"bold {style}")
    return [paint(row) for row in cells]


def _row(value: float, low: float, high: float, rows: int) -> int:
    """Return its row from the top, of ``rows``."""
    return min(rows - 1, int((1 - _share(value, low, high)) * rows))


def draw_stack(parts: Sequence[tuple[str, str, Sequence[float]]], height: int) -> Lines:
    """Draw columns stacked from (glyph, style, share of each column); the shares of a column add up to 1, or it is
    empty."""
    width = len(parts[0][2])
    rows: list[list[tuple[str, str]]] = [[] for _ in range(height)]
    for x in range(width):
        shares = [part[2][x] for part in parts]
        for y, row in enumerate(rows):
            middle, reached = (height - y - 0.5) / height, 0.0
            for (glyph, style, _), share in zip(parts, shares, strict=True):
                reached += share if math.isfinite(share) else 0.0
                if middle <= reached:
                    row.append((glyph, style))
                    break
            else:
                row.append((" ", ""))
    return [paint(row) for row in rows]


# ---------------------------------------------------------------- layout


def title(name: str, width: int, note: str = "") -> Text:
    """Draw a title: ``─ name ─────── note ─``."""
    line = Text().append("─ ", "dim").append(name, "bold").append(" ", "dim")
    end = f" {note} ─" if note else ""
    return line.append("─" * max(0, width - len(name) - 3 - len(end)) + end, "dim")


def fit(lines: Sequence[Text], height: int) -> Lines:
    """Cut or fill to exactly ``height`` lines."""
    return [*lines[:height], *(Text() for _ in range(height - len(lines)))]


def beside(left: Sequence[Text], right: Sequence[Text], left_width: int, width: int) -> Lines:
    """Join two columns of lines, ``left_width`` of ``width`` for the left one, a rule between them."""
    rows = max(len(left), len(right))
    joined = []
    for one, other in zip(fit(left, rows), fit(right, rows), strict=True):
        line = cut(one, left_width, pad=True).append(" │ ", "dim")
        joined.append(line.append_text(cut(other, width - left_width - 3)))
    return joined


def cut(line: Text, width: int, *, pad: bool = False) -> Text:
    """Cut the line to ``width`` cells, without characters that a terminal would obey: every line of a frame comes
    through here, and texts of a model or a person are only data."""
    shown = line.copy()
    if not shown.plain.isprintable():
        shown.plain = clean(shown.plain)
    shown.truncate(width, overflow="ellipsis", pad=pad)
    return shown


def wrap(text: str, width: int, indent: str, style: str, rows: int | None = None) -> Lines:
    """Wrap ``text`` on as many lines as it needs, or the first ``rows`` of them."""
    room = max(8, width - len(indent))
    lines, words = [""], text.split(" ")
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip() if lines[-1] else word
        while len(lines[-1]) > room:
            lines[-1:] = [lines[-1][:room], lines[-1][room:]]
    if rows is not None and len(lines) > rows:
        lines = [*lines[: rows - 1], f"{lines[rows - 1][: room - 1]}…"]
    return [Text().append(indent + line, style) for line in lines]
