"""Programs judged by what they compute: a fenced Python block of a completion against cases.

Ground truth, a JSON string; all but ``cases`` is optional, and ``entry_point`` is for a function only:

    {"entry_point": "f", "cases": [{"args": [...], "kwargs": {...}, "expected": ...}],
     "tolerance": null, "setup": "", "checker": "", "case_limit": null}
    {"cases": [{"stdin": "...", "stdout": "..."}]}

**Program**: after the thinking (rewards/format.py), the last closed fence marked as Python (CommonMark's rules, at any
indentation; answer tags may be around it), but for examples of use, which name the entry point and do not define it.
Without one there is no program: an unmarked fence, an unclosed one and bare code earn nothing. ``setup`` is run before
it, in the same namespace. A function's program is a module (``__name__`` is not ``__main__``), so it may bring its own
demo. The entry point is a function, or a method of ``class Solution``, of which each case makes a fresh one;
``Solution().f`` may be written for it.

**Judge**: the program runs in a sandbox (rewards/sandbox.py) and may do there what it likes. It is given the inputs of
the cases, never an expected value; what it sends back is data, and is compared out here. So nothing it does to itself,
its interpreter or its answers can make a wrong answer right. Types are exact: ``True`` is not ``1``, ``1.0`` is not
``1``, NaN equals nothing; but an instance of a subclass (IntEnum, namedtuple) is what it is made of. An array in
``expected`` matches a list or a tuple, ``{"$tuple": [...]}`` only a tuple, ``{"$set": [...]}`` a set or a frozenset, an
object a dict with string keys, ``{"$dict": [[key, value], ...]}`` one with any; these tags hold in inputs too. With a
``tolerance`` two numbers, integer or not, may differ by at most that much, save in sets and keys.

A script's output is compared line by line without trailing white space, and it must end without error. A number that is
expected with a point or an exponent may differ by 1e-6, or by 1e-9 of it; with a ``tolerance``, any number by that.

**Checker**: Python that defines ``check(answer, expected, *args, **kwargs)``, with the input as arguments, or
``check(output, expected, stdin)``. An answer is right when it returns True. It runs in a sandboxed process of its own
when the program's has ended. ``expected`` and ``stdout`` are then optional.

**Score**: n cases of which the best constant program passes c: (passed - c) / (n - c), at least 0; the share passed is
the component ``cases``. A row that a constant solves (c = n) pays only for all cases; check_ground_truth refuses it.
With a checker c is taken for 0.

Reason codes, by the first case that fails: right; no_program, syntax_error, no_function; wrong; crashed (an exception,
an exit); timeout and memory (the sandbox's limits are per program, and end it); output_limit; forged (something else
than its answers is where they belong: nothing is earned at all).
"""

from __future__ import annotations

import ast
import json
import math
import re
import secrets
import textwrap
import warnings
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from harness.types import Score
from rewards.contract import errored, errored_by
from rewards.format import ANSWER_TAGS, TAG, after_thinking
from rewards.isolation import SANDBOXES, Refused
from rewards.results import (
    answer_of_constant,
    count_best_constant,
    count_best_output,
    is_number,
    matches,
    matches_output,
    normalise_output,
)
from rewards.sandbox import CPU_LIMIT_S, FILE_LIMIT, PATIENCE, WALL_LIMIT_S, Lost, Sandbox

MOST_CPU_S = 60
"""For all cases together where each has a ``case_limit``."""
TIME_LIMIT_S = 2.0 * (WALL_LIMIT_S + PATIENCE * (MOST_CPU_S + CPU_LIMIT_S))
"""For rewards/worker.py: more than the sandbox's own limits, and those of a checker, add up to on the busiest machine.
They tell a slow program from a slow machine; this one cannot. Twice, since a setup may be judged apart."""
ATTEMPTS = 3
"""At one completion, with a new sandbox each time, before the verifier is at fault."""

