"""The sections of a spec about who is asked: the LLM of a decision policy, judges, how they are asked, and prices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from harness.config.fields import Given, PositiveFloat, PositiveInt, Section
from harness.config.names import LLM_MODEL
from harness.llm.names import bare_name, name_hosted


class LlmSpec(Section):
    """What decision policy ``llm`` asks, every ``every`` steps and on severe findings, for at most ``max_tokens``.
    ``model`` is ``anthropic:MODEL`` or a bare name, with a key in ANTHROPIC_API_KEY, or ``openai:MODEL``, with one in
    OPENAI_API_KEY and an address in OPENAI_BASE_URL.
    """

    model: str = LLM_MODEL
    every: PositiveInt = 20
    max_tokens: PositiveInt = 1500

    @field_validator("model")
    @classmethod
    def _is_named(cls, model: str) -> str:
        if not bare_name(model).strip():
            raise ValueError(f"{model!r} names no model")
        return model

    @property
    def answerer(self) -> str:
        """The model as an answerer is named."""
        return name_hosted(self.model)


class JudgeSpec(Section):
    """A model that grades answers as ``reward.function = "rewards.judge:NAME"`` of [judge.NAME] (rewards/judge.py).

    ``model`` is any answerer: ``anthropic:MODEL``, ``openai:MODEL``, ``recorded:FILE``, a run, a folder, a hub id.
    ``rubric`` is a file beside the spec, in which {prompt}, {answer}, {reference} (ground truth or demonstration) and
    {peers} (the other answers of the group) stand for what is judged. ``form`` "grade" gives one answer 0 to 10, which
    is a reward of 0 to 1; "rank" ranks the answers of a group against each other. A reply has at most ``max_tokens``.
    ``text`` is that of the rubric as the run was last driven, kept by the harness for where the file is not.
    """

    model: Given
    rubric: Given
    form: Literal["grade", "rank"] = "grade"
    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: PositiveInt = 500
    text: str = ""


class AnswersSpec(Section):
    """How models behind an address are asked: ``concurrency`` requests in flight at most, ``requests_per_minute`` sent
    evenly spread, each tried up to ``attempts`` times of at most ``time_limit`` seconds."""

    concurrency: Annotated[int, Field(ge=1, le=256)] = 10
    requests_per_minute: PositiveInt | None = None
    attempts: PositiveInt = 5
    time_limit: PositiveFloat = 120.0


class PriceSpec(Section):
    """USD per million tokens that a model reads and writes: `"claude-haiku-5-5" = { input = 1.0, output = 5.0 }` in
    [prices], by the model's name with or without its service. A cap, budget.usd, needs that of each model asked."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]
