r"""What an answer in mathematical notation says, and whether two answers say the same.

An answer is read as the first of these that fits the truth:

    number   rewards/numbers.py: perhaps with a unit, a currency or a percent sign; exact
    text     rewards/words.py: a time of day, digits in a base, the letter of a choice, words
    list     elements between commas. Brackets must agree: (1, 2) is no [1, 2); elements of round and square brackets
             are in order, as those of a ratio 1:2 are; those of braces, of unions and of a list without brackets are
             not. ``a \pm b`` is a list of two
    the rest an expression, which is for a computer algebra system to compare (rewards/symbolic.py)

Where the truth is a number the answer must be one too: 6*7 is not taken for 42, or a model could answer by copying
the question. ``literal=False`` lifts that. Nor is an integral, a derivative, a sum, a limit or a product of matrices an
answer where the truth has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from rewards.forms import alike
from rewards.notation import both_signs
from rewards.numbers import UNIT_NAMES, Number, compare_numbers, read_number, read_unit
from rewards.words import read_base, read_choice, read_time, read_words

LONGEST = 200
"""Characters of an answer. A longer one is not read at all."""

Symbolic = Callable[[str, str], bool]
"""Whether two expressions are equal; raises Unreadable for a first one that is no expression."""


class Unreadable(Exception):
    """The truth cannot be read, so nothing is right."""


class NeedsSymbolic(Exception):
    """The answers can only be compared as expressions, and no way to do that was given."""


class List(NamedTuple):
    """Elements between two brackets: "(", "[", "<" or "{" with what closes them, "" without, "∪" for a union, ":"."""

    opening: str
    closing: str
    items: tuple[str, ...]


# ---------------------------------------------------------------- reading

TOKENS = re.compile(r"\\\{|\\\}|\\cup(?![A-Za-z])|\\[lr]angle(?![A-Za-z])|\\.|[()\[\]{},;:]|\b(?:and|or)\b(?![^{}]*\})")
OPENING = {"(", "[", "{", r"\{", r"\langle"}
CLOSING = {")", "]", "}", r"\}", r"\rangle"}


def read_list(text: str) -> List | None:
    """A tidy text as a list, None when it is a single element."""
    opening, closing = "", ""
    tokens = [(match[0], match.start(), match.end()) for match in TOKENS.finditer(text)]
    if tokens and tokens[0][1] == 0 and tokens[0][0] in OPENING - {"{"} and _closes_at_the_end(text, tokens):
        (opening, _, first), *tokens, (closing, last, _) = tokens
        opening, closing = opening.strip("\\"), closing.strip("\\")
    else:
        first, last = 0, len(text)
    depth, cuts = 0, [(first, first)]
    separators = set()
    for token, start, end in tokens:
        if token in OPENING:
            depth += 1
        elif token in CLOSING:
            depth -= 1
        elif (depth == 0 and token[0] != "\\") or token == r"\cup":
            separators.add(token)
            cuts.append((start, end))
    if len(cuts) == 1 and opening != "{":
        both = both_signs(text)
        return List("", "", both) if len(both) > 1 else None
    cuts.append((last, last))
    items = tuple(text[before[1] : after[0]].strip() for before, after in pairwise(cuts))
    if ":" in separators:
        return List(":", closing, items) if separators == {":"} and not opening else None
    items = tuple(item for item in items if item) if not opening else items  # "3, and 4"
    if opening in ("", "{"):
        items = tuple(one for item in items for one in both_signs(item))
    if not opening and r"\cup" in separators:
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

OPERATORS = "sqrt|[dt]?frac|log|ln|exp|sin|cos|tan|cot|max|min|pi"
SYMBOL = rf"(?:[A-Za-z]|\\(?!(?:{OPERATORS})(?![A-Za-z]))[A-Za-z]+)(?:_ ?(?:[A-Za-z0-9]|\{{[^{{}}=]*\}}))?'*"
NAME = (
    rf"(?:{SYMBOL}(?:\^\{{-1\}})?(?: ?\( ?(?:[A-Za-z]|-?[0-9]+)(?: ?, ?(?:[A-Za-z]|-?[0-9]+))* ?\))?"
    r"|\\(?:text|mathrm|mbox|textbf) ?\{[^{}]*\}|\\(?:m?angle|triangle) ?[A-Z]+|\|[A-Za-z]+\|"
    r"|\\(?:over(?:line|rightarrow)|vec|hat|bar|mathbf) ?\{?[A-Za-z]+\}?)"
)
ASSIGNMENT = re.compile(
    rf"(?P<name>{NAME}|\( ?{SYMBOL}(?: ?, ?{SYMBOL})+ ?\)) ?(?:=|\\in(?![A-Za-z])) ?(?P<value>[^=<>]+)"
)
NAMES = re.compile(rf"{NAME}(?: ?[-+*/]? ?{NAME})*")
"""What an answer may be said to be the value of: a name, or a sum or product of names, but not x^2."""
BACKWARDS = re.compile(rf"(?P<value>[^=<>]+?) ?= ?(?P<name>{NAME})")
RELATION = re.compile(
    r"[=<>]|\\(?:[lg]t|[lg]eq?|[lg]eqslant|neq?|approx|equiv|sim|to|in|Rightarrow|implies)(?![A-Za-z])"
)
DOWNWARDS = re.compile(r">|\\(?:gt|geq?|geqslant)(?![A-Za-z])")
GROUPED = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?= ?(?:\\(?:pi|sqrt|frac|cdot|times)|[A-Za-z]))")
"""A number before what it is multiplied with, which is no list."""
TWO_NUMBERS = re.compile(r"[0-9] +[0-9.]")
UNREADABLE_SIGNS = re.compile(r"(?<![A-Za-z\\_{0-9])[0-9]+ ?_|\) ?_|[?@#]")
"""What the algebra system would drop: the base of a number, signs of no meaning."""
DROPPED = re.compile(r"'|\\Gamma(?![A-Za-z])|[A-Za-z] ?\^ ?\{ ?-1 ?\}(?= ?\()|\\(?:times|cdot)(?= ?\\vec).*")
"""Of these it keeps nothing, or the small letter."""
CONDITION = re.compile(
    r",? ?\\(?:text|mbox) ?\{[ ,]*(?:for (?:any|all|every|some)|where) (?!.*(?:wrong|not|false))[^<>=0-9]*"
)
UNEVALUATED = re.compile(
    r"\\(i*int|oint|sum|prod|lim(?:sup|inf)?|det|gcd|max|min|operatorname|nabla)(?![A-Za-z])|\\begin ?\{([vV])matrix\}"
    r"|\\frac ?\{ ?(?:d|\\partial)[^{}]*\} ?\{ ?(d|\\partial) ?[a-z]|(?<![A-Za-z])(d) ?/ ?d ?[a-z]|\)(')"
    r"|\^ ?\{? ?\\(circ)"
)
"""What is still to be worked out: an integral, a sum, a limit, a determinant, a derivative, a sine of degrees."""
LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")
TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
IN_TEXT = re.compile(r"\\(?:text(?:rm|bf|it)?|mathrm|mbox) ?\{([^{}]*)\}")
MATRIX = re.compile(r"\\begin ?\{([a-z]*(?:matrix|array))\}.*?\\end ?\{\1\}")
REALS = re.compile(r"(?:\\text ?\{ ?)?(?:all )?real numbers ?\}?|\\mathbb\{R\}")


def compare(gold: str, answer: str, *, literal: bool, symbolic: Symbolic | None) -> str:
    """Whether two tidy texts say the same, as a reason code: right, wrong, not_literal or wrong_unit.

    Raises Unreadable when the gold cannot be read, NeedsSymbolic when it takes ``symbolic`` and that is None.
    """
    gold, answer = alike(*_without_names(gold, answer))
    gold, answer = _plain(gold), _plain(answer)
    if not gold:
        raise Unreadable
    number = _read_number(gold)
    if number is not None:
        return _compare_number(number, answer, literal=literal, symbolic=symbolic)
    time, theirs = read_time(gold), read_time(answer)
    if time is not None or theirs is not None:
        same = time is not None and theirs is not None and time[:2] == theirs[:2] and time[2] in ("", theirs[2])
        return "right" if same else "wrong"
    base = read_base(gold)
    if base is not None:
        return "right" if read_base(answer) == base else "wrong"
    choice = read_choice(gold)
    if choice is not None and read_choice(answer) == choice:
        return "right"
    words = read_words(gold)
    if words is not None:
        if words in ("nan", "null"):
            raise Unreadable
        return "right" if read_words(answer, marked=True) == words else "wrong"
    gold, answer = (GROUPED.sub(lambda found: found[0].replace(",", ""), text) for text in (gold, answer))
    many = read_list(gold)
    if many is not None:
        if not many.items:
            raise Unreadable
        return _compare_lists(many, read_list(answer), literal=literal, symbolic=symbolic)
    return _compare_symbolic(gold, answer, symbolic)


_read_number = lru_cache(4096)(read_number)


def _plain(text: str) -> str:
    """The text without brackets around all of it, a plus before it or a condition after it."""
    if text.isalnum():
        return text
    text = CONDITION.sub("", text).removeprefix("+").strip()
    if REALS.fullmatch(text):
        return r"(-\infty, \infty)"
    while text.startswith("(") and len(text) > 2 and read_list(text) is None:
        tokens = [(match[0], match.start(), match.end()) for match in TOKENS.finditer(text)]
        if not _closes_at_the_end(text, tokens):
            break
        text = text[1:-1].strip()
    return text


def _without_names(gold: str, answer: str) -> tuple[str, str]:
    """The two without ``x =`` before or ``= x`` after them, where that says nothing else than the other does."""
    if "=" not in gold + answer and r"\in" not in gold + answer:
        return gold, answer
    ours, theirs = (ASSIGNMENT.fullmatch(one) or BACKWARDS.fullmatch(one) for one in (gold, answer))
    if ours and theirs and ours["name"] == theirs["name"]:
        return ours["value"], theirs["value"]
    if ours and not theirs and not RELATION.search(answer) and (ours.re is ASSIGNMENT or read_number(ours["value"])):
        return ours["value"], answer
    if theirs and not ours and not RELATION.search(gold) and not (read_choice(gold) and theirs["name"].isupper()):
        return gold, theirs["value"]
    return gold, answer


def _compare_number(gold: Number, answer: str, *, literal: bool, symbolic: Symbolic | None) -> str:
    found = read_number(answer)
    if found is None and answer[:1] + answer[-1:] == "()":
        found = read_number(answer[1:-1])  # (1,000) is no pair here
    if found is not None:
        return compare_numbers(gold, found, literal=literal)
    left, equals, right = answer.partition("=")
    value = read_number(right.strip()) if equals and left.strip() and not RELATION.search(left) else None
    if value is not None and read_number(left.strip()) is None:
        # |S| = 5 is 5; what is no name must be equal to it, as in \log_2 32 = 5
        reason = compare_numbers(gold, value, literal=literal)
        if reason != "right" or NAMES.fullmatch(left.strip()):
            return reason
        return _compare_symbolic(_latex(gold), left.strip(), symbolic)
    if literal:
        return "not_literal"
    return "wrong" if gold.unit else _compare_symbolic(_latex(gold), answer, symbolic, literal=False)


def _compare_lists(gold: List, answer: List | None, *, literal: bool, symbolic: Symbolic | None) -> str:
    if answer is None or len(gold.items) != len(answer.items):
        return "wrong"
    if {gold.opening, answer.opening} != {"", "{"} and gold[:2] != answer[:2]:
        return "wrong"
    if gold.opening in ("(", "[", "langle", ":"):
        pairs = zip(gold.items, answer.items, strict=True)
        alike = all(compare(ours, theirs, literal=literal, symbolic=symbolic) == "right" for ours, theirs in pairs)
        return "right" if alike else "wrong"
    names = {match["name"] for item in gold.items if (match := ASSIGNMENT.fullmatch(item))}
    if len(names) > 1 and not any("=" in item for item in answer.items):
        return "wrong"  # of x = 1, y = 2 it is not said which is which
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


def _compare_symbolic(gold: str, answer: str, symbolic: Symbolic | None, *, literal: bool = True) -> str:
    if not gold.isascii() or TWO_NUMBERS.search(gold) or UNREADABLE_SIGNS.search(gold):
        raise Unreadable
    gold, unit = _split_unit(gold)
    answer, found = _split_unit(answer)
    if unit and unit != found:
        return "wrong_unit"
    number = read_number(answer)
    if not answer.isascii() or TWO_NUMBERS.search(answer) or UNREADABLE_SIGNS.search(answer):
        return "wrong"
    if read_list(answer) is not None or DROPPED.findall(gold) != DROPPED.findall(answer):
        return "wrong"
    if len(RELATION.findall(answer)) != len(RELATION.findall(gold)):
        return "wrong"  # of x+1 = x+2 a computer algebra system would take one side
    if literal and (_is_unevaluated(gold, answer) or (_is_solved(gold) and not _is_solved(answer))):
        return "not_literal"
    if _words_in(gold) != _words_in(answer):
        return "wrong"  # of which a computer algebra system drops the order, or all
    if symbolic is None:
        raise NeedsSymbolic
    # As a quotient a decimal is exact: 1.414 is not the square root of 2.
    return "right" if symbolic(_upwards(gold), _upwards(answer) if number is None else _latex(number)) else "wrong"


def _is_unevaluated(gold: str, answer: str) -> bool:
    """Whether the answer has something to be worked out that the gold has not."""
    ours, theirs = ({next(filter(None, one)) for one in UNEVALUATED.findall(text)} for text in (gold, answer))
    if not theirs <= ours:
        return True
    return MATRIX.fullmatch(gold) is not None and MATRIX.sub("", answer, count=1).strip() != ""


def _is_solved(equation: str) -> bool:
    """Whether it says what a single symbol is."""
    found = ASSIGNMENT.fullmatch(equation) or BACKWARDS.fullmatch(equation)
    return found is not None and not LETTER.search(found["value"])


def _words_in(text: str) -> list[str]:
    """The words in a formula, units in one spelling."""
    words = " ".join(IN_TEXT.findall(text)).split()
    return [UNIT_NAMES.get(word) or UNIT_NAMES.get(word.removesuffix("s")) or word for word in map(str.casefold, words)]


def _split_unit(text: str) -> tuple[str, str]:
    r"""A formula and the unit after it: ``2\sqrt{3}\text{ cm}``."""
    match = re.search(r"[ ]?(?:\\(?:text|mathrm|mbox) ?\{|\^ ?\{? ?\\circ).*", text)
    if match and match[0].lstrip().startswith("^") and TRIGONOMETRY.search(text):
        return text, ""  # the degrees are the angle's
    unit = read_unit(match[0]) if match and match.start() else None
    return (text, "") if unit is None or match is None else (text[: match.start()].strip(), unit.strip("°"))


def _upwards(text: str) -> str:
    """``1 < x < 4`` for ``4 > x > 1``."""
    signs = RELATION.findall(text)
    if len(signs) < 2 or len(DOWNWARDS.findall(text)) != len(signs):
        return text
    parts = RELATION.split(text)[::-1]
    upward = [sign.replace(">", "<").replace(r"\g", r"\l") for sign in reversed(signs)]
    return parts[0] + "".join(f" {sign} {part}" for sign, part in zip(upward, parts[1:], strict=True))


def _latex(number: Number) -> str:
    scale = 100 if number.unit == "%" else 1
    return rf"\frac{{{number.numerator}}}{{{number.denominator * scale}}}"
