"""An LLM beside the rules: asked every few steps and on severe findings, and whatever it does, a decision comes out.

Between its turns the rules decide. In its turn it sees what they see, with their candidates, and takes an action or
abstains. An answer that is not usable is asked for once more with what was wrong; after that, and whenever there is no
answer, the rules decide and the decision says so. It cannot end the run unless the rules want that too, nor go back to
weights that did not measure better: a text in a sample that talks it into something cannot cost the night.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from harness.core.actions import check_action
from harness.errors import InputError, OverBudget, Refused
from harness.llm.ledger import Ledger
from harness.types import (
    Action,
    Answerer,
    Decision,
    Finding,
    Progress,
    Prompt,
    Question,
    Reply,
    SampleRecord,
    Snapshot,
    no_progress,
)
from policies.detectors import detect
from policies.question import MOST_BRANCH_STEPS, SYSTEM, build_question, build_tool, quote
from policies.rules import propose

log = logging.getLogger("grpo")
REST = 4
"""Steps between two times of asking, however severe the findings."""
MOST_SAVED = 5
"""Named checkpoints, which are never deleted, that it may add to."""


class Unusable(Exception):
    """An answer that is no decision; ``str()`` tells the LLM what is wrong with it."""


@dataclass
class LlmPolicy:
    """``harness.types.DecisionPolicy``. ``samples`` reads the newest ones; ``ledger`` is the one that ``answerer``
    spends from, beside whoever else in the run."""

    kind = "llm"
    repeats = False
    answerer: Answerer
    ledger: Ledger
    _: KW_ONLY
    every: int
    max_tokens: int
    samples: Callable[[], Sequence[SampleRecord]]
    progress: Progress = no_progress

    def decide(self, snapshot: Snapshot) -> Decision:
        findings = detect(snapshot)
        candidates = propose(snapshot, findings)
        by_rules = candidates[0] if candidates else _continue(snapshot)
        if not self._is_its_turn(snapshot, findings):
            return by_rules
        if self.ledger.exhausted:
            return _noted(by_rules, f"LLM budget exhausted: {self.ledger.spent:.4f} USD")
        return self._ask(snapshot, findings, candidates, by_rules)

    def _is_its_turn(self, snapshot: Snapshot, findings: Sequence[Finding]) -> bool:
        """Tell from the record alone, so that a resumed run asks where an undisturbed one would."""
        last = snapshot.asked.last
        rested = snapshot.steps_done + 1 - last
        new = any(finding.severity == "severe" and finding.first >= last for finding in findings)
        return rested >= self.every or (new and rested >= REST)

    def _ask(
        self, snapshot: Snapshot, findings: Sequence[Finding], candidates: Sequence[Decision], by_rules: Decision
    ) -> Decision:
        """Return its decision, or ``by_rules`` with why there is none; either with what asking took."""
        left = None if self.ledger.cap is None else self.ledger.cap - self.ledger.spent
        question = build_question(snapshot, findings, candidates, self.samples(), left)
        tool = build_tool(snapshot)
        tokens_in = tokens_out = 0
        cost: float | None = None if self.ledger.price_of(self.answerer.name) is None else 0.0
        told = ""
        for attempt in (1, 2):
            self.progress("asking the llm", attempt - 1, 2)
            prompt = Prompt(f"decision-{snapshot.steps_done + 1}", question + told, "", system=SYSTEM)
            asked = Question(prompt, self.max_tokens, temperature=1.0, sample=attempt - 1, tool=tool)
            try:
                ((_, reply),) = self.answerer.answer([asked])
            except OverBudget as over:
                if attempt == 1:
                    return _noted(by_rules, f"LLM budget exhausted: {over}")
                break
            tokens_in += reply.tokens_in
            tokens_out += reply.tokens_out
            cost = None if cost is None else cost + (reply.cost_usd or 0.0)
            if reply.error:
                log.warning("step=%d the llm gave no answer: %s", snapshot.steps_done + 1, reply.error)
                decision = _noted(by_rules, f"no decision by the llm: {reply.error}")
                break
            try:
                decision = _read(reply, tool, snapshot, candidates, by_rules)
                break
            except Unusable as wrong:
                why = quote(str(wrong))
                log.warning("step=%d the llm's answer is not usable: %s", snapshot.steps_done + 1, why)
                decision = _noted(by_rules, f"no decision by the llm, its answer was not usable: {why}")
                told = f"\n\nYour last answer was not usable: {why}. Call decide once, rightly."
        price = "" if cost is None else f", {cost:.4f} USD"
        log.info("step=%d asked the llm: %d + %d tokens%s", snapshot.steps_done + 1, tokens_in, tokens_out, price)
        return replace(decision, tokens_in=tokens_in, tokens_out=tokens_out, cost_usd=cost)


def _read(
    reply: Reply, tool: Mapping[str, Any], snapshot: Snapshot, candidates: Sequence[Decision], by_rules: Decision
) -> Decision:
    """Return the decision of an answer. Raises Unusable."""
    if len(reply.calls) != 1:
        raise Unusable(f"it has {len(reply.calls)} calls of the tool decide, not one")
    name, answer = reply.calls[0]
    if name != tool["name"]:
        raise Unusable(f"there is no tool {quote(str(name), 40)}")
    _check_form(answer, tool["input_schema"])
    evidence = quote(answer["evidence"], 1500)
    if answer["action"] == "abstain":
        return _noted(by_rules, f"the llm abstained: {evidence}")
    action = _check_answer(answer, snapshot, candidates)
    expected = answer.get("expected")
    if expected is None and action.kind in ("set", "focus", "rollback"):
        raise Unusable(f"{action.kind} needs expected: the metric that should move, and where to")
    return Decision(
        action,
        "llm",
        evidence=evidence,
        hypothesis=quote(answer["hypothesis"], 1500),
        expected=f"{expected['metric']} {expected['direction']}" if expected else "",
        rejected="; ".join(f"{quote(r['action'], 200)}: {quote(r['why'], 500)}" for r in answer["rejected"]),
    )


def _check_answer(answer: Mapping[str, Any], snapshot: Snapshot, candidates: Sequence[Decision]) -> Action:
    """Return the action of an answer. Raises Unusable."""
    kind = answer["action"]
    if kind == "continue":
        return Action("continue")
    if kind == "stop" and not any(candidate.action.kind == "stop" for candidate in candidates):
        raise Unusable("stop only where the rules propose it; choose another action or abstain")
    if kind == "save" and sum(bool(checkpoint.name) for checkpoint in snapshot.checkpoints) >= MOST_SAVED:
        raise Unusable(f"there are {MOST_SAVED} named checkpoints already")
    try:
        action = check_action(_words(kind, answer), snapshot)
    except (InputError, Refused) as error:
        raise Unusable(str(error)) from None
    if kind == "set" and all(getattr(snapshot.knobs, knob) == value for knob, value in action.changes.items()):
        raise Unusable("the hyperparameters have these values already; choose another action or continue")
    if kind == "rollback":
        _check_rollback(action, snapshot)
    if kind == "branch" and int(str(action.argument).split()[0]) > MOST_BRANCH_STEPS:
        raise Unusable(f"an arm of a branch takes at most {MOST_BRANCH_STEPS} steps")
    return action


def _continue(snapshot: Snapshot) -> Decision:
    if not snapshot.steps:
        return Decision(Action("continue"), "rules", "no step taken yet")
    last = snapshot.steps[-1]
    shown = ", ".join(f"{name} {last.metrics[name]:.2f}" for name in ("reward/mean", "group/no_signal_rate", "kl/mean"))
    return Decision(Action("continue"), "rules", f"nothing calls for a change: {shown} at step {last.step}")


def _noted(decision: Decision, note: str) -> Decision:
    return replace(decision, evidence=f"{decision.evidence} | {note}")


def _check_form(answer: object, schema: Mapping[str, Any]) -> None:
    """Raises Unusable for an answer that is not of the tool's form."""
    error = best_match(Draft202012Validator(schema).iter_errors(answer))
    if error is None:
        return
    where = ".".join(str(part) for part in error.absolute_path)
    what = error.message if len(error.message) < 200 else f"must be of {error.validator} {error.validator_value}"
    raise Unusable(f"{where}: {what}" if where else what)


