"""What a large source became, kept in the user's cache folder: the first load parses, later ones map a file.

An entry is named by all it was made from: the content of the source, the options, and the code that read it. So it is
never stale, and deleting one, or all, costs one slow load.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness.core.files import write_whole
from pools.table import SCHEMA

UNUSED_S = 30 * 86400.0
"""After so long without being loaded an entry is deleted, the next time that one is written."""


NOTE = b"note"
Batches = list[pa.RecordBatch]
Note = dict[str, Any]


def load_cached(
    made_from: list[str], read: Callable[[], Iterator[pa.RecordBatch]], finish: Callable[[], Note]
) -> tuple[Batches, Note]:
    """Return the batches of ``read`` and what ``finish`` notes of them afterwards, as JSON: mapped from the cache where
    they are in it, and else put there on the way.

    Without a cache that can be written they are kept in memory. Raises what both raise; nothing stays then.
    """
    path = _folder() / f"{_compute_key(made_from)}.arrow"
    found = _open(path)
    if found is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(path) as part, part.open("wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
            for batch in read():
                writer.write_batch(batch)
            writer.write_batch(pa.RecordBatch.from_pylist([], SCHEMA), {NOTE: json.dumps(finish()).encode()})
        _drop_unused(path.parent)
        found = _open(path)
    except OSError:  # no such folder can be made, a full disk: what ``read`` finds wrong is an InputError
        found = None
    return found or (list(read()), finish())


def _compute_key(made_from: list[str]) -> str:
    digest = hashlib.sha256()
    for part in (*made_from, sys.version, unicodedata.unidata_version, pa.__version__):
        digest.update(f"{len(part)}:{part}".encode())
    for module in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()[:32]


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "grpo-harness" / "sources"


def _open(path: Path) -> tuple[Batches, Note] | None:
    """Map the batches of a file, which stay on disk until they are looked at; None when it is not there or damaged."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        *batches, (_, note) = [reader.get_batch_with_custom_metadata(i) for i in range(reader.num_record_batches)]
        for batch, _ in batches:
            batch.validate(full=True)  # a damaged offset would read beyond the file
        os.utime(path)
        if reader.schema != SCHEMA:
            return None
        return [batch for batch, _ in batches], json.loads(note[NOTE])
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError):
        return None


def _drop_unused(folder: Path) -> None:
    for path in folder.iterdir():
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > UNUSED_S:
                path.unlink()
