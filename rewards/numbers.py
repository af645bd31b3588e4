r"""Reads an answer as a number with its unit, and compares two.

A number is an integer, a decimal (``1e3`` and ``3\times 10^8`` too, and repeating ones), a fraction or a mixed number.
It is exact: 0.333 is not 1/3.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple


class Number(NamedTuple):
    """``numerator / denominator`` of a ``unit``. ``quotient``: it was written as a fraction."""

    numerator: int
    denominator: int
    unit: str
    quotient: bool


INTEGER = r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+"
NUMBER = re.compile(
    rf"""(?P<sign>[+-]?)\ ?(?P<currency>\\?[$€£¥]|(?:USD|EUR|GBP)\ )?\ ?(?P<sign2>(?<=[$€£¥])-)?
    (?:
        (?:(?P<whole>[0-9]+)\ ?)?\\frac\ ?\{{\ ?(?P<up>[+-]?\ ?(?:{INTEGER}))\ ?\}}\ ?
        \{{\ ?(?P<down>[+-]?\ ?(?:{INTEGER}))\ ?\}}
      | (?:(?P<whole2>[0-9]+)\ )?(?P<up2>{INTEGER})\ ?/\ ?(?P<down2>{INTEGER})(?![0-9.])
      | (?P<fixed>[0-9]*\.[0-9]*)\\(?:overline|bar|dot)\ ?(?:\{{(?P<period>[0-9]+)\}}|(?P<period1>[0-9]))
      | (?P<plain>(?:{INTEGER})(?:\.[0-9]*)?|\.[0-9]+)
        (?:[eE](?P<exponent>[+-]?[0-9]{{1,3}})
         |\ ?(?:\\times|\\cdot|\*|x)\ ?10\ ?\^\ ?
          (?:(?P<power>[0-9])(?![0-9])|\{{\ ?(?P<power2>[+-]?[0-9]{{1,3}})\ ?\}}))?
    )""",
    re.VERBOSE,
)
UNITS = {
    "m": ("meter", "metre"),
    "cm": ("centimeter", "centimetre"),
    "mm": ("millimeter", "millimetre"),
    "km": ("kilometer", "kilometre"),
    "ft": ("foot", "feet"),
    "in": ("inch", "inche"),
    "yd": ("yard",),
    "mi": ("mile",),
    "s": ("second", "sec"),
    "min": ("minute",),
    "h": ("hour", "hr"),
    "g": ("gram",),
    "kg": ("kilogram",),
    "lb": ("pound", "lbs"),
    "oz": ("ounce",),
    "gal": ("gallon",),
    "rad": ("radian",),
    "l": ("liter", "litre"),
    "ml": ("milliliter", "millilitre"),
    "mi/h": ("mph",),
    "km/h": ("kph", "kmh"),
    "°": ("degree", "deg"),
    "%": ("percent", "per cent", "percentage", "pct"),
    "$": ("dollar", "usd"),
    "€": ("euro", "eur"),
    "£": ("gbp",),
    "th": ("st", "nd", "rd"),
    "": ("unit",),
}
UNIT_NAMES = {name: unit for unit, names in UNITS.items() for name in (unit, *names) if name}
SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
SCALE = re.compile(
    rf" (?P<word>{'|'.join(SCALES)})\b"
    rf"| ?\\(?:text|mathrm|mbox) ?\{{ ?(?P<marked>{'|'.join(SCALES)})(?:\}}|\b(?P<more>(?=\s)))"
)
OPTIONAL = frozenset("$€£¥°")
"""Units that an answer need not have, though the truth has them."""
OTHERWISE = """
sin cos tan cot csc log ln exp sqrt pi mod alpha beta gamma delta epsilon theta lambda mu phi omega infinity choose
or and not nor neither either never maybe perhaps possibly probably between about approximately approx roughly around
almost nearly is are was to at least most more less fewer than over plus minus times negative below above wrong false
incorrect correction wait no if but except squared cubed factorial dozen score half halves third thirds quarter quarters
fourth fourths fifth fifths sixth sixths seventh sevenths eighth eighths ninth ninths tenth tenths eleventh elevenths
twelfth twelfths hundredth hundredths thousandth thousandths millionth millionths billionth billionths bn mil lakh
crore tens hundreds thousands millions billions twice double doubled triple tripled ppm mille ish guess unsure possible
unless instead right where
"""
NO_UNITS = frozenset(OTHERWISE.split()) | SCALES.keys()
"""Words after a number that make it another number, a doubt or a sum, and no quantity of something."""
LATEX_UNIT = [
    (re.compile(r"\^ ?\{ ?(-?[0-9]) ?\}"), r"^\1"),
    (re.compile(r"\\frac ?\{(.*?\}?)\} ?\{(.*)\}"), r"\1/\2"),
    (re.compile(r"\\(?:text(?:rm|bf|it)?|math(?:rm|bf|it)|mbox) ?\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\cdot|\*|\\,|\\ "), " "),
    (re.compile(r"[{}]"), ""),
    (re.compile(r" *([/^]) *"), r"\1"),
]
UNIT = re.compile(r"[A-Za-z][A-Za-z'-]*\.?(?:\^-?[0-9])?(?:[ /]+[A-Za-z][A-Za-z'-]*\.?(?:\^-?[0-9])?){0,4}")
DEGREES = re.compile(r"\^ ?(?:\\circ|\{ ?\\circ ?\})|\\degree")
MARKED = re.compile(r"\\(?:text(?:rm|bf|it)?|mathrm|mbox)(?![A-Za-z])")
"""What says that letters are no symbols."""
LONE_LETTERS = frozenset("msghlLNJWVAKCF")


def read_number(text: str) -> Number | None:
    """A text as a number, None when it is none, or none before it is tidy."""
    if text.isascii() and text.isdigit():
        return Number(int(text), 1, "", False)
    match = NUMBER.match(text)
    if match is None:
        return None
    value = _value(match)
    if value is None:
        return None
    numerator, denominator, quotient = value
    rest, currency, unit = text[match.end() :], match["currency"], ""
    if rest:
        if scale := SCALE.match(rest):
            numerator *= 10 ** SCALES[scale["word"] or scale["marked"]]
            rest = (r"\text{" if scale["more"] is not None else "") + rest[scale.end() :]
        found = read_unit(rest)
        if found is None or (currency and found):
            return None
        unit = found
    if currency:
        unit = UNIT_NAMES.get(currency.strip(" \\").lower(), currency.strip(" \\"))
    return Number(numerator, denominator, unit, quotient)


def _value(match: re.Match[str]) -> tuple[int, int, bool] | None:
    """Numerator, denominator, and whether it was written as a fraction; None for what is no number, such as 1/0."""
    up = match["up"] or match["up2"]
    if up is not None:
        numerator, denominator = _integer(up), _integer(match["down"] or match["down2"])
        if denominator < 0:
            numerator, denominator = -numerator, -denominator
        if (whole := match["whole"] or match["whole2"]) is not None:
            if not 0 < numerator < denominator:
                return None
            numerator += int(whole) * denominator
    elif match["fixed"] is not None:
        digits, _, decimals = match["fixed"].partition(".")
        period = match["period"] or match["period1"]
        numerator = int(digits + decimals + period) - int(digits + decimals or "0")
        denominator = 10 ** len(decimals) * (10 ** len(period) - 1)
    else:
        digits, _, decimals = match["plain"].replace(",", "").partition(".")
        exponent = int(match["exponent"] or match["power"] or match["power2"] or 0) - len(decimals)
        numerator, denominator = int(digits + decimals), 1
        if exponent >= 0:
            numerator *= 10**exponent
        else:
            denominator = 10**-exponent
    if denominator == 0:
        return None
    return -numerator if "-" in (match["sign"], match["sign2"]) else numerator, denominator, up is not None


def _integer(written: str) -> int:
    return int(written) if written.isdigit() else int(written.replace(" ", "").replace(",", ""))


@lru_cache(4096)
def read_unit(text: str) -> str | None:
    r"""The unit that follows a number or a formula, empty when none does; None when the text is no unit.

    One spelling of each: ``square meters`` is ``m^2`` and ``\mathrm{m\,s^{-1}}`` is ``m/s``. Without ``\text`` words
    need a space before them, since 5xy is a product.
    """
    written = text.strip()
    if not written or written in ("%", r"\%", "$", "€", "£", "¥"):
        return written.lstrip("\\")
    if match := DEGREES.match(written):
        scale = read_unit(written[match.end() :]) if match.end() < len(written) else ""
        return None if scale is None or len(scale) > 1 else "°" + scale
    marked = MARKED.search(written) is not None
    for pattern, replacement in LATEX_UNIT:
        written = pattern.sub(replacement, written)
    written = written.strip(" .")
    if written == "%":
        return "%"
    if not UNIT.fullmatch(written):
        return None
    words = written.replace("/", " / ").replace(" per ", " / ").split()
    for i, word in enumerate(words):
        name = word.lower().strip(".")
        if name in NO_UNITS and not (i and name in ("squared", "cubed")):
            return None
        if len(name.partition("^")[0]) == 1 and word.partition("^")[0] not in LONE_LETTERS and word != "/":
            return None
        if not marked and word != "/" and not _is_named(word, first=i == 0, spaced=text.startswith(" ")):
            return None
    return _one_spelling(words)


def _is_named(word: str, *, first: bool, spaced: bool) -> bool:
    """Whether a word outside of ``\\text`` may be a unit's, and not a product of symbols."""
    name = word.partition("^")[0].strip(".")
    if len(name) == 1:
        return name in LONE_LETTERS and (spaced or not first)
    return name in UNIT_NAMES or _singular(name) in UNIT_NAMES or (len(name) > 2 and (spaced or not first))


