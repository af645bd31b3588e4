"""A branch: the same weights, seeds and prompts under several settings, and the best on dev kept."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.actions import parse_action
from harness.core.branch import Branch, check_branch, next_move, open_branch, parse_branch
from harness.core.knobs import DEFAULT_BOUNDS
from harness.errors import Diverged, InputError, Refused
from harness.run.controller import Controller
from harness.run.replay import find_difference, plan_replay
from harness.run.runner import Run
from harness.types import Action, DecisionRecord, Knobs
from tests.support.runs import REWARD, resume_run, start_mini

ASKED = Action("branch", argument="2 learning_rate=0.01 temperature=0.9,max_tokens=20")


# ---------------------------------------------------------------- what may be asked


def test_a_person_gives_steps_and_settings() -> None:
    assert parse_action(["branch", "6", "learning_rate=5e-5,beta=0.1", "temperature=0.9"]).argument == (
        "6 learning_rate=5e-5,beta=0.1 temperature=0.9"
    )
    assert parse_branch("6 learning_rate=5e-5,beta=0.1") == (6, ({"learning_rate": 5e-5, "beta": 0.1},))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x temperature=0.9", "the steps of an arm first, 1 to 1000, not 'x'"),
        ("0 temperature=0.9", "the steps of an arm first"),
        ("6 temperature", "knob=value"),
        ("6 temperature=hot", "temperature needs a number"),
        ("6 " + " ".join(f"temperature=0.{i}" for i in range(1, 10)), "with 1 to 7 others"),
    ],
)
def test_what_is_no_branch_is_refused_with_the_mend(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_action(["branch", *text.split()])


def test_an_empty_branch_is_refused() -> None:
    with pytest.raises(Refused, match="steps of an arm first"):
        parse_branch("")


@pytest.mark.parametrize(
    ("text", "pins", "left", "said"),
    [
        ("6 temperature=99", (), 50, r"temperature 99 is outside its bounds \[0.3, 1.5\]"),
        ("6 temperature=0.9", ("temperature",), 50, "pinned by a person"),
        ("6 temperature=0.9 temperature=0.9", (), 50, "two of these are the same"),
        ("6 temperature=1.0", (), 50, "two of these are the same"),
        ("6 temperature=0.9", (), 11, "2 arms of 6 steps are 12, and the budget has 11 left"),
    ],
)
def test_what_cannot_be_compared_is_refused(text: str, pins: tuple[str, ...], left: int, said: str) -> None:
    with pytest.raises(Refused, match=said):
        check_branch(Action("branch", argument=text), Knobs(), DEFAULT_BOUNDS, pins, steps_left=left)


# ---------------------------------------------------------------- what is kept


def finish(*answers: dict[str, int] | None) -> tuple[str, list[tuple[int, str]]]:
    """What is kept, and the verdicts, after the last of arms that answered dev like this (None: weights lost)."""
    settings = " ".join(f"beta=0.{9 - arm}" for arm in range(len(answers) - 1))
    branch = open_branch(Action("branch", argument=f"2 {settings}"), start=10, last_step=10, knobs=Knobs())
    for arm, given in enumerate(answers):
        branch = replace(branch, lost=given is None)
        if arm + 1 < len(answers):
            branch = branch.finish(12 + 2 * arm, 12 + 2 * arm)
    looks = {12 + 2 * arm: given for arm, given in enumerate(answers) if given is not None}
    last = 10 + 2 * len(answers)
    records = [DecisionRecord(11, "rules", "branch", f"2 {settings}", {}, "", "", "", id=1)]
    records += [
        DecisionRecord(11 + 2 * arm, "experiment", "branch", f"arm {arm}", {}, "", "", "", id=1 + arm)
        for arm in range(1, len(answers))
    ]
    move = next_move(
        branch, last_step=last, weights_step=last, load_answers=looks.__getitem__, load_signal=lambda _: ({}, {}),
        decisions=records,
    )  # fmt: skip
    return str(move.decision.action.argument).partition(":")[0], [(v.decision_id, v.verdict) for v in move.verdicts]


@pytest.mark.parametrize(
    ("knobs", "arm", "mixed", "reward", "devs", "kept"),
    [
        (2.0, 1.0, (0.4, 0.7), 0.0, (20, 22), "keep 1"),
        (2.0, 1.0, (0.9, 0.5), 0.2, (20, 22), "keep 1"),
        (2.0, 1.0, (0.6, 0.2), 0.2, (20, 22), "keep 0"),
        (2.0, 1.0, (0.2, 0.2), 0.1, (22, 20), "keep 1"),
        (2.0, 1.0, (0.4, 0.4), 0.0, (20, 22), "keep 0"),
        (2.0, 1.0, (0.4, 0.7), 0.0, (35, 5), "keep 0"),
        (0.7, 1.0, (0.3, 0.6), -0.1, (20, 22), "keep 1"),
        (1.0, 1.4, (0.1, 0.5), -0.2, (20, 22), "keep 1"),
        (1.0, 0.6, (0.5, 0.5), 0.3, (20, 22), "keep 0"),
    ],
    ids=[
        "more is mixed", "enough is mixed, for more reward", "too little is mixed", "as little, for more reward",
        "no difference", "dev says no", "colder samples", "hotter ones where little is mixed",
        "colder ones earn more, which says nothing",
    ],
)  # fmt: skip
def test_a_temperature_is_told_by_the_groups_of_the_same_prompts_where_dev_cannot(
    knobs: float, arm: float, mixed: tuple[float, float], reward: float, devs: tuple[int, int], kept: str
) -> None:
    action = Action("branch", argument=f"3 temperature={arm}")
    branch = open_branch(action, start=9, last_step=9, knobs=Knobs(temperature=knobs))
    branch = branch.finish(12, 12)
    asked: list[range] = []

    def load_signal(steps: range) -> tuple[dict[str, float], dict[str, float]]:
        asked.append(steps)
        return (
            {f"{i}": float(i / 48 < mixed[len(asked) - 1]) for i in range(48)},
            {f"{i}": 0.3 + 0.01 * (i % 7) + reward * (len(asked) > 1) for i in range(48)},
        )

    move = next_move(
        branch, last_step=15, weights_step=15, load_answers=lambda end: right(devs[end == 15]), load_signal=load_signal,
        decisions=(),
    )  # fmt: skip
    assert str(move.decision.action.argument).partition(":")[0] == kept
    assert asked == [range(10, 13), range(13, 16)]
    assert "mixed groups" in move.decision.evidence


def right(n: int, of: int = 40) -> dict[str, int]:
    return {f"p{i}": int(i < n) for i in range(of)}


@pytest.mark.parametrize(
    ("answers", "kept", "verdicts"),
    [
        ((right(10), right(30)), "keep 1", [(1, "helped"), (2, "helped")]),
        ((right(30), right(10)), "keep 0", [(1, "unclear"), (2, "hurt")]),
        ((right(20), right(20)), "keep 0", [(1, "unclear"), (2, "unclear")]),
        ((right(20), right(22)), "keep 1", [(1, "unclear"), (2, "unclear")]),
        ((right(10), right(30), right(35)), "keep 2", [(1, "helped"), (2, "helped"), (3, "helped")]),
        ((right(20), None), "keep 0", [(1, "unclear"), (2, "hurt")]),
        ((None, right(20)), "keep 1", [(1, "helped"), (2, "helped")]),
        ((None, None), "keep none", [(1, "unclear"), (2, "hurt")]),
    ],
)
def test_the_best_on_dev_is_kept_and_each_arm_judged_against_the_setting_as_it_was(
    answers: tuple[dict[str, int] | None, ...], kept: str, verdicts: list[tuple[int, str]]
) -> None:
    assert finish(*answers) == (kept, verdicts)


def test_an_open_branch_survives_json() -> None:
    branch = open_branch(ASKED, start=4, last_step=5, knobs=Knobs()).finish(7, 7)
    assert Branch.load(json.loads(json.dumps(asdict(branch)))) == branch
    assert Branch.load(None) is None


# ---------------------------------------------------------------- on a real run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Its reward differs within every group of an untrained model, so that each step updates; four steps are taken."""
    (tmp_path / "odd.py").write_text(REWARD.format(value="sum(map(ord, completion)) % 7 / 6"))
    return start_mini(
        tmp_path, reward={"function": f"{tmp_path}/odd.py:reward"}, budget={"steps": 12}, checkpoint={"every": 100},
        evaluate={"every": 100}, knobs={"learning_rate": 1e-3},
    )  # fmt: skip


