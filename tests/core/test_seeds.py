from __future__ import annotations

from harness.core.seeds import derive_seed


def test_a_seed_follows_from_its_parts_alone() -> None:
    assert derive_seed(7, 3, 0, "draw") == derive_seed(7, 3, 0, "draw") == 3436115816


def test_every_part_matters() -> None:
    seeds = {
        derive_seed(seed, step, rank, purpose)
        for seed in range(5)
        for step in range(20)
        for rank in range(2)
        for purpose in ("draw", "step", "evaluate")
    }
    assert len(seeds) == 5 * 20 * 2 * 3


def test_parts_are_not_glued_together() -> None:
    assert derive_seed(1, 23) != derive_seed(12, 3)
    assert derive_seed("1") != derive_seed(1)


def test_a_seed_fits_every_generator() -> None:
    assert all(0 <= derive_seed(step) < 2**32 for step in range(1000))
