"""What answers decision policy ``llm`` in the fault gym: a server that speaks the Messages API and is no oracle."""

from __future__ import annotations

import re
from typing import Any

from tests.support.answers_server import Handler, Turn, call, good, text

FIRST = re.compile(r"# Candidates of the rules, best first\n1\. (?P<action>[^\n]+?) because ")
WORDS = {"evidence": "candidate 1 of the rules", "hypothesis": "as the rules say", "rejected": []}


def answer(handler: Handler) -> None:
    """By turns: the first candidate, leave it to the rules, nonsense, the first candidate, an idea of its own."""
    asked = len(handler.server.requests)
    turns = (take_first, abstain, lambda _: text("42. As a model I cannot know."), take_first, lambda _: whim())
    turns[asked % len(turns)](handler.server.requests[-1][1]["messages"][0]["content"])(handler)


def take_first(question: str) -> Turn:
    found = FIRST.search(question)
    if found is None:
        return call(WORDS | {"action": "continue"})
    kind, *words = found["action"].split()
    changes = dict(word.split("=") for word in words if "=" in word)
    chosen: dict[str, Any] = WORDS | {"action": kind}
    if kind == "set":
        chosen["changes"] = {knob: float(value) for knob, value in changes.items()}
    elif kind == "rollback":
        chosen["argument"] = "best"
    elif words:
        chosen["argument"] = changes.get("focus", words[0])
    return call(chosen | {"expected": {"metric": "reward/adjusted", "direction": "rises"}})


def abstain(_: str) -> Turn:
    return call(WORDS | {"action": "abstain"})


def whim() -> Turn:
    return good(changes={"temperature": 0.9})