def _words(kind: str, answer: Mapping[str, Any]) -> list[str]:
    """Write the answer as a person would type it after ``grpo act RUN``."""
    changes = [f"{knob}={_number(value)}" for knob, value in answer.get("changes", {}).items()]
    argument = _number(answer.get("argument", ""))
    if kind == "set":
        return [kind, *changes]
    if kind == "branch" and argument.strip():
        return [kind, argument, ",".join(changes)]
    return [kind, argument] if kind in ("focus", "rollback", "save") and "argument" in answer else [kind]


def _number(value: object) -> str:
    """Write a number as knobs have it: JSON has one kind, knobs have two, and 30.0 tokens are 30."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _check_rollback(action: Action, snapshot: Snapshot) -> None:
    """Raises Unusable unless dev was measured better at the checkpoint than at the newest look."""
    dev = {look.step: look.score for look in snapshot.dev}
    best = next((checkpoint.step for checkpoint in snapshot.checkpoints if checkpoint.best), None)
    target = best if action.argument == "best" else action.argument
    if target == snapshot.step:
        raise Unusable(f"the weights are those of step {target} already")
    if target not in dev:
        raise Unusable(f"dev was not measured at step {target}, so nothing says that it was better")
    newest = snapshot.dev[-1]
    if dev[target] <= newest.score:
        raise Unusable(f"dev was {dev[target]:.3f} at step {target} and {newest.score:.3f} at step {newest.step}")
