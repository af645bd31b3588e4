"""Several tasks in one completion, each scored by its own reward.

The ground truth is a JSON string:

    {"parts": {"sum": {"reward": "rewards.math", "ground_truth": "42", "section": "answer"},
               "record": {"reward": "rewards.structured", "ground_truth": {"equals": {"sum": 42}}, "section": "json",
                          "weight": 2, "gate": "sum"}}}

    reward         a reward of this package: rewards.NAME or rewards.NAME:function
    ground_truth   what that reward takes; JSON that is no string is handed over as its text
    section        optional: the reward sees only what stands between ``<section>`` and ``</section>``, after the
                   thinking. These tags must each be there once, and the sections of a completion must not overlap.
                   Without one: all of it
    weight         optional, over 0 (default 1)
    gate           optional: another part; while that one is not right this one earns nothing

The reward is the weighted mean of the parts, 1.0 when each has its highest score. Right is a completion all of whose
parts are, except those that judge no answer (rewards.format, rewards.length). Components are the parts by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from inspect import isfunction, signature
from math import fsum
from types import ModuleType
from typing import Any, cast

from harness.types import Score
from rewards import code, countdown, function_call, length, math, solution, structured
from rewards import format as form
from rewards.format import ANSWER_TAGS, THINKING_TAGS, after_thinking, hide_quoted, is_cut_in_thinking
from rewards.json_values import WrongTruth, parse_truth, pattern_budget
from rewards.outside import only_right

REWARDS: Mapping[str, ModuleType] = {
    f"rewards.{module.__name__.rpartition('.')[2]}": module
    for module in (code, countdown, form, function_call, length, math, solution, structured)
}
"""What a ground truth may name: data must not choose what is imported."""
TIME_LIMIT_S = code.TIME_LIMIT_S
NO_ANSWER = frozenset(["rewards.format", "rewards.length"])
MOST = {"rewards.length": length.MOST}
"""The highest score of those that do not go up to 1."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
KEYS = {"reward", "ground_truth", "section", "weight", "gate"}


@dataclass(frozen=True, slots=True)
class Part:
    reward: str
    function: Callable[[str, str], Score]
    ground_truth: str
    section: str
    weight: float
    gate: str


@pattern_budget()
def score(completion: str, ground_truth: str) -> Score:
    """Score every part; the reason code is ``part:code`` of the first that is not right, else right.

    A part whose section is not there as it should be has the code no_section. Where thinking is not closed nothing is
    earned, and the code is cut_in_thinking.
    """
    try:
        parts = read_truth(ground_truth)
    except WrongTruth as error:
        return Score(None, False, "errored", error=f"the ground truth: {error}")
    if is_cut_in_thinking(completion):
        return Score(0.0, False, "cut_in_thinking", dict.fromkeys(parts, 0.0))
    texts = _sections(after_thinking(completion), [part.section for part in parts.values() if part.section])
    scores: dict[str, Score] = {}
    for name, part in parts.items():
        text = texts.get(part.section) if part.section else completion
        found = Score(0.0, False, "no_section") if text is None else _judge(part, text)
        if found.errored:
            return Score(None, False, "errored", error=f"{name}: {found.error}")
        scores[name] = found
    earned = {name: _earned(name, parts, scores) for name in parts}
    weights = fsum(part.weight * MOST.get(part.reward, 1.0) for part in parts.values())
    reward = fsum(parts[name].weight * earned[name] for name in parts) / weights
    judged = [name for name, part in parts.items() if part.reward not in NO_ANSWER] or list(parts)
    wrong = next((name for name in judged if not scores[name].correct), None)
    reason = "right" if wrong is None else f"{wrong}:{scores[wrong].reason}"
    return Score(min(1.0, reward), wrong is None, reason, earned)


compute_reward = only_right(score)


def _judge(part: Part, text: str) -> Score:
    """The score of a part; in an answer section the bare answer will do, as it does between answer tags."""
    found = part.function(text, part.ground_truth)
    opening = f"<{part.section}>"
    if found.reason == "not_extracted" and opening in ANSWER_TAGS:
        return part.function(f"{opening}{text}{ANSWER_TAGS[opening]}", part.ground_truth)
    return found


