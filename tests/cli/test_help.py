"""What the program tells of itself: help with examples, docs/cli.md, and the shell's Tab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from harness.cli.app import app, main
from harness.core.formatting import format_ago
from harness.errors import InputError
from tests.support import cli_doc, from_trl_doc, spec_doc
from tests.support.builders import create_run, make_store

Tab = Callable[..., list[str]]


def commands() -> Iterator[tuple[str, str]]:
    """Every command and group by its words, with its help."""

    def walk(words: str, command: object) -> Iterator[tuple[str, str]]:
        yield words, str(getattr(command, "help", "") or "")
        for name, below in getattr(command, "commands", {}).items():
            yield from walk(f"{words} {name}", below)

    return walk("grpo", get_command(app))


@pytest.mark.parametrize(("words", "text"), list(commands()), ids=lambda value: value.split("\n")[0][:40])
def test_every_command_shows_how_it_is_used(words: str, text: str) -> None:
    _, examples, shown = text.partition("Examples:\n")
    assert examples, words
    lines = [line.strip() for line in shown.splitlines() if line.strip()]
    assert lines
    assert all(words in line for line in lines), lines


def test_what_the_examples_say_is_taken_by_the_parser() -> None:
    """Flags and words of every example, up to the point where a command would begin to work."""
    root = get_command(app)
    for _, text in commands():
        for line in text.partition("Examples:\n")[2].splitlines():
            if line.strip():
                parse(root, line.strip())


def parse(root: typer.core.TyperCommand, line: str) -> None:
    import shlex

    words = shlex.split(line.partition(" | ")[0])
    words = words[words.index("grpo") + 1 :]
    context = typer.Context(root, info_name="grpo")
    command = root
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    command.make_context("grpo", words, parent=context)


@pytest.mark.parametrize("page", [cli_doc, spec_doc, from_trl_doc])
def test_the_reference_is_what_the_program_says(page: Any) -> None:
    assert page.FILE.read_text(encoding="utf-8") == page.render(), f"{page.FILE.name} is stale: make docs"


def test_help_and_wrong_words_load_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['grpo', *{words!r}]\n"
        "from harness.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {{'torch', 'numpy', 'sqlalchemy', 'harness.config.schema', 'pyarrow', 'plotly'}} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    for words in (["--help"], ["run", "--help"], ["frobnicate"], ["act", "latest", "dance"], ["watch", "nosuch"]):
        done = subprocess.run(
            [sys.executable, "-c", script.format(words=words)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"


# ---------------------------------------------------------------- Tab


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    store = make_store(tmp_path / "runs")
    for name in ("night-1", "night-2", "day"):
        create_run(store, name)
    store.close()
    (tmp_path / "my.toml").touch()
    (tmp_path / "my-model").mkdir()
    (tmp_path / "notes.txt").touch()
    return tmp_path


@pytest.fixture
def tab(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tab:
    """What bash is offered after these words, by the protocol that ``grpo --install-completion`` sets up."""

    def tab(line: str) -> list[str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr("sys.argv", ["grpo"])
        monkeypatch.setenv("_GRPO_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - (not line.endswith(" "))))
        with pytest.raises(SystemExit):
            main()
        told = capsys.readouterr()
        assert told.err == ""
        return told.out.split()

    return tab


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("grpo watch ", ["day", "night-2", "night-1", "latest"]),
        ("grpo watch night", ["night-2", "night-1"]),
        ("grpo resume l", ["latest"]),
        ("grpo compare night-1 d", ["day"]),
        ("grpo pool show night-2", ["night-2"]),
        (
            "grpo eval ",
            [
                "day",
                "night-2",
                "night-1",
                "latest",
                "tiny",
                "smollm2-135m",
                "anthropic:",
                "openai:",
                "recorded:",
                "my-model/",
                "runs/",
            ],
        ),
        ("grpo run a", ["arithmetic"]),
        ("grpo run my", ["my.toml", "my-model/"]),
        ("grpo run ./my.", ["./my.toml"]),
        ("grpo run --policy replay:n", ["replay:night-2", "replay:night-1"]),
        ("grpo run --policy l", ["llm"]),
        ("grpo act latest s", ["set", "step", "stop", "save", "sample"]),
        ("grpo act latest set tem", ["temperature="]),
        ("grpo act latest release l", ["learning_rate"]),
        ("grpo watch --out elsewhere ", []),
        ("grpo preflight --json cod", ["coding"]),
    ],
)
def test_tab_offers_what_may_come_next(tab: Tab, line: str, offered: list[str]) -> None:
    assert sorted(tab(line)) == sorted(offered)


def test_tab_is_silent_where_there_is_trouble(tab: Tab, folder: Path) -> None:
    (folder / "broken.db").write_text("this is no database")
    assert tab("grpo watch --db broken.db ") == []
    assert tab("grpo watch --db /nowhere/x.db ") == []
    assert tab("grpo run /nowhere/") == []


def test_tab_works_from_a_real_shell_without_anything_heavy(folder: Path, tmp_path: Path) -> None:
    """The script that Typer writes for bash, in bash, with a program named grpo that looks at what was imported."""
    bash = shutil.which("bash")
    assert bash is not None
    program = tmp_path / "bin" / "grpo"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys, atexit\n"
        "from harness.cli.app import main\n"
        "heavy = {'torch', 'numpy', 'sqlalchemy', 'harness.config.schema', 'pyarrow'}\n"
        "atexit.register(lambda: print('HEAVY', *(heavy & set(sys.modules)), file=sys.stderr))\n"
        "main()\n"
    )
    program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    script = (
        'eval "$(grpo --show-completion bash 2>/dev/null)"; COMP_WORDS=(grpo watch ni); COMP_CWORD=2; '
        "_grpo_completion grpo; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(
        [bash, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["night-2", "night-1"], done.stderr
    assert done.stderr.split() == ["HEAVY"], done.stderr


# ---------------------------------------------------------------- names of runs, times


@pytest.mark.parametrize(
    ("name", "found"), [("latest", "day"), ("d", "day"), ("night-1", "night-1"), ("day", "day"), ("night-2", "night-2")]
)
def test_a_run_is_found_by_the_beginning_of_its_name(folder: Path, name: str, found: str) -> None:
    assert make_store(folder / "runs").match_run(name).name == found


def test_a_whole_name_comes_before_those_that_begin_with_it(folder: Path) -> None:
    store = make_store(folder / "runs")
    create_run(store, "night")
    assert store.match_run("night").name == "night"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("night", "2 runs begin with night: night-1, night-2; type more of the name"),
        ("nigth-1", "no run named nigth-1, did you mean night-1?"),
        ("zzz", "no run named zzz"),
    ],
)
def test_what_names_no_one_run_is_one_line(folder: Path, name: str, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        make_store(folder / "runs").match_run(name)
    assert str(refusal.value) == said


@pytest.mark.parametrize(
    "words",
    [
        "watch night",
        "act night pause",
        "review night",
        "compare day night",
        "resume night",
        "replay night",
        "export night",
        "eval night",
        "sample night",
        "pool show night",
        "pool export night out.jsonl",
        "pool build out.jsonl --spec arithmetic --model night",
        "run --policy replay:night",
    ],
)
def test_every_command_that_takes_a_run_takes_its_beginning(
    words: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["grpo", *words.split()])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err == "grpo: 2 runs begin with night: night-1, night-2; type more of the name\n"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "just now"), (0, "just now"), (59.9, "just now"), (60, "1 min ago"), (200, "3 min ago"),
        (3599, "59 min ago"), (3600, "1 h ago"), (86_399, "23 h ago"), (86_400, "1 day ago"), (200_000, "2 days ago"),
    ],
)  # fmt: skip
def test_times_are_told_from_now(seconds: float, said: str) -> None:
    assert format_ago(seconds) == said


def test_runs_are_listed_with_when_they_began(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["grpo", "runs"])
    monkeypatch.setenv("COLUMNS", "120")
    began = make_store(folder / "runs").match_run("day").created
    monkeypatch.setattr(time, "time", lambda: began + 3 * 3600 + 5)
    with pytest.raises(SystemExit):
        main()
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "policy", "seed", "steps", "best", "time", "began", "status"]
    assert [row.split()[0] for row in rows] == ["night-1", "night-2", "day"]
    assert all("3 h ago" in row for row in rows)
