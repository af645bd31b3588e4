"""A process that asks questions and is killed while it does: ``python -m tests.support.asking_child RECORD MODEL N``."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.llm.record import Recorder
from tests.support.questions import make_question, open_model

if __name__ == "__main__":
    path, model, number = sys.argv[1:]
    with Recorder(open_model(model, concurrency=4), Path(path)) as recorder:
        print("ready", flush=True)
        for place, _ in recorder.answer([make_question(i) for i in range(int(number))]):
            print(place, flush=True)
