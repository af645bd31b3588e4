from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pools.cache
import pools.sources
from harness.errors import InputError
from harness.types import Prompt
from pools.reading import RowRules
from pools.sources import load_prompts
from pools.table import PromptTable


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where entries lie; every file is large enough for one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pools.sources, "CACHED_FROM", 0)
    return tmp_path / "cache" / "grpo-harness" / "sources"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A source for each time that rows were read."""
    counted: list[str] = []
    open_rows = pools.sources.open_rows

    def counting(source: str, **options: object) -> Iterator[object]:
        counted.append(source)
        return open_rows(source, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pools.sources, "open_rows", counting)
    return counted


def write(path: Path, n: int) -> Path:
    path.write_text("".join(json.dumps({"prompt": f"{i}+1=", "ground_truth": i + 1}) + "\n" for i in range(n)))
    return path


def load(path: Path, *, template: str = "{prompt}", system: str = "") -> list[Prompt]:
    return list(load_prompts(str(path), columns={}, template=template, system=system))


def test_a_later_load_gives_the_same_without_reading_rows(tmp_path: Path, cache: Path, reads: list[str]) -> None:
    path = write(tmp_path / "rows.jsonl", 20)
    first = load(path)
    assert load(path) == first
    assert [prompt.system for prompt in load(path, system="Be brief.")] == ["Be brief."] * 20
    assert len(reads) == 1
    assert len(list(cache.iterdir())) == 1


def test_counts_and_merged_rows_are_those_of_the_first_load(tmp_path: Path, cache: Path, reads: list[str]) -> None:
    path = write(tmp_path / "rows.jsonl", 20)
    path.write_text("".join(line + "nonsense\n" for line in path.read_text().splitlines(keepends=True)) * 2)

    def load_bad() -> PromptTable:
        rules = RowRules(skip_bad=True)
        return load_prompts(str(path), columns={}, template="{prompt}", system="", rules=rules)

    first, later = load_bad(), load_bad()
    assert list(later) == list(first) == load(write(tmp_path / "clean.jsonl", 20))
    assert later.counts == first.counts
    assert (later.counts.read, later.counts.merged, later.counts.skipped["is not JSON"].rows) == (80, 20, 40)
    assert reads.count(str(path)) == 1


def test_another_content_template_or_code_is_read_anew(
    tmp_path: Path, cache: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "rows.jsonl", 20)
    load(path)
    assert {prompt.text[:3] for prompt in load(path, template="Q: {prompt}")} == {"Q: "}
    stamp = path.stat()
    write(path, 21)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert len(load(path)) == 21, "whatever its date says"
    monkeypatch.setattr(pools.cache.unicodedata, "unidata_version", "99")
    load(path)
    assert len(reads) == len(list(cache.iterdir())) == 4


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\xff" * len(b)])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, cache: Path, reads: list[str], damage: object) -> None:
    path = write(tmp_path / "rows.jsonl", 20)
    first = load(path)
    (entry,) = cache.iterdir()
    entry.write_bytes(damage(entry.read_bytes()))  # type: ignore[operator]
    assert load(path) == load(path) == first
    assert len(reads) == 2


@pytest.mark.parametrize("kind", ["file in the way", "full disk"])
def test_without_a_cache_prompts_are_loaded_all_the_same(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = write(tmp_path / "rows.jsonl", 20)
    if kind == "file in the way":
        (tmp_path / "cache").write_text("")
    else:
        monkeypatch.setattr(pools.cache.os, "fsync", _refuse)
    assert len(load(path)) == 20
    assert not cache.is_dir() or not list(cache.iterdir())


def _refuse(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_source_with_a_fault_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "rows.jsonl", 20)
    path.write_text(path.read_text() + "nonsense\n")
    for _ in range(2):
        with pytest.raises(InputError, match="row 21 is not JSON"):
            load(path)
    assert not list(cache.iterdir())


def test_entries_that_nobody_loads_are_dropped_in_time(tmp_path: Path, cache: Path) -> None:
    load(write(tmp_path / "old.jsonl", 5))
    load(write(tmp_path / "used.jsonl", 6))
    long_ago = time.time() - 2 * pools.cache.UNUSED_S
    for entry in cache.iterdir():
        os.utime(entry, (long_ago, long_ago))
    load(tmp_path / "used.jsonl")
    load(write(tmp_path / "new.jsonl", 7))
    assert len(list(cache.iterdir())) == 2


def test_a_small_file_is_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load(write(tmp_path / "rows.jsonl", 20))
    assert not (tmp_path / "cache").exists()
