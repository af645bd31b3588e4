"""What a model wrote to word problems, judged by ours and by math-verify as it comes: where do they differ, and why?

    python -m tests.benchmarks.against_math_verify answers.jsonl more.csv     (pip's math-verify is a dependency)

Each row has ``completion`` and ``ground_truth``: a CSV of ``grpo eval MODEL --output-file``, or JSON Lines. Each
completion is judged by the function that its ``asked`` names (``box``, ``hashes``, anything else the last number).
Prints how many both take and refuse, and the rest in classes (our reason code, theirs) with three examples each.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from math_verify import parse, verify

from rewards import math

JUDGES = {"box": math.boxed, "hashes": math.hashes}


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    rows = [row for path in parser.parse_args().files for row in read(path)]
    classes: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        completion, truth = row["completion"], row["ground_truth"]
        ours = JUDGES.get(row.get("asked", "box"), math.last_number)(completion, truth)
        theirs = verify(parse(truth), parse(completion))
        name = f"{row.get('asked', 'box')}: ours {ours.reason}, math-verify {'right' if theirs else 'wrong'}"
        classes[name].append(f"{truth!r} <- ...{completion[-160:]!r}")
    found = {name: {"n": len(texts), "examples": texts[:3]} for name, texts in sorted(classes.items())}
    print(json.dumps({"completions": len(rows), "classes": found}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
