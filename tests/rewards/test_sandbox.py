"""Programs that want to get out, to take everything, or to leave something behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from rewards import code, isolation, sandbox
from rewards.isolation import SANDBOXES, probe_sandbox
from rewards.sandbox import Lost, Outcome, Sandbox
from tests.support.code_answers import ADD, calls, judge

ROOT = Path(__file__).parent.parent.parent
REFUSED = "PermissionError"


@pytest.fixture
def box() -> Iterator[Sandbox]:
    """A sandbox of the kind that judges here."""
    made = Sandbox(**SANDBOXES.isolation.options)
    yield made
    made.end()


def run(box: Sandbox, program: str, *args: Any, **limits: Any) -> Outcome:
    """The function ``f`` of a program, called once."""
    words = {"program": textwrap.dedent(program), "setup": "", "entry_point": "f", "token": "", "cases": [[args, {}]]}
    return box.run(words, **limits)


def value_of(outcome: Outcome) -> Any:
    return json.loads(outcome.answers).get("value", outcome.answers)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(process: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[1]) == process:
                found.append(int(stat.parent.name))
    return found


def zygote_of(box: Sandbox) -> int:
    """Its process; in tier A a grandchild of the one that was started."""
    process = box.process_id
    while Path(f"/proc/{process}/comm").read_text(encoding="ascii").strip() == "bwrap":
        process = children_of(process)[0]
    return process


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def python(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


# ---------------------------------------------------------------- the probe


def test_this_machine_confines_programs_and_every_attempt_failed() -> None:
    found = probe_sandbox(unsafe=False)
    assert found.tier in ("A", "B"), found.refusal
    assert not found.refusal
    assert not found.escapes
    assert len(found.attempts) >= 25


def test_the_attempts_do_get_out_where_nothing_stops_them(tmp_path: Path) -> None:
    """So that a probe without escapes means something."""
    (tmp_path / "kept").touch()
    result = python(
        """
        import json, os, pathlib, socket
        tcp, local = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
        local.bind("\\0sandbox-test-%d" % os.getpid()); local.listen()
        names = {}
        text = pathlib.Path("rewards/escapes.py").read_text().replace('"become a program"', '"skip"')
        exec(text.replace('os.execv("/bin/false", ["false"])', "1 / 0"), names)
        print(json.dumps(names["attempt_all"](os.getppid(), os.environ["FOLDER"], tcp.getsockname()[1],
                                              "sandbox-test-%d" % os.getpid())))
        """,
        FOLDER=str(tmp_path),
    )
    outcome = json.loads(result.stdout)
    # The rest needs rights that a plain user may lack outside too.
    for attempt in (
        "read a file",
        "list a folder",
        "look whether a file exists",
        "write a file",
        "delete a file",
        "make a file in memory",
        "connect over TCP",
        "connect to a local socket",
        "raise a limit",
        "map executable memory",
        "get a descriptor of the harness",
        "signal the harness",
        "fork",
        "start a program",
    ):
        assert outcome[attempt] == isolation.GOT_OUT, outcome
    assert (tmp_path / "attack").exists()
    assert not (tmp_path / "kept").exists()


WITHOUT_LANDLOCK = """
import ctypes, json, struct
from rewards import seccomp as s
code = b"".join([
    s._instruction(s.LOAD, s.NUMBER), s._instruction(s.JUMP_EQUAL, 444, 0, 1),
    s._instruction(s.RETURN, s.ERRNO | 38), s._instruction(s.RETURN, s.ALLOW),
])
class Filter(ctypes.Structure):
    _fields_ = [("n", ctypes.c_ushort), ("code", ctypes.c_char_p)]
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Filter(len(code) // 8, code)), 0, 0) == 0
from rewards.isolation import probe_sandbox
from rewards.code import score
from tests.support.code_answers import DOUBLE, fence
found = probe_sandbox()
answer = score(fence("def f(x): return 2 * x"), DOUBLE)
print(json.dumps([found.tier, found.refusal, found.escapes, answer.reward, answer.error]))
"""


def test_a_kernel_without_landlock_is_refused_with_the_mend() -> None:
    tier, refusal, escapes, reward, error = json.loads(python(WITHOUT_LANDLOCK).stdout)
    assert (tier, escapes, reward) == ("C", [], None)
    assert "the kernel has no Landlock" in refusal
    assert "--unsafe-code" in refusal
    assert error == refusal, "the verifier's fault, not the completion's"


def test_a_kernel_without_landlock_will_do_when_asked_for() -> None:
    found = json.loads(python(WITHOUT_LANDLOCK, **{isolation.UNSAFE: "1"}).stdout)
    assert found == ["C", "", [], 1.0, ""]


def test_the_filter_and_landlock_each_hold_alone(tmp_path: Path) -> None:
    alone = Sandbox(filtered=False)
    assert alone.tier == "none"
    assert alone.landlock
    program = f"""
    import os, socket
    def f():
        outcome = []
        for attempt in (
            lambda: open("/etc/passwd"), lambda: os.listdir("/"), lambda: open({str(tmp_path / "x")!r}, "w"),
            lambda: os.mkdir({str(tmp_path / "y")!r}), lambda: os.kill({os.getpid()}, 0),
        ):
            try:
                attempt()
                outcome.append("got out")
            except OSError as error:
                outcome.append(type(error).__name__)
        return outcome
    """
    assert set(value_of(run(alone, program))) <= {REFUSED}
    alone.end()


@pytest.mark.skipif(not shutil.which("bwrap"), reason="bwrap is not installed: tier A is NOT tried")
def test_bwrap_adds_namespaces() -> None:
    inside = Sandbox(bwrap=shutil.which("bwrap"))
    assert inside.tier == "A"
    assert value_of(run(inside, "import os\ndef f(): return os.getppid()")) < 10, "processes have numbers of their own"
    inside.end()


# ---------------------------------------------------------------- containment, beyond what the probe tries

ESCAPES = {
    "ctypes open": "ctypes.CDLL(None).open(b'/etc/passwd', 0) >= 0",
    "ctypes fork": "libc.fork() >= 0",
    "ctypes vfork": "libc.syscall(58) >= 0",
    "clone a process": "libc.syscall(56, 17, 0, 0, 0, 0) >= 0",
    "clone3 a process": "libc.syscall(435, ctypes.create_string_buffer(b'', 88), 88) >= 0",
    "clone into a namespace": "libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0) >= 0",
    "ctypes execve": "libc.execve(b'/bin/true', None, None) >= 0",
    "system": "libc.system(b'exit 0') == 0",
    "popen": "bool(__import__('os').popen('echo hi').read())",
    "subprocess": "__import__('subprocess').run(['/bin/true']).returncode == 0",
    "kill own group": "libc.kill(0, 0) == 0",
    "tgkill the zygote": "libc.syscall(234, os.getppid(), os.getppid(), 0) == 0",
    "queue a signal": "libc.sigqueue(os.getppid(), 0, None) == 0",
    "signal by ownership": "libc.fcntl(3, 8, os.getppid()) == 0",  # F_SETOWN
    "choose a signal": "libc.fcntl(3, 10, 9) == 0",  # F_SETSIG
    "seal a file": "libc.fcntl(3, 1033, 15) == 0",  # F_ADD_SEALS
    "terminal input": "libc.ioctl(0, 0x5412, b'x') == 0",  # TIOCSTI
    "limits of the zygote": "libc.prlimit(os.getppid(), 0, None, ctypes.create_string_buffer(16)) == 0",
    "own limits": "libc.prlimit(0, 0, ctypes.create_string_buffer(16), None) == 0",
    "nice": "libc.setpriority(0, os.getppid(), 5) == 0",
    "affinity of the zygote": "libc.sched_setaffinity(os.getppid(), 8, b'\\1' * 8) == 0",
    "become root": "libc.setuid(0) == 0 and libc.setgid(0) == 0",
    "chroot": "libc.chroot(b'/') == 0",
    "chdir": "libc.chdir(b'/tmp') == 0",
    "umask": "libc.umask(0) >= 0",
    "prctl": "libc.prctl(1, 9, 0, 0, 0) == 0",
    "personality": "libc.personality(0x40000) >= 0",
    "poison memory": "libc.madvise(ctypes.c_void_p(id(libc) & ~4095), 4096, 100) == 0",  # MADV_HWPOISON
    "executable memory later": "libc.mprotect(ctypes.c_void_p(id(libc) & ~4095), 4096, 7) == 0",
    "read another process": "libc.process_vm_readv(os.getppid(), None, 0, None, 0, 0) >= 0",
    "message queue": "libc.msgget(1, 0o1666) >= 0",
    "semaphore": "libc.semget(1, 1, 0o1666) >= 0",
    "key ring": "libc.syscall(248, b'user', b'k', b'v', 1, -3) >= 0",
    "bpf": "libc.syscall(321, 0, None, 0) >= 0",
    "perf": "libc.syscall(298, None, 0, -1, -1, 0) >= 0",
    "userfaultfd": "libc.syscall(323, 1) >= 0",
    "file handles": "libc.syscall(303, -100, b'/', None, None, 0) >= 0",
    "watch files": "libc.inotify_init1(0) >= 0",
    "timer signal": "libc.timer_create(0, None, ctypes.create_string_buffer(8)) == 0",
    "set the clock": "libc.settimeofday(ctypes.create_string_buffer(16), None) == 0",
    "host name": "libc.sethostname(b'x', 1) == 0",
    "kernel log": "libc.klogctl(10, None, 0) >= 0",
    "reboot": "libc.reboot(0) == 0",
    "datagram pair": "bool(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))",
    "netlink": "bool(socket.socket(16, 3, 0))",
    "vsock": "bool(socket.socket(40, 1, 0))",
    "raw socket": "bool(socket.socket(17, 3, 0))",
    "pass descriptors": "socket.socketpair()[0].sendmsg([b'x'], [(1, 1, b'\\0' * 4)]) > 0",
    "link": "libc.symlink(b'/etc/passwd', b'/tmp/link') == 0",
    "truncate": "libc.truncate(b'/tmp/x', 0) == 0",
    "access": "libc.access(b'/etc/passwd', 0) == 0",
    "readlink": "libc.readlink(b'/proc/self/exe', ctypes.create_string_buffer(99), 99) >= 0",
    "working directory": "bool(os.getcwd())",
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of system calls are those of x86-64")
def test_the_c_library_is_no_way_out(box: Sandbox) -> None:
    program = f"""
    import ctypes, os, socket
    libc = ctypes.CDLL(None, use_errno=True)
    def f():
        outcome = []
        for name, text in {ESCAPES!r}.items():
            try:
                if eval(text):
                    outcome.append(name)
            except Exception:
                pass
        return outcome
    """
    outcome = run(box, program)
    assert outcome.reason == ""
    assert value_of(outcome) == []


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x32 and int 0x80 are of x86-64")
def test_system_calls_of_another_architecture_end_the_program(box: Sandbox) -> None:
    program = "import ctypes\ndef f(): return ctypes.CDLL(None).syscall(0x40000000 + 39)"
    assert run(box, program).reason == "crashed"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV])
def test_a_program_cannot_pretend_that_somebody_killed_it(box: Sandbox, number: int) -> None:
    outcome = run(box, f"import signal\ndef f():\n    signal.raise_signal({number})\n    return 1")
    assert b"crashed" in outcome.answers


def test_the_environment_and_the_arguments_of_the_harness_stay_outside(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    fresh = Sandbox(**SANDBOXES.isolation.options)
    program = "import os, sys\ndef f(): return repr((dict(os.environ), sys.argv, sys.path, list(sys.modules)))"
    text = str(value_of(run(fresh, program)))
    assert "sk-secret" not in text
    assert "rewards.code" not in text
    assert "harness" not in text
    fresh.end()


def test_the_zygote_survives_what_is_done_to_it(box: Sandbox) -> None:
    before = box.process_id
    for number in (1, 2, 9, 15, 19):
        run(box, f"import os\ndef f():\n    for p in (os.getppid(), 1, -1, 0): os.kill(p, {number})")
    assert box.process_id == before
    assert value_of(run(box, "def f(): return 7")) == 7


# ---------------------------------------------------------------- bombs


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a bomb reaches soon."""
    monkeypatch.setattr(code, "CPU_LIMIT_S", 1)
    monkeypatch.setattr(sandbox, "MEMORY_LIMIT", 1 << 28)


BOMBS = {
    "loop": ("while True: pass", {"timeout"}),
    "loop that catches everything": (
        "while True:\n        try:\n            while True: pass\n        except BaseException: pass",
        {"timeout"},
    ),
    "loop that ignores the limit": (
        "import signal; [signal.signal(s, signal.SIG_IGN) for s in range(1, 32) if s not in (9, 19)]\n"
        "    while True: pass",
        {"timeout"},
    ),
    "loop in threads": (
        "import threading\n    for _ in range(8): threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()\n"
        "    while True: pass",
        {"timeout"},
    ),
    "power": ("return 10 ** 10 ** 9", {"timeout", "memory", "crashed"}),
    "factorial": ("import math; return math.factorial(10 ** 8)", {"timeout", "memory"}),
    "regular expression": ("import re; return re.match(r'(a+)+$', 'a' * 60 + 'b')", {"timeout"}),
    "memory": ("x = [0]\n    while True: x += x", {"memory"}),
    "memory in one piece": ("return bytearray(1 << 40)", {"memory"}),
    "memory in a string": ("return 'x' * (1 << 29)", {"memory"}),
    "mapped memory": (
        "import mmap; x = []\n    while True: x.append(mmap.mmap(-1, 1 << 20)); x[-1].write(b'x' * (1 << 20))",
        {"crashed", "memory"},
    ),
    "pipes": ("import os\n    while True: os.pipe()", {"crashed"}),
    "threads": (
        "import threading, time\n    while True: threading.Thread(target=time.sleep, args=(99,)).start()",
        {"crashed", "memory", "timeout"},
    ),
    "threads with small stacks": (
        "import threading, time; threading.stack_size(32768)\n"
        "    while True: threading.Thread(target=time.sleep, args=(99,)).start()",
        {"crashed", "memory", "timeout"},
    ),
    "recursion": ("return f(x)", {"crashed"}),
    "recursion without a limit": (
        "import sys; sys.setrecursionlimit(10 ** 9); return f(x)",
        {"memory", "crashed", "timeout"},
    ),
    "recursion in C": (
        "import sys; sys.setrecursionlimit(10 ** 9); x = []\n    for _ in range(10 ** 6): x = [x]\n    return repr(x)",
        {"crashed", "memory", "timeout"},
    ),
    "deep answer": ("x = []\n    for _ in range(100_000): x = [x]\n    return x", {"crashed"}),
    "circular answer": ("x = []; x.append(x); return x", {"crashed"}),
    "large answer": ("return 'x' * (1 << 25)", {"output_limit", "crashed"}),
    "large number": ("return 10 ** 5000", {"wrong"}),
    "sleep": ("import time; time.sleep(1e6)", {"timeout"}),
    "deadlock": ("import threading; l = threading.Lock(); l.acquire(); l.acquire()", {"timeout"}),
    "input": ("return input()", {"crashed"}),
    "closed answers": ("import os; os.close(3); return 2 * x", {"crashed"}),
    "fork": ("import os\n    while True: os.fork()", {"crashed"}),
    "output": ("import os\n    while True: os.write(3, b'x' * 65536)", {"crashed", "output_limit", "forged"}),
}


SLEEPERS = {"sleep", "deadlock"}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_bounded_and_earns_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body, reasons = BOMBS[name]
    if name in SLEEPERS:
        monkeypatch.setattr(sandbox, "WALL_LIMIT_S", 1)
    verdict = judge(f"def f(x):\n    {body}")
    assert verdict.reward == 0.0, verdict
    assert verdict.reason in reasons, verdict


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("x = (" + "(" * 5000 + ")" * 5000 + ")", "syntax_error"),
        ("x = " + "-" * 100_000 + "1", "syntax_error memory crashed"),
        ("x = " + "+".join(["1"] * 50_000), "syntax_error memory crashed"),
        ("x = 9 ** 9 ** 9", "timeout"),
        ("import os; os._exit(0)", "crashed"),
        ("import sys; sys.exit(0)", "crashed"),
        ("while True: pass", "timeout"),
        ("x = 'a' * 10 ** 10", "memory"),
        ("\0", "syntax_error"),
        ("\ud800 = 1", "syntax_error"),
        ("def f(x): return 2 * x\nraise KeyboardInterrupt", "crashed"),
        ("class f: pass", "crashed"),
        ("f = 3", "no_function"),
        ("def g(x): return 2 * x", "no_function"),
        ("", "no_function"),
    ],
    ids=lambda text: text[:20],
)
def test_a_program_that_fails_before_its_function_is_called(program: str, reason: str) -> None:
    verdict = judge(program)
    assert verdict.reward == 0.0
    assert verdict.reason in reason.split(), verdict


