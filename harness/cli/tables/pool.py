"""A pool, as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.core.formatting import clean, format_kind

if TYPE_CHECKING:
    from harness.commands.pool_report import PoolView, Shown
    from pools.view import Window

SHADES = " ░▒▓█"
STYLES = {"unseen": "dim", "frontier": "green", "solved": "cyan", "hopeless": "red"}


def render_pool(view: PoolView) -> RenderableType:
    if not view.windows:
        return Text(f"{view.run}: {view.prompts:,} train prompts, none seen yet")
    last = view.windows[-1]
    head = Text(f"{view.run}: {view.prompts:,} train prompts after step {last.last}   ")
    for name, style in STYLES.items():
        count = getattr(last, name)
        head.append(f"{format_kind(name)} {count:,} ({count / view.prompts:.0%})   ", style=style)
    parts: list[RenderableType] = [head, Text("\nshare of the groups by pass rate, over time", style="bold")]
    parts.append(_render_heat_map(view.windows))
    for title, shown in (("hardest", view.hardest), ("easiest", view.easiest)):
        if shown:
            parts += [Text(f"\n{title} prompts seen", style="bold"), *(_render_prompt(one) for one in shown)]
    return Group(*parts)


def _render_heat_map(windows: Sequence[Window]) -> RenderableType:
    from pools.view import RATE_BINS

    table = Table.grid(padding=(0, 0))
    table.add_column(justify="right", style="dim")
    for i in reversed(range(len(RATE_BINS))):
        cells = Text(" ")
        for window in windows:
            share = window.rates[i] / max(1, sum(window.rates))
            cells.append(SHADES[min(len(SHADES) - 1, round(share * 6 + 0.3))] * 2)
        table.add_row(RATE_BINS[i], cells)
    table.add_row("step", Text(f" {windows[0].first}".ljust(2 * len(windows) - 3) + f"{windows[-1].last}", style="dim"))
    return table


def _render_prompt(shown: Shown) -> Text:
    standing = shown.standing
    times = "once" if standing.groups == 1 else f"{standing.groups} times"
    line = Text(f"  {standing.rate:4.0%}  ").append(short(shown.prompt, 60))
    line.append(
        f"  {standing.label + ', ' if standing.label else ''}drawn {times}, last at step {standing.last_step}", "dim"
    )
    for sample in shown.samples[:2]:
        style = "green" if sample.correct else "red"
        line.append(f"\n        step {sample.step} {sample.reason}: ", "dim").append(
            short(sample.completion, 90), style
        )
    return line


def short(text: str, most: int) -> str:
    plain = " ".join(clean(text).split())
    return plain if len(plain) <= most else plain[: most - 3] + "..."
