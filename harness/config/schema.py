"""The run spec: one TOML (or JSON) file, checked before anything is created, kept with the run as JSON.

Every field has a default. ``load_spec`` reads a file or a recipe by name and applies ``section.field=value``
overrides; whatever is wrong becomes one line that names the field, what is allowed and the nearest right name.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from harness.config.answerers import AnswersSpec, JudgeSpec, LlmSpec, PriceSpec
from harness.config.fields import Given, PositiveFloat, PositiveInt, Section, Share
from harness.config.names import (
    ALERT_KINDS,
    JUDGE,
    POLICY_KINDS,
    REPLAY,
    TINY,
    VARIABLE,
    AlertKind,
    is_judge,
    judge_name,
)
from harness.config.split_names import check_split_name
from harness.core.knobs import DEFAULT_BOUNDS, KNOB_NAMES
from harness.types import PROMPT_COLUMNS, Knobs, RunKind, Sampler

DEFAULT_GROUP_SIZE = 8
DEFAULT_EPOCHS = 3.0


def _is_date(text: str) -> str:
    try:
        return f"{date.fromisoformat(text):%Y-%m-%d}"
    except ValueError:
        raise ValueError("write it as year-month-day, such as 2026-07-31") from None


TEMPLATE_OWN = {
    "messages", "conversation", "tools", "documents", "chat_template", "add_generation_prompt",
    "continue_final_message", "tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict",
    "return_assistant_tokens_mask", "tokenizer_kwargs",
}  # fmt: skip
"""Arguments of ``apply_chat_template`` that say what is rendered, not how."""
DEFAULT_SPLITS: dict[str, int | float] = {"probe": 100, "dev": 200, "test": 300}


class ModelSpec(Section):
    """``name``: ``tiny`` (embedded), ``smollm2-135m`` (fetched once), a folder, a .gguf file or a hub id; folder or id
    may hold a PEFT adapter, which is trained on. ``base``: the model under an adapter, unset the one it names.

    ``chat`` sends prompts through the chat template, unset for every model but ``tiny``. ``max_length`` unset is the
    model's own context. ``add_tokens`` are added to the vocabulary, with embeddings that are trained (of an adapter,
    those rows). ``date`` (2026-07-31) is for chat templates that show one, unset the day on which the run begins: it
    stays the same over midnight and on a resume. ``quantization`` keeps the base of an adapter in 4 bits (needs
    bitsandbytes). ``threads`` of the processor, unset for all; results depend on it in the last bits.

    Completions are decoded with their special tokens, but for those that mark end, padding, beginning and the unknown:
    a reward sees ``<think>`` where it is one.
    """

    name: Given = TINY
    base: str | None = None
    revision: str | None = None
    chat: bool | None = None
    quantization: Literal["4bit"] | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_length: PositiveInt | None = None
    add_tokens: list[Given] = []
    date: Annotated[str, AfterValidator(_is_date)] | None = None
    threads: PositiveInt | None = None

    @property
    def wants_chat(self) -> bool:
        return self.name != TINY if self.chat is None else self.chat


class LoraSpec(Section):
    """An adapter of low rank instead of the whole weights. ``rank`` 0 trains full weights; unset is 0 for the embedded
    model and 16 for a pretrained one. ``alpha``, ``dropout`` and ``target_modules`` are PEFT's."""

    rank: Annotated[int, Field(ge=0)] | None = None
    alpha: PositiveInt = 32
    dropout: Share = 0.0
    target_modules: str | list[str] = "all-linear"


class WarmstartSpec(Section):
    """The supervised stage before GRPO: ``steps`` batches over ``examples`` rows of the train split that have a
    demonstration. ``steps`` 0 leaves it out."""

    examples: PositiveInt = 1000
    steps: Annotated[int, Field(ge=0)] = 0
    batch: PositiveInt = 32
    learning_rate: PositiveFloat = 1e-3