@pytest.fixture
def controller(run: Run) -> Controller:
    controller = run.build_controller()
    for _ in range(4):
        controller._boundary()
    return controller


def ask(run: Run, action: Action) -> None:
    run.store.add_command(run.run_id, action)


def rows(run: Run, query: str) -> list[tuple[Any, ...]]:
    with run.store.read() as c:
        return [tuple(row) for row in c.execute(query)]


def branches(run: Run) -> list[tuple[Any, ...]]:
    asked = "SELECT step, source, argument, verdict, refused FROM decisions WHERE action = 'branch' ORDER BY id"
    return [(step, source, json.loads(words), *rest) for step, source, words, *rest in rows(run, asked)]


def test_arms_share_weights_seeds_and_prompts_and_the_best_goes_on(controller: Controller, run: Run) -> None:
    state = controller.session.state
    ask(run, ASKED)
    for _ in range(6):
        controller._boundary()
    drawn = {step: run.store.load_drawn(run.run_id, step) for step in range(5, 11)}
    assert drawn[5] == drawn[7] == drawn[9]
    assert drawn[6] == drawn[8] == drawn[10] != drawn[5]
    texts = rows(run, "SELECT step, completion FROM completions WHERE step IN (5, 7) AND kind != 'fixed' ORDER BY id")
    first, second = ([text for step, text in texts if step == number] for number in (5, 7))
    assert first == second, "with the same weights and seeds the first step of a learning rate's arm samples the same"
    parents = dict(rows(run, "SELECT step, parent FROM steps WHERE step > 4"))
    assert parents == {5: 4, 6: 5, 7: 4, 8: 7, 9: 4, 10: 9}
    controller._boundary()
    accuracies = [
        sum(answers.values()) for answers in (run.store.load_answers(run.run_id, end, "dev") for end in (6, 8, 10))
    ]
    best = accuracies.index(max(accuracies))
    asked, second_arm, third_arm, kept = branches(run)
    assert asked[:3] == (5, "manual", ASKED.argument)
    assert second_arm[:3] == (7, "experiment", "arm 1: learning_rate 0.01")
    assert third_arm[:3] == (9, "experiment", "arm 2: temperature 0.9, max_tokens 20")
    assert kept[1] == "experiment"
    assert kept[2].startswith(f"keep {best}: ")
    assert all(verdict is not None for *_, verdict, _ in (asked, second_arm, third_arm))
    assert state.branch is None
    assert (state.knobs.learning_rate, state.knobs.temperature) == [(1e-3, 1.0), (1e-2, 1.0), (1e-3, 0.9)][best]
    assert rows(run, "SELECT parent FROM steps WHERE step = 11") == [((6, 8, 10)[best],)]