MOST_PADDED = 1 << 20
"""Bytes of output that are looked at as a whole, beside those that are expected (UTF-8 has four to a character)."""
DEEPEST = 100
"""Lists within lists of an answer that a checker is shown."""

LONGEST_PARSED = 64 << 10
MARK = "\0"
"""A character that no program has."""
TAGS = {"$tuple", "$set", "$dict"}
"""Of what JSON has not."""
FAULTS = {"setup", "syntax_error", "no_function", "crashed", "memory"}
"""Why a process has no answers, in its own words."""

SETUP_FAULTS = {"setup", "crashed", "timeout", "memory"}
"""What comes of a setup that fails."""


class GroundTruthError(ValueError):
    """The ground truth cannot be judged against. The text names the field."""


# ---------------------------------------------------------------- the ground truth


@dataclass(frozen=True, slots=True)
class Case:
    """What goes in (arguments of a call, standard input of a script), and the ``expected`` value or output.

    ``answer_limit`` is in bytes; a longer answer cannot be right.
    """

    given: Any
    expected: Any
    answer_limit: int = 0


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """``constant`` is the number of cases that the best constant program passes; no ``entry_point`` for a script.

    ``case_limit`` are CPU seconds of a case, 0 where all share the sandbox's limit; ``checker`` is empty for none.
    """

    cases: tuple[Case, ...]
    entry_point: str
    setup: str
    tolerance: float | None
    checker: str
    case_limit: float
    constant: int

    @property
    def limit(self) -> float:
        """CPU seconds for all cases together."""
        return min(MOST_CPU_S, len(self.cases) * self.case_limit) or CPU_LIMIT_S


@lru_cache(maxsize=512)
def parse_ground_truth(text: str) -> GroundTruth:
    """Raises GroundTruthError naming the field that is wrong."""
    try:
        value = json.loads(text, parse_int=_parse_int)
    except (ValueError, RecursionError) as error:
        raise GroundTruthError(f"not JSON: {error}") from None
    _check_keys(value, "the ground truth", {"cases"}, {"entry_point", "tolerance", "setup", "checker", "case_limit"})
    entry_point, setup, checker = value.get("entry_point"), value.get("setup") or "", value.get("checker") or ""
    if isinstance(entry_point, str):
        entry_point = entry_point.removeprefix("Solution().").removeprefix("Solution.")
    if entry_point is not None and not (isinstance(entry_point, str) and entry_point.isidentifier()):
        raise GroundTruthError(f"entry_point must be the name of a function, not {entry_point!r}")
    if not isinstance(setup, str):
        raise GroundTruthError("setup must be a string of Python")
    if checker and not _defines_check(checker):
        raise GroundTruthError("checker must be a string of Python that defines check")
    tolerance, case_limit = value.get("tolerance"), value.get("case_limit")
    if tolerance is not None and not (is_number(tolerance) and 0 <= tolerance < math.inf):
        raise GroundTruthError(f"tolerance must be null or a number from 0 on, not {tolerance!r}")
    if case_limit is not None and not (is_number(case_limit) and 0 < case_limit <= MOST_CPU_S):
        raise GroundTruthError(f"case_limit must be null or seconds up to {MOST_CPU_S}, not {case_limit!r}")
    if not isinstance(value["cases"], list) or not value["cases"]:
        raise GroundTruthError("cases must be an array with at least one case")
    parse = _parse_call if entry_point else _parse_run
    cases = tuple(parse(f"case {number}", case, checker) for number, case in enumerate(value["cases"], 1))
    if checker:
        constant = 0
    elif entry_point:
        constant = count_best_constant([case.expected for case in cases], tolerance)
    else:
        constant = count_best_output([case.expected for case in cases], tolerance)
    return GroundTruth(cases, entry_point or "", setup, tolerance, checker, case_limit or 0, constant)


def _parse_int(text: str) -> int:
    return int(text) if len(text) <= 4000 else int(Decimal(text))  # which has no limit of digits


