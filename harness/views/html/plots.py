"""Plot the figures of the reports: pure functions from records to plotly figures.

Curves come from the buckets (harness/store/buckets.py), so a plot has at most 512 points however long the run is.
Colours have at least 3:1 contrast on white and on the dark page; axes and text take theirs from the page
(templates/page.css). What a model or a person wrote is escaped here: plotly reads its texts as a little HTML.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from textwrap import wrap
from typing import Any

from plotly import graph_objects as go

from harness.core.formatting import clean, format_kind, format_knob
from harness.types import Bucket, DecisionRecord, EvaluationRecord, Knobs
from harness.views.summary import format_decision

BLUE, ORANGE, GREEN, GOLD, PURPLE, GREY = "#3b7dd8", "#d1622b", "#2a9178", "#a8851c", "#9a5fc0", "#7b8494"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, GOLD, "#c2477f", "#3a94ad", GREY)
DASHES = ("solid", "dash", "dot", "dashdot")
SIGNAL = (
    ("mixed", "group/mixed_rate", BLUE),
    ("all-zero", "group/all_zero_rate", ORANGE),
    ("zero-variance", "group/flat_rate", GOLD),
    ("all-one", "group/all_one_rate", GREEN),
)
SOURCE_COLORS = {"manual": PURPLE, "rules": ORANGE, "llm": BLUE, "agent": GREEN, "experiment": GOLD, "fixed": GREY}
SYMBOLS = {"rollback": "triangle-left", "stop": "square", "pause": "square-open", "save": "diamond-open"}
HEALTH = (
    ("kl/mean", "KL to the initial model", ".4~f"),
    ("entropy/mean", "Entropy", ".3~f"),
    ("completion/truncated_rate", "Truncated completions", ".0%"),
    ("completion/tokens_mean", "Tokens per completion", ".1~f"),
    ("grad/norm", "Gradient norm", ".3~f"),
    ("loss", "Loss", ".3~f"),
)
FAINT = "rgba(128,128,128,0.18)"
MARKS = 256
"""Places along a run for the marks of decisions; where there are more decisions, neighbours share a mark."""
GUIDES = 40
"""Decisions up to which each has a line through the plot."""
CHANGES = 512
"""Points of a knob's line, at most."""
TEXT = 260
"""Characters of a text in a mark's box."""


def plot_learning(
    buckets: Mapping[str, Sequence[Bucket]],
    looks: Sequence[EvaluationRecord],
    decisions: Sequence[DecisionRecord],
    best_step: int | None,
    *,
    measure: str,
) -> go.Figure:
    """Plot dev, test and raw reward above, adjusted reward in the middle, decisions as marks below. ``measure`` says
    what dev and test are judged by; dev's mean reward is shown beside another one."""
    figure = _figure(440, legend=True)
    dev = [look for look in looks if look.split == "dev"]
    test = [look for look in looks if look.split == "test"]
    raw = buckets.get("reward/mean", ())
    _add_line(figure, raw, "reward (raw)", GREY, yaxis="y", width=1.2)
    if dev:
        figure.add_trace(_looks(dev, f"dev {measure}", BLUE))
        if measure != "reward":
            place = {"x": [look.step for look in dev], "y": [_short(look.reward) for look in dev]}
            line = {"color": BLUE, "width": 1.2, "dash": "dot"}
            figure.add_trace(go.Scatter(**place, name="dev reward", mode="lines", line=line))
    if test:
        figure.add_trace(_looks(test, f"test {measure}", PURPLE, dash=None))
    best = next((look for look in dev if look.step == best_step), None)
    if best:
        place = {"x": [best.step], "y": [best.score], "name": "best checkpoint"}
        ring = {"symbol": "circle-open", "size": 15, "color": GREEN, "line": {"width": 2.5}}
        figure.add_trace(go.Scatter(**place, mode="markers", marker=ring, hoverinfo="skip"))
    adjusted, below = buckets.get("reward/adjusted", ()), "adjusted"
    _add_line(figure, adjusted, "reward (adjusted)", ORANGE, yaxis="y2", band=True)
    if not adjusted:  # of kind sft
        below = "loss"
        _add_line(figure, buckets.get("loss", ()), "loss", ORANGE, yaxis="y2", band=True)
        if losses := [look for look in dev if look.loss is not None]:
            place = {"x": [look.step for look in losses], "y": [_short(look.loss or 0.0) for look in losses]}
            line = {"color": BLUE, "width": 1.2, "dash": "dash"}
            figure.add_trace(go.Scatter(**place, name="dev loss", mode="lines", line=line, yaxis="y2"))
    _add_marks(figure, decisions)
    figure.update_layout(
        xaxis={"anchor": "y3", "title": {"text": "step"}},
        yaxis={"domain": [0.47, 1], "title": {"text": "score, reward"}, "rangemode": "tozero"},
        yaxis2={"domain": [0.16, 0.41], "title": {"text": below}, "zeroline": True, "anchor": "x"},
        yaxis3={
            "domain": [0, 0.1],
            "range": [-1, 1],
            "showgrid": False,
            "showticklabels": False,
            "zerolinecolor": FAINT,
            "fixedrange": True,
        },
    )
    return figure