@pytest.mark.usefixtures("small")
def test_a_script_that_prints_without_end_is_cut_off() -> None:
    assert judge("while True: print('x' * 1000)", ADD).reason in ("output_limit", "timeout")
    assert judge("import os\nwhile True: os.write(1, b'x' * 1000)", ADD).reason in ("output_limit", "crashed")


def test_threads_are_bounded_whatever_their_stacks(box: Sandbox) -> None:
    program = """
    import threading, time
    def f():
        threading.stack_size(32768)
        count = 0
        try:
            while True:
                threading.Thread(target=time.sleep, args=(99,), daemon=True).start()
                count += 1
        except RuntimeError:
            return count
    """
    assert value_of(run(box, program)) < 3000


# ---------------------------------------------------------------- correct programs that misbehave


@pytest.mark.parametrize(
    "body",
    [
        "print('x' * 10 ** 9)",
        "for _ in range(1000): print('x' * 10 ** 6)",
        "import sys; sys.stdout.write('y' * 10 ** 7); sys.stderr.write('z' * 10 ** 7)",
        "import threading; threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()",
        "import threading, time; threading.Thread(target=time.sleep, args=(1e6,)).start()",
        "import atexit, time; atexit.register(time.sleep, 1e6)",
        "import sys; sys.stdout.close(); sys.stdout = None",
        "import gc; gc.disable(); globals()['big'] = [0] * 10 ** 7",
        "import random; random.seed(); random.random()",
        "import warnings; warnings.warn('no')",
    ],
    ids=lambda body: body[:40],
)
def test_a_right_answer_counts_whatever_else_happens(body: str) -> None:
    once = f"def f(x):\n    if x == 1:\n        {body}\n    return 2 * x"
    assert judge(once).reward == 1.0


