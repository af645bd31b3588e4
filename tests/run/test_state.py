from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from harness.config.schema import BudgetSpec, RunSpec
from harness.core.knobs import DEFAULT_BOUNDS
from harness.errors import Refused
from harness.run.state import Settings, State, apply_decision
from harness.types import Action, ActionKind, Decision, Knobs, Source


def check_policy(kind: str) -> None:
    if kind not in ("rules", "fixed"):
        raise Refused(f"no decision policy named {kind}")


SETTINGS = Settings(RunSpec(budget=BudgetSpec(steps=50)), DEFAULT_BOUNDS, check_policy)


def make_state() -> State:
    return State(Knobs(), "rules", last_step=5, weights_step=5)


def tell(state: State, action: Action, source: Source = "rules") -> object:
    return apply_decision(state, Decision(action, source), SETTINGS)


def test_set_changes_the_knob_and_says_how() -> None:
    state = make_state()
    assert tell(state, Action("set", {"temperature": 0.8})) == {"temperature": {"from": 1.0, "to": 0.8}}
    assert state.knobs.temperature == 0.8
    assert state.pins == set()


def test_a_knob_set_by_hand_is_pinned_until_released() -> None:
    state = make_state()
    tell(state, Action("set", {"temperature": 0.8}), "manual")
    assert state.pins == {"temperature"}
    with pytest.raises(Refused, match="temperature is pinned by a person until released"):
        tell(state, Action("set", {"temperature": 0.9}))
    assert state.knobs.temperature == 0.8
    tell(state, Action("release", argument="temperature"), "manual")
    tell(state, Action("set", {"temperature": 0.9}))
    assert state.knobs.temperature == 0.9


def test_a_person_may_set_a_pinned_knob_again() -> None:
    state = make_state()
    tell(state, Action("set", {"temperature": 0.8}), "manual")
    tell(state, Action("set", {"temperature": 0.7}), "manual")
    assert state.knobs.temperature == 0.7


def test_one_pinned_knob_refuses_the_whole_change() -> None:
    state = make_state()
    state.pins = {"beta"}
    with pytest.raises(Refused, match="beta is pinned"):
        tell(state, Action("set", {"temperature": 0.8, "beta": 0.1}))
    assert state.knobs == Knobs()


def test_a_refused_manual_change_pins_nothing() -> None:
    state = make_state()
    with pytest.raises(Refused, match="outside its bounds"):
        tell(state, Action("set", {"temperature": 99.0}), "manual")
    assert (state.pins, state.knobs) == (set(), Knobs())


def test_focus_words_move_from_the_present_focus() -> None:
    state = make_state()
    tell(state, Action("focus", argument="easier"))
    assert tell(state, Action("focus", argument="easier")) == {"focus": {"from": 0.65, "to": 0.8}}
    tell(state, Action("focus", {"focus": None}))
    assert state.knobs.focus is None


def test_release_of_a_knob_that_is_not_pinned_names_the_pins() -> None:
    state = make_state()
    state.pins = {"beta"}
    with pytest.raises(Refused, match="temperature is not pinned; pinned hyperparameters: beta"):
        tell(state, Action("release", argument="temperature"), "manual")


def test_the_policy_is_changed_to_a_known_kind_only() -> None:
    state = make_state()
    tell(state, Action("policy", argument="fixed"), "manual")
    with pytest.raises(Refused, match="no decision policy named magic"):
        tell(state, Action("policy", argument="magic"), "manual")
    assert state.policy == "fixed"


def test_pause_and_resume() -> None:
    state = make_state()
    with pytest.raises(Refused, match="not paused"):
        tell(state, Action("resume"), "manual")
    tell(state, Action("pause"), "manual")
    assert state.paused
    tell(state, Action("resume"), "manual")
    assert not state.paused


@pytest.mark.parametrize("kind", ["continue", "evaluate", "sample", "save", "rollback", "stop"])
def test_verbs_that_touch_the_model_change_no_state(kind: ActionKind) -> None:
    state = make_state()
    assert tell(state, Action(kind)) == {}
    assert state == make_state()


def test_state_survives_json() -> None:
    state = State(Knobs(learning_rate=1 / 3, focus=0.4), "fixed", last_step=58, weights_step=40, pins={"focus", "beta"})
    again = State(Knobs(), "rules")
    again.load_json(json.loads(json.dumps(state.to_json())))
    assert again == state


def test_a_restored_checkpoint_leaves_pinned_knobs_as_the_person_set_them() -> None:
    state = State(Knobs(temperature=0.5, beta=0.2), "rules", pins={"temperature"})
    state.restore_knobs({"knobs": asdict(Knobs(temperature=1.2, beta=0.0))}, {})
    assert state.knobs == Knobs(temperature=0.5, beta=0.0)
