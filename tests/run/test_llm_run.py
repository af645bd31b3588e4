"""Real runs with the LLM policy and a scripted server: what it does ends in the record, and never ends the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.types import Action, CommandRecord
from tests.support.answers_server import Server, call, cut, error, good, hang, message, text
from tests.support.builders import create_run
from tests.support.runs import KEY, resume_run, review, start_night

PRICES = {"claude-haiku-5-5": {"input": 1.0, "output": 5.0}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setattr("harness.llm.faults.LONGEST_WAIT_S", 0.02)
    with Server([hang]) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        yield server


NIGHT = [
    ([error(429, "rate_limit_error")] * 2, "HTTP 429"),
    ([error(529, "overloaded_error")] * 2, "HTTP 529"),
    ([error(500, "api_error", f"your key {KEY}")] * 2, "HTTP 500 (what it said repeats the key)"),
    ([cut] * 2, "the connection failed or was cut"),
    ([hang] * 2, "no answer within"),
    ([message()] * 2, "0 calls of the tool"),
    ([call({}, tool="rm")] * 2, "there is no tool rm"),
    ([good(action="explode")] * 2, "'explode' is not one of"),
    ([good(changes={"learning_rate": 5.0})] * 2, "outside its bounds"),
    ([text("x" * 100_000)] * 2, "0 calls of the tool"),
    ([good(action="stop", evidence="a sample told me to")] * 2, "stop only where the rules propose it"),
    ([good(evidence=f"I saw {KEY}")], "the answer repeats the key"),
    ([text("hm"), good(changes={"temperature": 0.9})], ""),
]


def test_a_night_of_every_fault_is_logged_and_goes_on(tmp_path: Path, server: Server) -> None:
    """Asked at each step; the last answer is a right one, at the second asking."""
    server.script = [turn for turns, _ in NIGHT for turn in turns]
    asking = {"llm": {"every": 1}, "answers": {"time_limit": 4.0, "attempts": 2}, "prices": PRICES}
    run = start_night(tmp_path, **asking, budget={"steps": len(NIGHT), "usd": 1.0})
    assert run.drive() == ("finished", f"budget of {len(NIGHT)} steps spent")
    decisions = review(run)["decisions"]
    assert [d["step"] for d in decisions] == list(range(1, len(NIGHT) + 1))
    for decision, (_, why) in zip(decisions[:-1], NIGHT, strict=False):
        assert decision["source"] == "rules"
        assert "no decision by the llm" in decision["evidence"]
        assert why in decision["evidence"]
    last = decisions[-1]
    assert (last["source"], last["action"], last["changes"]["temperature"]["to"]) == ("llm", "set", 0.9)
    assert (last["tokens_in"], last["tokens_out"], last["cost_usd"]) == (4000, 600, pytest.approx(0.007))
    assert last["hypothesis"]
    assert last["expected"] == "reward/adjusted rises"
    assert last["rejected"].startswith("set max_tokens=80: ")
    spent = review(run)["llm"]
    assert (spent["tokens_in"], spent["usd"]) == (
        sum(d["tokens_in"] or 0 for d in decisions), pytest.approx(sum(d["cost_usd"] or 0 for d in decisions)),
    )  # fmt: skip
    assert f"The LLM was asked {spent['times']} times" in (run.folder / "report.html").read_text()
    run.store.close()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    log = (run.folder / "log.txt").read_text()
    assert "asked the llm: 4000 + 600 tokens, 0.0070 USD" in log
    assert "Traceback" not in log


def test_a_resumed_run_asks_nothing_twice_and_counts_what_was_spent(tmp_path: Path, server: Server) -> None:
    server.script = [good(), good(changes={"temperature": 0.8}), good(changes={"temperature": 0.7})]
    run = start_night(tmp_path, llm={"every": 2}, prices=PRICES, budget={"steps": 9, "usd": 0.02})
    controller = run.build_controller()
    for _ in range(5):  # asked for the steps 2 and 4; the newest checkpoint is that of step 3
        controller._boundary()
    before = review(run)
    assert [d["step"] for d in before["decisions"] if d["source"] == "llm"] == [2, 4]
    run.store.update_run(run.run_id, pid=2**22 + 1, process="")  # as if that process were dead
    again = resume_run(run.store, run.name)
    again.drive()
    after = review(again)
    assert len(server.requests) == 2, "after 0.007 USD a third might have passed 0.02"
    # The verdict on the second change could only be taken when the run had gone on.
    judged = [d | {"measured": None, "verdict": None} for d in after["decisions"][:5]]
    assert judged == [d | {"measured": None, "verdict": None} for d in before["decisions"]]
    assert after["reward"]["by_step"][:5] == before["reward"]["by_step"]
    assert "LLM budget exhausted: budget.usd: 0.02 USD, of which 0.0070 are" in after["decisions"][5]["evidence"]
    assert after["steps"] == 9
    run.store.close()


def test_a_live_run_is_switched_and_says_why_not(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = [good()]
    run = start_night(tmp_path, policy={"kind": "fixed"}, llm={"every": 1})
    controller = run.build_controller()

    def act(kind: str) -> CommandRecord:
        command = run.store.add_command(run.run_id, Action("policy", argument=kind))
        controller._boundary()
        return run.store.load_command(command)

    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    assert "llm needs the environment variable ANTHROPIC_API_KEY" in act("llm").result
    assert "no decision policy named lmm, did you mean llm?" in act("lmm").result
    assert "no run named nosuch" in act("replay:nosuch").result
    assert "still running" in act("replay:night").result
    run.store.update_run(create_run(run.store, "older"), status="finished")
    assert "give the run's own name, replay:older" in act("replay:old").result
    assert controller.session.state.policy == "fixed"
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    assert act("llm").state == "applied"
    controller._boundary()
    assert review(run)["decisions"][-1]["source"] == "llm"
    run.store.close()


def test_without_a_key_nothing_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("", "  ", "schlüssel"):
        monkeypatch.setenv("ANTHROPIC_API_KEY", key)
        with pytest.raises(InputError, match="ANTHROPIC_API_KEY") as caught:
            start_night(tmp_path / "runs")
        assert "schlüssel" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
