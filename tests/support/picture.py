"""Exports a frame of the dashboard as SVG.

python -m tests.support.picture RUN docs/live.svg [--size 120x40] [--step 40]
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from harness.core.paths import database_url
from harness.store.history import read_back
from harness.store.opening import open_store
from harness.store.snapshot import SnapshotReader
from harness.views.console import Console
from harness.views.terminal.frame import Look, render


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("svg", type=Path)
    parser.add_argument("--size", default="120x40")
    parser.add_argument("--step", type=int, help="as it was after that step")
    parser.add_argument("--screen", default="overview")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    store = open_store(database_url("runs", None))
    run = store.find_run(arguments.run)
    snapshot = SnapshotReader(store, run.id).read(whole_run=True)
    if arguments.step:
        snapshot = read_back(store, snapshot, arguments.step)
    console = Console(record=True, width=width, height=height, file=io.StringIO(), force_terminal=True)
    look = Look(screen=arguments.screen, at=arguments.step)
    console.print(render(snapshot, age=0.0, width=width, height=height, look=look))
    arguments.svg.write_text(console.export_svg(title=f"grpo watch {run.name}"), encoding="utf-8")


if __name__ == "__main__":
    main()
