"""The one way out to a terminal: whatever is printed has its control and direction characters made visible.

A name, a reason or a completion may hold what a terminal obeys (its title, the clipboard, colours, the other reading
direction). Only the styles that the program itself gives pass.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from harness.core.formatting import clean_lines


class Console(rich.console.Console):
    """A rich Console for text of others: it takes no markup from it, and lets nothing through that is not printable."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a string printable before it is measured and laid out."""
        return super().render_str(clean_lines(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, and make printable what came in as Text."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(clean_lines(segment.text), segment.style)


def say(text: object = "", to_stderr: bool = False) -> None:
    """Print lines at once, to stderr what stands beside a document on stdout."""
    print(clean_lines(str(text)), file=sys.stderr if to_stderr else sys.stdout, flush=True)
