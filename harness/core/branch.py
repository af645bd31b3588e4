"""A branch: from one checkpoint a few steps under each of several settings, with the same seeds and the same prompts;
what is best on dev, prompt by prompt, is kept.

Its arms are steps of the run like any others, each arm a lineage of its own from the same weights, so a branch is
watched, paused, resumed and replayed as the run is. The session takes the steps; while a branch is open the
controller asks ``next_move`` here instead of the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.core.formatting import format_knob
from harness.core.knobs import apply_action, parse_assignments
from harness.core.statistics import compare_answers
from harness.core.step_metrics import GOOD_MIXED
from harness.errors import Refused
from harness.types import Action, Decision, DecisionRecord, EffectVerdict, Knobs, KnobValue, Verdict

AS_IT_IS = "as it is"
EFFECTS: Mapping[str, EffectVerdict] = {"better": "helped", "worse": "hurt", "unclear": "unclear"}
SIGNAL_P = 0.05
"""How unlikely by chance a difference between groups of the same prompts must be, one-sided."""
LONGEST = 1000
MOST_ARMS = 8


@dataclass(frozen=True)
class Branch:
    """An open branch. ``start`` is the step of the checkpoint all arms begin with, ``began`` the last step before the
    first arm, ``length`` the steps of each; ``arms`` are changes to ``knobs``, the first one none. ``ends`` has the
    step whose weights each finished arm left, None for one whose weights were lost. ``arm_began`` is the last step
    before the present arm; ``lost`` says that its weights are."""

    start: int
    began: int
    length: int
    knobs: Mapping[str, KnobValue]
    arms: tuple[Mapping[str, KnobValue], ...]
    ends: tuple[int | None, ...]
    arm_began: int
    lost: bool = False

    @classmethod
    def load(cls, saved: Mapping[str, Any] | None) -> Branch | None:
        """Load from what ``asdict`` gave, through JSON."""
        return cls(**{**saved, "arms": tuple(saved["arms"]), "ends": tuple(saved["ends"])}) if saved else None

    @property
    def arm(self) -> int:
        return len(self.ends)

    @property
    def last(self) -> int:
        """Return the step that the last arm ends with, if none is lost."""
        return self.began + self.length * len(self.arms)

    def is_over(self, last_step: int) -> bool:
        """Tell whether the present arm has had its steps, or can have no more."""
        return self.lost or last_step - self.arm_began >= self.length

    def finish(self, weights_step: int, last_step: int) -> Branch:
        """Return the branch with the present arm ended, at the beginning of the next one."""
        end = None if self.lost else weights_step
        return replace(self, ends=(*self.ends, end), arm_began=last_step, lost=False)

    def counts_as(self, step: int) -> int:
        """Return the step of the first arm whose seeds and prompts ``step`` of the present arm has."""
        return self.began + step - self.arm_began

    def draws_alike(self) -> bool:
        """Tell whether the present arm takes the prompts of the first: all do, unless the setting changes the
        choice."""
        return self.arm > 0 and not self.arms[self.arm].keys() & {"focus", "prompts_per_step"}

    def steps_of(self, arm: int) -> range | None:
        """Return the steps that a finished arm took; None when an arm lost its weights, which may have taken fewer."""
        if None in self.ends:
            return None
        first = self.began + arm * self.length + 1
        return range(first, first + self.length)

    def target(self, action: Action) -> tuple[int, int]:
        """Return the step that a move goes back to once the present arm is finished, and the arm whose knobs hold then.
        Raises Refused for what is none."""
        verb, _, rest = str(action.argument).partition(" ")
        which = rest.partition(":")[0]
        if verb == "keep" and which == "none":
            return self.start, 0
        arm = int(which) if which.isdecimal() else len(self.arms)
        step = self.start if verb == "arm" else self.ends[arm] if verb == "keep" and arm < len(self.ends) else None
        if step is None or arm >= len(self.arms):
            raise Refused(f"a branch is open from step {self.start}; rollback {self.start} gives it up")
        return step, arm

    def knobs_of(self, arm: int) -> dict[str, KnobValue]:
        return {**self.knobs, **self.arms[arm]}

    def name(self, arm: int) -> str:
        changes = self.arms[arm].items()
        return ", ".join(f"{knob} {format_knob(value)}" for knob, value in changes) or AS_IT_IS

    def targets(self) -> set[int]:
        """Return the steps to whose checkpoints the branch will go back."""
        return {self.start, *(end for end in self.ends if end is not None)}


# ---------------------------------------------------------------- opening one


def parse_branch(text: str) -> tuple[int, tuple[dict[str, KnobValue], ...]]:
    """Parse ``6 learning_rate=5e-5,beta=0.1 temperature=0.9``: the steps of an arm, and the settings beside the present
    one. Raises Refused."""
    steps, *settings = text.split() or [""]
    if not steps.isdecimal() or not 1 <= int(steps) <= LONGEST:
        raise Refused(f"branch takes the steps of an arm first, 1 to {LONGEST}, not {steps!r:.40}")
    arms = tuple(parse_assignments(setting.split(",")) for setting in settings)
    if not 1 <= len(arms) < MOST_ARMS:
        raise Refused(
            f"branch compares the present setting with 1 to {MOST_ARMS - 1} others, such as temperature=0.9, "
            f"not with {len(arms)}"
        )
    return int(steps), arms


def check_branch(
    action: Action, knobs: Knobs, bounds: Mapping[str, tuple[float, float]], pins: Collection[str], *, steps_left: int
) -> None:
    """Raise Refused for a setting out of bounds, pinned or given twice, and for more steps than the budget has."""
    length, others = parse_branch(str(action.argument))
    settings = [knobs, *(apply_action(knobs, Action("set", arm), bounds, pins)[0] for arm in others)]
    if any(setting in settings[:i] for i, setting in enumerate(settings)):
        raise Refused("branch compares different settings, and two of these are the same")
    if (needed := length * len(settings)) > steps_left:
        raise Refused(f"{len(settings)} arms of {length} steps are {needed}, and the budget has {steps_left} left")


def open_branch(action: Action, *, start: int, last_step: int, knobs: Knobs) -> Branch:
    """Open a branch from an action that ``check_branch`` let pass."""
    length, others = parse_branch(str(action.argument))
    return Branch(start, last_step, length, asdict(knobs), ({}, *others), (), last_step)


# ---------------------------------------------------------------- going on with it

Answers = Mapping[str, float]
"""Scores by prompt id."""
Signal = tuple[Mapping[str, float], Mapping[str, float]]
"""Of the groups of some steps, by step and prompt: 1 where it was mixed, else 0; and the mean reward."""


@dataclass(frozen=True)
class Move:
    """What happens next in a branch, and the verdicts that close it."""

    decision: Decision
    verdicts: tuple[Verdict, ...] = ()

    @property
    def closes(self) -> bool:
        return str(self.decision.action.argument).startswith("keep")


def next_move(
    branch: Branch,
    *,
    last_step: int,
    weights_step: int,
    load_answers: Callable[[int], Answers],
    load_signal: Callable[[range], Signal],
    decisions: Sequence[DecisionRecord],
) -> Move:
    """Choose a step of the present arm, the next arm, or the end: the best arm is kept. ``load_answers`` gives the
    answers at dev of a step that was looked at, ``load_signal`` what the groups of steps showed; ``decisions`` are the
    newest on record."""
    place = f"branch from step {branch.start}, arm {branch.arm + 1} of {len(branch.arms)} ({branch.name(branch.arm)})"
    if not branch.is_over(last_step):
        evidence = f"{place}: step {last_step - branch.arm_began + 1} of {branch.length}"
        return Move(Decision(Action("continue"), "experiment", evidence))
    following = branch.arm + 1
    if following < len(branch.arms):
        name = branch.name(following)
        action = Action("branch", argument=f"arm {following}: {name}")
        return Move(Decision(action, "experiment", f"{place} is over; the next arm: {name}"))
    return _close(branch.finish(weights_step, last_step), load_answers, load_signal, decisions)


def _close(
    branch: Branch,
    load_answers: Callable[[int], Answers],
    load_signal: Callable[[range], Signal],
    decisions: Sequence[DecisionRecord],
) -> Move:
    answers = [None if end is None else load_answers(end) for end in branch.ends]
    scores = {arm: _score(given) for arm, given in enumerate(answers) if given is not None}
    best = max(scores, key=scores.__getitem__, default=None)  # of equal ones the first: the setting as it was
    compared = [_compare(answers[0], given) for given in answers]
    steps = [branch.steps_of(arm) for arm in range(len(branch.arms))]
    if all(arm.keys() <= {"temperature"} for arm in branch.arms) and None not in steps:
        # What a temperature is worth shows in the groups before dev tells it from noise.
        first, *others = [load_signal(taken) for taken in steps if taken is not None]
        for arm, other in enumerate(others, 1):
            effect, told_by_dev = compared[arm]
            by_signal, told = _compare_signal(first, other, nearer=_nears_one(branch, arm))
            compared[arm] = by_signal if effect == "unclear" else effect, f"{told_by_dev}, {told}"
        best = next((arm for arm, (effect, _) in enumerate(compared) if effect == "helped"), 0)
    told = "; ".join(f"{branch.name(arm)}: {text}" for arm, (_, text) in enumerate(compared))
    evidence = f"dev after {branch.length} steps from step {branch.start}: {told}"
    kept = f"step {branch.start} kept" if best is None else f"{branch.name(best)} kept"
    verdicts = []
    for d in decisions:
        if d.action == "branch" and d.step > branch.began and d.refused is None:
            opened = str(d.argument).removeprefix("arm ").partition(":")[0]
            of_all = compared[best][0] if best else "unclear", kept
            verdicts.append(Verdict(d.id, *(compared[int(opened)] if opened.isdecimal() else of_all)))
    keep = Action("branch", argument="keep none" if best is None else f"keep {best}: {branch.name(best)}")
    return Move(Decision(keep, "experiment", evidence, f"{kept}: the best on dev"), tuple(verdicts))


def _compare(first: Answers | None, other: Answers | None) -> tuple[EffectVerdict, str]:
    """Compare an arm with the setting as it was, prompt by prompt."""
    if other is None:
        return "hurt", "its weights were lost"
    score = f"{_score(other):.3f} of {len(other)}"
    if first is None:
        return "helped", score
    if first is other or not first.keys() & other.keys():  # the setting itself, or nothing could be judged
        return "unclear", score
    found = compare_answers(first, other)
    apart = found.difference
    interval = f"{apart.value:+.3f} [{apart.low:+.3f}, {apart.high:+.3f}]"
    return EFFECTS[apart.verdict], f"{score}, {interval}, {found.gained} gained and {found.lost} lost"


def _compare_signal(first: Signal, other: Signal, *, nearer: bool) -> tuple[EffectVerdict, str]:
    """Compare what the same prompts gave under another temperature, ``nearer`` to 1 or not.

    At 1 the samples are the model's own and what is learned from them is what will be sampled: nearer is better if it
    earns more or has more mixed groups, as long as it has enough of them. Further away is better only where the other
    has too few and this has more. (Reward alone says little: colder samples always earn more.)
    """
    if not first[0].keys() & other[0].keys():
        return "unclear", "no group to compare"
    mixed, reward = (compare_answers(one, another) for one, another in zip(first, other, strict=True))
    more, fewer = mixed.p_rose < SIGNAL_P, mixed.p_fell < SIGNAL_P
    enough_before, enough = _score(first[0]) >= GOOD_MIXED, _score(other[0]) >= GOOD_MIXED
    if nearer:
        better, worse = more or (reward.p_rose < SIGNAL_P and (enough or not fewer)), fewer and not enough
    else:
        better, worse = more and not enough_before, fewer or enough_before
    told = f"mixed groups {mixed.difference.value:+.2f} and reward {reward.difference.value:+.3f} on {mixed.n} groups"
    return "helped" if better else "hurt" if worse else "unclear", told


def _nears_one(branch: Branch, arm: int) -> bool:
    """Tell whether an arm has a temperature nearer to 1 than the setting as it is."""
    now, then = (abs(float(branch.knobs_of(i)["temperature"] or 1) - 1) for i in (0, arm))
    return then < now


def _score(answers: Answers) -> float:
    return sum(answers.values()) / max(1, len(answers))
