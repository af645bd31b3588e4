"""Ask who answers, whatever it is, and judge the answers as the spec says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, cast

from harness.checks.inputs import Chosen, build_splits, find_weights
from harness.core.seeds import derive_seed
from harness.core.statistics import summarise
from harness.core.step_metrics import reason_of
from harness.errors import InputError, OverBudget, RunFailed
from harness.models.evaluate import compute_proportions, judge
from harness.run.answerers import Target, build_scorer
from harness.types import Completion, Example, Group, Progress, Prompt, Question, Reply, Score, Scorer, no_progress
from pools.messages import write_turn
from rewards.trl import TrainerState

MOST_TOKENS = 10**7
HOTTEST = 2.0
"""The highest temperature that a service takes."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How a model does on ``n`` prompts, ``per_prompt`` completions of each: shares in [0, 1], completions by reason
    code, and ``examples``; ``functions`` are those of a reward of several.

    ``accuracy`` is the share of right ones, where what was not answered counts as wrong; ``pass_at`` goes by k, where
    there are several of each prompt. ``errors`` counts what was not answered or not judged, by what was said of it.
    ``usd`` is what all answers cost, those on record too, None without a price. ``cached`` of the replies were on
    record, and ``left_out`` of the rows asked for are not among the prompts.
    """

    model: str
    split: str
    n: int
    accuracy: float
    ci95: tuple[float, float]
    reward: float
    reward_ci95: tuple[float, float]
    thinking_proportion: float
    answer_proportion: float
    reasons: Mapping[str, int]
    per_prompt: int
    pass_at: Mapping[int, Mapping[str, Any]]
    tokens_in: int
    tokens_out: int
    usd: float | None
    errors: Mapping[str, int]
    examples: tuple[Example, ...] = field(repr=False)
    thinking_tags: Mapping[str, str] = field(default_factory=dict, repr=False)
    functions: tuple[str, ...] = field(default=(), repr=False)
    cached: int = 0
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """Everything but the examples, which the CSV holds, and what differs when the same is asked again."""
        hidden = ("examples", "thinking_tags", "functions", "cached", "left_out")
        return {name: getattr(self, name) for name in self.__slots__ if name not in hidden}


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion to read; without a score where the prompt was a person's own. ``error`` says why there is none."""

    prompt: str
    completion: str
    truncated: bool
    correct: bool | None
    reward: float | None
    reason: str
    error: str = ""


