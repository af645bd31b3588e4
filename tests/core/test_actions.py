from __future__ import annotations

import pytest

from harness.core.actions import USAGE, Expectation, check_action, parse_action, parse_expected
from harness.errors import HarnessError, InputError
from harness.types import Action
from tests.support.builders import make_checkpoint, make_snapshot


@pytest.mark.parametrize(
    ("words", "action"),
    [
        ("set temperature=0.9 max_tokens=30", Action("set", {"temperature": 0.9, "max_tokens": 30})),
        ("focus easier", Action("focus", argument="easier")),
        ("focus harder", Action("focus", argument="harder")),
        ("focus unset", Action("focus", {"focus": None})),
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
        ("rollback before-lunch", Action("rollback", argument="before-lunch")),
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
    with pytest.raises(InputError, match=r"temperature|easier, harder, unset"):
        parse_action(words.split())


@pytest.mark.parametrize("words", [[], [""]])
def test_no_words_list_the_actions(words: list[str]) -> None:
    with pytest.raises(InputError, match="actions are: set knob=value"):
        parse_action(words)


def test_focus_that_is_no_number_at_all_is_wrong_input() -> None:
    with pytest.raises(InputError, match="focus"):
        parse_action(["focus", "nan"])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("set temperature=0.9", ""),
        ("set temperature=9", "outside its bounds"),
        ("set temprature=0.9", "did you mean temperature"),
        ("set beta=0.1", "pinned by a person"),
        ("focus easier", ""),
        ("rollback 10", ""),
        ("rollback best", ""),
        ("rollback 11", "no checkpoint 11; there are: 0, 10"),
        ("dance", "no action"),
    ],
)
def test_what_a_policy_asks_for_is_checked_as_a_persons_words_are(words: str, why: str) -> None:
    checkpoints = (make_checkpoint(0), make_checkpoint(10, best=True))
    snapshot = make_snapshot(checkpoints=checkpoints, pins=frozenset({"beta"}))
    if not why:
        assert check_action(words.split(), snapshot) == parse_action(words.split())
        return
    with pytest.raises(HarnessError, match=why):
        check_action(words.split(), snapshot)


def test_without_a_best_checkpoint_there_is_none_to_go_back_to() -> None:
    with pytest.raises(HarnessError, match="no checkpoint best; there are: none"):
        check_action(["rollback", "best"], make_snapshot())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("dev back to about 0.8", ()),
        ("kl/mean falls and dev rises", (Expectation("kl/mean", "falls"), Expectation("dev", "rises"))),
        ("the test score is near dev", ()),
        ("dev rises back to its best", (Expectation("dev", "rises"),)),
        ("group/mixed_rate rises sometime", (Expectation("group/mixed_rate", "rises"),)),
        (
            "completion/truncated_rate falls, group/unsolved_rate falls",
            (Expectation("completion/truncated_rate", "falls"), Expectation("group/unsolved_rate", "falls")),
        ),
    ],
)
def test_expectations_are_read_from_a_decisions_own_words(text: str, found: tuple[Expectation, ...]) -> None:
    assert parse_expected(text) == found
