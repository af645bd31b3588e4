"""What a process that computes sets before torch is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.core.environment import compute_variables


@pytest.mark.parametrize(
    ("visible", "left"),
    [
        (None, "0"),
        ("3", "3"),
        ("2,3", "2"),
        ("GPU-5a, GPU-6b", "GPU-5a"),
        ("MIG-7c", "MIG-7c"),
        ("", ""),
        ("-1", "-1"),
    ],
)
def test_one_gpu_is_left_of_those_that_a_user_lets_be_seen(visible: str | None, left: str) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert compute_variables(environment)["CUDA_VISIBLE_DEVICES"] == left


def test_threads_wait_asleep_and_cublas_is_deterministic_unless_a_user_says_otherwise() -> None:
    assert compute_variables({}) == {
        "OMP_WAIT_POLICY": "PASSIVE", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "CUDA_VISIBLE_DEVICES": "0",
    }  # fmt: skip
    own = {"OMP_WAIT_POLICY": "ACTIVE", "CUBLAS_WORKSPACE_CONFIG": ":16:8", "OMP_NUM_THREADS": "3"}
    found = compute_variables(own)
    assert (found["OMP_WAIT_POLICY"], found["CUBLAS_WORKSPACE_CONFIG"]) == ("ACTIVE", ":16:8")
    assert "OMP_NUM_THREADS" not in found


AT_TORCH = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(*(os.environ.get(n) for n in ("OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG")))
            sys.stdout.flush()
            os._exit(0)
sys.meta_path.insert(0, Watch())
"""


@pytest.mark.parametrize(
    "entry",
    [
        "sys.argv = ['grpo', 'doctor']; from harness.cli.app import main; main()",
        "import harness.models.runtime",
        "import harness.training.grpo",
        "import harness.run.parts",
    ],
)
def test_they_are_set_when_torch_is_loaded(entry: str) -> None:
    kept = {k: v for k, v in os.environ.items() if k not in compute_variables({})}
    environment = kept | {"CUDA_VISIBLE_DEVICES": "1,0"}
    done = subprocess.run(
        [sys.executable, "-c", AT_TORCH + entry], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["PASSIVE", "1", ":4096:8"], done.stderr
