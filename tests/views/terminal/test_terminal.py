"""The real program on terminals: a run, people who look at it and act, and what becomes of the terminals."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.builders import create_run, make_store, record_step
from tests.support.program import Program
from tests.support.terminal import Terminal

Open = Callable[..., Terminal]


@pytest.fixture
def terminal(program: Program) -> Iterator[Open]:
    opened: list[Terminal] = []

    def open_terminal(*words: str, **options: object) -> Terminal:
        opened.append(Terminal(program.folder, *words, OMP_NUM_THREADS="1", **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()


@pytest.fixture
def finished(program: Program) -> Path:
    """A recorded run of 12 steps that nothing drives."""
    folder = program.folder / "runs"
    folder.mkdir()
    store = make_store(folder)
    run_id = create_run(store, "old")
    for step in range(1, 13):
        record_step(store, run_id, step, {"reward/mean": step / 12})
    store.end_run(run_id, "finished", "budget of 12 steps spent", 12.0)
    store.close()
    return folder


def dashboard_of(run: Terminal) -> psutil.Process:
    (child,) = [
        c for c in psutil.Process(run.process.pid).children() if "harness.views.terminal.companion" in c.cmdline()
    ]
    return child


def act(watch: Terminal, key: str, words: str = "", note: str = "") -> None:
    """Press a key, give the words it asks for, confirm, and wait until the run has applied it."""
    watch.press(key)
    if words:
        watch.wait_for("Esc drops it")
        watch.press(f"{words}\r")
    watch.wait_for("Enter queues it")
    watch.press(f"{note}\r")
    watch.wait_for("after it was asked")


def test_two_people_watch_a_run_and_act_and_the_terminals_are_given_back(program: Program, terminal: Open) -> None:
    run = terminal("run", "mini.toml", "--name", "live", "--steps", "5000", "--policy", "fixed", USER="ann")
    run.wait_for("learning?")
    run.wait_for("warm start")
    watch = terminal("watch", "live", width=80, height=24, USER="bob")
    watch.wait_for("█ mixed ")
    assert "step 1" in watch.text

    # Pause, set, sample, go on: asked for at one terminal, seen at both.
    act(watch, "p", note="a look")
    watch.wait_for("p continues, n takes one step")
    run.wait_for("paused")
    run.wait_for("✓ pause applied before step")
    run.wait_for("bob@")
    paused_at = program.last_step("live")
    act(watch, "s", "temperature=0.9", note="calmer")
    watch.wait_for("0.9 ⚑")
    act(run, "x")
    act(run, "n")
    program.wait_for(lambda: program.last_step("live") == paused_at + 1)

    # A resize redraws at once, and what is shown has the new size.
    watch.resize(120, 40)
    watch.wait_for("─ pool")
    watch.press("3")
    watch.wait_for("expected ")
    watch.press("1")

    # Ctrl-C at the second terminal leaves the run alone.
    watch.press("\x03")
    assert watch.wait_for_end() == 0
    assert "left live; it continues" in watch.last_words
    assert watch.is_restored

    # Killing the dashboard of the run itself changes nothing in the run.
    dashboard_of(run).send_signal(signal.SIGKILL)
    run.wait_for("the dashboard ended; the run continues")
    assert run.is_restored
    watch = terminal("watch", "live")
    watch.wait_for("p continues")
    act(watch, "p")
    program.wait_for(lambda: program.last_step("live") > paused_at + 1)
    act(watch, "Q")
    assert run.wait_for_end() == 0
    watch.wait_for("stopped")
    watch.press("p")
    watch.wait_for("Enter queues it")
    watch.press("\r")
    watch.wait_for("not queued: live has ended")
    watch.press("q")
    assert watch.wait_for_end() == 0

    review = program.review("live")
    manual = {d["action"]: d for d in review["decisions"] if d["source"] == "manual"}
    assert set(manual) == {"pause", "set", "sample", "step", "resume", "stop"}
    assert manual["set"]["changes"] == {"temperature": {"from": 1.0, "to": 0.9}}
    assert manual["set"]["evidence"] == "calmer"
    assert manual["set"]["who"].startswith("bob@")
    assert manual["sample"]["who"].startswith("ann@")
    assert all(d["asked_at"] and d["result"] for d in manual.values())


def test_ctrl_c_at_a_run_saves_it_and_gives_the_terminal_back(program: Program, terminal: Open) -> None:
    run = terminal("run", "mini.toml", "--name", "short", "--steps", "5000", "--set", "warmstart.steps=0")
    run.wait_for(lambda: program.last_step("short") >= 2)
    run.press("\x03")
    run.wait_for(lambda: b"finishes this step" in run.sent.replace(b"\x1b[1;33m", b""))
    assert run.wait_for_end() == 130
    assert "interrupted; to continue: grpo resume short" in run.last_words
    assert run.is_restored


def test_a_killed_run_does_not_keep_the_terminal(program: Program, terminal: Open) -> None:
    """Its dashboard, which outlives it for a moment, gives the terminal back to the shell."""
    run = terminal("run", "mini.toml", "--name", "dies", "--set", "warmstart.steps=0", shell=True)
    run.wait_for("learning?")
    (process,) = psutil.Process(run.process.pid).children()
    process.send_signal(signal.SIGKILL)
    run.wait_for("to continue: grpo resume dies")
    run.wait_for(lambda: run.is_restored)


def test_a_finished_run_is_played_back(terminal: Open, finished: Path) -> None:
    watch = terminal("watch", "old", "--out", str(finished))
    watch.wait_for("budget of 12 steps spent")
    watch.press("\x1b[D")
    watch.wait_for("as it was after step 11")
    watch.press("\x1b[H ")
    watch.wait_for("as it was after step")
    watch.wait_for("ended     budget of 12 steps spent")
    watch.press("q")
    assert watch.wait_for_end() == 0
    assert watch.is_restored


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_dashboard_that_is_told_to_end_gives_the_terminal_back(
    terminal: Open, finished: Path, number: signal.Signals
) -> None:
    watch = terminal("watch", "old", "--out", str(finished))
    watch.wait_for("learning?")
    assert not watch.is_cooked
    watch.process.kill(number)
    assert watch.wait_for_end() == 0
    assert watch.is_restored


def test_it_can_be_suspended_and_taken_up_again(terminal: Open, finished: Path) -> None:
    watch = terminal("watch", "old", "--out", str(finished))
    watch.wait_for("learning?")
    watch.press("\x1a")
    watch.wait_for(lambda: watch.is_restored)
    process = psutil.Process(watch.process.pid)
    watch.wait_for(lambda: process.status() == psutil.STATUS_STOPPED)
    watch.process.kill(signal.SIGCONT)
    watch.wait_for(lambda: not watch.is_cooked)
    watch.press("q")
    assert watch.wait_for_end() == 0
    assert watch.is_restored


def test_a_crash_of_the_dashboard_gives_the_terminal_back(program: Program, terminal: Open, finished: Path) -> None:
    """The database goes away under it, in a way that is no passing fault."""
    watch = terminal("watch", "old", "--out", str(finished))
    watch.wait_for("learning?")
    (finished / "harness.db").write_bytes(b"no database " * 10_000)
    code = watch.wait_for_end()
    assert code != 0
    assert watch.is_restored


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"PYTHONIOENCODING": "ascii"}])
def test_a_terminal_that_cannot_draw_gets_plain_lines(
    terminal: Open, finished: Path, environment: dict[str, str]
) -> None:
    watch = terminal("watch", "old", "--out", str(finished), **environment)
    assert watch.wait_for_end() == 0
    assert "step   12  reward 1.000" in watch.text
    assert b"\x1b" not in watch.sent


def test_a_pipe_gets_plain_lines(program: Program, finished: Path) -> None:
    lines = program.run("watch", "old", "--out", str(finished)).stdout.splitlines()
    assert len(lines) == 12
    assert lines[-1].startswith("step   12  reward 1.000")


def test_without_colours_there_are_none(terminal: Open, finished: Path) -> None:
    watch = terminal("watch", "old", "--out", str(finished), NO_COLOR="1")
    watch.wait_for("learning?")
    watch.press("q")
    assert watch.wait_for_end() == 0
    assert not any(f"\x1b[{code}m".encode() in watch.sent for code in range(30, 48))
    assert b"[36m" not in watch.sent
