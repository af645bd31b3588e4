"""A real HTTP server that speaks the Messages API and chat completions as a script says: right answers, and every fault
of a night.

    with Server([error(429, "rate_limit_error"), text("42")]) as server: ...        # turn by turn, the last for ever
    with Server([answering(solve, latency=0.1)]) as server: ...                     # by a function of the question
    with Server([hang], routes={"/v1/other": raw(b"{}")}) as server: ...            # another path, another turn

The form of an answer is told by the path. ``requests`` are the headers and bodies that came, ``most``
how many were in flight at once at the highest.
"""

from __future__ import annotations

import json
import select
import time
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any

Turn = Callable[["Handler"], None]
"""What the server does with one request."""

GOOD: dict[str, Any] = {
    "action": "set",
    "changes": {"temperature": 0.9},
    "evidence": "completion/distinct_rate 0.80 at step 19",
    "hypothesis": "samples are a little too varied",
    "expected": {"metric": "reward/adjusted", "direction": "rises"},
    "rejected": [{"action": "set max_tokens=80", "why": "only 2% are cut"}],
}
USAGE = {"input_tokens": 2000, "output_tokens": 300}
CHAT = "/chat/completions"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    body: dict[str, Any]

    def do_POST(self) -> None:
        server = self.server
        content = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.body = json.loads(content)
        with server.lock:
            server.requests.append((headers, self.body))
            server.in_flight += 1
            server.most = max(server.most, server.in_flight)
            route = server.routes.get(self.path)
            turn = server.next_turn() if route is None else route
        try:
            turn(self)
        except OSError:  # the client gave up
            self.close_connection = True
        finally:
            self.leave()

    def leave(self) -> None:
        """Count the request as answered, once, before the client can know."""
        if not self.left:
            self.left = True
            with self.server.lock:
                self.server.in_flight -= 1

    left = False

    @property
    def chat(self) -> bool:
        return self.path.endswith(CHAT)

    @property
    def question(self) -> str:
        """The last turn as text."""
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else json.dumps(content)

    def send(self, content: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.leave()
        self.wfile.write(content)

    def parse_request(self) -> bool:
        self.left = False
        return super().parse_request()

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Takes the turns of ``script`` one by one, then its last again and again. Use it as a context."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, script: Iterable[Turn], routes: Mapping[str, Turn] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = list(script)
        self.routes = dict(routes or {})
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.lock = Lock()
        self.in_flight = self.most = 0
        self.over = Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def environment(self, key: str) -> dict[str, str]:
        """The variables by which both forms are asked here, with ``key``."""
        return {
            "ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": key,
            "OPENAI_BASE_URL": f"{self.url}/v1", "OPENAI_API_KEY": key,
        }  # fmt: skip

    def next_turn(self) -> Turn:
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def __enter__(self) -> Server:
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: Any) -> None:
        pass  # a client that has gone is part of the script


# ---------------------------------------------------------------- answers


def message(*blocks: Mapping[str, Any], usage: Any = USAGE, **more: Any) -> Turn:
    """An answer of these blocks of the Messages API, written in the form that was asked."""

    def send(handler: Handler) -> None:
        handler.send(json.dumps((_completion if handler.chat else _message)(blocks, usage) | more).encode())

    return send


def _message(blocks: Iterable[Mapping[str, Any]], usage: Any) -> dict[str, Any]:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "scripted", "stop_reason": "tool_use",
        "stop_sequence": None, "content": list(blocks), "usage": usage,
    }  # fmt: skip


