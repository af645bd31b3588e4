"""Groups of runs with the real program: from stage to stage, over kills, and what is done anew."""

from __future__ import annotations

import gc
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaForCausalLM

from harness.cli import drive as cli_drive
from harness.cli import run as cli_run
from harness.commands import copy_runs, launch
from harness.commands.stages.group import Group
from harness.errors import RunFailed
from harness.run import runner
from harness.run.controller import Controller
from harness.store.history import load_history
from harness.store.snapshot import SnapshotReader
from harness.training import forecast
from harness.types import Action, Decision, EvaluationRecord, Snapshot, Status
from harness.views.groups import load_group
from harness.views.terminal.frame import render
from tests.support.program import Program

SPEC = """
[lora]
rank = {rank}
[pool]
source = "arithmetic?digits=2&size=200&slips=0.3"
splits = {{ probe = 10, dev = 8, test = 8 }}
[evaluate]
every = 2
max_tokens = 8
[sample]
prompts = 1
[sft]
learning_rate = 5e-3
batch = 8
examples = 24
[knobs]
max_tokens = 8
group_size = 2
prompts_per_step = 2
[budget]
steps = 2
[[stage]]
name = "apart"
kind = "sft"
[[stage]]
name = "learned"
kind = "sft"
from = "base"
steps = 3
[[stage]]
name = "tuned"
"""

