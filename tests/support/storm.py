"""kill -9 at random moments of everything but training: branch, act, two resumes at once, adopt, copying a run.

    python -m tests.support.storm [--kills 20] [--seed 0] [--workdir DIR]

After each kill the same is asked again and must come to its end; then the database is whole, every checkpoint on record
is intact, no command is left in the middle, what was copied has kept every byte, and a run whose record does not tell
of the kill has ended as the undisturbed one. Prints a table in Markdown; exit code 1 when anything of this fails.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.run.checkpoints import is_intact
from harness.store.opening import open_store
from tests.support.chaos import connect, differences, fingerprint
from tests.support.program import MINI

COLD = MINI.replace("steps = 40", "steps = 0").replace("every = 3", "every = 2")
STEPS, MORE = 3, 6
"""Of the run that is tormented, and those it is resumed to."""


@dataclass(frozen=True)
class Kill:
    what: str
    after_s: float
    died: bool


class Storm:
    """A run of STEPS steps in ``folder``/original, and copies of it that are tormented."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.kills: list[Kill] = []
        self.original = folder / "original"
        self.original.mkdir(parents=True)
        (self.original / "cold.toml").write_text(COLD)
        self.finish(self.original, "run", "cold.toml", "--name", "night", "--steps", str(STEPS))
        self.hash = hash_tree(self.original)
        calm = self.copy("calm")
        started = time.monotonic()
        self.finish(calm, "resume", "night", "--steps", str(MORE))
        self.takes_s = time.monotonic() - started
        self.calm = fingerprint(calm, "night")

    def copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.original, self.folder / name, symlinks=True))

    def start(self, folder: Path, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "harness", *words],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def finish(self, folder: Path, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        process = self.start(folder, *words)
        said, _ = process.communicate(timeout=300)
        assert process.returncode in codes, f"{words} in {folder}: exit {process.returncode}\n{said}"
        return said

    def kill(self, what: str, folder: Path, *words: str, within_s: float | None = None) -> None:
        """Start ``words`` and kill the process at a random moment, unless it ends before."""
        process = self.start(folder, *words)
        after = self.rng.uniform(0.2, within_s or self.takes_s)
        try:
            process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        self.kills.append(Kill(what, after, process.returncode == -signal.SIGKILL))

    # ------------------------------------------------------------ what is tormented

    def adopt(self, number: int) -> None:
        folder = self.folder / f"adopt-{number}"
        folder.mkdir()
        source = str(self.original / "runs" / "night")
        self.kill("adopt", folder, "adopt", source, within_s=0.9)
        self.finish(folder, "adopt", source, codes=(0, 2))  # 2: it had come to its end
        self.finish(folder, "resume", "night", "--steps", str(MORE))
        self.check(folder, same=True)

    def copying(self, number: int) -> None:
        folder = self.folder / f"copying-{number}"
        folder.mkdir()
        words = ("export", "all", "--as", "run", "--to", str(folder / "runs"), "--out", str(self.original / "runs"))
        self.kill("copying", folder, *words, within_s=0.9)
        self.finish(folder, *words, codes=(0, 2))
        assert [path.name for path in folder.iterdir()] == ["runs"]
        self.finish(folder, "resume", "night", "--steps", str(MORE))
        self.check(folder, same=True)

    def two_resumes(self, number: int) -> None:
        folder = self.copy(f"resumes-{number}")
        other = self.start(folder, "resume", "night", "--steps", str(MORE))
        self.kill("two resumes", folder, "resume", "night", "--steps", str(MORE))
        said, _ = other.communicate(timeout=300)
        assert other.returncode in (0, 2), said
        self.finish(folder, "resume", "night", "--steps", str(MORE), codes=(0, 2))  # 2: all steps are taken
        self.check(folder, same=True)

    def branch(self, number: int) -> None:
        folder = self.copy(f"branch-{number}")
        self.kill("branch", folder, "branch", "night", "temperature=0.8", "--steps", "2")
        self.finish(folder, "resume", "night", "--steps", "12", codes=(0, 2))
        self.check(folder, same=False)

    def act(self, number: int) -> None:
        folder = self.copy(f"act-{number}")
        run = self.start(folder, "resume", "night", "--steps", "400")
        until = time.monotonic() + 120
        while _last_step(folder) <= STEPS and time.monotonic() < until:
            time.sleep(0.05)
        for _ in range(3):
            self.kill(
                "act", folder, "act", "night", "set", f"temperature={self.rng.uniform(0.5, 1.5):.2f}", within_s=1.0
            )
        self.finish(folder, "act", "night", "stop")
        said, _ = run.communicate(timeout=300)
        assert run.returncode == 0, said
        self.check(folder, same=False)

    # ------------------------------------------------------------ what must hold

    def check(self, folder: Path, *, same: bool) -> None:
        c = connect(folder)
        with closing(c):
            assert [row[0] for row in c.execute("PRAGMA integrity_check")] == ["ok"]
            assert not c.execute("PRAGMA foreign_key_check").fetchall()
            assert not c.execute("SELECT * FROM commands WHERE state = 'taken'").fetchall()
        with closing(open_store(f"sqlite:///{folder / 'runs' / 'harness.db'}")) as store:
            run = store.find_run("night")
            assert run.ended, run
            for checkpoint in store.load_checkpoints(run.id):
                assert is_intact(Path(checkpoint.path), checkpoint.hashes), checkpoint
        assert not list(folder.rglob("*.partial"))
        assert hash_tree(self.original) == self.hash
        if same:
            differ = differences(self.calm, fingerprint(folder, "night"))
            assert not differ, "\n".join(differ[:20])


def _last_step(folder: Path) -> int:
    c = connect(folder)
    with closing(c):
        return int(c.execute("SELECT last_step FROM runs").fetchone()[0])


def hash_tree(folder: Path) -> str:
    """Return one hash of all files below a folder and their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def rage(folder: Path, wanted: int, seed: int, kinds: tuple[str, ...] = ()) -> list[Kill]:
    """Run the kinds of torment in turn until ``wanted`` processes were killed. Raises AssertionError."""
    storm = Storm(folder, seed)
    torments: dict[str, Callable[[int], Any]] = {
        "adopt": storm.adopt,
        "copying": storm.copying,
        "two resumes": storm.two_resumes,
        "branch": storm.branch,
        "act": storm.act,
    }
    chosen = kinds or tuple(torments)
    number = 0
    while sum(kill.died for kill in storm.kills) < wanted:
        torments[chosen[number % len(chosen)]](number)
        number += 1
        print(f"{storm.kills[-1]}", file=sys.stderr, flush=True)
    return storm.kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workdir", type=Path)
    arguments = parser.parse_args()
    folder = arguments.workdir or Path(tempfile.mkdtemp(prefix="storm-"))
    try:
        kills = rage(folder, arguments.kills, arguments.seed)
    except AssertionError as fault:
        print(f"{fault}\nin {folder}", file=sys.stderr)
        raise SystemExit(1) from None
    print("| killed during | after (s) | killed | then |\n|---|---|---|---|")
    for kill in kills:
        print(f"| {kill.what} | {kill.after_s:.1f} | {'yes' if kill.died else 'ended before'} | whole |")


if __name__ == "__main__":
    main()
