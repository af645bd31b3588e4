"""Pick where the next decision comes from: the log of a resumed run, then a person's commands, then the policy."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from threading import Event

from harness.core.branch import Move, next_move
from harness.core.liveness import was_restarted
from harness.errors import Diverged, Refused, RunFailed
from harness.run.session import Session
from harness.types import (
    NO_ANSWER,
    ONLY_NOW,
    Action,
    Decision,
    DecisionPolicy,
    EffectJudge,
    R,
    Snapshot,
    Status,
    Verdict,
)

log = logging.getLogger("grpo")
POLL_S = 0.2
"""How often a paused run looks for commands."""


@dataclass
class Controller:
    """Drives a session to its end. ``interrupted`` is set from outside (Ctrl-C) and honoured at a boundary. A run of
    kind sft, or of a group, is ``unfinished`` when no end of its own is on record: where the log says that its policy
    stopped it, it ends."""

    session: Session
    _: KW_ONLY
    build_policy: Callable[[str], DecisionPolicy]
    judge: EffectJudge
    interrupted: Event
    unfinished: bool = False
    policy: DecisionPolicy = field(init=False)

    def __post_init__(self) -> None:
        self.policy = self.build_policy(self.session.state.policy)

    def run(self) -> tuple[Status, str]:
        """Step until budget, policy, person or fault ends it. Returns how and why; the record says the same."""
        session = self.session
        try:
            while session.stopped is None:
                if spent := self._spent():
                    self._close_branch()
                    return self._end("finished", spent)
                if self.interrupted.is_set():
                    return self.leave("interrupted")
                self._boundary()
        except RunFailed as failure:
            return self._end("failed", str(failure), score=False)  # a broken reward measures nothing
        return self._end("finished" if session.early else "stopped", session.stopped)

    def advance(self, steps: int) -> int:
        """Take so many steps with a decision before each, fewer where the run ends or is paused. Return the last one.

        Raises RunFailed when the reward is broken.
        """
        state = self.session.state
        goal = state.last_step + steps
        while not self.is_over() and state.last_step < goal:
            self._boundary()
            if state.paused:
                break
        return state.last_step

    def is_over(self) -> bool:
        """Tell whether nothing but the last scores is left: stopped, or the budget spent."""
        return self.session.stopped is not None or self._spent() is not None

    def leave(self, reason: str) -> tuple[Status, str]:
        """End the run between two steps, without its last scores, so that it can be resumed."""
        return self._end("stopped", reason, score=False)

    def _boundary(self) -> None:
        session = self.session
        if session.state.policy != self.policy.kind:
            self.policy = self.build_policy(session.state.policy)
        if not session.state.paused and self._repeat_logged():
            return
        commands = session.store.load_waiting(session.run_id)
        if commands:
            move = self._find_move(session.ask())
            due = [move.decision] if move and move.decision.action.kind == "branch" else []
            asked = [Decision(c.action, "manual", c.note or "asked by a person", command_id=c.id) for c in commands]
            session.tell(*due, *asked, verdicts=move.verdicts if move else ())
        elif session.state.paused:
            session.progress("paused", 0, 0)
            time.sleep(POLL_S)
        else:
            self._decide(session.ask())

    def _repeat_logged(self, *, take_step: bool = True) -> bool:
        """Apply what was decided for the next step before the process ended. Tell whether there was anything."""
        session, step = self.session, self.session.state.last_step + 1
        logged = session.store.load_decisions_at(session.run_id, step)
        if not logged:
            return False
        session.ask()  # its looks are part of the record
        # Whoever resumed the process wants it to run, even where the log ends in a pause or a stop. Nobody did where it
        # died after a stop and was started again: then the step was never taken.
        taken = session.store.was_taken(session.run_id, step)

        def stops(d: Decision) -> bool:
            ends = was_restarted() or (self.unfinished and d.source != "manual")
            return d.action.kind == "stop" and not taken and ends

        again = [d for d in logged if d.refused is None and (d.action.kind not in ONLY_NOW or stops(d))]
        session.tell(*again, logged=True, take_step=take_step)
        return True

    def _decide(self, snapshot: Snapshot) -> None:
        """Ask first what earlier changes did: one that hurt is undone, and else the policy decides knowing it. An open
        branch goes on by itself."""
        move = self._find_move(snapshot)
        if move is not None:
            repeated = self.policy.decide(snapshot) if self.policy.repeats else move.decision
            self.session.tell(*_several(repeated), verdicts=move.verdicts)
            return
        verdicts = self._advice("effect judge", lambda: self.judge.judge(snapshot)) or ()
        # What a replay repeats has its reverts among it.
        reverts = [] if self.policy.repeats else [v.revert for v in verdicts if v.revert is not None]
        seen = show_verdicts(snapshot, verdicts)
        decided = reverts[-1] if reverts else self._advice("decision policy", lambda: self.policy.decide(seen))
        if decided is None:
            failed = "the decision policy failed; its traceback is in the log"
            decided = Decision(Action("continue"), "fixed", failed)
            if self.policy.kind == "llm":  # a failed turn like any other: seen, and not taken again at each step
                decided = replace(decided, tokens_in=0, tokens_out=0, llm_failure=f"{NO_ANSWER}{failed}")
        self.session.tell(*_several(decided), verdicts=verdicts)

    def _find_move(self, snapshot: Snapshot) -> Move | None:
        """Find what an open branch does next, None without one."""
        session, state = self.session, self.session.state
        if state.branch is None:
            return None
        return next_move(
            state.branch,
            last_step=state.last_step,
            weights_step=state.weights_step,
            load_answers=lambda step: session.store.load_answers(session.run_id, step, "dev"),
            load_signal=lambda steps: session.store.load_signal(session.run_id, steps),
            decisions=snapshot.decisions,
        )

    def _advice(self, who: str, ask: Callable[[], R]) -> R | None:
        """Return what ``who`` says, None when it fails: that costs a decision, not the run."""
        try:
            return ask()
        except Exception:
            log.exception("step=%d the %s failed", self.session.state.last_step, who)
            return None

    def _spent(self) -> str | None:
        budget = self.session.settings.spec.budget
        if self.session.state.last_step >= budget.steps:
            return f"budget of {budget.steps} steps spent"
        if budget.hours is not None and self.session.wall_s() >= budget.hours * 3600:
            return f"budget of {budget.hours:g} hours spent"
        return None

    def _close_branch(self) -> None:
        """Close one that has had all its steps even where the budget has no step left after it."""
        snapshot = self.session.ask()  # restores weights that cannot even be sampled, before they are saved
        if self.session.state.branch is None or self._repeat_logged(take_step=False):  # killed after it was closed
            return
        move = self._find_move(snapshot)
        if move is not None and move.closes:
            self.session.tell(move.decision, verdicts=move.verdicts, take_step=False)

    def _end(self, status: Status, reason: str, *, score: bool = True) -> tuple[Status, str]:
        session = self.session
        if status != "failed":
            session.save()
        if score:
            try:
                self._score()
            except Diverged as error:
                log.error("step=%d no scores at the end: %s", session.state.last_step, error)
        session.finish(status, reason)
        return status, reason

    def _score(self) -> None:
        """Take test score and samples of the last weights, then the test score of the best. The last act: nothing may
        step from the weights in memory afterwards. Raises Diverged."""
        session, store, run_id = self.session, self.session.store, self.session.run_id
        session.look()
        if session.settings.spec.kind == "sft" and not store.has_evaluation(run_id, session.state.weights_step, "dev"):
            session.evaluate("dev")  # what was learned last may be the best
        last, best = session.state.weights_step, store.best_step(run_id)
        if not store.has_evaluation(run_id, last, "test"):
            session.evaluate("test")
        if not store.has_samples(run_id, last):
            session.sample()
        if best is None or store.has_evaluation(run_id, best, "test"):
            return
        try:
            session.trainer.load(Path(session.checkpoints.find(best).path))
        except Refused as refusal:
            session.note("warning", f"the best checkpoint has no test score: {refusal}")
            return
        session.state.weights_step = best
        session.evaluate("test")
        session.state.weights_step = last


def _several(decided: Decision | Sequence[Decision]) -> Sequence[Decision]:
    return [decided] if isinstance(decided, Decision) else decided


def show_verdicts(snapshot: Snapshot, verdicts: Sequence[Verdict]) -> Snapshot:
    """Return the snapshot as it will be once the verdicts are on record."""
    by_id = {verdict.decision_id: verdict for verdict in verdicts}
    decisions = tuple(
        replace(d, verdict=by_id[d.id].verdict, measured=by_id[d.id].measured) if d.id in by_id else d
        for d in snapshot.decisions
    )
    return replace(snapshot, decisions=decisions)