def _defines_check(checker: Any) -> bool:
    try:
        statements = ast.parse(checker).body
    except (TypeError, ValueError, SyntaxError, RecursionError, MemoryError):
        return False
    return any(isinstance(statement, ast.FunctionDef) and statement.name == "check" for statement in statements)


def _parse_call(name: str, case: Any, checker: str) -> Case:
    _check_keys(case, name, set() if checker else {"expected"}, {"args", "kwargs", "expected"})
    args, kwargs, expected = case.get("args", []), case.get("kwargs") or {}, case.get("expected")
    if not isinstance(args, list):
        raise GroundTruthError(f"{name}: args must be an array")
    if not isinstance(kwargs, dict):
        raise GroundTruthError(f"{name}: kwargs must be an object")
    if _has_nan(expected):
        raise GroundTruthError(f"{name}: expected has NaN, which equals nothing")
    for value in (args, kwargs, expected):
        _check_tags(name, value)
    longest = MOST_PADDED if checker else 1024 + 16 * len(json.dumps(answer_of_constant(expected)))
    return Case([args, kwargs], expected, longest)


def _parse_run(name: str, case: Any, checker: str) -> Case:
    _check_keys(case, name, {"stdin"} if checker else {"stdin", "stdout"}, {"stdout"})
    for key, text in case.items():
        if not isinstance(text, str):
            raise GroundTruthError(f"{name}: {key} must be a string")
    return Case(case["stdin"], case.get("stdout") if checker else normalise_output(case["stdout"]))


def _check_keys(value: Any, name: str, needed: set[str], allowed: set[str]) -> None:
    if not isinstance(value, dict):
        raise GroundTruthError(f"{name} must be an object")
    if missing := needed - value.keys():
        hint = "; without entry_point a case has stdin and stdout" if "stdin" in missing else ""
        raise GroundTruthError(f"{name} has no {' and no '.join(sorted(missing))}{hint}")
    if unknown := value.keys() - needed - allowed:
        raise GroundTruthError(f"{name} has an unknown field {sorted(unknown)[0]}")


def _check_tags(name: str, value: Any) -> None:
    if isinstance(value, dict):
        if value.keys() <= TAGS and value:
            _check_tag(name, value)
        for item in value.values():
            _check_tags(name, item)
    elif isinstance(value, list):
        for item in value:
            _check_tags(name, item)


def _check_tag(name: str, value: dict[str, Any]) -> None:
    tag, items = next(iter(value.items()))
    pairs = isinstance(items, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in items)
    if len(value) > 1 or not isinstance(items, list) or not (pairs or tag != "$dict"):
        raise GroundTruthError(
            f'{name}: it is {{"$tuple": [...]}}, {{"$set": [...]}} or {{"$dict": [[key, value], ...]}}'
        )
    keys = items if tag == "$set" else [key for key, _ in items] if tag == "$dict" else []
    if not all(map(_is_key, keys)):
        raise GroundTruthError(f"{name}: an object can be neither in a set nor a key")


def _is_key(value: Any) -> bool:
    """Whether the zygote can make something of it that is hashable: arrays become tuples, sets frozen."""
    if isinstance(value, dict):
        return bool(value) and value.keys() <= {"$tuple", "$set"} and all(map(_is_key, value.values()))
    return all(map(_is_key, value)) if isinstance(value, list) else True