def measure(
    target: Target, chosen: Chosen, *, n: int | None = None, temperature: float | None = None, progress: Progress
) -> Measured:
    """Put the prompts ``chosen`` and score the answers, ``n`` of each prompt (unset: as the spec says). Raises
    InputError, and RunFailed when nothing was answered."""
    spec = target.spec
    per_prompt = n or spec.evaluate.n
    prompts = [prompt for prompt in chosen.prompts for _ in range(per_prompt)]
    questions = [
        make_question(target, prompt, place % per_prompt, temperature=temperature)
        for place, prompt in enumerate(prompts)
    ]
    if (
        per_prompt > 1
        and not target.recorded
        and (cold := next((asked for asked in questions if asked.temperature == 0), None))
    ):
        of_row = f" of the row {cold.prompt.text[:40]!r}" if "temperature" in cold.prompt.columns else ""
        raise InputError(f"-n: {per_prompt} answers at temperature 0{of_row} are all the same; add --temperature 1")
    seed = derive_seed(spec.seed, "evaluate", chosen.split)
    replies = ask(target, questions, seed=seed, progress=progress, phase=f"evaluating {chosen.said}")
    with build_scorer(spec, chat=target.chat) as reward:
        reward.state = lambda: TrainerState(target.step or 0, spec.budget.steps)
        completions = score_replies(reward, prompts, replies)
    examples = [Example(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]
    evaluation = summarise(chosen.split, examples)
    answered = [example for example, reply in zip(examples, replies, strict=True) if not reply.error]
    tags = spec.reward.thinking_tags
    proportions = compute_proportions(answered, tags)
    costs = [reply.cost_usd for reply in replies if reply.cost_usd is not None]
    return Measured(
        model=target.title,
        split=chosen.said,
        n=evaluation.n,
        accuracy=evaluation.accuracy,
        ci95=evaluation.ci95,
        reward=evaluation.reward,
        reward_ci95=evaluation.reward_ci95,
        thinking_proportion=proportions["thinking_proportion"],
        answer_proportion=proportions["answer_proportion"],
        reasons=dict(Counter(_reason_of(completion) for completion in completions).most_common()),
        per_prompt=per_prompt,
        pass_at={at.k: {"value": at.value, "ci95": (at.low, at.high)} for at in evaluation.pass_at},
        tokens_in=sum(reply.tokens_in for reply in replies),
        tokens_out=sum(reply.tokens_out for reply in replies),
        usd=sum(costs) if costs else None,
        errors=dict(Counter(c.score.error for c in completions if c.score.errored).most_common()),
        examples=evaluation.examples,
        thinking_tags=tags,
        functions=tuple(functions) if len(functions := find_weights(spec)) > 1 else (),
        cached=sum(reply.cached for reply in replies),
        left_out=chosen.left_out,
    )


def make_question(
    target: Target,
    prompt: Prompt,
    sample: int = 0,
    *,
    temperature: float | None = None,
    max_tokens: int | None = None,
) -> Question:
    """Make the question of a prompt: with the row's own ``temperature`` and ``max_tokens`` where it has such columns,
    else with those given, else with those of [evaluate]. Raises InputError."""
    settings = target.spec.evaluate
    heat = settings.temperature if temperature is None else temperature
    return Question(
        prompt,
        max_tokens=int(_own(prompt, "max_tokens", max_tokens or settings.max_tokens, 1, MOST_TOKENS)),
        temperature=_own(prompt, "temperature", heat, 0, HOTTEST),
        sample=sample,
        stop=tuple(target.spec.trainer.stop),
    )


def _own(prompt: Prompt, column: str, usual: float, low: float, high: float) -> float:
    value = prompt.columns.get(column)
    if value is None or value == "":
        return usual
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not low <= number <= high or (column == "max_tokens" and number % 1):
        kind = "a whole number" if column == "max_tokens" else "a number"
        raise InputError(
            f"pool.source: the row {prompt.text[:40]!r} has the {column} {value!r}: it must be {kind} from {low:g} to "
            f"{high:g}; rename the column if it means something else"
        )
    return number


def ask(
    target: Target,
    questions: Sequence[Question],
    *,
    seed: int,
    top_p: float = 1.0,
    progress: Progress = no_progress,
    phase: str = "answering",
) -> list[Reply]:
    """Put the questions and wait for all replies, in their order.

    Raises RunFailed when none was answered, and OverBudget; what arrived until then is on record, if there is one.
    """
    mine = progress if target.in_memory else no_progress
    answerer = target.build(seed=seed, top_p=top_p, progress=mine, phase=phase)
    replies: dict[int, Reply] = {}
    usd = 0.0
    try:
        with ExitStack() as stack:
            if isinstance(answerer, AbstractContextManager):  # a record, which one process writes at a time
                stack.enter_context(answerer)
            arriving = stack.enter_context(closing(cast(Any, answerer.answer(questions))))
            for place, reply in arriving:
                replies[place] = reply
                usd += reply.cost_usd or 0.0
                if not target.in_memory:
                    progress(f"{phase}, ${usd:.4f}" if usd else phase, len(replies), len(questions))
    except OverBudget as error:
        more = f"they are in {target.record}, and with a higher budget.usd the same command continues"
        kept = more if target.record else "grpo eval --record FILE keeps them"
        raise OverBudget(f"{error}; {len(replies):,} of {len(questions):,} questions were answered: {kept}") from None
    if replies and all(reply.error for reply in replies.values()):
        if target.recorded:
            raise InputError(
                f"{target.who} has an answer to none of the {len(replies):,} questions; give the same --spec, --split "
                "and --rows as when it was recorded"
            )
        raise RunFailed(f"{target.title} answered none of {len(replies):,} questions: {replies[0].error}")
    return [replies[place] for place in range(len(questions))]


def score_replies(scorer: Scorer, prompts: Sequence[Prompt], replies: Sequence[Reply]) -> list[Completion]:
    """Score the reply to each prompt. One that has an error is errored: nothing was answered that could be wrong."""
    places = [place for place, reply in enumerate(replies) if not reply.error]
    texts = [reply.text for reply in replies]
    found = judge(scorer, [prompts[i] for i in places], [texts[i] for i in places], [replies[i].ids for i in places])
    scores = dict(zip(places, found, strict=True))
    return [
        Completion(
            texts[place],
            reply.tokens_out,
            reply.truncated,
            scores[place] if place in scores else Score(None, False, "errored", error=reply.error),
        )
        for place, reply in enumerate(replies)
    ]


def write_demonstration(reply: Reply) -> Any:
    """Write a reply as the demonstration of a row: its text, or where it calls tools the assistant's message."""
    if not reply.calls:
        return reply.text
    calls = [
        {"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in reply.calls
    ]
    said = reply.text.removesuffix(write_turn({"content": "", "tool_calls": calls})).rstrip("\n")
    return {"role": "assistant", "content": said, "tool_calls": calls}


def _reason_of(completion: Completion) -> str:
    return reason_of(completion.score.reason, completion.truncated)


def take_groups(
    target: Target,
    prompts: Sequence[Prompt],
    *,
    n: int,
    reward: Scorer,
    seed: int,
    whole: bool = False,
    progress: Progress = no_progress,
) -> list[Group]:
    """Sample ``n`` completions of each prompt as the first step would, and score them. Raises RunFailed when nothing
    was answered, or with ``whole`` not all."""
    spec = target.spec
    knobs, _ = spec.first_knobs(target.recommended_group_size)
    rows = [prompt for prompt in prompts for _ in range(n)]
    stop = tuple(spec.trainer.stop)
    questions = [Question(row, knobs.max_tokens, knobs.temperature, i % n, stop) for i, row in enumerate(rows)]
    replies = ask(target, questions, seed=seed, top_p=spec.trainer.top_p, progress=progress, phase="sampling")
    unanswered = [reply.error for reply in replies if reply.error]
    if whole and unanswered:
        raise RunFailed(f"{target.title} did not answer {len(unanswered):,} of {len(replies):,}: {unanswered[0]}")
    completions = score_replies(reward, rows, replies)
    return [Group(prompt, tuple(completions[i * n : (i + 1) * n])) for i, prompt in enumerate(prompts)]


def take_samples(
    target: Target, texts: Sequence[str], *, n: int, temperature: float, seed: int, progress: Progress
) -> tuple[Sample, ...]:
    """Sample ``n`` completions for each of ``texts``, or for the sample prompts of dev, which are also scored."""
    spec = target.spec
    own = bool(texts)
    prompts = (
        [Prompt("", spec.pool.template.replace("{prompt}", text), "", system=spec.pool.system_prompt) for text in texts]
        if own
        else build_splits(spec)["dev"][: spec.sample.prompts]
    )
    repeated = [prompt for prompt in prompts for _ in range(n)]
    questions = [make_question(target, p, i % n, temperature=temperature) for i, p in enumerate(repeated)]
    replies = ask(target, questions, seed=seed, progress=progress, phase="sampling")
    scores: Sequence[Score | None] = [None] * len(repeated)
    if not own:
        with build_scorer(spec, chat=target.chat) as reward:
            scores = [c.score for c in score_replies(reward, repeated, replies)]
    return tuple(
        Sample(
            prompt=prompt.text,
            completion=reply.text,
            truncated=reply.truncated,
            correct=score.correct if score else None,
            reward=score.reward if score else None,
            reason=reason_of(score.reason, reply.truncated) if score else "",
            error=reply.error,
        )
        for prompt, reply, score in zip(repeated, replies, scores, strict=True)
    )