def _completion(blocks: Iterable[Mapping[str, Any]], usage: Any) -> dict[str, Any]:
    said: dict[str, list[Any]] = {"text": [], "thinking": [], "tool_use": []}
    for block in blocks:
        kind = block["type"]
        said[kind].append(block if kind == "tool_use" else block[kind])
    told: dict[str, Any] = {"role": "assistant", "content": "".join(said["text"]) or None}
    if said["thinking"]:
        told["reasoning_content"] = "".join(said["thinking"])
    if said["tool_use"]:
        told["tool_calls"] = [
            {"id": one["id"], "type": "function",
             "function": {"name": one["name"], "arguments": json.dumps(one["input"])}}
            for one in said["tool_use"]
        ]  # fmt: skip
    counted = usage
    if isinstance(usage, dict):
        counted = {"prompt_tokens": usage.get("input_tokens"), "completion_tokens": usage.get("output_tokens")}
    choice = {"index": 0, "message": told, "finish_reason": "stop"}
    return {"id": "c1", "object": "chat.completion", "model": "scripted", "choices": [choice], "usage": counted}


def call(answer: Any, *, tool: str = "decide", **more: Any) -> Turn:
    return message({"type": "tool_use", "id": "toolu_1", "name": tool, "input": answer}, **more)


def good(**changes: Any) -> Turn:
    return call(GOOD | changes)


def text(words: str, *, usage: Any = USAGE, **more: Any) -> Turn:
    return message({"type": "text", "text": words}, usage=usage, **{"stop_reason": "end_turn", **more})


def thoughtful(thoughts: str, words: str) -> Turn:
    return message({"type": "thinking", "thinking": thoughts}, {"type": "text", "text": words}, stop_reason="end_turn")


def truncated(words: str, thoughts: str = "") -> Turn:
    """An answer that ``max_tokens`` cut; without ``words`` its content is null."""
    blocks = [{"type": "thinking", "thinking": thoughts}] if thoughts else []
    blocks += [{"type": "text", "text": words}] if words else []

    def send(handler: Handler) -> None:
        if handler.chat:
            body = _completion(blocks, USAGE)
            body["choices"][0]["finish_reason"] = "length"
        else:
            body = _message(blocks, USAGE) | {"stop_reason": "max_tokens"}
        handler.send(json.dumps(body).encode())

    return send


def refusal(words: str = "") -> Turn:
    def send(handler: Handler) -> None:
        if handler.chat:
            body = _completion([], USAGE)
            body["choices"][0]["message"]["refusal"] = words
        else:
            blocks = [{"type": "text", "text": words}] if words else []
            body = _message(blocks, USAGE) | {"stop_reason": "refusal"}
        handler.send(json.dumps(body).encode())

    return send


def answering(solve: Callable[[str], str], *, latency: float = 0.0, usage: Any = USAGE) -> Turn:
    """Answer each question by ``solve`` of its last turn, ``latency`` seconds later."""

    def send(handler: Handler) -> None:
        time.sleep(latency)
        text(solve(handler.question), usage=usage)(handler)

    return send


# ---------------------------------------------------------------- faults


def raw(content: bytes, **options: Any) -> Turn:
    return lambda handler: handler.send(content, **options)


def html(status: int = 200) -> Turn:
    return raw(b"<html>hello</html>", status=status, headers={"content-type": "text/html", "retry-after": "0"})


def error(status: int, kind: str, said: str = "not now", **headers: str) -> Turn:
    body = {"type": "error", "error": {"type": kind, "message": said}}
    return raw(json.dumps(body).encode(), status=status, headers={"retry-after": "0", **headers})


def hang(handler: Handler) -> None:
    """No answer, until the client has gone."""
    while not handler.server.over.is_set() and not select.select([handler.connection], [], [], 0.05)[0]:
        pass
    handler.close_connection = True


def trickle(handler: Handler) -> None:
    """A byte now and then, for ever: no time between two bytes is long."""
    handler.send_response(200)
    handler.send_header("content-length", "1000000")
    handler.end_headers()
    while not handler.server.over.wait(0.05):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def cut(handler: Handler) -> None:
    """Half an answer, then nothing."""
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"id": "msg_1", "content": [')
    handler.close_connection = True


def cut_at_once(handler: Handler) -> None:
    handler.close_connection = True
    handler.connection.close()


def slowly(turn: Turn, seconds: float) -> Turn:
    def later(handler: Handler) -> None:
        time.sleep(seconds)
        turn(handler)

    return later
