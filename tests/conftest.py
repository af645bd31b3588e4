"""Settings of every test, and the fixtures that many share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.program import Program

# Whoever starts the suite in the background of a shell gives it an ignored SIGINT, which every child would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time, and none too slow on a busy machine: what a test says depends on the code alone.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path)
    yield program
    for process in program.started:
        if process.poll() is None:
            program.kill(process)
        if process.stdout is not None:
            process.stdout.close()
