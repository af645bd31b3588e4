"""Who answers prompts, whatever it is: a model in memory, one behind an address, or a record of answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from harness.types.data import Prompt


@dataclass(frozen=True, slots=True)
class Question:
    """One ``prompt`` put to an answerer, for a completion of at most ``max_tokens``. ``temperature`` 0 is greedy.

    ``sample`` tells several answers to one prompt apart, 0 the first. ``tool`` (``name``, ``description`` and
    ``input_schema``, a JSON schema) asks for the answer in one call of it; a model that has no tools answers with its
    arguments as JSON.
    """

    prompt: Prompt
    max_tokens: int
    temperature: float
    sample: int = 0
    stop: tuple[str, ...] = ()
    tool: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one question. Where ``error`` is not empty there is no answer, and it says why in one line without
    secrets.

    ``text`` is the whole completion as a reward sees it, thinking in ``<think>`` tags where the service gives it apart.
    ``calls`` are the tool calls as (name, arguments), as they came. ``ids`` are the completion's token ids, which only
    a model in memory has. ``cost_usd`` is None without a price. ``cached``: it was answered before, and is from the
    record. ``model`` is the model that the service says has answered, where it says so.
    """

    text: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    truncated: bool = False
    calls: tuple[tuple[Any, Any], ...] = ()
    ids: tuple[int, ...] = ()
    cost_usd: float | None = None
    seconds: float = 0.0
    error: str = ""
    cached: bool = False
    model: str = ""


class Answerer(Protocol):
    """Answers prompts. ``name`` is how it is named in specs and records: ``openai:qwen3-30b``, ``night-1@best``."""

    @property
    def name(self) -> str: ...

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """Yield the place of each question with its reply, as they arrive: each exactly once, in any order.

        A failure is a Reply with an ``error``, not an exception. Closing the iterator ends what is under way. Raises
        OverBudget when the next question may cost more than is left; what arrived before has been yielded.
        """