class SftSpec(Section):
    """What a run of kind sft learns from: ``examples`` rows of the train split that have a demonstration (unset: all of
    them), ``batch`` of them a step, in an order that follows from the seed alone. It has ``steps``, or as many as take
    it ``epochs`` times through the examples (3 where neither is given); budget.steps counts instead where it is given.
    ``learning_rate`` is the first value of the hyperparameter, unset knobs.learning_rate."""

    examples: PositiveInt | None = None
    batch: PositiveInt = 32
    epochs: PositiveFloat | None = None
    steps: PositiveInt | None = None
    learning_rate: PositiveFloat | None = None

    @model_validator(mode="after")
    def _one_length(self) -> SftSpec:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("epochs and steps both say how long it is; give one of them")
        return self

    def count_steps(self, examples: int) -> int:
        """Count the steps of a run on so many examples."""
        epochs = DEFAULT_EPOCHS if self.epochs is None else self.epochs
        return self.steps or max(1, math.ceil(epochs * examples / self.batch))


class PoolSpec(Section):
    """``source``: a .jsonl, .json, .csv or .parquet file, ``hub:openai/gsm8k?config=main&split=train``,
    ``reasoning:chain_sum?levels=0-3``, ``arithmetic?digits=3&size=6000``, ``file.py:function`` (pools/sources.py).

    ``columns`` says which column holds prompt, ground_truth, label or demonstration, where its name is another.
    ``template_kwargs`` go to the chat template of the model: ``{ enable_thinking = false }``. ``system_in_user`` puts
    the system prompt at the head of the user's first turn, for a template that refuses a system message.
    ``splits`` gives a size (300) or a fraction (0.1) for test, dev, probe and any others; train is the rest, unless
    it has a share too. A step draws at most ``draw_share`` of the train split, chosen by ``sampler``
    (pools/sampler.py); the target pass rate (``focus``) shifts what it aims at.

    Equal prompts with different ground truths are refused; ``conflicts`` "first" keeps the first of them, "drop" none.
    ``skip_bad`` skips and counts rows that are refused otherwise. ``strip``: regular expressions (or one) whose matches
    are cut from demonstrations, such as ``<<[^>]*>>`` of GSM8K. ``identity`` "normalised" takes prompts for one that
    differ in case, white space or Unicode form alone, as all runs did before.
    """

    source: Given = "arithmetic"
    columns: dict[str, str] = {}
    template: str = "{prompt}"
    system_prompt: str = ""
    system_in_user: bool = False
    template_kwargs: dict[str, bool | int | float | str] = {}
    splits: dict[str, int | float] = Field(default_factory=lambda: dict(DEFAULT_SPLITS))
    draw_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    sampler: Sampler = "frontier"
    conflicts: Literal["refuse", "first", "drop"] = "refuse"
    skip_bad: bool = False
    strip: Given | list[Given] = []
    identity: Literal["exact", "normalised"] = "exact"

    @property
    def stripped(self) -> tuple[str, ...]:
        return (self.strip,) if isinstance(self.strip, str) else tuple(self.strip)

    @field_validator("strip")
    @classmethod
    def _are_patterns(cls, strip: str | list[str]) -> str | list[str]:
        for pattern in [strip] if isinstance(strip, str) else strip:
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(
                    f"{pattern!r} is no regular expression: {error}; put \\ before a sign that stands for itself"
                ) from None
        return strip

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        for name in columns:
            if name not in PROMPT_COLUMNS:
                raise ValueError(f"no column named {name}{nearest(name, PROMPT_COLUMNS)}")
        return columns

    @field_validator("splits")
    @classmethod
    def _shares_of_splits(cls, splits: dict[str, int | float]) -> dict[str, int | float]:
        for name, share in splits.items():
            check_split_name(name, splits)
            least = 1 if name in ("train", "dev", "test") else 0
            if isinstance(share, float) and not 0 < share < 1:
                raise ValueError(f"{name} {share:g} must be a whole number of prompts or a fraction between 0 and 1")
            if isinstance(share, int) and share < least:
                raise ValueError(f"{name} {share} must be greater than or equal to {least}")
        fractions = math.fsum(share for share in splits.values() if isinstance(share, float))
        if fractions > 1 + 1e-9:
            raise ValueError(f"the fractions add up to {fractions:g}, more than the whole pool")
        return DEFAULT_SPLITS | splits

    @field_validator("template_kwargs", mode="before")
    @classmethod
    def _left_to_the_user(cls, arguments: Any) -> Any:
        for name, value in arguments.items() if isinstance(arguments, dict) else ():
            if name in TEMPLATE_OWN:
                raise ValueError(f"{name} is set by the harness for each prompt; leave it out")
            if not isinstance(value, bool | int | float | str):
                raise ValueError(f"{name} must be true, false, a number or text, not {value!r}")
        return arguments

    @field_validator("template")
    @classmethod
    def _has_place(cls, template: str) -> str:
        if "{prompt}" not in template:
            raise ValueError("must contain {prompt}, where the row's prompt goes")
        return template


