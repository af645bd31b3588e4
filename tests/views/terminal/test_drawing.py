from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from harness.types import Bucket
from harness.views.terminal.drawing import (
    BLOCKS,
    Point,
    Steps,
    beside,
    compute_sparkline,
    draw_plot,
    draw_shares,
    draw_sparkline,
    draw_stack,
    wrap,
)


def test_a_sparkline_shows_the_newest_values_from_low_to_high() -> None:
    assert compute_sparkline([0.0, 0.5, 1.0], 10, 0.0, 1.0) == "▁▅█"
    assert compute_sparkline([9.0, 0.0, 1.0], 2, 0.0, 1.0) == "▁█"
    assert compute_sparkline([2.0, 3.0], 10, None, None) == "▁█"


def test_a_sparkline_of_nothing_or_of_one_level() -> None:
    assert compute_sparkline([], 10, None, None) == ""
    assert compute_sparkline([float("nan")], 10, None, None) == ""
    assert compute_sparkline([0.5, 0.5], 10, None, None) == "▁▁"


NUMBERS = st.floats(-1e6, 1e6) | st.just(float("nan")) | st.just(float("inf"))
BOUND = st.none() | st.floats(-10, 10)


@given(st.lists(NUMBERS, max_size=50), st.integers(1, 40), BOUND, BOUND)
def test_a_sparkline_never_fails_and_never_outgrows_its_room(
    values: list[float], width: int, low: float | None, high: float | None
) -> None:
    line = compute_sparkline(values, width, low, high)
    assert len(line) <= width
    assert set(line) <= set(BLOCKS)


@given(st.lists(NUMBERS, max_size=50), BOUND)
def test_a_drawn_sparkline_has_a_cell_for_every_value(values: list[float], low: float | None) -> None:
    line = draw_sparkline(values, low, ["red" if value > 0 else "" for value in values])
    assert len(line.plain) == len(values)
    assert [mark == " " for mark in line.plain] == [not math.isfinite(value) for value in values]


def test_columns_hold_the_mean_of_their_steps() -> None:
    buckets = [Bucket(first, 1, 0.0, float(first), 9.0) for first in (1, 2, 3, 4)]
    assert Steps(1, 4).columns(buckets, 2) == [1.5, 3.5]
    assert Steps(1, 4).columns(buckets, 4) == [1.0, 2.0, 3.0, 4.0]
    assert Steps(1, 2).columns(buckets[:1], 4)[0] == 1.0
    assert all(math.isnan(value) for value in Steps(1, 4).columns([], 3))


def test_a_columns_worst_step_is_not_averaged_away() -> None:
    buckets = [Bucket(1, 2, 0.1, 0.2, 0.9), Bucket(3, 2, 0.3, 0.3, 0.4)]
    assert Steps(1, 8).worst(buckets, 4, lowest=False) == [0.9, 0.4, 0.4, 0.4]
    assert Steps(1, 8).worst(buckets, 1, lowest=True) == [0.1]
    assert all(math.isnan(value) for value in Steps(1, 4).worst([], 3, lowest=True))


def test_a_column_weighs_its_buckets_by_their_steps() -> None:
    assert Steps(1, 4).columns([Bucket(1, 3, 0, 1.0, 1), Bucket(4, 1, 0, 5.0, 5)], 1) == [2.0]


@given(st.lists(NUMBERS, min_size=2, max_size=60), st.integers(1, 12), st.floats(-5, 0), st.floats(0, 5))
def test_a_plot_has_the_size_it_is_given(line: list[float], height: int, low: float, high: float) -> None:
    points = [Point(0, low, (low + high) / 2, high, "●")]
    drawn = draw_plot(line, points, height, low, high, line_style="cyan", style="magenta")
    assert [len(row.plain) for row in drawn] == [len(line) // 2] * height
    assert sum(row.plain.count("●") for row in drawn) == 1


def test_a_plot_shows_high_values_above_low_ones() -> None:
    drawn = draw_plot([0.0] * 4 + [1.0] * 4, [], 3, 0.0, 1.0, line_style="", style="")
    assert drawn[0].plain[:2].strip() == ""
    assert drawn[0].plain[3] != " "
    assert drawn[2].plain[0] != " "


def test_a_plot_joins_neighbours_without_a_gap() -> None:
    drawn = draw_plot([0.0, 1.0], [], 4, 0.0, 1.0, line_style="", style="")
    assert all(row.plain != " " for row in drawn)


def test_a_stack_shows_the_shares_from_the_bottom() -> None:
    drawn = draw_stack([("a", "", [0.5, 1.0, math.nan]), ("b", "", [0.5, 0.0, math.nan])], 4)
    assert [row.plain for row in drawn] == ["ba ", "ba ", "aa ", "aa "]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(1, 80))
def test_shares_fill_the_bar_exactly(shares: list[float], width: int) -> None:
    bar = draw_shares([("x", "", share) for share in shares], width)
    assert len(bar.plain) == (width if sum(shares) > 0 else 0)


def test_lines_side_by_side_keep_their_columns_whatever_they_hold() -> None:
    drawn = beside([Text("left " * 10), Text("字" * 20)], [Text("right")], 10, 24)
    assert [line.cell_len for line in drawn] == [18, 13]
    assert drawn[0].plain.endswith(" │ right")


@given(st.text(alphabet="ab \u5b57", max_size=60), st.integers(10, 30))
def test_wrapped_text_loses_no_letter(text: str, width: int) -> None:
    lines = [line.plain for line in wrap(text, width, "  ", "")]
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(len(line) <= width for line in lines)


def test_a_text_cut_short_says_so() -> None:
    assert [line.plain for line in wrap("one two three four", 9, "", "", rows=1)] == ["one two…"]
