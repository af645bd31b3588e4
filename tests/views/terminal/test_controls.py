"""Keys at the dashboard: what they show, and what they queue only after a person has confirmed it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from harness.errors import InputError
from harness.types import Action, CommandRecord, Snapshot
from harness.views.terminal.controls import ASKS, VERBS, Hands
from tests.support.builders import make_run_record, make_sample, make_snapshot, make_steps

RUNNING = make_snapshot(make_steps(20), run=make_run_record(last_step=20))
PAUSED = replace(RUNNING, run=make_run_record(last_step=20, status="paused"))


@dataclass
class Asked:
    """What reached the queue."""

    actions: list[tuple[Action, str]] = field(default_factory=list)
    refusal: str = ""

    def __call__(self, action: Action, note: str) -> int:
        if self.refusal:
            raise InputError(self.refusal)
        self.actions.append((action, note))
        return len(self.actions)


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def hands(asked: Asked) -> Hands:
    return Hands(asked)


def press(hands: Hands, *keys: str, on: Snapshot = RUNNING) -> None:
    for key in keys:
        hands.press(key, on)


def write(hands: Hands, text: str, on: Snapshot = RUNNING) -> None:
    press(hands, *text, on=on)


def test_an_action_is_queued_only_after_it_was_confirmed(hands: Hands, asked: Asked) -> None:
    press(hands, "p")
    assert "pause?" in hands.look.prompt
    assert asked.actions == []
    press(hands, "enter")
    assert asked.actions == [(Action("pause"), "")]
    assert "queued as command 1: pause" in hands.look.message
    assert hands.look.prompt == ""


@pytest.mark.parametrize("key", ["p", *VERBS, *ASKS])
def test_escape_drops_what_was_begun(hands: Hands, asked: Asked, key: str) -> None:
    press(hands, key, "escape", "enter", "escape", on=PAUSED)
    assert asked.actions == []
    assert hands.look.prompt == ""


def test_a_knob_is_set_in_words_with_a_note(hands: Hands, asked: Asked) -> None:
    press(hands, "s")
    write(hands, "temperature=0.8")
    press(hands, "backspace", "9", "enter")
    assert "set temperature=0.9?" in hands.look.prompt
    write(hands, "calmer")
    press(hands, "enter")
    assert asked.actions == [(Action("set", {"temperature": 0.9}), "calmer")]


@pytest.mark.parametrize(
    ("keys", "words", "action"),
    [
        ("f", "harder", Action("focus", argument="harder")),
        ("b", "best", Action("rollback", argument="best")),
        ("w", "lunch", Action("save", argument="lunch")),
        ("r", "beta", Action("release", argument="beta")),
        (":", "evaluate", Action("evaluate")),
        (":", "set beta=0.1 max_tokens=30", Action("set", {"beta": 0.1, "max_tokens": 30})),
    ],
)
def test_every_action_has_a_key(hands: Hands, asked: Asked, keys: str, words: str, action: Action) -> None:
    press(hands, keys)
    write(hands, words)
    press(hands, "enter", "enter")
    assert asked.actions == [(action, "")]


@pytest.mark.parametrize(("key", "kind"), VERBS.items())
def test_verbs_need_no_words(hands: Hands, asked: Asked, key: str, kind: str) -> None:
    press(hands, key, "enter", on=PAUSED)
    assert [action.kind for action, _ in asked.actions] == [kind]


def test_the_same_key_pauses_and_goes_on(hands: Hands, asked: Asked) -> None:
    press(hands, "p", "enter")
    press(hands, "p", "enter", on=PAUSED)
    assert [action.kind for action, _ in asked.actions] == ["pause", "resume"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("temperature=9", "outside its bounds"),
        ("warmth=1", "no hyperparameter named warmth"),
        ("temperature=hot", "needs a number"),
        ("", "usage"),
    ],
)
def test_what_is_wrong_is_said_at_once_and_can_be_mended(hands: Hands, asked: Asked, words: str, why: str) -> None:
    press(hands, "s")
    write(hands, words)
    press(hands, "enter")
    assert why in hands.look.message
    assert why in hands.look.prompt
    assert asked.actions == []
    press(hands, "clear")
    write(hands, "set temperature=0.9")
    press(hands, "enter", "enter")
    assert [action.changes for action, _ in asked.actions] == [{"temperature": 0.9}]


def test_one_step_needs_a_pause(hands: Hands, asked: Asked) -> None:
    press(hands, "n")
    assert "not paused" in hands.look.message
    press(hands, "enter")
    assert asked.actions == []


def test_a_run_that_nothing_drives_says_so(hands: Hands, asked: Asked) -> None:
    asked.refusal = "the process of night died"
    press(hands, "x", "enter")
    assert hands.look.message == "not queued: the process of night died"


@pytest.mark.parametrize(
    ("state", "told"),
    [("applied", "applied before step 21, 1.5 s after it was asked: saved"), ("expired", "expired: saved")],
)
def test_what_came_of_it_is_told(hands: Hands, state: str, told: str) -> None:
    press(hands, "x", "enter")
    command = CommandRecord(1, Action("sample"), "ann@here", "", 10.0, "waiting", None, None, "")
    hands.notice(replace(RUNNING, commands=(command,)))
    assert "queued" in hands.look.message
    done = replace(command, state=state, step=21, applied_at=11.5, result="saved")
    hands.notice(replace(RUNNING, commands=(done,)))
    assert hands.look.message == told
    press(hands, "1")
    hands.notice(replace(RUNNING, commands=(done,)))
    assert hands.look.message == ""


def test_keys_of_what_is_typed_are_no_commands(hands: Hands) -> None:
    press(hands, "/")
    write(hands, "q1Q?")
    assert not hands.left
    press(hands, "enter")
    assert hands.look.words == "q1Q?"


def test_screens_help_and_leaving(hands: Hands) -> None:
    press(hands, "2")
    assert hands.look.screen == "decisions"
    press(hands, "tab")
    assert hands.look.screen == "samples"
    press(hands, "?")
    assert hands.look.screen == "help"
    press(hands, "?", "tab", "tab", "tab", "tab")
    assert hands.look.screen == "overview"
    press(hands, "q")
    assert hands.left


def test_scrolling_stays_within_what_there_is(hands: Hands) -> None:
    shown = replace(RUNNING, samples=tuple(replace(make_sample(1), prompt=f"{i}+1=") for i in range(5)))
    press(hands, "3", "page down", on=shown)
    assert hands.look.skip == 4
    press(hands, "page up", on=shown)
    assert hands.look.skip == 0


def test_the_run_is_stepped_through_and_played_to_its_end(hands: Hands) -> None:
    press(hands, "left", "left")
    assert hands.look.at == 18
    press(hands, "right")
    assert hands.look.at == 19
    press(hands, "right")
    assert hands.look.at is None
    press(hands, "home", " ")
    assert (hands.look.at, hands.playing) == (1, True)
    hands.play_on(RUNNING, 10)
    assert (hands.look.at, hands.playing) == (11, True)
    hands.play_on(RUNNING, 10)
    assert (hands.look.at, hands.playing) == (None, False)


def test_a_terminal_that_has_gone_ends_it(hands: Hands) -> None:
    press(hands, "s", "gone")
    assert hands.left
