"""A run taken again from its decision log: the same to the last bit, or the first step that differs is named."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import main
from harness.errors import InputError
from harness.run.replay import find_difference, plan_replay
from harness.store.opening import open_store
from harness.store.writer import RunStore
from harness.types import Action
from tests.support.answers_server import Server, error, good, text
from tests.support.runs import KEY, resume_run, review, start_night

Grpo = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that has everything: an LLM, the rules, a person, refusals, an interruption, a pause, a
    rollback to weights that only the interruption saved, and a rollback right before the stop."""
    folder = tmp_path_factory.mktemp("first") / "runs"
    with pytest.MonkeyPatch.context() as patch, Server([]) as server:
        patch.setenv("ANTHROPIC_API_KEY", KEY)
        patch.setenv("ANTHROPIC_BASE_URL", server.url)
        patch.setattr("harness.llm.faults.LONGEST_WAIT_S", 0.02)
        server.script = [
            good(changes={"learning_rate": 6e-4}), good(action="focus", argument="harder"), error(400, "api_error"),
            good(changes={"temperature": 1.1}), text("hm"),
        ]  # fmt: skip
        run = start_night(folder, llm={"every": 2}, budget={"steps": 50, "hours": 9})
        controller = run.build_controller()

        def command(*asked: Any) -> None:
            for kind, changes, argument in asked:
                run.store.add_command(run.run_id, Action(kind, changes, argument))
            controller._boundary()

        controller._boundary()
        controller._boundary()
        command(("set", {"beta": 0.02}, None), ("set", {"temperature": 99.0}, None), ("save", {}, "lunch"))
        controller._boundary()
        controller._boundary()
        run.interrupted.set()
        assert controller.run() == ("stopped", "interrupted")
        controller = resume_run(run.store, run.name).build_controller()
        controller._boundary()
        command(("pause", {}, None))
        command(("rollback", {}, 5), ("evaluate", {}, None), ("rollback", {}, 4))
        command(("step", {}, None))
        command(("resume", {}, None))
        controller._boundary()
        command(("policy", {}, "rules"))
        controller._boundary()
        command(("rollback", {}, "best"), ("stop", {}, None))
        assert controller.run()[0] == "stopped"
        made = review(run)
        run.store.close()
    assert {d["source"] for d in made["decisions"]} == {"llm", "rules", "manual"}
    assert {d["action"] for d in made["decisions"]} >= {"set", "focus", "rollback", "pause", "resume", "policy", "stop"}
    assert made["steps"] == 11
    assert sum(d["refused"] is not None for d in made["decisions"]) == 2
    return folder


@pytest.fixture
def folder(first: Path, tmp_path: Path) -> Path:
    """The same in a folder that a test may change; its paths still name the first one, which is only read."""
    shutil.copytree(first, tmp_path / "runs", symlinks=True)
    store = open_store(f"sqlite:///{tmp_path}/runs/harness.db")
    store.update_run(1, folder=str(tmp_path / "runs" / "night"))
    store.close()
    return tmp_path / "runs"