def plot_signal(buckets: Mapping[str, Sequence[Bucket]], last: int) -> go.Figure:
    """Plot the shares of the groups, stacked to one."""
    figure = _figure(270, legend=True)
    stacks: dict[int, float] = {}
    for name, metric, color in SIGNAL:
        parts = buckets.get(metric, ())
        for part in parts:
            stacks[part.first] = stacks.get(part.first, 0.0) + part.mean
        figure.add_trace(_area(name, _middles(parts), [part.mean for part in parts], color))
    # What is missing to one: groups of which the verifier could not judge a single completion.
    errored = [round(max(0.0, 1.0 - share), 4) for share in stacks.values()]
    if any(errored):
        figure.add_trace(_area("errored", _middles(buckets.get("group/mixed_rate", ())), errored, "#c2477f"))
    figure.update_layout(
        xaxis={"title": {"text": "step"}, "range": [0, last]},
        yaxis={"range": [0, 1], "tickformat": ".0%", "title": {"text": "groups"}},
    )
    return figure


def plot_health(buckets: Mapping[str, Sequence[Bucket]], last: int) -> dict[str, go.Figure]:
    """Plot each recorded metric small, by its title."""
    figures = {}
    for (metric, title, form), color in zip(HEALTH, (BLUE, GREEN, ORANGE, PURPLE, GOLD, GREY), strict=True):
        if parts := buckets.get(metric, ()):
            figure = _figure(190)
            _add_line(figure, parts, title, color, yaxis="y", band=True, form=form)
            percent = ".0%" if "%" in form else None
            figure.update_layout(yaxis={"rangemode": "tozero", "tickformat": percent}, xaxis={"range": [0, last]})
            figures[title] = figure
    return figures


def plot_knobs(
    knobs: Sequence[tuple[int, Knobs]], decisions: Sequence[DecisionRecord], last: int
) -> dict[str, go.Figure]:
    """Plot each hyperparameter that changed, by its name. An unset target pass rate is a gap in the line."""
    figures = {}
    for name in Knobs.__dataclass_fields__:
        values = [(step, getattr(at, name)) for step, at in knobs]
        moves = _thinned([next(same) for _, same in groupby(values, key=itemgetter(1))], CHANGES)
        if len(moves) < 2:
            continue
        figure = _figure(190)
        points = [*moves, (max(last, moves[-1][0]), moves[-1][1])]
        x, y = [step for step, _ in points], [value for _, value in points]
        by_step = {d.step: d for d in decisions if name in d.changes and d.refused is None}
        said = [_describe(by_step[step]) if step in by_step else f"step {step}" for step in x]
        texts = [f"<b>{name} {format_knob(value)}</b><br>{text}" for value, text in zip(y, said, strict=True)]
        figure.add_trace(
            go.Scatter(
                x=x, y=y, name=name, mode="lines+markers" if len(points) <= 40 else "lines", text=texts,
                hovertemplate="%{text}<extra></extra>", line={"shape": "hv", "color": BLUE, "width": 2},
                marker={"size": 6},
            )
        )  # fmt: skip
        numbers = [value for value in y if value]
        wide = numbers and max(numbers) / min(numbers) >= 10 and len(numbers) == len(y)
        scale = {"type": "log"} if wide else {"rangemode": "tozero"}
        form = ".0e" if numbers and max(numbers) < 0.01 else None
        figure.update_layout(yaxis={**scale, "tickformat": form}, xaxis={"range": [0, last]})
        figures[name] = figure
    return figures


