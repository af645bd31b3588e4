"""kill -9 at random moments, resume, and compare with the run that nothing disturbed.

    python -m tests.support.chaos [--kills 28] [--seed 0] [--workdir DIR]

Two specs (full weights, LoRA), both with a script that changes knobs nearly every step, raises beta, rolls back
twice and saves. Each run is killed again and again at moments drawn at random (chaos_child.py) and resumed,
and must end with the same weights, optimizer, steps, groups, decisions, evaluations, samples and checkpoints, to the
last bit, as the undisturbed run. Prints a table in Markdown; exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.chaos_child import MOMENTS
from tests.support.program import MINI

SPECS = {
    "full weights": MINI.replace("steps = 14", "steps = 16"),
    "LoRA": MINI.replace("steps = 14", "steps = 16") + "\n[lora]\nrank = 4\n",
}
REACH = {  # how often a moment comes within a few steps, so that counts are drawn from the right range
    "warm start": 40, "sampling": 150, "rewarding": 5, "updating": 12, "optimizer": 5, "checkpoint": 20, "renamed": 2,
    "commit 1": 8, "commit 2": 8, "committed": 4, "any time": 150,
}  # fmt: skip
VOLATILE = {"id", "run_id", "step_id", "at", "path", "command_id", "measured", "verdict"}


@dataclass(frozen=True)
class Kill:
    run: str
    moment: str
    step: int
    resumed_at: int


class Launcher:
    """Processes that share one import of the program, each in a folder of its own (chaos_child.py)."""

    def __enter__(self) -> Launcher:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.chaos_child"],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def launch(self, folder: Path, moment: str, count: int, *words: str) -> int:
        """The program in ``folder``; its exit code, negative for the signal that killed it."""
        output = folder / "said.txt"
        output.write_text("")
        what = {"folder": str(folder), "output": str(output), "moment": moment, "count": count}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(what | {"words": [*words, "--plain"]}), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        if code not in (0, -9):
            raise RuntimeError(f"exit {code}\n{output.read_text()}")
        return code


def fingerprint(folder: Path, name: str) -> dict[str, Any]:
    """Everything that a run leaves and that must not depend on kills, without times and row numbers."""
    c = connect(folder)
    run = c.execute("SELECT * FROM runs WHERE name = ?", (name,)).fetchone()
    found: dict[str, Any] = {
        key: run[key] for key in ("status", "stop_reason", "last_step", "weights_step", "knobs", "pins")
    }
    live = "SELECT * FROM steps WHERE run_id = ? AND state != 'superseded' ORDER BY step"
    found["steps"] = []
    for step in c.execute(live, (run["id"],)).fetchall():
        groups = c.execute("SELECT * FROM groups WHERE step_id = ? ORDER BY id", (step["id"],))
        metrics = {k: v for k, v in json.loads(step["metrics"]).items() if not k.startswith("time/")}
        found["steps"].append({**_row(step), "metrics": metrics, "groups": [_row(group) for group in groups]})
    for table in ("decisions", "evaluations", "completions", "checkpoints"):
        rows = [_row(row) for row in c.execute(f"SELECT * FROM {table} WHERE run_id = ?", (run["id"],))]
        found[table] = sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))
    c.close()
    return found


def connect(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / "runs" / "harness.db")
    connection.row_factory = sqlite3.Row
    return connection


def _row(row: sqlite3.Row) -> dict[str, Any]:
    return {key: value for key, value in dict(row).items() if key not in VOLATILE}


def differences(left: Any, right: Any, where: str = "") -> list[str]:
    """Paths at which two trees differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        keys = sorted(left.keys() | right.keys())
        return [d for key in keys for d in differences(left.get(key), right.get(key), f"{where}/{key}")]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return [d for i, pair in enumerate(zip(left, right, strict=True)) for d in differences(*pair, f"{where}/{i}")]
    return [] if left == right else [f"{where}: {left!r:.200} is not {right!r:.200}"]


def torment(
    launcher: Launcher, folder: Path, spec: str, name: str, moments: list[str], rng: random.Random
) -> list[Kill]:
    """One run, killed at each of ``moments`` that still comes, resumed each time, and driven to its end."""
    words = ["run", str(spec_file(folder, spec)), "--name", name, "--force"]
    kills: list[Kill] = []
    for moment in [*moments, "never"]:
        if launcher.launch(folder, moment, rng.randint(1, REACH.get(moment, 1)), *words) == 0:
            break
        row, newest = _reached(folder, name)
        if row is not None:  # else it died before the run was recorded: start it again
            words = ["resume", name]
            kills.append(Kill(spec, moment, row["last_step"], newest))
            if row["status"] == "finished":  # it died over its report
                break
    return kills


def _reached(folder: Path, name: str) -> tuple[sqlite3.Row | None, int]:
    """The run's row, if it came so far, and the step of its newest checkpoint."""
    if not (folder / "runs" / "harness.db").exists():
        return None, 0
    c = connect(folder)
    row = c.execute("SELECT id, status, last_step FROM runs WHERE name = ?", (name,)).fetchone()
    newest = row and c.execute("SELECT max(step) FROM checkpoints WHERE run_id = ?", (row["id"],)).fetchone()[0]
    c.close()
    return row, newest or 0


def spec_file(folder: Path, spec: str) -> Path:
    path = folder / f"{spec.replace(' ', '-')}.toml"
    path.write_text(SPECS[spec])
    return path


def chaos(folder: Path, wanted: int, seed: int, *, specs: list[str] | None = None, per_run: int = 5) -> list[Kill]:
    """At least ``wanted`` kills over ``specs``. Raises AssertionError with what differs."""
    with Launcher() as launcher:
        return _chaos(launcher, folder, wanted, random.Random(seed), specs or list(SPECS), per_run)


def _chaos(
    launcher: Launcher, folder: Path, wanted: int, rng: random.Random, specs: list[str], per_run: int
) -> list[Kill]:
    calm: dict[str, Any] = {}
    kills: list[Kill] = []
    for spec in specs:
        name = "calm-" + spec.replace(" ", "-")
        launcher.launch(folder, "never", 0, "run", str(spec_file(folder, spec)), "--name", name)
        calm[spec] = fingerprint(folder, name)
    deck: list[str] = []
    number = 0
    while len(kills) < wanted:
        spec = list(calm)[number % len(calm)]
        if len(deck) < per_run:
            deck += rng.sample(MOMENTS, len(MOMENTS))
        moments, deck = sorted(deck[:per_run], key=lambda m: m != "warm start"), deck[per_run:]
        number += 1
        name = f"chaos-{number}"
        started = time.monotonic()
        new = torment(launcher, folder, spec, name, moments, rng)
        differ = differences(calm[spec], fingerprint(folder, name))
        kills += new
        print(f"{name} {spec}: {[k.moment for k in new]} in {time.monotonic() - started:.0f} s, {len(differ)} differ",
              file=sys.stderr, flush=True)  # fmt: skip
        assert not differ, f"{name} in {folder} after {new}:\n" + "\n".join(differ[:20])
    return kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=28)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workdir", type=Path)
    arguments = parser.parse_args()
    folder = arguments.workdir or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        kills = chaos(folder, arguments.kills, arguments.seed)
    except AssertionError as difference:
        print(difference, file=sys.stderr)
        raise SystemExit(1) from None
    print("| spec | killed in | after step | resumed from | then |\n|---|---|---|---|---|")
    for kill in kills:
        print(f"| {kill.run} | {kill.moment} | {kill.step} | {kill.resumed_at} | identical |")


if __name__ == "__main__":
    main()