def _has_nan(value: Any) -> bool:
    if isinstance(value, list | dict):
        return any(map(_has_nan, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and math.isnan(value)


def check_ground_truth(ground_truth: str) -> str | None:
    """Why a row cannot be trained on, None when it can: the ground truth is malformed or a constant solves it."""
    try:
        truth = parse_ground_truth(ground_truth)
    except GroundTruthError as error:
        return f"ground_truth: {error}"
    if truth.constant == len(truth.cases):
        return "ground_truth: a constant program passes every case; add one with another expected value"
    return None


# ---------------------------------------------------------------- the judge


FENCE = re.compile(
    rf"(?:{'|'.join(ANSWER_TAGS)})?(?P<indent>[ \t]*(?P<item>(?:(?:[-*+]|\d{{1,9}}[.)])[ \t]+)*))"
    r"(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>.*)"
)
ENDS = {"", *ANSWER_TAGS.values()}
"""What may follow a closing fence on its line."""
PYTHON = re.compile(r"\{?\.?py(thon)?[\d.]*([\s,:{}].*)?", re.IGNORECASE)


def extract_program(completion: str, entry_point: str = "") -> str | None:
    """The last closed fenced block after the thinking that is marked as Python; None where there is none. Examples of
    use may follow it: blocks that name the entry point and do not define it."""
    text = completion.replace("\r\n", "\n")
    marked = after_thinking(_mark_tags(text))
    programs = _programs(marked if MARK in text else marked.replace(MARK, ""))
    name = re.escape(entry_point)
    defined = re.compile(
        rf"^[ \t]*(async[ \t]+)?(def|class)[ \t]+{name}\b|^{name}[ \t]*(:[^=\n]*)?=(?!=)", re.MULTILINE
    )
    named = re.compile(rf"\b{name}\b")
    for program in reversed(programs) if entry_point else ():
        if defined.search(program):
            return program
        if not named.search(program):
            break  # no example of use: another answer
    return programs[-1] if programs else None


def _mark_tags(text: str) -> str:
    """The text with a MARK in each tag that stands in a string or a comment of a program, so that it is none."""
    if MARK in text or not TAG.search(text):
        return text
    for program in _programs(text, outdented=False):
        if TAG.search(program) and _is_python(program):
            text = text.replace(program, TAG.sub(lambda tag: tag[0][0] + MARK + tag[0][1:], program))
    return text


def _is_python(program: str) -> bool:
    try:
        if len(program) <= LONGEST_PARSED:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse(textwrap.dedent(program))
            return True
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    return False


def _programs(text: str, outdented: bool = True) -> list[str]:
    """The closed blocks of a text that are marked as Python."""
    programs: list[str] = []
    fence, indent, is_python = "", 0, False
    lines: list[str] = []
    for line in text.split("\n"):
        match = FENCE.fullmatch(line)
        if not fence:
            if match and not (match["fence"][0] == "`" and "`" in match["info"]):
                fence, indent, lines = match["fence"], len(match["indent"]), []
                is_python = PYTHON.fullmatch(match["info"]) is not None
        elif (
            match
            and not match["item"]
            and match["fence"].startswith(fence)
            and match["info"].strip() in ENDS
            and len(match["indent"]) <= indent + 3
        ):
            if is_python:
                programs.append(_outdent(lines, indent if outdented else 0))
            fence = ""
        else:
            lines.append(line)
    return programs


def _outdent(lines: list[str], most: int) -> str:
    """The lines without as much white space as the first has before its text, ``most`` characters at most."""
    first = next((line for line in lines if line.strip()), "")
    depth = min(most, _indent(first))
    return "".join(line[min(depth, _indent(line)) :] + "\n" for line in lines) or "\n"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def score(completion: str, ground_truth: str) -> Score:
    """Score one completion. Errored when the ground truth is malformed, programs are refused here, or the sandbox
    breaks ``ATTEMPTS`` times."""
    try:
        truth = parse_ground_truth(ground_truth)
        program = extract_program(completion, truth.entry_point)
        if program is None:
            return Score(0.0, False, "no_program", {"cases": 0.0})
        outcomes = _judge(program, truth)
        # It may be the setup's doing. What the program says of that proves nothing: see what happens without one.
        suspect = truth.setup and "right" not in outcomes and not SETUP_FAULTS.isdisjoint(outcomes)
        if suspect and not SETUP_FAULTS.isdisjoint(_judge("", truth)):
            return errored("ground_truth: setup raises an exception or ends the process")
        return _score_of(outcomes, truth)
    except GroundTruthError as error:
        return errored(f"ground_truth: {error}")
    except (Refused, Lost) as error:
        return errored(str(error))
    except (OSError, MemoryError) as error:  # of this process
        return errored_by(error)


def compute_reward(completion: str, ground_truth: str) -> float:
    """The reward of ``score``, 0.0 for anything that earns none whatever its type; never raises."""
    if not isinstance(completion, str) or not isinstance(ground_truth, str):
        return 0.0
    try:
        return score(completion, ground_truth).reward or 0.0
    except Exception:
        return 0.0


def _judge(program: str, truth: GroundTruth) -> list[str]:
    """The outcomes of the cases in order, as _score_of takes them; a lost sandbox is replaced. Raises Refused, Lost."""

    def attempt() -> list[str]:
        with SANDBOXES.one() as sandbox:
            return (_call if truth.entry_point else _run)(sandbox, program, truth)

    for _ in range(ATTEMPTS - 1):
        with suppress(Lost):
            return attempt()
    return attempt()


def _score_of(outcomes: list[str], truth: GroundTruth) -> Score:
    """``outcomes`` are ``right`` or reason codes, the last of which holds for all cases that were not reached."""
    if "forged" in outcomes or "setup" in outcomes:  # which the setup is not to blame for
        return Score(0.0, False, "forged", {"cases": 0.0})
    n, passed = len(truth.cases), outcomes.count("right")
    if passed == n:
        return Score(1.0, True, "right", {"cases": 1.0})
    reason = next(outcome for outcome in outcomes if outcome != "right")
    rescaled = max(0, passed - truth.constant) / (n - truth.constant) if truth.constant < n else 0.0
    return Score(rescaled, False, reason, {"cases": passed / n})


def _call(sandbox: Sandbox, program: str, truth: GroundTruth) -> list[str]:
    """The outcomes of the cases, which one process answers in order, one line each."""
    token = secrets.token_hex(8)
    job = {
        "program": program,
        "setup": truth.setup,
        "entry_point": truth.entry_point,
        "token": token,
        "cases": [case.given for case in truth.cases],
        "case_limit": truth.case_limit,
    }
    outcome = sandbox.run(job, cpu_s=math.ceil(truth.limit))
    *lines, rest = outcome.answers.split(b"\n", len(truth.cases) + 1)  # it may be millions
    if len(lines) == 1 and (fault := _fault(lines[0])):
        return [fault]
    if len(lines) > len(truth.cases):
        return ["forged"]
    judged = [_judge_answer(line, token, case, truth) for line, case in zip(lines, truth.cases, strict=False)]
    asked = [(case, value) for case, (reason, value) in zip(truth.cases, judged, strict=False) if not reason]
    verdicts = iter(_check(sandbox, truth, asked)[0])
    outcomes = [reason or ("right" if next(verdicts) else "wrong") for reason, _ in judged]
    if len(outcomes) < len(truth.cases):
        outcomes.append("output_limit" if rest else outcome.reason or "crashed")  # an exit, whatever its status
    return outcomes


def _fault(line: bytes) -> str:
    """The reason code that a program's process gave of itself, empty when the line is none."""
    word = line.partition(b":")[0].decode(errors="replace")
    return word if word in FAULTS else ""


def _judge_answer(line: bytes, token: str, case: Case, truth: GroundTruth) -> tuple[str, Any]:
    """The outcome, or an empty one and the answer that a checker is asked about."""
    given, _, answer = line.partition(b" ")
    if given != token.encode():
        return "forged", None
    if len(answer) > case.answer_limit:
        return "wrong", None
    try:
        found = json.loads(answer)
        if "failed" in found:
            return "memory" if found["failed"] == "memory" else "crashed", None
        if truth.checker:
            return "", found["value"]
        return "right" if matches(case.expected, found["value"], truth.tolerance) else "wrong", None
    except (ValueError, TypeError, KeyError, RecursionError):  # no answer of the zygote's making
        return "forged", None


def _run(sandbox: Sandbox, program: str, truth: GroundTruth) -> list[str]:
    """The outcomes of the cases, each of which is a process of its own. They share the limits of time."""
    outcomes, left, idled, checking = [], truth.limit, 0.0, float(CPU_LIMIT_S)
    for case in truth.cases:
        job = {"program": program, "setup": truth.setup, "stdin": case.given}
        cpu_s = math.ceil(min(left, truth.case_limit or left))
        outcome = sandbox.run(job, cpu_s=cpu_s, idled_s=idled, script=True)
        if fault := _fault(outcome.answers):
            reason = fault
        elif len(outcome.output) >= FILE_LIMIT:
            reason = "output_limit"
        elif outcome.reason or 0 < truth.case_limit < outcome.cpu_s:
            reason = outcome.reason or "timeout"
        elif truth.checker:
            verdicts, spent = _check(sandbox, truth, [(case, _text(outcome.output))], checking)
            reason = "right" if all(verdicts) else "wrong"
            checking -= spent
        else:
            reason = "right" if _is_output(outcome.output, case.expected, truth.tolerance) else "wrong"
        outcomes.append(reason)
        left -= outcome.cpu_s
        idled += outcome.idle_s
        if reason in ("timeout", "syntax_error", "setup"):
            return outcomes
        if left <= 0 and len(outcomes) < len(truth.cases):
            return [*outcomes, "timeout"]
    return outcomes


def _check(
    sandbox: Sandbox, truth: GroundTruth, asked: list[tuple[Case, Any]], cpu_s: float = CPU_LIMIT_S
) -> tuple[list[bool], float]:
    """What the checker says of answers, each with its case, and its CPU seconds. An answer at which it fails, or that
    it cannot be shown, is wrong. Raises GroundTruthError when it fails before it sees one."""
    calls: dict[int, Any] = {}
    for number, (case, answer) in enumerate(asked):
        args, kwargs = case.given if truth.entry_point else ([case.given], {})
        with suppress(ValueError, TypeError, GroundTruthError):
            calls[number] = [[_to_input(answer), case.expected, *args], kwargs]
    if not calls or cpu_s <= 0:
        return [False] * len(asked), 0.0
    token = secrets.token_hex(8)
    job = {"program": truth.checker, "setup": truth.setup, "entry_point": "check", "token": token}
    outcome = sandbox.run({**job, "cases": list(calls.values())}, cpu_s=math.ceil(cpu_s))
    lines = outcome.answers.split(b"\n", len(calls))
    if fault := _fault(lines[0]):
        raise GroundTruthError(f"the checker gives no verdict: {fault}")
    passed = {
        number for number, line in zip(calls, lines, strict=False) if line == f'{token} {{"value": true}}'.encode()
    }
    return [number in passed for number in range(len(asked))], outcome.cpu_s


def _to_input(answer: Any, depth: int = DEEPEST) -> Any:
    """An answer as an argument of a checker. Raises ValueError, TypeError or GroundTruthError for what is none."""
    if not depth:
        raise ValueError("too deep")
    if isinstance(answer, list):
        return [_to_input(item, depth - 1) for item in answer]
    if not isinstance(answer, dict):
        return answer
    ((tag, items),) = answer.items()
    if tag == "$int":
        return int(items, 16)
    if tag not in TAGS:
        raise ValueError("no plain value")
    made = {tag: [_to_input(item, depth - 1) for item in items]}
    _check_tag("the answer", made)
    return made


def _text(output: bytes) -> Any:
    """A script's output for a checker, or what a checker is not shown where it is no text."""
    try:
        return output.decode()
    except UnicodeDecodeError:
        return {"$other": "bytes"}


def _is_output(output: bytes, expected: str, tolerance: float | None) -> bool:
    if len(output) > MOST_PADDED + 4 * len(expected) and len(output.translate(None, b" \t\r\n")) > 4 * len(expected):
        return False  # known without making millions of lines of it
    try:
        return matches_output(expected, normalise_output(output.decode()), tolerance)
    except UnicodeDecodeError:
        return False
