"""One request at a time over one connection, which always ends: in the content of an answer, or in a Fault.

It is asked in a thread of its own, since the clients limit the time between two bytes, and a trickle would never end.
Once nobody waits any more the connection is shut, so that the service sees it too and nothing stays under way.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from types import ModuleType
from typing import Any

from harness.llm.faults import Barred, Fault, Interrupted, Passing, Unreachable, read_retry_after
from harness.llm.forms import Form, text_of
from harness.llm.keys import Key
from harness.llm.ledger import LOOK_S, Halted

NO_MONEY = "insufficient_quota"
"""A 429 of OpenAI's that does not pass."""
STATUS_BARRED = (401, 402, 403, 404, 412)
STATUS_PASSING = (408, 409, 429)
STATUS_BILLED = (408, 502, 504)
"""Said by what stands before the model, which may have answered."""


@dataclass(eq=False)
class Wire:
    """What is seen of a connection from inside its client. ``sent``: the last request began to leave."""

    sent: bool = False
    socket: Any = None
    cut: bool = False

    def watch(self, request: Any) -> None:
        request.extensions["trace"] = self._trace

    def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        if name in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self.socket = info["return_value"].get_extra_info("socket")
        if self.cut:  # while it was connecting
            self.shut()
            raise ConnectionAbortedError
        if name.endswith("send_request_headers.started"):
            self.sent = True
        elif name.endswith("receive_response_headers.complete"):
            # A server that writes its body apart waits for this acknowledgement, which the system would put off 40 ms.
            with suppress(Exception):
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def shut(self) -> None:
        self.cut = True
        with suppress(Exception):  # it may be closed already, or not be there
            self.socket.shutdown(socket.SHUT_RDWR)


@dataclass(eq=False)
class Connection:
    """One connection of a client of its own. ``usable``: it was not shut. ``http`` are options of each."""

    form: Form
    sdk: ModuleType
    key: Key
    http: Mapping[str, Any]
    usable: bool = True
    _wire: Wire = field(default_factory=Wire)
    _send: Callable[..., Any] | None = None
    _close: Callable[[], None] | None = None
    _box: SimpleQueue[bytes | Fault] = field(default_factory=SimpleQueue)

    def ask(self, request: Mapping[str, Any], time_limit: float, halted: Halted) -> bytes:
        """Return the content of the answer. Raises Fault."""
        self._wire.sent = False
        if self._send is None:
            hooks = {"request": [self._wire.watch]}
            # A redirect would take the key to another host.
            options = {**self.http, "follow_redirects": False, "event_hooks": hooks}
            try:
                self._send, self._close = self.form.connect(self.sdk, self.key.text, options)
            except Exception as error:
                why = f"the call failed: {type(error).__name__}; is {self.form.url_variable} an address?"
                raise Barred(why) from None
        Thread(target=self._call, args=(self._send, request, time_limit), name="llm", daemon=True).start()
        try:
            content = self._wait(time_limit, halted)
        except BaseException:
            self.usable = False
            self._wire.shut()
            raise
        if isinstance(content, Fault):
            raise content
        return content

    def _call(self, send: Callable[..., Any], request: Mapping[str, Any], time_limit: float) -> None:
        try:
            self._box.put(send(**request, timeout=time_limit).http_response.content)
        except Exception as error:
            self._box.put(self._explain(error, time_limit))

    def _wait(self, time_limit: float, halted: Halted) -> bytes | Fault:
        until = time.monotonic() + time_limit
        while (left := until - time.monotonic()) > 0:
            if halted.is_set():
                raise Interrupted("interrupted while waiting for its answer", billed=self._wire.sent)
            try:
                return self._box.get(timeout=min(LOOK_S, left))
            except Empty:
                continue
        raise Passing(f"no answer within {time_limit:g} s", billed=self._wire.sent)

    def __del__(self) -> None:
        if self._close is not None:
            with suppress(Exception):
                self._close()

    def _explain(self, error: Exception, time_limit: float) -> Fault:
        sdk = self.sdk
        if isinstance(error, sdk.APITimeoutError):
            return Passing(f"no answer within {time_limit:g} s", billed=self._wire.sent)
        if isinstance(error, sdk.APIStatusError):
            return self._explain_status(error.status_code, error.response)
        if isinstance(error, sdk.APIConnectionError) or type(error).__module__.startswith("httpx"):
            if not self._wire.sent:
                return Unreachable(f"the connection failed: nobody answers at {self._address()}")
            return Passing("the connection failed or was cut", billed=True)
        return Fault(f"the call failed: {type(error).__name__}", billed=self._wire.sent)

    def _address(self) -> str:
        return f"the address of {self.form.url_variable}"

    def _explain_status(self, status: int, response: Any) -> Fault:
        said = ""
        with suppress(Exception):  # the body may be cut
            said = _read_error(response.content)
        cleaned = self.key.clean(said)
        text = f"HTTP {status}" + (f" ({cleaned})" if cleaned else "")
        if status in STATUS_BARRED or (status == 429 and NO_MONEY in said):
            return Barred(text)
        if status in STATUS_PASSING or status >= 500:
            after_s = read_retry_after(response.headers.get("retry-after", ""))
            return Passing(text, billed=status in STATUS_BILLED, after_s=after_s)
        if status == 400 and "temperature" in said:
            return Barred(f"{text}; where a model takes no temperature, set it to 1")
        return Fault(text)


def _read_error(content: bytes) -> str:
    """Read what a service says of an error: its type and message, wherever they stand; "" for what is no JSON."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(body, dict):
        return ""
    inner = body.get("error", body)
    if not isinstance(inner, dict):
        return text_of(inner)
    parts = (inner.get("type"), inner.get("code"), inner.get("message"), inner.get("detail"))
    return " ".join(dict.fromkeys(text_of(part) for part in parts if text_of(part)))
