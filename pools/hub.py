"""Rows of a Hugging Face data set: from the hub, its cache, or a folder of the same layout (``datasets`` loads all).

hub:openai/gsm8k?config=main&split=train[:100]
hub:./folder?split=train            data files as on the hub, or what Dataset.save_to_disk left
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from harness.errors import InputError
from pools.rows import Row, say

OPTIONS = ("config", "split", "revision")
ROWS = 1024
"""Turned into Python at a time."""


def read_hub(name: str, options: Mapping[str, str], *, hub_answers: Callable[[], bool]) -> Iterator[Row]:
    """Yield rows in the order of the data set. ``hub_answers`` is asked only for what no folder holds; when the hub
    does not answer, the cache is all there is. Raises InputError."""
    source = f"hub:{name}"
    for option in options:
        if option not in OPTIONS:
            raise InputError(f"pool.source: {source} has no option {option!r}; it takes {', '.join(OPTIONS)}")
    if not name:
        raise InputError("pool.source: hub: names no data set; give its folder or its hub id, such as hub:openai/gsm8k")
    folder = Path(name).expanduser()
    if not folder.is_dir() and (folder.is_file() or name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise InputError(f"pool.source: no folder {name}; give a data set's folder or its hub id, such as openai/gsm8k")
    offline = not folder.is_dir() and not hub_answers()
    try:
        with _offline() if offline else nullcontext():  # else minutes of retries come before the error
            data = _load_folder(folder, options) if folder.is_dir() else _load(name, options)
    except Exception as error:  # datasets raises many kinds; all of them mean that this name gives no rows
        if offline and isinstance(error, ConnectionError):
            raise InputError(
                f"pool.source: the hub is out of reach and {name} is not in the local cache; give hub:FOLDER, or a file"
            ) from None
        raise InputError(f"pool.source: cannot load {source}: {say(error) or type(error).__name__}") from None
    tables = data.with_format("arrow").iter(batch_size=ROWS)
    for number, values in enumerate((values for table in tables for values in table.to_pylist()), 1):
        yield Row(f"pool.source: {source} row {number}", values)


def _load(name: str, options: Mapping[str, str]) -> Any:
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()  # they are written to a log file too
    split = options.get("split", "train")
    return datasets.load_dataset(name, options.get("config"), split=split, revision=options.get("revision"))


def _load_folder(folder: Path, options: Mapping[str, str]) -> Any:
    import datasets

    if not any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return _load(str(folder), options)
    saved = datasets.load_from_disk(str(folder))
    splits = saved if isinstance(saved, dict) else {str(saved.split or "train"): saved}
    wanted = datasets.ReadInstruction.from_spec(options.get("split", "train"))
    parts = wanted.to_absolute({name: len(split) for name, split in splits.items()})
    return datasets.concatenate_datasets([splits[part.splitname].select(range(part.from_, part.to)) for part in parts])


@contextmanager
def _offline() -> Iterator[None]:
    """Do what HF_HUB_OFFLINE=1 does, which both libraries read once, when they are imported."""
    import datasets
    import huggingface_hub

    places: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value