class RewardSpec(Section):
    """``function``: a module of ``rewards``, ``package.module:function`` or ``file.py:function``, or a list of them.
    Of a module or file alone it is its only public function, else ``score``, ``compute_reward`` or ``reward``.

    ``range`` declares the lowest and highest weighted reward. A completion is correct at ``solved_at``
    (unset: the highest) unless the scorer says so itself. ``graded`` says that the reward grades or shapes answers and
    does not only tell right from wrong: evaluations, and so the best checkpoint, go by mean reward and not by accuracy,
    and preflight only warns of what such a reward may pay for. Unset, it is so where no answer at hand is fully right
    and they earn more than two rewards. Over ``errored_limit`` the run stops.

    A completion that keeps the reward busy for more than ``time_limit`` seconds (unset: 10, or what a reward of ours
    asks for) gets the lowest reward. The first call of a process may take ``startup_limit`` seconds, for a reward that
    loads a model (unset: six times ``time_limit``; for rewards of ours ``time_limit``). ``workers`` processes judge
    side by side, a TRL-style function in one of them. ``thinking_tags``: more tags around thinking, for rewards of
    ours: ``{"<ponder>" = "</ponder>"}``.
    """

    function: str | list[str] = "rewards.solution"
    weights: list[float] | None = None
    range: tuple[float, float] = (0.0, 1.0)
    solved_at: float | None = None
    graded: bool | None = None
    errored_limit: Share = 0.1
    time_limit: PositiveFloat | None = None
    startup_limit: PositiveFloat | None = None
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    thinking_tags: dict[Given, Given] = {}

    @property
    def functions(self) -> list[str]:
        return [self.function] if isinstance(self.function, str) else self.function

    @property
    def judges(self) -> list[str]:
        """The functions that are judges."""
        return [name for name in self.functions if is_judge(name)]

    @property
    def verifiers(self) -> list[str]:
        """The functions that are not."""
        return [name for name in self.functions if not is_judge(name)]

    @model_validator(mode="after")
    def _consistent(self) -> RewardSpec:
        if not self.functions:
            raise ValueError("function names no reward")
        if self.weights is not None and len(self.weights) != len(self.functions):
            raise ValueError(f"weights has {len(self.weights)} values for {len(self.functions)} functions")
        if self.range[0] >= self.range[1]:
            raise ValueError(f"range {list(self.range)} must go from low to high")
        if self.solved_at is not None and not self.range[0] < self.solved_at <= self.range[1]:
            raise ValueError(f"solved_at {self.solved_at:g} is not within range {list(self.range)}")
        return self


