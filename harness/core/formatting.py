"""Show values, and texts that a model wrote, to people."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from harness.types import KnobValue

SHOWN = {"flat": "zero-variance", "hopeless": "never solved"}
"""Kinds of groups and prompts whose name in records is not the one that people read."""


def format_kind(kind: str) -> str:
    """Name a kind of groups or prompts as people read it: ``all_zero`` as ``all-zero``."""
    return SHOWN.get(kind, kind.replace("_", "-"))


FORMULA = ("=", "+", "-", "@", "\t", "\r")
JOINERS = frozenset("\u200c\u200d\u200e\u200f\u061c")
"""Join letters and emoji, or mark the direction of their neighbours alone: words of many languages need them."""


def clean(text: str) -> str:
    """Put a text of others on one line, without what a terminal or a page would obey: control characters, lone
    surrogates, and those that turn the direction of all that follows."""
    return text if text.isprintable() else "".join(map(_clean_character, text))


def _clean_character(c: str) -> str:
    if c.isprintable() or c in JOINERS:
        return c
    if c in "\n\u2028\u2029":
        return "⏎"
    return " " if c == "\t" or unicodedata.category(c) == "Zs" else "�"


def shorten(text: str, most: int = 100) -> str:
    """Put a value on one line of at most ``most`` characters, so that no message is as long as what it names."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[: most - 3]}..."


def escape_surrogates(text: str) -> str:
    """Write lone surrogates, which no encoding takes, as ``\\ud800``; everything else stays."""
    return text.encode("utf-8", "backslashreplace").decode()


def clean_lines(text: str, limit: int | None = None) -> str:
    """Clean a text whose lines may stay lines, as on a page; at most ``limit`` characters, then how many more there
    are."""
    shown = text if limit is None else text[:limit]
    if shown is text and text.isprintable():
        return text
    lines = "\n".join(clean(line) for line in shown.expandtabs(4).split("\n"))
    return lines if len(shown) == len(text) else f"{lines}\n… {len(text) - len(shown):,} more characters"


def clean_cell(text: str) -> str:
    """Clean a text for a cell of a CSV: one that a spreadsheet would take for a formula begins with an apostrophe."""
    shown = "\t".join(map(clean_lines, text.split("\t")))
    return f"'{shown}" if text.startswith(FORMULA) and not _is_number(text) else shown


def restore_cell(cell: str) -> str:
    """Take the apostrophe from a cell that ``clean_cell`` gave one."""
    return cell[1:] if cell.startswith("'") and clean_cell(cell[1:]) == cell else cell


def finalize(value: object) -> object:
    """Clean what an expression of a Jinja template gives, unless it is markup of the template's own."""
    return clean_lines(value) if type(value) is str else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def format_duration(seconds: float) -> str:
    """Format seconds: ``90`` as ``1 min 30 s``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def format_ago(seconds: float) -> str:
    """Format an age in seconds: ``3 min ago``, ``5 h ago``, ``2 days ago``, the largest unit that fits, rounded down.
    After a clock was set back it is ``just now``."""
    for unit, length in (("day", 86_400), ("h", 3600), ("min", 60)):
        count = int(seconds // length)
        if count >= 1:
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''} ago"
    return "just now"


def format_bytes(size: float) -> str:
    """Format bytes: ``538 MiB`` or ``2.1 GiB``."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"


def format_knob(value: KnobValue) -> str:
    """Format a hyperparameter: ``0.7``, or ``unset`` for a target pass rate left to the sampler."""
    return "unset" if value is None else f"{value:g}"


def format_changes(changes: Mapping[str, Mapping[str, Any]]) -> str:
    """Format changes of a spec: ``pool.source a.jsonl -> b.jsonl, seed 0 -> 3``."""
    return ", ".join(f"{name} {change['from']} -> {change['to']}" for name, change in changes.items())
