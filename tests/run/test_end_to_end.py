"""The real program, from outside: runs, kills, resumes, and a second terminal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Program

COLD = ("mini.toml", "--set", "warmstart.steps=0")
"""A spec whose first step comes soon."""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The mini run as it goes when nothing disturbs it."""
    program = Program(tmp_path_factory.mktemp("uninterrupted"))
    program.here("run", "mini.toml", "--name", "calm")
    return program.review("calm")


def decisions_of(review: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(d["step"], d["source"], d["action"], json.dumps(d["changes"]), d["evidence"]) for d in review["decisions"]]


def test_a_run_reports_what_the_contract_promises(uninterrupted: dict[str, Any]) -> None:
    review = uninterrupted
    assert (review["status"], review["seed"], review["steps"], review["rollouts"]) == ("finished", 0, 14, 224)
    assert len(review["reward"]["by_step"]) == 14
    assert review["heldout"]["n"] == 30
    assert set(review["dev"]["by_step"]) == {"0", "4", "8", "12"}
    assert review["heldout"]["final"] is not None
    low, high = review["heldout"]["final_ci95"]
    assert low <= review["heldout"]["final"] <= high
    assert len(review["decisions"]) == 14
    assert all(d["evidence"] for d in review["decisions"])
    kept = {c["step"] for c in review["checkpoints"]}
    assert {0, 14} <= kept
    assert all(Path(c["path"]).is_dir() for c in review["checkpoints"])
    assert review["manifest"]["versions"]["trl"]
    assert review["manifest"]["reward_sha256"]


def test_another_seed_gives_other_rewards(program: Program, uninterrupted: dict[str, Any]) -> None:
    """That the same one gives the same is what the kills below are compared with."""
    program.here("run", "mini.toml", "--name", "other", "--seed", "1", "--steps", "3")
    assert program.review("other")["reward"]["by_step"] != uninterrupted["reward"]["by_step"][:3]


def test_killed_in_the_middle_and_resumed_it_ends_as_if_never_interrupted(
    program: Program, uninterrupted: dict[str, Any]
) -> None:
    process = program.start("run", "mini.toml", "--name", "killed")
    program.wait_for(lambda: program.last_step("killed") >= 4)
    program.kill(process)
    assert json.loads(program.here("runs", "--json").stdout)[0]["alive"] is False
    refused = program.here("act", "killed", "pause", code=2)
    assert "grpo resume killed" in refused.stderr
    program.here("resume", "killed")
    review = program.review("killed")
    assert review["reward"]["by_step"] == uninterrupted["reward"]["by_step"]
    assert review["dev"] == uninterrupted["dev"]
    assert review["heldout"] == uninterrupted["heldout"]
    assert decisions_of(review) == decisions_of(uninterrupted)


def test_killed_during_the_warm_start_it_starts_that_again(program: Program, uninterrupted: dict[str, Any]) -> None:
    process = program.start("run", "mini.toml", "--name", "early")
    program.wait_for((program.folder / "runs" / "early" / "log.txt").exists)
    program.kill(process)
    program.here("resume", "early", "--steps", "3")
    assert program.review("early")["reward"]["by_step"] == uninterrupted["reward"]["by_step"][:3]


def test_a_person_acts_from_a_second_terminal(program: Program) -> None:
    process = program.start("run", *COLD, "--name", "live", "--steps", "5000", "--policy", "fixed")
    program.wait_for(lambda: program.last_step("live") >= 2)

    applied = program.run("act", "live", "set", "temperature=0.9", "--note", "calmer")
    assert "applied before step" in applied.stdout
    refused = program.here("act", "live", "set", "temperature=99", code=1)
    assert "outside its bounds" in refused.stdout
    assert "there are" in program.here("act", "live", "rollback", "4999", code=1).stdout
    assert "not paused" in program.here("act", "live", "resume", code=1).stdout

    program.here("act", "live", "pause")
    paused_at = program.last_step("live")
    review = program.review("live")
    assert review["status"] == "paused"
    assert review["knobs"]["temperature"] == 0.9
    assert review["pins"] == ["temperature"]
    assert "dev accuracy" in program.here("act", "live", "evaluate").stdout
    assert "samples" in program.here("act", "live", "sample").stdout
    assert "saved to" in program.here("act", "live", "save", "lunch").stdout
    assert program.last_step("live") == paused_at
    assert "back to" in program.here("act", "live", "rollback", "0").stdout
    program.here("act", "live", "release", "temperature")
    program.here("act", "live", "policy", "fixed")
    program.here("act", "live", "resume")
    program.wait_for(lambda: program.last_step("live") > paused_at)
    program.here("act", "live", "stop")
    assert process.wait(timeout=60) == 0

    review = program.review("live")
    assert review["status"] == "stopped"
    assert review["pins"] == []
    assert review["policy"] == "fixed"
    manual = [d for d in review["decisions"] if d["source"] == "manual"]
    assert manual[0]["changes"] == {"temperature": {"from": 1.0, "to": 0.9}}
    assert manual[0]["evidence"] == "calmer"
    assert [c["name"] for c in review["checkpoints"] if c["step"] == paused_at] == ["lunch"]
    # The rollback went behind every step taken before it: only later ones are live.
    assert review["steps"] - len(review["reward"]["by_step"]) == paused_at
    ended = program.here("act", "live", "pause", code=2)
    assert "has ended" in ended.stderr