def plot_pool(windows: Sequence[Mapping[str, Any]], rate_bins: Sequence[str]) -> go.Figure:
    """Plot pass rates of groups over time (heat), and prompts by class (stacked).

    ``windows`` have first, last, rates (groups by ``rate_bins``), unseen, frontier, solved, hopeless.
    """
    figure = _figure(400, legend=True)
    names = [str(w["first"]) if w["first"] == w["last"] else f"{w['first']}–{w['last']}" for w in windows]
    totals = [max(1, sum(w["rates"])) for w in windows]
    shares = [
        [w["rates"][row] / total for w, total in zip(windows, totals, strict=True)] for row in range(len(rate_bins))
    ]
    counts = [[w["rates"][row] for w in windows] for row in range(len(rate_bins))]
    figure.add_trace(
        go.Heatmap(
            x=names, y=list(rate_bins), z=shares, customdata=counts, zmin=0, xgap=1, ygap=1, showscale=False,
            colorscale=[[0, "rgba(59,125,216,0.06)"], [1, "rgba(59,125,216,1)"]],
            hovertemplate="steps %{x}<br>right: %{y}<br>%{z:.0%} of the groups (%{customdata})<extra></extra>",
        )
    )  # fmt: skip
    for name, color in (("frontier", BLUE), ("solved", GREEN), ("hopeless", ORANGE)):
        figure.add_trace(
            go.Bar(
                x=names, y=[w[name] for w in windows], name=format_kind(name), marker={"color": color}, yaxis="y2",
                hovertemplate=f"steps %{{x}}<br>{format_kind(name)}: %{{y}} prompts<extra></extra>",
            )
        )  # fmt: skip
    figure.update_layout(
        barmode="stack",
        bargap=0.08,
        xaxis={"type": "category", "anchor": "y2", "title": {"text": "steps"}},
        yaxis={"domain": [0.46, 1], "title": {"text": "share right"}, "showgrid": False, "nticks": 8},
        yaxis2={"domain": [0, 0.38], "title": {"text": "prompts seen"}},
    )
    return figure


def plot_runs(metric: str, runs: Mapping[str, Mapping[str, Sequence[Bucket]]]) -> go.Figure:
    """Plot one metric of several runs on shared axes, in the colours of ``plot_looks``."""
    figure = _figure(230)
    for number, (run, buckets) in enumerate(runs.items()):
        color, dash = _style(number)
        _add_line(figure, buckets.get(metric, ()), run, color, dash=dash)
    return figure


def plot_looks(runs: Mapping[str, Sequence[EvaluationRecord]]) -> go.Figure:
    """Plot the dev score of several runs with its interval."""
    figure = _figure(340, legend=True)
    for number, (run, looks) in enumerate(runs.items()):
        color, dash = _style(number)
        figure.add_trace(_looks(looks, run, color, dash=dash))
    figure.update_layout(
        xaxis={"title": {"text": "step"}}, yaxis={"title": {"text": "dev score"}, "rangemode": "tozero"}
    )
    return figure


def plot_marked(parts: Sequence[Bucket], marks: Sequence[tuple[str, int, int, str]]) -> go.Figure:
    """Plot a curve, shaded over the steps of each mark, with its name: kind, first and last step, severity."""
    figure = _figure(210)
    for number, (kind, first, last, severity) in enumerate(marks):
        color = "#c0392b" if severity == "severe" else GOLD
        figure.add_vrect(
            x0=first - 0.5, x1=last + 0.5, fillcolor=color, opacity=0.14, line_width=0, layer="below",
            annotation_text=kind, annotation_position="bottom left", annotation_yshift=12 * number,
            annotation_font={"size": 10, "color": color},
        )  # fmt: skip
    _add_line(figure, parts, "", BLUE)
    figure.update_layout(xaxis={"title": {"text": "step"}})
    return figure


