from __future__ import annotations

import json
from pathlib import Path

from harness.checks.inputs import build_splits, keep_splits
from harness.config.load import parse_spec
from harness.config.schema import RunSpec

SPLITS = {"test": 5, "dev": 5, "probe": 3, "prefer": 4}


def make_spec(folder: Path) -> RunSpec:
    pool = {"source": str(folder / "rows.jsonl"), "splits": SPLITS}
    return parse_spec({"pool": pool, "output": {"dir": str(folder / "runs")}})


def write_rows(folder: Path, n: int) -> None:
    rows = ({"prompt": f"{i}+1=", "ground_truth": i + 1} for i in range(n))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def ids(spec: RunSpec) -> dict[str, list[str]]:
    return {name: part.ids for name, part in build_splits(spec).items()}


def test_looking_at_splits_creates_nothing(tmp_path: Path) -> None:
    write_rows(tmp_path, 40)
    build_splits(make_spec(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_splits_that_a_run_used_stay_when_its_source_grows(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    write_rows(tmp_path, 40)
    before = ids(spec)
    keep_splits(spec, build_splits(spec))
    write_rows(tmp_path, 400)
    after = ids(spec)
    assert {name: after[name] for name in SPLITS} == {name: before[name] for name in SPLITS}
    assert set(before["train"]) < set(after["train"])


def test_splits_stay_when_source_and_runs_are_moved_together(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    write_rows(tmp_path / "here", 40)
    spec = make_spec(tmp_path / "here")
    before = ids(spec)
    keep_splits(spec, build_splits(spec))
    (tmp_path / "here").rename(tmp_path / "there")
    write_rows(tmp_path / "there", 400)
    assert ids(make_spec(tmp_path / "there"))["test"] == before["test"]


def test_another_source_has_splits_of_its_own(tmp_path: Path) -> None:
    write_rows(tmp_path, 40)
    spec = make_spec(tmp_path)
    keep_splits(spec, build_splits(spec))
    other = spec.model_copy(update={"pool": spec.pool.model_copy(update={"source": "arithmetic?size=50&digits=2"})})
    keep_splits(other, build_splits(other))
    assert len(list((tmp_path / "runs" / "splits").iterdir())) == 2


placeholder
