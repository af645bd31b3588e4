"""One question to an LLM over the Messages API, which always ends: in a reply, or in a Fault whose text may be kept.

Nothing of the key gets out: no text of an exception and nothing that repeats a piece of the key is passed on. The
address is that of ANTHROPIC_BASE_URL.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any

import anthropic
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential,
)
from tenacity.nap import sleep_using_event

from harness.errors import InputError

LONGEST_WAIT_S = 30.0
"""Between two attempts, whatever the server asks for."""
LOOK_S = 0.1
"""How often it is looked whether the run was interrupted."""
MOST_TOKENS = 10**9
KEY_PIECE = 8
"""Characters of the key that, in a row, count as the key."""


class Fault(Exception):
    """There is no reply. ``str()`` is one line without secrets."""


class Passing(Fault):
    """One that may be over at the next attempt, ``after_s`` seconds from now if the server said when."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


@dataclass(frozen=True)
class Reply:
    """``calls`` are the tool calls as (name, input), as they came; nothing of them is checked."""

    calls: tuple[tuple[Any, Any], ...]
    tokens_in: int
    tokens_out: int


@dataclass(eq=False)
class MessagesApi:
    """``time_limit`` in seconds is for one attempt as a whole. ``interrupted`` ends any wait at once."""

    key: str = field(repr=False)
    _: KW_ONLY
    model: str
    max_tokens: int
    time_limit: float
    attempts: int
    interrupted: Event
    _client: anthropic.Anthropic | None = field(default=None, init=False)

    def ask(self, system: str, question: str, tool: Mapping[str, Any]) -> Reply:
        """Ask ``question`` for an answer in one call of ``tool``. Raises Fault."""
        if not self.key:
            raise Fault("ANTHROPIC_API_KEY is not set")
        request = {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "system": system,
            "messages": [{"role": "user", "content": question}],
            "tools": [tool],
            "tool_choice": {"type": "tool", "name": tool["name"], "disable_parallel_tool_use": True},
        }
        retrying = Retrying(
            retry=retry_if_exception_type(Passing),
            stop=stop_after_attempt(self.attempts) | stop_when_event_set(self.interrupted),
            wait=_wait_s,
            sleep=sleep_using_event(self.interrupted),
            reraise=True,
        )
        return retrying(self._attempt, request)

    def _attempt(self, request: Mapping[str, Any]) -> Reply:
        """Ask in a thread of its own: the SDK limits the time between two bytes, and a trickle would never end."""
        if self.interrupted.is_set():
            raise Fault("interrupted before it was asked")
        box: SimpleQueue[bytes | Exception] = SimpleQueue()
        try:
            if self._client is None:
                # A redirect would take the key to another host.
                http = anthropic.DefaultHttpxClient(follow_redirects=False)
                self._client = anthropic.Anthropic(api_key=self.key, max_retries=0, http_client=http)
            client = self._client
        except Exception as error:
            raise self._explain(error) from None

        def call() -> None:
            try:
                reply = client.messages.with_raw_response.create(**request, timeout=self.time_limit)
                box.put(reply.http_response.content)
            except Exception as error:
                box.put(error)

        Thread(target=call, name="messages api", daemon=True).start()
        try:
            content = self._wait_for(box)
        except BaseException:  # the thread is left to its end, with its connection
            self._client = None
            client.close()
            raise
        if isinstance(content, Exception):
            raise self._explain(content) from None
        if len(self.key) >= KEY_PIECE and self.key.encode() in content:
            raise Fault("the answer repeats the key")
        return _read(content)

    def _wait_for(self, box: SimpleQueue[bytes | Exception]) -> bytes | Exception:
        until = time.monotonic() + self.time_limit
        while (left := until - time.monotonic()) > 0:
            if self.interrupted.is_set():
                raise Fault("interrupted while waiting for its answer")
            try:
                return box.get(timeout=min(LOOK_S, left))
            except Empty:
                continue
        raise Passing(f"no answer within {self.time_limit:g} s")

    def _explain(self, error: Exception) -> Fault:
        if isinstance(error, anthropic.APITimeoutError):
            return Passing(f"no answer within {self.time_limit:g} s")
        if isinstance(error, anthropic.APIConnectionError):
            return Passing("the connection failed or was cut")
        if isinstance(error, anthropic.APIStatusError):
            status = error.status_code
            said = self._safe(f"{error.type or ''} {error.api_message or ''}")
            text = f"HTTP {status}" + (f" ({said})" if said else "")
            if status in (408, 409, 429) or status >= 500:
                return Passing(text, _after_s(error.response.headers.get("retry-after", "")))
            return Fault(text)
        return Fault(f"the call failed: {type(error).__name__}")

    def _safe(self, text: str) -> str:
        """Put what a server said on one short line; leave it out if it repeats a piece of the key."""
        pieces = (self.key[i : i + KEY_PIECE] for i in range(max(1, len(self.key) - KEY_PIECE + 1)))
        if any(piece in text for piece in pieces) or re.search(r"sk-[\w-]{6}", text):
            return "what it said repeats the key"
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]


def _wait_s(state: RetryCallState) -> float:
    """Wait as long as the server asked for, else 1, 2, 4 ... seconds. No chance in it: a run seeds all it does."""
    fault = state.outcome.exception() if state.outcome else None
    asked = fault.after_s if isinstance(fault, Passing) else None
    return min(LONGEST_WAIT_S, wait_exponential()(state) if asked is None else asked)


def _after_s(header: str) -> float | None:
    """Read the seconds of a Retry-After header; a date or nonsense is None."""
    try:
        seconds = float(header)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _read(content: bytes) -> Reply:
    """Read a message. Raises Fault for what is none at all."""
    try:
        message = json.loads(content)
    except (ValueError, RecursionError):
        raise Fault("the answer is no JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        raise Fault("the answer is no message")
    blocks = [block for block in message["content"] if isinstance(block, dict)]
    calls = tuple((block.get("name"), block.get("input")) for block in blocks if block.get("type") == "tool_use")
    usage = message.get("usage")
    counted = usage if isinstance(usage, dict) else {}
    read = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return Reply(calls, sum(_count(counted.get(name)) for name in read), _count(counted.get("output_tokens")))


def _count(tokens: object) -> int:
    """Read a number of tokens that the record can hold; 0 for nonsense."""
    if isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens <= MOST_TOKENS:
        return tokens
    return 0


def api_key() -> str:
    """Read the LLM's key, "" without one. Raises InputError for what no header can hold."""
    key = os.environ.get("ANTHROPIC_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError("ANTHROPIC_API_KEY holds characters that no key has; set it again")
    return key
