"""The program in a folder full of a user's own modules: all are found, none in place of ours, nothing is left there.

As on the machine of a stranger: the installed command, with an environment of three variables.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.program import MINI, Program

SHADOWS = ("rewards.py", "harness.py", "policies.py", "statistics.py", "pools/__init__.py")
"""Named like packages of ours and of Python: whoever imports one of these ends."""

FILES = {
    "mini.toml": MINI,
    "broken.py": "import helper\nraise ValueError('broken')\n",
    "helper.py": "def same(a, b): return float(a.strip() == b)\n",
    "later.py": "from helper import same\n",
    "judging.py": "import helper\ndef judge(completion, ground_truth):\n    from later import same\n"
    "    return same(completion, ground_truth)\n",
    "prompts.py": "import helper\ndef make():\n    import later\n    for i in range(900):\n"
    "        yield {'prompt': f'{i // 30}+{i % 30}=', 'ground_truth': str(i // 30 + i % 30)}\n",
}

Grpo = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def grpo(tmp_path: Path) -> Grpo:
    """``grpo`` as pip installs it: a script in a folder of its own, which Python puts first on its path."""
    script = tmp_path / "bin" / "grpo"
    folder = tmp_path / "work"
    for path, text in {
        script: "from harness.cli.app import main\nmain()\n",
        **{folder / name: text for name, text in FILES.items()},
        **{folder / name: f"raise SystemExit('{name} was imported')\n" for name in SHADOWS},
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"}

    def grpo(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, str(script), *words],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return grpo


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("reward.function=broken.py:judge", "broken"),
        ("reward.function=broken:judge", "broken"),
        ("reward.function=judging.py:nosuch", "has no function named nosuch"),
        ("reward.function=judging:nosuch", "has no function named nosuch"),
        ("pool.source=prompts.py:nosuch", "has no function named nosuch"),
        ("pool.source=prompts:nosuch", "has no function named nosuch"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_no_file(grpo: Grpo, tmp_path: Path, setting: str, said: str) -> None:
    before = set(tmp_path.rglob("*"))
    done = grpo("run", "mini.toml", "--set", setting, code=2)
    assert said in done.stderr
    assert set(tmp_path.rglob("*")) == before


def test_a_run_away_from_the_terminal_finds_the_users_modules_and_leaves_no_bytecode(
    grpo: Grpo, tmp_path: Path
) -> None:
    """Supervisor, run, reward worker and report are processes of their own; each would import a shadow."""
    spec = ['reward.function=["judging.py:judge", "judging:judge"]', "pool.source=prompts:make", "warmstart.steps=0"]
    spec += ["knobs.max_tokens=4", "evaluate.max_tokens=4"]
    words = ["run", "mini.toml", "--name", "mine", "--steps", "1", "--force", *(f"--set={text}" for text in spec)]
    grpo(*words, "--detach", "--supervise")
    work = Program(tmp_path / "work")
    work.wait_for(lambda: work.store().find_run("mine").ended and (work.folder / "runs/mine/report.html").exists())
    record = work.store().find_run("mine")
    assert (record.status, record.last_step) == ("finished", 1), record.stop_reason
    assert not [*tmp_path.rglob("__pycache__")]
