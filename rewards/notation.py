"""Brings an answer into one notation: what has no meaning goes, and of several spellings of one sign one stays."""

from __future__ import annotations

import re
from functools import lru_cache

# Exactly what a keyboard and LaTeX cannot write otherwise. Every other character outside of ASCII, such as digits of
# other scripts, look-alikes and invisible ones, stays and makes an answer unreadable.
CHARACTERS = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "×": r"\times ",
        "·": r"\cdot ",
        "÷": r"\div ",
        "±": r"\pm ",
        "π": r"\pi ",
        "√": r"\sqrt ",
        "∞": r"\infty ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "∪": r"\cup ",
        "∈": r"\in ",
        "∅": r"\emptyset ",
        "ℝ": r"\mathbb{R}",
        "⟨": r"\langle ",
        "⟩": r"\rangle ",
        "°": r"^\circ",
        "²": "^2",
        "³": "^3",
        "’": "'",
        "，": ", ",
        "；": "; ",
        "：": ": ",
        "（": "(",
        "）": ")",
        "。": ".",
        "\u00a0": " ",
        "\u202f": " ",
        "\u2009": " ",
        "\n": " ",
        "\t": " ",
    }
)
THOUSANDS = re.compile(
    r"(?<![0-9.,/])[0-9]{1,3}(?:(?:\{,\}|,\\! ?|\\[,;: ] ?|\\text ?\{,\}|,| )[0-9]{3})+(?![0-9]| ?/|\\frac)"
)
GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
NO_DIGITS = re.compile(r"[^0-9]+")
REWRITTEN = [
    (sign, re.compile(pattern), replacement)
    for sign, pattern, replacement in (
        ("\\", r"(?<!\\)\\(?:[,;:! ]|q?quad(?![A-Za-z])|[hv]space\*? ?\{[^{}]*\})", " "),
        ("~", r"~", " "),
        (
            "\\",
            r"\\(?:left|right|(?:display|text)style|[bB]igg?[lr]?|(?:normal|foot)size|[Ll]arge|LARGE|[Hh]uge|small"
            r"|bf|rm)(?![A-Za-z])",
            "",
        ),
        ("{", r"\\(?:text|mbox|mathrm) ?\{[ ,]*(and|or) ?\}", r" \1 "),
        ("\\", r"\\(?:lor|vee)(?![A-Za-z])", " or "),
        ("\\", r"\\(?:land|wedge)(?![A-Za-z])", " and "),
        ("{", r"\\(?:text|mbox|mathrm) ?\{ ?(\\?[$,:]) ?\}", r"\1"),
        ("{", r"\\(?:mathrm|text) ?\{([ied])\}", r"\1"),  # the imaginary unit, Euler's number, a differential
        ("^", r"\^ ?\{? ?\\(?:text|mathrm|mbox) ?\{ ?(st|nd|rd|th) ?\} ?\}?", r"\\text{\1}"),
        ("^", r"\^ ?\{ ?(st|nd|rd|th) ?\}", r"\\text{\1}"),
        ("frac", r"\\(?:[dtcs]|nice|x)frac(?![A-Za-z])", r"\\frac"),
        ("\\", r"\\colon(?![A-Za-z])|\\mathbin ?\{ ?: ?\}", ":"),
        ("\\", r"\\lbrace(?![A-Za-z])", r"\\{"),
        ("\\", r"\\rbrace(?![A-Za-z])", r"\\}"),
        ("\\", r"\\lbrack(?![A-Za-z])", "["),
        ("\\", r"\\rbrack(?![A-Za-z])", "]"),
        (
            "\\",
            r"\\(?:operatorname|mathrm) ?\{ ?(ln|log|sin|cos|tan|exp) ?\}|\\log_ ?\{?e\}?(?![A-Za-z])",
            lambda found: rf"\{found[1] or 'ln'} ",
        ),
        ("=", r">=", r"\\ge "),
        ("=", r"<=", r"\\le "),
        ("-", r"\{-\}|\\text ?\{ ?- ?\}", "-"),
        ("-", r"\A-\{([0-9.]+)\}\Z", r"-\1"),
        ("frac", r"\\frac ?([0-9]) ?(?=[0-9{])", r"\\frac{\1}"),
        ("frac", r"(\\frac ?\{[^{}]*\}) ?([0-9])", r"\1{\2}"),
        ("over", r"\{([^{}]*)\\over(?![A-Za-z])([^{}]*)\}", r"\\frac{\1}{\2}"),
        ("over", r"\A([^{}]*)\\over(?![A-Za-z])([^{}]*)\Z", r"\\frac{\1}{\2}"),
        ("log", r"(\\log ?)_ ?([0-9])(?![0-9]*\})", r"\1_{\2} "),
        ("/", r"\A\^\{?([0-9]+)\}? ?/ ?_\{?([0-9]+)\}?\Z", r"\1/\2"),
        ("/", r"([0-9]) ?/ ?\{([0-9]+)\}", r"\1/\2"),
        ("sqrt", r"(\\sqrt ?\[[^\[\]]*\]) ?([0-9A-Za-z])", r"\1{\2}"),
        ("\\", r"\\(?:varnothing|empty)(?![A-Za-z])|\\\{ *\\\}", r"\\emptyset "),
        ("R", r"\\mathbb ?R(?![A-Za-z])|\\math(?:bf|bb|rm) ?\{ ?R ?\}|\\R(?![A-Za-z])", r"\\mathbb{R}"),
        ("dots", r"\\[lc]?dots(?:[cbmi])?(?![A-Za-z])", r"\\ldots "),
        ("...", r"\.\.\.", r"\\ldots "),
        ("ldots", r"([0-9]*\.[0-9]*?)([0-9]{1,3}?)\2{2,} ?\\ldots ?", r"\1\\overline{\2}"),
        (":", r"(?<=[0-9]) ?\{?:\}? ?(?=[0-9])", ":"),
        ("$", r"(?<!\\)\$([^$]*[^$\\])\$", r" \1 "),
    )
]
"""What is rewritten where the sign stands in an answer."""
WRAPPED = [
    re.compile(pattern)
    for pattern in (
        r"\$\$?([^$]*[^$\\])\$\$?",
        r"\\\((.*)\\\)",
        r"\\\[(.*)\\\]",
        r"\*\*([^*]*)\*\*",
        r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt)|mbox|f?(?:rame)?box|boxed|boldsymbol|bm|underline|emph)"
        r" ?\{((?![A-Za-z]{2,}\})[^{}]*)\}",
        r"\\(?:text)?color ?\{[a-z]+\} ?(.+)",
        r"(.*[^. ]) ?\.",
        r"(.*[^\\ ]) ?\\\\",
        r"\{([^{},;]*)\}",
    )
]
BARE_SET = re.compile(r"\{([^{}]*)\}")
SPACES = re.compile(r" {2,}")


