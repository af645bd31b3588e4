from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.knobs import (
    DEFAULT_BOUNDS,
    KNOB_NAMES,
    WHOLE_NUMBERS,
    apply_changes,
    check_value,
    compute_focus,
    describe,
    parse_assignments,
)
from harness.errors import Refused
from harness.types import Action, Knobs


def test_every_knob_has_bounds_that_hold_its_default() -> None:
    assert set(DEFAULT_BOUNDS) == set(KNOB_NAMES)
    for name in KNOB_NAMES:
        default = getattr(Knobs(), name)
        assert check_value(name, default, DEFAULT_BOUNDS) == default


@pytest.mark.parametrize("name", KNOB_NAMES)
def test_a_bound_itself_is_allowed_and_beyond_it_is_refused(name: str) -> None:
    low, high = DEFAULT_BOUNDS[name]
    assert check_value(name, low, DEFAULT_BOUNDS) == low
    assert check_value(name, high, DEFAULT_BOUNDS) == high
    with pytest.raises(Refused, match=f"{name} .* is outside its bounds"):
        check_value(name, high + 1, DEFAULT_BOUNDS)
    with pytest.raises(Refused, match=f"{name} .* is outside its bounds"):
        check_value(name, low - 1, DEFAULT_BOUNDS)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "1", 10**400])
def test_only_finite_numbers_are_values(value: float) -> None:
    with pytest.raises(Refused, match="temperature must be a finite number"):
        check_value("temperature", value, DEFAULT_BOUNDS)


@pytest.mark.parametrize("name", sorted(WHOLE_NUMBERS))
def test_whole_numbers_are_stored_as_int_and_fractions_refused(name: str) -> None:
    assert isinstance(check_value(name, 8.0, DEFAULT_BOUNDS), int)
    with pytest.raises(Refused, match=f"{name} must be a whole number"):
        check_value(name, 8.5, DEFAULT_BOUNDS)


def test_only_focus_may_be_unset() -> None:
    assert check_value("focus", None, DEFAULT_BOUNDS) is None
    with pytest.raises(Refused, match="beta needs a number"):
        check_value("beta", None, DEFAULT_BOUNDS)


@pytest.mark.parametrize(("name", "hint"), [("temprature", "did you mean temperature"), ("zzz", "learning_rate")])
def test_an_unknown_knob_is_answered_with_the_nearest_or_all(name: str, hint: str) -> None:
    with pytest.raises(Refused, match=hint):
        check_value(name, 1.0, DEFAULT_BOUNDS)


def test_changes_say_from_and_to_and_leave_the_rest() -> None:
    before = Knobs(temperature=1.0, max_tokens=20)
    after, changes = apply_changes(before, {"temperature": 0.8, "max_tokens": 30.0}, DEFAULT_BOUNDS)
    assert after == Knobs(temperature=0.8, max_tokens=30)
    assert changes == {"temperature": {"from": 1.0, "to": 0.8}, "max_tokens": {"from": 20, "to": 30}}
    assert before == Knobs(temperature=1.0, max_tokens=20)


def test_one_bad_change_refuses_all_of_them() -> None:
    with pytest.raises(Refused, match="beta"):
        apply_changes(Knobs(), {"temperature": 0.8, "beta": 9.0}, DEFAULT_BOUNDS)


@pytest.mark.parametrize(
    ("word", "focus", "expected"),
    [
        ("easier", None, 0.65),
        ("harder", None, 0.35),
        ("easier", 0.5, 0.65),
        ("harder", 0.3, 0.15),
        ("easier", 0.9, 0.95),
        ("harder", 0.1, 0.05),
        ("unset", 0.4, None),
        ("0.25", 0.4, 0.25),
    ],
)
def test_focus_words(word: str, focus: float | None, expected: float | None) -> None:
    assert compute_focus(word, focus, DEFAULT_BOUNDS) == expected


def test_an_unknown_focus_word_is_refused() -> None:
    with pytest.raises(Refused, match="easier, harder, unset"):
        compute_focus("hard", None, DEFAULT_BOUNDS)


@given(st.lists(st.sampled_from(["easier", "harder"]), max_size=30))
def test_focus_never_leaves_its_bounds(words: list[str]) -> None:
    focus: float | None = None
    for word in words:
        focus = compute_focus(word, focus, DEFAULT_BOUNDS)
        assert check_value("focus", focus, DEFAULT_BOUNDS) == focus


def test_assignments_are_parsed_to_the_type_of_the_knob() -> None:
    changes = parse_assignments(["temperature=0.9", "group_size=16", "learning_rate=1e-5"])
    assert changes == {"temperature": 0.9, "group_size": 16, "learning_rate": 1e-5}
    assert isinstance(changes["group_size"], int)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["temperature"], "knob=value, not 'temperature'"),
        (["temperature=warm"], "temperature needs a number, not 'warm'"),
        (["group_size=8.5"], "group_size needs a number"),
        (["temperature="], "temperature needs a number"),
        (["temperature=nan"], "temperature needs a number"),
        (["learning_rate=inf"], "learning_rate needs a number"),
        ([], "at least one"),
    ],
)
def test_bad_assignments_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(Refused, match=message):
        parse_assignments(words)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Action("set", {"temperature": 0.9, "max_tokens": 30}), "temperature=0.9 max_tokens=30"),
        (Action("focus", {"focus": None}), "focus=unset"),
        (Action("rollback", argument=40), "rollback 40"),
        (Action("continue"), "continue"),
    ],
)
def test_an_action_is_described_in_a_few_words(action: Action, words: str) -> None:
    assert describe(action) == words
