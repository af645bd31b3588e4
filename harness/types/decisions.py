"""Knobs, actions, decisions, and what a decision rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Source = Literal["rules", "llm", "manual", "experiment", "agent", "fixed"]


ActionKind = Literal[
    "continue",
    "set",
    "focus",
    "sample",
    "evaluate",
    "save",
    "rollback",
    "branch",
    "pause",
    "stop",
    # a person's alone:
    "resume",
    "step",
    "release",
    "policy",
]


ONLY_NOW: frozenset[ActionKind] = frozenset({"pause", "resume", "step", "stop"})
"""Actions about the process at work: a resume applies none of them again, and none that still waits."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """What may change between steps. ``focus`` is the target pass rate of a draw, None leaves it to pool.sampler."""

    temperature: float = 1.0
    max_tokens: int = 64
    learning_rate: float = 1e-4
    group_size: int = 8
    prompts_per_step: int = 16
    beta: float = 0.0
    focus: float | None = None


KnobValue = float | int | None


@dataclass(frozen=True, slots=True)
class Action:
    """One change or verb. ``changes`` for set and focus, and for rollback the knobs that differ from the checkpoint's;
    ``argument`` for save, rollback, release, policy, stop."""

    kind: ActionKind
    changes: Mapping[str, KnobValue] = field(default_factory=dict)
    argument: str | int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """An action with its reasons. ``command_id`` names the person's command it consumes; ``refused`` says that the
    record it is replayed from did not carry it out, and why.

    ``tokens_in`` and ``tokens_out`` are what asking an LLM took, whoever decided in the end: None when none was asked,
    0 when it did not answer. ``cost_usd`` is None without prices. ``rejected`` are the alternatives it weighed.
    ``llm_failure`` says why its turn gave no decision ("no answer: ..." or "not usable: ..."), "" where it gave one.
    """

    action: Action
    source: Source
    evidence: str = ""
    hypothesis: str = ""
    expected: str = ""
    command_id: int | None = None
    refused: str | None = None
    rejected: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    llm_failure: str = ""


NO_ANSWER, NOT_USABLE = "no answer: ", "not usable: "
"""How an ``llm_failure`` begins."""


@dataclass(frozen=True, slots=True)
class CheckedDecision:
    """A decision once it was applied to the settings in force: ``changes`` maps each changed knob to
    ``{"from": ..., "to": ...}``; ``refused`` says why it was not carried out, None if it was."""

    decision: Decision
    changes: Mapping[str, Mapping[str, KnobValue]] = field(default_factory=dict)
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault that a detector sees in steps ``first`` to ``last``. ``confidence`` in [0, 1]; what had too few steps to
    be judged is a Finding of its own with severity ``unknown``."""

    kind: str
    severity: Literal["unknown", "note", "warning", "severe"]
    evidence: str
    confidence: float
    first: int
    last: int


EffectVerdict = Literal["helped", "hurt", "unclear", "confounded"]
"""``confounded``: of changes that were made at once and cannot be told apart."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a change did: of the decision with this id, in words with numbers, and the decision that undoes it, if it
    is to be undone."""

    decision_id: int
    verdict: EffectVerdict
    measured: str
    revert: Decision | None = None
