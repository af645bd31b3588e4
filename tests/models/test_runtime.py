"""How a process is prepared for torch."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config.schema import TrainerSpec
from harness.errors import InputError
from harness.models import runtime
from harness.models.runtime import prepare_process, take_short_turns

KERNEL = tuple(int(number) for number in platform.release().split(".")[:2] if number.isdecimal())


def in_a_thread(work: Callable[[], Any]) -> Any:
    """What a thread of its own finds: turns belong to a thread, and are handed on to those that it starts."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def turn_ms() -> float:
    lines = Path(f"/proc/self/task/{threading.get_native_id()}/sched").read_text(encoding="utf-8").splitlines()
    return next(float(line.split(":")[1]) for line in lines if line.startswith("se.slice")) / 1e6


@pytest.mark.skipif(platform.system() != "Linux" or KERNEL < (6, 12), reason="turns are set from Linux 6.12 on")
def test_threads_take_short_turns_and_hand_them_on() -> None:
    def work() -> tuple[float, float, int, int]:
        before = (os.sched_getscheduler(0), os.nice(0))
        take_short_turns()
        assert (os.sched_getscheduler(0), os.nice(0)) == before
        return turn_ms(), in_a_thread(turn_ms), *before

    try:
        turn_ms()
    except (OSError, StopIteration):
        pytest.skip("this kernel does not say how long a turn is")
    own, handed_on, *_ = in_a_thread(work)
    assert own == handed_on == runtime.TURN_NS / 1e6


@pytest.mark.skipif(platform.system() != "Linux", reason="a policy of Linux")
def test_a_policy_that_a_user_chose_stays() -> None:
    def work() -> int:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        take_short_turns()
        return os.sched_getscheduler(0)

    assert in_a_thread(work) == os.SCHED_BATCH


def test_tf32_is_as_the_spec_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("quiet_libraries", "keep_freed_memory", "take_short_turns"):
        monkeypatch.setattr(runtime, name, lambda: None)
    threads = torch.get_num_threads()
    for wanted in (True, False):
        assert prepare_process(threads, TrainerSpec(tf32=wanted)) == threads
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == wanted


def test_bf16_is_refused_on_a_gpu_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("quiet_libraries", "keep_freed_memory", "take_short_turns"):
        monkeypatch.setattr(runtime, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(InputError, match=r"trainer\.bf16: this GPU does not compute in bfloat16"):
        prepare_process(torch.get_num_threads(), TrainerSpec(bf16=True))
