"""Exports a frame of the live view as SVG: python -m tests.picture RUN docs/live.svg [--size 120x40]"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from rich.console import Console

from harness.dashboard import render
from harness.places import database_url
from harness.snapshot import SnapshotReader
from harness.store import open_store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("svg", type=Path)
    parser.add_argument("--size", default="120x40")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    store = open_store(database_url("runs", None))
    run = store.find_run(arguments.run)
    snapshot = SnapshotReader(store, run.id).read(whole_run=True)
    console = Console(record=True, width=width, height=height, file=io.StringIO(), force_terminal=True)
    console.print(render(snapshot, age=0.0, width=width, height=height))
    arguments.svg.write_text(console.export_svg(title=f"grpo watch {run.name}"), encoding="utf-8")


if __name__ == "__main__":
    main()
