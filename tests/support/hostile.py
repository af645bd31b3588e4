"""Rewards that hang, crash and misbehave, for the worker that must outlive them. Asks are noted in ``$ASKED``."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import pickle
import random
import re
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from harness.types import Score


def note(text: str) -> None:
    if "ASKED" in os.environ:
        with Path(os.environ["ASKED"]).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text + "\n")


def loop() -> NoReturn:
    while True:
        with suppress(BaseException):  # whatever is thrown at it, like the worst of generated code
            time.sleep(0.01)


def equals(completion: str, ground_truth: str) -> float:
    note(completion)
    return float(completion == ground_truth)


def loops(completion: str, ground_truth: str) -> float:
    note(completion)
    return loop() if "LOOP" in completion else float(completion == ground_truth)


started: list[float] = []


def starts_slowly(completion: str, ground_truth: str) -> float:
    """Loads a model in its first call."""
    note(completion)
    if not started:
        time.sleep(0.6)
        started.append(time.monotonic())
    return loop() if "LOOP" in completion else float(completion == ground_truth)


def batch_starts_slowly(completions: list[str], ground_truth: list[str], **_: Any) -> list[float]:
    return [starts_slowly(text, truth) for text, truth in zip(completions, ground_truth, strict=True)]


def backtracks(completion: str, ground_truth: str) -> float:
    return float(re.fullmatch(r"(a+)+b", completion) is not None)


def always_loops(completion: str, ground_truth: str) -> float:
    note(completion)
    loop()


def loops_on_a_truth(completion: str, ground_truth: str) -> float:
    note(completion)
    return loop() if ground_truth == "hard" else 1.0


def exits(completion: str, ground_truth: str) -> float:
    note(completion)
    if "EXIT" in completion:
        os._exit(3)
    return float(completion == ground_truth)


def segfaults(completion: str, ground_truth: str) -> float:
    if "SEGV" in completion:
        ctypes.string_at(0)
    return float(completion == ground_truth)


def runs_what_it_gets(completion: str, ground_truth: str) -> float:
    exec(completion)
    return 1.0


def prints(completion: str, ground_truth: str) -> float:
    print("to stdout", completion)
    print("to stderr", file=sys.stderr)
    os.write(1, b"past Python\n")
    return float(completion == ground_truth)


def forks(completion: str, ground_truth: str) -> float:
    if os.fork() == 0:
        raise RuntimeError("a child that nobody ends")
    return float(completion == ground_truth)


def forks_and_dies(completion: str, ground_truth: str) -> float:
    if os.fork() == 0:
        time.sleep(60)  # holds every open file of the worker
    os._exit(4)


def forgets_a_timer(completion: str, ground_truth: str) -> float:
    time.sleep(0.1)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    return 1.0


def draws(completion: str, ground_truth: str) -> float:
    return random.random()


def process_id(completion: str, ground_truth: str) -> float:
    return float(os.getpid())


def waits_for_a_signal(completion: str, ground_truth: str) -> float:
    note(str(os.getpid()))
    time.sleep(0.3)
    return 1.0


def has_torch(completion: str, ground_truth: str) -> float:
    return float("torch" in sys.modules)


def moody(completion: str, ground_truth: str) -> Any:
    """Everything that a reward may answer, by the length of the completion."""
    kinds: list[Any] = [1.0, 0, None, float("nan"), True, 7.0, "no", Score(0.5, True, "half", {"x": 0.5}), [1]]
    if len(completion) >= len(kinds):
        raise ValueError(completion)
    return kinds[len(completion)]


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")


def raises_the_unprintable(completion: str, ground_truth: str) -> float:
    raise UnprintableError


# ---------------------------------------------------------------- TRL-style


def batch(completions: list[Any], ground_truth: list[str], **columns: Any) -> list[float]:
    return [float(text == truth) for text, truth in zip(completions, ground_truth, strict=True)]


def batch_loops(completions: list[str], ground_truth: list[str], **columns: Any) -> list[float]:
    note(" ".join(completions))
    if any("LOOP" in text for text in completions):
        loop()
    return batch(completions, ground_truth)


def batch_always_loops(completions: list[str], **columns: Any) -> list[float]:
    note(" ".join(completions))
    loop()


def batch_exits(completions: list[str], ground_truth: list[str], **columns: Any) -> list[float]:
    if "EXIT" in completions:
        os._exit(3)
    return batch(completions, ground_truth)


def batch_is_slow(completions: list[str], **columns: Any) -> list[float]:
    """0.25 for each completion of its batch, so that the answer shows who was asked together."""
    note(" ".join(completions))
    if "LOOP" in completions:
        loop()
    time.sleep(0.6 if len(completions) > 1 else 0.0)
    return [len(completions) / 4 for _ in completions]


def batch_raises_on_a_row(completions: list[str], **columns: Any) -> list[float]:
    return [float(int(text) > 2) for text in completions]


def counts_ids(completion_ids: Any, trainer_state: Any, log_metric: Any, **columns: Any) -> list[float]:
    log_metric("step", trainer_state.global_step)
    log_metric("epoch", trainer_state.epoch)
    return [len(ids) / 10 for ids in completion_ids]


def batch_sees_everything(
    prompts: Any, completions: Any, level: Any, log_metric: Any, trainer_state: Any, **columns: Any
) -> list[float]:
    log_metric("x", 1.0)
    assert trainer_state.global_step == 0
    assert columns.pop("completion_ids") == [[120], [121]], "bytes, where there is no tokenizer"
    columns.pop("log_extra")("length", [1, 2])
    assert columns == {"ground_truth": ["1", "2"]}
    assert level == [{"deep": [1, None]}, 3]
    assert prompts == [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a="}],
        [{"role": "user", "content": "b="}],
    ]
    assert completions == [[{"role": "assistant", "content": "x"}], [{"role": "assistant", "content": "y"}]]
    return [1.0, 0.5]


def quotes_a_surrogate(completion: str, ground_truth: str) -> Score:
    return Score(0.0, False, json.loads('"\\ud800"') + "\x1b[31m red")


def raises_a_surrogate(completion: str, ground_truth: str) -> float:
    raise ValueError(json.loads('"\\ud800"'))


def says_much(completion: str, ground_truth: str) -> Score:
    """A reward that quotes what it was given, at length, and has a component of a name that no encoding takes."""
    return Score(0.0, False, "\ud800" * len(completion), {"\ud800part": float("nan")}, "\ud800" * len(completion))


LIES: dict[str, bytes] = {
    "pickle": pickle.dumps([(1.0, True, "right", {}, "")]),
    "no json": b"{",
    "no list": b'{"reward": 1.0}',
    "wrong fields": b'[[1.0, "yes", "right", {}, ""]]',
    "too many": b'[[1.0, true, "right", {}, ""], [1.0, true, "right", {}, ""]]',
    "deep": b"[" * 100_000,
    "whole number": b'[[1, true, "right", {}, ""]]',
    "long number": b"9" * 10_000,
    "no text": b"\xff\xfe\x00",
}


def lies(completion: str, ground_truth: str) -> float:
    """Send the harness something else than a score, over the socket that the worker holds."""
    if completion not in LIES:
        return float(completion == ground_truth)
    links = [one for one in gc.get_objects() if isinstance(one, socket.socket) and one.fileno() >= 0]
    for link in links:
        link.sendall(struct.pack("!Q", len(LIES[completion])) + LIES[completion])
    time.sleep(600)
    return 0.0
