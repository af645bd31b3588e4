"""Questions for answerers, and what asks them."""

from __future__ import annotations

from threading import Event
from typing import Any

from harness.llm.hosted import Hosted, open_hosted
from harness.llm.ledger import Ledger
from harness.llm.settings import Settings
from harness.types import Answerer, Prompt, Question, Reply

FORMS = ("anthropic:m", "openai:accounts/x/models/m")
"""One model behind each form of API."""


def make_question(number: int = 0, *, columns: dict[str, Any] | None = None, **fields: Any) -> Question:
    prompt = Prompt(f"p{number}", f"What is {number}+1?", str(number + 1), system="Be brief.", columns=columns or {})
    return Question(**{"prompt": prompt, "max_tokens": 50, "temperature": 0.0} | fields)


def open_model(name: str, *, ledger: Ledger | None = None, interrupted: Event | None = None, **fields: Any) -> Hosted:
    answerer = open_hosted(name, Settings(**{"attempts": 2} | fields), ledger or Ledger(), interrupted or Event())
    assert isinstance(answerer, Hosted)
    return answerer


def ask_all(answerer: Answerer, questions: list[Question]) -> list[Reply]:
    """Ask, and put the replies in order: one to each question."""
    found = dict(answerer.answer(questions))
    assert sorted(found) == list(range(len(questions)))
    return [found[place] for place in range(len(questions))]
