"""Layouts of calls of functions, of conversations, and of rows in which nothing can be verified."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pools.layouts.base import Finder, Layout, Values, fill, has_texts, is_prompt, is_text, mostly, read_json

# ---------------------------------------------------------------- calls of functions


def _to_schema(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Make a JSON Schema of xLAM's list of arguments; one without a default must be given."""
    properties, required = {}, []
    for name, value in arguments.items():
        said = dict(value) if isinstance(value, Mapping) else {"description": str(value)}
        kind, comma, rest = str(said.get("type", "")).partition(",")
        if comma and rest.strip() == "optional":
            said["type"] = kind
        elif "default" not in said:
            required.append(name)
        properties[name] = said
    return {"type": "object", "properties": properties, "required": required}


def read_tools(value: Any) -> list[dict[str, Any]] | None:
    """Read tools of any data set in OpenAI's form; None for what are none."""
    value = read_json(value)
    found = []
    for entry in [value] if isinstance(value, Mapping) else value if isinstance(value, list) else [None]:
        tool = entry.get("function", entry) if isinstance(entry, Mapping) else None
        if not isinstance(tool, Mapping) or not is_text(tool.get("name")):
            return None
        parameters = read_json(tool.get("parameters")) or {}
        if not isinstance(parameters, Mapping):
            return None
        if "properties" not in parameters:
            parameters = _to_schema(parameters)
        found.append({"type": "function", "function": {**tool, "parameters": parameters}})
    return found


def _find_xlam(rows: Sequence[Values]) -> Layout | None:
    def convert(row: Values) -> Values | None:
        tools, calls = read_tools(row.get("tools")), read_json(row.get("answers"))
        if tools is None or not isinstance(calls, list) or not has_texts(row, "query"):
            return None
        return fill(row, prompt=row["query"], tools=tools, ground_truth={"calls": calls, "tools": tools})

    if not mostly(rows, lambda row: convert(row) is not None):
        return None
    return Layout("xLAM", "xLAM layout: query, tools, calls in answers", "rewards.function_call", convert)


def _find_bfcl(rows: Sequence[Values]) -> Layout | None:
    def turns(row: Values) -> Any:
        question = read_json(row.get("question"))
        return question[0] if isinstance(question, list) and len(question) == 1 else None

    def convert(row: Values) -> Values | None:
        tools, messages = read_tools(row.get("function")), turns(row)
        if not tools or not isinstance(messages, list) or (judged and row.get("ground_truth") is None):
            return None
        calls = read_json(row.get("ground_truth"))
        return fill(row, prompt=messages, tools=tools, ground_truth={"calls": calls, "tools": tools} if calls else None)

    judged = mostly(rows, lambda row: row.get("ground_truth") is not None)
    if not mostly(rows, lambda row: isinstance(turns(row), list) and bool(read_tools(row.get("function")))):
        return None
    says = "BFCL layout: question, function" + (
        ", ground_truth" if judged else "; the calls are in possible_answer/: add them by id as ground_truth"
    )
    return Layout("BFCL", says, "rewards.function_call" if judged else None, convert)


# ---------------------------------------------------------------- conversations

SPEAKERS = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "model", "bing", "bard"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("function_response", "observation", "tool"), "tool"),
    "function_call": "function_call",
}
NOT_VERIFIABLE = "no answer here is verifiable; write a reward, or use SFT"


def _find_sharegpt(rows: Sequence[Values]) -> Layout | None:
    def convert(row: Values) -> Values | None:
        turns = row.get("conversations", row.get("conversation"))
        messages = [_turn(turn) for turn in turns] if isinstance(turns, list) else []
        if not messages or None in messages:
            return None
        if is_text(row.get("system")):
            messages.insert(0, {"role": "system", "content": row["system"]})
        return fill(row, messages=messages, tools=read_tools(row["tools"]) if row.get("tools") else None)

    if not mostly(rows, lambda row: convert(row) is not None):
        return None
    return Layout("ShareGPT", f"ShareGPT layout: conversations of from and value; {NOT_VERIFIABLE}", None, convert)