class TrainerSpec(Section):
    """What is fixed for a run, by TRL's names where it has one. top_p stays fixed because TRL's log-probs do not know
    of it. ``stop``: texts that end a completion.

    ``num_iterations`` updates are taken on each rollout. From the second on, ``epsilon`` and ``epsilon_high`` (unset:
    the same) bound how far a token's probability may move before it gives no more gradient; in the first nothing has
    moved. ``mask_truncated``: truncated completions have no part in the loss, though they count in the baseline.

    ``signal_only`` leaves completions without advantage out of the update (at beta 0, where the gradient is the
    same). ``micro_batch`` is how many go through the model at once: a matter of memory, not of the result. ``bf16``
    computes the update in bfloat16 around float32 weights (autocast); ``tf32`` multiplies float32 matrices on a GPU
    with 10 bits of mantissa. Weights in bfloat16 themselves: model.dtype.
    """

    lr_scheduler: Literal["constant", "linear", "cosine", "constant_with_warmup"] = "constant"
    scheduler_total_steps: PositiveInt | None = None
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = "dapo"
    scale_rewards: Literal["group", "batch", "none"] = "group"
    epsilon: PositiveFloat = 0.2
    epsilon_high: PositiveFloat | None = None
    num_iterations: PositiveInt = 1
    mask_truncated: bool = False
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    stop: list[str] = []
    optimizer: Literal["adamw_torch_fused", "adamw_torch", "adafactor", "sgd"] = "adamw_torch_fused"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: PositiveFloat = 1.0
    micro_batch: PositiveInt = 64
    signal_only: bool = True
    bf16: bool = False
    tf32: bool = False
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _schedule_has_an_end(self) -> TrainerSpec:
        if self.lr_scheduler in ("linear", "cosine") and self.scheduler_total_steps is None:
            raise ValueError(
                f'lr_scheduler "{self.lr_scheduler}" needs scheduler_total_steps (the step at which it ends), '
                'or use "constant"'
            )
        return self

    @property
    def scheduler(self) -> str:
        """The schedule by its name in transformers, where a constant rate with a warm-up is one of its own."""
        return "constant_with_warmup" if self.warmup_steps and self.lr_scheduler == "constant" else self.lr_scheduler


class KnobsSpec(Section):
    """The first values of what may change between steps, within [bounds]. A step rolls out ``prompts_per_step`` groups
    of ``group_size`` completions of at most ``max_tokens``; ``beta`` weighs the KL to the initial model; ``focus`` is
    the target pass rate of a draw. ``group_size`` unset is the model's recommendation, else 8; ``focus`` unset leaves
    the draw to pool.sampler."""

    temperature: PositiveFloat = 1.0
    max_tokens: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-4
    group_size: Annotated[int, Field(ge=2)] | None = None
    prompts_per_step: PositiveInt = 16
    beta: Annotated[float, Field(ge=0)] = 0.0
    focus: Annotated[float, Field(gt=0, lt=1)] | None = None


class PolicySpec(Section):
    """``kind``: rules, fixed, llm (which has the rules beside it), or ``replay:RUN`` for the decisions of another run
    at the same steps."""

    kind: str = "rules"

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        check_policy_kind(kind)
        return kind


class EvaluateSpec(Section):
    """Settings of evaluations, which no decision changes. ``temperature`` 0 is greedy; dev every ``every`` steps.

    ``n`` completions of each prompt, of which accuracy is the mean share that is right (pass@1); of several, which need
    a temperature, it is recorded too how many prompts have one that is (pass@n).
    """

    every: PositiveInt = 10
    max_tokens: PositiveInt = 64
    temperature: Annotated[float, Field(ge=0)] = 0.0
    batch: PositiveInt = 128
    n: PositiveInt = 1

    @model_validator(mode="after")
    def _several_differ(self) -> EvaluateSpec:
        if self.n > 1 and self.temperature == 0:
            raise ValueError(
                f"n {self.n} needs a temperature, since greedy completions of a prompt are all the same: "
                "set evaluate.temperature above 0, such as 0.7, or n = 1"
            )
        return self


class SampleSpec(Section):
    """Completions of the same fixed ``prompts`` every ``every`` steps, for people to read; ``per_step`` more of each
    step's own, the best and the worst of its groups."""

    every: PositiveInt = 25
    prompts: PositiveInt = 4
    per_step: Annotated[int, Field(ge=0)] = 8


