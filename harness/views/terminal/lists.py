"""List decisions, warnings, errors and samples on the dashboard. Pure functions of a snapshot."""

from __future__ import annotations

from rich.text import Text

from harness.types import DecisionRecord, EventRecord, SampleRecord, Snapshot
from harness.views.summary import format_decision
from harness.views.terminal.drawing import VERDICT_STYLE, Lines, title, wrap


def feed(s: Snapshot, words: str) -> list[DecisionRecord | EventRecord]:
    """List decisions other than continue, warnings and errors, newest first; ``words`` filters them."""
    found: list[DecisionRecord | EventRecord] = [d for d in s.decisions if d.action != "continue"]
    found += [e for e in s.events if e.level != "info"]
    shown = [item for item in found if words.lower() in str(item).lower()]
    return sorted(shown, key=lambda item: (item.step, item.at), reverse=True)


def decisions(s: Snapshot, width: int, rows: int, *, words: str = "", skip: int = 0, full: bool = False) -> Lines:
    """Draw the feed, a line each, or ``full`` with every field of each."""
    found = feed(s, words)
    lines = [title("decisions", width, f"/{words}" if words else "")]
    for item in found[skip:]:
        if len(lines) >= rows:
            break
        lines += _event(item) if isinstance(item, EventRecord) else _decision(item, width, full)
    if not found:
        lines.append(Text().append("nothing like that" if words else "no change yet", "dim"))
    return lines[:rows]


def _event(e: EventRecord) -> Lines:
    return [
        Text()
        .append(f"{e.step:>5} ", "dim")
        .append(f"{e.level:<11}", "yellow" if e.level == "warning" else "red")
        .append(e.text)
    ]


def _decision(d: DecisionRecord, width: int, full: bool) -> Lines:
    line = Text().append(f"{d.step:>5} ", "dim").append(f"{d.source:<11}", "cyan" if d.source == "manual" else "")
    line.append(format_decision(d), "red strike" if d.refused else "bold")
    if d.verdict:
        line.append(f"  {d.verdict}", VERDICT_STYLE.get(d.verdict, "bold"))
    line.append(f"  ${d.cost_usd:.4f}" if d.cost_usd else "", "yellow")
    line.append(f"  refused: {d.refused}" if d.refused else "", "red")
    if not full:
        return [line.append(f"  {d.evidence}", "dim")]
    lines = [line]
    asked = "" if d.who is None or d.asked_at is None else f"{d.who}, applied {max(0.0, d.at - d.asked_at):.1f} s later"
    for name, text in (
        ("asked by", asked), ("note" if d.who else "evidence", d.evidence), ("because", d.hypothesis),
        ("expected", d.expected), ("measured", d.measured or ""), ("result", d.result or ""),
    ):  # fmt: skip
        if text:
            first, *rest = wrap(text, width, " " * 25, "")
            lines += [Text().append(f"{name:>23}  ", "dim").append(first.plain.strip()), *rest]
    return lines


def samples(s: Snapshot, width: int, rows: int, *, words: str = "", skip: int = 0, full: bool = False) -> Lines:
    """Draw the best and the worst completion of groups of the newest step, with reason codes; ``full`` wraps the
    texts."""
    found = [x for x in s.samples if x.kind != "fixed"] or list(s.samples)
    found = [x for x in found if words.lower() in f"{x.prompt} {x.completion} {x.reason}".lower()]
    step = f"step {found[0].step}" if found else ""
    lines = [title("samples", width, f"{step} /{words}" if words else step)]
    groups: dict[str, list[SampleRecord]] = {}
    for sample in found:
        groups.setdefault(sample.prompt, []).append(sample)
    for prompt, group in list(groups.items())[skip:]:
        if len(lines) >= rows:
            break
        expected = f"expected {group[0].ground_truth}"
        if full:
            lines += wrap(prompt, width, "", "bold")
            lines.append(Text().append(f"  {expected}", "dim"))
        else:
            lines.append(Text().append(prompt[: width // 2], "bold").append(f"  {expected[: width // 3]}", "dim"))
        for sample in group:
            lines += _sample(sample, width, full)
    return lines[:rows] if found else [*lines, Text().append("none yet", "dim")]


def _sample(x: SampleRecord, width: int, full: bool) -> Lines:
    reward = "error" if x.reward is None else f"{x.reward:.2f}"
    line = (
        Text()
        .append("  ✓ " if x.correct else "  ✗ ", "green" if x.correct else "red")
        .append(f"{x.kind:<5} {reward:>5} ")
    )
    line.append(f"{x.reason:<14}", "green" if x.correct else "red")
    if not full:
        return [line.append(x.completion)]
    return [line, *wrap(x.completion, width, " " * 6, "")]
