"""The process that compares expressions: its limits, its ends, and who may use it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rewards import symbolic
from rewards.math import compute_reward, score

ROOT = Path(__file__).parent.parent.parent


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(process: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()]


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def template() -> int:
    """The process id of the running template."""
    assert symbolic.compare(r"2\sqrt{2}", r"\sqrt{8}", literal=True) == "right"
    assert symbolic._template is not None
    return symbolic._template._process.pid


COSTLY = [
    r"9^{9^{9^{9}}} + \sqrt{2}",
    r"\sqrt{3} + 10000000!",
    r"\sum_{n=1}^{100000000} \sqrt{n}",
    r"(x+y+z+w+1)^{200}",
]


def judges_cpu(process: int) -> float:
    """CPU seconds of the judges of a template that have ended."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("expression", COSTLY)
def test_no_expression_takes_more_than_its_limits(expression: str) -> None:
    process = template()
    for judge in children(process):  # what it did for other tests is not counted
        os.kill(judge, signal.SIGKILL)
    template()
    before = judges_cpu(process)
    found = score(rf"\boxed{{{expression}}}", r"x+\sqrt{7}")
    assert (found.reward, found.correct) == (0.0, False)
    assert found.reason in ("wrong", "too_costly")
    for judge in children(process):  # if one is still there it took less
        os.kill(judge, signal.SIGKILL)
    assert template() == process, "a judge was killed at most"
    assert judges_cpu(process) - before < 2 * symbolic.CPU_LIMIT_S


def test_a_costly_expression_costs_the_next_one_nothing() -> None:
    process = template()
    assert symbolic.compare(r"\sqrt{2}", COSTLY[0], literal=True) == "too_costly"
    assert symbolic.compare(r"2\sqrt{3}", r"\sqrt{12}", literal=True) == "right"
    assert template() == process


def test_memory_is_limited_for_the_judge_only() -> None:
    (judge,) = children(template())
    limit = Path(f"/proc/{judge}/limits").read_text(encoding="ascii")
    line = next(one for one in limit.splitlines() if one.startswith("Max address space"))
    assert line.split()[3] == str(512 * 1024 * 1024)


@pytest.mark.parametrize("which", ["template", "judge"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGPROF])
def test_a_lost_process_loses_nothing(which: str, number: int) -> None:
    process = template()
    os.kill(process if which == "template" else children(process)[0], number)
    for _ in range(3):
        assert compute_reward(r"\boxed{\sqrt{12}}", r"2\sqrt{3}") == 1.0
        assert compute_reward(r"\boxed{\sqrt{13}}", r"2\sqrt{3}") == 0.0


def test_a_process_killed_at_work_is_asked_again() -> None:
    process = template()
    for victim in (children(process)[0], process):
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(symbolic.compare, r"\sqrt{2}", COSTLY[0], literal=True)
            time.sleep(0.3)
            os.kill(victim, signal.SIGKILL)
            assert answer.result() == "too_costly"
        assert (template() == process) is (victim != process)


def test_one_that_is_always_killed_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbolic._Template, "ask", lambda *_: symbolic.AGAIN)
    with pytest.raises(symbolic.Lost, match="was killed"):
        symbolic.compare("x", "x", literal=True)


def test_a_truth_is_not_blamed_for_a_lost_process(monkeypatch: pytest.MonkeyPatch) -> None:
    symbolic._stop()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    found = score(r"\boxed{\sqrt{20}}", r"2\sqrt{5}")
    assert found.errored
    assert "No such file" in found.error
    assert compute_reward(r"\boxed{\sqrt{20}}", r"2\sqrt{5}") == 0.0
    monkeypatch.undo()
    assert compute_reward(r"\boxed{\sqrt{20}}", r"2\sqrt{5}") == 1.0


def test_any_thread_may_ask() -> None:
    pairs = [(rf"\boxed{{\sqrt{{{4 * n}}}}}", rf"2\sqrt{{{n if n % 2 else n + 1}}}") for n in range(2, 22)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda pair: compute_reward(*pair), pairs))
    assert found == [float(n % 2) for n in range(2, 22)]


def test_a_forked_child_has_a_process_of_its_own() -> None:
    ours = template()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            theirs = template()
            os.write(write, f"{compute_reward(chr(92) + 'boxed{x+1}', '1+x')} {theirs != ours}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"1.0 True"
    assert template() == ours


SCRIPT = r"""
import sys
from rewards.math import compute_reward
from rewards import symbolic
print(compute_reward(r"\boxed{\sqrt{12}}", r"2\sqrt{3}"), symbolic._template._process.pid, flush=True)
if sys.argv[1] == "loop":
    compute_reward(r"\boxed{9^{9^{9^{9}}}+x}", r"2\sqrt{3}")
"""


def start(folder: Path, word: str) -> subprocess.Popen[str]:
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "script.py", word],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_an_unguarded_script_ends_without_a_trace(tmp_path: Path) -> None:
    output, errors = start(tmp_path, "end").communicate(timeout=300)
    reward, process = output.split()
    assert (reward, errors) == ("1.0", ""), "once, and no ResourceWarning"
    wait_for(lambda: not is_alive(int(process)))


def test_a_parent_killed_while_it_waits_leaves_no_process(tmp_path: Path) -> None:
    with start(tmp_path, "loop") as parent:
        assert parent.stdout is not None
        process = int(parent.stdout.readline().split()[1])
        (judge,) = children(process)
        time.sleep(0.3)
        parent.kill()
    wait_for(lambda: not is_alive(process) and not is_alive(judge))