REHEARSE = Group._forecast


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """A report takes as long as such a run, as does a rehearsal: two tests are about that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "write_report_apart", lambda *_: "")
        patch.setattr(forecast, "ENOUGH_S", 0.0)
        patch.setattr(forecast, "REPEAT_S", 0.0)
        patch.setattr(Group, "_forecast", lambda *_: None)
        yield


def evaluations(program: Program, run: str) -> dict[tuple[str, int], EvaluationRecord]:
    return {(look.split, look.step): look for look in load_history(program.store(), run).evaluations}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Program:
    program = Program(tmp_path_factory.mktemp("group"))
    (program.folder / ".rehearsal-99999999-left").mkdir()  # by a process that was killed
    (program.folder / "s.toml").write_text(SPEC.format(rank=4))
    alive: list[int] = []

    def drive(run: Any, **more: Any) -> tuple[Status, str]:
        alive.append(sum(type(each) is LlamaForCausalLM for each in gc.get_objects()) - before)
        return cli_drive.drive(run, **more)

    gc.collect()
    before = sum(type(each) is LlamaForCausalLM for each in gc.get_objects())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli_run, "drive", drive)
        patch.setattr(Group, "_forecast", REHEARSE)
        gc.disable()
        told = program.here("run", "s.toml", "--plain", "--name", "g", "--set", "budget.price_per_hour=3600").stdout
        gc.enable()
    (program.folder / "told.txt").write_text(told)
    (program.folder / "alive.json").write_text(json.dumps(alive))
    return program


@pytest.fixture
def group(made: Program, tmp_path: Path) -> Program:
    """A copy of a group that is done: paths in it are those of the first."""
    shutil.copytree(made.folder, tmp_path, dirs_exist_ok=True, symlinks=True)
    return Program(tmp_path)


def states(done: Any) -> dict[str, str]:
    return {one["stage"]: one["state"] for one in json.loads(done.stdout)["stages"]}


def test_each_stage_is_a_run_that_begins_with_the_best_of_its_parent(made: Program) -> None:
    runs = {run.name: run for run in made.store().list_runs()}
    assert [(run.name, run.kind, run.last_step) for run in runs.values()] == [
        ("g/apart", "sft", 2), ("g/learned", "sft", 3), ("g/tuned", "grpo", 2),
    ]  # fmt: skip
    best = made.store().best_step(runs["g/learned"].id)
    assert best
    parent, child = evaluations(made, "g/learned"), evaluations(made, "g/tuned")
    assert {split: child[split, 0].reward for split in ("dev", "test")} == {
        split: parent[split, best].reward for split in ("dev", "test")
    }
    weights = [
        next(c.hashes["adapter_model.safetensors"] for c in made.store().load_checkpoints(run.id) if c.step == step)
        for run, step in ((runs["g/learned"], best), (runs["g/tuned"], 0))
    ]
    assert weights[0] == weights[1]
    details = made.store().load_run(runs["g/tuned"].id)
    assert details.spec["model"]["base"] == "tiny"
    assert details.manifest["stage"]["parent"] == {
        "run": "g/learned", "uid": made.store().load_run(runs["g/learned"].id).manifest["uid"], "step": best,
    }  # fmt: skip
    kept = {c.step: c.name for c in made.store().load_checkpoints(runs["g/learned"].id)}
    assert kept[best] == "for-tuned"


def test_before_the_first_stage_it_says_what_all_of_them_take(made: Program) -> None:
    told = (made.folder / "told.txt").read_text()
    said, before = told.index("forecast of 3 stages"), told.index("run g/apart in")
    assert said < before
    for stage in ("apart", "learned", "tuned"):
        assert re.search(rf"  {stage} +\d.* of memory, .* of disk\n", told[said:before])
    money = re.search(r"  all .* of disk, \$(\d+)\.\d\d\n", told[said:before])
    assert money
    assert int(money[1]) > 0
    assert re.search(r"g took .*, forecast \d", told)
    assert not list(made.folder.glob("**/.rehearsal-*"))


def test_a_stage_has_the_memory_of_the_one_before(made: Program) -> None:
    """Model and trainer refer to each other, so they stay until somebody collects them."""
    assert json.loads((made.folder / "alive.json").read_text()) == [1, 1, 1]


def test_a_stage_that_cannot_begin_is_found_before_the_first(program: Program, monkeypatch: Any) -> None:
    monkeypatch.setattr(Group, "_forecast", REHEARSE)
    (program.folder / "s.toml").write_text(SPEC.format(rank=4) + "knobs.max_tokens = 900\n")
    refused = program.here("run", "s.toml", "--plain", code=2)
    assert "stage tuned: knobs.max_tokens: 900 does not fit" in refused.stderr
    assert not list((program.folder / "runs").glob("*"))


def test_the_group_is_a_name_for_review_and_runs_are_folded(made: Program) -> None:
    document = json.loads(made.here("review", "g", "--json").stdout)
    assert [(one["stage"], one["from"], one["steps"]) for one in document["stages"]] == [
        ("apart", "base", 2), ("learned", "base", 3), ("tuned", "learned", 2),
    ]  # fmt: skip
    assert "tuned" in made.here("review", "g").stdout
    listed = made.here("runs").stdout
    assert "g/ " in listed
    assert "g/apart" not in listed
    assert len(json.loads(made.here("runs", "--json").stdout)) == 3


def test_what_is_done_is_not_done_again_but_when_asked(group: Program) -> None:
    """The spec of a stage and its parent count; runs of before stay."""
    again = group.here("run", "s.toml", "--name", "g", "--json")
    assert set(states(again).values()) == {"done"}
    other = ("run", "s.toml", "--name", "g", "--json", "--set", "learned.knobs.beta=0.1")
    assert states(group.here(*other, code=1)) == {"apart": "done", "learned": "changed", "tuned": "done"}
    assert states(group.here(*other, "--again", "--stage", "learned")) == {"learned": "finished"}
    assert [run.name for run in group.store().list_runs()][3:] == ["g/learned-2"]
    told = group.here(*other, "--stage", "tuned", code=1)
    assert "its parent learned has changed since; --again takes it anew" in told.stdout


def test_base_and_stages_are_scored_on_the_same_prompts_and_compared_over_seeds(group: Program) -> None:
    document = json.loads(group.here("compare", "g", "--json").stdout)
    assert [(one["name"], one["from"], one["n"]) for one in document["answerers"]] == [
        ("base", None, 8), ("apart", "base", 8), ("learned", "base", 8), ("tuned", "learned", 8),
    ]  # fmt: skip
    store = group.store()
    learned = store.find_run("g/learned")
    best = store.best_step(learned.id)
    scores = {one["name"]: one["reward"] for one in document["answerers"]}
    assert scores["learned"] == pytest.approx(evaluations(group, "g/learned")["test", best].reward)
    assert document["answerers"][2]["who"] == f"g/learned@{best}"
    group.here("run", "s.toml", "--name", "h", "--seed", "1", "--stage", "apart", "--plain")
    both = json.loads(group.here("compare", "g", "h", "--json").stdout)
    assert [(one["name"], one["groups"]) for one in both["stages"]] == [("base", ["g", "h"]), ("apart", ["g", "h"])]
    assert both["seeds"] == {"g": 0, "h": 1}
    assert "scored in one group alone, and left out: learned, tuned" in both["notes"]


def test_a_stage_that_fails_stops_only_what_comes_from_it(program: Program, monkeypatch: Any) -> None:
    (program.folder / "s.toml").write_text(SPEC.format(rank=0))
    start = launch.Launch.start

    def fail(self: launch.Launch, **options: Any) -> Any:
        if self.short_name == "g/learned":
            raise RunFailed("no luck")
        return start(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr(launch.Launch, "start", fail)
        done = program.here("run", "s.toml", "--name", "g", "--json", code=1)
    assert states(done) == {"apart": "finished", "learned": "failed", "tuned": "waits"}
    assert states(program.here("resume", "g", "--json")) == {
        "apart": "done", "learned": "finished", "tuned": "finished",
    }  # fmt: skip
    tuned = program.store().load_run(program.store().find_run("g/tuned").id)
    assert tuned.spec["lora"]["rank"] == 0
    assert tuned.spec["model"]["chat"] is False


def test_what_cannot_be_named_is_refused(program: Program) -> None:
    (program.folder / "s.toml").write_text(SPEC.format(rank=0))
    for words, said in (
        (("--stage", "lerned"), "no stage named lerned, did you mean learned?"),
        (("--name", "a/b"), "cannot name a group"),
        (("--name", "best"), "cannot name a group"),
        (("--set", "learned.sft.batchs=3"), "stage learned: sft.batchs: no such field"),
        (("--set", "apart.sft.examples=5000"), "stage apart: sft.examples: 5000 asked for"),
    ):
        assert said in program.here("run", "s.toml", *words, code=2).stderr
    assert "is for a" not in program.here("run", "mini.toml", "--stage", "x", code=2).stdout
    assert not (program.folder / "runs").exists()


def test_watch_of_a_group_has_its_stages_above_the_curves_and_plain_lines_of_the_newest(made: Program) -> None:
    store = made.store()
    run = store.find_run("g/tuned")
    snapshot = SnapshotReader(store, run.id).read(whole_run=True)
    for width in (60, 120):
        shown = render(snapshot, age=1.0, width=width, height=40, stages=load_group(store, "g")).plain
        (line,) = [line for line in shown.splitlines() if line.startswith("stages ")]
        assert "✓ apart" in line
        assert shown.index(line) < shown.index("learning ")
    assert "✓ tuned" in line
    assert "from learned" in line
    told = made.here("watch", "g", "--plain").stdout
    assert told.startswith("stage g/tuned")


# ---------------------------------------------------------------- who stopped a stage


class Stops:
    """A decision policy that stops before step 2, or lets a person do so."""

    kind = "rules"
    repeats = False

    def __init__(self, program: Program, *, by_hand: bool) -> None:
        self.program, self.by_hand = program, by_hand

    def decide(self, snapshot: Snapshot) -> Decision:
        if snapshot.step != 1:
            return Decision(Action("continue"), "rules")
        if self.by_hand:
            self.program.store().add_command(snapshot.run.id, Action("stop"))
            return Decision(Action("continue"), "rules")
        return Decision(Action("stop"), "rules", "nothing left to learn")


TWO = (
    SPEC.partition("[[stage]]")[0].replace("steps = 2", "steps = 4")
    + """
