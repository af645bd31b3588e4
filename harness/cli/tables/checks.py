"""What was checked or diagnosed, as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.core.formatting import clean, shorten
from harness.views.terminal.drawing import compute_sparkline

if TYPE_CHECKING:
    from harness.checks.against import Agreement
    from harness.checks.doctor import MachineCheck
    from harness.checks.preflight import Report
    from harness.commands.report import Answer, Diagnosis

TOLD = 240
"""Characters of a reason."""


def render_preflight(report: Report) -> RenderableType:
    from harness.checks.preflight import to_rows

    table = Table(box=None, show_header=False)
    styles = {"pass": "green", "warn": "yellow", "fail": "red"}
    for row in to_rows(report):
        table.add_row(Text(row["level"], style=styles[row["level"]]), row["check"], Text(clean(row["said"])))
    return Group(table, Text(f"preflight: {report.verdict}"))


def render_machine(found: Sequence[MachineCheck]) -> RenderableType:
    table = Table(box=None, show_header=False)
    for check in found:
        mark = Text("ok", style="green") if check.ok else Text("fix", style="red")
        table.add_row(mark, check.what, Text(check.found), Text(check.mend, style="yellow"))
    return table


# ---------------------------------------------------------------- diagnose

SEVERE = {"severe": "bold red", "warning": "yellow", "note": "dim"}
CELLS = 24
"""Width of a curve in a table."""


def render_diagnosis(found: Diagnosis) -> RenderableType:
    """A diagnosis as a person reads it."""
    head = Text(clean(found.source), style="bold")
    rows = "" if found.rows == found.steps else f" in {found.rows:,} row{'s' * (found.rows != 1)}"
    head.append(f": {found.format}, {found.steps:,} step{'s' * (found.steps != 1)}{rows}", style="not bold")
    parts: list[RenderableType] = [head, *(Text(f"note: {clean(note)}", style="dim") for note in found.notes), Text("")]
    parts += [_curve_table(found), Text("")]
    for one in found.findings:
        where = f"step {one.first}" if one.first == one.last else f"steps {one.first}-{one.last}"
        parts.append(Text(one.severity, style=SEVERE[one.severity]).append(f"  {one.kind}  {where}", style="bold"))
        parts.append(Text(f"    {clean(one.evidence)}"))
        parts.append(Text(f"    {one.advice}", style="italic"))
    if not found.findings:
        parts.append(
            Text(f"nothing found by the {found.judged} detectors that this has the metrics for", style="green")
        )
    parts.append(Text(""))
    if found.at_first is not None:
        parts.append(_answer_line("the rules at the first sign", found.at_first))
    parts.append(_answer_line("the rules at the end", found.at_end))
    if found.unknown:
        unknown = ", ".join(f"{kind} ({why})" for kind, why in found.unknown.items())
        parts.append(Text(f"unknown: {unknown.replace('not logged: ', 'no ')}", style="dim"))
    if found.ignored:
        more = f" and {len(found.ignored) - 12} more" if len(found.ignored) > 12 else ""
        parts.append(Text(f"not read: {clean(', '.join(found.ignored[:12]))}{more}", style="dim"))
    return Group(*parts)


def _curve_table(found: Diagnosis) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("metric", "in the log as", "first", "last", ""):
        table.add_column(name, justify="right" if name in ("first", "last") else "left")
    names = {ours: theirs for theirs, ours in found.recognised.items()}
    for metric, curve in found.curves.items():
        values = list(curve.values())
        per_cell = -(-len(values) // CELLS)
        means = [fmean(values[i : i + per_cell]) for i in range(0, len(values), per_cell)]
        spark = compute_sparkline(means, CELLS, None, None)
        table.add_row(metric, clean(names.get(metric, "")), f"{values[0]:.4g}", f"{values[-1]:.4g}", spark)
    return table


def _answer_line(when: str, answer: Answer) -> Text:
    return (
        Text(f"{when} (step {answer.step}): ").append(answer.action, style="bold").append(f"  {clean(answer.evidence)}")
    )


def describe_agreement(found: Agreement) -> Iterator[str]:
    """What came of a comparison with a hosted evaluator, line by line; the last says how many agree."""
    needs = f", requirements {', '.join(found.requirements)}" if found.requirements else ""
    took = "" if found.runtime_ms is None else f"; it took {found.runtime_ms:,} ms"
    yield f"{found.against}: {found.files[0]} and {len(found.files) - 1} files{needs}{took}"
    if found.changed:
        yield "the reward has changed since this was recorded"
    for one in found.differences:
        ours, theirs = ("failed" if value is None else f"{value:g}" for value in (one.ours, one.theirs))
        reason = f" ({shorten(one.reason, TOLD)})" if one.reason else ""
        yield f"{one.row}: ours {ours}, theirs {theirs}{reason}"
    if (more := found.rows - found.agree - len(found.differences)) > 0:
        yield f"and {more:,} more that differ"
    if found.unchecked:
        yield f"{found.unchecked:,} rows have no answer to judge"
    if found.strangers:
        yield f"{found.strangers:,} recorded answers are to no row of this pool"
    failed = f", of which {found.failed:,} failed on both sides" if found.failed else ""
    most = "no row was scored by both" if found.max_difference is None else f"max difference {found.max_difference:.3f}"
    yield f"{found.agree:,}/{found.rows:,} agree{failed}, {most}"
