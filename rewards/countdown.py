"""The numbers game: an expression that uses each number exactly once and has the target as its value.

Ground truth, a JSON string, in which ``solution`` is optional and serves as the reference answer:

    {"target": 24, "numbers": [2, 3, 4], "solution": "2*3*4"}

or a right expression alone, ``2*3*4``, which says the same (reasoning-gym's countdown and puzzle24).

Any expression that reaches the target is right, so no gold text is compared. The answer follows the thinking: what
the one ``<answer>...</answer>`` holds, with nothing after it, else the one ``\\boxed{...}``, else all of the text. It
may end in ``= 24``. Whole numbers, ``+ - * /``, signs and round brackets are read, exactly (1/3*3 is 1), by a parser of
our own: no text of the model is ever run.

Reason codes: right, wrong, wrong_numbers, malformed, not_extracted, several_answers, cut_in_thinking, too_long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

from harness.types import Score
from rewards.format import after_thinking, is_cut_in_thinking
from rewards.outside import only_right

LONGEST = 300
"""Characters of an answer."""
DEEPEST = 50
"""Opening brackets of an answer."""
MOST_SOLVED = 4
"""Numbers for which a solution is searched for: five take a hundred times as long."""
SIGNS = {
    "\\times": "*", "\\cdot": "*", "\\div": "/", "\\left": "", "\\right": "", "×": "*", "·": "*", "÷": "/", "−": "-",
    "$": "", "\\(": "", "\\)": "",
}  # fmt: skip
TOKEN = re.compile(r"\s*(?:([0-9]+)|([-+*/()]))", re.ASCII)
ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
BOX = re.compile(r"\\boxed\s*\{([^{}]*)\}")
DENIED = re.compile(r"\b(?:not|isn't|wrong|incorrect)\W*$", re.IGNORECASE)


class Task(NamedTuple):
    target: int
    numbers: tuple[int, ...]
    solution: str


class Malformed(Exception):
    """No expression of whole numbers, signs and brackets."""


def score(completion: str, ground_truth: str) -> Score:
    """Score one completion, 1.0 or 0.0; errored when the ground truth is malformed."""
    task = read_task(ground_truth)
    if isinstance(task, str):
        return Score(None, False, "errored", error=f"the ground truth: {task}")
    reason = _judge(completion, task)
    return Score(float(reason == "right"), reason == "right", reason)


compute_reward = only_right(score)


def check_ground_truth(ground_truth: str) -> str | None:
    """Say why a row cannot be trained on, None when it can."""
    task = read_task(ground_truth)
    return f"ground_truth: {task}" if isinstance(task, str) else None


def write_reference(ground_truth: str) -> str | None:
    """Write an answer that is right: the row's own, or one that is found among up to four numbers."""
    task = read_task(ground_truth)
    if isinstance(task, str):
        return None
    solution = task.solution or _solve(task.target, task.numbers)
    return f"<answer>{solution}</answer>" if solution else None


@lru_cache(maxsize=512)
def read_task(ground_truth: str) -> Task | str:
    """Read a ground truth, or say what is wrong with it."""
    try:
        target, used = read_expression(ground_truth)
        if len(used) > 1 and target.denominator == 1:
            return Task(int(target), tuple(used), ground_truth.strip())
    except (Malformed, ZeroDivisionError, RecursionError):
        pass
    try:
        value = json.loads(ground_truth)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or value.keys() - {"solution"} != {"target", "numbers"}:
        return 'it must be {"target": 24, "numbers": [2, 3, 4]}, or a right expression such as 2*3*4'
    numbers, solution = value["numbers"], value.get("solution") or ""
    whole = [value["target"], *numbers] if isinstance(numbers, list) and numbers else [None]
    if not all(type(number) is int and abs(number) < 10**12 for number in whole) or len(whole) > 50:
        return "target and numbers must be whole numbers"
    return Task(value["target"], tuple(numbers), solution if isinstance(solution, str) else "")


