"""Describe what a run depended on besides its spec: versions, machine, code. Bit-equality holds where these agree.

And set what torch and its libraries read from the environment once, when they are loaded.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("grpo-harness", "torch", "trl", "transformers", "peft", "datasets", "accelerate", "tokenizers", "numpy")


def prepare_environment() -> None:
    """Set ``compute_variables`` for this process and those it starts. Takes effect where torch is not loaded yet."""
    os.environ.update(compute_variables(os.environ))


def compute_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Compute the variables of a process that computes; what a user has set stays.

    - One GPU is visible, the first of those that were: transformers splits every batch over all it sees
      (nn.DataParallel), which no step of ours can take.
    - A thread without work sleeps. By default it spins, and where another process computes too, it spins in place of
      the thread that it waits for. How many threads there are decides the order of sums, so that stays as it is.
    - cuBLAS keeps its workspaces apart: without that its sums differ from one time to the next.
    """
    variables = {"OMP_WAIT_POLICY": "PASSIVE", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "CUDA_VISIBLE_DEVICES": "0"}
    variables |= {name: environment[name] for name in variables.keys() & environment.keys()}
    variables["CUDA_VISIBLE_DEVICES"] = variables["CUDA_VISIBLE_DEVICES"].partition(",")[0].strip()
    return variables


def collect_manifest(threads: int) -> dict[str, Any]:
    """Collect versions, machine and code as plain JSON. ``git_commit`` is the harness's own, None outside a
    checkout."""
    return {
        "versions": {name: installed_version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "gpu": gpu_name(),
        },
        "threads": threads,
        "git_commit": _git_commit(),
        "command": sys.argv,
    }


def default_threads() -> int:
    """Return OMP_NUM_THREADS where it is set, else the number of cores this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) else len(os.sched_getaffinity(0))


def installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def gpu_name() -> str | None:
    """Name the first GPU that torch can use."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _git_commit() -> str | None:
    here = Path(__file__).parents[2]
    if not (here / ".git").exists():
        return None
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None  # 1 before the first commit
