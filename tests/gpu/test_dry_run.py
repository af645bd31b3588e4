"""The script for a machine with a GPU, as far as it can be tried without: a part that cannot start there is no use.

``python -m tests.gpu --dry-run`` does every part, each in a process of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from . import __main__ as script
from . import parts


@pytest.mark.parametrize("name", ["steps", "out-of-memory", "memory-7b", "trl-256"])
def test_a_part_does_its_work_on_the_processor(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "prepare_process", lambda threads: None)  # of this process others make use
    script.be_part(name, tmp_path, dry=True)
    found = json.loads((tmp_path / f"{name}.json").read_text())
    assert found["ok"], found
    assert len(found) > 2


def test_a_part_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parts.PARTS, "steps", lambda folder, dry: {}[dry])
    script.be_part("steps", tmp_path, dry=True)
    assert json.loads((tmp_path / "steps.json").read_text()) == {
        "ok": False, "fault": "KeyError: True",
    }  # fmt: skip


def test_without_a_gpu_it_is_skipped_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "finds_gpu", lambda: False)
    monkeypatch.setattr(sys, "argv", ["tests.gpu", "--out", str(tmp_path / "out")])
    assert script.main() == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("skipped: torch finds no GPU here")
    assert not (tmp_path / "out").exists()
