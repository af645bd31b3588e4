"""The pictures of docs/diagnose.md: for each finding a run that has it.

    python -m tests.benchmarks.diagnose_doc CELLS...

CELLS are folders of the gyms' cells (FOLDER/cells); a finding that no cell has is shown on a made-up run of the tests.
It prints the section of Markdown: the metrics that the evidence names, a block per step, and where it was first found.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.store.history import play_back
from harness.store.opening import open_store
from harness.types import Finding, Snapshot
from harness.views.terminal.drawing import compute_sparkline
from policies.detectors import DETECTORS, detect
from policies.detectors.signs import SEVERITIES
from policies.diagnosis import ADVICE
from tests.support.fault_snapshots import FAULTS

WIDTH = 60
METRIC = re.compile(r"\b(?:[a-z]+/[a-z_]+|dev)\b")
OF_NO_RUN = {"not_finite": ("grad/norm",), "anchored": ("kl/mean", "reward/mean"), "learning_rate": ("kl/mean",)}
"""Metrics of findings whose evidence names none, or too many."""

Shown = tuple[str, Snapshot, Finding, int]
"""The name of a run, its last snapshot, the finding, and the step it was first found at."""


def find_runs(cells: Sequence[Path]) -> Iterator[Shown]:
    for cell in cells:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(cell / "harness.db", folder)
            store = open_store(f"sqlite:///{folder}/harness.db")
            snapshots = list(play_back(store, 1))
            store.close()
        seen = set()
        for snapshot in snapshots:
            for finding in detect(snapshot):
                if finding.severity in ("severe", "warning") and finding.kind not in seen:
                    seen.add(finding.kind)
                    yield cell.name, snapshots[-1], finding, snapshot.steps_done


def draw(shown: Shown) -> Iterator[str]:
    name, snapshot, finding, first = shown
    metrics = OF_NO_RUN.get(finding.kind, tuple(dict.fromkeys(METRIC.findall(finding.evidence)))[:4])
    steps = snapshot.steps[:WIDTH]
    yield f"{finding.evidence}\n"
    yield "```text"
    for metric in metrics:
        if metric == "dev":
            looks = {look.step: look.score for look in snapshot.dev}
            values = [looks[max(at for at in looks if at <= step.step)] for step in steps] if 0 in looks else []
        else:
            values = [step.metrics.get(metric, 0.0) for step in steps]
        if values:
            ends = f"{values[0]:.3g} -> {values[-1]:.3g}"
            yield f"{metric:28}{compute_sparkline(values, WIDTH, None, None)}  {ends}"
    place = [step.step for step in steps].index(first) if first in [step.step for step in steps] else len(steps) - 1
    yield f"{'found at step ' + str(first):28}{' ' * place}^"
    yield f"```\n{name}\n"


def main() -> None:
    cells = [done.parent for folder in sys.argv[1:] for done in sorted(Path(folder).glob("*/result.json"))]
    best: dict[str, Shown] = {}
    for shown in sorted(find_runs(cells), key=lambda shown: SEVERITIES.index(shown[2].severity)):
        best.setdefault(shown[2].kind, shown)
    for kind in DETECTORS:
        snapshot, _ = FAULTS[kind]
        made_up = next(finding for finding in detect(snapshot) if finding.kind == kind)
        print(f"### `{kind}`\n\nWhat to do: {ADVICE[kind]}.\n")
        print("\n".join(draw(best.get(kind, ("a made-up run", snapshot, made_up, made_up.last)))))


if __name__ == "__main__":
    main()
