"""The real program away from its terminal, and brought back when it dies or hangs."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.core.liveness import is_alive_run
from harness.monitoring import supervisor as supervise
from harness.monitoring.supervisor import count_memory_kills, describe_death
from harness.store.opening import open_store
from tests.support.program import Program

COLD = ("mini.toml", "--set", "warmstart.steps=0")
"""A spec whose first step comes soon."""
SUPERVISE = """
import sys
from harness.monitoring import supervisor as supervise
supervise.RESTARTS, supervise.PAUSES_S = 2, {pauses}
words = {words!r}
sys.exit(supervise.Supervisor("sqlite:///runs/harness.db", "held", words, ["resume", "held", "--plain"],
                              silent_s={silent_s}).run())
"""


def supervised(
    program: Program, words: list[str], *, silent_s: float = 600.0, pauses: tuple[int, ...] = (0, 0, 0)
) -> subprocess.Popen[str]:
    code = SUPERVISE.format(words=words, silent_s=silent_s, pauses=pauses)
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=program.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    program.started.append(process)
    return process


def events(program: Program, run: str) -> list[str]:
    return [event["text"] for event in program.review(run)["events"]]


def test_who_asks_between_a_death_and_the_next_start_is_heard(program: Program) -> None:
    words = ["run", *COLD, "--name", "held", "--steps", "5000", "--plain"]
    supervisor = supervised(program, words, pauses=(8, 8, 8))
    program.wait_for(lambda: program.last_step("held") >= 2)
    dead = program.store().find_run("held").pid
    os.kill(dead, signal.SIGKILL)
    program.wait_for(lambda: "started again" in str(events(program, "held")))
    assert not is_alive_run(program.store().find_run("held"))
    told = program.here("act", "held", "stop")
    assert "applied before step" in told.stdout
    assert supervisor.wait(timeout=120) == 0
    held = program.store().find_run("held")
    assert (held.status, held.pid != dead) == ("stopped", True)


def test_killed_and_stopped_it_is_started_again_and_ends_as_if_nothing_had_been(program: Program) -> None:
    program.here("run", *COLD, "--name", "calm")
    supervisor = supervised(program, ["run", *COLD, "--name", "held", "--plain"], silent_s=20)
    program.wait_for(lambda: program.last_step("held") >= 2)
    os.kill(program.store().find_run("held").pid, signal.SIGKILL)
    dead = program.store().find_run("held").pid
    program.wait_for(lambda: program.store().find_run("held").pid != dead and program.last_step("held") >= 5)
    os.kill(program.store().find_run("held").pid, signal.SIGSTOP)  # hangs: alive, and silent
    assert supervisor.wait(timeout=120) == 0
    said = events(program, "held")
    assert any("was killed by SIGKILL; started again (1 of" in text for text in said)
    assert any("was silent for" in text and "and was killed; started again" in text for text in said)
    held, calm = program.review("held"), program.review("calm")
    assert held["status"] == "finished"
    assert held["reward"]["by_step"] == calm["reward"]["by_step"]
    assert held["heldout"] == calm["heldout"]


def test_a_run_that_waits_for_the_database_is_not_taken_for_hung(program: Program) -> None:
    supervisor = supervised(program, ["run", *COLD, "--name", "held", "--plain"], silent_s=8)
    program.wait_for(lambda: program.last_step("held") >= 2)
    before = program.store().find_run("held")
    assert supervisor.stdout is not None
    with closing(sqlite3.connect(program.folder / "runs" / "harness.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")  # nobody else can write, not even a heartbeat
        said = next(line for line in supervisor.stdout if "was silent for" in line)
        assert "killing it" in said
        time.sleep(8)  # longer than the supervisor waits for its own line
        held = program.store().find_run("held")
        assert held.pid == before.pid
        assert is_alive_run(held)
        holder.execute("ROLLBACK")
    output, _ = supervisor.communicate(timeout=120)
    assert supervisor.returncode == 0, output
    assert not any("killing it" in text for text in events(program, "held"))


def test_what_dies_at_the_same_step_every_time_is_given_up(program: Program) -> None:
    (program.folder / "deadly.py").write_text(
        "import os, signal\n"
        "def reward(completion, ground_truth):\n"
        "    if os.path.exists('runs/held'):\n"  # not in preflight
        "        os.kill(os.getppid(), signal.SIGKILL)\n"  # the reward is judged in a child of the run
        "    return float(completion == ground_truth)\n"
    )
    words = ["run", *COLD, "--name", "held", "--plain"]
    supervisor = supervised(program, [*words, "--set", "reward.function=deadly.py:reward"])
    output, _ = supervisor.communicate(timeout=200)
    assert supervisor.returncode == 1, output
    record = program.store().find_run("held")
    assert record.status == "failed"
    assert "SIGKILL, 3 times without getting beyond step 0" in record.stop_reason


def test_detached_it_lives_in_a_session_of_its_own(program: Program) -> None:
    words = ["run", *COLD, "--name", "away", "--steps", "5000"]
    done = program.here(*words, "--detach", "--json")
    found = json.loads(done.stdout)
    assert found["run"] == "away"
    pid = found["pid"]
    assert os.getsid(pid) != os.getsid(0)
    program.wait_for(lambda: program.last_step("away") >= 1)  # it takes signals from its first step on
    os.kill(pid, signal.SIGHUP)  # nobody is there to hang up on it, but someone may still send one
    said = program.folder / "runs" / "away.out"
    program.wait_for(lambda: "grpo resume away" in said.read_text())
    assert program.store().find_run("away").status == "stopped"

    done = program.here("resume", "away", "--detach", "--supervise")
    assert "grpo watch away" in done.stdout
    program.here("act", "away", "stop")
    program.wait_for(lambda: program.store().find_run("away").status == "stopped")


def test_detached_wrong_input_is_told_here_and_leaves_nothing(program: Program) -> None:
    done = program.here("run", "mini.toml", "--detach", "--set", "model.name=./nowhere", code=2)
    assert "no folder ./nowhere" in done.stderr
    assert not (program.folder / "runs").exists() or not list((program.folder / "runs").iterdir())


def test_ctrl_c_reaches_the_run_through_its_supervisor(program: Program) -> None:
    process = program.start("run", *COLD, "--name", "cut", "--steps", "5000", "--supervise")
    program.wait_for(lambda: program.last_step("cut") >= 2)
    pid = program.store().find_run("cut").pid
    assert pid != process.pid
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "grpo resume cut" in output
    record = program.store().find_run("cut")
    assert record.status == "stopped"
    assert not is_alive_run(record)


def test_told_to_end_between_two_starts_it_starts_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def die(_: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], **options))
        return started[-1]

    monkeypatch.setattr(supervise, "grpo", die)
    monkeypatch.setattr(supervise, "PAUSES_S", (60,) * 5)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        assert supervise.Supervisor(f"sqlite:///{tmp_path}/none.db", "held", ["run"], ["resume", "held"]).run() == 130
    finally:
        timer.cancel()
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert len(started) == 1
    assert "started again (1 of at most 5)" in capfd.readouterr().err


CHILD = """
import os, signal, sys
from harness.core.knobs import Knobs
from harness.store.opening import open_store
store, number = open_store(sys.argv[1]), int(sys.argv[2])
def create(name):
    return store.create_run(name=name, seed=0, policy="fixed", spec={}, manifest={}, folder=name, knobs=Knobs(),
                            bounds={}, graded=None)
