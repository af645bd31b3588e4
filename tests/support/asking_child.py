"""Asks questions, and may be killed while it does: ``python -m tests.support.asking_child RECORD MODEL N``.

For each line on its stdin it forks one that asks all of them, after the imports, which take longer than the asking. It
prints the process id of that one, and once it is over ``over``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from harness.llm.record import Recorder
from tests.support.questions import make_question, open_model


def ask(path: Path, model: str, number: int) -> None:
    with Recorder(open_model(model, concurrency=4), path) as recorder:
        for _ in recorder.answer([make_question(i) for i in range(number)]):
            pass


if __name__ == "__main__":
    given = sys.argv[1:]
    open_model(given[1])
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            ask(Path(given[0]), given[1], int(given[2]))
            os._exit(0)
        print(child, flush=True)
        os.waitpid(child, 0)
        print("over", flush=True)
