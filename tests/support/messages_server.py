"""A real HTTP server that speaks the Messages API as a script says: right answers, and every fault of a night."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
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


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((headers, json.loads(body)))
        turn = self.server.next_turn()
        try:
            turn(self)
        except OSError:  # the client gave up
            self.close_connection = True

    def send(self, content: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Takes the turns of ``script`` one by one, then its last again and again. Use it as a context."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, script: Iterable[Turn]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = list(script)
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.over = Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

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


# ---------------------------------------------------------------- turns


def message(*blocks: Mapping[str, Any], usage: Any = USAGE, **more: Any) -> Turn:
    body = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "scripted", "stop_reason": "tool_use",
        "stop_sequence": None, "content": list(blocks), "usage": usage,
    }  # fmt: skip
    return raw(json.dumps(body | more).encode())


def call(answer: Any, *, tool: str = "decide", **more: Any) -> Turn:
    return message({"type": "tool_use", "id": "toolu_1", "name": tool, "input": answer}, **more)


def good(**changes: Any) -> Turn:
    return call(GOOD | changes)


def text(words: str) -> Turn:
    return message({"type": "text", "text": words}, stop_reason="end_turn")


def raw(content: bytes, **options: Any) -> Turn:
    return lambda handler: handler.send(content, **options)


def error(status: int, kind: str, said: str = "not now", **headers: str) -> Turn:
    body = {"type": "error", "error": {"type": kind, "message": said}}
    return raw(json.dumps(body).encode(), status=status, headers={"retry-after": "0", **headers})


def hang(handler: Handler) -> None:
    handler.server.over.wait(60)
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
