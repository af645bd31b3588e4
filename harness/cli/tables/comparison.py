"""Comparisons, as a person reads them in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.cli.tables.pool import short
from harness.core.formatting import clean
from harness.core.statistics import VERDICTS, describe_interval
from harness.views.answers import ANSWERS_TOLD
from harness.views.capability import describe_training
from harness.views.comparison import MOVES_TOLD, format_value
from harness.views.terminal.drawing import compute_sparkline


def render_group_comparison(found: Mapping[str, Any]) -> Table:
    """Base and stages of a group, a model a column: intervals stand below what they are of."""
    table = Table(title=f"{found['group']}: base and stages on {found['split']}", title_justify="left", box=None)
    table.add_column("")
    told = [_tell_model(one) for one in found["models"]]
    for one in found["models"]:
        table.add_column(Text(one["name"]), overflow="fold")
    for line in dict.fromkeys(line for one in told for line in one):
        table.add_row("" if line.startswith("of ") else line, *(Text(one.get(line, "-")) for one in told))
    return table


def _tell_model(one: Mapping[str, Any]) -> dict[str, str]:
    """What is told of a model by line; a line that begins with ``of`` holds the interval of the one before."""
    told = {"from": one["from"] or "-"}
    if "n" not in one:
        return told
    low, high = one["ci95"]
    told |= {"accuracy": f"{one['accuracy']:.3f}", "of accuracy": f"[{low:.2f}, {high:.2f}]"}
    for name in ("base", "parent"):
        if difference := one[f"against_{name}"]:
            low, high = difference["ci95"]
            told[f"against {name}"] = f"{difference['difference']:+.3f}"
            told[f"of against {name}"] = f"[{low:+.2f}, {high:+.2f}]"
    parent = one["against_parent"]
    told |= {"forgotten": str(len(parent["forgotten"]))} if parent else {}
    told["reward"] = "-" if one["reward"] is None else f"{one['reward']:.3f}"
    told |= {"thinking": f"{one['thinking_proportion']:.0%}", "answer": f"{one['answer_proportion']:.0%}"}
    told["tokens"] = f"{one['tokens']:.1f}"
    return told | {name: str(one[name]) for name in ("truncated", "empty", "repeated", "identical")}


def render_comparison(comparison: Mapping[str, Any]) -> RenderableType:
    """A comparison as a person reads it."""
    if "group" in comparison:
        return render_group_comparison(comparison)
    parts: list[RenderableType] = [_scores(comparison), Text("")]
    for difference in comparison["differences"]:
        for which, found in (("best checkpoint", difference["best"]), ("end", difference["final"])):
            if found is not None:
                line = f"{difference['run']} against {difference['against']} at the {which}: "
                parts.append(Text(line).append(describe_interval(found), style="bold"))
    for run in comparison["runs"]:
        parts += [Text(f"{run['run']}: {line}") for line in describe_training(run["pass_at"])]
    parts.append(Text(""))
    names = [run["run"] for run in comparison["runs"]]
    for title, rows in (("spec", comparison["spec"]), ("final hyperparameters", comparison["knobs"])):
        if rows:
            parts += [_table(title, names, [(row["field"], row["values"]) for row in rows]), Text("")]
        else:
            parts.append(Text(f"{title}: no difference"))
    moves = comparison["decisions"]
    shown = [
        (
            str(row["step"]),
            {run: "; ".join(f"{d['source']}: {d['action']}" for d in told) for run, told in row["runs"].items()},
        )
        for row in moves[:MOVES_TOLD]
    ]
    more = f" (the first {MOVES_TOLD} of {len(moves)}, all with --json)" if len(moves) > MOVES_TOLD else ""
    parts.append(_table(f"decisions before step{more}", names, shown) if shown else Text("decisions: no difference"))
    return Group(*parts)


def _scores(comparison: Mapping[str, Any]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0))
    names = [
        run["run"] if run["status"] == "finished" else f"{run['run']} ({run['status']})" for run in comparison["runs"]
    ]
    table.add_column("run", min_width=max(map(len, names)))
    for column in ("policy", "seed", "steps", "start", "best", "last", "no signal", "dev"):
        table.add_column(column, overflow="fold")
    for name, run in zip(names, comparison["runs"], strict=True):
        held = run["heldout"]
        scores = ["-" if held[which] is None else f"{held[which]:.3f}" for which in ("baseline", "best", "final")]
        signal = "-" if run["signal"] is None else f"{run['signal']:.0%}"
        spark = compute_sparkline(list(run["dev"]["by_step"].values()), 16, 0.0, 1.0)
        cells = (name, run["policy"], run["seed"], run["steps"], *scores, signal, spark)
        table.add_row(*(Text(clean(str(cell))) for cell in cells))
    return table


def _table(title: str, names: Sequence[str], rows: Sequence[tuple[str, Mapping[str, Any]]]) -> RenderableType:
    table = Table(title=title, title_justify="left")
    for column in ("", *names):
        table.add_column(Text(column), overflow="fold")
    for first, values in rows:
        table.add_row(Text(clean(first)), *(Text(clean(format_value(values[name]))) for name in names))
    return table


def render_answers(comparison: Mapping[str, Any]) -> RenderableType:
    """A comparison of answers to the same prompts as a person reads it."""
    parts: list[RenderableType] = []
    for found in comparison["answerers"]:
        (low, high), (least, most) = found["ci95"], found["reward_ci95"]
        line = (
            f"{found['answerer']} ({found['who']}): accuracy {found['accuracy']:.3f} [{low:.3f}, {high:.3f}], "
            f"reward {found['reward']:.3f} [{least:.3f}, {most:.3f}]"
        )
        rates = list(found["pass_at"].items())[1:]
        line += "".join(f", pass@{k} {rate['value']:.3f}" for k, rate in rates[-1:])
        parts.append(Text(clean(f"{line}, on {found['n']:,} prompts")))
        if found["errored"]:
            said = f"    {found['errored']:,} of {found['completions']:,} errored, the first: {found['error']}"
            parts.append(Text(clean(said), style="yellow"))
    for found in comparison["differences"]:
        left = f"; {found['left_out']:,} left out" if found["left_out"] else ""
        parts += [Text(), Text(f"on the {found['n']:,} prompts that both answered{left}:")]
        scores = [("accuracy", found["accuracy"]), ("mean reward", found["reward"])]
        if "pass_at" in found:
            scores.append((f"pass@{found['pass_at']['k']}", found["pass_at"]))
        for name, moved in scores:
            line = f"{VERDICTS[moved['verdict']]}: {name} {moved['from']:.3f} -> {moved['to']:.3f}, "
            parts.append(Text(line + describe_interval(moved), style="bold"))
        for word in ("forgotten", "gained"):
            told = found[word]
            more = f", of which {ANSWERS_TOLD}" if len(told) > ANSWERS_TOLD else ""
            parts.append(Text(f"\n{word}: {len(told):,} prompts{more}"))
            parts += [_tell_changed(one) for one in told[:ANSWERS_TOLD]]
    return Group(*parts)


def _tell_changed(one: Mapping[str, Any]) -> Text:
    line = Text(f"  {short(one['prompt'], 90)}").append(f"  expected {short(one['ground_truth'], 40)}", "dim")
    for when in ("before", "after"):
        told = one[when]
        line.append(f"\n    {when} {told['score']:.2f} {clean(told['reason'])}: ", "dim").append(
            _short_end(told["answer"], 90)
        )
    return line


def _short_end(text: str, most: int) -> str:
    plain = " ".join(clean(text).split())
    return plain if len(plain) <= most else f"...{plain[3 - most :]}"