def test_ctrl_c_saves_and_prints_the_line_that_resumes(program: Program) -> None:
    process = program.start("run", *COLD, "--name", "cut", "--steps", "5000")
    program.wait_for(lambda: program.last_step("cut") >= 2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "grpo resume cut" in output
    stopped_at = program.last_step("cut")
    program.here("resume", "cut", "--steps", str(stopped_at + 2))
    review = program.review("cut")
    assert review["status"] == "finished"
    assert len(review["reward"]["by_step"]) == stopped_at + 2
    done = program.here("resume", "cut", code=2)
    assert "--steps" in done.stderr


def test_a_broken_reward_stops_the_run_before_it_trains(program: Program) -> None:
    (program.folder / "bad.py").write_text(
        "def reward(prompts, completions, **columns):\n    raise KeyError('no such column')\n"
    )
    words = ["run", *COLD, "--name", "bad", "--set", "reward.function=bad.py:reward"]
    refused = program.here(*words, code=1)
    assert "preflight: errors: the reward failed on" in refused.stderr
    assert not (program.folder / "runs").exists(), "nothing is created"
    done = program.here(*words, "--force", code=1)
    assert "no such column" in done.stderr
    assert "discarded" in done.stderr
    review = program.review("bad")
    assert review["status"] == "failed"
    assert review["signal"]["errored_rate"] == 1.0
    assert review["kl"]["max"] == pytest.approx(0.0, abs=1e-6)
    assert any("--force let it pass" in event["text"] for event in review["events"])
    assert review["manifest"]["preflight"]["forced"] is True


def test_a_pool_and_a_trl_style_reward_of_ones_own(program: Program) -> None:
    rows = [{"prompt": f"{i}?", "ground_truth": i % 10, "unit": "m"} for i in range(120)]
    (program.folder / "mine.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (program.folder / "mine.py").write_text(
        "def near(prompts, completions, ground_truth, unit, **columns):\n"
        "    assert set(unit) == {'m'}\n"
        "    return [float(g in c) for c, g in zip(completions, ground_truth)]\n"
        "def short(completion, ground_truth):\n"
        "    return 1.0 if len(completion) < 20 else 0.0\n"
    )
    (program.folder / "mine.toml").write_text(
        """
        [pool]
        source = "mine.jsonl"
        template = "Q {prompt} A "
        splits = { probe = 10, dev = 10, test = 10 }
        [reward]
        function = ["mine.py:near", "mine.py:short"]
        weights = [0.8, 0.2]
        [knobs]
        max_tokens = 12
        prompts_per_step = 4
        [evaluate]
        max_tokens = 12
        [budget]
        steps = 2
        """
    )
    program.here("run", "mine.toml", "--name", "mine", "--force")  # it pays for silence and for lists of answers
    review = program.review("mine")
    assert review["status"] == "finished"
    assert review["signal"]["errored_rate"] == 0.0
    assert review["samples"][0]["prompt"].startswith("Q ")

    csv = program.folder / "out.csv"
    done = program.here("eval", "mine", "--checkpoint", "best", "--output-file", str(csv), "--json")
    result = json.loads(done.stdout)
    assert result["n"] == 10
    assert {"accuracy", "thinking_proportion", "answer_proportion"} <= set(result)
    assert len(csv.read_text().splitlines()) >= 11
    samples = json.loads(program.here("sample", "mine", "--prompt", "7?", "-n", "2", "--json").stdout)
    assert [s["prompt"] for s in samples] == ["Q 7? A "] * 2

    checkpoint = review["checkpoints"][-1]["path"]
    by_folder = json.loads(program.here("eval", checkpoint, "--spec", "mine.toml", "--json").stdout)
    assert by_folder["accuracy"] == review["heldout"]["final"]


def test_json_commands_print_one_document_and_nothing_else(program: Program) -> None:
    done = program.run("run", *COLD, "--name", "json", "--steps", "2", "--json")
    assert json.loads(done.stdout)["run"] == "json"
    assert json.loads(program.here("runs", "--json").stdout)[0]["run"] == "json"
    assert json.loads(program.here("review", "latest", "--json").stdout) == json.loads(done.stdout)
    findings = json.loads(program.here("doctor", "--json", code=None).stdout)
    assert {"python", "packages", "database"} <= {finding["what"] for finding in findings}
    assert all(bool(finding["mend"]) != finding["ok"] for finding in findings)
    watched = program.here("watch", "json", "--plain")
    assert "step    2" in watched.stdout
    told = program.here("review", "json").stdout
    assert "decisions" in told or "no decision" in told


def test_reading_commands_never_import_torch(program: Program) -> None:
    script = (
        "import sys; sys.argv = ['grpo', 'runs']\n"
        "from harness.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "import harness.views.terminal.frame, harness.views.review, harness.store.snapshot\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
        "assert 'trl' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=program.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_wheel_brings_the_recipes(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent.parent
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            str(tmp_path),
            str(root),
        ],
        check=True,
        capture_output=True,
    )
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert {"harness/recipes/arithmetic.toml", "harness/recipes/math-gsm/recipe.toml"} <= set(names)
    assert {"harness/recipes/math-gsm/rows.jsonl", "harness/commands/templates/reward.txt"} <= set(names)
    assert "policies/rules.py" in names
    assert not any(name.startswith(("tests/", "runs/")) for name in names)
