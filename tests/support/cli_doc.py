"""docs/cli.md, from the program itself: ``python -m tests.support.cli_doc`` (make docs) writes it anew."""

from __future__ import annotations

import re
from pathlib import Path

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from harness.cli.app import app

FILE = Path(__file__).parents[2] / "docs" / "cli.md"
HEAD = "<!-- Written by the program: make docs -->\n\n"


def render() -> str:
    """What Typer writes of every command, with examples as code and first sentences whole."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="grpo"), name="grpo")
    text = re.sub(r"(?m)^  (grpo|GRPO_)", r"    \1", text)
    text = re.sub(r"(?m)^(    \S.*)\n\n(?=    \S)", r"\1\n", text)
    summaries = dict(re.findall(r"(?m)^#+ `(grpo [^`]+)`\n\n(.+)$", text))
    lines, within = [], ""
    for line in text.splitlines():
        if heading := re.match(r"#+ `(.+)`", line):
            within = heading[1]
        listed = re.match(r"\* `([\w-]+)`: ", line)
        whole = f"{within} {listed[1]}" if listed else ""
        lines.append(f"* [`{whole}`](#{whole.replace(' ', '-')}): {summaries[whole]}" if whole in summaries else line)
    return HEAD + "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
