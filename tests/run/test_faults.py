"""What a night brings, done to a real run: numbers that are not finite, silence, clocks that jump, changed inputs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import InputError, RunFailed
from harness.run.heartbeat import Pulse
from harness.run.runner import Run
from harness.run.session import Session
from harness.store.history import load_history
from harness.store.opening import open_store
from harness.types import Action, Decision
from policies.rules import RulesPolicy
from tests.support.builders import create_run
from tests.support.program import Program
from tests.support.runs import REWARD, resume_run, review, start_mini

GO_ON = Decision(Action("continue"), "fixed", "go on")


def weights(session: Session) -> torch.Tensor:
    model: Any = session.trainer.model  # type: ignore[attr-defined]
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# ---------------------------------------------------------------- numbers


@pytest.fixture
def driven(tmp_path: Path) -> tuple[Run, Session]:
    """A run that has taken four steps, with a checkpoint at step 3, and may be given any learning rate. Its reward
    differs within every group of an untrained model, so that each step updates."""
    (tmp_path / "odd.py").write_text(REWARD.format(value="sum(map(ord, completion)) % 7 / 6"))
    run = start_mini(tmp_path, bounds={"learning_rate": [0.0, 1e38]}, reward={"function": f"{tmp_path}/odd.py:reward"})
    session = run.build_controller().session
    drive(session, 4)
    return run, session


def drive(session: Session, steps: int) -> None:
    for _ in range(steps):
        session.ask()
        session.tell(GO_ON)


def test_weights_that_overflow_are_restored_and_the_rules_slow_down(driven: tuple[Run, Session]) -> None:
    run, session = driven
    session.tell(Decision(Action("set", {"learning_rate": 1e38}), "rules", "far too much"))
    assert torch.isfinite(weights(session)).all()
    assert (session.state.last_step, session.state.weights_step) == (5, 3)
    assert session.state.knobs.learning_rate == 1e-4  # the checkpoint's
    decision = RulesPolicy().decide(session.ask())
    assert decision.action.changes == {"learning_rate": 5e-5}
    assert "not finite" in decision.evidence
    session.tell(decision)
    assert RulesPolicy().decide(session.ask()).action.kind == "continue"
    document = review(run)
    assert [s for s in range(1, 7) if s in load_history(run.store, "s").rewards] == [1, 2, 3, 6]
    assert document["steps"] == 6
    assert any("going back to the checkpoint of step 3" in event["text"] for event in document["events"])


def test_lost_weights_are_those_of_the_lineage_and_not_the_newest_by_number(driven: tuple[Run, Session]) -> None:
    _, session = driven
    drive(session, 2)
    assert max(c.step for c in session.ask().checkpoints) == 6
    session.tell(Decision(Action("rollback", argument=3), "rules", "6 did harm"))
    session.tell(Decision(Action("set", {"learning_rate": 1e38}), "rules", "far too much"))
    assert (session.state.last_step, session.state.weights_step) == (8, 3)


def test_a_model_that_cannot_be_sampled_any_more_is_restored(driven: tuple[Run, Session]) -> None:
    run, session = driven
    with torch.no_grad():
        session.trainer.model.model.norm.weight.fill_(float("nan"))  # type: ignore[attr-defined]
    session.tell(GO_ON)
    assert torch.isfinite(weights(session)).all()
    assert (session.state.last_step, session.state.weights_step) == (5, 3)
    session.tell(GO_ON)
    assert session.state.last_step == session.state.weights_step == 6
    assert review(run)["steps"] == 5  # of number 5 no step came


def test_what_restoring_does_not_help_ends_the_run(driven: tuple[Run, Session], monkeypatch: Any) -> None:
    _, session = driven
    load = session.trainer.load

    def load_broken(folder: Path) -> None:
        load(folder)
        session.trainer.model.model.norm.weight.data.fill_(float("nan"))  # type: ignore[attr-defined]

    monkeypatch.setattr(session.trainer, "load", load_broken)
    load_broken(Path(session.checkpoints.find(3).path))
    with pytest.raises(RunFailed, match=r"lower knobs\.learning_rate"):
        drive(session, 9)


# ---------------------------------------------------------------- silence and clocks


def test_silence_is_noted_with_the_place_and_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(f"sqlite:///{tmp_path}/harness.db")
    run_id = create_run(store)
    noted: list[str] = []
    with Pulse(store, run_id, wall_s=lambda: 1.0, note=noted.append, silent_s=0.3) as pulse:
        pulse("sampling", 3, 8)
        time.sleep(0.8)
        assert len(noted) == 1
        assert "while sampling (3 of 8)" in noted[0]
        time.sleep(0.4)
        assert len(noted) == 1, "said once"
        pulse("sampling", 4, 8)
        time.sleep(0.3)
    assert "it reported again after" in noted[1]
    record = store.find_run("latest")
    assert (record.phase, record.phase_done) == ("sampling", 4)


JUMPING = """
import time
real, calls = time.time, 0

