from __future__ import annotations

import os
import pty
import termios
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.views.terminal.keyboard import NAMES, Keyboard, split_keys


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def keys_of(text: str) -> list[str]:
    keys, rest = split_keys(text, complete=True)
    assert rest == ""
    return keys


@pytest.mark.parametrize(("sent", "name"), NAMES.items())
def test_every_named_key_is_known(sent: str, name: str) -> None:
    assert keys_of(sent) == [name]


def test_characters_and_sequences_are_told_apart() -> None:
    assert keys_of("a\x1b[Aé\x1b[5~\r") == ["a", "up", "é", "page up", "enter"]


def test_sequences_of_unknown_keys_are_dropped_as_a_whole() -> None:
    assert keys_of("\x1b[15~x\x1b[1;5Cy\x00") == ["x", "y"]


def test_the_beginning_of_a_sequence_waits_for_its_end() -> None:
    assert split_keys("a\x1b[", complete=False) == (["a"], "\x1b[")
    assert split_keys("\x1b", complete=False) == ([], "\x1b")
    assert split_keys("\x1b", complete=True) == (["escape"], "")


@given(st.text(alphabet="\x1b[O~;159ABq\x7f\n", max_size=12), st.integers(0, 12))
def test_where_a_read_ends_changes_nothing(text: str, cut: int) -> None:
    first, rest = split_keys(text[:cut], complete=False)
    second, _ = split_keys(rest + text[cut:], complete=True)
    assert first + second == keys_of(text)


def test_keys_come_one_by_one_what_was_typed_ahead_too(terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    os.write(ours, b"q")
    with Keyboard(theirs) as keyboard:
        os.write(ours, "ü\x1b[A".encode())
        assert [keyboard.get(5) for _ in range(3)] == ["q", "ü", "up"]
        assert keyboard.get(0) is None
        keyboard.put("redraw")
        assert keyboard.get(0) == "redraw"


def test_an_escape_alone_is_a_key(terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    with Keyboard(theirs) as keyboard:
        os.write(ours, b"\x1b")
        assert keyboard.get(5) == "escape"


def test_the_terminal_is_given_back_as_it_was_and_can_be_taken_again(terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    before = termios.tcgetattr(theirs)
    keyboard = Keyboard(theirs)
    for _ in range(2):
        with keyboard:
            assert not termios.tcgetattr(theirs)[3] & termios.ECHO
            assert termios.tcgetattr(theirs)[3] & termios.ISIG, "Ctrl-C still interrupts"
            os.write(ours, b"x")
            assert keyboard.get(5) == "x"
        assert termios.tcgetattr(theirs) == before


def test_it_is_given_back_after_an_error_too(terminal: tuple[int, int]) -> None:
    _, theirs = terminal
    before = termios.tcgetattr(theirs)
    with pytest.raises(ZeroDivisionError), Keyboard(theirs):
        _ = 1 / 0
    assert termios.tcgetattr(theirs) == before


def test_a_terminal_that_goes_away_is_told() -> None:
    ours, theirs = pty.openpty()
    with Keyboard(theirs) as keyboard:
        os.close(ours)
        until = time.monotonic() + 5
        key = keyboard.get(5)
        assert key == "gone", time.monotonic() - until
    os.close(theirs)
