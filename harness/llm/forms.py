"""What the forms of API have in common, and what a module of one gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from harness.llm.faults import Fault
from harness.types import Prompt, Question

MOST_TOKENS = 10**9


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer holds, as it came. ``tokens`` in and out are None where the service did not count them."""

    text: str
    calls: tuple[tuple[Any, Any], ...]
    tokens: tuple[int, int] | None
    truncated: bool
    model: str


@dataclass(frozen=True)
class Form:
    """One form of API, spoken by one official client. ``package`` is that client's, ``extra`` what installs it."""

    name: str
    package: str
    extra: str
    key_variable: str
    url_variable: str
    connect: Callable[[ModuleType, str, Mapping[str, Any]], tuple[Callable[..., Any], Callable[[], None]]]
    """``connect(sdk, key, http)``: what sends a request, over a connection of its own, and what
    closes that."""
    build: Callable[[str, Question], dict[str, Any]]
    """``build(model, question)``: the request."""
    read: Callable[[Mapping[str, Any], Question], Said]
    """Read the JSON of an answer. Raises Fault for what is none at all."""


def parse(content: bytes) -> Mapping[str, Any]:
    """Raises Fault."""
    try:
        message = json.loads(content)
    except (ValueError, RecursionError):
        raise Fault("the answer is no JSON", billed=True) from None
    return message if isinstance(message, dict) else {}


def text_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def count(tokens: object) -> int | None:
    """Read a number of tokens that the record can hold; None for nonsense."""
    if isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens <= MOST_TOKENS:
        return tokens
    return None


def write_text(thinking: str, words: str, calls: Sequence[tuple[Any, Any]], *, truncated: bool) -> str:
    """Write a completion as a reward sees it: thinking in its tags first, calls last, as rewards.function_call reads
    them. Thinking that was ``truncated`` before anything else was said stays open."""
    lines = [f"<tool_call>{json.dumps({'name': n, 'arguments': a}, ensure_ascii=False)}</tool_call>" for n, a in calls]
    said = "\n".join([words, *lines] if words else lines)
    if not thinking:
        return said
    return f"<think>{thinking}" if truncated and not said else f"<think>{thinking}</think>{said}"


def tools_of(prompt: Prompt) -> list[Mapping[str, Any]]:
    """List the tools of a row, the inner objects of OpenAI's form. Raises Fault for what is none."""
    value = prompt.columns.get("tools") or []
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    tools = [tool.get("function", tool) if isinstance(tool, Mapping) else {} for tool in value or ()]
    if not isinstance(value, list) or not all(isinstance(tool.get("name"), str) for tool in tools):
        raise Fault('the prompt has "tools" that are no list of objects with "name" and "parameters"')
    return tools
