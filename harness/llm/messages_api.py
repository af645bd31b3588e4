"""The Messages API, over the official client ``anthropic``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from harness.llm.faults import Fault
from harness.llm.forms import Form, Said, count, text_of, tools_of, write_text
from harness.types import Message, Question

DEFAULT_TEMPERATURE = 1.0
"""Where none is sent. Models that take no other refuse any, this one too."""


def connect(sdk: ModuleType, key: str, http: Mapping[str, Any]) -> tuple[Callable[..., Any], Callable[[], None]]:
    client = sdk.Anthropic(api_key=key, max_retries=0, http_client=sdk.DefaultHttpxClient(**http))
    return client.messages.with_raw_response.create, client.close


def build(model: str, question: Question) -> dict[str, Any]:
    prompt = question.prompt
    system = [text_of(turn.get("content")) for turn in prompt.turns if turn["role"] in ("system", "developer")]
    request: dict[str, Any] = {
        "model": model,
        "max_tokens": question.max_tokens,
        "messages": _write_turns([turn for turn in prompt.turns if turn["role"] not in ("system", "developer")]),
    }
    if question.temperature != DEFAULT_TEMPERATURE:
        request["extra_body"] = {"temperature": question.temperature}  # of older models; the client has no name for it
    if system:
        request["system"] = "\n\n".join(system)
    if question.stop:
        request["stop_sequences"] = list(question.stop)
    if question.tool is not None:
        request["tools"] = [dict(question.tool)]
        request["tool_choice"] = {"type": "tool", "name": question.tool["name"], "disable_parallel_tool_use": True}
    elif tools := tools_of(prompt):
        request["tools"] = [
            {
                "name": tool["name"],
                "description": text_of(tool.get("description")),
                "input_schema": tool.get("parameters") or {"type": "object"},
            }
            for tool in tools
        ]
    return request


def _write_turns(turns: list[Message]) -> list[dict[str, Any]]:
    """Write turns of OpenAI's form: a result of a tool is a block of the user's, calls are blocks of the assistant's.
    Neighbours of one role become one turn, as this API wants."""
    written: list[dict[str, Any]] = []
    for turn in turns:
        role = "assistant" if turn["role"] == "assistant" else "user"
        content = text_of(turn.get("content"))
        blocks: list[dict[str, Any]] = [{"type": "text", "text": content}] if content else []
        if turn["role"] == "tool":
            blocks = [{"type": "tool_result", "tool_use_id": turn.get("tool_call_id", ""), "content": content}]
        blocks += [
            {
                "type": "tool_use",
                "id": call.get("id", ""),
                "name": call["function"]["name"],
                "input": call["function"]["arguments"],
            }
            for call in turn.get("tool_calls") or ()
        ]
        if written and written[-1]["role"] == role:
            written[-1]["content"] += blocks
        else:
            written.append({"role": role, "content": blocks})
    for turn in written:
        if len(turn["content"]) == 1 and turn["content"][0]["type"] == "text":
            turn["content"] = turn["content"][0]["text"]
        turn["content"] = turn["content"] or ""
    return written


def read(message: Mapping[str, Any], question: Question) -> Said:
    if not isinstance(message.get("content"), list):
        raise Fault("the answer is no message", billed=True)
    blocks = [block for block in message["content"] if isinstance(block, dict)]
    thinking = "".join(text_of(block.get("thinking")) for block in blocks if block.get("type") == "thinking")
    words = "".join(text_of(block.get("text")) for block in blocks if block.get("type") == "text")
    calls = tuple((block.get("name"), block.get("input")) for block in blocks if block.get("type") == "tool_use")
    truncated = message.get("stop_reason") in ("max_tokens", "model_context_window_exceeded")
    return Said(
        write_text(thinking, words, () if question.tool else calls, truncated=truncated),
        calls,
        _read_usage(message.get("usage")),
        truncated,
        text_of(message.get("model")),
    )


def _read_usage(usage: object) -> tuple[int, int] | None:
    """What was written to or read from a cache counts as read."""
    if not isinstance(usage, dict):
        return None
    read, out = count(usage.get("input_tokens")), count(usage.get("output_tokens"))
    if read is None or out is None:
        return None
    cached = (usage.get("cache_creation_input_tokens"), usage.get("cache_read_input_tokens"))
    return read + sum(count(tokens) or 0 for tokens in cached), out


MESSAGES = Form(
    "anthropic", "anthropic.resources.messages", "anthropic", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL",
    connect, build, read,
)  # fmt: skip
