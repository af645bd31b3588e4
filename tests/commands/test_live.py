"""Acting on a run from Python: what is queued, what is waited for, and what can never be applied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import commands
from harness.errors import HarnessError, InputError
from harness.store.writer import RunStore
from tests.support.builders import create_run, make_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = make_store(tmp_path)
    yield opened
    opened.close()


def test_what_waits_for_a_resume_is_within_its_bounds(store: RunStore) -> None:
    run_id = create_run(store)
    store.end_run(run_id, "finished", "budget of 80 steps spent", 1.0)
    with pytest.raises(InputError, match=r"^temperature 99 is outside its bounds \[0.3, 1.5\]$"):
        commands.act("night", ["set", "temperature=99"], wait=False, db=store.url)
    assert len(store.load_waiting(run_id)) == 0
    done = commands.act("night", ["set", "temperature=0.9"], note="colder", wait=False, db=store.url)
    assert (done.state, done.alive, done.step) == ("queued", False, None)
    (command,) = store.load_waiting(run_id)
    assert (command.id, command.note) == (done.command, "colder")


@pytest.mark.parametrize(("state", "result"), [("applied", "evaluated"), ("refused", "it is pinned")])
def test_an_action_is_waited_for_until_the_run_has_taken_or_refused_it(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, state: str, result: str
) -> None:
    run_id = create_run(store)

    def answer(_seconds: float) -> None:
        """Do what the run's process does before its next step, while the one who asked sleeps."""
        for command in store.load_waiting(run_id):
            store.finish_command(command.id, state, result)

    monkeypatch.setattr("harness.commands.live.time.sleep", answer)
    done = commands.act("latest", ["evaluate"], db=store.url)
    assert (done.state, done.result) == (state, result)


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        (False, "command 1 still waits after 0.05 s; it applies before the next step"),
        (True, "expired: the run ended before its next step"),
    ],
)
def test_what_is_not_taken_is_said(store: RunStore, monkeypatch: pytest.MonkeyPatch, ends: bool, said: str) -> None:
    run_id = create_run(store)
    if ends:
        monkeypatch.setattr(
            "harness.commands.live.time.sleep", lambda _: store.end_run(run_id, "stopped", "stopped by user", 1.0)
        )
    with pytest.raises(HarnessError) as refusal:
        commands.act("night", ["sample"], timeout=60.0 if ends else 0.05, db=store.url)
    assert str(refusal.value) == said