def test_a_script_whose_work_is_done_in_a_thread_is_waited_for() -> None:
    program = """
import sys, threading
def main():
    print(sum(map(int, input().split())))
threading.stack_size(1 << 27)
sys.setrecursionlimit(10 ** 6)
threading.Thread(target=main).start()
"""
    assert judge(program, ADD).reward == 1.0


def test_a_script_that_leaves_a_thread_running_is_judged_by_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "WALL_LIMIT_S", 2)
    program = """
import threading, time
print(sum(map(int, input().split())))
threading.Thread(target=time.sleep, args=(1e6,)).start()
"""
    assert judge(program, ADD).reward == 1.0


def test_work_does_not_pay_for_sleep_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second and a half on the processor may be a minute and a half on a busy machine, but not of sleep."""
    monkeypatch.setattr(sandbox, "WALL_LIMIT_S", 1)
    program = """
import time
def f(x):
    while time.process_time() < 1.5:
        pass
    time.sleep(1e6)
"""
    started = time.monotonic()
    assert judge(program).reason == "timeout"
    assert time.monotonic() - started < 60


def test_sleep_is_limited_for_all_cases_of_a_script_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "WALL_LIMIT_S", 2)
    monkeypatch.setattr(sandbox, "LEAST_WALL_S", 1)
    slow = "import time\ntime.sleep(1.6)\nprint(sum(map(int, input().split())))"
    found = judge(slow, ADD)
    assert (found.reason, found.components["cases"]) == ("timeout", pytest.approx(1 / 3))


def test_a_second_on_the_processor_is_enough_with_eight_at_once() -> None:
    program = """