def jumping():
    global calls
    calls += 1
    return real() + (86_400 * 400 if calls // 7 % 2 else -86_400 * 400)

time.time = jumping
"""


def test_a_clock_that_jumps_by_years_changes_nothing_that_counts(program: Program) -> None:
    (program.folder / "sitecustomize.py").write_text(JUMPING)
    words = ["run", "mini.toml", "--steps", "6", "--set", "warmstart.steps=0"]
    program.here(*words, "--name", "calm")
    path = os.pathsep.join([str(program.folder), str(Path(__file__).parents[2])])
    started = time.monotonic()
    program.run(*words, "--name", "jumpy", "--hours", "1", environment={"PYTHONPATH": path})
    took = time.monotonic() - started
    calm, jumpy = program.review("calm"), program.review("jumpy")
    assert jumpy["status"] == "finished"
    assert jumpy["stop_reason"] == "budget of 6 steps spent"
    assert 0 < jumpy["wall_s"] < took
    assert jumpy["reward"]["by_step"] == calm["reward"]["by_step"]


# ---------------------------------------------------------------- repair


@pytest.fixture
def judged(tmp_path: Path) -> Run:
    """A run of six steps, finished, whose reward is a file."""
    (tmp_path / "mine.py").write_text(REWARD.format(value="float(len(completion) > 10)"))
    run = start_mini(tmp_path, reward={"function": f"{tmp_path}/mine.py:reward"}, budget={"steps": 6})
    assert run.drive()[0] == "finished"
    return run


def again(run: Run, *overrides: str, accepted: tuple[str, ...] = ()) -> Run:
    return resume_run(run.store, run.name, overrides=["budget.steps=9", *overrides], accepted=accepted)


def test_a_changed_reward_is_refused_when_silent_and_begins_an_era_when_said(judged: Run, tmp_path: Path) -> None:
    before = review(judged)
    (tmp_path / "mine.py").write_text(REWARD.format(value="float('1' in completion)"))
    with pytest.raises(InputError, match=r"reward: .*--accept reward"):
        again(judged)
    assert review(judged) == before, "refused: nothing has changed"

    resumed = again(judged, accepted=("reward",))
    session = resumed.build_controller().session
    assert (session.state.weights_step, session.state.last_step) == (6, 6)
    assert not session.pool.state()["seen"], "what the pool knew was judged by the other reward"
    snapshot = session.ask()
    assert not snapshot.steps
    assert {(e.split, e.step) for e in snapshot.evaluations} == {("dev", 6), ("test", 6)}
    after = review(judged)
    assert after["heldout"]["baseline"] != before["heldout"]["baseline"]
    assert after["eras"][0]["seen_before"]["test"] == before["heldout"]["final"]
    assert list(after["eras"][0]["changes"]) == ["reward"]
    assert after["reward"]["by_step"] == before["reward"]["by_step"], "the record is kept"

    session.tell(GO_ON)
    assert [step.step for step in session.ask().steps] == [7]
    session.save()
    session.finish("stopped", "for the night")
    once_more = again(judged).build_controller().session  # the same reward as last time: no word needed
    assert once_more.state.last_step == 7
    assert len(review(judged)["eras"]) == 1


def test_killed_right_after_an_era_began_it_begins_only_once(judged: Run) -> None:
    first = again(judged, "reward.errored_limit=0.5")
    assert review(judged)["eras"][0]["changes"] == {"reward.errored_limit": {"from": 0.1, "to": 0.5}}
    first.store.update_run(first.run_id, status="stopped")  # as if it had been killed here
    session = again(judged).build_controller().session
    assert len(review(judged)["eras"]) == 1
    assert session.settings.spec.reward.errored_limit == 0.5
    assert not session.pool.state()["seen"]


def test_another_pool_may_be_said(judged: Run) -> None:
    session = again(judged, "pool.source=arithmetic?digits=2&size=500").build_controller().session
    assert session.settings.era_start == 6
    session.tell(GO_ON)
    assert session.state.last_step == 7


def test_what_is_not_measured_changes_without_an_era(judged: Run) -> None:
    resumed = again(judged, "evaluate.every=2", "checkpoint.keep=5")
    assert review(judged)["eras"] == []
    assert any("evaluate.every 4 -> 2" in event["text"] for event in review(judged)["events"])
    assert resumed.spec.checkpoint.keep == 5


def test_the_command_refuses_and_names_the_mend(program: Program) -> None:
    (program.folder / "mine.py").write_text(REWARD.format(value="float(len(completion) > 10)"))
    words = ["run", "mini.toml", "--name", "r", "--steps", "2", "--set", "warmstart.steps=0"]
    program.here(*words, "--set", "reward.function=mine.py:reward", "--force")
    (program.folder / "mine.py").write_text(REWARD.format(value="0.5"))
    refused = program.here("resume", "r", "--steps", "4", code=2)
    assert refused.stderr.count("\n") == 1
    assert "grpo resume r --accept reward" in refused.stderr
    for flags, said in (
        (["--set", "seed=4"], "seed: cannot change on a resume"),
        (["--set", "knobs.temperature=0.5"], "grpo act r set temperature=..."),
        (["--set", "policy.kind=fixed"], "grpo act r policy fixed --no-wait"),
        (["--set", "reward.rnage=3"], "did you mean range"),
        (["--accept", "everything"], "--accept takes reward or data"),
    ):
        assert said in program.here("resume", "r", *flags, code=2).stderr
    stopped = program.here("resume", "r", "--steps", "4", "--accept", "reward", code=1)
    assert "preflight: constant: every one of" in stopped.stderr
    done = program.here("resume", "r", "--steps", "4", "--accept", "reward", "--force", "--json")
    document = json.loads(done.stdout)
    assert document["status"] == "finished"
    assert [era["weights_step"] for era in document["eras"]] == [2]
