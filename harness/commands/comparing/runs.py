"""Compare runs by their records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.files import check_parent, write_rows, write_text
from harness.commands.report import Document

if TYPE_CHECKING:
    from harness.store.reader import RunReader


def write_comparison(
    store: RunReader, names: Sequence[str], html: Path | None = None, csv: Path | None = None
) -> Document:
    """Compare runs by their whole names, and write the page of that and a row for each where a file is given. Raises
    InputError."""
    from harness.store.history import load_history
    from harness.views.comparison import build_comparison, list_rows

    if html is not None:
        check_parent(html, "--html")
    histories = [load_history(store, name, whole_run=False) for name in names]
    specs = [store.load_run(history.run.id).spec for history in histories]
    document = build_comparison(histories, specs)
    if html is not None:
        from harness.views.html.page import render_comparison_page

        write_text(html, [render_comparison_page(document, histories)], option="--html")
    if csv is not None:
        write_rows(csv, list_rows(document))
    return Document(document)
