"""Wrong input: one line that names the field and the mend, exit code 2, nothing created."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.cli.app import main
from harness.cli.options import complain
from tests.support.program import Program

Check = Callable[[list[str], str], None]

FILES = {
    "malformed.toml": "[knobs\n",
    "misspelled.toml": "[knobs]\ntemprature = 1.0\n",
    "list.json": "[1, 2]",
    "empty.jsonl": "",
    "no-truth.jsonl": '{"prompt": "1+1=", "ground_truth": "2"}\n{"prompt": "1+2="}\n',
    "few.jsonl": '{"prompt": "1+1=", "ground_truth": "2"}\n',
    "broken.py": "def reward(:\n",
    "fine.py": "x = 1\n",
}

WRONG = [
    (["run", "arithmetc"], "no recipe named arithmetc"),
    (["run", "missing.toml"], "no spec file at missing.toml"),
    (["run", "malformed.toml"], "malformed.toml is not valid TOML"),
    (["run", "list.json"], "must hold a table"),
    (["run", "misspelled.toml"], "knobs.temprature: no such field in [knobs], did you mean temperature?"),
    (["run", "--set", "nosuch.field=1"], "nosuch"),
    (["run", "--set", "knobs"], "--set takes section.field=value"),
    (["run", "--set", "knobs.temperature=-1"], "knobs.temperature: must be greater than 0, not -1"),
    (["run", "--set", "knobs.learning_rate=nan"], "knobs.learning_rate: must be a finite number"),
    (["run", "--set", "knobs.group_size=many"], "knobs.group_size: must be a valid integer, not 'many'"),
    (["run", "--set", "knobs.group_size=1"], "knobs.group_size: must be greater than or equal to 2"),
    (["run", "--set", "knobs.temperature=1.6"], "outside its bounds [0.3, 1.5]"),
    (["run", "--set", "bounds.temp=[0, 1]"], "no hyperparameter named temp, did you mean temperature?"),
    (["run", "--steps", "0"], "budget.steps: must be greater than or equal to 1, not 0"),
    (["run", "--hours", "-1"], "budget.hours"),
    (["run", "--seed", "abc"], "--seed"),
    (["run", "--policy", "rule"], "no decision policy named rule, did you mean rules?"),
    (["run", "--name", "a/b"], "name: 'a/b' must be letters"),
    (["run", "--set", "trainer.lr_scheduler=cosine"], "needs scheduler_total_steps"),
    (["run", "--set", "pool.source=empty.jsonl"], "empty.jsonl has no prompts"),
    (["run", "--set", "pool.source=no-truth.jsonl"], "no-truth.jsonl row 2 has no ground_truth"),
    (["run", "--set", "pool.source=few.jsonl"], "leave none to train on"),
    (["run", "--set", "pool.source=gone.jsonl"], "cannot read gone.jsonl"),
    (["run", "--set", "pool.source=arithmetic?digits=99"], "digits is 1 to 9"),
    (["run", "--set", "pool.splits.tset=3"], "pool.splits: no split named tset, did you mean test?"),
    (["run", "--set", "pool.splits.dev=1.5"], "pool.splits: dev 1.5 must be a whole number of prompts or a fraction"),
    (["run", "--set", "pool.splits.test=9999"], "the source has 4000; take smaller splits or a larger source"),
    (["run", "--set", "pool.columns.promt=q"], "pool.columns: no column named promt, did you mean prompt?"),
    (["run", "--set", "pool.columns.prompt=q"], "has no q: its columns are prompt, ground_truth"),
    (["run", "--set", "pool.source=folder.jsonl"], "folder.jsonl is a folder"),
    (["run", "--set", "pool.source=hub:nowhere/nothing"], "nowhere/nothing"),
    (["pool", "convert", "few.jsonl", "out.jsonl", "--spec", "arithmetic", "--reference", "x"], "no text in x: 1"),
    (["pool", "convert", "few.jsonl", "few.jsonl", "--spec", "arithmetic", "--reference", "x"], "exists already"),
    (["pool", "convert", "few.jsonl", "out.txt", "--spec", "arithmetic", "--reference", "x"], "must end in .jsonl"),
    (["pool", "convert", "gone.jsonl", "out.jsonl", "--spec", "arithmetic", "--reference", "x"], "cannot read gone"),
    (["pool", "convert"], "(see grpo pool --help)"),
    (["run", "--set", "pool.template=hello"], "must contain {prompt}"),
    (["run", "--set", "knobs.prompts_per_step=1000", "--set", "pool.draw_share=0.1"], "a larger pool"),
    (["run", "--set", "warmstart.examples=99999"], "warmstart.examples: 99999 asked for"),
    (["run", "--set", "reward.function=rewards.nosuch"], "cannot import rewards.nosuch"),
    (["run", "--set", "reward.function=broken.py:reward"], "SyntaxError"),
    (["run", "--set", "reward.function=fine.py:reward"], "has no function named reward"),
    (["run", "--set", "reward.weights=[1, 2]"], "weights has 2 values for 1 functions"),
    (["run", "--set", "reward.range=[1, 0]"], "must go from low to high"),
    (["run", "--db", "/proc/nosuch/h.db"], "db: cannot write /proc/nosuch/h.db"),
    (["run", "--db", "postgresql://x/y"], "is not a SQLite file"),
    (["review", "nosuch"], "no run named nosuch"),
    (["watch", "nosuch"], "no run named nosuch"),
    (["resume", "nosuch"], "no run named nosuch"),
    (["eval", "nosuch"], "no run named nosuch"),
    (["run", "--name", ""], "--name: it is empty"),
    (["run", "--set", "..=3"], "section.field=value"),
    (["run", "--set", "model.name="], "model.name: it is empty"),
    (["run", "--set", "model.name=."], "model.name: . holds no model"),
    (["run", "--set", "reward.function=."], "reward.function: '.' names no function"),
    (["run", "--set", "reward.function=" + 500 * "a" + ".py:f"], "aaaaaa…aaaaaa"),
    (["run", "--set", "pool.source=hub:"], "hub: names no data set"),
    (["sample", "."], "holds no model"),
    (["act", "nosuch", "pause"], "no run named nosuch"),
    (["act", "latest", "dance"], "no action 'dance'; actions are: set knob=value"),
    (["act", "latest", "set", "temperature=warm"], "temperature needs a number, not 'warm'"),
    (["act", "latest", "focus", "left"], "focus takes easier, harder, unset"),
    (["runs", "--db", "postgresql://x/y"], "is not a SQLite file"),
    (["runs", "--db", "x" * 5000], "is too long for the name of a file"),
    (["run", "x" * 5000 + ".toml"], "is too long for the name of a file"),
    (["frobnicate"], "No such command 'frobnicate'"),
    (["review", "--nosuch"], "--nosuch"),
]

NEEDS_THE_MODEL = [
    (["run", "--set", "model.name=./gone"], "model.name: no folder ./gone"),
    (["run", "--set", "model.name=a b"], "model.name: no folder a b; give tiny"),
    (["run", ""], "SPEC: it is empty; give a recipe or a file"),
    (["run", "--set", "knobs.max_tokens=126"], "knobs.max_tokens: 126 does not fit"),
]


@pytest.fixture
def check(program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """The program's own entry point in this process: forty starts of Python would take a minute."""

    def check(words: list[str], message: str) -> None:
        _check(program, words, message, monkeypatch, capsys)

    return check


