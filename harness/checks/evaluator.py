"""Ask a hosted evaluator for a preview, in the form of reward-kit and eval-protocol (``evaluators:previewEvaluator``).

    service = open_service("https://api.fireworks.ai")           # with FIREWORKS_API_KEY and FIREWORKS_ACCOUNT_ID
    document = service.preview(write_request(source, samples, description="the reward of math-gsm"))
    results = read_results(document, len(samples))

A failure is a HarnessError in one line; there is never a score that the service did not give. The key gets into no
message and no record, and follows no redirect to another host.
"""

from __future__ import annotations

import configparser
import http.client
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any
from urllib import error, request
from urllib.parse import quote, urlsplit

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from harness import __version__
from harness.checks.hosting import HostedSource
from harness.errors import HarnessError, InputError
from harness.llm.faults import Fault, Passing, read_retry_after, wait_s
from harness.llm.keys import Key

KEY, ACCOUNT = "FIREWORKS_API_KEY", "FIREWORKS_ACCOUNT_ID"
AUTH_FILE = Path(".fireworks") / "auth.ini"
METHOD = "evaluators:previewEvaluator"
ENDPOINT = re.compile(rf"/v1/accounts/[^/]+/{METHOD}\Z")
ATTEMPTS = 5
TIME_LIMIT_S = 120.0
"""One attempt as a whole."""
MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Result:
    """What the evaluator says of one sample. ``said`` is its reason, empty where it gives none."""

    success: bool
    score: float
    said: str = ""


# ---------------------------------------------------------------- the service


@dataclass(frozen=True, slots=True)
class Service:
    url: str
    key: Key

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def preview(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Post a request, again where its answer may soon be another one. Return the document that came back.

        Raises HarnessError.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(Passing), stop=stop_after_attempt(ATTEMPTS), wait=wait_s, reraise=True
        )
        try:
            content = retrying(self._attempt, json.dumps(asked).encode())
            return _read_document(content, self.key)
        except (Fault, HarnessError) as fault:
            tried = retrying.statistics["attempt_number"]
            attempts = f" ({tried} attempts)" if tried > 1 else ""
            raise HarnessError(f"the evaluator at {self.host} gave no scores: {fault}{attempts}") from None

    def _attempt(self, content: bytes) -> bytes:
        """Post in a thread of its own: urllib limits the time between two bytes, and a trickle would never end."""
        box: SimpleQueue[bytes | Fault] = SimpleQueue()
        Thread(target=lambda: box.put(self._post(content)), name="evaluator", daemon=True).start()
        try:
            answer = box.get(timeout=TIME_LIMIT_S)
        except Empty:
            answer = Fault(f"no answer within {TIME_LIMIT_S:g} s")
        if isinstance(answer, Fault):
            raise answer
        return answer

    def _post(self, content: bytes) -> bytes | Fault:
        headers = {
            "Authorization": f"Bearer {self.key.text}",
            "Content-Type": "application/json",
            "User-Agent": f"grpo-harness/{__version__}",
        }
        asked = request.Request(self.url, content, headers, method="POST")
        try:
            with request.build_opener(_NoRedirect).open(asked, timeout=TIME_LIMIT_S) as answer:
                read: bytes = answer.read(MOST_BYTES)
                # With a size, read() says nothing of what is missing.
                return Fault("the answer was cut") if answer.length else read
        except error.HTTPError as answer:
            return _explain(answer, self.key)
        except error.URLError as fault:
            return Fault(_describe(fault.reason))
        except (OSError, http.client.HTTPException) as fault:
            return Fault(_describe(fault))
        except Exception as fault:  # not its text, which may hold the key
            return Fault(f"the request failed: {type(fault).__name__}")


