"""Decide whether what a record names may be run here: a database, or an exported model, may come from anybody.

A run is signed when it starts or is resumed, with a key that only this user has, for the folder of its database. What
its spec names beside this program (a reward, a source, a program to alert, a judge to pay) is run for a signed run
alone, or with ``--trust``.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path

from harness.config.load import parse_spec
from harness.config.names import judge_name
from harness.config.schema import RunSpec
from harness.errors import InputError
from harness.store.reader import RunReader
from harness.types import RunRecord
from pools.sources import split_source
from rewards.contract import is_ours

TRUST = "GRPO_TRUST"
"""The environment variable behind ``--trust``, which reaches every process that this one starts."""
SIGNATURE = "signature"
"""Of a manifest: who made the run, and where."""


def find_code(spec: RunSpec) -> list[str]:
    """List what a spec runs, or tells a secret of the environment, that is no part of this program."""
    source, _ = split_source(spec.pool.source)
    named = [name for name in spec.reward.functions if not is_ours(name)]
    if ":" in source and not source.startswith(("hub:", "reasoning:")):
        named.append(source)
    named += [f"judge {name}: {spec.judge[name].model}" for name in map(judge_name, spec.reward.judges)]  # at a price
    if spec.alerts.command:
        named.append(" ".join(spec.alerts.command))
    if spec.alerts.webhook:
        named.append(spec.alerts.webhook)
    return named


def sign(spec: RunSpec, place: Path) -> str:
    """Sign what a spec runs for the folder ``place`` of its database. "" where this user can keep no key."""
    key = _read_key(create=True)
    return _sign(key, spec, place) if key else ""


def load_trusted(reader: RunReader, run: RunRecord) -> RunSpec:
    """Load the spec of a run whose code may run here. Raises InputError for another."""
    details = reader.load_run(run.id)
    spec = parse_spec(details.spec)
    check_trust(run.name, spec, str(details.manifest.get(SIGNATURE, "")), reader.path.absolute().parent)
    return spec


def check_trust(name: str, spec: RunSpec, signature: str, place: Path) -> None:
    """Raise InputError when a recorded spec names code and this user did not sign it for the folder ``place``."""
    code = find_code(spec)
    if not code or os.environ.get(TRUST) == "1":
        return
    key = _read_key(create=False)
    if not key or not hmac.compare_digest(signature, _sign(key, spec, place)):
        raise InputError(
            f"{name} was not made by you in {place}, and its record names what would be run here: {', '.join(code)}; "
            "look at that first, then add --trust"
        )


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
            mine = path.with_name(f"key.{os.getpid()}")
            mine.touch(mode=0o600)
            mine.write_bytes(secrets.token_bytes(32))
            with suppress(FileExistsError):  # another process was faster
                path.hardlink_to(mine)
            mine.unlink()
        return path.read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: no home
        return b""
