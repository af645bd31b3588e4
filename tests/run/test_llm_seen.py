"""An LLM that does not work is seen: by whoever looks, by whoever is alerted, and before the run begins."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.commands import prepare_resume, prepare_run
from harness.core.liveness import RESTARTED
from harness.errors import InputError
from harness.monitoring.alerts import find_alerts
from harness.run.controller import Controller
from harness.run.runner import Run
from harness.store.snapshot import SnapshotReader
from harness.types import Action, Snapshot
from harness.views.console import Console
from harness.views.terminal.frame import render
from harness.views.terminal.lines import PlainLines
from tests.support.answers_server import Server, error, good, hang, text
from tests.support.program import Program
from tests.support.runs import KEY, resume_run, start_night

REFUSED = error(401, "authentication_error", "invalid x-api-key")
DOWN = error(529, "overloaded_error")
LLM = """
[policy]
kind = "llm"
[llm]
every = 1
"""
ALERTS = """
[alerts]
command = ["sh", "-c", "cat >> told.jsonl; echo >> told.jsonl"]
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    with Server([hang]) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        yield server


def write_spec(program: Program, *sections: str) -> None:
    spec = program.folder / "mini.toml"
    spec.write_text(spec.read_text() + "".join(sections))


def run_words(steps: int) -> tuple[str, ...]:
    return ("run", "mini.toml", "--name", "night", "--steps", str(steps), "--plain", "--set", "warmstart.steps=0")


def start_quick(folder: Path, **sections: Any) -> Run:
    """Create a night of steps that take no time."""
    pool = {"splits": {"probe": 4, "dev": 4, "test": 4}}
    knobs = {"max_tokens": 6, "group_size": 2, "prompts_per_step": 2}
    return start_night(folder, pool=pool, knobs=knobs, evaluate={"every": 50, "max_tokens": 6}, **sections)


def look(run: Run) -> Snapshot:
    return SnapshotReader(run.store, run.run_id).read(whole_run=True)


def draw(snapshot: Snapshot) -> str:
    console = Console(record=True, file=io.StringIO(), width=80, height=24, force_terminal=True)
    console.print(render(snapshot, age=1.0, width=80, height=24))
    return console.export_text()


# ---------------------------------------------------------------- a night


def test_an_llm_that_is_dead_all_night_is_seen_everywhere_and_alerted_once(program: Program, server: Server) -> None:
    server.script = [REFUSED]
    told = program.folder / "told.jsonl"
    command = ["sh", "-c", f"cat >> {told}; echo >> {told}"]
    run = start_quick(program.folder / "runs", llm={"every": 1}, budget={"steps": 4}, alerts={"command": command})
    assert run.drive() == ("finished", "budget of 4 steps spent")
    why = "no answer: HTTP 401 (authentication_error invalid x-api-key)"
    s = look(run)
    assert "llm?      SILENT  a usable answer in 0 of 4 turns; last: no answer: HTTP 401" in draw(s)
    assert any(
        f"warning: the llm: a usable answer in 0 of 4 turns; last: {why}" in line for line in PlainLines().update(s)
    )
    text = " ".join(program.here("review", "night").stdout.split())
    assert f"llm: a usable answer in 0 of 4 turns; last: {why}" in text
    assert "(4 without an answer, 0 not usable)" in text
    assert "gave no usable answer in its last 4 turns" in text
    assert json.loads(program.here("review", "night", "--json").stdout)["llm"] == {
        "times": 4, "last": 4, "tokens_in": 0, "tokens_out": 0, "usd": 0.0, "failed": 4, "unusable": 0,
        "failed_in_a_row": 4, "failing_since": 1, "last_failure": why, "proposal": 0,
    }  # fmt: skip
    page = (run.folder / "report.html").read_text()
    assert "<dt>LLM turns with a usable answer</dt><dd>0 of 4</dd>" in page
    assert "It gave no decision 4 times (4 without an answer, 0 not usable), the last time: No answer: HTTP 401" in page
    messages = [json.loads(line) for line in told.read_text().splitlines()]
    assert sorted(message["event"] for message in messages) == ["finished", "llm_silent"]
    assert why in next(message["text"] for message in messages if message["event"] == "llm_silent")
    run.store.close()