import time
def f(x):
    while time.process_time() < 1.0:
        pass
    return 2 * x
"""
    verdicts: list[float | None] = []
    threads = [Thread(target=lambda: verdicts.append(judge(program).reward)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == [1.0] * 8


# ---------------------------------------------------------------- nothing is left for the next program


def test_nothing_leaks_from_one_program_to_the_next(box: Sandbox) -> None:
    vandal = """
    import builtins, json, os, random, sys, time, math, threading, collections
    threading.Thread(target=time.sleep, args=(99,)).start()
    builtins.sum = builtins.len = lambda *_: 0
    builtins.leak = sys.leak = math.leak = 1
    json.dumps = collections.Counter.update = None
    sys.modules["leak"] = sys
    os.environ["LEAK"] = "1"
    random.seed(5)
    sys.setrecursionlimit(100)
    sys.modules["__main__"].encode = lambda value: "leak"
    os.write(3, b'{"value": "leak"}\\n')
    def f(): pass
    """
    clean = """
    import builtins, json, math, os, random, sys, threading
    def f():
        return [sum([1, 2]), len("abc"), hasattr(builtins, "leak"), hasattr(sys, "leak"), hasattr(math, "leak"),
                "leak" in sys.modules, dict(os.environ), random.random(), sys.getrecursionlimit(),
                threading.active_count(), json.dumps(1), list({"a", "b", "c", "d"})]
    """
    before = run(box, clean).answers
    run(box, vandal)
    assert run(box, clean).answers == before


def test_memory_of_an_earlier_program_is_not_found_by_a_later_one(box: Sandbox) -> None:
    secret = "correct horse battery"
    run(box, f"def f(): return {secret!r}")
    program = """
    import gc, sys
    def f():
        found = [o for o in gc.get_objects() if "battery" in repr(o)[:10_000] and "find" not in repr(o)[:10_000]]
        return len(found) - len([o for o in found if "gc.get_objects" in repr(o)])
    """
    # Its own text is all that speaks of it.
    assert value_of(run(box, program)) <= 3


def test_a_program_cannot_change_the_library_that_the_next_one_imports(box: Sandbox) -> None:
    vandal = """
    import ctypes, sys
    def f():
        text = sys.meta_path[-1].text
        address = ctypes.c_void_p.from_address(id(text) + 16).value
        if ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), len(text), 3) == 0:
            ctypes.memset(address, 0, len(text))
        return text[:9] + text[-9:] == bytes(18)
    """
    assert value_of(run(box, vandal)) is True, "its own copy"
    assert value_of(run(box, "import optparse\ndef f(): return optparse.__name__")) == "optparse"


def test_a_checker_runs_when_the_program_and_all_its_threads_have_ended() -> None:
    program = """
