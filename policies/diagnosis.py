"""Diagnose a whole run: what was found look after look, what each finding asks of the person whose run it is, and what
the rules would have done. docs/diagnose.md shows each finding with a run that has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.types import Decision, Finding, Snapshot
from policies.detectors import DETECTORS, detect
from policies.detectors.signs import SEVERITIES
from policies.rules import propose

TOLD = SEVERITIES[:-1]
"""Severities of what was found, the worst first."""


@dataclass(frozen=True, slots=True)
class Diagnosed:
    """A finding over a run: its worst ``severity``, the step where it was ``first`` seen and the ``last`` one, at how
    many ``looks``, and the evidence, confidence and advice."""

    kind: str
    severity: str
    first: int
    last: int
    looks: int
    evidence: str
    confidence: float
    advice: str


@dataclass(frozen=True, slots=True)
class Examined:
    """What detectors and rules say of a run: ``findings`` sorted by severity, within one those that stand at the end
    first; of each kind that could not be judged what is missing; what the rules would do (None: nothing) after the
    look with the first warning, None without one, and after the last."""

    findings: tuple[Diagnosed, ...]
    unknown: Mapping[str, str]
    at_first: tuple[Snapshot, Decision | None] | None
    at_end: tuple[Snapshot, Decision | None]


def examine(snapshots: Sequence[Snapshot], unsaid: Mapping[str, str]) -> Examined:
    """Look at a run after each of its steps. ``unsaid`` names the kinds that cannot be judged, whatever is logged, and
    why."""
    seen: dict[str, list[tuple[int, Finding]]] = {}
    at_first: tuple[Snapshot, Decision | None] | None = None
    judged: set[str] = set()
    findings: tuple[Finding, ...] = ()
    for snapshot in snapshots:
        findings = tuple(finding for finding in detect(snapshot) if finding.kind not in unsaid)
        judged |= DETECTORS.keys() - unsaid.keys() - {f.kind for f in findings if f.severity == "unknown"}
        for finding in findings:
            if finding.severity in TOLD:
                seen.setdefault(finding.kind, []).append((snapshot.steps_done, finding))
        if at_first is None and any(f.severity in ("severe", "warning") for f in findings):
            at_first = snapshot, _propose(snapshot, findings)
    missing = {f.kind: f.evidence for f in findings if f.severity == "unknown" and f.kind not in judged}
    end = snapshots[-1]
    found = _sort(map(_sum_up, seen.values()), end.steps_done)
    return Examined(found, missing | dict(unsaid), at_first, (end, _propose(end, findings)))


def _propose(snapshot: Snapshot, findings: Sequence[Finding]) -> Decision | None:
    return next(iter(propose(snapshot, findings)), None)


def _sort(found: Iterable[Diagnosed], end: int) -> tuple[Diagnosed, ...]:
    return tuple(sorted(found, key=lambda one: (TOLD.index(one.severity), one.last < end, one.first)))


def _sum_up(looks: Sequence[tuple[int, Finding]]) -> Diagnosed:
    worst = min((finding for _, finding in looks), key=lambda finding: TOLD.index(finding.severity))
    if worst.severity != "note":  # what was only worth a note before is no sign yet
        looks = [(step, finding) for step, finding in looks if finding.severity != "note"]
    return Diagnosed(
        kind=worst.kind,
        severity=worst.severity,
        first=looks[0][0],
        last=looks[-1][0],
        looks=len(looks),
        evidence=worst.evidence,
        confidence=worst.confidence,
        advice=ADVICE[worst.kind],
    )


ADVICE: Mapping[str, str] = {
    "errored": "stop and repair the reward: it fails on completions, and updates rest on what is left",
    "pays_everyone": "stop and read samples: the verifier tells right from wrong no longer",
    "gamed": "stop and read samples: partial credit is being exploited",
    "proxy_only": "stop and read samples: only partial credit teaches; give it less weight, or take easier tasks",
    "dev_drop": "go back to the best checkpoint and halve the learning rate",
    "not_finite": "halve the learning rate, and go back if weights are not finite",
    "truncation": "raise the limit of tokens: completions are cut before the answer",
    "never_ends": "give an end: a stop sequence, the EOS token or a supervised start; more tokens do not help",
    "cut_but_paid": "give an end, a stop sequence or the EOS token, not more tokens: answers are paid before the cut",
    "entropy_explosion": "go back to a checkpoint from before, with a learning rate four times lower",
    "chaos": "sample at temperature 1",
    "collapse": "raise the temperature, or go back: the texts of a group are all the same",
    "kl_spike": "halve the learning rate; go back if rewards stay low",
    "length_inflation": "check what pays for length; halve the learning rate, go back if rewards fell",
    "oscillation": "halve the learning rate, or take more prompts a step",
    "gradient_spike": "watch it; halve the learning rate or clip gradients if it comes again",
    "reward_drop": "go back to a checkpoint from before, with a rate four times lower; evaluate while training",
    "instability": "watch it, and halve the learning rate: part of what was reached is lost again",
    "temperature": "compare with temperature 1 on the same prompts",
    "poor_prompts": "take prompts that are sometimes solved: others have more signal",
    "unsolved": "take easier prompts, or grade partly right answers",
    "flat": "raise the temperature once, then change the reward: only the format is paid",
    "solved": "take harder prompts, or stop: there is little left to learn from these",
    "no_middle": "take prompts between those always right and those always wrong, or larger groups",
    "small_groups": "double the group size",
    "large_groups": "halve the group size: most tokens are sampled in vain",
    "anchored": "lower beta: it holds the model where it was",
    "learning_rate": "begin anew with the learning rate that KL asks for",
    "no_op_learning_rate": "raise the learning rate: the model stays where it was",
    "plateau": "halve the learning rate, or stop: dev rises no longer",
    "no_signal": "stop: no group teaches; look at the suspects",
    "slow_sampling": "look at the machine",
}