# ---------------------------------------------------------------- who answered, one below the other

Dot = tuple[float | None, tuple[float, float] | None]
"""A score and its interval, where it has one."""
ROW, AXIS = 34, 52
"""Pixels of a row, and of what stands around the rows."""
NAME = 26
"""Characters of a name beside its row."""


def plot_dots(names: Sequence[str], series: Mapping[str, Sequence[Dot]], *, form: str = ".3f") -> go.Figure:
    """Plot a row for each of ``names``, the first on top, and in it a dot with its interval for each of ``series``."""
    figure = _rows(names, legend=len(series) > 1)
    for number, (name, dots) in enumerate(series.items()):
        shift = 0.0 if len(series) == 1 else 0.18 * (number - (len(series) - 1) / 2)
        shown = [(row, dot) for row, dot in enumerate(dots) if dot[0] is not None]
        values = [_short(dot[0] or 0.0) for _, dot in shown]
        intervals = [dot[1] or (dot[0] or 0.0, dot[0] or 0.0) for _, dot in shown]
        whiskers = {
            "array": [high - (dot[0] or 0.0) for (_, dot), (_, high) in zip(shown, intervals, strict=True)],
            "arrayminus": [(dot[0] or 0.0) - low for (_, dot), (low, _) in zip(shown, intervals, strict=True)],
            "thickness": 2,
            "width": 5,
        }
        said = [
            f"{_safe(names[row])}: {dot[0]:{form}}" + (f" [{dot[1][0]:{form}}, {dot[1][1]:{form}}]" if dot[1] else "")
            for row, dot in shown
        ]
        figure.add_trace(
            go.Scatter(
                x=values, y=[row + shift for row, _ in shown], name=html.escape(name), mode="markers",
                marker={"color": SERIES[number], "size": 10, "symbol": ("circle", "diamond")[number % 2]},
                error_x=whiskers if any(dot[1] for _, dot in shown) else None,
                text=said, hovertemplate="%{text}<extra></extra>",
            )
        )  # fmt: skip
    ends = [end for dots in series.values() for dot in dots for end in (dot[0] or 0.0, *(dot[1] or ()))]
    least, most = min(0.0, *ends), max(ends)
    edge = 0.03 * ((most - least) or 1.0)  # a dot at the end is whole
    figure.update_layout(xaxis={"tickformat": form.replace("3", "2"), "range": [least - edge, most + edge]})
    return figure


