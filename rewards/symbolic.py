"""Compares answers as expressions, with math-verify, in a process that may be killed at any time.

Towers of powers, factorials and long sums keep a computer algebra system busy for ever or fill the memory, and its own
time limits need signals, which only a main thread has. So the work is done elsewhere:

    this process    asks one pair at a time over a socket, from any thread
    the template    a fresh Python with everything imported; it only forks judges and says when one was killed
    a judge         answers pairs, each within CPU_LIMIT_S seconds of CPU and MEMORY_LIMIT bytes, until one kills it

Seconds are of CPU: a loaded machine changes no verdict. A judge that dies is replaced by a fork of the template
(milliseconds). If it died of its limits that is the verdict, else its successor is asked again; so is a new template's
where that one died. Questions have numbers, so that no answer is taken for another's. All end with this process, even
one that is killed, since the template waits for that as well.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import mmap
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import weakref
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from threading import Lock
from typing import Any

from rewards import answers

CPU_LIMIT_S = 2.0
MEMORY_LIMIT = 512 << 20
WALL_LIMIT_S = 120.0
"""For a start, and for CPU_LIMIT_S seconds of CPU: far more, since a machine may be busy. Only a stopped process gets
there; where a reward has a time limit of its own (rewards/worker.py), that ends it long before."""
TRIES = 3
GROWTH_LIMIT = 64 << 20
"""Bytes that a judge may keep from answer to answer before a fresh one takes over."""
LIMIT_SIGNALS = frozenset([signal.SIGPROF, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT])
"""What ends a judge because of what it was asked: no time, or no stack, left."""
COSTLY = "too_costly"
UNREADABLE = "unreadable"
AGAIN = "again"
NUMBER = struct.Struct("=q")
NONE = -1

Question = tuple[str, str, bool]


class Lost(Exception):
    """No verdict could be had, through no fault of the answer. Its text says why."""


def compare(gold: str, answer: str, *, literal: bool) -> str:
    """``answers.compare`` with expressions; also too_costly (the limits were reached) and unreadable (the gold).

    Raises Lost.
    """
    with _lock:
        return _ask((gold, answer, literal))


# ---------------------------------------------------------------- this process

_lock = Lock()
_template: _Template | None = None


def _forget() -> None:
    """A forked child must not share the conversation of its parent, nor wait for a lock that nobody there releases."""
    global _lock, _template
    _lock = Lock()
    if _template is not None:
        _template.disown()
    _template = None


os.register_at_fork(after_in_child=_forget)


def _ask(question: Question) -> str:
    global _template
    problem = ""
    for _ in range(TRIES):
        try:
            _template = _template or _Template()
            verdict = _template.ask(question)
            if verdict != AGAIN:
                return verdict
            problem = "the process that compares expressions was killed"
            continue
        except (OSError, EOFError) as error:
            problem = f"the process that compares expressions ended: {type(error).__name__} {error}".rstrip()
        except BaseException:  # such as Ctrl-C: its answer would be taken for the next one's
            _stop()
            raise
        _stop()
    raise Lost(problem)


def _stop() -> None:
    global _template
    if _template is not None:
        _template.stop()
    _template = None


class _Template:
    """The template process and this end of the socket. Ended at the latest when this process ends."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        path = [entry for entry in sys.path if isinstance(entry, str)]
        code = (
            f"import sys; sys.path[:] = {path!a}; "
            f"from rewards.symbolic import serve; serve({theirs.fileno()}, {os.getpid()})"
        )
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", code],
                    pass_fds=[theirs.fileno()],
                    env=os.environ | {"PYTHONHASHSEED": "0"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is not for it
                )
        except BaseException:
            ours.close()
            raise
        self._connection = Connection(ours.detach())
        self._numbers = itertools.count()
        self._end = weakref.finalize(self, _end, self._process, self._connection)
        self._await()

    def ask(self, question: Question) -> str:
        number = next(self._numbers)
        self._connection.send((number, question))
        while True:
            answered, verdict = self._await()
            if answered == number:
                return str(verdict)

    def _await(self) -> Any:
        if not self._connection.poll(WALL_LIMIT_S):
            raise Lost(f"the process that compares expressions gave no answer within {WALL_LIMIT_S:g} s")
        return self._connection.recv()

    def stop(self) -> None:
        self._end()

    def disown(self) -> None:
        """Leave it to the process that started it."""
        self._end.detach()
        self._connection.close()
        self._process.returncode = 0  # not a child of this process: nothing to wait for


def _end(process: subprocess.Popen[bytes], connection: Connection) -> None:
    connection.close()
    process.kill()  # the judge has the kernel's word that it dies with the template
    with suppress(subprocess.TimeoutExpired):
        process.wait(5.0)


# ---------------------------------------------------------------- the template


def serve(number: int, parent: int) -> None:
    """Fork judges for the socket with file descriptor ``number`` until it ends or process ``parent`` is gone."""
    connection = Connection(number)
    _warm_up()
    gc.collect()
    gc.freeze()  # so that a judge's collections copy no pages of what was imported
    watched = _open_process(parent)
    at_work = mmap.mmap(-1, NUMBER.size)  # which question the judge is at, shared with it
    connection.send((NONE, "ready"))
    while os.getppid() == parent:
        NUMBER.pack_into(at_work, 0, NONE)
        judge = os.fork()
        if judge == 0:
            _judge(connection, at_work)
        status = _wait_for(judge, watched)
        (number,) = NUMBER.unpack_from(at_work)
        if os.WIFSIGNALED(status):
            if number != NONE:
                connection.send((number, COSTLY if os.WTERMSIG(status) in LIMIT_SIGNALS else AGAIN))
        elif status != 0:
            return  # the socket has ended, or cannot be understood


