"""Keys of services: read from the environment, and kept out of everything that is written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.errors import InputError

PIECE = 8
"""Characters of a key that, in a row, count as the key."""
TOLD = 200
"""Characters of what a server says that an error repeats."""
LOOKS_LIKE_A_KEY = re.compile(r"\b(?:sk|fw|gsk|hf|xai)[-_][\w-]{6}|Bearer \S")


def read_key(variable: str) -> str:
    """Read a key, "" without one. Raises InputError for what no header can hold."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(f"{variable} holds characters that no key has; set it again")
    return key


@dataclass(frozen=True)
class Key:
    text: str = field(repr=False)

    def is_in(self, content: bytes) -> bool:
        """Test whether the whole key is repeated; a word that short could stand anywhere is no secret."""
        return len(self.text) >= PIECE and self.text.encode() in content

    def is_in_any(self, texts: Iterable[str]) -> bool:
        return len(self.text) >= PIECE and any(self.text in text for text in texts)

    def clean(self, said: str) -> str:
        """Put what a server said on one short line; leave it out if it repeats a piece of the key, or of any."""
        pieces = (self.text[i : i + PIECE] for i in range(len(self.text) - PIECE + 1))
        if any(piece in said for piece in pieces) or LOOKS_LIKE_A_KEY.search(said):
            return "what it said repeats the key"
        return " ".join("".join(c if c.isprintable() else " " for c in said).split())[:TOLD]
