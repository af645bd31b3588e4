"""Comparisons, as a person reads them in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from harness.cli.tables.pool import short
from harness.core.formatting import clean
from harness.core.statistics import VERDICTS, describe_interval
from harness.views.answers import ANSWERS_TOLD, COUNTS
from harness.views.capability import describe_training
from harness.views.comparison import MOVES_TOLD, format_value
from harness.views.seeds import describe_moves, describe_seeds
from harness.views.terminal.drawing import compute_sparkline


def render_comparison(comparison: Mapping[str, Any]) -> RenderableType:
    """A comparison as a person reads it."""
    if "answerers" in comparison:
        return _render_answers(comparison)
    if "groups" in comparison:
        return _render_groups(comparison)
    parts: list[RenderableType] = [_scores(comparison), Text("")]
    for seeds in comparison["seeds"]:
        parts += [Text(f"{describe_seeds(seeds)}", style="bold"), Text(f"    {clean(', '.join(seeds['runs']))}")]
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


# ---------------------------------------------------------------- whatever answered the same prompts

WIDTH = 80
"""Characters of a line with an answer in it."""
LABELS, COLUMN = 16, 15
"""Characters of the first column of a table of models, and those that each model needs."""
FORGOTTEN_TOLD = 3
"""Prompts that are shown of each of several differences."""
Lines = Mapping[str, str]


@dataclass(frozen=True)
class _Columns:
    """A table with a model a column, below each other as many tables as the width asks for. ``told`` are the lines of
    each model by name; one that begins with ``of `` belongs to the line before."""

    names: Sequence[str]
    told: Sequence[Lines]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        most = max(1, (options.max_width - LABELS) // COLUMN)
        rows = -(-len(self.names) // most)
        each = -(-len(self.names) // rows)  # so that no table has one column alone
        for start in range(0, len(self.names), each):
            part = slice(start, start + each)
            table = Table(box=None, padding=(0, 2, 0, 0))
            table.add_column("", min_width=LABELS - 2, no_wrap=True)
            for name in self.names[part]:
                table.add_column(Text(clean(name)), overflow="fold", min_width=COLUMN - 2)
            for line in dict.fromkeys(line for one in sorted(self.told, key=len, reverse=True) for line in one):
                if any(line in one for one in self.told[part]):
                    cells = (Text(clean(one.get(line, "-"))) for one in self.told[part])
                    table.add_row("" if line.startswith("of ") else line, *cells)
            yield table
            if start + each < len(self.names):
                yield Text()


def _render_answers(comparison: Mapping[str, Any]) -> RenderableType:
    """A comparison of answers to the same prompts."""
    answerers, differences = comparison["answerers"], comparison["differences"]
    of = f"{comparison['group']}: base and stages" if "group" in comparison else "answers"
    parts: list[RenderableType] = [Text(f"{of} on {comparison['split']}", style="italic")]
    told = [_tell_answerer(one, differences, comparison["reference"]) for one in answerers]
    parts.append(_Columns([one["name"] for one in answerers], told))
    for one in answerers:
        if one["errored"]:
            said = f"{one['name']}: {one['errored']:,} of {one['completions']:,} errored, the first: {one['error']}"
            parts.append(Text(clean(said), style="yellow"))
    parts += [Text(clean(f"note: {note}"), style="yellow") for note in comparison["notes"]]
    tell = _tell_difference if len(differences) == 1 else _tell_briefly
    for found in differences:
        parts += tell(found, comparison["metric"])
    return Group(*parts)


def _tell_answerer(one: Mapping[str, Any], differences: Sequence[Mapping[str, Any]], reference: str) -> Lines:
    low, high = one["ci95"]
    told = {"who": one["who"]} if one["who"] not in (one["name"], one.get("run")) and "kind" not in one else {}
    told |= {"from": one["from"]} if one["from"] else {}
    told |= {
        "prompts": f"{one['n']:,}",
        "accuracy": f"{one['accuracy']:.3f}",
        "of accuracy": f"[{low:.2f}, {high:.2f}]",
    }
    for k, rate in list(one["pass_at"].items())[-1:]:
        told[f"pass@{k}"] = f"{rate['value']:.3f}"
    for found in (found for found in differences if found["name"] == one["name"]):
        word = "parent" if found["against"] != reference else "base" if "kind" in one else "first"
        low, high = found["accuracy"]["ci95"]
        told[f"against {word}"] = f"{found['accuracy']['difference']:+.3f}"
        told[f"of against {word}"] = f"[{low:+.2f}, {high:+.2f}]"
        told[f"  forgotten{' ' * (word == 'parent')}"] = f"{len(found['forgotten']):,}"
        told[f"  gained{' ' * (word == 'parent')}"] = f"{len(found['gained']):,}"
    if one["reward"] is not None:
        low, high = one["reward_ci95"]
        told |= {"reward": f"{one['reward']:.3f}", "of reward": f"[{low:.2f}, {high:.2f}]"}
    told |= {"thinking": f"{one['thinking_proportion']:.0%}", "answer": f"{one['answer_proportion']:.0%}"}
    told |= {"tokens": f"{one['tokens']:.1f}"} if one["tokens"] is not None else {}
    return told | {name: f"{one[name]:,}" for name in COUNTS if name != "errored" or one[name]}


def _tell_difference(found: Mapping[str, Any], metric: str) -> list[RenderableType]:
    """One difference of one: all that is known of it."""
    left = f"; {found['left_out']:,} left out" if found["left_out"] else ""
    head = f"{found['name']} against {found['against']}, on the {found['n']:,} prompts that both answered{left}:"
    parts: list[RenderableType] = [Text(), Text(clean(head))]
    scores = {"accuracy": found["accuracy"], "mean reward": found["reward"]}
    if "pass_at" in found:
        scores[f"pass@{found['pass_at']['k']}"] = found["pass_at"]
    parts += [_score_line(name, moved) for name, moved in scores.items()]
    for word in ("forgotten", "gained"):
        parts += _tell_prompts(word, found[word], ANSWERS_TOLD)
    return parts


def _tell_briefly(found: Mapping[str, Any], metric: str) -> list[RenderableType]:
    """One difference of several: by what they are judged, and what was forgotten."""
    left = f", {found['left_out']:,} prompts left out" if found["left_out"] else ""
    names = {"accuracy": "accuracy", "reward": "mean reward"}
    told = [metric, *(name for name in names if found[name]["verdict"] != found[metric]["verdict"])]
    parts: list[RenderableType] = [Text(), Text(clean(f"{found['name']} against {found['against']}{left}:"))]
    parts += [_score_line(names[name], found[name]) for name in told]
    parts += _tell_prompts("forgotten", found["forgotten"], FORGOTTEN_TOLD)
    return [*parts, *_tell_prompts("gained", found["gained"], 0)]


def _score_line(name: str, moved: Mapping[str, Any]) -> Text:
    line = f"{VERDICTS[moved['verdict']]}: {name} {moved['from']:.3f} -> {moved['to']:.3f}, "
    return Text(line + describe_interval(moved), style="bold")


def _tell_prompts(word: str, prompts: Sequence[Mapping[str, Any]], most: int) -> list[RenderableType]:
    more = f", of which {most}" if most and len(prompts) > most else ""
    said = Text(f"{word}: {len(prompts):,} prompt{'s' * (len(prompts) != 1)}{more}")
    return [said, *map(_tell_changed, prompts[:most])]


def _render_groups(comparison: Mapping[str, Any]) -> RenderableType:
    """Stages over groups of several seeds."""
    groups = comparison["groups"]
    seeds = ", ".join(str(comparison["seeds"][group]) for group in groups)
    title = f"{', '.join(groups)}: stages on {comparison['split']}, {len(groups)} groups, seeds {seeds}"
    told = [_tell_stage(one, comparison) for one in comparison["stages"]]
    parts: list[RenderableType] = [Text(clean(title), style="italic")]
    parts.append(_Columns([one["name"] for one in comparison["stages"]], told))
    parts += [Text(clean(f"note: {note}"), style="yellow") for note in comparison["notes"]]
    for found in comparison["differences"]:
        line = f"{found['name']} against {found['against']}: accuracy {describe_moves(found['accuracy'])}"
        parts.append(Text(clean(line), style="bold"))
    return Group(*parts)


def _tell_stage(one: Mapping[str, Any], comparison: Mapping[str, Any]) -> Lines:
    told = {"from": one["from"] or "-", "groups": str(len(one["groups"]))}
    for score, form in (("accuracy", ".3f"), ("reward", ".3f"), ("answer_proportion", ".3f"), ("tokens", ".1f")):
        if spread := one[score]:
            name = score.removesuffix("_proportion")
            told[name] = f"{spread['mean']:{form}}" + ("" if spread["sd"] is None else f" ± {spread['sd']:{form}}")
            told[f"of {name}"] = f"{spread['low']:.2f} to {spread['high']:.2f}"
    for found in (found for found in comparison["differences"] if found["name"] == one["name"]):
        word = "base" if found["against"] == comparison["reference"] else "parent"
        moves = found["accuracy"]
        told[f"against {word}"] = f"{moves['mean']:+.3f}" + ("" if moves["sd"] is None else f" ± {moves['sd']:.3f}")
        told[f"  forgotten{' ' * (word == 'parent')}"] = f"{found['forgotten']['mean']:.1f}"
    return told


def _tell_changed(one: Mapping[str, Any]) -> Text:
    line = Text(f"  {short(one['prompt'], 50)}").append(f"  expected {_short_end(one['ground_truth'], 16)}", "dim")
    for when in ("before", "after"):
        told = one[when]
        head = f"    {when} {told['score']:.2f} {clean(told['reason'])}: "
        line.append(f"\n{head}", "dim").append(_short_end(told["answer"], max(20, WIDTH - len(head))))
    return line


def _short_end(text: str, most: int) -> str:
    plain = " ".join(clean(text).split())
    return plain if len(plain) <= most else f"...{plain[3 - most :]}"