[[stage]]
name = "tuned"
[[stage]]
name = "more"
"""
)
"""A stage that comes from one of kind grpo."""


def stopping(program: Program, *, by_hand: bool) -> dict[str, Any]:
    (program.folder / "s.toml").write_text(TWO.format(rank=4))
    return {**runner.POLICIES, "rules": lambda: Stops(program, by_hand=by_hand)}


def test_a_stage_that_its_policy_stopped_is_done_even_where_it_died_over_its_scores(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "POLICIES", stopping(program, by_hand=False))
    score, interrupted = Controller._score, []

    def die(self: Controller) -> None:
        if self.session.run_id == 1 and not interrupted:
            interrupted.append(self)
            raise KeyboardInterrupt
        score(self)

    with monkeypatch.context() as patch:
        patch.setattr(Controller, "_score", die)
        done = program.here("run", "s.toml", "--plain", "--name", "g", code=130)
    assert "interrupted; to continue: grpo resume g\n" in done.stderr
    assert "grpo resume g/tuned" not in done.stderr
    assert program.store().find_run("g/tuned").stop_reason.startswith("interrupted")
    resumed = program.here("resume", "g", "--json")
    assert states(resumed) == {"tuned": "stopped", "more": "stopped"}
    tuned = program.store().find_run("g/tuned")
    assert (tuned.status, tuned.stop_reason, tuned.last_step) == ("stopped", "nothing left to learn", 1)
    assert (program.folder / "runs/g/scores/more.csv").is_file()
    assert set(states(program.here("resume", "g", "--json")).values()) == {"done"}


def test_a_stage_that_a_person_stopped_is_not_done(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "POLICIES", stopping(program, by_hand=True))
    done = program.here("run", "s.toml", "--json", "--name", "g", code=1)
    assert states(done) == {"tuned": "stopped", "more": "waits"}
    assert not (program.folder / "runs/g/scores/tuned.csv").exists()
    monkeypatch.undo()
    monkeypatch.setattr(runner, "write_report_apart", lambda *_: "")
    assert states(program.here("resume", "g", "--json"))["more"] == "finished"


# ---------------------------------------------------------------- stages changed by hand, groups that are moved


def test_a_stage_that_was_lengthened_by_hand_is_done_and_its_children_have_another_parent(group: Program) -> None:
    told = group.here("resume", "g", "--steps", "9", code=2).stderr
    assert "grpo resume RUN, one of g/apart, g/learned, g/tuned" in told
    group.here("resume", "g/learned", "--steps", "7", "--plain")
    done = json.loads(group.here("resume", "g", "--json", code=1).stdout)["stages"]
    assert [(one["state"], one["why"]) for one in done[1:]] == [
        ("done", "continued with budget.steps 3 -> 7"),
        ("changed", "its parent learned has changed since; --again takes it anew"),
    ]
    again = json.loads(group.here("resume", "g", "--again", "--stage", "tuned", "--json").stdout)["stages"]
    assert [(one["state"], one["run"]) for one in again] == [("finished", "g/tuned-2")]
    assert set(states(group.here("resume", "g", "--json")).values()) == {"done"}


def test_a_group_that_was_moved_goes_on_where_it_lies(program: Program) -> None:
    (program.folder / "s.toml").write_text(TWO.format(rank=4))
    program.here("run", "s.toml", "--name", "g", "--stage", "tuned", "--plain")
    (program.folder / "runs").rename(program.folder / "elsewhere")
    done = program.here("resume", "g", "--out", "elsewhere", "--json")
    assert states(done) == {"tuned": "done", "more": "finished"}
    copy_runs("g", program.folder / "copied", out=str(program.folder / "elsewhere"))
    shutil.rmtree(program.folder / "elsewhere")
    (program.folder / "copied").rename(program.folder / "runs")
    assert program.store().find_run("g/tuned").folder == str(program.folder / "runs" / "g" / "tuned")
    program.here("resume", "g/more", "--steps", "5", "--plain")  # its model is the folder of its parent
    assert set(states(program.here("resume", "g", "--json")).values()) == {"done"}


def test_runs_of_a_group_are_adopted_one_by_one_and_a_parent_that_is_gone_is_named(
    made: Program, program: Program
) -> None:
    runs = made.folder / "runs" / "g"
    (program.folder / "alone").mkdir()
    program.here("adopt", str(runs / "tuned"), "--out", "alone")
    lost = program.folder / "alone" / "lost"
    with sqlite3.connect(program.folder / "alone" / "harness.db") as c:
        c.execute("UPDATE runs SET spec = json_set(spec, '$.model.name', ?)", (str(lost),))
    told = program.here("resume", "g/tuned", "--steps", "4", "--out", "alone", code=2).stderr
    assert f"g/tuned began with step 3 of g/learned, which is not at {lost} any more" in told
    for stage in ("apart", "learned", "tuned"):
        program.here("adopt", str(runs / stage))
    assert set(states(program.here("resume", "g", "--json")).values()) == {"done"}
    place = str(program.folder / "runs" / "g" / "learned")
    store = program.store()
    assert store.load_run(store.find_run("g/tuned").id).spec["model"]["name"].startswith(place)


def test_what_is_resumed_of_a_group_puts_the_stages_as_they_are_now_on_record(program: Program) -> None:
    """A stage that has not begun keeps what was said of it on the command line when the one before was continued."""
    (program.folder / "s.toml").write_text(TWO.format(rank=4))
    begin = launch.Launch.start

    def stop(self: launch.Launch, **options: Any) -> Any:
        run = begin(self, **options)
        run.interrupted.set()
        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch.Launch, "start", stop)
        program.here("run", "s.toml", "--name", "g", "--plain", code=130)
        program.here("run", "s.toml", "--name", "g", "--set", "more.knobs.beta=0.1", "--plain", code=130)
    program.here("resume", "g", "--plain")
    store = program.store()
    assert store.load_run(store.find_run("g/more").id).spec["knobs"]["beta"] == 0.1


def test_a_group_with_nothing_left_to_do_says_so_when_it_is_detached(group: Program) -> None:
    told = group.here("resume", "g", "--detach").stdout
    assert "tuned    learned  grpo  g/tuned    done" in told
    assert "runs in process" not in told
