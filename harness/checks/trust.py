"""Decide whether what a record names may be run here: a database, or an exported model, may come from anybody.

A run is signed when it starts or is resumed, with a key that only this user has, for the folder of its database. What
its spec names beside this program (a reward, a source, a program to alert) is run for a signed run alone, or with
``--trust``.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.config.schema import RunSpec
from harness.core.files import write_whole
from harness.errors import InputError

TRUST = "GRPO_TRUST"
"""The environment variable behind ``--trust``, which reaches every process that this one starts."""
SIGNATURE = "signature"
"""Of a manifest: who made the run, and where."""


def find_code(spec: RunSpec) -> list[str]:
    """List what a spec runs, or tells a secret of the environment, that is no part of this program."""
    source, _, _ = spec.pool.source.partition("?")
    named = [name for name in spec.reward.functions if not name.startswith("rewards.")]
    if ":" in source and not source.startswith(("hub:", "reasoning:")):
        named.append(source)
    if spec.alerts.command:
        named.append(" ".join(spec.alerts.command))
    if spec.alerts.webhook:
        named.append(spec.alerts.webhook)
    return named


def sign(spec: RunSpec, place: Path) -> str:
    """Sign what a spec runs for the folder ``place`` of its database. "" where this user can keep no key."""
    key = _read_key(create=True)
    return _sign(key, spec, place) if key else ""


def check_trust(run: str, spec: RunSpec, manifest: Mapping[str, Any], place: Path) -> None:
    """Raise InputError when the record of ``run`` names code and this user did not make it in the folder ``place``."""
    code = find_code(spec)
    if not code or os.environ.get(TRUST) == "1":
        return
    key = _read_key(create=False)
    if key and hmac.compare_digest(str(manifest.get(SIGNATURE, "")), _sign(key, spec, place)):
        return
    raise InputError(
        f"{run} was not made by you in {place}, and its record names code to run: {', '.join(code)}; "
        "look at that code, and add --trust to run it"
    )


def trust(wanted: bool) -> None:
    """``--trust``: run whatever a record names."""
    if wanted:
        os.environ[TRUST] = "1"


def _sign(key: bytes, spec: RunSpec, place: Path) -> str:
    signed = json.dumps([str(place.resolve()), find_code(spec)])
    return hmac.new(key, signed.encode(), "sha256").hexdigest()


def _read_key(*, create: bool) -> bytes:
    """Read this user's key, b"" where there is none."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / "grpo" / "key"
    try:
        if create and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with write_whole(path) as part:
                part.touch(mode=0o600)
                part.write_bytes(secrets.token_bytes(32))
        return path.read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: no home
        return b""