def _one_spelling(words: list[str]) -> str:
    over: list[str] = []
    under: list[str] = []
    side, power = over, 1
    for word in words:
        name, _, exponent = word.partition("^")
        name = name.strip(".")
        if word == "/":
            side = under
        elif name.lower() in ("square", "sq", "cubic", "cu"):
            power = 2 if name.lower() in ("square", "sq") else 3
        elif name.lower() in ("squared", "cubed") and side:
            side[-1] += "^2" if name.lower() == "squared" else "^3"
        else:
            times = int(exponent or 1) * power
            known = UNIT_NAMES.get(name) or UNIT_NAMES.get(_singular(name))
            known = _singular(name) if known is None and _singular(name) != "unit" else known or ""
            if known:
                (side if times > 0 else under).append(known + (f"^{abs(times)}" if abs(times) > 1 else ""))
            power = 1
    return " ".join(over) + "".join("/" + name for name in under)


def _singular(name: str) -> str:
    name = name.casefold()
    return name[:-1] if len(name) > 2 and name.endswith("s") and name != "lbs" else name


def compare_numbers(gold: Number, found: Number, *, literal: bool) -> str:
    """Whether two numbers are one, as a reason code: right, wrong, wrong_unit or, for a sum, not_literal.

    A percent sign divides by 100. A truth without a unit takes any: above 1 also a percentage of the same figure.
    """
    ours, theirs = gold.numerator * found.denominator, found.numerator * gold.denominator
    units = {gold.unit, found.unit}
    if "%" in units and len(units) == 2:
        ours *= 100 if found.unit == "%" else 1
        theirs *= 100 if gold.unit == "%" else 1
        figure = found.unit == "%" and not gold.unit and abs(gold.numerator) > gold.denominator
        if ours != theirs and not (figure and ours == 100 * theirs):
            return "wrong"
        if units - {"%", ""}:
            return "wrong_unit"
    elif ours != theirs:
        return "wrong"
    elif gold.unit != found.unit and gold.unit and (found.unit or gold.unit not in OPTIONAL):
        return "wrong_unit"
    whole = gold.denominator * (100 if gold.unit == "%" else 1)
    if literal and found.quotient and not gold.quotient and gold.numerator % whole == 0:
        return "not_literal"  # 84/2 may be the question
    return "right"
