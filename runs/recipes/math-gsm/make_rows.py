"""Write rows.jsonl: word problems of two or three steps in GSM8K's layout, the same at every call.

    python make_rows.py

``question`` is the problem; ``answer`` works it out line by line, with a note ``<<6*4=24>>`` beside each sum, and ends
in ``#### 17``.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

ROWS = 100
FILE = Path(__file__).with_name("rows.jsonl")
NAMES = ("Ada", "Bela", "Chidi", "Dunya", "Emil", "Farah", "Goran", "Hana", "Ivo", "Jun", "Kofi", "Lena")

PROBLEMS = (
    (
        "{name} fills {a} boxes with {b} candles each and then sells {c} of the candles. How many candles are left?",
        ("{a} boxes hold {} candles.", "a*b"),
        ("After the sale {} candles are left.", "-c"),
    ),
    (
        "A bus starts with {b} people. At each of {a} stops {c} more get on, and nobody gets off. How many people are "
        "on the bus then?",
        ("{} people get on at the stops.", "a*c"),
        ("With those who were there, that is {} people.", "+b"),
    ),
    (
        "{name} reads {b} pages a day for {a} days, and {c} pages on the day after. How many pages does {name} read?",
        ("In {a} days {name} reads {} pages.", "a*b"),
        ("With the last day, that is {} pages.", "+c"),
    ),
    (
        "A baker makes {a} trays of {b} rolls. {c} rolls burn, and each of the others is sold for 2 coins. How many "
        "coins does the baker get?",
        ("The trays hold {} rolls.", "a*b"),
        ("{} rolls can be sold.", "-c"),
        ("They bring {} coins.", "*2"),
    ),
    (
        "{name} plants {a} rows of {b} beans and {c} sunflowers along the fence. How many plants are there?",
        ("The rows hold {} beans.", "a*b"),
        ("With the sunflowers there are {} plants.", "+c"),
    ),
    (
        "A library lends {b} books a day. How many books does it lend in {a} days, if it also lends {c} at the fair?",
        ("In {a} days it lends {} books.", "a*b"),
        ("With the fair, that is {} books.", "+c"),
    ),
    (
        "{name} saves {b} coins a week for {a} weeks and buys a ball for {c} coins. What remains is doubled by an "
        "aunt. How many coins does {name} have then?",
        ("{name} saves {} coins.", "a*b"),
        ("After the ball {} coins remain.", "-c"),
        ("Doubled, that is {} coins.", "*2"),
    ),
    (
        "Each of {a} friends brings {b} shells to the beach hut, and the tide takes {c}. How many shells stay?",
        ("The friends bring {} shells.", "a*b"),
        ("{} shells stay.", "-c"),
    ),
)
"""The question, then each line of its answer with the sum behind it: the first of two of the numbers, a further one
of what came before and one more."""


def make_rows() -> Iterator[dict[str, str]]:
    """Yield the rows, no two with the same question."""
    rng = random.Random(21)
    seen: set[str] = set()
    while len(seen) < ROWS:
        question, *lines = PROBLEMS[len(seen) % len(PROBLEMS)]
        numbers = {"a": rng.randint(2, 6), "b": rng.randint(4, 12), "c": rng.randint(2, 7)}
        words = {"name": rng.choice(NAMES), **numbers}
        asked = question.format(**words)
        if asked not in seen:
            seen.add(asked)
            yield {"question": asked, "answer": _work_out(lines, words, numbers)}


def _work_out(lines: list[tuple[str, str]], words: dict[str, object], numbers: dict[str, int]) -> str:
    worked, result = [], 0
    for number, (text, rule) in enumerate(lines):
        left, sign, right = rule.partition(next(sign for sign in "*+-" if sign in rule))
        first = numbers[left] if number == 0 else result
        second = numbers[right] if right in numbers else int(right)
        result = {"*": first * second, "+": first + second, "-": first - second}[sign]
        worked.append(text.format(f"{first}{sign}{second}=<<{first}{sign}{second}={result}>>{result}", **words))
    return "\n".join([*worked, f"#### {result}"])


if __name__ == "__main__":
    FILE.write_text("".join(json.dumps(row) + "\n" for row in make_rows()), encoding="utf-8")
