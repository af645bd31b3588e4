"""Tell prompts apart, and keep those that hardly differ in one split.

The **id** of a prompt is a hash of its exact text, messages and tools: ``What is 5²?`` and ``What is 52?`` are two
prompts. Its **family** is a hash of the same up to Unicode form, case and white space, and its **place**, by which
splits are cut, a hash of the family: near-duplicates stand in one split, so none leaks into test. The family was the
id of a prompt until ids became exact (pool.identity = "normalised").
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from typing import NamedTuple

from harness.types import Prompt


class Identity(NamedTuple):
    """Two numbers of 64 bits."""

    id: int
    family: int


def identify(prompt: Prompt) -> Identity:
    """Compute who a prompt is from all that a model is shown: its text, with the template, its own system message, its
    other turns and its tools."""
    text, system, messages, tools = prompt.text, prompt.system, prompt.messages, prompt.columns.get("tools")
    normal = normalise(f"{system}\n{text}" if system else text)
    family = _hash(normal)
    if system or messages or tools:  # written so that nothing else asked gives the same
        asked = json.dumps([system, list(messages) or text, *([tools] if tools else [])], sort_keys=True, default=str)
        return Identity(_hash(f"messages {asked}"), family)
    return Identity(family if normal == text else _hash(text), family)


def normalise(text: str) -> str:
    """Return the text that all its near-duplicates have: in one Unicode form (NFKC), case and white space."""
    folded = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split())


def compute_id(text: str) -> str:
    """Compute the id of a prompt that is this text alone."""
    return format_id(_hash(text))


def compute_place(family: str) -> int:
    """Compute where the prompts of a family, as format_id writes it, stand when splits are cut: 64 bits of SHA-256."""
    return _hash(f"split:{family}")


def format_id(number: int) -> str:
    """Write an id as 16 hexadecimal digits."""
    return f"{number:016x}"


def parse_id(prompt_id: str) -> int:
    return int(prompt_id, 16)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