def test_an_llm_whose_answers_are_never_usable_is_told_from_one_that_does_not_answer(
    tmp_path: Path, server: Server
) -> None:
    server.script = [text("I would lower the temperature"), text("hm"), REFUSED]
    run = start_quick(tmp_path, llm={"every": 1})
    controller = run.build_controller()
    for _ in range(3):
        controller._boundary()
    s = look(run)
    assert (s.asked.times, s.asked.failed, s.asked.unusable) == (3, 3, 1)
    assert s.asked.tokens_in == 4000
    assert [alert.kind for alert in find_alerts(s, [], alive=True, age=0.0)] == ["llm_silent"]
    server.script = [good()]
    controller._boundary()
    assert "llm?      ANSWERS  a usable answer in 1 of 4 turns; 6,000 + 900 tokens" in draw(look(run))
    run.store.close()


def test_a_policy_that_fails_before_it_can_ask_is_a_failed_turn_too(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise KeyError("no such metric")

    monkeypatch.setattr("policies.llm.build_question", fail)
    run = start_quick(tmp_path, llm={"every": 1})
    run.build_controller()._boundary()
    asked = look(run).asked
    assert (asked.times, asked.failed, "traceback is in the log" in asked.last_failure) == (1, 1, True)
    run.store.close()


# ---------------------------------------------------------------- a proposal


def act(run: Run, controller: Controller, kind: str) -> None:
    run.store.add_command(run.run_id, Action(kind))  # type: ignore[arg-type]
    controller._boundary()


def test_a_proposal_pauses_the_run_and_alerts_once_until_a_person_has_acted(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposes = good(action="propose", proposal="harder prompts: three digits")
    server.script = [proposes]
    run = start_quick(tmp_path, llm={"every": 2})
    controller = run.build_controller()
    for _ in range(4):
        controller._boundary()
    s = look(run)
    assert (s.run.status, s.steps_done, s.asked.proposal, len(server.requests)) == ("paused", 1, 2, 1)
    (alert,) = find_alerts(s, [], alive=True, age=0.0)
    assert (alert.kind, "harder prompts: three digits" in alert.reason) == ("waiting", True)
    run.store.update_run(run.run_id, pid=2**22 + 1, process="")  # it dies, and its supervisor starts it again
    monkeypatch.setenv(RESTARTED, "1")
    run = resume_run(run.store, run.name)
    controller = run.build_controller()
    for _ in range(4):
        controller._boundary()
    s = look(run)
    assert (s.run.status, s.asked.proposal) == ("running", 2), "nobody has read it"
    assert "'propose' is not one of" in s.asked.last_failure
    act(run, controller, "sample")
    for _ in range(3):
        controller._boundary()
    s = look(run)
    assert (s.run.status, s.asked.proposal) == ("paused", 6)
    controller.leave("interrupted")
    monkeypatch.delenv(RESTARTED)
    again = resume_run(run.store, run.name)  # by a person, which answers it
    again.build_controller()
    s = look(again)
    assert s.asked.proposal == 0
    assert [(d.source, d.action) for d in s.decisions][-2:] == [("llm", "pause"), ("manual", "resume")]
    run.store.close()


# ---------------------------------------------------------------- before it begins


def test_a_refused_key_is_wrong_input_and_nothing_is_created(program: Program, server: Server) -> None:
    server.script = [REFUSED]
    write_spec(program, LLM)
    done = program.here(*run_words(2), code=2)
    assert done.stderr == (
        "grpo: llm.model: anthropic:claude-haiku-5-5 refuses to answer: HTTP 401 (authentication_error invalid "
        "x-api-key); check the model and the key in the environment, or take --policy rules\n"
    )
    assert not (program.folder / "runs").exists()
    ((_, asked),) = server.requests
    assert asked["max_tokens"] == 1
    assert prepare_run(str(program.folder / "mini.toml"), policy="rules").tried is None
    assert len(server.requests) == 1, "rules cost nothing"


def test_a_service_that_is_only_down_is_a_warning_and_so_is_a_key_that_fails_at_night(
    program: Program, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = [DOWN, REFUSED]
    write_spec(program, LLM)
    out, said = str(program.folder / "runs"), list[str]()
    small = ["warmstart.steps=0"]
    launch = prepare_run(str(program.folder / "mini.toml"), name="night", overrides=small, out=out, say=said.append)
    warning = "anthropic:claude-haiku-5-5 does not answer now, so until it does the rules decide: HTTP 529"
    assert any(text.startswith(f"warning: {warning}") for text in said)
    run = launch.start()
    assert [e.level for e in run.store.load_events(run.run_id, warning)] == ["warning"]
    run.store.end_run(run.run_id, "stopped", "interrupted", 1.0)
    with pytest.raises(InputError, match="refuses to answer: HTTP 401"):
        prepare_resume("night", out=out)
    assert run.store.find_run("night").status == "stopped"
    monkeypatch.setenv(RESTARTED, "1")
    tried = prepare_resume("night", out=out).tried
    assert tried is not None
    assert "HTTP 401" in tried.said
    run.store.close()


def test_a_run_is_not_switched_to_an_llm_that_refuses(tmp_path: Path, server: Server) -> None:
    server.script = [REFUSED, DOWN]
    run = start_quick(tmp_path, policy={"kind": "fixed"})
    controller = run.build_controller()
    for state, policy in (("refused", "fixed"), ("applied", "llm")):
        command = run.store.add_command(run.run_id, Action("policy", argument="llm"))
        controller._boundary()
        assert (run.store.load_command(command).state, controller.session.state.policy) == (state, policy)
    assert any("does not answer now" in event.text for event in look(run).events)
    run.store.close()


def test_doctor_asks_each_service_one_question(program: Program, server: Server) -> None:
    write_spec(program, LLM, ALERTS)
    server.script = [text("ready"), text("ready"), REFUSED]
    told = program.here("doctor", "mini.toml", "--try").stdout.splitlines()
    assert told[0].startswith("ok  llm anthropic:claude-haiku-5-5: answered 'ready' (")
    assert told[0].endswith(" s, scripted, 2,000 + 300 tokens)")
    assert told[1:] == ["ok  alerts command sh: sent"]
    llm, alerts = json.loads(program.here("doctor", "mini.toml", "--try", "--json").stdout)
    assert (llm["what"], llm["ok"], llm["tokens_in"], alerts["said"]) == ("llm", True, 2000, "sent")
    done = program.here("doctor", "mini.toml", "--try", "--set", 'alerts.webhook="${NO_SUCH}"', code=1)
    assert "fix llm anthropic:claude-haiku-5-5: HTTP 401" in done.stdout
    assert "fix alerts alerts: alerts.webhook: the environment variable NO_SUCH is not set" in done.stdout
    assert KEY not in done.stdout
    no_key = {"ANTHROPIC_API_KEY": ""}
    done = program.here("doctor", "mini.toml", "--try", code=1, environment=no_key)
    assert "needs the environment variable ANTHROPIC_API_KEY" in done.stdout
    assert len((program.folder / "told.jsonl").read_text().splitlines()) == 3
    assert "nothing to ask" in program.here("doctor", "--try", code=2).stderr
    assert "grpo doctor SPEC --try" in program.here("doctor", "mini.toml", code=2).stderr
    assert "alert-test" not in program.here("--help").stdout
