"""A run's pool for people: which prompts it has not seen, has solved, or never solves, and how that went over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from rich.console import Group as Rows
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from harness.core.formatting import clean
from harness.store.reader import RunReader
from harness.types import RunRecord, SampleRecord
from pools.table import PromptTable, parse_id
from pools.view import RATE_BINS, SeenGroup, Standing, Window, compute_windows, rank_prompts

WINDOWS = 24
SHADES = " ░▒▓█"
CLASSES = ("unseen", "frontier", "solved", "hopeless")
STYLES = {"unseen": "dim", "frontier": "green", "solved": "cyan", "hopeless": "red"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A prompt with its standing and the completions of it that were kept for people, newest first."""

    standing: Standing
    prompt: str
    samples: tuple[SampleRecord, ...]


@dataclass(frozen=True, slots=True)
class PoolView:
    """``windows`` cover the present era of the run. ``hardest`` and ``easiest`` have no prompt in common."""

    run: str
    prompts: int
    windows: tuple[Window, ...]
    hardest: tuple[Shown, ...]
    easiest: tuple[Shown, ...]


def load_standings(reader: RunReader, run_id: int) -> list[Standing]:
    """Every prompt that the run has seen in its present era, the hardest first."""
    return rank_prompts(SeenGroup(*row) for row in reader.load_groups(run_id))


def load_pool_view(reader: RunReader, run: RunRecord, train: PromptTable, *, n: int) -> PoolView:
    """``n`` of the hardest and of the easiest prompts."""
    groups = [SeenGroup(*row) for row in reader.load_groups(run.id)]
    ranked = rank_prompts(groups)
    hardest = ranked[:n]
    easiest = list(islice(reversed(ranked), min(n, len(ranked) - len(hardest))))
    place_of = {number: place for place, number in enumerate(train.numbers.tolist())} if ranked else {}
    texts = {
        standing.prompt_id: train[place_of[number]].text
        for standing in (*hardest, *easiest)
        if (number := parse_id(standing.prompt_id)) in place_of
    }
    samples = reader.load_samples_of(run.id, list(texts.values()))

    def show(standing: Standing) -> Shown:
        text = texts.get(standing.prompt_id, f"(prompt {standing.prompt_id}: not in the source any more)")
        return Shown(standing, text, tuple(samples.get(text, ())))

    windows = compute_windows(groups, pool_size=len(train), count=WINDOWS)
    return PoolView(run.name, len(train), tuple(windows), tuple(map(show, hardest)), tuple(map(show, easiest)))


def select_seen(
    train: PromptTable, standings: Sequence[Standing], *, below: float | None
) -> tuple[PromptTable, list[float]]:
    """The prompts of these standings with a pass rate under ``below``, and those rates, in the order of the pool."""
    rates = {parse_id(s.prompt_id): s.rate for s in standings if below is None or s.rate < below}
    chosen = train.select(np.flatnonzero(np.isin(train.numbers, np.array(list(rates), np.uint64))))
    return chosen, [rates[number] for number in chosen.numbers.tolist()]


# ---------------------------------------------------------------- as JSON and in the terminal


def to_json(view: PoolView) -> dict[str, Any]:
    last = view.windows[-1] if view.windows else None
    return {
        "run": view.run,
        "prompts": view.prompts,
        **{name: getattr(last, name) if last else view.prompts * (name == "unseen") for name in CLASSES},
        "rate_bins": list(RATE_BINS),
        "windows": [
            {"first": w.first, "last": w.last, "groups": list(w.rates)} | {name: getattr(w, name) for name in CLASSES}
            for w in view.windows
        ],
        "hardest": [_shown_to_json(shown) for shown in view.hardest],
        "easiest": [_shown_to_json(shown) for shown in view.easiest],
    }


def _shown_to_json(shown: Shown) -> dict[str, Any]:
    standing = shown.standing
    return {
        "prompt_id": standing.prompt_id,
        "prompt": shown.prompt,
        "label": standing.label,
        "pass_rate": standing.rate,
        "groups": standing.groups,
        "last_step": standing.last_step,
        "samples": [
            {"step": s.step, "completion": s.completion, "reward": s.reward, "reason": s.reason} for s in shown.samples
        ],
    }


def render_pool(view: PoolView) -> RenderableType:
    if not view.windows:
        return Text(f"{view.run}: {view.prompts:,} train prompts, none seen yet")
    last = view.windows[-1]
    head = Text(f"{view.run}: {view.prompts:,} train prompts after step {last.last}   ")
    for name in CLASSES:
        count = getattr(last, name)
        head.append(f"{name} {count:,} ({count / view.prompts:.0%})   ", style=STYLES[name])
    parts: list[RenderableType] = [head, Text("\nshare of the groups by pass rate, over time", style="bold")]
    parts.append(_render_heat_map(view.windows))
    for title, shown in (("hardest", view.hardest), ("easiest", view.easiest)):
        if shown:
            parts += [Text(f"\n{title} prompts seen", style="bold"), *(_render_prompt(one) for one in shown)]
    return Rows(*parts)


def _render_heat_map(windows: Sequence[Window]) -> RenderableType:
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
    line = Text(f"  {standing.rate:4.0%}  ").append(_short(shown.prompt, 60))
    line.append(
        f"  {standing.label + ', ' if standing.label else ''}drawn {times}, last at step {standing.last_step}", "dim"
    )
    for sample in shown.samples[:2]:
        style = "green" if sample.correct else "red"
        line.append(f"\n        step {sample.step} {sample.reason}: ", "dim").append(
            _short(sample.completion, 90), style
        )
    return line


def _short(text: str, most: int) -> str:
    plain = " ".join(clean(text).split())
    return plain if len(plain) <= most else plain[: most - 3] + "..."
