"""Prompts, what the model makes of them, and what a reward says: plain frozen values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Metrics = Mapping[str, float]


Sampler = Literal["frontier", "uniform", "curriculum", "dynamic"]


PROMPT_COLUMNS = ("prompt", "ground_truth", "label", "demonstration")
"""What a row of a source says of a prompt; its other columns go to the reward as they are."""


Progress = Callable[[str, int, int], None]
"""``progress(phase, done, total)``, called from inside long work; cheap and never raises."""


def no_progress(phase: str, done: int, total: int) -> None:
    """The Progress of a caller who does not look."""


Message = Mapping[str, Any]
"""One turn, as OpenAI has it: ``role``, ``content`` (text, perhaps empty), and for tools ``tool_calls`` (arguments as
an object), ``tool_call_id`` and ``name``."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One row of the pool. ``id`` is a hash of the content, so it survives a reordered source.

    Most prompts are a user's ``text`` after a ``system`` message. One of other turns has them in ``messages``, all but
    the system message, and ``text`` is how they read. The last of them may be the assistant's, a *prefill*, which the
    completion continues. ``demonstration`` is an answer to learn from, ``calls`` the tool calls in it.
    """

    id: str
    text: str
    ground_truth: str
    label: str = ""
    system: str = ""
    demonstration: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    calls: tuple[Message, ...] = ()

    @property
    def turns(self) -> list[Message]:
        """All messages, the system message first."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *(self.messages or [{"role": "user", "content": self.text}])]

    @property
    def prefill(self) -> str:
        """The beginning of the assistant's turn, "" where the completion is all of it."""
        if self.messages and self.messages[-1]["role"] == "assistant":
            return str(self.messages[-1]["content"])
        return ""


@dataclass(frozen=True, slots=True)
class Score:
    """What a reward says of one completion. ``reward`` is None when the verifier failed (errored).

    ``logged`` are numbers by name that it wants among the metrics of the step, ``seconds`` what each function took.
    """

    reward: float | None
    correct: bool
    reason: str
    components: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    logged: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def errored(self) -> bool:
        return self.reward is None


@dataclass(frozen=True, slots=True)
class Completion:
    """One text of the model. ``tokens`` counts its own tokens, the end token included."""

    text: str
    tokens: int
    truncated: bool
    score: Score


@dataclass(frozen=True, slots=True)
class Group:
    """The ``group_size`` completions of one prompt."""

    prompt: Prompt
    completions: tuple[Completion, ...]

    @property
    def mixed(self) -> bool:
        """Whether the rewards of what could be judged differ: without that there is no advantage."""
        return len({c.score.reward for c in self.completions if c.score.reward is not None}) > 1


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What one trainer call did. ``updated`` is False when the update was discarded.

    ``notes`` are for the run's events. ``fault`` says what was not finite; ``lost`` that it is the weights, so the
    model in memory is of no use.
    """

    groups: tuple[Group, ...]
    metrics: Metrics
    updated: bool
    notes: tuple[str, ...] = ()
    fault: str = ""
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """One evaluated prompt."""

    prompt: Prompt
    completion: Completion


@dataclass(frozen=True, slots=True)
class PassAt:
    """Pass@k: how likely at least one of ``k`` completions of a prompt is correct, the mean over prompts, with its 95%
    interval from ``low`` to ``high``."""

    k: int
    value: float
    low: float
    high: float

    def describe(self) -> str:
        """Describe it as ``pass@8 0.720 [0.654, 0.779]``."""
        return f"pass@{self.k} {self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one model is worth on the ``n`` prompts of one split: ``accuracy`` in [0, 1], and the mean ``reward``, each
    the mean over prompts, with its 95% interval.

    ``errors`` are those of the verifier; such completions count as not correct and have no reward. Where each prompt
    had several completions, ``accuracy`` is pass@1, and ``pass_at`` holds pass@1, @2, @4 and so on up to their number.
    ``loss`` is the mean cross-entropy per token of the split's demonstrations, in nats, where that was measured.
    """

    split: str
    n: int
    accuracy: float
    ci95: tuple[float, float]
    reward: float
    reward_ci95: tuple[float, float]
    examples: tuple[Example, ...] = ()
    errors: tuple[str, ...] = ()
    pass_at: tuple[PassAt, ...] = ()
    loss: float | None = None

    def describe(self, *, graded: bool) -> str:
        """Describe it in one line, what it is judged by first."""
        score, (low, high) = self.judge(graded=graded)
        name, other, value = "accuracy", "reward", self.reward
        if graded:
            name, other, value = "reward", "accuracy", self.accuracy
        more = f", {self.pass_at[-1].describe()}" if self.pass_at else ""
        more += "" if self.loss is None else f", loss {self.loss:.4f}"
        return (
            f"{self.split} {name} {score:.3f} [{low:.3f}, {high:.3f}], {other} {value:.3f}{more}, on {self.n} prompts"
        )

    def judge(self, *, graded: bool) -> tuple[float, tuple[float, float]]:
        """Return what it is judged by, with its interval: the mean reward where the run is ``graded``, else the
        accuracy."""
        return (self.reward, self.reward_ci95) if graded else (self.accuracy, self.ci95)


class Answer(NamedTuple):
    """What an evaluation found for one prompt: the mean ``reward`` of its judged completions (None where there is none,
    and in what was recorded before rewards were kept), and how many of these ``n`` are ``correct``."""

    reward: float | None
    correct: int
    n: int


More = Callable[[Sequence[Group]], Sequence[Prompt]]
"""Prompts that a step rolls out besides, when it has these groups; none when it has enough."""


def no_more(groups: Sequence[Group]) -> Sequence[Prompt]:
    """The More of a step that rolls out what it was given."""
    return ()