import os, threading, time
threading.Thread(target=time.sleep, args=(1e6,)).start()
def f(x): return os.getpid()
"""
    checker = "import os, threading\ndef check(answer, expected, x):\n    assert threading.active_count() == 1\n"
    checker += "    try: os.kill(answer, 0)\n    except PermissionError: return os.getpid() != answer\n"
    verdict = judge(program, json.dumps({"entry_point": "f", "cases": [{"args": [1]}], "checker": checker}))
    assert verdict.reward == 1.0


def test_every_sandbox_gives_the_same_random_numbers_and_orders(box: Sandbox) -> None:
    other = Sandbox(**SANDBOXES.isolation.options)
    program = "import random\ndef f(): return [random.random(), list({'a', 'b', 'c'}), hash('x')]"
    assert run(box, program).answers == run(other, program).answers
    other.end()


# ---------------------------------------------------------------- sandboxes that are killed


def test_a_sandbox_that_was_killed_is_replaced() -> None:
    judge("def f(x): return 2 * x")
    for idle in SANDBOXES._idle:
        zygote = zygote_of(idle)
        os.kill(zygote, signal.SIGKILL)
        wait_for(lambda process=zygote: not is_alive(process))  # type: ignore[misc]
    assert judge("def f(x): return 2 * x").reward == 1.0


def test_work_that_was_lost_is_done_again() -> None:
    judge("def f(x): return 2 * x")
    victim = zygote_of(SANDBOXES._idle[-1])
    verdicts: list[float | None] = []
    slow = "import time\ntime.sleep(0.5)\ndef f(x): return 2 * x"
    thread = Thread(target=lambda: verdicts.append(judge(slow).reward))
    thread.start()
    time.sleep(0.2)
    os.kill(victim, signal.SIGKILL)
    thread.join()
    assert verdicts == [1.0]
    assert not is_alive(victim)


def test_a_program_that_somebody_killed_is_run_again(box: Sandbox) -> None:
    thread_result: list[Any] = []

    def target() -> None:
        try:
            run(box, "import time\ndef f(): time.sleep(5)")
        except Lost as lost:
            thread_result.append(str(lost))

    thread = Thread(target=target)
    thread.start()
    zygote = zygote_of(box)
    wait_for(lambda: bool(children_of(zygote)))
    os.kill(children_of(zygote)[0], signal.SIGKILL)
    thread.join()
    assert thread_result == ["somebody killed a program in the sandbox"]


def test_a_sandbox_that_is_killed_again_and_again_is_the_verifiers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    really_run, attempts = Sandbox.run, 0

    def killed_run(self: Sandbox, *args: Any, **kwargs: Any) -> Outcome:
        nonlocal attempts
        attempts += 1
        os.kill(zygote_of(self), signal.SIGKILL)
        return really_run(self, *args, **kwargs)

    monkeypatch.setattr(Sandbox, "run", killed_run)
    verdict = judge("def f(x): return 2 * x")
    assert (verdict.reward, verdict.reason, attempts) == (None, "errored", code.ATTEMPTS)
    assert verdict.error == "the sandbox was killed"
    monkeypatch.undo()
    assert judge("def f(x): return 2 * x").reward == 1.0


def test_nothing_outlives_a_process_that_was_killed() -> None:
    script = """
    import threading, time
    from rewards.isolation import SANDBOXES
    from tests.support.code_answers import judge
    judge("def f(x): return 2 * x")
    print(SANDBOXES._idle[0].process_id, flush=True)
    judge("import time\\ntime.sleep(1000)")
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        zygote = int(process.stdout.readline())
        wait_for(lambda: bool(children_of(zygote)))
        program = children_of(zygote)[0]
        process.kill()
    wait_for(lambda: not is_alive(zygote) and not is_alive(program))


