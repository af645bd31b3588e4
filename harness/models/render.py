"""From a prompt to the text that a model continues: through its chat template, or as plain text.

A chat template is asked for everything first. What it leaves out without a word, tools and their calls, is told in
the messages themselves, as models are commonly taught it; what it refuses is an InputError that says the fix.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from harness.errors import InputError
from harness.types import Message, Prompt
from pools.messages import write_turn
from rewards.format import OPENING
from rewards.tool_schemas import read_tools

OPENS_THINKING = re.compile(rf"(?:{OPENING.pattern})\s*\Z")
CALLED: list[Message] = [
    {"role": "user", "content": "When?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "id": "tides0001", "function": {"name": "look_up_the_tides", "arguments": {}}}
        ],
    },
]
RESULT: Message = {
    "role": "tool", "content": "at half past four", "tool_call_id": "tides0001", "name": "look_up_the_tides"
}  # fmt: skip
TOLD = 160
"""Characters of what a template says that an error repeats."""


@dataclass(frozen=True)
class Renderer:
    """The one way from a Prompt to text and token ids. ``chat`` sends it through the chat template of ``tokenizer``,
    which gets ``template_kwargs``; ``system_in_user`` puts the system message at the head of the user's first turn.
    """

    tokenizer: PreTrainedTokenizerBase
    chat: bool
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    system_in_user: bool = False

    def render(self, prompt: Prompt) -> str:
        """Render what the completion continues. Raises InputError when the chat template refuses it."""
        if not self.chat:
            opened = "\n\nAssistant:" if prompt.messages and not prompt.prefill else ""
            return "\n\n".join(filter(None, (self._tell_system(prompt), prompt.text))) + opened
        turns, tools = self._prepare(prompt)
        if not prompt.prefill:
            return self._apply(turns, tools, add_generation_prompt=True)
        opened = self._apply(turns[:-1], tools, add_generation_prompt=True)
        if OPENING.search(prompt.prefill):
            opened = OPENS_THINKING.sub("", opened)  # once is enough
        try:
            continued = str(self._template(turns, tools, continue_final_message=True))
        except Exception:  # whatever a template raises, or transformers where the template changes the turn
            continued = ""
        # Before a last turn a template may write what a model does not begin one with, such as empty thinking.
        head = continued.removesuffix(prompt.prefill)
        begins = opened.startswith(head) or (head.startswith(opened) and "think" not in head[len(opened) :].lower())
        return continued if head != continued and begins else opened + prompt.prefill

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Return the token ids of the rendered prompt, as generation sees them."""
        return self._tokenize(self.render(prompt))

    def demonstrate(self, prompt: Prompt) -> tuple[list[int], int]:
        """Return the token ids of the prompt with its demonstration, and how many of them are the prompt's.

        Calls in a demonstration are written as the chat template writes calls, where it shows them.
        """
        answer = prompt.demonstration or ""
        ids = self.prompt_ids(prompt)
        if not self.chat:
            end = str(self.tokenizer.eos_token or "")
            whole = self._tokenize(self.render(prompt) + answer.removesuffix(end) + end)
        else:
            turns, tools = self._prepare(prompt)
            if prompt.prefill:
                turns.pop()
            last: dict[str, Any] = {"role": "assistant", "content": prompt.prefill + answer}
            if prompt.calls and self.shows_calls:
                said = answer.removesuffix(write_turn({"content": "", "tool_calls": prompt.calls})).rstrip("\n")
                last |= {"content": prompt.prefill + said, "tool_calls": list(prompt.calls)}
                last = _as_text(last) if self._arguments_as_text else last
            whole = self._tokenize(self._apply([*turns, last], tools))
        # A template may render the prompt alone otherwise than before an answer, which begins where they part.
        shared = next(
            (i for i, (a, b) in enumerate(zip(ids, whole, strict=False)) if a != b), min(len(ids), len(whole))
        )
        return whole, shared

    @cached_property
    def shows_tools(self) -> bool:
        """Test whether the chat template puts tools into a prompt; many leave them out without a word."""
        if not self.chat:
            return False
        name = "look_up_the_tides"
        tool = {"type": "function", "function": {"name": name, "description": "", "parameters": {"type": "object"}}}
        try:
            return name in str(self._template([{"role": "user", "content": "When?"}], [tool]))
        except Exception:  # whatever a template raises at what it does not expect
            return False

    @cached_property
    def shows_calls(self) -> bool:
        """Test whether the chat template shows the calls of an assistant's turn."""
        return "look_up_the_tides" in (self._try(CALLED, arguments_as_text=self._arguments_as_text) or "")

    @cached_property
    def _shows_results(self) -> bool:
        """Test whether the chat template shows calls and what came of them. One that refuses them will say so when a
        prompt has some, so it counts as one that does."""
        shown = self._try([*CALLED, RESULT], arguments_as_text=self._arguments_as_text)
        return shown is None or (self.shows_calls and RESULT["content"] in shown)

    @cached_property
    def _arguments_as_text(self) -> bool:
        """Test whether the chat template wants the arguments of a call as JSON text: most take the object."""
        return self._try(CALLED) is None and self._try(CALLED, arguments_as_text=True) is not None

    def _try(self, turns: Sequence[Message], *, arguments_as_text: bool = False) -> str | None:
        """Render turns, None where the template refuses them."""
        try:
            return str(self._template([_as_text(turn) if arguments_as_text else turn for turn in turns], None))
        except Exception:  # whatever a template raises
            return None

    # ------------------------------------------------------------ messages

    def _prepare(self, prompt: Prompt) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
        """Return messages as the template takes them, and the tools that it shows."""
        turns = [dict(message) for message in prompt.turns if message["role"] != "system"]
        if any("tool_calls" in turn for turn in turns):
            results = any(turn["role"] == "tool" for turn in turns)
            if not (self._shows_results if results else self.shows_calls):
                turns = [_tell(turn) for turn in turns]
            elif self._arguments_as_text:
                turns = [_as_text(turn) for turn in turns]
        if system := self._tell_system(prompt):
            if self.system_in_user and turns[0]["role"] == "user":
                turns[0]["content"] = f"{system}\n\n{turns[0]['content']}"
            else:
                turns.insert(0, {"role": "user" if self.system_in_user else "system", "content": system})
        return turns, (self._tools(prompt) or None) if self.shows_tools else None

    def _tell_system(self, prompt: Prompt) -> str:
        """Write the system message, with the tools that the template does not show."""
        tools = [] if self.shows_tools else self._tools(prompt)
        return "\n\n".join(filter(None, (prompt.system, describe_tools(tools) if tools else "")))

    def _tools(self, prompt: Prompt) -> list[dict[str, Any]]:
        value = prompt.columns.get("tools")
        if not value:
            return []
        try:
            return read_tools(value)
        except ValueError as error:
            raise InputError(f"pool.source: the prompt {prompt.text[:40]!r}: {error}") from None

    # ------------------------------------------------------------ the template

    def _template(self, turns: Sequence[Message], tools: Sequence[Any] | None, **options: Any) -> Any:
        """Raises whatever a template does, and transformers."""
        return self.tokenizer.apply_chat_template(
            list(turns), tools=tools, tokenize=False, **options, **self.template_kwargs
        )

    def _apply(self, turns: Sequence[Message], tools: Sequence[Any] | None, **options: Any) -> str:
        try:
            return str(self._template(turns, tools, **options))
        except Exception as error:  # a template raises what it likes
            raise InputError(self._explain(turns, tools, options, _say(error))) from None

    def _explain(
        self, turns: Sequence[Message], tools: Sequence[Any] | None, options: Mapping[str, Any], said: str
    ) -> str:
        """Say what a template refuses, by trying without it."""
        model = self.tokenizer.name_or_path or "the model"
        if turns[0]["role"] == "system":
            try:
                self._template(turns[1:], tools, **options)
            except Exception as error:
                said = _say(error)
            else:
                return (
                    f"pool.system_prompt: the chat template of {model} refuses a system message ({said}); "
                    "pool.system_in_user=true puts it at the head of the user's message"
                )
        if any(turn["role"] == "tool" or "tool_calls" in turn for turn in turns):
            return (
                f"pool.source: the chat template of {model} cannot render these turns with tool calls ({said}); "
                "take a model whose template can, or leave such rows out"
            )
        roles = ", ".join(turn["role"] for turn in turns[:8])
        return (
            f"pool.source: the chat template of {model} cannot render the turns {roles} ({said}); "
            "take a model whose template can, or leave such rows out"
        )

    def _tokenize(self, text: str) -> list[int]:
        # A chat template writes the special tokens itself.
        ids: list[int] = self.tokenizer(text, add_special_tokens=not self.chat)["input_ids"]
        return ids


def describe_tools(tools: Sequence[Any]) -> str:
    """Describe tools for a chat template that does not show them; calls are as rewards/function_call.py takes them."""
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return (
        "You can call these functions, given as JSON, one a line:\n"
        f"<tools>\n{listed}\n</tools>\n"
        "For each call write its name and arguments as JSON between tags, and nothing after it:\n"
        '<tool_call>\n{"name": "...", "arguments": {...}}\n</tool_call>'
    )


def _say(error: Exception) -> str:
    return " ".join(str(error).split())[:TOLD] or type(error).__name__


def _as_text(turn: Mapping[str, Any]) -> dict[str, Any]:
    """Write the arguments of the calls of a turn as JSON text, as OpenAI's API has them."""
    if "tool_calls" not in turn:
        return dict(turn)
    calls = [
        call | {"function": call["function"] | {"arguments": json.dumps(call["function"]["arguments"])}}
        for call in turn["tool_calls"]
    ]
    return {**turn, "tool_calls": calls}


def _tell(turn: Mapping[str, Any]) -> dict[str, Any]:
    """Write calls and what came of them into the content, for a template that does not show them."""
    if turn["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{turn['content']}\n</tool_response>"}
    return {"role": turn["role"], "content": write_turn(turn)}
