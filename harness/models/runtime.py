"""Prepare this process for torch: threads, their turns, determinism, memory, and libraries that keep quiet."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import platform
import random
import struct
import warnings
from contextlib import suppress
from typing import Any, TypeVar

import datasets
import numpy as np
import torch
import transformers

from harness.config.schema import TrainerSpec
from harness.core.environment import default_threads
from harness.errors import InputError

TURN_NS = 100_000
"""The shortest turn that Linux takes."""
Arguments = TypeVar("Arguments", bound=transformers.TrainingArguments)


def prepare_process(threads: int | None, trainer: TrainerSpec | None = None) -> int:
    """Set up torch and the libraries around it; returns the number of threads. Raises InputError where this machine
    cannot compute as ``trainer`` says."""
    quiet_libraries()
    keep_freed_memory()
    take_short_turns()
    threads = threads or default_threads()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling fresh tensors only hides reads of garbage, at the price of a pass over memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = trainer is not None and trainer.tf32
    if trainer is not None and trainer.bf16 and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        raise InputError("trainer.bf16: this GPU does not compute in bfloat16; set trainer.bf16=false")
    return threads


def find_device() -> torch.device:
    """Return the one device that everything of this process is on: the first visible GPU, else the processor."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def keep_to_one_device(args: Arguments) -> Arguments:
    """Tell transformers that there is one GPU, though torch may see several where it was loaded before
    ``prepare_environment``."""
    args._n_gpu = min(1, args.n_gpu)
    return args


def quiet_training(*, bf16: bool = False) -> dict[str, Any]:
    """Return the arguments that every trainer here shares: the harness shows progress, keeps the record and saves."""
    return {
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "bf16": bf16,
        "use_cpu": find_device().type == "cpu",
    }


def seed_torch(seed: int) -> None:
    """Seed every generator that a step may touch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an allocation failed, of which torch on a CPU says so only in the text of a RuntimeError."""
    said = str(error) if isinstance(error, RuntimeError) else ""
    of_its_kind = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return of_its_kind or "can't allocate memory" in said or "not enough memory" in said


def take_short_turns() -> None:
    """Ask for short turns on the processor for this thread and those it will start.

    Threads that share a sum sleep and wake thousands of times in a step. Where other processes compute, one that wakes
    waits for the end of another's turn, about 3 ms; from Linux 6.12 on one with short turns goes first. The share of
    the processor stays what it is. A step beside one busy process per core: docs/speed.md.
    """
    numbers = {"x86_64": (315, 314), "aarch64": (275, 274)}.get(platform.machine())
    if numbers is None:
        return
    get, put = numbers  # sched_getattr, sched_setattr: few C libraries have them by name
    attributes = struct.Struct("=IIQiIQQQII")  # struct sched_attr of the kernel
    buffer = ctypes.create_string_buffer(attributes.size)
    try:
        syscall = ctypes.CDLL(None).syscall
    except (OSError, AttributeError):
        return  # no Linux
    if syscall(get, 0, buffer, attributes.size, 0) != 0:
        return
    values = list(attributes.unpack(buffer.raw))
    values[0], policy = attributes.size, values[1]
    if policy == os.SCHED_OTHER:  # whoever chose another one knows why
        values[5] = TURN_NS
        syscall(put, 0, attributes.pack(*values), 0)


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks. By default each step returns its tensors to the kernel and faults
    them in again: a fifth of a step of the embedded model went there (docs/log.md)."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # another C library
    mmap_threshold, trim_threshold, largest = -3, -1, 2**31 - 1
    mallopt(mmap_threshold, largest)
    mallopt(trim_threshold, largest)


def release_memory() -> None:
    """Give back what nothing refers to any more, before another model is loaded into the same process: a model and its
    trainer refer to each other, and glibc keeps what was freed."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def quiet_libraries() -> None:
    """Silence progress bars and warnings, which would tear the dashboard; warnings go to the run's log."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    for name in ("py.warnings", "trl", "accelerate", "peft"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(logging.NullHandler())