if number == 1:
    store.update_run(create("g/a"), last_step=40)
elif number == 2:  # ends the first stage, and begins the next
    store.end_run(1, "finished", "", 0.0)
    store.update_run(create("g/b"), last_step=3)
elif number <= 4:
    store.adopt_run(2)
else:
    sys.exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""
"""Of a group: dies at step 40 of one stage, then three times at step 3 of another, then goes on."""


def test_deaths_of_a_group_are_counted_by_stage_and_a_stage_that_is_given_up_ends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    url, started = f"sqlite:///{tmp_path}/harness.db", []

    def child(words: list[str], **options: Any) -> subprocess.Popen[bytes]:
        started.append(words)
        return subprocess.Popen([sys.executable, "-c", CHILD, url, str(len(started))], **options)

    monkeypatch.setattr(supervise, "grpo", child)
    monkeypatch.setattr(supervise, "RESTARTS", 2)
    monkeypatch.setattr(supervise, "PAUSES_S", (0, 0))
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    try:
        assert supervise.Supervisor(url, "g", ["run"], ["resume", "g"]).run() == 0
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert started == [["run"], *[["resume", "g"]] * 4]
    store = open_store(url)
    assert [(run.name, run.status) for run in store.list_runs()] == [("g/a", "finished"), ("g/b", "failed")]
    assert "3 times without getting beyond step 3" in store.find_run("g/b").stop_reason
    assert capfd.readouterr().err.count("(1 of at most 2)") == 3


def test_deaths_are_told_with_the_kernels_reason() -> None:
    assert count_memory_kills() >= 0
    assert describe_death(11, 0) == "was killed by SIGSEGV"
    assert describe_death(9, 0) == "was killed by SIGKILL"
    assert "out of memory" in describe_death(9, 1)
    assert describe_death(60, 0)


@pytest.mark.parametrize("command", ["run", "resume"])
def test_help_tells_of_both(program: Program, command: str) -> None:
    text = program.here(command, "--help").stdout
    assert "--detach" in text
    assert "--supervise" in text
