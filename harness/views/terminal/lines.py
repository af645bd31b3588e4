"""Show a run in plain lines, for pipes, files and terminals that cannot draw."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from threading import Event

from harness.core.formatting import clean
from harness.core.liveness import is_alive_run, is_supervised
from harness.errors import StoreUnavailable
from harness.store.reader import RunReader
from harness.store.snapshot import SnapshotReader
from harness.types import Snapshot, StepRecord
from harness.views.console import Console
from harness.views.groups import load_group
from harness.views.summary import describe_turns, format_decision

REFRESH_S = 0.5


def follow(reader: SnapshotReader, console: Console, *, done: Event | None = None) -> None:
    """Print a run until ``done`` is set, or without one (from another terminal) until its record has ended.

    What cannot be read just now is told later.
    """
    lines = PlainLines()
    while True:
        last_look = done is not None and done.is_set()
        snapshot = None
        with suppress(StoreUnavailable):
            snapshot = reader.read(whole_run=True)
        for line in lines.update(snapshot) if snapshot else ():
            console.print(line, soft_wrap=True)
        if last_look or (done is None and snapshot is not None and snapshot.run.ended):
            return
        if done is None:
            time.sleep(REFRESH_S)
        else:
            done.wait(REFRESH_S)


def follow_group(store: RunReader, group: str, console: Console) -> None:
    """Print the newest run of a group, and then the next one as long as a process takes its stages."""
    shown = 0
    while True:
        record = store.match_run(group)
        if record.id != shown:
            console.print(f"stage {record.name}", soft_wrap=True)
            follow(SnapshotReader(store, record.id), console)
            shown = record.id
        elif all(stage.status for stage in load_group(store, group)) or not (
            is_alive_run(record) or is_supervised(record.supervisor, record.host)
        ):
            return
        time.sleep(REFRESH_S)


class PlainLines:
    """One line for each new step, decision, look and event, and a sign of life in long phases."""

    def __init__(self) -> None:
        self._step = 0
        self._told: set[tuple[float, int, str]] = set()
        self._looks: set[tuple[int, str]] = set()
        self._failed = 0
        self._alive = ("", 0)

    def update(self, s: Snapshot) -> list[str]:
        """Return lines for what is new in ``s`` since the last call, in the order of the run."""
        lines: list[tuple[float, str]] = []
        # Compared with the last look and not by their times: a clock may be set back.
        told = self._told
        self._told = {(e.at, e.step, e.text) for e in s.events} | {(d.at, d.step, d.action) for d in s.decisions}
        for event in s.events:
            if (event.at, event.step, event.text) not in told:
                lines.append((event.step + 0.2, f"{event.level}: {clean(event.text)}"))
        for d in s.decisions:
            if (d.at, d.step, d.action) not in told and d.action != "continue":
                refused = f" refused ({d.refused})" if d.refused else ""
                lines.append(
                    (d.step - 0.5, f"decision by {d.source}: {format_decision(d)}{refused} | {clean(d.evidence)}")
                )
        if s.asked.failed > self._failed:
            self._failed = s.asked.failed
            lines.append((s.asked.last - 0.5, f"warning: the llm: {describe_turns(s.asked)}"))
        for look in s.evaluations:
            if (look.step, look.split) not in self._looks:
                self._looks.add((look.step, look.split))
                low, high = look.ci95
                reward = "" if s.run.graded else f", reward {look.reward:.3f}"
                more = f", {look.pass_at[-1].describe()}" if look.pass_at else ""
                more += "" if look.loss is None else f", loss {look.loss:.4f}"
                score = f"{look.split} {s.run.measure} {look.score:.3f} [{low:.3f}, {high:.3f}]{reward}{more}"
                lines.append((look.step + 0.1, score))
        for step in s.steps:
            if step.step > self._step:
                self._step = step.step
                lines.append((step.step, format_step(step)))
        if not lines and s.run.phase and s.run.status == "running":
            # Long phases say that they live, every tenth of the way.
            alive = (s.run.phase, 10 * s.run.phase_done // max(1, s.run.phase_total))
            if alive != self._alive and (self._step == 0 or alive[0] != self._alive[0]):
                lines.append((self._step, f"{s.run.phase} {s.run.phase_done}/{s.run.phase_total}"))
            self._alive = alive
        return [f"step {math.ceil(at - 0.25):>4}  {line}" for at, line in sorted(lines, key=lambda item: item[0])]


def format_step(step: StepRecord) -> str:
    m = step.metrics
    if "reward/mean" not in m:
        return (
            f"loss {m['loss']:.4f} gradient {m['grad/norm']:.3f} tokens {m['completion/tokens']:,.0f} "
            f"epoch {m['epoch']:.2f} {m['time/step_s']:.2f} s"
        )
    return (
        f"reward {m['reward/mean']:.3f} adjusted {m['reward/adjusted']:+.3f} no signal {m['group/no_signal_rate']:.0%} "
        f"truncated {m['completion/truncated_rate']:.0%} KL {m['kl/mean']:.4f} {m['time/step_s']:.2f} s"
    )
