"""How Python is started, and what an import leaves behind."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from harness.core import processes
from harness.core.processes import keep_bytecode_home, python_words

PRODUCT = [path for top in ("harness", "policies", "pools", "rewards") for path in (processes.ROOT / top).rglob("*.py")]


def test_no_file_of_the_working_directory_takes_the_place_of_a_module_of_ours(tmp_path: Path) -> None:
    for name in ("harness.py", "rewards.py", "policies.py", "typer.py", "statistics.py"):
        (tmp_path / name).write_text("raise SystemExit('shadowed')")
    done = subprocess.run(
        [*python_words("harness"), "--version"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("grpo "), done.stderr


def test_nothing_of_ours_starts_a_module_in_another_way() -> None:
    other = [path.name for path in PRODUCT if 'executable, "-m"' in path.read_text(encoding="utf-8")]
    assert other == []


@pytest.mark.parametrize("installed", [True, False])
def test_bytecode_is_written_beside_what_is_installed_alone(
    installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.setattr(SourceFileLoader, "set_data", SourceFileLoader.set_data)  # restored afterwards
    if installed:
        monkeypatch.setattr(processes, "INSTALLED", (tmp_path,))
    (tmp_path / "mine.py").write_text("x = 1\n")
    keep_bytecode_home()
    keep_bytecode_home()
    SourceFileLoader("mine", str(tmp_path / "mine.py")).get_code("mine")
    assert (tmp_path / "__pycache__").exists() == installed
