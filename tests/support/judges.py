"""Judges as functions: who answers by a rule, and honestly says what it was asked."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.errors import OverBudget
from harness.types import Prompt, Question, Reply
from tests.support.answers_server import Handler, Turn, call, text

UNTRUSTED = re.compile(r"<untrusted>(.*?)</untrusted>", re.DOTALL)
USAGE = {"input_tokens": 500, "output_tokens": 40}
Answer = Callable[[Question], Reply | Mapping[str, Any] | str]


def read_untrusted(question: Question) -> list[Any]:
    """Read what stands in the tags of a question, in order."""
    return [json.loads(found) for found in UNTRUSTED.findall(question.prompt.text)]


@dataclass
class Scripted:
    """``harness.types.Answerer`` that replies by a function: a dict is a call of the tool, a text is one. After
    ``most`` replies there is no money left."""

    rule: Answer
    name: str = "scripted"
    most: int | None = None
    asked: list[Question] = field(default_factory=list)

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        for place, question in reversed(list(enumerate(questions))):
            if self.most is not None and len(self.asked) >= self.most:
                raise OverBudget("budget.usd: 1 USD, of which 1 are spent")
            self.asked.append(question)
            made = self.rule(question)
            if isinstance(made, Mapping):
                assert question.tool is not None
                made = Reply(calls=((question.tool["name"], dict(made)),), cost_usd=0.001, seconds=0.5)
            yield place, made if isinstance(made, Reply) else Reply(made, cost_usd=0.001, seconds=0.5)


def grade(value: Any, reason: str = "so it is") -> dict[str, Any]:
    return {"reason": reason, "grade": value}


def by_length(question: Question) -> Mapping[str, Any]:
    """Grade the answer, which stands last, by its length; rank answers so too."""
    texts = read_untrusted(question)
    assert question.tool is not None
    if question.tool["name"] == "rank":
        answers = texts[1:]
        order = sorted(range(len(answers)), key=lambda i: -len(answers[i]))
        return {"reason": "by length", "ranking": [i + 1 for i in order]}
    return grade(min(10, len(texts[-1])))


# ---------------------------------------------------------------- behind an address


def judging(rule: Answer, *, faults: Sequence[Turn] = (), every: int = 0) -> Turn:
    """Answer each question of a judge by ``rule``; every so many requests one of ``faults`` instead, in turn."""
    count = itertools.count(1)

    def send(handler: Handler) -> None:
        n = next(count)
        if every and n % every == 0:
            faults[n // every % len(faults)](handler)
            return
        form = handler.body["tools"][0]
        tool = form.get("function", form)["name"]
        prompt = Prompt("q", handler.question, "")
        made = rule(Question(prompt, 1, 0.0, tool={"name": tool}))
        turn = call(dict(made), tool=tool, usage=USAGE) if isinstance(made, Mapping) else text(str(made), usage=USAGE)
        turn(handler)

    return send


def by_digits(question: Question) -> Mapping[str, Any]:
    """Grade the answer, which stands last, by its digits, which a random model writes now and then."""
    return grade(min(10, 2 * sum(c.isdigit() for c in str(read_untrusted(question)[-1])[:8])))
