"""Programs judged by what they compute: the last fenced Python block of a completion against cases.

Ground truth, a JSON string:

    {"entry_point": "f", "cases": [{"args": [...], "kwargs": {...}, "expected": ...}], "tolerance": null, "setup": ""}
    {"cases": [{"stdin": "...", "stdout": "..."}]}

**Program**: the last closed fence that is marked ``python``, ``py`` or ``python3`` (CommonMark's rules). Without one
there is no program: an unmarked fence, an unclosed one and bare code earn nothing. ``setup`` is run before it, in the
same namespace. A function's program is a module (``__name__`` is not ``__main__``), so it may bring its own demo.

**Judge**: the program runs in a sandbox (rewards/sandbox.py) and may do there what it likes. It is given the inputs of
the cases, never an expected value; what it sends back is data, and is compared out here. So nothing it does to itself,
its interpreter or its answers can make a wrong answer right. Types are exact: ``True`` is not ``1``, ``1.0`` is not
``1``, NaN equals nothing. An array in ``expected`` matches a list or a tuple, ``{"$tuple": [...]}`` only a
tuple, an object a dict with string keys, ``{"$dict": [[key, value], ...]}`` one with any; these tags hold in inputs
too. Only with a ``tolerance`` may a float differ, by at most that much. A script's output is compared line by line
without trailing white space, and it must end without error.

**Score**: n cases of which the best constant program passes c: (passed - c) / (n - c), at least 0; the share passed is
the component ``cases``. A row that a constant solves (c = n) pays only for all cases; check_ground_truth refuses it.

Reason codes, by the first case that fails: right; no_program, syntax_error, no_function; wrong; crashed (an exception,
an exit); timeout and memory (the sandbox's limits are per program, and end it); output_limit; forged (something else
than its answers is where they belong: nothing is earned at all).
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from harness.types import Score
from rewards.contract import errored, errored_by
from rewards.isolation import SANDBOXES, Refused
from rewards.sandbox import CPU_LIMIT_S, FILE_LIMIT, PATIENCE, WALL_LIMIT_S, Lost, Sandbox

TIME_LIMIT_S = 2.0 * (WALL_LIMIT_S + PATIENCE * CPU_LIMIT_S)
"""For rewards/worker.py: more than the sandbox's own limits add up to on the busiest machine. They tell a slow program
from a slow machine; this one cannot. Twice, since a setup may be judged apart."""
ATTEMPTS = 3
"""At one completion, with a new sandbox each time, before the verifier is at fault."""

MOST_PADDED = 1 << 20
"""Bytes of output that are looked at as a whole, beside those that are expected (UTF-8 has four to a character)."""

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
    """``constant`` is the number of cases that the best constant program passes; no ``entry_point`` for a script."""

    cases: tuple[Case, ...]
    entry_point: str
    setup: str
    tolerance: float | None
    constant: int


@lru_cache(maxsize=512)
def parse_ground_truth(text: str) -> GroundTruth:
    """Raises GroundTruthError naming the field that is wrong."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GroundTruthError(f"not JSON: {error}") from None
    _check_keys(value, "the ground truth", {"cases"}, {"entry_point", "tolerance", "setup"})
    entry_point, setup, tolerance = value.get("entry_point"), value.get("setup") or "", value.get("tolerance")
    if entry_point is not None and not (isinstance(entry_point, str) and entry_point.isidentifier()):
        raise GroundTruthError(f"entry_point must be the name of a function, not {entry_point!r}")
    if not isinstance(setup, str):
        raise GroundTruthError("setup must be a string of Python")
    if tolerance is not None and (
        isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < math.inf
    ):
        raise GroundTruthError(f"tolerance must be null or a number from 0 on, not {tolerance!r}")
    if not isinstance(value["cases"], list) or not value["cases"]:
        raise GroundTruthError("cases must be an array with at least one case")
    parse = _parse_call if entry_point else _parse_run
    cases = tuple(parse(f"case {number}", case) for number, case in enumerate(value["cases"], 1))
    constant = _count_best_constant([case.expected for case in cases], tolerance)
    return GroundTruth(cases, entry_point or "", setup, tolerance, constant)