class _NoRedirect(request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def open_service(against: str) -> Service:
    """Find the endpoint of ``against``, a base (``https://api.fireworks.ai``) or the whole endpoint, with the key and
    the account from the environment, else from ~/.fireworks/auth.ini. Raises InputError."""
    try:
        parts = urlsplit(against)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if (
        not sound
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
        or not against.isascii()
        or not against.isprintable()
        or " " in against
    ):
        shown = re.sub(r"//[^/]*@", "//...@", against).partition("?")[0]
        raise InputError(
            f"--against: {shown} is no address: give https://host or the whole https://host/v1/accounts/ACCOUNT/"
            f"{METHOD}, without user@ and without a query; or recorded:FILE"
        )
    key = _find_setting(KEY, "api_key")
    url = against.rstrip("/")
    if not ENDPOINT.search(url):
        account = quote(_find_setting(ACCOUNT, "account_id"), safe="")
        url = f"{url.removesuffix('/v1')}/v1/accounts/{account}/{METHOD}"
    return Service(url, Key(key))


def _find_setting(variable: str, option: str) -> str:
    """Find a setting in the environment or in the file of Fireworks' own clients. Raises InputError."""
    if not (value := os.environ.get(variable, "").strip()):
        file = configparser.ConfigParser(interpolation=None)
        try:
            file.read(Path.home() / AUTH_FILE, encoding="utf-8")
        except (OSError, ValueError, configparser.Error):  # not its text, which may hold a line with the key
            raise InputError(f"--against: cannot read ~/{AUTH_FILE}: set {variable}, or fix the file") from None
        value = file.get("fireworks", option, fallback="").strip()
    if not value:
        raise InputError(
            f"--against: a hosted evaluator needs the environment variable {variable}, or {option} under [fireworks] "
            f"in ~/{AUTH_FILE}; set one of them"
        )
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise InputError(f"--against: {variable} holds characters that it cannot have; set it again")
    return value


# ---------------------------------------------------------------- request and answer


def write_request(source: HostedSource, samples: Sequence[Mapping[str, Any]], *, description: str) -> dict[str, Any]:
    """Write the body of a request: the evaluator, and each sample as JSON in a string."""
    code = {"language": "python", "fileContents": dict(source.files)}
    criterion = {
        "type": "CODE_SNIPPETS",
        "name": source.name,
        "description": f"Metric: {source.name}",
        "codeSnippets": code,
    }
    return {
        "evaluator": {
            "displayName": source.name,
            "description": description,
            "multiMetrics": True,
            "criteria": [criterion],
            "requirements": source.requirements,
            "rollupSettings": {"skipRollup": True},
        },
        "sampleData": [json.dumps(sample) for sample in samples],
        "maxSamples": len(samples),
    }


def read_results(document: Mapping[str, Any], n: int) -> list[Result]:
    """Read the result of each of ``n`` samples, in the order sent. Raises HarnessError where they are not these."""
    results = document["results"]
    if len(results) != n:
        raise HarnessError(f"the evaluator gave {len(results)} results for {n} samples, so none is known to be whose")
    return [_read_result(i, result) for i, result in enumerate(results)]


def read_runtime_ms(document: Mapping[str, Any]) -> int | None:
    """Read how long the evaluator took; None where it does not say. An int64 is a string in this form of JSON."""
    try:
        return int(document["totalRuntimeMs"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def check_document(document: Any) -> dict[str, Any]:
    """Check that it is the answer to a preview. Raises HarnessError."""
    if not isinstance(document, dict) or not isinstance(document.get("results"), list):
        said = _message_of(document)
        raise HarnessError(f"the answer holds no results{f': {said}' if said else ''}")
    return document


def _read_result(i: int, result: Any) -> Result:
    if not isinstance(result, dict):
        raise HarnessError(f"result {i + 1} of the evaluator is no object")
    success, score, metrics = result.get("success", False), result.get("score", 0.0), result.get("perMetricEvals")
    if not isinstance(success, bool):
        raise HarnessError(f"result {i + 1} of the evaluator has a success that is neither true nor false")
    number = isinstance(score, int | float) and not isinstance(score, bool)
    if not number or not math.isfinite(score):
        raise HarnessError(f"result {i + 1} of the evaluator has a score that is no number")
    said = [_message_of(value) for value in metrics.values()] if isinstance(metrics, dict) else []
    return Result(success, float(score), "; ".join(dict.fromkeys(filter(None, [_message_of(result), *said]))))


def _read_document(content: bytes, key: Key) -> dict[str, Any]:
    if not content.strip():
        raise HarnessError("the answer is empty")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        page = content.lstrip()[:1] == b"<"
        raise HarnessError("the answer is an HTML page and no JSON" if page else "the answer is no JSON") from None
    if key.is_in(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")):  # it may come with escapes
        raise HarnessError("the answer repeats the key")
    try:
        return check_document(document)
    except HarnessError as fault:
        raise HarnessError(key.clean(str(fault))) from None


# ---------------------------------------------------------------- failures


def _explain(answer: error.HTTPError, key: Key) -> Fault:
    """Say what an HTTP error says, in any of the forms that are about."""
    said = f"HTTP {answer.code} {http.client.responses.get(answer.code, '')}".strip()
    if 300 <= answer.code < 400:
        where = urlsplit(answer.headers.get("location") or "").netloc
        to = f" to {key.clean(where)}" if where else ""
        answer.close()
        return Fault(f"{said}: it points{to}, and the key is taken nowhere else; give the address itself")
    try:
        content = answer.read(MOST_BYTES).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException):
        content = ""
    answer.close()
    try:
        more = _message_of(json.loads(content))
    except (ValueError, RecursionError):
        more = "" if content.startswith("<") else content
    text = f"{said}: {key.clean(more)}" if more else said
    if answer.code in (408, 429) or answer.code >= 500:
        return Passing(text, after_s=read_retry_after(answer.headers.get("retry-after") or ""))
    return Fault(text)


def _message_of(value: Any) -> str:
    """What an object says in words: its ``error``, ``message`` or ``reason``, which may be an object again."""
    for name in ("error", "message", "reason", "detail"):
        if isinstance(value, dict) and value.get(name):
            return _message_of(value[name])
    return value if isinstance(value, str) else ""


def _describe(fault: object) -> str:
    """Say what the system calls it; never an exception's own text."""
    if isinstance(fault, TimeoutError):
        return f"no answer within {TIME_LIMIT_S:g} s"
    if isinstance(fault, http.client.IncompleteRead | http.client.RemoteDisconnected):
        return "the answer was cut"
    said = fault.strerror if isinstance(fault, OSError) else None
    return f"no connection: {said or type(fault).__name__}"
