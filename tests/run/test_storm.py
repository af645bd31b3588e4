"""A short storm; ``make chaos`` has the long one (tests/support/storm.py)."""

from __future__ import annotations

from pathlib import Path

from tests.support.storm import rage


def test_killed_while_it_adopts_a_run_the_same_call_again_does(tmp_path: Path) -> None:
    kills = rage(tmp_path / "storm", 1, 4, kinds=("adopt",))
    assert kills[-1].died
