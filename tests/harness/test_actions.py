from __future__ import annotations

import pytest

from harness.actions import USAGE, parse_action
from harness.errors import InputError
from harness.types import Action


@pytest.mark.parametrize(
    ("words", "action"),
    [
        ("set temperature=0.9 max_tokens=30", Action("set", {"temperature": 0.9, "max_tokens": 30})),
        ("focus easier", Action("focus", argument="easier")),
        ("focus harder", Action("focus", argument="harder")),
        ("focus uniform", Action("focus", {"focus": None})),
        ("focus 0.4", Action("focus", {"focus": 0.4})),
        ("release temperature", Action("release", argument="temperature")),
        ("pause", Action("pause")),
        ("resume", Action("resume")),
        ("stop", Action("stop")),
        ("sample", Action("sample")),
        ("evaluate", Action("evaluate")),
        ("save before-lunch_1.0", Action("save", argument="before-lunch_1.0")),
        ("rollback best", Action("rollback", argument="best")),
        ("rollback 40", Action("rollback", argument=40)),
        ("policy fixed", Action("policy", argument="fixed")),
    ],
)
def test_words_become_an_action(words: str, action: Action) -> None:
    assert parse_action(words.split()) == action


def test_every_verb_has_its_usage_in_the_answer_to_an_unknown_one() -> None:
    with pytest.raises(InputError, match="no action 'faster'") as caught:
        parse_action(["faster"])
    assert all(usage in str(caught.value) for usage in USAGE.values())


@pytest.mark.parametrize(
    "words",
    ["set", "focus", "focus 1 2", "release", "release warmth", "pause now", "save", "save a b", "save ../x",
     "rollback", "rollback -3", "rollback 1.5", "policy", "stop it"],
)  # fmt: skip
def test_wrong_arguments_are_answered_with_the_usage_of_that_verb(words: str) -> None:
    with pytest.raises(InputError, match="usage: grpo act RUN") as caught:
        parse_action(words.split())
    assert USAGE[words.split(maxsplit=1)[0]] in str(caught.value)


@pytest.mark.parametrize("words", ["set temperature", "set temperature=hot", "set temperature=nan", "focus soft"])
def test_values_that_are_none_name_what_is_wrong(words: str) -> None:
    with pytest.raises(InputError, match=r"temperature|easier, harder, uniform"):
        parse_action(words.split())


@pytest.mark.parametrize("words", [[], [""]])
def test_no_words_list_the_actions(words: list[str]) -> None:
    with pytest.raises(InputError, match="actions are: set knob=value"):
        parse_action(words)


def test_focus_that_is_no_number_at_all_is_wrong_input() -> None:
    with pytest.raises(InputError, match="focus"):
        parse_action(["focus", "nan"])
