"""A person's actions: none lost, none applied twice, and each on record with who, when, why and what came of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from harness.errors import InputError
from harness.store.history import load_history
from harness.store.retry import Patience
from harness.store.snapshot import SnapshotReader
from harness.store.writer import RunStore
from harness.types import Action
from harness.views.review import build_review
from tests.support.bench import build
from tests.support.builders import create_run, make_store

OPERATORS, ACTIONS = 4, 250
FIRE = f"""
import sys
from harness.core.actions import parse_action
from harness.store.opening import open_store
who, url = sys.argv[1:]
store = open_store(url)
run_id = store.find_run("bench").id
for i in range({ACTIONS}):
    words = ["save", f"{{who}}-{{i}}"] if i % 5 == 0 else ["set", f"temperature={{0.5 + i / 1000}}"]
    store.add_command(run_id, parse_action(words), note=f"{{who}} {{i}}")
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = make_store(tmp_path)
    yield opened
    opened.close()


def states(store: RunStore, run_id: int) -> dict[str, tuple[str, str]]:
    """State and result of each action."""
    shown = SnapshotReader(store, run_id).read(whole_run=True).commands
    return {command.action.kind: (command.state, command.result) for command in shown}


def test_a_thousand_actions_of_four_people_at_a_running_run_apply_once_each(tmp_path: Path) -> None:
    """As fast as four processes can, at a run whose controller, session and record are real."""
    bench = build(tmp_path, steps=0, prompts=100)
    bench.store.patience = Patience(Event(), say=print, note=print)  # as the process of a run has it
    people = [
        subprocess.Popen([sys.executable, "-c", FIRE, f"person{i}", bench.store.url], stdout=subprocess.DEVNULL)
        for i in range(OPERATORS)
    ]
    while any(person.poll() is None for person in people) or bench.store.load_waiting(bench.run_id):
        bench.step()
        time.sleep(0.01)
    assert [person.returncode for person in people] == [0] * OPERATORS

    with bench.store.read() as c:
        commands = c.execute("SELECT id, note, state, step FROM commands ORDER BY id").fetchall()
        decided = c.execute("SELECT command_id, evidence, step FROM decisions WHERE source = 'manual' ORDER BY id")
        decisions = decided.fetchall()
    assert Counter(row["note"] for row in commands) == {
        f"person{who} {i}": 1 for who in range(OPERATORS) for i in range(ACTIONS)
    }
    assert {row["state"] for row in commands} == {"applied"}
    # In the order asked, each with its note, at the step that the command names.
    assert [tuple(row) for row in decisions] == [(row["id"], row["note"], row["step"]) for row in commands]
    assert len({row["step"] for row in commands}) > 1, "they were fired at a run that went on"
    sets = [row["note"] for row in commands if int(row["note"].split()[1]) % 5]
    knobs = SnapshotReader(bench.store, bench.run_id).read().knobs
    assert knobs.temperature == pytest.approx(0.5 + int(sets[-1].split()[1]) / 1000)
    bench.store.close()


def test_every_action_is_in_the_decision_log_with_who_when_note_and_effect(tmp_path: Path) -> None:
    bench = build(tmp_path, steps=1, prompts=100)
    bench.store.add_command(bench.run_id, Action("save", argument="lunch"), note="before lunch")
    bench.step()
    (decision,) = [d for d in load_history(bench.store, "bench").decisions if d.action == "save"]
    assert decision.who is not None
    assert "@" in decision.who
    assert decision.asked_at is not None
    assert decision.asked_at <= decision.at
    assert decision.evidence == "before lunch"
    assert decision.result is not None
    assert decision.result.startswith("saved to ")
    document = build_review(load_history(bench.store, "bench"))
    assert next(d for d in document["decisions"] if d["action"] == "save")["who"] == decision.who
    (shown,) = SnapshotReader(bench.store, bench.run_id).read(whole_run=True).commands
    assert (shown.state, shown.step, shown.result) == ("applied", 2, decision.result)
    bench.store.close()


def test_a_paused_run_takes_one_step_at_a_time(tmp_path: Path) -> None:
    bench = build(tmp_path, steps=2, prompts=100)
    state = bench.controller.session.state
    bench.store.add_command(bench.run_id, Action("step"))
    bench.step()
    assert state.last_step == 3, "the run goes on whatever is refused"
    bench.store.add_command(bench.run_id, Action("pause"))
    bench.step()
    for expected in (4, 5):
        bench.store.add_command(bench.run_id, Action("step"))
        bench.step()
        bench.step()
        assert (state.last_step, state.paused) == (expected, True)
    bench.store.add_command(bench.run_id, Action("resume"))
    bench.step()
    assert (state.last_step, state.paused) == (6, False)
    log = [(d.step, d.action, d.refused) for d in load_history(bench.store, "bench").decisions if d.source == "manual"]
    assert log == [
        (3, "step", "the run is not paused"),
        (4, "pause", None),
        (4, "step", None),
        (5, "step", None),
        (6, "resume", None),
    ]
    bench.store.close()


def test_actions_for_a_run_that_nothing_drives_are_refused_or_wait_for_its_resume(store: RunStore) -> None:
    run_id = create_run(store)
    store.end_run(run_id, "stopped", "interrupted", 1.0)
    with pytest.raises(InputError, match=r"night has ended \(interrupted\): nothing would apply the action"):
        store.add_command(run_id, Action("sample"))
    with pytest.raises(InputError, match="there is nothing to pause; to continue: grpo resume night"):
        store.add_command(run_id, Action("pause"), later=True)
    store.add_command(run_id, Action("set", {"temperature": 0.9}), later=True)
    store.adopt_run(run_id)
    assert states(store, run_id) == {"set": ("waiting", "")}


def test_a_dead_process_is_named(store: RunStore) -> None:
    run_id = create_run(store)
    store.update_run(run_id, pid=2**22 + 1, process="")
    with pytest.raises(InputError, match="the process of night died"):
        store.add_command(run_id, Action("stop"))


def test_what_a_crash_left_waiting_applies_on_resume_but_not_pause_resume_step_and_stop(store: RunStore) -> None:
    run_id = create_run(store)
    for kind in ("pause", "stop", "sample"):
        store.add_command(run_id, Action(kind))  # type: ignore[arg-type]
    store.update_run(run_id, pid=2**22 + 1, process="")  # as if that process had been killed
    store.adopt_run(run_id)
    expired = ("expired", "the run was resumed after it was asked")
    assert states(store, run_id) == {"pause": expired, "stop": expired, "sample": ("waiting", "")}
    texts = [event.text for event in SnapshotReader(store, run_id).read(whole_run=True).events]
    assert len(texts) == 2
    assert texts[0].startswith("expired: pause, asked by ")


def test_what_still_waits_when_a_run_ends_expires_and_never_applies_later(store: RunStore) -> None:
    run_id = create_run(store)
    store.add_command(run_id, Action("rollback", argument=4))
    store.end_run(run_id, "finished", "budget of 80 steps spent", 1.0)
    assert states(store, run_id) == {"rollback": ("expired", "the run ended before its next step")}
    store.adopt_run(run_id)
    assert store.load_waiting(run_id) == []
