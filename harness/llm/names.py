"""How models behind an address are named: ``anthropic:MODEL``, ``openai:MODEL``."""

from __future__ import annotations

MESSAGES, CHAT = "anthropic", "openai"
SERVICES = (MESSAGES, CHAT)
RECORDED = "recorded:"
"""What a record of answers is named with, before its file."""


def is_hosted(name: str) -> bool:
    """Test whether a service is named."""
    return name.startswith(tuple(f"{service}:" for service in SERVICES))


def name_hosted(model: str) -> str:
    """Name the answerer of a model as ``[llm] model`` has it, where a bare name means ``anthropic:``."""
    return model if is_hosted(model) else f"{MESSAGES}:{model}"


def bare_name(name: str) -> str:
    """Return the name of a model without its service, as it is sent; it may have slashes and colons itself."""
    return name.partition(":")[2] if is_hosted(name) else name
