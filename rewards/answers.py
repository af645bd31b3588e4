"""What an answer in mathematical notation says, and whether two answers say the same.

An answer is read as the first of these that fits:

    number   an integer, a decimal (``1e3`` too), a fraction or a mixed number, perhaps with a unit, a currency or a
             percent sign. Exact: 0.333 is not 1/3. A percent sign divides by 100: 72% is not 72 but 0.72.
    words    letters only: compared as a whole, without regard to case (a single letter with)
    list     elements between commas. Brackets must agree: (1, 2) is no [1, 2); elements of round and square brackets
             are in order, those of braces, of unions and of a list without brackets are not
    the rest an expression, which is for a computer algebra system to compare (rewards/symbolic.py)

Where the truth is a number the answer must be one too: 6*7 is not taken for 42, or a model could answer by copying
the question. ``literal=False`` lifts that.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from rewards.numbers import CURRENCIES, Number, read_number

LONGEST = 200
"""Characters of an answer. A longer one is not read at all."""

Symbolic = Callable[[str, str], bool]
"""Whether two expressions are equal; raises Unreadable for a first one that is no expression."""


class Unreadable(Exception):
    """The truth cannot be read, so nothing is right."""


class NeedsSymbolic(Exception):
    """The answers can only be compared as expressions, and no way to do that was given."""


class List(NamedTuple):
    """Elements between two brackets: "(", "[" or "{" with what closes them, "" without, "∪" for a union."""

    opening: str
    closing: str
    items: tuple[str, ...]


# ---------------------------------------------------------------- reading


def read_words(text: str) -> str | None:
    """A tidy text as words, in the form in which two are compared; None when it is not only letters."""
    if len(text) > 2 and text[0] == "(" and text[-1] == ")":
        text = text[1:-1]
    bare = text.replace(" ", "").replace("'", "").replace("-", "")
    if not bare.isalpha() or text[0] == "-":
        return None
    words = " ".join(text.split())
    return words if len(words) == 1 else words.casefold()


TOKENS = re.compile(r"\\\{|\\\}|\\cup(?![A-Za-z])|\\.|[()\[\]{},;]|\b(?:and|or)\b")
OPENING = {"(", "[", "{", r"\{"}
CLOSING = {")", "]", "}", r"\}"}


def read_list(text: str) -> List | None:
    """A tidy text as a list, None when it is a single element."""
    opening, closing = "", ""
    tokens = [(match[0], match.start(), match.end()) for match in TOKENS.finditer(text)]
    if tokens and tokens[0][1] == 0 and tokens[0][0] in OPENING - {"{"} and _closes_at_the_end(text, tokens):
        (opening, _, first), *tokens, (closing, last, _) = tokens
        opening, closing = opening.strip("\\"), closing.strip("\\")
    else:
        first, last = 0, len(text)
    depth, cuts, union = 0, [(first, first)], False
    for token, start, end in tokens:
        if token in OPENING:
            depth += 1
        elif token in CLOSING:
            depth -= 1
        elif depth == 0 and (token in ",;" or token.startswith(r"\cup") or token in ("and", "or")):
            union = union or token.startswith(r"\cup")
            cuts.append((start, end))
    if len(cuts) == 1 and opening != "{":
        return None
    cuts.append((last, last))
    items = tuple(text[before[1] : after[0]].strip() for before, after in pairwise(cuts))
    items = tuple(item for item in items if item) if not opening else items  # "3, and 4"
    if not opening and union:
        return List("∪", "", items)
    return List(opening, closing, items)


def _closes_at_the_end(text: str, tokens: list[tuple[str, int, int]]) -> bool:
    """Whether the bracket that begins the text is the one that ends it."""
    depth = 0
    for token, _, end in tokens:
        depth += (token in OPENING) - (token in CLOSING)
        if depth == 0:
            return end == len(text)
    return False


# ---------------------------------------------------------------- comparing

ASSIGNMENT = re.compile(
    r"(?P<name>(?:\\?[A-Za-z]+)(?:_\{?[A-Za-z0-9]+\}?)?(?:\([A-Za-z]\))?) ?(?:=|\\in(?![A-Za-z])) ?(?P<value>[^=]+)"
)
RELATION = re.compile(r"[=<>]|\\(?:l|g|leq?|geq?|neq?|approx|equiv|sim|to|in|Rightarrow|implies|pm|mp)(?![A-Za-z])")
TWO_NUMBERS = re.compile(r"[0-9] +[0-9.]")


def compare(gold: str, answer: str, *, literal: bool, symbolic: Symbolic | None) -> str:
    """Whether two tidy texts say the same, as a reason code: right, wrong, not_literal or wrong_unit.

    Raises Unreadable when the gold cannot be read, NeedsSymbolic when it takes ``symbolic`` and that is None.
    """
    gold, answer = _without_names(gold, answer)
    if not gold:
        raise Unreadable
    number = _read_number(gold)
    if number is not None:
        return _compare_number(number, answer, literal=literal, symbolic=symbolic)
    words = read_words(gold)
    if words is not None:
        if words in ("nan", "null"):
            raise Unreadable
        return "right" if read_words(answer) == words else "wrong"
    many = read_list(gold)
    if many is not None:
        if not many.items:
            raise Unreadable
        return _compare_lists(many, read_list(answer), literal=literal, symbolic=symbolic)
    return _compare_symbolic(gold, answer, symbolic)


_read_number = lru_cache(4096)(read_number)


def _without_names(gold: str, answer: str) -> tuple[str, str]:
    """The two without ``x =`` before them, where that says nothing else than the other does."""
    if "=" not in gold + answer and r"\in" not in gold + answer:
        return gold, answer
    ours, theirs = ASSIGNMENT.fullmatch(gold), ASSIGNMENT.fullmatch(answer)
    if ours and theirs and ours["name"] == theirs["name"]:
        return ours["value"], theirs["value"]
    if ours and not theirs and not RELATION.search(answer):
        return ours["value"], answer
    if theirs and not ours and not RELATION.search(gold):
        return gold, theirs["value"]
    return gold, answer


def _compare_number(gold: Number, answer: str, *, literal: bool, symbolic: Symbolic | None) -> str:
    found = read_number(answer)
    if found is not None:
        return compare_numbers(gold, found, literal=literal)
    if literal:
        return "not_literal"
    return "wrong" if gold.unit else _compare_symbolic(_latex(gold), answer, symbolic)


def compare_numbers(gold: Number, found: Number, *, literal: bool) -> str:
    """``compare`` for two numbers."""
    if gold.numerator * found.denominator != found.numerator * gold.denominator:
        return "wrong"
    if gold.unit != found.unit and {gold.unit, found.unit} - CURRENCIES != {""}:
        return "wrong_unit"
    if literal and found.quotient and not gold.quotient and gold.numerator % gold.denominator == 0:
        return "not_literal"  # 84/2 may be the question
    return "right"


def _compare_lists(gold: List, answer: List | None, *, literal: bool, symbolic: Symbolic | None) -> str:
    if answer is None or len(gold.items) != len(answer.items):
        return "wrong"
    if {gold.opening, answer.opening} != {"", "{"} and gold[:2] != answer[:2]:
        return "wrong"
    if gold.opening in ("(", "["):
        pairs = zip(gold.items, answer.items, strict=True)
        alike = all(compare(ours, theirs, literal=literal, symbolic=symbolic) == "right" for ours, theirs in pairs)
        return "right" if alike else "wrong"
    left = list(answer.items)
    for ours in gold.items:
        same = (
            i for i, theirs in enumerate(left) if compare(ours, theirs, literal=literal, symbolic=symbolic) == "right"
        )
        found = next(same, None)
        if found is None:
            return "wrong"
        del left[found]
    return "right"


def _compare_symbolic(gold: str, answer: str, symbolic: Symbolic | None) -> str:
    if not gold.isascii() or TWO_NUMBERS.search(gold):
        raise Unreadable
    number = read_number(answer)
    if number is not None and number.unit:
        return "wrong_unit"
    if not answer.isascii() or TWO_NUMBERS.search(answer) or read_list(answer) is not None:
        return "wrong"
    if RELATION.search(answer) and not RELATION.search(gold):
        return "wrong"  # of x+1 = x+2 a computer algebra system would take one side
    if symbolic is None:
        raise NeedsSymbolic
    # As a quotient a decimal is exact: 1.414 is not the square root of 2.
    return "right" if symbolic(gold, answer if number is None else _latex(number)) else "wrong"


def _latex(number: Number) -> str:
    return rf"\frac{{{number.numerator}}}{{{number.denominator}}}"
