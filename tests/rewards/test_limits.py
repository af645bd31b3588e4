"""Limits of the process and system calls that a machine lacks: told by their name, with the fix that helps."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

X86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls of another processor")
LIMITS = {"v": 2_000_000, "f": 1_000, "n": 40, "t": 5}
CALLS = {"memfd_create": 319, "pidfd_open": 434, "landlock_create_ruleset": 444}
DENY = """
import ctypes, struct, sys
call, argument = int(sys.argv[1]), int(sys.argv[2])
load, equal, give = 0x20, 0x15, 0x06
code = [(load, 0, 0, 0), (equal, 0, 3, call), (load, 0, 0, 16), (equal, 0, 1, argument)]
if argument < 0:
    code = [(load, 0, 0, 0), (equal, 0, 1, call)]
code += [(give, 0, 0, 0x00050000 | 38), (give, 0, 0, 0x7FFF0000)]
data = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
program = (ctypes.c_uint64 * 2)(len(code), ctypes.addressof(data))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
"""
LOOK = """
from rewards.code import compute_reward, score
from rewards.isolation import probe_sandbox
import rewards.isolation
found = probe_sandbox(unsafe=False)
print(found.tier, found.refusal)
truth = '{"tests": [{"input": "", "output": "1"}]}'
assert compute_reward("```python\\nprint(1)\\n```", truth) == 0.0
assert score("```python\\nprint(1)\\n```", truth).errored
"""


def look(code: str, *words: str, shell: str = "") -> str:
    python = [sys.executable, "-c", code, *words]
    command = ["bash", "-c", f'{shell}; exec "$@"', "bash", *python] if shell else python
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("letter", "value"), LIMITS.items())
def test_a_limit_is_told_by_its_letter(letter: str, value: int) -> None:
    said = look(LOOK, shell=f"ulimit -{letter} {value}")
    assert said.startswith(f"none no program can be run: ulimit -{letter} allows {value:,} ")
    assert "raise it" in said
    assert "unsafe" not in said


@X86_64
@pytest.mark.parametrize("call", CALLS)
def test_a_missing_system_call_is_told_by_its_name(call: str) -> None:
    said = look(DENY + LOOK, str(CALLS[call]), "-1")
    if call.startswith("landlock"):
        assert "the kernel has no Landlock" in said
        assert "--unsafe-code" in said  # which is a fix here
    else:
        assert said.startswith(f"none no program can be run: {call} is missing here (Function not implemented)")
        assert "unsafe" not in said


@X86_64
def test_a_kernel_without_seccomp_is_told() -> None:
    said = look(DENY + LOOK, "157", "22")  # prctl(PR_SET_SECCOMP)
    assert "the kernel offers no seccomp" in said
    assert "--unsafe-code" in said


@pytest.mark.parametrize("limit", ["v 300000", "t 2"])
def test_doctor_reports_under_any_limit(limit: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"ulimit -{limit}; COLUMNS=400 exec {sys.executable} -m harness doctor"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stdout.count(f"ulimit -{limit[0]}") == 2  # torch and the sandbox