def _parse_call(name: str, case: Any) -> Case:
    _check_keys(case, name, {"expected"}, {"args", "kwargs"})
    args, kwargs = case.get("args", []), case.get("kwargs") or {}
    if not isinstance(args, list):
        raise GroundTruthError(f"{name}: args must be an array")
    if not isinstance(kwargs, dict):
        raise GroundTruthError(f"{name}: kwargs must be an object")
    if _has_nan(case["expected"]):
        raise GroundTruthError(f"{name}: expected has NaN, which equals nothing")
    for value in (args, kwargs, case["expected"]):
        _check_tags(name, value)
    return Case([args, kwargs], case["expected"], 1024 + 16 * len(json.dumps(case["expected"])))


def _parse_run(name: str, case: Any) -> Case:
    _check_keys(case, name, {"stdin", "stdout"}, set())
    for key, text in case.items():
        if not isinstance(text, str):
            raise GroundTruthError(f"{name}: {key} must be a string")
    return Case(case["stdin"], normalise_output(case["stdout"]))


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
        if value.keys() <= {"$tuple", "$dict"} and value:
            tag = next(iter(value))
            pairs = all(isinstance(pair, list) and len(pair) == 2 for pair in value[tag]) if tag == "$dict" else True
            if len(value) > 1 or not isinstance(value[tag], list) or not pairs:
                raise GroundTruthError(f'{name}: it is {{"$tuple": [...]}} or {{"$dict": [[key, value], ...]}}')
        for item in value.values():
            _check_tags(name, item)
    elif isinstance(value, list):
        for item in value:
            _check_tags(name, item)


def _has_nan(value: Any) -> bool:
    if isinstance(value, list | dict):
        return any(map(_has_nan, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and math.isnan(value)


def _count_best_constant(expected: list[Any], tolerance: float | None) -> int:
    """How many cases one fixed value passes, at most: two values within the tolerance of a third are within twice the
    tolerance of each other."""
    answers = [_answer_of_constant(value) for value in expected]
    counts = Counter(json.dumps(answer) for answer in answers)
    if not tolerance:
        return max(counts.values())
    distinct = {json.dumps(answer): (value, answer) for value, answer in zip(expected, answers, strict=True)}
    reach = 2 * tolerance * (1 + 1e-9)
    return max(
        sum(counts[key] for key, (value, _) in distinct.items() if matches(value, answer, reach))
        for _, answer in distinct.values()
    )


def _answer_of_constant(expected: Any) -> Any:
    """The answer of a program that returns this value, with tuples for arrays, since a tuple passes wherever a list
    would. Equal values give equal answers."""
    if isinstance(expected, list):
        return {"$tuple": [_answer_of_constant(item) for item in expected]}
    if isinstance(expected, dict):
        if _is_tagged(expected, "$tuple"):
            return _answer_of_constant(expected["$tuple"])
        pairs = [[_answer_of_constant(key), _answer_of_constant(value)] for key, value in _items(expected)]
        return {"$dict": sorted(pairs, key=json.dumps)}
    return expected + 0.0 if isinstance(expected, float) else expected  # one zero


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


def matches(expected: Any, answer: Any, tolerance: float | None = None) -> bool:
    """Whether a program's answer, in the tagged JSON of rewards/zygote.py, is the expected value."""
    if isinstance(expected, list) or _is_tagged(expected, "$tuple"):
        if isinstance(expected, list):
            items = answer if isinstance(answer, list) else answer["$tuple"] if _is_tagged(answer, "$tuple") else None
        else:
            expected, items = expected["$tuple"], answer["$tuple"] if _is_tagged(answer, "$tuple") else None
        if items is None or len(items) != len(expected):
            return False
        return all(matches(e, a, tolerance) for e, a in zip(expected, items, strict=True))
    if isinstance(expected, dict):
        pairs = answer["$dict"] if _is_tagged(answer, "$dict") else None
        if pairs is None or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            return False
        found = {json.dumps(key): value for key, value in pairs}
        wanted = {json.dumps(_answer_of_constant(key)): value for key, value in _items(expected)}
        return (
            len(pairs) == len(wanted)
            and wanted.keys() == found.keys()
            and all(matches(value, found[key], tolerance) for key, value in wanted.items())
        )
    if type(answer) is not type(expected):
        return False
    if isinstance(expected, float) and tolerance and math.isfinite(expected):
        return bool(abs(answer - expected) <= tolerance)
    return bool(answer == expected)


def _items(expected: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Keys and values of an object, or of ``{"$dict": [[key, value], ...]}``."""
    return expected["$dict"] if _is_tagged(expected, "$dict") else list(expected.items())


def _is_tagged(value: Any, tag: str) -> bool:
    return isinstance(value, dict) and value.keys() == {tag} and isinstance(value[tag], list)


def normalise_output(text: str) -> str:
    """A script's output as it is compared: lines without trailing white space, no empty lines at the end."""
    return "\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n")


FENCE = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>.*)")


def extract_program(completion: str) -> str | None:
    """The last closed fenced block that is marked as Python, None where there is none."""
    program, fence, is_python = None, "", False
    lines: list[str] = []
    for line in completion.replace("\r\n", "\n").split("\n"):
        match = FENCE.fullmatch(line)
        if not fence:
            if match and not (match["fence"][0] == "`" and "`" in match["info"]):
                fence, lines = match["fence"], []
                words = match["info"].split(maxsplit=1)
                is_python = bool(words) and words[0].lower() in ("python", "py", "python3")
        elif match and match["fence"].startswith(fence) and not match["info"].strip():
            if is_python:
                program = "\n".join(lines) + "\n"
            fence = ""
        else:
            lines.append(line)
    return program


def score(completion: str, ground_truth: str) -> Score:
    """Score one completion. Errored when the ground truth is malformed, programs are refused here, or the sandbox
    breaks ``ATTEMPTS`` times."""
    try:
        truth = parse_ground_truth(ground_truth)
        program = extract_program(completion)
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
    }
    outcome = sandbox.run(job, cpu_s=CPU_LIMIT_S)
    *lines, rest = outcome.answers.split(b"\n", len(truth.cases) + 1)  # it may be millions
    if len(lines) == 1 and (fault := _fault(lines[0])):
        return [fault]
    if len(lines) > len(truth.cases):
        return ["forged"]
    outcomes = [
        _judge_answer(line, token, case, truth.tolerance) for line, case in zip(lines, truth.cases, strict=False)
    ]
    if len(outcomes) < len(truth.cases):
        outcomes.append("output_limit" if rest else outcome.reason or "crashed")  # an exit, whatever its status
    return outcomes


