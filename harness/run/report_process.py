"""Write the report when a run ends, in a process of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness.core.processes import python_words

REPORT = "report.html"
"""In a run's folder, written when the run ends."""
LIMIT_S = 120.0
"""After which the report at the end of a run is given up: a report is no reason to wait."""


def write_report_apart(url: str, name: str, file: Path) -> str:
    """Write the report in another process, so that nothing it does can hurt this one. Return what went
    wrong, empty when nothing did."""
    command = [*python_words("harness"), "review", name, "--html", str(file), "--db", url]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {LIMIT_S:g} s"
    except OSError as error:
        return str(error)
    said = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else (said[-1] if said else f"exit code {done.returncode}")
