"""Reads answers that are compared as text: words, choices, times of day and numbers in another base."""

from __future__ import annotations

import re
from string import ascii_lowercase

TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it)|mbox) ?\{([^{}]*)\}")
ARTICLE = re.compile(r"(?:a|an|the) (?=[a-z]{3})", re.IGNORECASE)
SHORT = """
no yes odd even not one two six ten red all any set add sum mon tue wed thu fri sat sun jan feb mar apr may jun jul
aug sep oct nov dec nan
"""
SHORT_WORDS = frozenset(SHORT.split())
CAPITALS = re.compile(r"[A-Z]{2,}")
CAPITAL_WORDS = SHORT_WORDS | {
    "true",
    "false",
    "none",
    "even",
    "undefined",
    "infinite",
    "zero",
    "three",
    "four",
    "five",
}
SIGNS = frozenset({r"\emptyset", r"\ldots"})
NAMES = {"empty set": r"\emptyset", "no solution": r"\emptyset", "no solutions": r"\emptyset"}
"""What is written in words and as a sign."""
PHRASE = re.compile(r"[^\W\d_]+(?:[ '-]+[^\W_]+)*", re.UNICODE)


def read_words(text: str, *, marked: bool = False) -> str | None:
    """A tidy text as words, in the form in which two are compared; None when it is none, or a formula of letters.

    Case is kept in a single letter, and in a run of capitals that is no known word (HHT, SAS). Unless they are
    ``marked`` as text, letters in runs of up to three, or of the alphabet, that are no known word are a product or a
    difference of symbols: pq, p - q.
    """
    marked = marked or TEXT.fullmatch(text) is not None
    text = TEXT.sub(r" \1 ", text).strip()
    if text in SIGNS:
        return text
    if len(text) > 2 and text[0] == "(" and text[-1] == ")":
        text = text[1:-1].strip()
    if not PHRASE.fullmatch(text):
        return None
    words = " ".join(text.split())
    if len(words) == 1:
        return words
    if CAPITALS.fullmatch(words) and words.casefold() not in CAPITAL_WORDS:
        return words
    if not marked and words.isascii() and all(map(_is_product, re.split(r"[ '-]+", words))):
        return None
    words = ARTICLE.sub("", words.casefold(), count=1) if ARTICLE.match(words) else words.casefold()
    return NAMES.get(words, words)


def _is_product(run: str) -> bool:
    small = run.casefold()
    return small not in SHORT_WORDS and (len(run) < 4 or small in ascii_lowercase)


CHOICE = re.compile(
    r"(?:[Oo]ption |[Cc]hoice )?"
    r"(?:\((?P<inside>[A-Z])\)|(?P<before>[A-Z])(?P<mark>[).:])|(?P<alone>[A-Z])\Z)(?P<text>.*)"
)


def read_choice(text: str) -> str | None:
    """The letter of a choice, alone, in brackets or before what it stands for; None when there is none, or another."""
    match = CHOICE.fullmatch(" ".join(TEXT.sub(r" \1 ", text).replace("( ", "(").replace(" )", ")").split()))
    if match is None or re.search(r"\([A-Z]\)|\b[A-Z][).:]|\b(?:or|and|not)\b|[,;/]", match["text"]):
        return None
    return match["inside"] or match["before"] or match["alone"]


TIME = re.compile(r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-5][0-9])(?: ?(?P<half>[AaPp])\.? ?[Mm]?\.*)?")


def read_time(text: str) -> tuple[int, int, str] | None:
    """Hour, minute, and "a" or "p" where it says so, of a time of day."""
    match = TIME.fullmatch(" ".join(TEXT.sub(r" \1 ", text).split()))
    return (int(match["hour"]), int(match["minute"]), (match["half"] or "").lower()) if match else None


BASE = re.compile(r"\(?(?P<digits>[0-9A-Z]*[0-9][0-9A-Z]*)\)? ?_ ?(?:\{ ?(?P<base>[0-9]+|[a-z]+) ?\}|(?P<base1>[0-9]))")
BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
         "eleven": 11, "twelve": 12, "sixteen": 16}  # fmt: skip


def read_base(text: str) -> tuple[str, int] | None:
    """Digits and base of a number such as 52_8."""
    match = BASE.fullmatch(TEXT.sub(r"\1", text))
    if match is None:
        return None
    base = match["base"] or match["base1"]
    return match["digits"].lstrip("0") or "0", int(base) if base.isdigit() else BASES.get(base, 0)