def _check(
    program: Program,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(program.folder)
    monkeypatch.setattr("sys.argv", ["grpo", *words])
    for name, text in FILES.items():
        (program.folder / name).write_text(text)
    (program.folder / "folder.jsonl").mkdir()
    before = {path.name for path in program.folder.iterdir()}
    with pytest.raises(SystemExit) as end:
        main()
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert message in error
    assert error.startswith("grpo: ")
    assert len(error.strip().splitlines()) == 1
    assert {path.name for path in program.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "message"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_wrong_input_is_one_line_and_creates_nothing(check: Check, words: list[str], message: str) -> None:
    check(words, message)


@pytest.mark.parametrize(
    ("words", "message"), NEEDS_THE_MODEL, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_wrong_input_about_the_model_too(check: Check, words: list[str], message: str) -> None:
    check(words, message)


def test_a_name_that_is_taken_or_a_run_that_is_unknown(program: Program) -> None:
    program.here("run", "mini.toml", "--name", "mine", "--steps", "1", "--set", "warmstart.steps=0")
    before = sorted(path.name for path in (program.folder / "runs").iterdir())
    assert "a run named mine exists already" in program.here("run", "--name", "mine", code=2).stderr
    assert "no run named other" in program.here("review", "other", code=2).stderr
    assert "no run named other" in program.here("act", "other", "pause", code=2).stderr
    assert sorted(path.name for path in (program.folder / "runs").iterdir()) == before


def test_help_and_version(program: Program) -> None:
    assert program.run("--version").stdout.startswith("grpo 0.")
    assert "Start with: grpo run" in program.here().stdout


def test_what_a_reward_quotes_of_a_completion_cannot_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        complain("failed: cannot parse \x1b]0;mine\x07\nlog: log.txt", 1)
    said = capsys.readouterr().err
    assert said == "grpo: failed: cannot parse �]0;mine�\nlog: log.txt\n"