def test_a_branch_that_the_budget_ends_with_is_closed_all_the_same(controller: Controller, run: Run) -> None:
    ask(run, Action("branch", argument="4 learning_rate=0.01"))
    assert controller.run() == ("finished", "budget of 12 steps spent")
    assert [argument for _, _, argument, _, _ in branches(run)][-1].startswith("keep ")
    assert controller.session.state.last_step == 12


def test_a_kill_after_it_was_closed_closes_it_once(
    controller: Controller, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(run, Action("branch", argument="4 learning_rate=0.01"))

    def kill() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(controller, "_score", kill)
    with pytest.raises(KeyboardInterrupt):
        controller.run()
    run.store.update_run(run.run_id, pid=2**22 + 1)
    assert resume_run(run.store, run.name).drive() == ("finished", "budget of 12 steps spent")
    kept = [argument for _, _, argument, _, _ in branches(run) if argument.startswith("keep")]
    assert len(kept) == 1


def test_a_new_era_gives_up_what_the_old_one_compared(controller: Controller, run: Run) -> None:
    ask(run, Action("branch", argument="2 learning_rate=0.01"))
    for _ in range(2):
        controller._boundary()
    controller.session.ask()  # the end of an arm is looked at and saved
    run.store.update_run(run.run_id, pid=2**22 + 1)
    again = resume_run(run.store, run.name, overrides=["reward.errored_limit=0.5"])
    state = again.build_controller().session.state
    assert state.branch is None
    assert state.knobs.learning_rate == 1e-3
    assert rows(run, "SELECT text FROM events WHERE text LIKE 'the branch from step 4 is given up%'")


def test_a_new_era_after_a_branch_has_what_it_kept(
    controller: Controller, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of what was kept was written while the branch was open."""
    ask(run, Action("branch", argument="4 learning_rate=0.01"))
    monkeypatch.setattr(run.store, "load_answers", lambda _, step, split: {"p": int(step == 12)})
    assert controller.run()[0] == "finished"
    assert controller.session.state.knobs.learning_rate == 0.01
    again = resume_run(run.store, run.name, overrides=["reward.errored_limit=0.5", "budget.steps=14"])
    state = again.build_controller().session.state
    assert (state.weights_step, state.branch, state.knobs.learning_rate) == (12, None, 0.01)
    assert not rows(run, "SELECT text FROM events WHERE text LIKE '%is given up%'")


def test_a_kill_in_the_second_arm_goes_on_as_if_it_had_not_been(controller: Controller, run: Run) -> None:
    ask(run, Action("branch", argument="3 learning_rate=0.01"))
    for _ in range(5):
        controller._boundary()
    run.store.update_run(run.run_id, pid=2**22 + 1)  # as if that process were dead
    again = resume_run(run.store, run.name)
    resumed = again.build_controller()
    assert resumed.session.state.last_step == 7, "from the end of the first arm"
    assert resumed.run()[0] == "finished"
    facts = "SELECT step, parent, knobs FROM steps WHERE state != 'superseded' ORDER BY step"
    taken = rows(run, facts), branches(run), rows(run, "SELECT step, hashes FROM checkpoints ORDER BY step")

    record, spec = plan_replay(run.store, run.name, "again")
    from tests.support.runs import start_run

    replayed = start_run(spec, "again", replay_of=run.store.load_run(record.id))
    assert replayed.drive()[0] == "finished"
    assert find_difference(run.store, record, run.store.find_run("again")) is None
    assert len(taken[0]) == 12
    assert taken[1][1][2] == "arm 1: learning_rate 0.01"


def test_in_a_branch_a_person_may_pause_and_give_it_up_but_not_change_what_is_compared(
    controller: Controller, run: Run
) -> None:
    session = controller.session
    ask(run, Action("branch", argument="3 learning_rate=0.01"))
    controller._boundary()
    ask(run, Action("set", {"temperature": 0.8}))
    ask(run, ASKED)
    ask(run, Action("pause"))
    controller._boundary()
    refused = [why for (why,) in rows(run, "SELECT refused FROM decisions WHERE step = 6 ORDER BY id")]
    assert refused[0] == "a branch compares settings; rollback 4 gives it up"
    assert refused[1] == "a branch is open from step 4; rollback 4 gives it up"
    assert (session.state.paused, session.state.last_step) == (True, 5)
    ask(run, Action("rollback", argument=4))
    ask(run, Action("resume"))
    controller._boundary()
    assert session.state.branch is None
    assert rows(run, "SELECT parent FROM steps WHERE step = 6") == [(4,)]


def test_an_arm_that_loses_its_weights_is_out_and_the_run_goes_on(
    controller: Controller, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = controller.session
    ask(run, Action("branch", argument="2 learning_rate=0.01"))
    step = session.trainer.step

    def lose(prompts: Any, knobs: Knobs, **rest: Any) -> Any:
        if knobs.learning_rate == 0.01:
            raise Diverged("the weights are not finite")
        return step(prompts, knobs, **rest)

    monkeypatch.setattr(session.trainer, "step", lose)
    assert controller.run()[0] == "finished"
    (_, lost, kept) = branches(run)
    assert lost[2:4] == ("arm 1: learning_rate 0.01", "hurt")
    assert kept[2] == "keep 0: as it is"
    assert session.state.knobs.learning_rate == 1e-3
