"""The ``grpo`` command in a folder of its own, and a spec small enough for seconds."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from harness.cli.app import main
from harness.core.paths import database_url
from harness.errors import InputError
from harness.store.history import load_history
from harness.store.opening import find_store
from harness.store.writer import RunStore
from harness.views.review import build_review

MINI = """
seed = 0
[warmstart]
examples = 200
steps = 40
batch = 16
learning_rate = 5e-3
[pool]
source = "arithmetic?digits=2&size=600&slips=0.65"
splits = { probe = 10, dev = 30, test = 30 }
[knobs]
max_tokens = 30
group_size = 4
prompts_per_step = 4
learning_rate = 1e-4
[evaluate]
every = 4
max_tokens = 30
[sample]
every = 5
prompts = 2
[checkpoint]
every = 3
[budget]
steps = 14
"""


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Give back the signal handlers and the loggers that a run takes for itself."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    loggers = [logging.getLogger(name) for name in ("grpo", "py.warnings", "trl")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for logger, (kept, level, propagate) in zip(loggers, before, strict=True):
            for added in set(logger.handlers) - set(kept):
                logger.removeHandler(added)
                added.close()
            logger.setLevel(level)
            logger.propagate = propagate


@dataclass
class Program:
    """The ``grpo`` command in a folder of its own."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "mini.toml").write_text(MINI)

    def run(self, *words: str, code: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        """To its end; fails the test when the exit code is not ``code``."""
        done = subprocess.run(
            [sys.executable, "-m", "harness", *words],
            cwd=self.folder,
            env=self._environment() | options.pop("environment", {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=options.pop("timeout", 240),
            check=False,
        )
        if code is not None:
            assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def here(
        self, *words: str, code: int | None = 0, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the same within this process, which has imported everything already, and leave it as it was.

        For whatever is not about the process: a start of its own costs seconds of imports.
        """
        out, err, ended = io.StringIO(), io.StringIO(), 0
        with (
            mock.patch.object(sys, "argv", ["grpo", *words]),
            mock.patch.object(sys, "path", sys.path[:]),
            mock.patch.dict(os.environ, self._environment() | dict(environment or {})),
            contextlib.chdir(self.folder),
            _undisturbed(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                main()
            except SystemExit as end:
                ended = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code is not None:
            assert ended == code, f"exit {ended}\n{out.getvalue()}\n{err.getvalue()}"
        return subprocess.CompletedProcess(words, ended, out.getvalue(), err.getvalue())

    def start(self, *words: str) -> subprocess.Popen[str]:
        """In the background; killed at the end of the test."""
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", *words],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def review(self, run: str) -> dict[str, Any]:
        """The document of ``grpo review --json``, without the price of a process."""
        return build_review(load_history(self.store(), run))

    def store(self) -> RunStore:
        store = find_store(database_url(str(self.folder / "runs"), None))
        assert store is not None
        return store

    def wait_for(self, condition: Callable[[], bool], *, seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                output = [p.stdout.read() for p in self.started if p.poll() is not None and p.stdout]
                raise AssertionError(f"waited {seconds} s in vain\n{''.join(output)}")
            time.sleep(0.05)

    def last_step(self, run: str) -> int:
        """Straight from the record, cheap enough to poll."""
        try:
            return self.store().find_run(run).last_step
        except (AssertionError, InputError):
            return -1

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()

    def _environment(self) -> dict[str, str]:
        return os.environ | {"COLUMNS": "120", "NO_COLOR": "1"}