@pytest.fixture
def grpo(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Grpo:
    """The command in this process, where there is no key and no server: exit code, stdout, stderr."""
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("harness.cli.drive._catch_signals", lambda interrupted, view: None)
    monkeypatch.chdir(folder.parent)

    def grpo(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["grpo", *words])
        with pytest.raises(SystemExit) as end:
            main()
        told = capsys.readouterr()
        return int(end.value.code or 0), told.out, told.err

    return grpo


def store_of(folder: Path) -> RunStore:
    return open_store(f"sqlite:///{folder}/harness.db")


def change(folder: Path, statement: str, *values: Any) -> None:
    with sqlite3.connect(folder / "harness.db") as connection:
        connection.execute(statement, values)
    connection.close()


def test_a_replay_is_the_run_again_to_the_last_bit(folder: Path, grpo: Grpo) -> None:
    code, out, err = grpo("replay", "night", "--json")
    assert code == 0, err
    assert json.loads(out) == {
        "run": "night-replay-1", "replay_of": "night", "steps": 11, "identical": True, "difference": None,
        "environment": [],
    }  # fmt: skip
    store = store_of(folder)
    then, now = (store.find_run(name) for name in ("night", "night-replay-1"))
    weights = {
        run.name: {c.step: c.hashes["model.safetensors"] for c in store.load_checkpoints(run.id)} for run in (then, now)
    }
    both = weights["night"].keys() & weights["night-replay-1"].keys()
    assert both >= {0, 2, 9}
    assert all(weights["night"][step] == weights["night-replay-1"][step] for step in both)

    # What is compared is compared: each change of the record is found at its step.
    for step, statement, what in (
        (4, "UPDATE steps SET metrics = json_set(metrics, '$.\"kl/mean\"', 9) WHERE run_id = 1 AND step = 4", "kl"),
        (7, "UPDATE steps SET knobs = json_set(knobs, '$.beta', 0.5) WHERE run_id = 1 AND step = 7", "beta"),
        (8, "UPDATE groups SET tokens = '[1]' WHERE step_id = (SELECT id FROM steps WHERE run_id = 1 AND step = 8)",
         "groups"),
        (2, "UPDATE decisions SET evidence = 'else' WHERE run_id = 1 AND step = 2", "evidence"),
        (12, "UPDATE decisions SET source = 'rules' WHERE run_id = 1 AND step = 12", "source"),
        (0, "UPDATE evaluations SET accuracy = 2 WHERE run_id = 1 AND step = 0 AND split = 'dev'", "evaluation of dev"),
        (5, "UPDATE completions SET completion = 'x' WHERE run_id = 1 AND step = 5 AND kind = 'best'", "samples"),
        (9, "DELETE FROM steps WHERE run_id = 2 AND step = 9", "parent"),
    ):  # fmt: skip
        copy = folder.parent / f"changed-{step}"
        shutil.copytree(folder, copy, symlinks=True)
        change(copy, statement)
        other = store_of(copy)
        found = find_difference(other, other.find_run("night"), other.find_run("night-replay-1"))
        other.close()
        assert found is not None, statement
        assert found.step == step
        assert what in found.what
    store.close()


def test_the_first_step_that_differs_is_named(folder: Path, grpo: Grpo) -> None:
    """As if another decision than the one carried out were on record."""
    change(
        folder,
        "UPDATE decisions SET changes = json_set(changes, '$.learning_rate.to', 9e-4) "
        "WHERE run_id = 1 AND step = 2 AND action = 'set'",
    )
    code, out, err = grpo("replay", "night", "--plain", "--name", "again")
    assert code == 1
    assert "again differs from night first at step 2: knobs, learning_rate was 0.0006, is 0.0009" in err
    assert "the same to the last bit" not in out
    assert "Traceback" not in err


def test_a_schedule_goes_to_another_seed_and_what_does_not_apply_is_refused(folder: Path) -> None:
    other = start_night(
        folder, name="other", seed=5, policy={"kind": "replay:latest"}, bounds={"beta": (0.0, 0.01)},
        checkpoint={"every": 50}, budget={"steps": 30},
    )  # fmt: skip
    assert other.drive() == ("stopped", "asked by a person")
    document = review(other)
    assert document["policy"] == "replay:night"
    assert document["steps"] == 11
    told = [(d["step"], d["source"], d["action"], bool(d["refused"])) for d in document["decisions"]]
    assert (2, "llm", "set", False) in told
    assert (3, "manual", "set", True) in told
    assert "outside its bounds" in next(d["refused"] for d in document["decisions"] if d["refused"])
    assert (7, "manual", "rollback", False) in told, "the weights of step 5 were kept for it"
    assert not {"pause", "resume", "policy"} & {d["action"] for d in document["decisions"]}
    assert all(d["tokens_in"] is None for d in document["decisions"])
    other.store.close()


def test_beyond_the_log_nothing_changes(folder: Path) -> None:
    change(folder, "DELETE FROM decisions WHERE run_id = 1 AND step > 1")
    run = start_night(folder, name="longer", policy={"kind": "replay:night"}, budget={"steps": 3})
    assert run.drive()[0] == "finished"
    last = review(run)["decisions"][-1]
    assert (last["source"], last["action"]) == ("fixed", "continue")
    assert last["evidence"] == "replay:night has no decision for step 3"
    run.store.close()


def test_what_cannot_be_replayed_is_wrong_input(folder: Path, grpo: Grpo) -> None:
    def named() -> list[str]:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("harness.db-"))

    names = named()
    for words, said in (
        (("replay", "nosuch"), "no run named nosuch"),
        (("replay", "night", "--name", "a/b"), "must be letters"),
        (("replay", "night", "--name", "night"), "a run named night exists already"),
        (("run", "--policy", "replay:nosuch"), "no run named nosuch"),
        (("run", "--policy", "replay:"), "replay: needs the name of a run"),
        (("run", "--policy", "llm"), "llm needs the environment variable ANTHROPIC_API_KEY"),
        (("run", "--set", "budget.usd=1"), "budget.usd: a cap needs prices"),
        (("run", "--set", "llm.input_price=1"), "llm.input_price: it stands in [prices] now"),
    ):
        code, _, err = grpo(*words)
        assert (code, said in err) == (2, True), err
        assert len(err.strip().splitlines()) == 1
    assert named() == names
    store = store_of(folder)
    for column, value, said in (
        ("manifest", '{"data_sha256": "0"}', "prompts or ground truths of the pool changed"),
        ("eras", '[{"weights_step": 3, "last_step": 4, "changes": {}}]', "has 2 eras"),
        ("last_step", 0, "took no step"),
    ):
        change(folder, f"UPDATE runs SET {column} = ? WHERE id = 1", value)
        if column == "manifest":
            code, _, err = grpo("replay", "night")
            assert (code, said in err) == (2, True), err
            change(folder, "UPDATE runs SET manifest = '{}' WHERE id = 1")
        else:
            with pytest.raises(InputError, match=said):
                plan_replay(store, "night", "")
            change(folder, f"UPDATE runs SET {column} = ? WHERE id = 1", "[]" if column == "eras" else 9)
    store.close()
