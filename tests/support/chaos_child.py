"""The real program with a scripted decision policy, which may kill itself with SIGKILL at a chosen moment.

    python -m tests.support.chaos_child

imports what a run needs, once, and forks a process for each line of its input (``chaos.Launcher`` writes them): a
folder, words of ``grpo``, MOMENT and COUNT. MOMENT is one of MOMENTS below or ``never``; that process dies when it is
reached for the COUNT-th time. Nothing is caught, flushed or closed: this is what the kernel's out-of-memory kill or a
power cut looks like from inside.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from threading import Timer
from typing import Any

import harness.commands.stages.group
import harness.commands.targets
import harness.core.files
import harness.models.evaluate
import harness.models.generate
import harness.run.checkpoints
import harness.run.runner
import harness.training.sft
from harness.cli.app import main as grpo
from harness.training.grpo import StepTrainer
from harness.training.stepwise import Stepwise
from harness.training.supervised import SupervisedTrainer
from harness.types import Action, Decision, Snapshot
from rewards.worker import RewardWorker

SCRIPT: dict[int, Action] = {
    2: Action("set", {"temperature": 0.9}),
    3: Action("set", {"learning_rate": 5e-4}),
    4: Action("set", {"beta": 0.05}),
    5: Action("set", {"group_size": 6}),
    6: Action("focus", {"focus": 0.5}),
    8: Action("rollback", argument=3),
    9: Action("set", {"max_tokens": 26, "temperature": 1.1}),
    10: Action("set", {"beta": 0.0, "group_size": 4}),
    11: Action("evaluate"),
    12: Action("save", argument="lunch"),
    13: Action("rollback", argument="best"),
    14: Action("set", {"prompts_per_step": 6}),
}
"""What is decided before each step: knobs change nearly every time, two rollbacks, a named checkpoint."""

MOMENTS = (
    "warm start", "sampling", "rewarding", "updating", "optimizer", "checkpoint", "renamed", "commit 1", "commit 2",
    "committed", "any time",
)  # fmt: skip
MOMENTS_OF_A_GROUP = (*MOMENTS[1:], "stage", "scoring", "scored", "written")


class ScriptedPolicy:
    kind = "rules"
    repeats = False

    def decide(self, snapshot: Snapshot) -> Decision:
        action = SCRIPT.get(snapshot.steps_done + 1, Action("continue"))
        return Decision(action, "rules", f"the script says so before step {snapshot.steps_done + 1}")


class Killer:
    """Counts how often the moment came, and kills."""

    def __init__(self, count: int) -> None:
        self.left = count

    def here(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, owner: Any, name: str) -> None:
        self._wrap(owner, name, lambda call: (self.here(), call())[1])

    def during(self, owner: Any, name: str) -> None:
        """A few milliseconds into the call."""
        self._wrap(owner, name, lambda call: (Timer(random.random() / 200, self.here).start(), call())[1])

    def after(self, owner: Any, name: str) -> None:
        self._wrap(owner, name, lambda call: (call(), self.here())[0])

    def _wrap(self, owner: Any, name: str, how: Callable[[Callable[[], Any]], Any]) -> None:
        original = getattr(owner, name)
        setattr(owner, name, lambda *words, **more: how(lambda: original(*words, **more)))

    def statements(self, table: str, *, then_commit: bool) -> None:
        """Inside the transactions that insert into ``table``: at an insert, at the COMMIT, or right after it."""
        from sqlalchemy import Engine, event

        state = {"inside": False}

        def trace(sql: str) -> None:
            if f"INSERT INTO {table}" in sql:
                state["inside"] = True
                if not then_commit:
                    self.here()
            elif state["inside"]:
                if sql.startswith("COMMIT"):
                    state["inside"] = then_commit
                    if not then_commit:
                        self.here()
                elif then_commit:  # the first statement after the commit
                    state["inside"] = False
                    self.here()

        event.listen(Engine, "connect", lambda connection, _record: connection.set_trace_callback(trace))


def arm(moment: str, count: int) -> None:
    killer = Killer(count)
    match moment:
        case "warm start":
            killer.before(harness.training.sft._Report, "on_step_end")
        case "sampling":
            killer.before(harness.models.generate, "sample_tokens")
        case "rewarding":
            killer.during(RewardWorker, "score")
        case "updating":
            killer.before(StepTrainer, "compute_loss")
            killer.before(SupervisedTrainer, "compute_loss")
        case "optimizer":
            killer.after(Stepwise, "_weights_are_finite")
        case "checkpoint":
            killer.before(harness.run.checkpoints, "sync")
        case "renamed":
            killer.after(harness.run.checkpoints, "write_folder")
        case "commit 1":
            killer.statements("decisions", then_commit=False)
        case "commit 2":
            killer.statements("steps", then_commit=False)
        case "committed":
            killer.statements("steps", then_commit=True)
        case "stage":  # it is on record, and has not begun
            killer.before(harness.run.runner.Run, "drive")
        case "scoring":
            killer.before(harness.commands.targets, "measure")
        case "scored":
            killer.after(harness.models.evaluate, "write_csv")
        case "written":
            killer.before(harness.core.files, "sync")
        case "any time":
            Timer(count / 10, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()


APPEND = os.O_WRONLY | os.O_APPEND


def be(folder: str, output: str, moment: str, count: int, words: list[str], *, reports: bool) -> None:
    """Become the program in ``folder``, with what it says in the file ``output``."""
    os.chdir(folder)
    for descriptor, flags in ((0, os.O_RDONLY), (1, APPEND), (2, APPEND)):
        os.dup2(os.open(output if descriptor else os.devnull, flags), descriptor)
    harness.run.runner.POLICIES = {**harness.run.runner.POLICIES, "rules": ScriptedPolicy}
    # Its rehearsal is made of the same moments, and no run is there yet.
    harness.commands.stages.group.Group._forecast = lambda *_: None  # type: ignore[method-assign]
    if not reports:
        harness.run.runner.write_report_apart = lambda *_: ""
    if moment != "never":
        arm(moment, count)
    sys.argv = ["grpo", *words]
    grpo()


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            be(**json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
