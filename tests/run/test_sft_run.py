"""Runs of kind sft, with the real trainer and store: their length, their early end, resumes, and what they refuse."""

from __future__ import annotations

import sqlite3
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.checks.inputs import prepare_inputs
from harness.commands.report import write_report
from harness.config.load import parse_spec
from harness.config.schema import RunSpec
from harness.errors import InputError
from harness.run import runner
from harness.run.runner import Run
from harness.store.history import load_history
from harness.types import Action, Decision, Evaluation
from harness.views.review import build_review
from tests.support.chaos import differences, fingerprint
from tests.support.program import MINI, Program
from tests.support.runs import resume_run, start_run

TREE = tomllib.loads(MINI) | {"kind": "sft", "warmstart": {"steps": 0}}
TREE["pool"]["splits"] = {"probe": 10, "dev": 8, "test": 8}


@pytest.fixture(autouse=True)
def _no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report takes as long as such a run; tests/commands/test_report.py has them."""
    monkeypatch.setattr(runner, "write_report_apart", lambda *_: "")


def make_spec(folder: Path, name: str = "s", *, steps: int | None = 6, **sections: Any) -> RunSpec:
    tree = TREE | {
        "name": name,
        "output": {"dir": str(folder / "runs")},
        "budget": {} if steps is None else {"steps": steps},
    }
    tree |= {"sft": {"examples": 40, "batch": 16, "learning_rate": 5e-3}, "evaluate": {"every": 2, "max_tokens": 20}}
    for section, fields in sections.items():
        tree[section] = tree.get(section, {}) | fields if isinstance(fields, dict) else fields
    return parse_spec(tree)


def start(folder: Path, name: str = "s", **values: Any) -> Run:
    return start_run(make_spec(folder, name, **values), name)


def by_hand(kind: Any, argument: Any = None, **changes: Any) -> Decision:
    return Decision(Action(kind, changes, argument), "manual", "asked")


class Stalls:
    """An evaluator whose scores on dev come from a list, the last one again and again."""

    def __init__(self, scores: list[float]) -> None:
        self.scores = scores

    def evaluate(self, real: Any, split: str, **more: Any) -> Evaluation:
        found = real(split, **more)
        if split != "dev":
            return found
        score = self.scores.pop(0) if len(self.scores) > 1 else self.scores[0]
        return replace(found, accuracy=score, ci95=(score, score), loss=2.0 - score)


def test_it_learns_and_every_step_says_how(tmp_path: Path) -> None:
    run = start(tmp_path)
    assert run.drive() == ("finished", "budget of 6 steps spent")
    history = load_history(run.store, "s")
    document = build_review(history)
    assert document["kind"] == "sft"
    assert document["loss"]["last"] < document["loss"]["first"]
    losses = list(document["loss"]["dev_by_step"].values())
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert document["heldout"]["best_step"] is not None
    assert {"loss", "completion/tokens", "grad/norm", "epoch", "learning_rate"} <= history.newest[-1].keys()
    assert history.newest[-1]["epoch"] == 6 * 16 / 40
    # What it does not have is missing, and not 0.
    assert document["reward"] == {"first": None, "last": None, "by_step": []}
    assert set(document["signal"].values()) == {None}
    assert document["kl"] == {"last": None, "max": None}
    write_report(run.store, "s", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "loss on its demonstrations" in page
    assert 'id="signal"' not in page


@pytest.mark.parametrize(
    ("sft", "steps", "expected"),
    [
        ({"epochs": 2}, None, 5),
        ({"steps": 9}, None, 9),
        ({}, None, 8),
        ({"epochs": 2}, 3, 3),
        ({"epochs": 0.1}, None, 1),
    ],
)
def test_its_length_is_given_in_epochs_or_steps(tmp_path: Path, sft: Any, steps: Any, expected: int) -> None:
    assert prepare_inputs(make_spec(tmp_path, steps=steps, sft=sft)).spec.budget.steps == expected


def test_killed_between_any_two_writes_it_ends_bit_for_bit_as_if_undisturbed(tmp_path: Path, monkeypatch: Any) -> None:
    """With LoRA and a rollback; the loss and the order of the demonstrations are in the metrics of the steps, weights
    and optimizer in the hashes of the checkpoints."""

    def drive(run: Run, dies_at: int) -> None:
        controller = run.build_controller()
        session = controller.session
        record = session.store.record_step

        def die(*args: Any, **more: Any) -> None:
            if args[1].step == dies_at:
                raise SystemExit("killed")
            record(*args, **more)

        with monkeypatch.context() as patch:
            patch.setattr(session.store, "record_step", die)
            if session.state.last_step == 0:
                controller.advance(4)
                session.ask()
                session.tell(by_hand("rollback", 3, learning_rate=1e-3))
            controller.run()

    lora = {"lora": {"rank": 4, "dropout": 0.1}, "steps": 8}
    drive(start(tmp_path, "calm", **lora), dies_at=-1)
    run = start(tmp_path, "killed", **lora)
    with pytest.raises(SystemExit):
        drive(run, dies_at=8)
    run.store.update_run(run.run_id, pid=2**22 - 1)
    drive(resume_run(run.store, "killed"), dies_at=-1)
    calm = fingerprint(tmp_path, "calm")
    assert len(calm["steps"]) == 8
    assert not differences(calm, fingerprint(tmp_path, "killed"))


def test_it_ends_early_after_three_evaluations_without_gain_and_a_resume_ends_there_too(
    tmp_path: Path, monkeypatch: Any
) -> None:
    run = start(tmp_path, steps=30)
    stalls = Stalls([0.1, 0.3, 0.2])
    controller = run.build_controller()
    real = controller.session.evaluator.evaluate
    monkeypatch.setattr(
        type(controller.session.evaluator), "evaluate", lambda _, *a, **k: stalls.evaluate(real, *a, **k)
    )
    monkeypatch.setattr(controller, "_end", lambda *_, **__: (_ for _ in ()).throw(SystemExit("killed")))
    with pytest.raises(SystemExit):
        controller.run()
    run.store.update_run(run.run_id, pid=2**22 - 1)
    again = resume_run(run.store, "s")
    status, reason = again.build_controller().run()
    assert status == "finished"
    assert reason.startswith("plateau: dev at most 0.200 in the last 3 evaluations, 0.300 before")
    document = build_review(load_history(run.store, "s"))
    assert document["steps"] == 8
    assert document["heldout"]["best_step"] == 2
    assert [d["action"] for d in document["decisions"] if d["action"] != "continue"] == ["stop"]
    # Whoever resumes a run that has ended wants it to continue.
    further = resume_run(run.store, "s").build_controller()
    further.advance(1)
    assert further.session.state.last_step == 9


def test_what_it_does_not_have_is_refused_in_one_line(tmp_path: Path) -> None:
    run = start(tmp_path)
    session = run.build_controller().session
    session.ask()
    told = "a run of kind sft has learning_rate alone to change"
    for decision in (
        by_hand("set", temperature=0.9),
        by_hand("focus", "harder"),
        by_hand("branch", "3 learning_rate=0.001"),
        by_hand("policy", "llm"),
        by_hand("rollback", 0, beta=0.1),
    ):
        session.tell(decision, take_step=False)
        assert told in (refused := session.ask().decisions[-1].refused or "") or "policy llm" in refused
    session.tell(by_hand("set", learning_rate=1e-3))
    assert session.state.knobs.learning_rate == 1e-3
    assert session.state.last_step == 1


def test_what_it_cannot_be_given_is_refused_before_anything_is_created(tmp_path: Path) -> None:
    for sections, said in (
        ({"policy": {"kind": "llm"}}, "policy.kind: a run of kind sft has one hyperparameter"),
        ({"sft": {"epochs": 1, "steps": 2}}, "sft: epochs and steps both say how long it is"),
        ({"sft": {"examples": 5000}}, "sft.examples: 5000 asked for, but only"),
        ({"sft": {"learning_rate": 1.0}}, "sft.learning_rate 1 is outside its bounds"),
    ):
        with pytest.raises(InputError, match=said):
            prepare_inputs(make_spec(tmp_path, **sections))
    assert not (tmp_path / "runs").exists()


def test_act_refuses_at_once_what_nobody_would_hear_refused(program: Program) -> None:
    start(program.folder)
    done = program.here("act", "s", "set", "temperature=0.9", "--no-wait", code=2)
    assert "learning_rate alone to change" in done.stderr
    assert not sqlite3.connect(program.folder / "runs" / "harness.db").execute("SELECT * FROM commands").fetchall()