def test_a_forked_process_makes_sandboxes_of_its_own() -> None:
    result = python(
        """
        import os
        from rewards.isolation import SANDBOXES
        from tests.support.code_answers import judge
        right = "def f(x): return 2 * x"
        assert judge(right).reward == 1.0
        ours = SANDBOXES._idle[0].process_id
        child = os.fork()
        if child == 0:
            assert not SANDBOXES._idle
            assert judge(right).reward == 1.0
            assert SANDBOXES._idle[0].process_id != ours
            raise SystemExit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert judge(right).reward == 1.0
        assert SANDBOXES._idle[0].process_id == ours
        print("both")
        """
    )
    assert result.stdout == "both\n", result.stderr


def test_an_interrupt_in_the_middle_of_a_program_does_not_mix_up_answers() -> None:
    result = python(
        """
        import os, signal, threading
        from tests.support.code_answers import judge
        judge("def f(x): return 2 * x")
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            judge("import time\\ndef f(x):\\n    time.sleep(5)\\n    return 2 * x")
        except KeyboardInterrupt:
            print(judge("def f(x): return 2 * x").reward, judge("def f(x): return 4").reward)
        """
    )
    assert result.stdout == "1.0 0.0\n", (result.returncode, result.stderr)


def test_it_works_from_an_unguarded_script_and_any_thread(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import threading
            from rewards.code import compute_reward
            truth = {calls(([1], 2), ([2], 4))!r}
            text = "```python\\ndef f(x): return 2 * x\\n```"
            rewards = []
            threads = [threading.Thread(target=lambda: rewards.append(compute_reward(text, truth))) for _ in range(4)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            print(rewards, compute_reward(text, truth))
            """
        )
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.stdout == "[1.0, 1.0, 1.0, 1.0] 1.0\n", result.stderr
    assert result.stderr == ""