def plot_spread(
    names: Sequence[str], series: Mapping[str, Sequence[float | None]], means: Sequence[float]
) -> go.Figure:
    """Plot a row for each of ``names``, and in it a dot for each of ``series`` (runs or groups, of another seed each)
    and their mean as a bar."""
    figure = _rows(names, legend=len(series) <= len(SERIES))
    for number, (name, values) in enumerate(series.items()):
        shown = [(row, value) for row, value in enumerate(values) if value is not None]
        figure.add_trace(
            go.Scatter(
                x=[_short(value) for _, value in shown], y=[row for row, _ in shown], name=html.escape(name),
                mode="markers", marker={"color": _style(number)[0], "size": 10, "opacity": 0.85},
                hovertemplate=f"%{{x:.3f}}<extra>{html.escape(name)}</extra>",
            )
        )  # fmt: skip
    bar = {"symbol": "line-ns", "size": 24, "color": GREY, "line": {"width": 3, "color": GREY}}
    figure.add_trace(
        go.Scatter(
            x=list(means), y=list(range(len(names))), name="mean", mode="markers", marker=bar,
            hovertemplate="mean %{x:.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(xaxis={"tickformat": ".2f"})
    return figure


def _rows(names: Sequence[str], *, legend: bool) -> go.Figure:
    figure = _figure(AXIS + ROW * len(names) + (28 if legend else 0), legend=legend)
    labels = [html.escape(clean(name if len(name) <= NAME else f"…{name[1 - NAME :]}")) for name in names]
    figure.update_layout(
        xaxis={"showgrid": True, "nticks": 6},
        yaxis={
            "tickmode": "array",
            "tickvals": list(range(len(names))),
            "ticktext": labels,
            "range": [len(names) - 0.5, -0.5],
            "nticks": len(names),
        },
    )
    return figure


# ---------------------------------------------------------------- parts of a figure


def _figure(height: int, *, legend: bool = False) -> go.Figure:
    axis = {"gridcolor": FAINT, "zerolinecolor": "rgba(128,128,128,0.45)", "automargin": True}
    size = {"title": {"font": {"size": 12}, "standoff": 8}, "tickfont": {"size": 11}}
    return go.Figure(
        layout={
            "template": go.layout.Template(),
            "height": height,
            "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "inherit", "size": 12},
            "showlegend": legend,
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
            "hoverlabel": {"align": "left", "bgcolor": "#20262e", "bordercolor": "#20262e", "font": {"color": "#fff"}},
            "xaxis": {**axis, **size, "showgrid": False, "zeroline": False},
            "yaxis": {**axis, **size, "zeroline": False, "nticks": 5},
            "yaxis2": {**axis, **size, "nticks": 4},
        }
    )


def _middles(parts: Sequence[Bucket]) -> list[float]:
    return [part.first + (part.n - 1) / 2 for part in parts]


def _add_line(
    figure: go.Figure, parts: Sequence[Bucket], name: str, color: str, *, yaxis: str = "y", band: bool = False,
    form: str = ".3~f", width: float = 2, dash: str = "solid",
) -> None:  # fmt: skip
    """Draw the mean of each bucket, and with ``band`` the range of its steps behind it."""
    x = _middles(parts)
    if band and any(part.n > 1 for part in parts):
        edges = {
            "x": x,
            "yaxis": yaxis,
            "mode": "lines",
            "line": {"width": 0},
            "hoverinfo": "skip",
            "showlegend": False,
        }
        figure.add_trace(go.Scatter(y=[_short(part.low) for part in parts], **edges))
        high = [_short(part.high) for part in parts]
        figure.add_trace(go.Scatter(y=high, fill="tonexty", fillcolor=_faint(color), **edges))
    figure.add_trace(
        go.Scatter(
            x=x, y=[_short(part.mean) for part in parts], name=html.escape(name), yaxis=yaxis,
            mode="lines" if len(parts) > 1 else "markers", line={"color": color, "width": width, "dash": dash},
            marker={"color": color}, hovertemplate=f"step %{{x:.0f}}: %{{y:{form}}}<extra>{html.escape(name)}</extra>",
        )
    )  # fmt: skip


def _short(value: float) -> float | None:
    """Round to five digits, which are more than a pixel; what is not a number is a gap."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _faint(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"


def _looks(looks: Sequence[EvaluationRecord], name: str, color: str, *, dash: str | None = "solid") -> go.Scatter:
    """Draw looks with their intervals: on a line, or as marks where ``dash`` is None."""
    shown = looks if dash is None else _thinned(looks, CHANGES)
    return go.Scatter(
        x=[look.step for look in shown],
        y=[look.score for look in shown],
        name=html.escape(name),
        mode="lines+markers" if dash else "markers",
        marker={"color": color, "size": 6} if dash else {"color": color, "size": 9, "symbol": "diamond"},
        line={"color": color, "width": 2, "dash": dash} if dash else None,
        error_y={
            "array": [look.ci95[1] - look.score for look in shown],
            "arrayminus": [look.score - look.ci95[0] for look in shown],
            "thickness": 1.2,
            "width": 3,
        },
        customdata=[
            f"[{look.ci95[0]:.3f}, {look.ci95[1]:.3f}] on {look.n} prompts"
            + "".join(f", {rate.describe()}" for rate in look.pass_at[-1:])
            for look in shown
        ],
        hovertemplate=f"step %{{x}}: %{{y:.3f}} %{{customdata}}<extra>{html.escape(name)}</extra>",
    )


def _area(name: str, x: Sequence[float], y: Sequence[float], color: str) -> go.Scatter:
    return go.Scatter(
        x=x, y=[_short(value) for value in y], name=name, stackgroup="groups", mode="lines",
        line={"width": 0.5, "color": color}, fillcolor=color,
        hovertemplate=f"step %{{x:.0f}}: {name} %{{y:.0%}}<extra></extra>",
    )  # fmt: skip


def _style(number: int) -> tuple[str, str]:
    """Return a colour and a dash, which is another one after eight runs."""
    return SERIES[number % len(SERIES)], DASHES[number // len(SERIES) % len(DASHES)]


def _thinned(values: Sequence[Any], most: int) -> list[Any]:
    """Take at most ``most`` of them, evenly, the first and the last included."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


# ---------------------------------------------------------------- decisions as marks


def _add_marks(figure: go.Figure, decisions: Sequence[DecisionRecord]) -> None:
    acted = [d for d in decisions if d.action != "continue"]
    if len(acted) <= GUIDES:
        line = {"type": "line", "line": {"color": "rgba(128,128,128,0.5)", "width": 1, "dash": "dot"}, "layer": "below"}
        steps = sorted({decision.step for decision in acted})
        figure.layout.shapes = [{**line, "x0": step, "x1": step, "yref": "paper", "y0": 0, "y1": 1} for step in steps]
    width = -(-max((d.step for d in acted), default=1) // MARKS)
    places: dict[tuple[str, int], list[DecisionRecord]] = {}
    for decision in acted:
        places.setdefault((decision.source, decision.step // width), []).append(decision)
    for source in sorted({source for source, _ in places}):
        marks = [together for (by, _), together in places.items() if by == source]
        figure.add_trace(
            go.Scatter(
                x=[together[-1].step for together in marks],
                y=[0] * len(marks),
                yaxis="y3",
                mode="markers",
                name=f"decision by {html.escape(source)}",
                marker={
                    "color": SOURCE_COLORS.get(source, GREY),
                    "size": 11,
                    "opacity": 0.9,
                    "symbol": [SYMBOLS.get(together[-1].action, "triangle-up") for together in marks],
                },
                text=[_describe_all(together) for together in marks],
                hovertemplate="%{text}<extra></extra>",
            )
        )


def _describe_all(together: Sequence[DecisionRecord]) -> str:
    if len(together) == 1:
        return _describe(together[0])
    first, last = together[0].step, together[-1].step
    return f"{len(together)} decisions before steps {first} to {last}; the last:<br>{_describe(together[-1])}"


def _describe(d: DecisionRecord) -> str:
    """Write the lines of a mark's box."""
    effect = ": ".join(part for part in (d.verdict, d.measured) if part)
    rows = (
        ("refused", d.refused),
        ("evidence", d.evidence),
        ("hypothesis", d.hypothesis),
        ("expected", d.expected),
        ("effect", effect),
    )
    lines = [f"<b>before step {d.step}, {_safe(d.source)}: {_safe(format_decision(d))}</b>"]
    return "<br>".join(lines + [_safe(f"{name}: {said}") for name, said in rows if said])


def _safe(text: str) -> str:
    """Make a text literal for plotly, on lines of readable length."""
    text = clean(text)
    shown = text if len(text) <= TEXT else f"{text[:TEXT]} …"
    return "<br>".join(html.escape(line) for line in wrap(shown, 64, break_on_hyphens=False))


def compute_knob_moves(knobs: Sequence[tuple[int, Knobs]]) -> dict[str, tuple[Any, Any]]:
    """Return the hyperparameters whose value at the end differs from the first: ``{name: (first, last)}``."""
    if not knobs:
        return {}
    first, last = asdict(knobs[0][1]), asdict(knobs[-1][1])
    return {name: (first[name], last[name]) for name in first if first[name] != last[name]}
