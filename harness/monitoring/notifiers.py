"""Deliver alerts by a webhook or a command, tried again at growing intervals; describe failures in words.

An address is a secret: whoever has it can post there. A spec names the environment variable that holds it, and no
message of ours says more of it than the host.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Protocol
from urllib import error, request
from urllib.parse import urlsplit

from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_exponential

from harness import __version__
from harness.config.names import VARIABLE
from harness.errors import InputError

PLACE = re.compile(r"\{(text|title|run|event)\}")
ATTEMPT_S = 10.0
"""One attempt as a whole."""
ATTEMPTS = 5
PAUSE_S = 1.0
"""After the first attempt; doubled each time."""
LIMIT_S = 45.0
"""No attempt begins later."""
PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
"""With every 5xx: answers that may be another one in a moment."""

Message = Mapping[str, Any]


class Undelivered(Exception):
    """What went wrong, without any secret. ``passing``: another attempt may work."""

    def __init__(self, what: str, *, passing: bool = True) -> None:
        super().__init__(what)
        self.passing = passing


class Hook(Protocol):
    """``name`` is shown to people. ``send`` makes one attempt, which ends. Raises Undelivered."""

    name: str

    def send(self, message: Message) -> None: ...


def build_hooks(webhook: str | None, command: Sequence[str] | None) -> list[Hook]:
    """Build the notifiers of the spec's [alerts]. Raises InputError for what could not work on this machine."""
    hooks: list[Hook] = []
    if webhook:
        hooks.append(Webhook(_expand(webhook)))
    if command:
        if shutil.which(command[0]) is None:
            raise InputError(f"alerts.command: there is no program {command[0]}")
        hooks.append(Command(command))
    return hooks


def deliver(hook: Hook, message: Message) -> str:
    """Try until it works or cannot. Return the failure in words, empty when delivered."""
    retrying = Retrying(
        retry=retry_if_exception(lambda fault: isinstance(fault, Undelivered) and fault.passing),
        stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(LIMIT_S),
        wait=wait_exponential(multiplier=PAUSE_S),
        reraise=True,
    )
    try:
        retrying(hook.send, message)
    except Undelivered as fault:
        tried = retrying.statistics["attempt_number"]
        return f"{hook.name}: {fault}" + (f" ({tried} attempts)" if tried > 1 else "")
    return ""


# ---------------------------------------------------------------- webhook


class Webhook:
    """POSTs the message as JSON. Redirects are not followed: they would be asked with GET, which posts nothing."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.name = f"webhook to {urlsplit(url).hostname}"

    def send(self, message: Message) -> None:
        """Send in a thread of its own: urllib limits the time between two bytes, and a trickle would never end."""
        box: SimpleQueue[Undelivered | None] = SimpleQueue()
        Thread(target=lambda: box.put(self._post(message)), name="webhook", daemon=True).start()
        try:
            fault = box.get(timeout=ATTEMPT_S)
        except Empty:
            fault = Undelivered(f"no answer within {ATTEMPT_S:g} s")
        if fault is not None:
            raise fault

    def _post(self, message: Message) -> Undelivered | None:
        # Some receivers turn away the name that urllib gives itself.
        headers = {"Content-Type": "application/json", "User-Agent": f"grpo-harness/{__version__}"}
        asked = request.Request(self._url, json.dumps(message).encode(), headers, method="POST")
        try:
            with request.build_opener(_NoRedirect).open(asked, timeout=ATTEMPT_S):
                return None
        except error.HTTPError as answer:
            answer.close()
            said = f"HTTP {answer.code} {http.client.responses.get(answer.code, '')}".strip()
            return Undelivered(said, passing=answer.code >= 500 or answer.code in PASSING)
        except error.URLError as fault:
            return Undelivered(_describe(fault.reason))
        except (OSError, http.client.HTTPException) as fault:
            return Undelivered(_describe(fault))
        except Exception as fault:  # not its text, which may hold the address
            return Undelivered(type(fault).__name__, passing=False)


class _NoRedirect(request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _describe(fault: object) -> str:
    """Say what the system calls it; never an exception's own text."""
    if isinstance(fault, TimeoutError):
        return f"no answer within {ATTEMPT_S:g} s"
    said = fault.strerror if isinstance(fault, OSError) else None
    return said or type(fault).__name__


def _expand(webhook: str) -> str:
    """Put environment variables in their places in an address. Raises InputError that tells nothing of them."""

    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        if not os.environ.get(name):
            raise InputError(f"alerts.webhook: the environment variable {name} is not set")
        return os.environ[name].strip()

    url = VARIABLE.sub(value, webhook)
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        sound = False
    if not sound or not url.isascii() or not url.isprintable() or " " in url:
        raise InputError(
            f"alerts.webhook: {webhook} is no address: it must be https://host/path, in ASCII, without user@ in it"
        )
    return url


# ---------------------------------------------------------------- command


class Command:
    """Runs a program, without a shell: the message as JSON on its stdin, and in its words {text}, {title}, {run} and
    {event} replaced."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words
        self.name = f"command {words[0]}"

    def send(self, message: Message) -> None:
        words = [PLACE.sub(lambda found: str(message[found.group(1)]), word) for word in self.words]
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, text=True
            )
        except (OSError, ValueError) as fault:
            raise Undelivered(_describe(fault), passing=False) from None
        try:
            process.communicate(json.dumps(message), timeout=ATTEMPT_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it started too
            process.wait()
            raise Undelivered(f"had not ended after {ATTEMPT_S:g} s") from None
        if process.returncode:
            raise Undelivered(f"exit code {process.returncode}")
