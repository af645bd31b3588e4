"""Derive seeds: every act seeds itself from the step and its purpose, nothing is carried over.

So a step is the same whether it ran in one process from the start or after a resume.
"""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """Derive a 32-bit seed from e.g. ``(run seed, step, rank, purpose)``, by SHA-256."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big")
