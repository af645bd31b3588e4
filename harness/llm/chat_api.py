"""Chat completions, over the official client ``openai``: that service, and every one that speaks its form (Fireworks,
vLLM, Ollama) at OPENAI_BASE_URL."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any

from harness.llm.faults import Fault
from harness.llm.forms import Form, Said, count, text_of, tools_of, write_text
from harness.types import Message, Question


def connect(sdk: ModuleType, key: str, http: Mapping[str, Any]) -> tuple[Callable[..., Any], Callable[[], None]]:
    client = sdk.OpenAI(api_key=key, max_retries=0, http_client=sdk.DefaultHttpxClient(**http))
    return client.chat.completions.with_raw_response.create, client.close


def build(model: str, question: Question) -> dict[str, Any]:
    # The service itself refuses the name that all others know.
    most = "max_tokens" if os.environ.get("OPENAI_BASE_URL") else "max_completion_tokens"
    request: dict[str, Any] = {
        "model": model,
        most: question.max_tokens,
        "temperature": question.temperature,
        "messages": [_write_turn(turn) for turn in question.prompt.turns],
    }
    if question.stop:
        request["stop"] = list(question.stop)
    if question.tool is not None:
        tool = question.tool
        wanted = {
            "name": tool["name"], "description": tool.get("description", ""), "parameters": tool["input_schema"]
        }  # fmt: skip
        request["tools"] = [{"type": "function", "function": wanted}]
        request["tool_choice"] = {"type": "function", "function": {"name": tool["name"]}}
    elif tools := tools_of(question.prompt):
        request["tools"] = [{"type": "function", "function": dict(tool)} for tool in tools]
    return request


def _write_turn(turn: Message) -> dict[str, Any]:
    """Write the arguments of calls as JSON text, which this API wants."""
    if not turn.get("tool_calls"):
        return {name: part for name, part in turn.items() if name != "tool_calls"}
    calls = [
        {**call, "type": "function",
         "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in turn["tool_calls"]
    ]  # fmt: skip
    return {**turn, "tool_calls": calls}


def read(completion: Mapping[str, Any], question: Question) -> Said:
    """A refusal is what the model says. No text at all is an answer too, if the answer has the form of one."""
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise Fault("the answer is no completion", billed=True)
    words = text_of(message.get("content")) or text_of(message.get("refusal"))
    calls = tuple(_read_call(call) for call in message.get("tool_calls") or () if isinstance(call, dict))
    if question.tool is not None and not calls:
        calls = _read_json(words, question.tool["name"])
    usage = completion.get("usage")
    counted = usage if isinstance(usage, dict) else {}
    tokens_in, tokens_out = count(counted.get("prompt_tokens")), count(counted.get("completion_tokens"))
    truncated = choice.get("finish_reason") == "length"
    return Said(
        write_text(
            text_of(message.get("reasoning_content")) or text_of(message.get("reasoning")),
            words,
            () if question.tool else calls,
            truncated=truncated,
        ),
        calls,
        None if tokens_in is None or tokens_out is None else (tokens_in, tokens_out),
        truncated,
        text_of(completion.get("model")),
    )


def _read_call(call: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return name and arguments; what is no JSON stays text."""
    function = call.get("function")
    inner = function if isinstance(function, dict) else {}
    arguments = inner.get("arguments")
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):
            arguments = json.loads(arguments)
    return inner.get("name"), arguments


def _read_json(words: str, name: str) -> tuple[tuple[Any, Any], ...]:
    """Read the arguments of a model that writes them instead of calling, perhaps in a fence."""
    try:
        answer = json.loads(words.strip().removeprefix("```json").removeprefix("```").removesuffix("```"))
    except (ValueError, RecursionError):
        return ()
    return ((name, answer),) if isinstance(answer, dict) else ()


CHAT = Form(
    "openai", "openai.resources.chat.completions", "openai", "OPENAI_API_KEY", "OPENAI_BASE_URL",
    connect, build, read,
)  # fmt: skip
