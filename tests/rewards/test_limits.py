"""Limits of the process and system calls that a machine lacks: told by their name, with the fix that helps."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from rewards.isolation import UNSAFE

ROOT = Path(__file__).parent.parent.parent
X86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls of another processor")
LIMITS = {
    "v": (2_000_000, "2,000,000 kB of address space and a program is given 2,621,440"),
    "f": (1_000, "1,000 kB of a file and a program is given 16,384"),
    "n": (20, "20 open files and a program is given 64"),
    "t": (5, "5 seconds on the processor and a program is given 6"),
}
CALLS = {"memfd_create": 319, "pidfd_open": 434, "socketpair": 53, "fork": 56}
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
from tests.support.code_answers import ADD, DOUBLE, fence
found = score(fence("def f(x): return 2 * x"), DOUBLE)
assert compute_reward(fence("print(sum(map(int, input().split())))"), ADD) == (found.reward or 0.0)
print(found.reward, found.error)
"""
DOCTOR = """
import os, resource
from harness.checks import doctor
doctor.gpu_name = lambda: None  # torch takes two seconds to load
for name, value in [("AS", 2_000_000 << 10), ("FSIZE", 1 << 10), ("FSIZE", 1000 << 10), ("NOFILE", 20), ("CPU", 2),
                    ("NPROC", 1)]:
    if os.fork() == 0:
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
        checks = doctor.examine(None, "/nowhere")
        print(next(check.mend for check in checks if check.what == "code sandbox"), flush=True)
        os._exit(0)
    os.wait()
"""


def look(code: str, *words: str, shell: str = "", **environment: str) -> str:
    """What Python code prints under limits that a shell sets."""
    python = [sys.executable, "-c", code, *words]
    command = ["bash", "-c", f'{shell}; exec "$@"', "bash", *python] if shell else python
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("letter", LIMITS)
def test_a_limit_is_told_by_its_letter(letter: str) -> None:
    value, told = LIMITS[letter]
    said = look(LOOK, shell=f"ulimit -{letter} {value}")
    assert said.startswith(f"None no program can be run: ulimit -{letter} is {told}: raise it with `ulimit -{letter} ")
    assert "unsafe" not in said


def test_too_few_processes_are_told() -> None:
    said = look(LOOK, shell="ulimit -u 1")  # root may start more, but the user that a program runs as may not
    assert "(Resource temporarily unavailable): raise `ulimit -u`" in said
    assert "unsafe" not in said


@pytest.mark.parametrize("limit", ["n 20", "t 3", "f 10"])
def test_a_soft_limit_does_not_matter(limit: str) -> None:
    assert look(LOOK, shell=f"ulimit -S -{limit}") == "1.0 \n"


def test_long_standard_input_passes_a_soft_limit_of_a_file() -> None:
    asked = look(
        """
import json, resource
from rewards.sandbox import Sandbox
box = Sandbox()
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 24, 1 << 24))
print(box.run({"program": "print(len(input()))", "setup": "", "stdin": "x" * 50_000}, script=True).output)
""",
        shell="ulimit -S -f 10",
    )
    assert asked == "b'50000\\n'\n"


@pytest.mark.parametrize(
    ("limit", "told"),
    [("f 0", "set TMPDIR to a folder that takes files"), ("d 20000", "the answers of a program failed")],
)
def test_whatever_this_process_lacks_is_an_errored_score(limit: str, told: str) -> None:
    said = look(LOOK, shell=f"ulimit -S -{limit}")
    assert said.startswith("None no ")
    assert told in said
    assert "unsafe" not in said


@X86_64
@pytest.mark.parametrize("call", CALLS)
def test_a_missing_system_call_is_told_by_its_name(call: str) -> None:
    said = look(DENY + LOOK, str(CALLS[call]), "-1")
    assert said.startswith(f"None no program can be run: {call} is missing here (Function not implemented)")
    assert "unsafe" not in said


@X86_64
@pytest.mark.parametrize(
    ("call", "argument", "told"),
    [(444, -1, "the kernel has no Landlock"), (157, 22, "the kernel offers no seccomp")],  # prctl(PR_SET_SECCOMP)
)
def test_unsafe_code_is_named_where_it_is_a_fix_and_is_one(call: int, argument: int, told: str) -> None:
    said = look(DENY + LOOK, str(call), str(argument))
    assert told in said
    assert "--unsafe-code" in said
    assert look(DENY + LOOK, str(call), str(argument), **{UNSAFE: "1"}) == "1.0 \n"


def test_doctor_names_every_limit() -> None:
    said = look(DOCTOR).splitlines()
    assert [line.partition("ulimit -")[2][:1] for line in said] == ["v", "f", "f", "n", "t", "u"], said


@pytest.mark.parametrize("limit", ["v 300000", "t 5"])
def test_doctor_reports_under_any_limit(limit: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"ulimit -{limit}; COLUMNS=400 exec {sys.executable} -m harness doctor"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"ulimit -{limit[0]} is too low to load torch" in done.stdout
    assert f"no program can be run: ulimit -{limit[0]} is " in done.stdout
