"""Alerts over a real network and to real programs, with the faults of both."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config.load import parse_spec
from harness.errors import InputError
from harness.monitoring import notifiers as hooks
from harness.monitoring.notifiers import build_hooks, deliver
from tests.support.answers_server import Handler, Server, Turn, cut_at_once, hang, raw

SECRET = "T0KEN-9f2c"
MESSAGE = {"text": "night finished; $(touch gone)", "title": "night", "run": "night", "event": "finished"}

OK = raw(b"ok")
BROKEN = raw(b"no", status=500)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "PAUSE_S", 0.01)
    monkeypatch.setattr(hooks, "ATTEMPT_S", 0.5)


Post = Callable[..., tuple[str, list[tuple[dict[str, str], dict[str, Any]]]]]


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Post:
    def post(*script: Turn) -> tuple[str, list[tuple[dict[str, str], dict[str, Any]]]]:
        with Server(script) as server:
            monkeypatch.setenv("HOOK", f"{server.url}/services/{SECRET}")
            (hook,) = build_hooks("${HOOK}", None)
            return deliver(hook, MESSAGE), server.requests

    return post


def test_it_is_posted_as_json(post: Post) -> None:
    fault, requests = post(OK)
    ((headers, body),) = requests
    assert fault == ""
    assert body == MESSAGE
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("grpo-harness/")


@pytest.mark.parametrize("turn", [BROKEN, raw(b"slow down", status=429), cut_at_once], ids=["500", "429", "cut off"])
def test_what_may_pass_is_tried_again(post: Post, turn: Turn) -> None:
    fault, requests = post(turn, turn, OK)
    assert fault == ""
    assert len(requests) == 3


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 410])
def test_what_will_not_pass_is_not(post: Post, status: int) -> None:
    fault, requests = post(raw(b"no", status=status, headers={"location": "/elsewhere"}))
    assert f"HTTP {status}" in fault
    assert len(requests) == 1


def test_a_receiver_that_stays_broken_is_given_up(post: Post) -> None:
    fault, requests = post(BROKEN)
    assert fault == "webhook to 127.0.0.1: HTTP 500 Internal Server Error (5 attempts)"
    assert len(requests) == hooks.ATTEMPTS


def trickle_a_status(handler: Handler) -> None:
    while not handler.server.over.wait(0.05):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nx: y\r\n"[:1])
        handler.wfile.flush()


@pytest.mark.parametrize("turn", [hang, trickle_a_status])
def test_a_receiver_that_hangs_or_trickles_costs_its_time_and_no_more(
    post: Post, turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "ATTEMPTS", 2)
    assert "no answer within 0.5 s (2 attempts)" in post(turn)[0]


def test_no_attempt_begins_after_the_limit(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "LIMIT_S", 0.2)
    assert len(post(hang)[1]) == 1


def test_a_refused_connection_is_told_without_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{port}/{SECRET}")
        (hook,) = build_hooks("${HOOK}", None)
        assert deliver(hook, MESSAGE) == "webhook to 127.0.0.1: Connection refused (5 attempts)"


def test_a_host_that_nobody_knows_is_told_without_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "ATTEMPTS", 1)
    monkeypatch.setenv("TOKEN", SECRET)
    (hook,) = build_hooks("http://nowhere.invalid/${TOKEN}?x=${TOKEN}", None)
    fault = deliver(hook, MESSAGE)
    assert fault.startswith("webhook to nowhere.invalid: ")
    assert SECRET not in fault


@pytest.mark.parametrize(
    ("webhook", "value", "said"),
    [
        ("${HOOK}", None, "the environment variable HOOK is not set"),
        ("${HOOK}", "", "the environment variable HOOK is not set"),
        ("${HOOK}", f"ftp://host/{SECRET}", "${HOOK} is no address"),
        ("${HOOK}", f"file:///etc/{SECRET}", "${HOOK} is no address"),
        ("${HOOK}", f"hooks.slack.com/{SECRET}", "${HOOK} is no address"),
        ("${HOOK}", f"https://user:{SECRET}@host/x", "${HOOK} is no address"),
        ("${HOOK}", f"https://host:port/{SECRET}", "${HOOK} is no address"),
        ("${HOOK}", f"https://host/{SECRET} x", "${HOOK} is no address"),
        ("${HOOK}", f"https://host/{SECRET}\r\nx: y", "${HOOK} is no address"),
        ("${HOOK}", f"https://[host/{SECRET}", "${HOOK} is no address"),
        ("https://host/${HOOK}", "a\nb", "https://host/${HOOK} is no address"),
    ],
)
def test_a_wrong_address_is_refused_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch, webhook: str, value: str | None, said: str
) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    if value is not None:
        monkeypatch.setenv("HOOK", value)
    with pytest.raises(InputError) as refusal:
        build_hooks(webhook, None)
    assert f"alerts.webhook: {said}" in str(refusal.value)
    assert SECRET not in str(refusal.value)


def test_an_address_in_the_spec_is_refused_without_repeating_it() -> None:
    with pytest.raises(InputError, match=r"alerts\.webhook: whoever has the address can post there") as refusal:
        parse_spec({"alerts": {"webhook": f"https://hooks.example.com/{SECRET}"}})
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    ("alerts", "said"),
    [
        ({"command": []}, "alerts.command"),
        ({"command": "notify-send hello"}, "alerts.command: must be a valid list"),
        ({"on": ["finised"]}, "alerts.on.0: must be 'finished'"),
        ({"webhok": "x"}, "did you mean webhook?"),
    ],
)
def test_a_wrong_section_names_its_field(alerts: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refusal:
        parse_spec({"alerts": alerts})
    assert said in str(refusal.value)


# ---------------------------------------------------------------- command


def run(*words: str) -> str:
    (hook,) = build_hooks(None, words)
    return deliver(hook, MESSAGE)


def test_a_command_gets_json_on_stdin_and_words_that_no_shell_reads(tmp_path: Path) -> None:
    code = "import json, sys; json.dump([sys.argv[1:], json.load(sys.stdin)], open(sys.argv[1], 'w'))"
    file = tmp_path / "told.json"
    assert run(sys.executable, "-c", code, str(file), "{run}: {text}", "{unknown} {}") == ""
    words, stdin = json.loads(file.read_text())
    assert words[1:] == ["night: night finished; $(touch gone)", "{unknown} {}"]
    assert stdin == MESSAGE
    assert not Path("gone").exists()


def test_a_command_that_reads_nothing_is_fine() -> None:
    assert run("true") == ""


def test_a_command_that_fails_is_tried_again_and_told(tmp_path: Path) -> None:
    file = tmp_path / "tries"
    code = "import sys; open(sys.argv[1], 'a').write('x'); sys.exit(len(open(sys.argv[1]).read()) < 3)"
    assert run(sys.executable, "-c", code, str(file)) == ""
    assert file.read_text() == "xxx"
    assert run("false") == "command false: exit code 1 (5 attempts)"


def test_a_command_that_hangs_is_ended_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "ATTEMPTS", 1)
    file = tmp_path / "pid"
    assert run("sh", "-c", f"sleep 60 & echo $! > {file}; wait") == "command sh: had not ended after 0.5 s"
    child = int(file.read_text())
    until = time.monotonic() + 10
    while time.monotonic() < until and _lives(child):
        time.sleep(0.02)
    assert not _lives(child)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_program_that_is_not_there_is_refused_before_a_run() -> None:
    with pytest.raises(InputError, match=r"alerts\.command: there is no program nosuchprogram"):
        build_hooks(None, ["nosuchprogram"])


def test_a_program_that_has_gone_since_is_told_at_once(tmp_path: Path) -> None:
    program = tmp_path / "tell"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (hook,) = build_hooks(None, [str(program)])
    program.unlink()
    assert deliver(hook, MESSAGE) == f"command {program}: No such file or directory"
