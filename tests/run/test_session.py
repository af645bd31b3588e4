"""Session and controller with the real trainer and store: order of events, rollback numbering, pins, pauses."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli.tables import render_review
from harness.core.liveness import RESTARTED
from harness.run.controller import Controller
from harness.run.runner import Run
from harness.run.session import Session
from harness.store.history import load_history
from harness.types import Action, Decision, Evaluation, Score, Snapshot, Verdict, no_progress
from harness.views.console import Console
from tests.support.runs import resume_run, review, start_mini

GO_ON = Decision(Action("continue"), "fixed", "go on")


def by_hand(kind: Any, argument: Any = None, **changes: Any) -> Decision:
    return Decision(Action(kind, changes, argument), "manual", "asked")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = start_mini(tmp_path)
    yield run
    run.store.close()


@pytest.fixture
def controller(run: Run) -> Controller:
    return run.build_controller()


@pytest.fixture
def session(controller: Controller) -> Session:
    controller.session.ask()
    return controller.session


def test_the_start_is_measured_and_saved_before_the_first_step(session: Session, run: Run) -> None:
    looks = {(look.split, look.step) for look in load_history(run.store, "s").evaluations}
    assert looks == {("dev", 0), ("test", 0)}
    assert [c.step for c in session.ask().checkpoints] == [0]


def test_a_decision_is_recorded_before_it_is_acted_on(session: Session, run: Run, monkeypatch: Any) -> None:
    def crash(*_: Any, **__: Any) -> Any:
        raise OSError("power cut")

    monkeypatch.setattr(session.trainer, "step", crash)
    with pytest.raises(OSError, match="power cut"):
        session.tell(by_hand("set", temperature=0.8))
    document = review(run)
    assert document["reward"]["by_step"] == []
    assert document["decisions"][0]["changes"] == {"temperature": {"from": 1.0, "to": 0.8}}
    assert document["decisions"][0]["step"] == 1


def test_the_checkpoint_folder_is_complete_before_its_row(session: Session, run: Run, monkeypatch: Any) -> None:
    seen: list[bool] = []
    record_step = run.store.record_step

    def spy(*args: Any, **kwargs: Any) -> None:
        if kwargs["checkpoint"] is not None:
            seen.append((Path(kwargs["checkpoint"].path) / "session.json").exists())
        record_step(*args, **kwargs)

    monkeypatch.setattr(session.store, "record_step", spy)
    for _ in range(3):
        session.tell(GO_ON)
    assert seen == [True]


def test_step_numbers_never_return_after_a_rollback(session: Session, run: Run) -> None:
    for _ in range(5):
        session.tell(GO_ON)
    session.tell(by_hand("rollback", 3))
    session.tell(GO_ON)
    steps = [(step.step, step.parent) for step in session.ask().steps]
    assert steps == [(1, 0), (2, 1), (3, 2), (6, 3), (7, 6)]
    document = review(run)
    assert document["steps"] == 7
    assert len(document["reward"]["by_step"]) == 5


def test_a_rollback_restores_weights_optimizer_and_knobs_but_not_pins_or_history(session: Session) -> None:
    for _ in range(3):
        session.tell(GO_ON)
    history = session.pool.state()
    session.tell(Decision(Action("set", {"learning_rate": 1e-3}), "rules"), by_hand("set", temperature=0.7))
    assert session.pool.state() != history
    session.tell(by_hand("rollback", 3), by_hand("pause"))
    assert session.state.knobs.learning_rate == 1e-4
    assert session.state.knobs.temperature == 0.7
    assert session.state.pins == {"temperature"}
    assert session.pool.state() != history


def test_a_policy_leaves_a_pinned_knob_alone_until_it_is_released(session: Session, run: Run) -> None:
    session.tell(by_hand("set", temperature=0.8))
    session.tell(Decision(Action("set", {"temperature": 1.2}), "rules", "warmer"))
    assert session.state.knobs.temperature == 0.8
    session.tell(by_hand("release", "temperature"))
    session.tell(Decision(Action("set", {"temperature": 1.2}), "rules", "warmer"))
    assert session.state.knobs.temperature == 1.2
    refusals = [d["refused"] for d in review(run)["decisions"]]
    assert refusals == [None, "temperature is pinned by a person until released", None, None]


def test_all_commands_of_a_boundary_apply_in_order_and_the_policy_is_not_asked(
    controller: Controller, run: Run
) -> None:
    for action in (
        Action("set", {"temperature": 0.7}),
        Action("set", {"temperature": 0.9}),
        Action("release", {}, "beta"),
    ):
        run.store.add_command(run.run_id, action)
    controller._boundary()
    controller._boundary()
    rows = [(d["step"], d["source"], d["action"], d["refused"]) for d in review(run)["decisions"]]
    assert rows == [
        (1, "manual", "set", None),
        (1, "manual", "set", None),
        (1, "manual", "release", "beta is not pinned; pinned hyperparameters: temperature"),
        (2, "fixed", "continue", None),
    ]
    assert controller.session.state.knobs.temperature == 0.9
    assert [run.store.load_command(i).state for i in (1, 2, 3)] == ["applied", "applied", "refused"]


def test_a_paused_run_applies_commands_and_takes_no_step(session: Session) -> None:
    session.tell(by_hand("pause"))
    session.tell(by_hand("set", temperature=0.8), by_hand("evaluate"), by_hand("save", "here"))
    assert session.state.last_step == 0
    session.tell(by_hand("resume"))
    assert session.state.last_step == 1


def test_looking_twice_at_the_same_weights_records_once(session: Session, run: Run) -> None:
    session.tell(by_hand("evaluate"))
    session.tell(by_hand("evaluate"))
    session.ask()
    looks = [(look.split, look.step) for look in load_history(run.store, "s").evaluations]
    assert len(looks) == len(set(looks))


def test_the_best_weights_on_dev_are_saved_whenever_they_are_found(session: Session, monkeypatch: Any) -> None:
    session.tell(GO_ON)
    session.tell(GO_ON)
    evaluate = session.evaluator.evaluate

    def better(split: str, **kwargs: Any) -> Evaluation:
        return replace(evaluate(split, **kwargs), accuracy=0.9)

    monkeypatch.setattr(session.evaluator, "evaluate", better)
    session.tell(by_hand("evaluate"), by_hand("pause"))
    best = next(c for c in session.ask().checkpoints if c.best)
    assert best.step == 2
    link = next(session.checkpoints.folder.parent.glob("best-*"))
    assert link.name == "best-step-2-dev-0.900"
    assert (link / "model.safetensors").exists()


def test_a_failing_policy_costs_a_decision_and_not_the_night(controller: Controller, run: Run) -> None:
    class Broken:
        kind = "fixed"
        repeats = False

        def decide(self, snapshot: Snapshot) -> Decision:
            raise ZeroDivisionError("oops")

    controller.policy = Broken()
    controller._boundary()
    assert controller.session.state.last_step == 1
    assert "failed" in review(run)["decisions"][0]["evidence"]


def test_a_budget_of_hours_ends_the_run(tmp_path: Path) -> None:
    run = start_mini(tmp_path, budget={"hours": 1e-9})
    assert run.build_controller().run() == ("finished", "budget of 1e-09 hours spent")
    run.store.close()


def test_a_resume_repeats_logged_decisions_rollbacks_included(run: Run, controller: Controller) -> None:
    """Killed after a rollback and two more steps, the newest checkpoint lies before the rollback."""
    session = controller.session
    session.ask()
    script: list[list[Decision]] = [
        [GO_ON], [by_hand("set", temperature=0.9)], [GO_ON], [by_hand("focus", "easier")],
        [by_hand("rollback", 3)], [Decision(Action("set", {"learning_rate": 1e-3}), "rules", "why")],
    ]  # fmt: skip
    for decisions in script:
        session.tell(*decisions)
        session.ask()
    before = review(run)
    run.store.update_run(run.run_id, pid=2**22 + 1)  # as if that process were dead

    again = resume_run(run.store, "s", overrides=["budget.steps=6"])
    assert again.build_controller().run() == ("finished", "budget of 6 steps spent")
    after = review(again)
    assert after["reward"]["by_step"] == before["reward"]["by_step"]
    assert after["decisions"] == before["decisions"]
    assert after["knobs"] == before["knobs"]


def take_a_harmful_change(controller: Controller) -> None:
    """Three steps, then somebody cuts the answers short and expects the opposite, then eight more boundaries."""
    session = controller.session
    for _ in range(3):
        controller._boundary()
    session.ask()
    session.tell(
        Decision(Action("set", {"max_tokens": 6}), "agent", "a guess", expected="completion/tokens_mean rises")
    )
    for _ in range(8):
        controller._boundary()


def test_a_change_that_hurt_is_undone_and_the_verdict_is_on_record_and_shown(run: Run, controller: Controller) -> None:
    take_a_harmful_change(controller)
    decisions = [d for d in review(run)["decisions"] if d["action"] != "continue"]
    made, revert = decisions
    assert (made["step"], made["verdict"]) == (4, "hurt")
    assert made["measured"].startswith("completion/tokens_mean ")
    assert (revert["step"], revert["source"]) == (10, "experiment")
    assert revert["changes"] == {"max_tokens": {"from": 6, "to": 30}}
    assert made["measured"] in revert["evidence"]
    assert controller.session.state.knobs.max_tokens == 30
    assert controller.session.ask().decisions[0].verdict == "hurt", "later decisions see it"
    console = Console(record=True, file=io.StringIO(), width=200)
    console.print(render_review(review(run)))
    assert "hurt: completion/tokens_mean" in " ".join(console.export_text().replace("│", " ").split())


def test_a_pinned_knob_is_not_undone(run: Run, controller: Controller) -> None:
    controller.session.state.pins = {"max_tokens"}
    take_a_harmful_change_by_hand = Decision(
        Action("set", {"max_tokens": 6}), "manual", "asked", expected="completion/tokens_mean rises"
    )
    for _ in range(3):
        controller._boundary()
    controller.session.ask()
    controller.session.tell(take_a_harmful_change_by_hand)
    for _ in range(8):
        controller._boundary()
    (made,) = [d for d in review(run)["decisions"] if d["action"] != "continue"]
    assert (made["verdict"], controller.session.state.knobs.max_tokens) == ("hurt", 6)


def test_a_resume_repeats_reverts_and_keeps_verdicts(run: Run, controller: Controller) -> None:
    """Killed after the revert of step 10, with every checkpoint since step 3 damaged."""
    take_a_harmful_change(controller)
    before = review(run)
    for checkpoint in controller.session.ask().checkpoints:
        if checkpoint.step > 3:
            (Path(checkpoint.path) / "model.safetensors").write_bytes(b"x")
    run.store.update_run(run.run_id, pid=2**22 + 1)

    again = resume_run(run.store, "s", overrides=["budget.steps=12"])
    again.build_controller().run()
    after = review(again)
    assert after["decisions"] == before["decisions"]
    assert after["reward"]["by_step"] == before["reward"]["by_step"]
    assert after["knobs"] == before["knobs"]


def test_a_judge_that_fails_costs_a_verdict_and_not_the_night(run: Run, controller: Controller) -> None:
    class Broken:
        def judge(self, snapshot: Snapshot) -> tuple[Verdict, ...]:
            raise ZeroDivisionError("oops")

    controller.judge = Broken()
    controller._boundary()
    assert controller.session.state.last_step == 1


def test_a_rollback_may_carry_knobs_that_hold_from_its_first_step_on(session: Session, run: Run) -> None:
    for _ in range(4):
        session.tell(GO_ON)
    session.tell(Decision(Action("set", {"temperature": 0.9}), "rules", "why"))
    session.tell(Decision(Action("rollback", {"learning_rate": 1e-5, "temperature": 0.9}, 3), "rules", "dev fell"))
    newest = session.ask().steps[-1]
    assert (newest.parent, newest.knobs.learning_rate, newest.knobs.temperature) == (3, 1e-5, 0.9)
    recorded = review(run)["decisions"][-1]
    assert recorded["changes"]["learning_rate"] == {"from": 1e-4, "to": 1e-5}
    session.state.pins = {"learning_rate"}
    session.tell(Decision(Action("rollback", {"learning_rate": 1e-6}, 3), "rules", "again"))
    assert "pinned" in review(run)["decisions"][-1]["refused"]


def test_what_could_not_be_judged_is_not_lost_on_dev(session: Session, run: Run, monkeypatch: Any) -> None:
    """A verifier that fails says nothing of the weights."""
    session.tell(GO_ON)
    judge: Any = session.evaluator
    broken = [Score(None, False, "errored", error="RuntimeError: down")]
    monkeypatch.setattr(judge.scorer, "score", lambda prompts, completions: broken * len(completions))
    assert session.evaluate("dev").startswith("dev accuracy 0.000 [0.000, 0.114], reward 0.000")
    assert "the reward failed on 30 of 30 of dev" in review(run)["events"][-1]["text"]
    assert run.store.load_answers(run.run_id, 1, "dev") == {}
    assert session.ask().paired_dev == ()


def test_how_a_run_ended_is_no_fault_of_the_step_it_goes_on_from(session: Session, run: Run) -> None:
    """Else the rules would slow down whoever mends a reward and resumes."""
    session.tell(GO_ON)
    session.finish("failed", "the reward failed on 30% of the completions")
    assert session.ask().faults == ()
    assert [(e["level"], e["text"][:6]) for e in review(run)["events"]][-1] == ("critical", "failed")


def test_what_follows_a_rollback_is_judged_by_what_it_leaves(session: Session) -> None:
    for _ in range(3):
        session.tell(GO_ON)
    session.tell(Decision(Action("set", {"learning_rate": 1e-3}), "rules", "faster"))
    other = by_hand("branch", "2 learning_rate=1e-3")
    session.tell(by_hand("rollback", 3), other, take_step=False)
    assert session.state.branch is not None, "1e-4 of the checkpoint against 1e-3; before the rollback both were 1e-3"
    session.tell(by_hand("rollback", 3), by_hand("set", temperature=0.9), take_step=False)
    assert session.state.branch is None
    assert session.state.knobs.temperature == 0.9


def test_an_era_begins_with_the_weights_that_a_rollback_left(run: Run, controller: Controller) -> None:
    session = controller.session
    session.ask()
    for _ in range(6):
        session.tell(GO_ON)
        session.ask()
    session.tell(by_hand("rollback", 3), by_hand("stop"))
    session.finish("stopped", "asked")
    for _ in range(2):  # the second time as after a kill: the era has no checkpoint of its own yet
        run.store.update_run(run.run_id, status="stopped")
        again = resume_run(run.store, "s", overrides=["reward.errored_limit=0.5", "budget.steps=9"])
        state = again.build_controller().session.state
        assert (state.weights_step, state.last_step) == (3, 7)
    with run.store.read() as c:
        looks = {step for (step,) in c.execute("SELECT step FROM evaluations WHERE split = 'dev'")}
    assert looks == {0}, "what was looked at beyond those weights is not compared any more"
    assert len(review(run)["eras"]) == 1


def test_a_stop_is_final_for_a_supervisor_and_not_for_a_person(
    run: Run, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller.session.ask()
    controller.session.tell(GO_ON)
    controller.session.tell(by_hand("stop"))  # and killed while the last weights are scored
    run.store.update_run(run.run_id, pid=2**22 + 1)
    with monkeypatch.context() as restarted:
        restarted.setenv(RESTARTED, "1")
        assert resume_run(run.store, "s").drive() == ("stopped", "asked")
    run.store.update_run(run.run_id, status="running", pid=2**22 + 1)
    assert resume_run(run.store, "s", overrides=["budget.steps=2"]).drive()[0] == "finished"
    run.store.update_run(run.run_id, status="running", pid=2**22 + 1)
    monkeypatch.setenv(RESTARTED, "1")  # a death after a person went on: the stop stays overruled
    shutil.rmtree(Path(load_history(run.store, "s").checkpoints[-1].path))
    assert resume_run(run.store, "s", overrides=["budget.steps=3"]).drive()[0] == "finished"


def test_a_damaged_checkpoint_is_passed_over(run: Run, controller: Controller) -> None:
    session = controller.session
    session.ask()
    for _ in range(7):
        session.tell(GO_ON)
        session.ask()
    before = review(run)["reward"]["by_step"]
    newest = next(c for c in session.ask().checkpoints if c.step == 6)
    weights = Path(newest.path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    run.store.update_run(run.run_id, pid=2**22 + 1)

    again = resume_run(run.store, "s", overrides=["budget.steps=7"])
    again.build_controller().run()
    assert review(again)["reward"]["by_step"] == before
    assert any("step 6 is damaged" in event["text"] for event in review(again)["events"])


def test_a_run_that_lives_is_not_resumed(run: Run) -> None:
    with pytest.raises(ValueError, match="still running"):
        resume_run(run.store, "s")


def test_a_program_takes_single_steps_and_leaves_a_run_that_can_be_resumed(run: Run) -> None:
    with run.stepping() as live:
        assert live.step(2) == 2
        live.act("set temperature=0.8", note="calmer")
        assert live.step() == 3
    document = review(run)
    assert (document["status"], document["steps"]) == ("stopped", 3)
    assert document["stop_reason"] == "left by the program that stepped it"
    assert document["decisions"][-1]["changes"] == {"temperature": {"from": 1.0, "to": 0.8}}
    assert (run.folder / "report.html").exists()


# ---------------------------------------------------------------- several completions of each prompt


def test_an_evaluation_has_n_completions_of_each_prompt_in_order_and_is_judged_by_their_share(tmp_path: Path) -> None:
    (tmp_path / "even.py").write_text(
        "def reward(completion, ground_truth):\n    return float(len(completion) % 2 == 0)\n"
    )
    run = start_mini(
        tmp_path, evaluate={"n": 3, "temperature": 1.0}, reward={"function": f"{tmp_path / 'even.py'}:reward"}
    )
    session = run.build_controller().session
    evaluator: Any = session.evaluator
    found = evaluator.evaluate("dev", seed=1, progress=no_progress)
    dev = [prompt.id for prompt in evaluator.splits["dev"]]
    assert [example.prompt.id for example in found.examples] == [prompt for prompt in dev for _ in range(3)]
    assert (found.n, [rate.k for rate in found.pass_at]) == (30, [1, 2, 3])
    texts = [example.completion.text for example in found.examples]
    assert any(len(set(texts[i : i + 3])) == 3 for i in range(0, 90, 3))
    right = [example.completion.score.correct for example in found.examples]
    shares = [sum(right[i : i + 3]) / 3 for i in range(0, 90, 3)]
    assert found.accuracy == pytest.approx(sum(shares) / 30)
    assert found.pass_at[-1].value == pytest.approx(sum(share > 0 for share in shares) / 30)
    evaluator.spec = evaluator.spec.model_copy(update={"batch": 7})
    smaller = evaluator.evaluate("dev", seed=1, progress=no_progress)
    assert [example.completion.text for example in smaller.examples] == texts, "as many at once as before"
    assert len(evaluator.sample(seed=1, progress=no_progress)) == 2
    session.evaluate("dev")
    answers = run.store.load_answers(run.run_id, 0, "dev")
    assert {round(3 * score) for score in answers.values()} >= {1, 2}
    (look,) = load_history(run.store, "s").evaluations
    assert look.score == look.accuracy == look.pass_at[0].value == pytest.approx(sum(answers.values()) / 30)
    assert look.ci95 == (look.pass_at[0].low, look.pass_at[0].high)
    run.store.close()
