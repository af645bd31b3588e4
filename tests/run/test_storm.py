"""A short storm; ``make chaos`` has the long one (tests/support/storm.py)."""

from __future__ import annotations

from pathlib import Path

from tests.support.storm import rage


def test_killed_while_it_adopts_and_while_two_resume_nothing_is_lost(tmp_path: Path) -> None:
    kills = rage(tmp_path / "storm", 2, 1, kinds=("two resumes", "adopt"))
    assert "two resumes" in {kill.what for kill in kills}
