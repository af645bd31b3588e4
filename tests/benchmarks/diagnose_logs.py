"""What grpo diagnose, rldoctor and rlwatch say of the logs in a folder, for docs/diagnose.md.

    pip install --no-deps rldoctor==0.2.0 rlwatch==0.5.0
    python -m tests.benchmarks.diagnose_logs FOLDER

rldoctor is asked once, with the whole log, rlwatch row by row as its callback would; both get the rows under TRL's
names. ``severe`` counts their critical ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.commands import diagnose
from harness.errors import InputError
from harness.logs.read import Log, read_log
from tests.benchmarks.gym_diagnosis import TRL_NAMES
from tests.benchmarks.gym_report import table

INSTALL = "the others are asked too: pip install --no-deps rldoctor==0.2.0 rlwatch==0.5.0"
RLWATCH_NAMES = {
    "entropy": "entropy/mean",
    "kl_divergence": "kl/mean",
    "reward_mean": "reward/mean",
    "reward_std": "reward/std",
    "loss": "loss",
    "grad_norm": "grad/norm",
}

Said = tuple[str, str, int]
"""``severe`` or ``warning``, the kind, and the step it was said at (the last one where all were asked at once)."""


def ask_ours(path: Path) -> Iterator[Said]:
    for found in diagnose(str(path)).findings:
        if found.severity in ("severe", "warning"):
            yield found.severity, found.kind, found.first


def ask_rldoctor(log: Log) -> Iterator[Said]:
    try:
        from rl_doctor import Severity, diagnose, run_from_records
    except ImportError:
        raise SystemExit(INSTALL) from None
    rows = [{"step": float(row.step), **_rename(row.metrics, TRL_NAMES)} for row in log.rows]
    for problem in diagnose(run_from_records(rows)).problems:
        if problem.severity >= Severity.WARNING:
            severity = "severe" if problem.severity >= Severity.CRITICAL else "warning"
            yield severity, problem.detector, log.rows[-1].step


def ask_rlwatch(log: Log) -> Iterator[Said]:
    try:
        from rlwatch.config import RLWatchConfig
        from rlwatch.detectors import DetectorSuite
    except ImportError:
        raise SystemExit(INSTALL) from None
    suite, seen = DetectorSuite(RLWatchConfig()), set()
    for row in log.rows:
        for alert in suite.check_step(row.step, **_rename(row.metrics, RLWATCH_NAMES)):
            severity = "severe" if alert.severity == "critical" else "warning"
            if (severity, alert.detector) not in seen:
                seen.add((severity, alert.detector))
                yield severity, alert.detector, row.step


def _rename(metrics: Mapping[str, float], names: Mapping[str, str]) -> dict[str, float]:
    return {theirs: metrics[ours] for theirs, ours in names.items() if ours in metrics}


def tell(said: Sequence[Said]) -> str:
    parts = []
    for severity in ("severe", "warning"):
        kinds = [f"{kind} ({step})" for level, kind, step in said if level == severity]
        parts += [f"**{severity}** " + ", ".join(kinds)] if kinds else []
    return "; ".join(parts) or "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    rows = []
    for path in sorted(parser.parse_args().folder.iterdir()):
        if path.suffix in (".json", ".jsonl", ".csv"):
            try:
                log = read_log(path)
            except InputError as error:
                print(f"left out: {error}\n")
                continue
            said = [list(ask(what)) for ask, what in ((ask_ours, path), (ask_rldoctor, log), (ask_rlwatch, log))]  # type: ignore[operator]
            rows.append([path.stem, *map(tell, said)])
    print("\n".join(table(["log", "grpo diagnose", "rldoctor 0.2.0", "rlwatch 0.5.0"], rows)))


if __name__ == "__main__":
    main()
