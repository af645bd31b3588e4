"""What the splits of a pool may be called."""

from __future__ import annotations

import re
from collections.abc import Collection

RESERVED_SPLITS = ("all", "none")


def check_split_name(name: str, given: Collection[str]) -> None:
    """Raise ValueError. Any name will do, but a slip of the pen must not become a split of its own. (train has a share
    only where it is ``given`` one; the others always have.)"""
    for known in ("train", "probe", "dev", "test"):
        another_case = name != known and name.lower() == known
        lacks = known != "train" or known not in given
        if another_case or (name != known and lacks and _misspells(name, known)):
            raise ValueError(f"no split named {name}, did you mean {known}?")
    if name in RESERVED_SPLITS:
        raise ValueError(f"no split can be named {name}: {', '.join(RESERVED_SPLITS)} mean all prompts or none")
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise ValueError(f"a split's name is of small letters, digits, '-' and '_', not {name!r}")


def _misspells(name: str, word: str) -> bool:
    """Whether ``name`` has the letters of ``word`` in another order, one of them twice, or one within it missing. One
    letter for another is no slip: trial is not train, best is not test."""
    doubled = {word[: i + 1] + word[i:] for i in range(len(word))}
    missing = {word[:i] + word[i + 1 :] for i in range(1, len(word) - 1)}
    return sorted(name) == sorted(word) or name in doubled | missing