@lru_cache(4096)
def tidy(text: str) -> str:
    """The answer in one notation: without spacing, delimiters, sizes, styles or a full stop at the end."""
    text = text.strip()
    if text.isascii() and text.isalnum():
        return text
    text = THOUSANDS.sub(lambda found: NO_DIGITS.sub(",", found[0]), text.translate(CHARACTERS))
    for _ in range(4):  # a text in a formula with a full stop, and once more
        before = text = text.strip()
        for wrap in WRAPPED:
            if match := wrap.fullmatch(text):
                text = match[1].strip()
        if text == before:
            break
    for sign, pattern, replacement in REWRITTEN:
        if sign in text:
            text = pattern.sub(replacement, text)
    text = text.strip()
    if match := BARE_SET.fullmatch(text):
        many = ("," in match[1] or ";" in match[1]) and not GROUPED.fullmatch(match[1].strip())
        text = rf"\{{{match[1]}\}}" if many else match[1]
    return SPACES.sub(" ", text.replace(r"\$", "$").replace(r"\%", "%")).strip()


ALTERNATIVE = re.compile(r"\\(?:pm|mp)(?![A-Za-z])")


def both_signs(text: str) -> tuple[str, ...]:
    r"""What a text with ``\pm`` stands for: with the upper signs and with the lower ones."""
    if not ALTERNATIVE.search(text):
        return (text,)
    upper = ALTERNATIVE.sub(lambda found: "+" if found[0] == r"\pm" else "-", text)
    lower = ALTERNATIVE.sub(lambda found: "-" if found[0] == r"\pm" else "+", text)
    return tuple(one.strip().removeprefix("+").strip() for one in (upper, lower))