class CheckpointSpec(Section):
    """One every ``every`` steps. The newest ``keep``, the best by dev and every named one stay on disk."""

    every: PositiveInt = 10
    keep: PositiveInt = 3


class BudgetSpec(Section):
    """The run ends at whichever comes first. ``usd`` is one cap over all that is asked of models behind an address;
    it needs their [prices]. ``price_per_hour`` is that of the machine, in USD, for the forecast of what it costs."""

    steps: PositiveInt = 100
    hours: PositiveFloat | None = None
    usd: PositiveFloat | None = None
    price_per_hour: PositiveFloat | None = None


class AlertsSpec(Section):
    """Who is told of what (harness/monitoring/alerts.py), by a POST of JSON, by a program, or both.

    ``webhook`` is an address that an environment variable gives, wholly or in part: "${GRPO_WEBHOOK}". ``command`` is
    a program and its words, run without a shell; it gets the JSON on its stdin and {text} replaced in its words. It
    inherits the environment, where its secrets belong.
    """

    webhook: str | None = None
    command: Annotated[list[str], Field(min_length=1)] | None = None
    on: list[AlertKind] = list(ALERT_KINDS)

    @field_validator("webhook")
    @classmethod
    def _keeps_its_secret(cls, webhook: str | None) -> str | None:
        if webhook and not VARIABLE.search(webhook):
            raise ValueError(
                "whoever has the address can post there, and a spec is stored and shown: "
                'export GRPO_WEBHOOK with the address, and write webhook = "${GRPO_WEBHOOK}"'
            )
        return webhook


class OutputSpec(Section):
    """``dir`` holds what a run leaves; ``db`` is a SQLite URL, unset ``dir``/harness.db."""

    dir: Given = "runs"
    db: Given | None = None