def _judge(completion: str, task: Task) -> str:
    text = after_thinking(completion).strip()
    if is_cut_in_thinking(completion):
        return "cut_in_thinking"
    found = list(ANSWER.finditer(text)) or list(BOX.finditer(text))
    if len(found) > 1 or text.count("<answer>") > 1 or (found and text[found[0].end() :].strip(" \n.$")):
        return "several_answers"
    if found and DENIED.search(text[: found[0].start()]):
        return "wrong"
    answer = (found[0][1] if found else text).strip()
    if not answer:
        return "not_extracted"
    if len(answer) > LONGEST or answer.count("(") > DEEPEST:
        return "too_long"
    for sign, plain in SIGNS.items():
        answer = answer.replace(sign, plain)
    expression, equals, result = answer.partition("=")
    try:
        value, used = read_expression(expression)
        stated = read_expression(result)[0] if equals else value
    except ZeroDivisionError:
        return "wrong"
    except Malformed:
        return "malformed" if found else "not_extracted"
    if sorted(used) != sorted(abs(number) for number in task.numbers):
        return "wrong_numbers"
    return "right" if value == stated == task.target else "wrong"


# ---------------------------------------------------------------- expressions


def read_expression(text: str) -> tuple[Fraction, list[int]]:
    """Compute the value of an expression and list its numbers. Raises Malformed, ZeroDivisionError."""
    tokens: list[str] = []
    at = 0
    text = text.strip()
    while at < len(text):
        token = TOKEN.match(text, at)
        if token is None:
            raise Malformed(text[at])
        tokens.append(token[1] or token[2])
        at = token.end()
    value, end = _read_sum(tokens, 0)
    if end < len(tokens):
        raise Malformed(tokens[end])
    return value, [int(token) for token in tokens if token.isdigit()]


def _read_sum(tokens: Sequence[str], at: int) -> tuple[Fraction, int]:
    value, at = _read_product(tokens, at)
    while at < len(tokens) and tokens[at] in "+-":
        sign = 1 if tokens[at] == "+" else -1
        other, at = _read_product(tokens, at + 1)
        value += sign * other
    return value, at


def _read_product(tokens: Sequence[str], at: int) -> tuple[Fraction, int]:
    value, at = _read_factor(tokens, at)
    while at < len(tokens) and tokens[at] in "*/":
        times = tokens[at] == "*"
        other, at = _read_factor(tokens, at + 1)
        value = value * other if times else value / other
    return value, at


def _read_factor(tokens: Sequence[str], at: int) -> tuple[Fraction, int]:
    if at == len(tokens):
        raise Malformed("it ends too early")
    token = tokens[at]
    if token in "+-":
        value, at = _read_factor(tokens, at + 1)
        return (value if token == "+" else -value), at
    if token == "(":
        value, at = _read_sum(tokens, at + 1)
        if at == len(tokens) or tokens[at] != ")":
            raise Malformed("a bracket is left open")
        return value, at + 1
    if not token.isdigit():
        raise Malformed(token)
    return Fraction(int(token)), at + 1


@lru_cache(maxsize=4096)
def _solve(target: int, numbers: tuple[int, ...]) -> str:
    """Find an expression by trying all; empty where there is none, or too much to try."""
    if len(numbers) > MOST_SOLVED or min(numbers) < 0:
        return ""
    return _search(target, [(Fraction(number), str(number)) for number in numbers])


def _search(target: int, parts: list[tuple[Fraction, str]]) -> str:
    if len(parts) == 1:
        return parts[0][1] if parts[0][0] == target else ""
    for i, j in combinations(range(len(parts)), 2):
        (a, left), (b, right) = parts[i], parts[j]
        others = [part for place, part in enumerate(parts) if place not in (i, j)]
        made = [(a + b, f"({left}+{right})"), (a * b, f"({left}*{right})")]
        made += [(a - b, f"({left}-{right})"), (b - a, f"({right}-{left})")]
        made += [(a / b, f"({left}/{right})")] if b else []
        made += [(b / a, f"({right}/{left})")] if a else []
        for part in made:
            if found := _search(target, [*others, part]):
                return found
    return ""
