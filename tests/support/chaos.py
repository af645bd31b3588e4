"""kill -9 at random moments, resume, and compare with the run that nothing disturbed.

    python -m tests.support.chaos [--kills 35] [--seed 0] [--workdir DIR] [--spec NAME ...]

Two specs of GRPO (full weights, LoRA), both with a script that changes knobs nearly every step, raises beta, rolls
back twice and saves, one of kind sft under its own rules, at a rate so high that they have work, and one with stages
of both kinds. Each run, or group, is killed again and again at moments drawn at random (chaos_child.py) and resumed,
and must end with the same weights, optimizer, steps, groups, decisions, evaluations, samples and checkpoints, to the
last bit, as the undisturbed one, a group with the same CSVs of scores.
Prints a table in Markdown; exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
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

from tests.support.chaos_child import MOMENTS, MOMENTS_OF_A_GROUP
from tests.support.program import MINI

SFT = """
kind = "sft"
[sft]
examples = 100
batch = 16
learning_rate = 2e-2
[budget]
steps = 40
"""
STAGES = """
[sft]
batch = 8
learning_rate = 5e-3
[lora]
rank = 4
[[stage]]
name = "apart"
kind = "sft"
examples = 40
[[stage]]
name = "learned"
kind = "sft"
from = "base"
steps = 12
[[stage]]
name = "tuned"
knobs.max_tokens = 24
"""
"""After the sections that hold for all stages."""
SPECS = {
    "full weights": MINI.replace("steps = 14", "steps = 16"),
    "LoRA": MINI.replace("steps = 14", "steps = 16") + "\n[lora]\nrank = 4\n",
    "sft": SFT + MINI.replace("[budget]\nsteps = 14\n", "").replace("steps = 40", "steps = 0"),
    "stages": MINI.replace("steps = 40", "steps = 0") + STAGES,
}
REACH = {  # how often a moment comes within a few steps, so that counts are drawn from the right range
    "warm start": 40, "sampling": 150, "rewarding": 5, "updating": 12, "optimizer": 5, "checkpoint": 20, "renamed": 2,
    "commit 1": 8, "commit 2": 8, "committed": 4, "any time": 150, "stage": 3, "scoring": 4, "scored": 4, "written": 8,
}  # fmt: skip
LATE = ("scoring", "scored", "written")
VOLATILE = {"id", "run_id", "step_id", "at", "path", "command_id", "measured", "verdict"}


@dataclass(frozen=True)
class Kill:
    run: str
    moment: str
    step: int
    resumed_at: int


class Launcher:
    """Processes that share one import of the program, each in a folder of its own (chaos_child.py). Without ``reports``
    a run that ends writes none, which takes longer than a small run."""

    def __init__(self, *, reports: bool = True) -> None:
        self.reports = reports

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
        what["reports"] = self.reports
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(what | {"words": [*words, "--plain"]}), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        if code not in (0, -9):
            raise RuntimeError(f"exit {code}\n{output.read_text()}")
        return code


def fingerprint(folder: Path, name: str) -> dict[str, Any]:
    """Everything that a run, or a group, leaves and that must not depend on kills, without times and row numbers."""
    c = connect(folder)
    stages = [row["name"] for row in c.execute("SELECT name FROM runs WHERE name GLOB ? || '/*'", (name,))]
    if stages:
        c.close()
        csvs = (folder / "runs" / name / "scores").glob("*.csv")
        scores = {csv.name: hashlib.sha256(csv.read_bytes()).hexdigest() for csv in csvs}
        return {"scores": scores} | {stage.removeprefix(name): fingerprint(folder, stage) for stage in stages}
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
        row, newest = find_reached(folder, name)
        if row is not None:  # else it died before the run was recorded: start it again
            words = ["resume", name, "--force"]  # stages of a group pass preflight yet
            kills.append(Kill(spec, moment, row["last_step"], newest))
            if row["status"] == "finished" and row["name"] == name:  # it died over its report
                break
    return kills


def find_reached(folder: Path, name: str) -> tuple[sqlite3.Row | None, int]:
    """The run's row (of a group that of the one worked on last), if it came so far, and the step of its newest
    checkpoint."""
    if not (folder / "runs" / "harness.db").exists():
        return None, 0
    c = connect(folder)
    found = "SELECT id, name, status, last_step FROM runs WHERE name = :name OR name GLOB :name || '/*'"
    row = c.execute(f"{found} ORDER BY heartbeat DESC, id DESC", {"name": name}).fetchone()
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
    decks: dict[str, list[str]] = {spec: [] for spec in calm}
    number = 0
    while len(kills) < wanted:
        spec = list(calm)[number % len(calm)]
        deck, all_moments = decks[spec], MOMENTS_OF_A_GROUP if spec == "stages" else MOMENTS
        if len(deck) < per_run:
            deck += rng.sample(all_moments, len(all_moments))
        moments = sorted(deck[:per_run], key=lambda m: (m != "warm start") + (m in LATE))  # what has passed never comes
        decks[spec] = deck[per_run:]
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
    parser.add_argument("--kills", type=int, default=35)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--spec", choices=SPECS, action="append")
    arguments = parser.parse_args()
    folder = arguments.workdir or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        kills = chaos(folder, arguments.kills, arguments.seed, specs=arguments.spec)
    except AssertionError as difference:
        print(difference, file=sys.stderr)
        raise SystemExit(1) from None
    print("| spec | killed in | after step | resumed from | then |\n|---|---|---|---|---|")
    for kill in kills:
        print(f"| {kill.run} | {kill.moment} | {kill.step} | {kill.resumed_at} | identical |")


if __name__ == "__main__":
    main()
