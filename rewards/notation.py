"""What has no meaning in an answer: spacing, delimiters, sizes and other spellings of one sign."""

from __future__ import annotations

import re

# Exactly what a keyboard and LaTeX cannot write otherwise. Every other character outside of ASCII, such as digits of
# other scripts, look-alikes and invisible ones, stays and makes an answer unreadable.
CHARACTERS = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "×": r"\times ",
        "·": r"\cdot ",
        "÷": r"\div ",
        "π": r"\pi ",
        "√": r"\sqrt ",
        "∞": r"\infty ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "∪": r"\cup ",
        "°": r"^\circ",
        "\u00a0": " ",
        "\u202f": " ",
        "\u2009": " ",
        "\n": " ",
        "\t": " ",
    }
)
SEPARATOR = re.compile(r"(?<=[0-9])(?:\{,\}|,\\!|\\,)(?=[0-9]{3})")
SPACING = re.compile(r"(?<!\\)\\[,;:! ]|~|\\q?quad(?![A-Za-z])")
NO_MEANING = re.compile(r"\\(?:left|right|displaystyle|[bB]igg?[lr]?)(?![A-Za-z])")
FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
CONNECTIVE = re.compile(r"\\(?:text|mbox|mathrm) ?\{ ?(and|or) ?\}")
SPACES = re.compile(r" {2,}")
WRAPPED = [
    re.compile(pattern)
    for pattern in (
        r"\$\$?([^$]*[^$\\])\$\$?",
        r"\\\((.*)\\\)",
        r"\\\[(.*)\\\]",
        r"\*\*([^*]*)\*\*",
        r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|boxed) ?\{([^{}]*)\}",
        r"(.*[^. ]) ?\.",
    )
]


def tidy(text: str) -> str:
    """The answer without what has no meaning: spacing, delimiters, sizes, a full stop at the end."""
    text = text.strip()
    if text.isascii() and text.isalnum():
        return text
    text = text.translate(CHARACTERS)
    text = SEPARATOR.sub(",", text)
    text = SPACING.sub(" ", text)
    text = NO_MEANING.sub("", text)
    text = FRACTION.sub(r"\\frac", text)
    text = CONNECTIVE.sub(r" \1 ", text)
    for _ in range(4):  # a text in a formula with a full stop, and once more
        before = text = text.strip()
        for wrap in WRAPPED:
            if match := wrap.fullmatch(text):
                text = match[1].strip()
        if text == before:
            break
    return SPACES.sub(" ", text.replace(r"\$", "$").replace(r"\%", "%"))