def _fault(line: bytes) -> str:
    """The reason code that a program's process gave of itself, empty when the line is none."""
    word = line.partition(b":")[0].decode(errors="replace")
    return word if word in FAULTS else ""


def _judge_answer(line: bytes, token: str, case: Case, tolerance: float | None) -> str:
    given, _, answer = line.partition(b" ")
    if given != token.encode():
        return "forged"
    if len(answer) > case.answer_limit:
        return "wrong"
    try:
        found = json.loads(answer)
        if "failed" in found:
            return "memory" if found["failed"] == "memory" else "crashed"
        return "right" if matches(case.expected, found["value"], tolerance) else "wrong"
    except (ValueError, TypeError, KeyError, RecursionError):  # no answer of the zygote's making
        return "forged"


def _run(sandbox: Sandbox, program: str, truth: GroundTruth) -> list[str]:
    """The outcomes of the cases, each of which is a process of its own. They share the limits of time."""
    outcomes, left, idled = [], float(CPU_LIMIT_S), 0.0
    for case in truth.cases:
        job = {"program": program, "setup": truth.setup, "stdin": case.given}
        outcome = sandbox.run(job, cpu_s=math.ceil(left), idled_s=idled, script=True)
        if fault := _fault(outcome.answers):
            reason = fault
        elif len(outcome.output) >= FILE_LIMIT:
            reason = "output_limit"
        else:
            reason = outcome.reason or ("right" if _is_output(outcome.output, case.expected) else "wrong")
        outcomes.append(reason)
        left -= outcome.cpu_s
        idled += outcome.idle_s
        if reason in ("timeout", "syntax_error", "setup"):
            return outcomes
        if left <= 0 and len(outcomes) < len(truth.cases):
            return [*outcomes, "timeout"]
    return outcomes


def _is_output(output: bytes, expected: str) -> bool:
    if len(output) > MOST_PADDED + 4 * len(expected) and len(output.translate(None, b" \t\r\n")) > 4 * len(expected):
        return False  # known without making millions of lines of it
    try:
        return normalise_output(output.decode()) == expected
    except UnicodeDecodeError:
        return False