def _open_process(number: int) -> int | None:
    """A file descriptor that becomes readable when the process ends, where the system has such."""
    try:
        return os.pidfd_open(number)
    except (AttributeError, OSError):
        return None


def _wait_for(judge: int, watched: int | None) -> int:
    """The wait status of a judge. Ends it, and this process, when the ``watched`` process ends."""
    descriptor = _open_process(judge)
    if descriptor is not None and watched is not None:
        if watched in wait([descriptor, watched]):
            os.kill(judge, signal.SIGKILL)
            os._exit(1)
        os.close(descriptor)
    return os.waitpid(judge, 0)[1]


def _warm_up() -> None:
    """Pay once for imports and for what the parser builds at its first expressions."""
    for gold, answer in ((r"\frac{x^2+1}{2}", r"\frac{1+x^{2}}{2}"), (r"\sqrt{12}", r"2\sqrt{3}"), ("x<1", "1>x")):
        _is_equal(gold, answer)


# ---------------------------------------------------------------- a judge


def _judge(connection: Connection, at_work: mmap.mmap) -> None:
    """Answer until the socket ends, or memory has grown so that a fresh judge should go on. Does not return."""
    template = os.getppid()
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != template:
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    least = _peak_memory()
    with suppress(EOFError, OSError):
        while _peak_memory() - least < GROWTH_LIMIT:
            number, (gold, answer, literal) = connection.recv()
            NUMBER.pack_into(at_work, 0, number)
            # The kernel ends this process after so much CPU, wherever it is: no handler, which a long multiplication
            # of integers would never let run.
            signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
            verdict = _verdict(gold, answer, literal=literal)
            signal.setitimer(signal.ITIMER_PROF, 0)
            NUMBER.pack_into(at_work, 0, NONE)
            connection.send((number, verdict))
        os._exit(0)
    os._exit(1)


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _verdict(gold: str, answer: str, *, literal: bool) -> str:
    try:
        return answers.compare(gold, answer, literal=literal, symbolic=_is_equal)
    except answers.Unreadable:
        return UNREADABLE
    except MemoryError:
        return COSTLY
    except Exception:  # whatever a computer algebra system makes of nonsense
        return "wrong"


def _is_equal(gold: str, answer: str) -> bool:
    """Whether two expressions in LaTeX are equal. Raises Unreadable when the first cannot be parsed."""
    from math_verify import verify
    from math_verify.grader import should_treat_as_complex

    real = not (should_treat_as_complex(gold) or should_treat_as_complex(answer))  # one symbol has one kind in both
    ours = _parse(gold, real=real)
    if ours is None:
        raise answers.Unreadable
    theirs = _parse(answer, real=real)
    if theirs is None:
        return False
    return verify(ours, theirs, timeout_seconds=None) and _agree(ours, theirs)


def _parse(text: str, *, real: bool) -> Any:
    """The sympy object of an expression in LaTeX, None when it is none. A fraction right after a whole number is added
    to it, as in a mixed number, and degrees are radians."""
    from latex2sympy2_extended import NormalizationConfig, latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    # Units stay: without them 5 feet would be 5 metres. R and r stay two symbols.
    normal = NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="none")
    case = ConversionConfig(lowercase_symbols=False)
    text = MIXED.sub(r"(\1+\2)", text)
    text = DEGREES.sub(lambda found: rf"(\frac{{{found[1] or found[2]}\pi}}{{180}})", text)
    try:
        return latex2sympy(text, is_real=real, normalization_config=normal, conversion_config=case)
    except MemoryError:
        raise
    except Exception:  # what its grammar does not know
        return None


MIXED = re.compile(r"(?<![0-9.}])([0-9]+) ?(\\frac ?\{[0-9]+\} ?\{[0-9]+\})")
DEGREES = re.compile(r"(?:([0-9.]+)|\{([0-9.]+)\}) ?\^ ?(?:\\circ|\{ ?\\circ ?\})")
DIGITS = 400


def _agree(ours: Any, theirs: Any) -> bool:
    """A second opinion in numbers: math-verify takes any two that differ by less than 1e-15 for equal.

    Compares relative to the size of both, to DIGITS digits, at one point; a decimal is what it says. What is no number,
    such as an equation, must speak of the same symbols.
    """
    from sympy import Expr, MatrixBase, Rational

    if isinstance(ours, MatrixBase) and isinstance(theirs, MatrixBase):
        return all(_agree(one, other) for one, other in zip(ours, theirs, strict=True))
    symbols = sorted(ours.free_symbols | theirs.free_symbols, key=str)
    if not (isinstance(ours, Expr) and isinstance(theirs, Expr)):
        return {str(one) for one in ours.free_symbols} == {str(one) for one in theirs.free_symbols}
    if ours == theirs:
        return True
    point = {symbol: Rational(137 + 31 * i, 100) for i, symbol in enumerate(symbols)}
    try:
        a, b = (_exact(expression).subs(point).doit() for expression in (ours, theirs))
        if not (a.is_Rational and b.is_Rational):
            a, b = (value.evalf(DIGITS + 20, maxn=4 * DIGITS) for value in (a, b))
        return bool(abs(a - b) <= Rational(1, 10**DIGITS) * max(abs(a), abs(b)))
    except (TypeError, ValueError, ArithmeticError, AttributeError):
        return True  # no number: what math-verify says stands


def _exact(expression: Any) -> Any:
    """The expression with a quotient for each decimal."""
    from sympy import Rational

    return expression.replace(lambda part: part.is_Float, lambda part: Rational(str(part)))