class RunSpec(Section):
    """``kind``: grpo, or sft for supervised fine-tuning on demonstrations ([sft]). ``name`` of the run, unset the
    recipe's or file's with a number. ``note`` is said at its start. ``seed`` is that of model, draws and sampling."""

    kind: RunKind = "grpo"
    name: str = ""
    note: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    model: ModelSpec = ModelSpec()
    lora: LoraSpec = LoraSpec()
    warmstart: WarmstartSpec = WarmstartSpec()
    sft: SftSpec = SftSpec()
    pool: PoolSpec = PoolSpec()
    reward: RewardSpec = RewardSpec()
    judge: dict[str, JudgeSpec] = {}
    trainer: TrainerSpec = TrainerSpec()
    knobs: KnobsSpec = KnobsSpec()
    bounds: dict[str, tuple[float, float]] = {}
    policy: PolicySpec = PolicySpec()
    llm: LlmSpec = LlmSpec()
    answers: AnswersSpec = AnswersSpec()
    prices: dict[str, PriceSpec] = {}
    evaluate: EvaluateSpec = EvaluateSpec()
    sample: SampleSpec = SampleSpec()
    checkpoint: CheckpointSpec = CheckpointSpec()
    budget: BudgetSpec = BudgetSpec()
    alerts: AlertsSpec = AlertsSpec()
    output: OutputSpec = OutputSpec()

    @field_validator("name")
    @classmethod
    def _is_a_folder_name(cls, name: str) -> str:
        group, slash, stage = name.partition("/")  # a stage of a group: harness/config/stages.py
        if (name and not is_run_name(group)) or (slash and not is_run_name(stage)):
            raise ValueError(f"{name!r} must be letters, digits, '-', '_' or '.', at most 80 of them")
        if name == "latest" or name.startswith("-"):
            raise ValueError(f"{name!r} means something else where a run is named; take another")
        return name

    @field_validator("bounds", mode="before")
    @classmethod
    def _bounds_are_of_knobs(cls, bounds: Any) -> Any:
        for name in bounds if isinstance(bounds, dict) else ():
            if name not in KNOB_NAMES:
                raise ValueError(f"no hyperparameter named {name}{nearest(name, KNOB_NAMES)}")
        return bounds

    @field_validator("bounds")
    @classmethod
    def _bounds_go_up(cls, bounds: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        for name, (low, high) in bounds.items():
            if low > high:
                raise ValueError(f"{name} [{low:g}, {high:g}] must go from low to high")
        return bounds

    @field_validator("judge")
    @classmethod
    def _names_of_judges(cls, judges: dict[str, JudgeSpec]) -> dict[str, JudgeSpec]:
        for name in judges:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,40}", name):
                raise ValueError(f"a judge's name is of letters, digits, '-' and '_', not {name!r}")
        return judges

    @model_validator(mode="after")
    def _judges_are_described(self) -> RunSpec:
        for function in self.reward.judges:
            name = judge_name(function)
            if not name:
                raise ValueError(f"reward.function: {function} names no judge; {JUDGE}:NAME is that of [judge.NAME]")
            if name not in self.judge:
                there = nearest(name, self.judge) if self.judge else ""
                raise ValueError(f"reward.function: {function} needs a section [judge.{name}]{there}")
        return self

    @model_validator(mode="after")
    def _first_knobs_within_bounds(self) -> RunSpec:
        first = {f"knobs.{name}": (name, value) for name, value in self.knobs.model_dump().items()}
        first["sft.learning_rate"] = ("learning_rate", self.sft.learning_rate)
        for field, (name, value) in first.items():
            low, high = self.all_bounds[name]
            if value is not None and not low <= value <= high:
                raise ValueError(f"{field} {value:g} is outside its bounds [{low:g}, {high:g}]: change it or [bounds]")
        return self

    @model_validator(mode="after")
    def _sft_is_decided_by_rules(self) -> RunSpec:
        if self.kind == "sft" and self.policy.kind == "llm":
            raise ValueError(
                "policy.kind: a run of kind sft has one hyperparameter, which rules, fixed or replay:RUN decide on"
            )
        return self

    @model_validator(mode="after")
    def _cap_has_prices(self) -> RunSpec:
        if self.budget.usd is not None and not self.prices:
            raise ValueError(
                f'budget.usd: a cap needs prices, in USD per million tokens: set [prices] "{self.llm.model}" = '
                "{ input = ..., output = ... }"
            )
        return self

    @property
    def all_bounds(self) -> dict[str, tuple[float, float]]:
        return DEFAULT_BOUNDS | self.bounds

    def first_knobs(self, recommended_group_size: int | None) -> tuple[Knobs, str]:
        """Return the knobs of step 1, and where group_size came from: spec, model or default."""
        values = self.knobs.model_dump()
        if self.kind == "sft":
            values["learning_rate"] = self.sft.learning_rate or values["learning_rate"]
        if values["group_size"] is not None:
            return Knobs(**values), "spec"
        origin = "default" if recommended_group_size is None else "model"
        return Knobs(**values | {"group_size": recommended_group_size or DEFAULT_GROUP_SIZE}), origin


# ---------------------------------------------------------------- reading


def is_run_name(name: str) -> bool:
    """Tell whether a folder of that name can hold a run."""
    return name.strip(".") != "" and all(c.isalnum() or c in "-_." for c in name) and len(name) <= 80


def check_policy_kind(kind: str) -> None:
    """Raise ValueError for an unknown decision policy; harness.checks.inputs says whether it can be asked here."""
    if kind not in POLICY_KINDS and not kind.startswith(REPLAY):
        raise ValueError(f"no decision policy named {kind}{nearest(kind, (*POLICY_KINDS, f'{REPLAY}RUN'))}")
    if kind == REPLAY:
        raise ValueError(f"{REPLAY} needs the name of a run, e.g. {REPLAY}night-1")


def nearest(name: str, allowed: Collection[str]) -> str:
    """Return the end of a message that refuses ``name``: the nearest right one, or all."""
    near = difflib.get_close_matches(name, list(allowed), 1, 0.5)
    return f", did you mean {near[0]}?" if near else f": {', '.join(allowed)}"
