"""A prompt and its completion as one sample of a hosted evaluator (reward-kit, eval-protocol), and how the evaluator
there judges it.

    sample = write_sample(prompt, completion)          # here: messages, ground_truth, tools, the other columns
    judge_sample(reward, sample.pop("messages"), sample.pop("ground_truth"), sample.pop("tools", None), sample)

What ``messages`` does not tell of a Prompt stands under ``prompt``, a name that no other column has: how several turns
read as ``text``, the ``prefill`` that the completion continues, and ``columns`` whose names have a meaning there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.types import Message, Prompt
from rewards.contract import Reward

TAKEN = frozenset({"messages", "ground_truth", "prompt"})


def write_sample(prompt: Prompt, completion: str) -> dict[str, Any]:
    """Write a sample as JSON holds it; its last message is the assistant's."""
    turns = prompt.turns[:-1] if prompt.prefill else prompt.turns
    answer = {"role": "assistant", "content": prompt.prefill + completion}
    own = {
        "text": prompt.text if prompt.messages else "",
        "prefill": prompt.prefill,
        "columns": {name: value for name, value in prompt.columns.items() if name in TAKEN},
    }
    others = {name: value for name, value in prompt.columns.items() if name not in TAKEN}
    more = {"prompt": {name: value for name, value in own.items() if value}} if any(own.values()) else {}
    messages = [*map(_write_turn, turns), answer]
    return {"messages": messages, "ground_truth": prompt.ground_truth, **others, **more}


def judge_sample(
    reward: Reward, messages: Sequence[Any], ground_truth: Any, tools: Any, others: Mapping[str, Any]
) -> dict[str, Any]:
    """Judge a sample. Return its score, the reason code and a score for each component.

    Raises RuntimeError where the reward cannot judge it: an evaluator that fails gives no number.
    """
    *turns, last = [_read_turn(message) for message in messages]
    own = others.get("prompt") or {}
    columns = {name: value for name, value in others.items() if name != "prompt"} | own.get("columns", {})
    system = ""
    if turns and turns[0]["role"] == "system":
        system = turns.pop(0)["content"]
    prefill = own.get("prefill", "")
    if prefill:
        turns.append({"role": "assistant", "content": prefill})
    prompt = Prompt(
        id="",
        text=own.get("text") or (turns[-1]["content"] if turns else ""),
        ground_truth="" if ground_truth is None else str(ground_truth),
        system=system,
        columns=columns if tools is None else columns | {"tools": tools},
        messages=tuple(turns) if "text" in own else (),
    )
    [score] = reward.score([prompt], [(last["content"] or "")[len(prefill) :]])
    if score.reward is None:
        raise RuntimeError(score.error)
    parts = score.components or dict.fromkeys(reward.functions, score.reward)
    metrics = {name: {"score": value, "is_score_valid": True, "reason": score.reason} for name, value in parts.items()}
    return {"score": score.reward, "is_score_valid": True, "reason": score.reason, "metrics": metrics}


def _write_turn(message: Message) -> dict[str, Any]:
    """Write a turn as OpenAI has it: the arguments of a call are JSON in a string."""
    calls = message.get("tool_calls")
    return dict(message) | ({"tool_calls": [_with_arguments(call, json.dumps) for call in calls]} if calls else {})


def _read_turn(message: Any) -> dict[str, Any]:
    """Read a turn, an object or what pydantic made of one."""
    if not isinstance(message, Mapping):
        message = message.model_dump(exclude_none=True)
    calls = message.get("tool_calls")
    return dict(message) | ({"tool_calls": [_with_arguments(call, json.loads) for call in calls]} if calls else {})


def _with_arguments(call: Message, convert: Any) -> dict[str, Any]:
    return {**call, "function": {**call["function"], "arguments": convert(call["function"]["arguments"])}}
