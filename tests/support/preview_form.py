"""A hosted evaluator for real: the preview form of reward-kit, which runs what is posted to it, and every fault.

form = PreviewForm([busy, judge])                 # turns, the last again and again
with serve(form) as url: ...                      # or give a request of another server to form.answer(handler)
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

PATH = "/v1/accounts/{account}/evaluators:previewEvaluator"
KEY, ACCOUNT = "fw_0123456789abcdef", "my-account"

JUDGE = """
import json, sys
sys.path[:0] = [{folder!r}]
sys.path += {installed!r}  # without its .pth files: what is installed for editing is not there
import main
for line in sys.stdin:
    try:
        made = main.evaluate(**json.loads(line))
        answer = {{"success": True, "score": made["score"], "perMetricEvals": made["metrics"]}}
    except Exception as error:
        answer = {{"success": False, "score": 0, "perMetricEvals": {{"error": f"{{type(error).__name__}}: {{error}}"}}}}
    print(json.dumps(answer), flush=True)
"""


@dataclass(frozen=True)
class Asked:
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


Turn = Callable[["PreviewForm", BaseHTTPRequestHandler, dict[str, Any]], None]
"""What is done with one request."""


class PreviewForm:
    """Takes the turns of ``script`` one by one, then its last again and again; ``asked`` is what came."""

    def __init__(self, script: Iterable[Turn] = ()) -> None:
        self.script = list(script) or [judge]
        self.asked: list[Asked] = []
        self.over = Event()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        self.asked.append(Asked(handler.path, {n.lower(): v for n, v in handler.headers.items()}, body))
        turn = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        try:
            turn(self, handler, body)
        except OSError:  # the client gave up
            handler.close_connection = True


@contextmanager
def serve(form: PreviewForm) -> Iterator[str]:
    """The base of a server that knows this form alone."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form.answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        form.over.set()
        server.shutdown()
        server.server_close()


# ---------------------------------------------------------------- turns


def judge(form: PreviewForm, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    """Run the posted files in a folder of their own, with the installed packages and nothing else of this project."""
    send(handler, json.dumps(run_evaluator(body)).encode())


def but(change: Callable[[list[dict[str, Any]]], Any]) -> Turn:
    """The true answer after ``change`` to its results, which may return other ones."""

    def turn(form: PreviewForm, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        document = run_evaluator(body)
        document["results"] = change(document["results"]) or document["results"]
        send(handler, json.dumps(document).encode())

    return turn


def run_evaluator(body: Mapping[str, Any]) -> dict[str, Any]:
    [criterion] = body["evaluator"]["criteria"]
    with tempfile.TemporaryDirectory() as folder:
        for name, text in criterion["codeSnippets"]["fileContents"].items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        code = JUDGE.format(folder=folder, installed=[path for path in sys.path if path.endswith("site-packages")])
        ran = subprocess.run(
            [sys.executable, "-I", "-S", "-B", "-c", code],
            input="".join(f"{sample}\n" for sample in body["sampleData"][: body["maxSamples"]]),
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )
    failed = {"success": False, "score": 0, "perMetricEvals": {"error": ran.stderr.strip().rpartition("\n")[2]}}
    results = [json.loads(line) for line in ran.stdout.splitlines()] or [failed] * len(body["sampleData"])
    return {"totalSamples": len(results), "totalRuntimeMs": "130", "results": results}


def raw(content: bytes, *, status: int = 200, **headers: str) -> Turn:
    return lambda _form, handler, _body: send(handler, content, status=status, headers=headers)


def send(
    handler: BaseHTTPRequestHandler, content: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> None:
    handler.send_response(status)
    for name, value in {"content-type": "application/json", **(headers or {})}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("content-length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def hang(form: PreviewForm, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    form.over.wait(60)
    handler.close_connection = True


def trickle(form: PreviewForm, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    """A byte now and then, for ever: no time between two bytes is long."""
    handler.send_response(200)
    handler.send_header("content-length", "1000000")
    handler.end_headers()
    with suppress(OSError):
        while not form.over.is_set():
            handler.wfile.write(b" ")
            time.sleep(0.05)


def cut(form: PreviewForm, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    """Half an answer, then nothing."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"results": [')
    handler.close_connection = True


def drop(form: PreviewForm, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    """No answer at all."""
    handler.close_connection = True
    handler.connection.close()
