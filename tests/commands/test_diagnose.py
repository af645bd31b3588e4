"""grpo diagnose: logs of others and runs of ours, as a person and as a program ask for them."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from harness import commands
from harness.errors import InputError
from policies.detectors import DETECTORS
from policies.diagnosis import ADVICE
from tests.support.builders import create_run, make_store
from tests.support.nights import record_night
from tests.support.program import Program

REAL = Path(__file__).parents[2].parent / "shared" / "logs"
EXPLODES = [
    {
        "step": step,
        "reward": 0.6 if step < 30 else 0.05,
        "reward_std": 0.3,
        "frac_reward_zero_std": 0.3,
        "entropy": 0.2 if step < 30 else 1.5,
        "learning_rate": 1e-5,
    }
    for step in range(1, 41)
]


def write(folder: Path, name: str = "log.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(EXPLODES))
    return path


def test_a_finding_has_its_steps_evidence_and_what_the_rules_would_have_done(tmp_path: Path) -> None:
    found = commands.diagnose(str(write(tmp_path)))
    assert {one.kind for one in found.findings if one.severity == "severe"} == {"entropy_explosion", "reward_drop"}
    (worst,) = [one for one in found.findings if one.kind == "entropy_explosion"]
    assert 30 <= worst.first <= 33
    assert worst.advice == ADVICE["entropy_explosion"]
    assert found.at_first is not None
    assert (found.at_first.step, found.at_first.action) == (
        min(one.first for one in found.findings),
        "learning_rate 1e-05 -> 2.5e-06",
    )
    assert found.unknown["kl_spike"] == "not logged: kl/mean"
    assert found.recognised["frac_reward_zero_std"] == "group/no_signal_rate"
    assert found.curves["entropy/mean"][40] == 1.5
    json.dumps(found.to_json(), allow_nan=False)


def test_every_finding_has_an_advice_and_a_section_in_the_docs() -> None:
    assert ADVICE.keys() == DETECTORS.keys()
    text = (Path(__file__).parents[2] / "docs" / "diagnose.md").read_text(encoding="utf-8")
    for kind, advice in ADVICE.items():
        assert f"### `{kind}`\n\nWhat to do: {advice}.\n" in text, kind


def test_the_page_and_the_text_say_the_same_and_no_name_of_a_log_is_obeyed(program: Program) -> None:
    path = program.folder / "log.json"
    rows = [{**row, "\x1b[31m<b>evil</b>": 1.0} for row in EXPLODES]
    path.write_text(json.dumps(rows))
    told = program.here("diagnose", "log.json").stdout
    assert "severe  entropy_explosion" in told
    assert "\x1b" not in told
    assert program.here("diagnose", "log.json", "--html", "page.html").stdout == "page.html\n"
    page = (program.folder / "page.html").read_text(encoding="utf-8")
    assert "<strong>entropy_explosion</strong>" in page
    assert "<b>evil" not in page
    assert json.loads(program.here("diagnose", "log.json", "--json").stdout)["findings"][0]["severity"] == "severe"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("{", "log"),
        (json.dumps([{"loss": 1.0, "step": 1}]), "--map reward/mean=NAME"),
        ('{"step": 1, "reward": NaN}\n', "NaN"),
    ],
)
def test_a_log_that_cannot_be_read_is_one_line_and_exit_code_2(program: Program, text: str, said: str) -> None:
    (program.folder / "log.jsonl").write_text(text)
    done = program.here("diagnose", "log.jsonl", code=2)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not list(program.folder.glob("*.html"))


def test_names_are_mapped_by_hand(program: Program) -> None:
    (program.folder / "log.csv").write_text("step,mine\n" + "".join(f"{i},0.5\n" for i in range(9)))
    assert "0.5" in program.here("diagnose", "log.csv", "--map", "reward/mean=mine").stdout
    assert "OURS=THEIRS" in program.here("diagnose", "log.csv", "--map", "mine", code=2).stderr
    assert "no metric is called" in program.here("diagnose", "log.csv", "--map", "reward=mine", code=2).stderr


def test_a_run_of_ours_is_played_back_with_its_decisions(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    record_night(store)
    create_run(store, "empty")
    store.close()
    db = f"sqlite:///{tmp_path}/h.db" if (tmp_path / "h.db").exists() else store.url
    found = commands.diagnose("night", db=db)
    assert (found.format, found.rows) == ("a run of ours", found.steps)
    assert all(not math.isnan(value) for curve in found.curves.values() for value in curve.values())
    with pytest.raises(InputError, match="no step yet"):
        commands.diagnose("empty", db=db)
    with pytest.raises(InputError, match="no run named nobody"):
        commands.diagnose("nobody", db=db)


def test_a_run_comes_before_a_folder_and_after_a_file_of_its_name(program: Program) -> None:
    store = make_store(program.folder)
    record_night(store)
    store.close()
    (program.folder / "night").mkdir()
    words = ("diagnose", "night", "--db", store.url)
    assert "a run of ours" in program.here(*words).stdout
    assert "leave it out" in program.here(*words, "--map", "dev=x", code=2).stderr
    (program.folder / "other").mkdir()
    assert "other: a folder" in program.here("diagnose", "other", "--db", store.url, code=2).stderr
    (program.folder / "night").rmdir()
    write(program.folder, "night")
    assert "JSON list, 40 steps" in program.here(*words).stdout


def test_what_a_log_does_not_say_is_told_as_a_factor(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    silent = {"reward": 0.0, "frac_reward_zero_std": 1.0}
    path.write_text(json.dumps([{"step": step, **silent} for step in range(1, 41)]))
    assert commands.diagnose(str(path)).at_end.action == "temperature times 1.25"
    path.write_text(json.dumps([{**row, "learning_rate": 0.0} for row in EXPLODES]))
    at_first = commands.diagnose(str(path)).at_first
    assert at_first is not None
    assert at_first.action == "learning_rate times 0.25"
    cut = {"completions/clipped_ratio": 1.0, "completions/mean_length": 250.0}
    for longest, action in (({}, "max_tokens times 2"), ({"completions/max_length": 256}, "max_tokens 256 -> 512")):
        path.write_text(json.dumps([{"step": step, **silent, **cut, **longest} for step in range(1, 9)]))
        assert commands.diagnose(str(path)).at_end.action == action


@pytest.mark.parametrize("place", ["", "folder", "pipe"])
def test_the_page_replaces_nothing_but_a_file(program: Program, place: str) -> None:
    write(program.folder)
    (program.folder / "folder").mkdir()
    os.mkfifo(program.folder / "pipe")
    done = program.here("diagnose", "log.json", "--html", place, code=2)
    assert done.stderr == f"grpo: --html: {place or '.'} is a folder or a device; name a file\n"
    assert (program.folder / "pipe").is_fifo()


def test_one_row_is_one_step(program: Program) -> None:
    (program.folder / "log.csv").write_text("step,reward\n1,0.5\n")
    assert "CSV, 1 step\n" in program.here("diagnose", "log.csv").stdout


@pytest.mark.skipif(not REAL.exists(), reason="logs of others lie beside the project")
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("qwen35-9b_rho0.70_seed42_step_logs.json", "solved"),
        ("qwen35-9b_rho0.70_seed43_step_logs.json", "solved"),
        ("qwen35-9b_rho3.00_seed42_step_logs.json", "solved"),
        ("qwen35-9b_rho0.10_seed42_step_logs.json", "instability"),
        ("qwen35-9b_dapo_rho3.0_seed42_step_logs.json", "cut_but_paid"),
        ("verilog8b_v3_LR6e-6_step600_trainer_state.json", None),
        ("verilog8b_debug_R32_step40_trainer_state.json", None),
        ("tinkerlab_arithmetic_metrics.jsonl", "solved"),
    ],
)
def test_no_real_log_is_called_severe_and_each_has_what_its_label_asks(name: str, wanted: str | None) -> None:
    found = commands.diagnose(str(REAL / name))
    assert "severe" not in {one.severity for one in found.findings}
    assert "collapse" not in {one.kind for one in found.findings}
    if wanted:
        assert wanted in {one.kind for one in found.findings}
    if wanted == "cut_but_paid":
        assert found.at_first is not None
        assert "max_tokens" not in found.at_first.action + found.at_end.action
