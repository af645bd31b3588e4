"""Try on a GPU what the tests cannot: they run without one.

    python -m tests.gpu --out FOLDER [--part NAME ...] [--dry-run]

Parts go from cheap to dear, each in a process of its own that may take LIMIT_S, so that one that crashes or hangs costs
no other. FOLDER gets PART.json of each (``ok``, figures, versions, what it said when it failed) and summary.json. Where
torch finds no GPU it says so in one line and does nothing, unless ``--dry-run`` has every part do its work on the
processor, at tiny sizes: the figures mean nothing then, but it fails where the script is wrong. Needs no network. The
exit code is 1 when a part is not ok.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from harness.core.environment import installed_version, prepare_environment

prepare_environment()  # before torch, as ``grpo`` does

from .parts import PARTS, finds_gpu  # noqa: E402

LIMIT_S = 240
TOLD = 4000
"""Characters of what a part said when it failed."""


def run_part(name: str, out: Path, *, dry: bool) -> dict[str, Any]:
    """Run one part apart and keep its result, whatever becomes of it."""
    file = out / f"{name}.json"
    file.unlink(missing_ok=True)
    words = [sys.executable, "-m", "tests.gpu", "--out", str(out), "--child", name, *(["--dry-run"] if dry else [])]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if dry else {}
    started = time.monotonic()
    fault = said = ""
    try:
        done = subprocess.run(
            words, env=os.environ | hidden, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        said = (done.stdout + done.stderr)[-TOLD:]
        fault = "" if done.returncode == 0 else f"exit code {done.returncode}"
    except subprocess.TimeoutExpired as late:
        said = ((late.stdout or b"") + (late.stderr or b""))[-TOLD:].decode(errors="replace")
        fault = f"not done after {LIMIT_S} s"
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"ok": False}
    if fault:
        found |= {"ok": False, "fault": found.get("fault", fault), "said": said}
    seconds = round(time.monotonic() - started, 1)
    versions = {package: installed_version(package) for package in ("torch", "transformers", "trl")}
    result = {"part": name, "dry_run": dry, "seconds": seconds, "versions": versions, **found}
    file.write_text(json.dumps(result, indent=2), encoding="utf-8")
    return result


def be_part(name: str, out: Path, *, dry: bool) -> None:
    """Do the work of one part in this process."""
    try:
        found = PARTS[name](out / name, dry)
    except Exception as error:
        traceback.print_exc()
        found = {"ok": False, "fault": f"{type(error).__name__}: {error}"}
    (out / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=list(PARTS), nargs="+", default=list(PARTS))
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--child", choices=list(PARTS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        be_part(given.child, given.out, dry=given.dry_run)
        return 0
    if not given.dry_run and not finds_gpu():
        print("skipped: torch finds no GPU here (--dry-run does every part on the processor, at tiny sizes)")
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    results = []
    for name in given.part:
        results.append(run_part(name, given.out.absolute(), dry=given.dry_run))
        told = {key: value for key, value in results[-1].items() if key not in ("said", "part", "dry_run", "versions")}
        print(f"{name}: {json.dumps(told)}", flush=True)
    (given.out / "summary.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
