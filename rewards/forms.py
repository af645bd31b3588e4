r"""Brings one of two answers into the form of the other, where mathematics has two for the same thing.

    2 \le x < 5              [2, 5)                         an inequality in one symbol, and an interval
    x < 2 or x > 3           (-\infty, 2) \cup (3, \infty)
    x = 1, y = 2             (1, 2)                         coordinates by name, and a point
    \sqrt{2} \approx 1.41    \sqrt{2}                       a value, and how large it is about

Each is read only where the other answer is in the other form.
"""

from __future__ import annotations

import re

SYMBOL = r"(?:[A-Za-z]|\\(?:alpha|beta|gamma|theta|lambda|mu|phi|omega))"
BELOW, ABOVE = r"<|\\l(?:t|eq?|eqslant)(?![A-Za-z])", r">|\\g(?:t|eq?|eqslant)(?![A-Za-z])"
END = r"[^<>=,;]+?"
BETWEEN = re.compile(rf"({END}) ?({BELOW}) ?({SYMBOL}) ?({BELOW}) ?({END})")
BETWEEN_DOWN = re.compile(rf"({END}) ?({ABOVE}) ?({SYMBOL}) ?({ABOVE}) ?({END})")
ONE_SIDED = re.compile(rf"({SYMBOL}) ?({BELOW}|{ABOVE}) ?({END})")
ONE_SIDED_BACK = re.compile(rf"({END}) ?({BELOW}|{ABOVE}) ?({SYMBOL})")
ALL_BUT = re.compile(rf"({SYMBOL}) ?\\neq?(?![A-Za-z]) ?({END})")
INTERVAL = re.compile(r"[(\[].*,.*[)\]]")
COORDINATE = re.compile(r" ?([A-Za-z]) ?= ?([^=<>,;]+?) ?")
POINT = re.compile(r"\([^()=]*,[^=]*\)")
ABOUT = re.compile(r"(.*[\\/^].*?) ?\\approx(?![A-Za-z]) ?-?[0-9.,]+(?: ?\\ldots)?")


def alike(gold: str, answer: str) -> tuple[str, str]:
    """The two tidy texts, one of them rewritten where only that brings both into one form."""
    if r"\approx" in answer and r"\approx" not in gold and (about := ABOUT.fullmatch(answer)):
        answer = about[1]
    if "=" in gold + answer and "(" in gold + answer:
        if POINT.fullmatch(gold):
            return gold, _as_point(answer) or answer
        if POINT.fullmatch(answer):
            return _as_point(gold) or gold, answer
    if INTERVAL.fullmatch(gold):
        return gold, _as_intervals(answer) or answer
    if INTERVAL.fullmatch(answer):
        return _as_intervals(gold) or gold, answer
    return gold, answer


def _as_intervals(text: str) -> str | None:
    """An inequality, or several joined by "or", as intervals; None when it is none."""
    parts = [_as_interval(part.strip()) for part in re.split(r"\bor\b", text)]
    return None if None in parts else r" \cup ".join(filter(None, parts))


def _as_interval(text: str) -> str | None:
    if match := BETWEEN.fullmatch(text):
        low, first, name, second, high = match.groups()
    elif match := BETWEEN_DOWN.fullmatch(text):
        high, second, name, first, low = match.groups()
    elif match := ONE_SIDED.fullmatch(text):
        name, sign, end = match.groups()
        low, first, second, high = ("-\\infty", "<", sign, end) if _is_below(sign) else (end, sign, "<", "\\infty")
    elif match := ONE_SIDED_BACK.fullmatch(text):
        end, sign, name = match.groups()
        low, first, second, high = (end, sign, "<", "\\infty") if _is_below(sign) else ("-\\infty", "<", sign, end)
    elif match := ALL_BUT.fullmatch(text):
        name, end = match.groups()
        return None if name in end else rf"(-\infty, {end}) \cup ({end}, \infty)"
    else:
        return None
    if re.search(rf"(?<![A-Za-z\\]){re.escape(name)}(?![A-Za-z])", low + " " + high):
        return None
    return f"{'[' if 'e' in first else '('}{low}, {high}{']' if 'e' in second else ')'}"


def _is_below(sign: str) -> bool:
    return re.fullmatch(BELOW, sign) is not None


def _as_point(text: str) -> str | None:
    """Values whose names stand in the order of the alphabet, as in ``x = 1, y = 2``; None for anything else."""
    found = [COORDINATE.fullmatch(part) for part in re.split(r",|;|\band\b", text) if part.strip()]
    coordinates = [match.groups() for match in found if match]
    names = [name for name, _ in coordinates]
    if len(coordinates) != len(found) or len(names) < 2 or names != sorted(set(names)):
        return None
    return f"({', '.join(value for _, value in coordinates)})"
