"""Reads an answer as a number with its unit."""

from __future__ import annotations

import re
from typing import NamedTuple


class Number(NamedTuple):
    """``numerator / denominator`` of a ``unit``. ``quotient``: it was written as a fraction."""

    numerator: int
    denominator: int
    unit: str
    quotient: bool


PLAIN = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
NUMBER = re.compile(
    rf"""(?P<sign>[+-]?)\ ?\\?(?P<currency>[$€£¥]?)\ ?
    (?:
        (?P<plain>{PLAIN})(?:[eE](?P<exponent>[+-]?[0-9]{{1,3}}))?
      | (?:(?P<whole>[0-9]+)\ ?)?\\frac\ ?
        (?:\{{\ ?(?P<up>[+-]?\ ?[0-9]+)\ ?\}}\ ?\{{\ ?(?P<down>[0-9]+)\ ?\}}|(?P<up1>[0-9])\ ?(?P<down1>[0-9]))
      | (?:(?P<whole2>[0-9]+)\ )?(?P<up2>[0-9]+)\ ?/\ ?(?P<down2>[0-9]+)
    )
    (?P<unit>\ ?\\?%|\ ?[€£¥]|\ ?\^\ ?(?:\\circ|\{{\ ?\\circ\ ?\}})
      |\ ?\\(?:text|textrm|mathrm|mbox)\ ?\{{(?P<text>[A-Za-z /.']+)\}}(?P<power>\^\ ?\{{?[23]\}}?)?
      |(?P<space>\ ?)(?P<word>[A-Za-z]{{2,}}(?:[\ /][A-Za-z]+)*|(?<=\ )[msghlLNJWVAKCF])
       (?P<power2>\^\ ?\{{?[23]\}}?)?)?""",
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
    "l": ("liter", "litre"),
    "ml": ("milliliter", "millilitre"),
    "mph": ("mile per hour",),
    "km/h": ("kph", "kilometer per hour"),
    "°": ("degree",),
    "%": ("percent", "per cent"),
    "$": ("dollar", "usd"),
    "€": ("euro", "eur"),
}
UNIT_NAMES = {name: unit for unit, names in UNITS.items() for name in (unit, *names)}
CURRENCIES = frozenset("$€£¥")
FUNCTIONS = frozenset(["sin", "cos", "tan", "log", "ln", "exp", "sqrt", "pi", "mod", "or", "and", "not"])


def read_number(text: str) -> Number | None:
    """A text as a number, None when it is none, or none before it is tidy."""
    if text.isascii() and text.isdigit():
        return Number(int(text), 1, "", False)
    match = NUMBER.fullmatch(text)
    if match is None:
        return None
    unit = _unit(match)
    if unit is None:
        return None
    up = match["up"] or match["up1"] or match["up2"]
    if up is None:
        numerator, denominator = _decimal(match["plain"], int(match["exponent"] or 0))
    else:
        numerator, denominator = int(up.replace(" ", "")), int(match["down"] or match["down1"] or match["down2"])
        whole = match["whole"] or match["whole2"]
        if whole is not None:
            if not 0 < numerator < denominator:
                return None
            numerator += int(whole) * denominator
    if denominator == 0:
        return None
    if match["sign"] == "-":
        numerator = -numerator
    if unit == "%":
        return Number(numerator, 100 * denominator, "", up is not None)
    return Number(numerator, denominator, unit, up is not None)


def _decimal(plain: str, exponent: int) -> tuple[int, int]:
    digits, _, decimals = plain.replace(",", "").partition(".")
    exponent -= len(decimals)
    value = int(digits + decimals)
    return (value * 10**exponent, 1) if exponent >= 0 else (value, 10**-exponent)


def _unit(match: re.Match[str]) -> str | None:
    """The unit of a number, empty without one, None when what follows the number is no unit."""
    currency, written = match["currency"], match["unit"]
    if not written:
        return currency
    if currency:
        return None
    name = match["text"] or match["word"]
    if name is None:
        sign = written.strip(" \\")
        return "°" if sign.startswith("^") else sign
    if any(word in FUNCTIONS for word in name.casefold().split()):
        return None
    name = " ".join(name.split()).strip(" .")
    known = UNIT_NAMES.get(name) or UNIT_NAMES.get(_singular(name))
    if known is None and match["word"] and not match["space"]:
        return None  # 5xy is a product
    power = match["power"] or match["power2"] or ""
    return (known or _singular(name)) + power.replace(" ", "").replace("{", "").replace("}", "")


def _singular(name: str) -> str:
    name = name.casefold()
    return name[:-1] if len(name) > 3 and name.endswith("s") else name
