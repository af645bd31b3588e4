"""Both forms of API against a real server: what is sent, every fault, many at once, and no key in anything written."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Timer

import pytest

from harness.errors import InputError, OverBudget
from harness.llm.hosted import check_hosted, open_hosted
from harness.llm.ledger import Ledger, Price
from harness.llm.record import Recorder, read_record
from harness.llm.settings import Settings
from harness.types import Prompt, Reply
from tests.support.answers_server import (
    Handler,
    Server,
    Turn,
    answering,
    call,
    cut,
    cut_at_once,
    error,
    hang,
    html,
    message,
    raw,
    refusal,
    slowly,
    text,
    thoughtful,
    trickle,
    truncated,
)
from tests.support.questions import FORMS, ask_all, make_question, open_model

KEY = "sk-NobodyMaySeeThis-0123456789"
TOOLS = [{"type": "function", "function": {"name": "add", "description": "", "parameters": {"type": "object"}}}]
TOOL = {"name": "grade", "description": "Grade it.", "input_schema": {"type": "object"}}


@pytest.fixture(params=FORMS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("harness.llm.faults.LONGEST_WAIT_S", 0.02)
    with Server([hang]) as server:
        for name, value in server.environment(KEY).items():
            monkeypatch.setenv(name, value)
        yield server


# ---------------------------------------------------------------- what is sent and read


def test_a_question_is_sent_whole(server: Server, model: str) -> None:
    server.script = [text("1")]
    question = make_question(temperature=0.7, stop=("\n\n",))
    (reply,) = ask_all(open_model(model, ledger=Ledger({"m": Price(1, 5), FORMS[1]: Price(1, 5)})), [question])
    assert (reply.text, reply.tokens_in, reply.tokens_out, reply.cost_usd) == ("1", 2000, 300, pytest.approx(0.0035))
    assert (reply.model, reply.truncated, reply.error) == ("scripted", False, "")
    ((headers, body),) = server.requests
    assert headers["authorization"] == f"Bearer {KEY}"
    user = {"role": "user", "content": "What is 0+1?"}
    if model.startswith("anthropic"):
        assert body == {
            "model": "m", "max_tokens": 50, "temperature": 0.7, "system": "Be brief.", "messages": [user],
            "stop_sequences": ["\n\n"],
        }  # fmt: skip
    else:
        assert body == {
            "model": "accounts/x/models/m", "max_tokens": 50, "temperature": 0.7,
            "messages": [{"role": "system", "content": "Be brief."}, user], "stop": ["\n\n"],
        }  # fmt: skip


def test_turns_with_tools_reach_both_forms_and_calls_come_back_as_text(server: Server, model: str) -> None:
    server.script = [call({"a": 1}, tool="add")]
    calls = [{"id": "t1", "type": "function", "function": {"name": "add", "arguments": {"a": 2}}}]
    messages = (
        {"role": "user", "content": "2?"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "t1", "content": "4"},
        {"role": "user", "content": "And 1?"},
    )
    prompt = Prompt("p", "...", "", messages=messages, columns={"tools": TOOLS})
    (reply,) = ask_all(open_model(model), [make_question(prompt=prompt)])
    assert reply.calls == (("add", {"a": 1}),)
    assert reply.text == '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    body = server.requests[0][1]
    if model.startswith("anthropic"):
        assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
        assert body["messages"][1]["content"] == [{"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 2}}]
        assert body["messages"][2]["content"][0] == {"type": "tool_result", "tool_use_id": "t1", "content": "4"}
    else:
        assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"a": 2}'
        assert body["tools"] == TOOLS


def test_a_tool_is_the_form_of_the_answer(server: Server, model: str) -> None:
    server.script = [call({"grade": 7}, tool="grade"), text('```json\n{"grade": 8}\n```')]
    answerer = open_model(model)
    assert ask_all(answerer, [make_question(tool=TOOL)])[0].calls == (("grade", {"grade": 7}),)
    assert server.requests[0][1]["tool_choice"]["type"] in ("tool", "function")
    (written,) = ask_all(answerer, [make_question(tool=TOOL)])  # by a model without tools
    assert written.calls == ((("grade", {"grade": 8}),) if model.startswith("openai") else ())


@pytest.mark.parametrize(
    ("turn", "said", "is_truncated"),
    [
        (thoughtful("1 and 1", "2"), "<think>1 and 1</think>2", False),
        (truncated("", "so many"), "<think>so many", True),
        (truncated(""), "", True),
        (refusal("I will not."), "I will not.", False),
        (refusal(), "", False),
        (message(), "", False),
        (text("née \ud800 \u2028"), "née \ud800 \u2028", False),
    ],
)
def test_what_a_model_says_is_an_answer_even_if_it_is_nothing(
    server: Server, model: str, turn: Turn, said: str, is_truncated: bool
) -> None:
    server.script = [turn]
    (reply,) = ask_all(open_model(model), [make_question()])
    assert (reply.text, reply.truncated, reply.error) == (said, is_truncated, "")


def test_a_model_of_another_name_is_said_once_and_kept(
    server: Server, model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [text("1", model="cheaper-m")]
    with Recorder(open_model(model), tmp_path / "r.jsonl") as recorder:
        assert ask_all(recorder, [make_question(i) for i in range(3)])[0].model == "cheaper-m"
    assert caplog.text.count("the service says that cheaper-m answered") == 1
    assert {line.model for line in read_record(tmp_path / "r.jsonl")} == {"cheaper-m"}
    server.script = [text("1", model="m-20261101")]
    caplog.clear()
    ask_all(open_model(model), [make_question()])
    assert "answered" not in caplog.text, "an alias has a name of its own"


# ---------------------------------------------------------------- faults

FAULTS: dict[str, tuple[Turn, str, int, bool]] = {
    # what the server does, what is said, how often it is asked, whether it may have cost
    "401": (error(401, "authentication_error", f"invalid {KEY}"), "HTTP 401 (what it said repeats the key)", 1, False),
    "402": (error(402, "payment", "no credit"), "HTTP 402 (payment no credit)", 1, False),
    "404": (error(404, "not_found_error", "model: m"), "HTTP 404 (not_found_error model: m)", 1, False),
    "412": (error(412, "precondition", "suspended"), "HTTP 412", 1, False),
    "no quota": (error(429, "insufficient_quota", "plan"), "HTTP 429 (insufficient_quota plan)", 1, False),
    "429": (error(429, "rate_limit_error"), "HTTP 429 (rate_limit_error not now)", 2, False),
    "500": (error(500, "api_error"), "HTTP 500", 2, False),
    "504": (html(504), "HTTP 504", 2, True),
    "529": (error(529, "overloaded_error"), "HTTP 529", 2, False),
    "HTML 200": (html(), "the answer is no JSON", 1, True),
    "empty body": (raw(b""), "the answer is no JSON", 1, True),
    "malformed": (raw(b'{"choices": [{'), "the answer is no JSON", 1, True),
    "choices null": (raw(b'{"choices": null, "content": null}'), "the answer is no ", 1, True),
    "a list": (raw(b"[1]"), "the answer is no ", 1, True),
    "cut": (cut, "the connection failed or was cut", 2, True),
    "cut at once": (cut_at_once, "the connection failed or was cut", 2, True),
    "hang": (hang, "no answer within 0.4 s", 2, True),
    "trickle": (trickle, "no answer within 0.4 s", 2, True),
    "redirect": (raw(b"", status=307, headers={"location": "/x"}), "HTTP 307", 1, False),
    "key in the answer": (text(f"it is {KEY}"), "the answer repeats the key", 1, True),
    "key in other bytes": (
        raw(b'{"content": [{"type": "text", "text": "%s"}], "choices": [{"message": {"content": "%s"}}]}'
            % ((KEY.replace("s", r"\u0073").encode(),) * 2)),
        "the answer repeats the key", 1, True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_in_a_line_and_a_right_record(
    server: Server, model: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    turn, said, times, billed = FAULTS[name]
    server.script = [turn]
    ledger = Ledger({"m": Price(1, 5), FORMS[1]: Price(1, 5)}, cap=1.0)
    path = tmp_path / "r.jsonl"
    with caplog.at_level(logging.DEBUG), Recorder(open_model(model, ledger=ledger, time_limit=0.4), path) as recorder:
        (reply,) = ask_all(recorder, [make_question()])
        assert said in reply.error
        assert "\n" not in reply.error
        assert len(server.requests) == times
        (line,) = read_record(path)
        assert (line.error, line.text, line.prompt_id, line.cost_usd) == (reply.error, "", "p0", reply.cost_usd)
        assert (ledger.spent > 0, ledger.reserved) == (billed, 0.0)
        assert ledger.spent == pytest.approx(reply.cost_usd or 0.0)
        if name not in ("cut at once", "hang"):  # a line with an error is asked again
            server.script = [text("1")]
            assert ask_all(recorder, [make_question()])[0].text == "1"
    assert KEY.encode() not in path.read_bytes()
    assert KEY not in caplog.text


@pytest.mark.parametrize("name", ["401", "402", "404", "412", "no quota"])
def test_what_all_would_meet_is_not_asked_by_all(server: Server, model: str, name: str) -> None:
    server.script = [FAULTS[name][0]]
    replies = ask_all(open_model(model, concurrency=3), [make_question(i) for i in range(40)])
    assert len({reply.error for reply in replies}) == 1
    assert len(server.requests) <= 3


def test_where_nobody_answers_not_all_are_asked(server: Server, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ANTHROPIC_BASE_URL", "OPENAI_BASE_URL"):
        monkeypatch.setenv(variable, "http://user:secret@127.0.0.1:9/v1")
    ledger = Ledger({"m": Price(1, 5), FORMS[1]: Price(1, 5)}, cap=1.0)
    replies = ask_all(open_model(model, concurrency=2, ledger=ledger), [make_question(i) for i in range(40)])
    assert {reply.error for reply in replies} == {
        f"the connection failed: nobody answers at the address of {model.partition(':')[0].upper()}_BASE_URL"
    }
    assert ledger.spent == 0.0


def test_a_fault_that_passes_is_asked_again_as_the_server_says(server: Server, model: str) -> None:
    server.script = [error(429, "rate_limit_error"), cut, error(503, "api_error"), text("1")]
    (reply,) = ask_all(open_model(model, attempts=4), [make_question()])
    assert (reply.text, len(server.requests)) == ("1", 4)


def test_a_key_or_its_package_that_is_missing_is_told_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(InputError, match="anthropic:m needs the environment variable ANTHROPIC_API_KEY"):
        open_model("anthropic:m")
    with pytest.raises(InputError, match="needs the environment variable OPENAI_API_KEY, or OPENAI_BASE_URL for a"):
        open_model("openai:a/b")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1")
    check_hosted("openai:qwen3:8b")
    for name in ("openai:", "m", "other:m"):
        with pytest.raises(InputError, match="name a model of a service: anthropic:MODEL, openai:MODEL"):
            open_model(name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package openai: pip install 'grpo-harness\[openai\]'"):
        check_hosted("openai:m")


# ---------------------------------------------------------------- many


def test_never_more_than_allowed_are_in_flight_whatever_the_server_does(server: Server, model: str) -> None:
    solve = answering(str.upper, latency=0.01)
    server.script = [solve, error(500, "api_error"), cut, slowly(text("x"), 0.05)] * 8 + [solve]
    replies = ask_all(open_model(model, concurrency=6), [make_question(i) for i in range(60)])
    assert server.most <= 6
    assert sum(not reply.error for reply in replies) > 40


def test_answers_arrive_side_by_side(server: Server, model: str) -> None:
    """A server that answers only once ten are there."""
    together = Event()

    def wait(handler: Handler) -> None:
        if handler.server.in_flight == 10:
            together.set()
        assert together.wait(20)
        text(handler.question)(handler)

    server.script = [wait]
    replies = ask_all(open_model(model), [make_question(i) for i in range(30)])
    assert [reply.text for reply in replies] == [f"What is {i}+1?" for i in range(30)]
    assert server.most == 10


def test_requests_are_spread_over_the_minute(server: Server) -> None:
    at: list[float] = []

    def note(handler: Handler) -> None:
        at.append(time.monotonic())
        text("1")(handler)

    server.script = [note]
    ask_all(open_model(FORMS[1], requests_per_minute=1200), [make_question(i) for i in range(12)])
    assert max(at) - min(at) > 0.4, "0.05 s between two, however many could be in flight"


def test_a_cap_is_never_passed_and_what_came_before_is_told(server: Server, model: str) -> None:
    usage = {"input_tokens": 100, "output_tokens": 20}
    server.script = [answering(str.upper, usage=usage)]
    ledger = Ledger({"m": Price(1, 5), FORMS[1]: Price(1, 5)}, cap=0.01)
    answered: list[Reply] = []
    replies = open_model(model, ledger=ledger).answer([make_question(i) for i in range(200)])
    with pytest.raises(OverBudget, match=r"budget\.usd: 0\.01 USD"):
        _take(replies, answered)
    assert len(answered) == len(server.requests) > 40
    assert sum(reply.cost_usd or 0 for reply in answered) == pytest.approx(ledger.spent)
    assert ledger.spent <= 0.01


def test_a_cap_without_a_price_is_told_at_once(server: Server, model: str) -> None:
    with pytest.raises(InputError, match=r"budget\.usd: a cap needs the price of"):
        open_hosted(model, Settings(), Ledger(cap=1.0), Event())


@pytest.mark.parametrize("turn", [hang, trickle])
def test_closing_or_interrupting_ends_all_that_is_under_way(server: Server, model: str, turn: Turn) -> None:
    server.script = [text("1"), turn]
    interrupted = Event()
    answerer = open_model(model, interrupted=interrupted)
    replies = answerer.answer([make_question(i) for i in range(40)])
    next(replies)
    replies.close()  # type: ignore[attr-defined]
    _wait_until_none_is_in_flight(server)
    Timer(0.2, interrupted.set).start()
    assert {reply.error for reply in ask_all(answerer, [make_question(i) for i in range(40)])} == {
        "interrupted while waiting for its answer", "interrupted before it was asked",
    }  # fmt: skip
    _wait_until_none_is_in_flight(server)


def _wait_until_none_is_in_flight(server: Server) -> None:
    until = time.monotonic() + 10
    while server.in_flight and time.monotonic() < until:
        time.sleep(0.01)
    assert server.in_flight == 0


def _take(replies: Iterator[tuple[int, Reply]], into: list[Reply]) -> None:
    for _, reply in replies:
        into.append(reply)
