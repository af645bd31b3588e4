"""What a run's folder says of itself, so that it can be brought into a database that does not know the run.

    runs/<name>/run.json    name, seed, policy, spec, manifest, bounds, eras; anew at every resume

The manifest's ``uid`` tells a run from another of the same name, and a copy of its folder from the folder itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.config.load import bring_up_to_date
from harness.core.files import write_whole
from harness.errors import InputError
from harness.types import RunDetails

CARD = "run.json"


def write_card(folder: Path, run: RunDetails) -> None:
    """Write the card of a run into its folder. Raises OSError."""
    card = {
        "name": run.name,
        "created": run.created,
        "seed": run.seed,
        "policy": run.policy,
        "spec": run.spec,
        "manifest": run.manifest,
        "bounds": {knob: list(pair) for knob, pair in run.bounds.items()},
        "eras": list(run.eras),
    }
    with write_whole(folder / CARD) as part:
        part.write_text(json.dumps(card, indent=1), encoding="utf-8")


def read_card(folder: Path) -> dict[str, Any] | None:
    """Read the card of a run's folder, None where it has none. Raises InputError for one that cannot be read."""
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        found: dict[str, Any] = {name: kind(card[name]) for name, kind in FIELDS.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {type(error).__name__}: {error}; put back a copy of it") from None
    return found | {"spec": bring_up_to_date(found["spec"])}


FIELDS = {
    "name": str,
    "created": float,
    "seed": int,
    "policy": str,
    "spec": dict,
    "manifest": dict,
    "bounds": dict,
    "eras": list,
}