def _earned(name: str, parts: Mapping[str, Part], scores: Mapping[str, Score]) -> float:
    """What a part is paid: its reward, if every gate before it is open."""
    gate = parts[name].gate
    while gate:
        if not scores[gate].correct:
            return 0.0
        gate = parts[gate].gate
    return scores[name].reward or 0.0


def _sections(completion: str, names: list[str]) -> dict[str, str]:
    """The text of each section that is there once and overlaps with no other."""
    spans: dict[str, tuple[int, int]] = {}
    text = hide_quoted(completion)
    for name in dict.fromkeys(names):
        opening, closing = f"<{name}>", f"</{name}>"
        start, end = text.find(opening), text.find(closing)
        once = text.count(opening) == text.count(closing) == 1
        if once and start < end:
            spans[name] = (start, end + len(closing))
    return {
        name: completion[start + len(name) + 2 : end - len(name) - 3]
        for name, (start, end) in spans.items()
        if all(other == name or end <= first or last <= start for other, (first, last) in spans.items())
    }


# ---------------------------------------------------------------- the ground truth


def check_ground_truth(ground_truth: str) -> str | None:
    """Why a row cannot be trained on, None when it can: the first part that the part's own reward refuses."""
    try:
        parts = read_truth(ground_truth)
    except WrongTruth as error:
        return f"ground_truth: {error}"
    for name, part in parts.items():
        check = getattr(REWARDS[part.reward.partition(":")[0]], "check_ground_truth", None)
        if check and (problem := check(part.ground_truth)):
            return f"part {name!r}: {problem}"
    return None


@lru_cache(4096)
def read_truth(ground_truth: str) -> dict[str, Part]:
    """The parts by name. Raises WrongTruth."""
    value = parse_truth(ground_truth)
    parts = value.get("parts") if isinstance(value, dict) and value.keys() == {"parts"} else None
    if not isinstance(parts, dict) or not parts:
        raise WrongTruth('must be an object with "parts", an object of at least one part')
    found = {name: _part(name, part, parts) for name, part in parts.items()}
    for name in found:
        _check_gates(name, found)
    return found


def _part(name: str, value: Any, parts: Mapping[str, Any]) -> Part:
    if not isinstance(value, dict) or not {"reward", "ground_truth"} <= value.keys() <= KEYS:
        raise WrongTruth(f'part {name!r} must have "reward" and "ground_truth", and perhaps section, weight and gate')
    weight, section, gate = value.get("weight", 1), value.get("section", ""), value.get("gate", "")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight > 0:
        raise WrongTruth(f"part {name!r}: weight must be a number over 0")
    if section != "" and not (isinstance(section, str) and NAME.fullmatch(section)):
        raise WrongTruth(f"part {name!r}: section must be the name of a tag")
    if f"<{section}>" in THINKING_TAGS:
        raise WrongTruth(f"part {name!r}: <{section}> is thinking, which no part judges; name another section")
    if gate != "" and (not isinstance(gate, str) or gate not in parts):
        raise WrongTruth(f"part {name!r}: gate must name another part")
    truth = value["ground_truth"]
    text = truth if isinstance(truth, str) else json.dumps(truth)
    return Part(value["reward"], _function(name, value["reward"]), text, section, float(weight), gate)


def _function(name: str, reward: Any) -> Callable[[str, str], Score]:
    module, _, attribute = reward.partition(":") if isinstance(reward, str) else ("", "", "")
    function: Any = getattr(REWARDS.get(module), attribute or "score", None)
    if not isfunction(function) or [*signature(function).parameters] != ["completion", "ground_truth"]:
        raise WrongTruth(f"part {name!r}: reward must be one of this package, such as rewards.math, not {reward!r}")
    return cast(Callable[[str, str], Score], function)


def _check_gates(name: str, parts: Mapping[str, Part]) -> None:
    passed = {name}
    while gate := parts[name].gate:
        if gate in passed:
            raise WrongTruth(f"part {gate!r} waits for itself")
        passed.add(gate)
        name = gate
