"""Conversations as OpenAI has them, read strictly: any number of turns, tools, an answer or a prefill at the end.

    system? (user | assistant | tool)+           a prompt: the model answers
    ... assistant                                its last turn is the answer to learn from (the demonstration), or a
                                                 prefill, the beginning of a turn that the model continues

Which of the two, ``ends_in_prefill`` says. Pure: a message comes out as ``harness.types.Message`` describes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import InputError
from harness.types import Message, Prompt

ROLES = ("system", "user", "assistant", "tool")
OLDER_ROLES = {"developer": "system", "function": "tool"}
BEGUN = "prompt"
"""The column whose turns end where the model is to go on, where there is a ground truth; others hold the answer too."""
OPENED = re.compile(r"(<[^<>/\s]+>|\[[A-Z_]+\]|◁[^◁▷/]+▷)\s*\Z")
"""An opening tag at the end: nobody's answer ends so."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """``turns`` are all but the system message and ``answer``, which is the assistant's last turn unless a prefill."""

    system: str
    turns: tuple[Message, ...]
    answer: Message | None


def read_conversation(where: str, column: str, messages: Sequence[Any], *, scored: bool) -> Conversation:
    """Read the messages of a row; ``scored`` says that it has a ground truth of its own. Raises InputError."""
    turns = [_read_message(f"{where}: message {n} of {column}", one) for n, one in enumerate(messages, 1)]
    system = ""
    if turns and turns[0]["role"] == "system":
        system = turns.pop(0)["content"]
    for before, turn in zip([None, *turns], turns, strict=False):
        if turn["role"] == "system":
            raise InputError(
                f"{where}: {column} has a system message that is not the first: 'system' does not fit there"
            )
        if turn["role"] == "tool" and (before is None or before["role"] not in ("assistant", "tool")):
            raise InputError(
                f"{where}: {column} has a tool message that follows no assistant message: 'tool' does not fit there"
            )
    answer = None
    if turns and turns[-1]["role"] == "assistant" and not ends_in_prefill(turns[-1], column, scored=scored):
        answer = turns.pop()
    elif turns and turns[-1]["role"] == "assistant" and not turns[-1]["content"]:
        turns.pop()  # a prefill of nothing
    if not any(turn["role"] == "user" and turn["content"].strip() for turn in turns):
        raise InputError(f"{where}: {column} has no user message")
    if answer is not None and turns[-1]["role"] == "assistant":
        raise InputError(f"{where}: {column} ends with two assistant messages; join them")
    return Conversation(system, tuple(turns), answer)


def ends_in_prefill(last: Message, column: str, *, scored: bool) -> bool:
    """Whether the assistant's last turn is to be continued: it ends with an opening tag, or it stands in the column
    ``prompt`` of a row that has a ground truth besides (TRL's rule). Calls of tools are always an answer."""
    if last.get("tool_calls"):
        return False
    return bool(OPENED.search(last["content"])) or (scored and column == BEGUN)


def read_answer(where: str, value: Any) -> Message:
    """Read an assistant's turn: the message, or a list of that one. Raises InputError."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    message = _read_message(where, value)
    if message["role"] != "assistant":
        raise InputError(f"{where} is a message of the {message['role']}; it must be the assistant's")
    return message


def read_calls(where: str, calls: Any) -> list[Message]:
    """Read tool calls, arguments as an object or its JSON. Raises InputError."""
    if not isinstance(calls, list):
        raise InputError(f"{where}: tool_calls must be a list, not {type(calls).__name__}")
    return [_read_call(where, call) for call in calls]


def list_calls(calls: Sequence[Message]) -> list[dict[str, Any]]:
    """List calls by name and arguments alone, as rewards.function_call expects them."""
    return [{"name": call["function"]["name"], "arguments": call["function"]["arguments"]} for call in calls]


def write_turn(message: Message) -> str:
    """Write what a turn says as text, its calls in the form that rewards.function_call reads by default."""
    calls = [
        f"<tool_call>{json.dumps(one, ensure_ascii=False)}</tool_call>"
        for one in list_calls(message.get("tool_calls", ()))
    ]
    return "\n".join([message["content"], *calls] if message["content"] else calls)


def write_transcript(messages: Sequence[Message]) -> str:
    """Write turns as people read them: ``User: ...``, an empty line, ``Assistant: ...``."""
    return "\n\n".join(f"{message['role'].capitalize()}: {write_turn(message)}" for message in messages)


def fill_messages(messages: Sequence[Message], template: str) -> tuple[Message, ...]:
    """Put the user's last turn into the pool's template."""
    if not messages or template == "{prompt}":
        return tuple(messages)
    last = max(i for i, message in enumerate(messages) if message["role"] == "user")
    filled = {**messages[last], "content": template.replace("{prompt}", messages[last]["content"])}
    return (*messages[:last], filled, *messages[last + 1 :])


def fill_prompt(prompt: Prompt, template: str) -> Prompt:
    """Put a prompt, as its row has it, into the pool's template."""
    if template == "{prompt}":
        return prompt  # a million copies take seconds
    if not prompt.messages:
        return replace(prompt, text=template.replace("{prompt}", prompt.text))
    turns = fill_messages(prompt.messages, template)
    return replace(prompt, text=write_transcript(turns), messages=turns)


# ---------------------------------------------------------------- one message


def _read_message(where: str, message: Any) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InputError(f"{where} must be an object with role and content, not {type(message).__name__}")
    role = message.get("role")
    role = OLDER_ROLES.get(role, role) if isinstance(role, str) else role
    if role is None:
        there = ", ".join(map(str, list(message)[:8])) or "nothing"
        raise InputError(f"{where} has no role: it must have role and content, and has {there}")
    if role not in ROLES:
        raise InputError(f"{where} has the role {str(role)[:40]!r}: it must be one of {', '.join(ROLES)}")
    read: dict[str, Any] = {"role": role}
    calls = message.get("tool_calls") or ([message["function_call"]] if message.get("function_call") else [])
    if role == "assistant" and calls:
        read["tool_calls"] = read_calls(where, calls)
    read["content"] = _read_content(where, message.get("content"), role, empty="tool_calls" in read)
    kept = {"tool": ("name", "tool_call_id"), "assistant": ("reasoning_content",)}.get(role, ())
    return read | {name: message[name] for name in kept if isinstance(message.get(name), str) and message[name]}


def _read_content(where: str, content: Any, role: str, *, empty: bool) -> str:
    """Read a content: a text, parts that are all texts, of a tool any JSON, of a turn with calls nothing."""
    if content is None and empty:
        return ""
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        return "".join(str(part.get("text") or "") for part in content)
    if role == "tool" and content is not None and not isinstance(content, str):
        try:
            return json.dumps(content, ensure_ascii=False)
        except (TypeError, ValueError):
            raise InputError(f"{where} has a content that is no JSON") from None
    if not isinstance(content, str):
        raise InputError(f"{where} is one whose content is not text: give a string, or parts of type text")
    return content


def _read_call(where: str, call: Any) -> dict[str, Any]:
    inner = call.get("function", call) if isinstance(call, Mapping) else None
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(name, str) or not name:
        raise InputError(f"{where} has a tool call without a name")
    arguments = inner.get("arguments", inner.get("parameters"))
    if isinstance(arguments, str) and arguments.strip():
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            raise InputError(f"{where}: the arguments of {name[:40]} are not JSON") from None
    if arguments in (None, "") or (isinstance(arguments, str) and not arguments.strip()):
        arguments = {}
    if not isinstance(arguments, Mapping):
        raise InputError(f"{where}: the arguments of {name[:40]} must be an object, not {type(arguments).__name__}")
    own = {"id": call["id"]} if isinstance(call.get("id"), str) and call["id"] else {}
    return {"type": "function", **own, "function": {"name": name, "arguments": dict(arguments)}}
