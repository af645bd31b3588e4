"""What it costs to have a large pool: time and memory of the first load of a source and of later ones.

    python -m tests.benchmarks.pool_load [--prompts 1000000] [--formats jsonl parquet csv json] [--extra]

Each load is a process of its own: prompts read, split and made a pool as a run does it
(harness.checks.inputs), then fifty draws of 16. Memory is the
process's peak (VmHWM) above what it was after the imports, and above a Python that imported nothing. ``--extra`` adds
a label, an id and a list of tests to each row. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOAD = """
import json, sys, time
def memory(name):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines[name].split()[0]) / 1024
empty = memory("VmHWM")
began = time.perf_counter()
import harness.checks.inputs
from harness.config.load import parse_spec
import pyarrow.parquet
imports_s, bare = time.perf_counter() - began, memory("VmHWM")
spec = parse_spec({"pool": {"source": sys.argv[1], "columns": {"prompt": "question", "ground_truth": "answer"}}})
began = time.perf_counter()
splits = harness.checks.inputs.build_splits(spec)
pool = harness.checks.inputs.build_pool(spec, splits["train"])
load_s = time.perf_counter() - began
began = time.perf_counter()
for seed in range(50):
    pool.draw(16, seed=seed, focus=None, group_size=8)
draw_s = (time.perf_counter() - began) / 50
print(json.dumps({
    "load_s": round(load_s, 2), "imports_s": round(imports_s, 2), "draw_ms": round(draw_s * 1e3, 2),
    "peak_mb_above_imports": round(memory("VmHWM") - bare),
    "peak_mb_above_empty_python": round(memory("VmHWM") - empty),
    "now_mb_above_imports": round(memory("VmRSS") - bare),
    "sizes": {name: len(part) for name, part in splits.items()},
}))
"""


def make_rows(n: int, *, extra: bool) -> Iterator[dict[str, Any]]:
    for i in range(n):
        a, b = i % 1000, i // 1000
        row: dict[str, Any] = {
            "question": f"A farmer has {a} sheep and buys {b} more at the market. How many sheep are there now?",
            "answer": f"{a} + {b} = {a + b}. #### {a + b}",
        }
        if extra:
            row |= {"id": f"row-{i}", "label": f"level {i % 7}", "tests": [a, b, {"sum": a + b}]}
        yield row


def write_source(path: Path, n: int, *, extra: bool) -> None:
    rows = make_rows(n, extra=extra)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(list(rows)), path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            first = next(rows)
            writer = csv.DictWriter(file, list(first))
            writer.writeheader()
            writer.writerow(first)
            writer.writerows(rows)
        elif path.suffix == ".json":
            for i, row in enumerate(rows):
                file.write(("," if i else "[") + json.dumps(row))
            file.write("]")
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def load(path: Path, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(path)],
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")},
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=1_000_000)
    parser.add_argument("--formats", nargs="+", default=["jsonl", "parquet", "csv", "json"])
    parser.add_argument("--extra", action="store_true")
    asked = parser.parse_args()
    results: dict[str, Any] = {"prompts": asked.prompts, "cores": os.cpu_count(), "formats": {}}
    for suffix in asked.formats:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            path = folder / f"rows.{suffix}"
            began = time.perf_counter()
            write_source(path, asked.prompts, extra=asked.extra)
            print(f"{suffix}: written in {time.perf_counter() - began:.0f} s", file=sys.stderr)
            first = load(path, folder)
            later = [load(path, folder) for _ in range(3)]
            cached = sum(entry.stat().st_size for entry in (folder / "cache").rglob("*.arrow"))
            results["formats"][suffix] = {
                "file_mb": round(path.stat().st_size / 1e6),
                "cache_mb": round(cached / 1e6),
                "first": first,
                "later": later,
            }
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
