"""The lookout over real runs: what it sends, what it leaves alone, and that it neither delays nor fails anything."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.core.liveness import SUPERVISOR
from harness.monitoring import alert_process as lookout
from harness.monitoring.alert_process import Lookout
from harness.store.writer import RunStore
from tests.support.answers_server import Server, hang, raw
from tests.support.builders import create_run, make_store, record_step
from tests.support.program import Program

SECRET = "T0KEN-9f2c"
OK, BROKEN = raw(b"ok"), raw(b"no", status=500)
ALERTS = """
[alerts]
webhook = "${TEST_HOOK}"
command = ["sh", "-c", "cat >> told.jsonl; echo >> told.jsonl"]
"""


def kinds(server: Server) -> list[str]:
    return [body["event"] for _, body in server.requests]


def alert_events(store: RunStore, run_id: int) -> list[tuple[str, str]]:
    return [(event.level, event.text) for event in store.load_events(run_id, "alert ")]


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


# ---------------------------------------------------------------- whole runs


def test_a_run_tells_its_end_through_faults_then_its_death_and_keeps_its_secret(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = program.folder / "mini.toml"
    spec.write_text(spec.read_text() + ALERTS)
    with Server([BROKEN, BROKEN, OK]) as server:
        monkeypatch.setenv("TEST_HOOK", f"{server.url}/services/{SECRET}")
        done = program.here(
            "run", "mini.toml", "--name", "night", "--steps", "3", "--plain", "--set", "warmstart.steps=0"
        )
        assert kinds(server) == ["finished"] * 3  # twice in vain
        assert events(program) == ["alert finished: budget of 3 steps spent (sent)"]
        process = program.start("resume", "night", "--steps", "5000", "--plain")
        program.wait_for(lambda: program.last_step("night") >= 4)
        program.kill(process)
        program.wait_for(lambda: len(events(program)) == 2)
        assert kinds(server)[3:] == ["failed"]
        assert f"its process ({process.pid}) died" in events(program)[1]
    review = program.review("night")
    assert server.requests[2][1]["figures"]["dev"]["first"] == review["dev"]["by_step"]["0"]
    assert len((program.folder / "told.jsonl").read_text().splitlines()) == 2
    assert program.store().load_run(1).spec["alerts"]["webhook"] == "${TEST_HOOK}"
    kept = [path for path in (program.folder / "runs").rglob("*") if path.is_file()]
    assert len(kept) > 5
    for path in kept:
        assert SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in done.stdout + done.stderr


def events(program: Program) -> list[str]:
    return [text for _, text in alert_events(program.store(), 1)]


def test_what_cannot_work_is_refused_before_anything_is_created(program: Program) -> None:
    spec = program.folder / "mini.toml"
    spec.write_text(spec.read_text() + ALERTS)
    done = program.here("run", "mini.toml", code=2, environment={"TEST_HOOK": ""})
    assert done.stderr.strip().splitlines()[-1] == (
        "grpo: alerts.webhook: the environment variable TEST_HOOK is not set"
    )
    assert not (program.folder / "runs").exists()


def test_one_can_try_it_out(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = program.folder / "mini.toml"
    spec.write_text(spec.read_text() + ALERTS)
    with Server([OK, raw(b"no", status=404)]) as server:
        monkeypatch.setenv("TEST_HOOK", f"{server.url}/{SECRET}")
        done = program.here("alert-test", "mini.toml")
        assert done.stdout == "webhook to 127.0.0.1: sent\ncommand sh: sent\n"
        assert kinds(server) == ["test"]
        done = program.here("alert-test", "mini.toml", code=1)
        assert "webhook to 127.0.0.1: HTTP 404 Not Found\n" in done.stdout
        assert SECRET not in done.stdout + done.stderr
    assert "names no webhook and no command" in program.here("alert-test", code=2).stderr


# ---------------------------------------------------------------- the process beside a record


class Beside:
    """A run on record that this process drives, with a real lookout."""

    def __init__(self, folder: Path, **alerts: Any) -> None:
        self.store = make_store(folder)
        section = {"webhook": "${TEST_HOOK}", "command": None, "on": list(lookout_kinds())} | alerts
        self.id = create_run(self.store, spec={"budget": {"steps": 80}, "alerts": section})
        self.said: list[str] = []
        self.noted: list[str] = []

    def watch(self) -> Lookout:
        url = self.store.url
        return Lookout(url, self.id, wanted=True, say=self.said.append, note=self.noted.append)

    def end(self) -> None:
        self.store.end_run(self.id, "finished", "budget of 80 steps spent", 1.0)


def lookout_kinds() -> tuple[str, ...]:
    from harness.config.names import ALERT_KINDS

    return ALERT_KINDS


def test_it_tells_that_the_run_is_stuck_while_it_goes_on_and_a_second_process_does_not_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Beside(tmp_path)
    with Server([OK]) as server:
        monkeypatch.setenv("TEST_HOOK", server.url)
        with run.watch():
            for step in range(1, 25):
                record_step(run.store, run.id, step, {"group/mixed_rate": 0.0, "group/all_zero_rate": 1.0})
            wait_for(lambda: alert_events(run.store, run.id))
        wait_for(lambda: kinds(server) == ["stuck", "failed"])  # it left without an end on record
        with run.watch():
            record_step(run.store, run.id, 25, {"group/mixed_rate": 0.0})
            time.sleep(2.5 * lookout.POLL_S)
            run.end()
        assert kinds(server) == ["stuck", "failed", "finished"]
    assert run.noted == []


def test_only_what_is_asked_for_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Beside(tmp_path, on=["failed"])
    with Server([OK]) as server:
        monkeypatch.setenv("TEST_HOOK", server.url)
        with run.watch():
            run.end()
        assert server.requests == []
    assert alert_events(run.store, run.id) == []


def test_a_receiver_that_never_answers_delays_no_write_and_the_end_only_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "LEAVE_S", 4.0)
    monkeypatch.setattr(lookout, "PATIENT_S", 0.5)
    run = Beside(tmp_path)
    with Server([hang]) as server:
        monkeypatch.setenv("TEST_HOOK", server.url)
        with run.watch():
            for step in range(1, 25):
                record_step(run.store, run.id, step, {"group/mixed_rate": 0.0})
            wait_for(lambda: server.requests)
            record_step(run.store, run.id, 25)  # nobody waits for the receiver here
            run.end()
            process_of = run.store.find_run("night").pid
        assert process_of == os.getpid()
    assert run.said == ["sending the last alerts, for at most 4 s"]
    assert run.noted == ["the last alerts may not be out: given up after 4 s"]


def test_what_cannot_be_delivered_is_an_event_that_tells_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_HOOK", f"http://127.0.0.1:9/{SECRET}")
    run = Beside(tmp_path, command=["false"])
    (tmp_path / "sitecustomize.py").write_text("from harness.monitoring import notifiers\nnotifiers.PAUSE_S = 0.01\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with run.watch():
        run.end()
    assert alert_events(run.store, run.id) == [
        (
            "warning",
            "alert finished: budget of 80 steps spent (not delivered, webhook to 127.0.0.1: Connection refused "
            "(5 attempts); command false: exit code 1 (5 attempts))",
        )
    ]
    assert SECRET.encode() not in (tmp_path / "harness.db").read_bytes()


def test_a_locked_database_costs_no_alert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Beside(tmp_path)
    with Server([OK]) as server:
        monkeypatch.setenv("TEST_HOOK", server.url)
        with run.watch():
            run.end()
            with closing(sqlite3.connect(tmp_path / "harness.db", isolation_level=None)) as holder:
                holder.execute("BEGIN IMMEDIATE")
                wait_for(lambda: server.requests)
                holder.execute("ROLLBACK")
        assert kinds(server) == ["finished"]
    assert [text for _, text in alert_events(run.store, run.id)] == ["alert finished: budget of 80 steps spent (sent)"]


def test_under_a_supervisor_a_death_is_told_when_it_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server([OK]) as server, subprocess.Popen(["sleep", "60"]) as supervisor:
        monkeypatch.setenv("TEST_HOOK", server.url)
        monkeypatch.setenv(SUPERVISOR, str(supervisor.pid))
        run = Beside(tmp_path)
        monkeypatch.setattr(lookout, "LEAVE_S", 60.0)
        watch = run.watch()
        watch.__enter__()
        process = watch._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()  # as when the run is killed
        time.sleep(2.5 * lookout.POLL_S)
        assert server.requests == []
        run.store.end_run(run.id, "failed", "the process was killed by SIGKILL, 6 times", 1.0)
        assert process.wait(timeout=30) == 0
        assert kinds(server) == ["failed"]
        supervisor.kill()


def test_its_own_death_is_told_and_fails_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_HOOK", raising=False)  # so that it cannot begin
    run = Beside(tmp_path)
    with run.watch():
        run.end()
    assert run.noted == ["the last alerts may not be out: their process ended with exit code 1"]


def test_it_needs_no_torch_and_no_sqlalchemy_while_there_is_nothing_to_tell() -> None:
    heavy = "('torch', 'sqlalchemy', 'pydantic')"
    code = f"import harness.monitoring.alert_process, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