def _turn(turn: Any) -> dict[str, Any] | None:
    if not isinstance(turn, Mapping):
        return None
    role = SPEAKERS.get(str(turn.get("from", turn.get("role"))).lower())
    text = turn.get("value", turn.get("content"))
    if role is None or not isinstance(text, str):
        return None
    if role != "function_call":
        return {"role": role, "content": text}
    call = read_json(text)
    if not isinstance(call, Mapping) or not is_text(call.get("name")):
        return None
    arguments = call.get("arguments") or {}
    function = {"name": call["name"], "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments)}
    return {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}


def _find_log(rows: Sequence[Values]) -> Layout | None:
    def read(row: Values) -> tuple[list[Any], Mapping[str, Any], Any] | None:
        request, response = read_json(row.get("request")), read_json(row.get("response"))
        if not isinstance(request, Mapping) or not isinstance(response, Mapping):
            return None
        request, response = request.get("body", request), response.get("body", response)
        try:
            messages, answer = request["messages"], response["choices"][0]["message"]
        except (LookupError, TypeError):
            return None
        usable = isinstance(messages, list) and messages and isinstance(answer, Mapping)
        return (messages, answer, request.get("tools")) if usable else None

    def convert(row: Values) -> Values | None:
        found = read(row)
        if found is None:
            return None
        messages, answer, tools = found
        calls = [call["function"] for call in answer.get("tool_calls") or [] if isinstance(call, Mapping)]
        if judged:
            tools = read_tools(tools)
            return (
                fill(row, prompt=messages, tools=tools, ground_truth={"calls": calls, "tools": tools})
                if calls
                else None
            )
        return fill(row, messages=[*messages, dict(answer)], tools=read_tools(tools) if tools else None)

    if not mostly(rows, lambda row: read(row) is not None):
        return None
    judged = mostly(rows, lambda row: bool((found := read(row)) and found[1].get("tool_calls")))
    says = "OpenAI log layout: request.messages, response.choices"
    if judged:
        return Layout("OpenAI log", f"{says}; its tool calls are the ground truth", "rewards.function_call", convert)
    return Layout("OpenAI log", f"{says}; {NOT_VERIFIABLE}", None, convert)


# ---------------------------------------------------------------- nothing to verify


def _find_preferences(rows: Sequence[Values]) -> Layout | None:
    def answer(value: Any) -> str | None:
        last = value[-1] if isinstance(value, list) and value else None
        text = last.get("content") if isinstance(last, Mapping) else value
        return text if isinstance(text, str) else None

    def convert(row: Values) -> Values | None:
        chosen = row.get("chosen")
        prompt = row.get("prompt") or (chosen[:-1] if isinstance(chosen, list) else None)
        shown = answer(chosen)
        return fill(row, prompt=prompt, demonstration=shown, ground_truth=row.get("ground_truth", shown))

    if not mostly(rows, lambda row: row.get("chosen") is not None and row.get("rejected") is not None):
        return None
    says = "preference layout: chosen, rejected; GRPO has no reward for pairs: use DPO, or a judge trained on them"
    return Layout("preferences", says, None, convert)


def _find_alpaca(rows: Sequence[Values]) -> Layout | None:
    def convert(row: Values) -> Values | None:
        if not has_texts(row, "instruction", "output"):
            return None
        more = f"\n\n{row['input']}" if is_text(row.get("input")) else ""
        return fill(row, prompt=row["instruction"] + more, ground_truth=row["output"], demonstration=row["output"])

    if not mostly(rows, lambda row: has_texts(row, "instruction", "output")):
        return None
    return Layout("Alpaca", f"Alpaca layout: instruction, input, output; {NOT_VERIFIABLE}", None, convert)


def _find_prompts(rows: Sequence[Values]) -> Layout | None:
    """TRL's prompt-only and prompt-completion."""
    if not mostly(rows, lambda row: is_prompt(row.get("prompt")) and not row.keys() - {"prompt", "completion", "id"}):
        return None

    def convert(row: Values) -> Values | None:
        last = row.get("completion")
        last = last[-1] if isinstance(last, list) and last else last
        shown = last.get("content") if isinstance(last, Mapping) else last
        return fill(row, ground_truth=shown, demonstration=shown)

    kind = "prompt-completion" if "completion" in rows[0] else "prompt-only"
    return Layout(f"TRL {kind}", f"TRL {kind} layout; {NOT_VERIFIABLE}", None, convert)


FINDERS: tuple[Finder, ...] = (_find_xlam, _find_bfcl, _find_sharegpt, _find_log, _find_preferences)
WIDE_FINDERS: tuple[Finder, ...] = (_find_alpaca, _find_prompts)
