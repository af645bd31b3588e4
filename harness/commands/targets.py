"""Load a model outside a run: a checkpoint, a folder or a hub id with the spec that says how to measure it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.checks.inputs import build_reward, build_splits, choose_demonstrations
from harness.checks.trust import check_trust, load_trusted
from harness.config.load import load_recorded, load_spec
from harness.config.schema import LoraSpec, RunSpec
from harness.core.seeds import derive_seed
from harness.core.statistics import summarise
from harness.core.step_metrics import reason_of
from harness.errors import InputError, Refused
from harness.models.evaluate import compute_proportions, score_texts
from harness.models.generate import generate_texts
from harness.models.load import LoadedModel, load_model, load_weights
from harness.models.runtime import prepare_process
from harness.run.checkpoints import Checkpoints
from harness.run.parts import build_evaluator
from harness.store.writer import RunStore
from harness.training.sft import warm_start
from harness.types import Example, Group, Progress, Prompt, Score, Scorer, no_progress
from rewards.trl import TrainerState

SPEC_FILE = "run-spec.json"
"""In an exported model: the spec of the run it comes from, so that it can be scored as the run was, and beside it in
SIGNATURE_FILE that this user exported it."""
SIGNATURE_FILE = "run-spec.signature"


@dataclass(frozen=True)
class Target:
    """A model with the spec that says how to measure it."""

    title: str
    spec: RunSpec
    loaded: LoadedModel
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """How a model does on ``n`` prompts of a split: shares in [0, 1], completions by reason code, and ``examples``."""

    model: str
    split: str
    n: int
    accuracy: float
    ci95: tuple[float, float]
    reward: float
    thinking_proportion: float
    answer_proportion: float
    reasons: Mapping[str, int]
    examples: tuple[Example, ...] = field(repr=False)
    thinking_tags: Mapping[str, str] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Everything but the examples, which the CSV holds."""
        return {name: getattr(self, name) for name in self.__slots__ if name not in ("examples", "thinking_tags")}


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion to read; without a score where the prompt was a person's own."""

    prompt: str
    completion: str
    truncated: bool
    correct: bool | None
    reward: float | None
    reason: str


def load_target(name: str, *, checkpoint: str, spec: str | None, store: RunStore | None) -> Target:
    """Load a checkpoint of a run of ``store``, else a model by folder or hub id. Raises InputError."""
    if store is not None:
        return load_checkpoint(store, name, checkpoint)
    exported = Path(name) / SPEC_FILE
    if spec is None and exported.is_file():
        checked = load_recorded(exported)
        signature = Path(name) / SIGNATURE_FILE
        check_trust(name, checked, signature.read_text() if signature.is_file() else "", Path(name))
    else:
        checked, _ = load_spec(spec)
    prepare_process(checked.model.threads, checked.trainer)
    # How the model is spoken to comes from the spec, which model it is from the caller.
    own = {"name": name, "base": None, "revision": None, "quantization": None, "chat": checked.model.wants_chat}
    model = checked.model.model_copy(update=own)
    loaded = load_model(model, LoraSpec(rank=0), seed=derive_seed(checked.seed, "model"), pool=checked.pool)
    return Target(name, checked, loaded)


def load_checkpoint(store: RunStore, name: str, checkpoint: str) -> Target:
    """Load the weights of a run: best, final, a step or a name. Raises InputError."""
    run = store.find_run(name)
    spec = load_trusted(store, run)
    checkpoints = Checkpoints(store, run.id, store.folder_of(run) / "checkpoints", keep=spec.checkpoint.keep)
    try:
        if checkpoint == "final":
            found = checkpoints.find_newest_behind(store.load_run(run.id).weights_step)
            if found is None:
                raise InputError(f"{run.name} has no checkpoint yet")
        else:
            found = checkpoints.find(checkpoint)
    except Refused as refusal:
        raise InputError(f"{run.name}: {refusal}") from None
    prepare_process(spec.model.threads, spec.trainer)
    loaded = load_model(spec.model, spec.lora, seed=derive_seed(spec.seed, "model"), pool=spec.pool)
    load_weights(loaded.model, Path(found.path))
    return Target(f"{run.name} at step {found.step}", spec, loaded, found.step)


def load_start(spec: RunSpec, progress: Progress) -> Target:
    """Load the model that the first step of a run would have, after its warm start. Raises InputError."""
    prepare_process(spec.model.threads, spec.trainer)
    loaded = load_model(spec.model, spec.lora, seed=derive_seed(spec.seed, "model"), pool=spec.pool)
    if spec.warmstart.steps:
        shown = choose_demonstrations(spec, build_splits(spec)["train"])
        warm_start(loaded, shown, spec.warmstart, seed=spec.seed, progress=progress)
    return Target(spec.model.name, spec, loaded)


def measure(target: Target, split: str, progress: Progress) -> Measured:
    """Score a model on a split of its spec's pool. Raises InputError for no such split."""
    splits = build_splits(target.spec)
    if split not in splits:
        raise InputError(f"no split named {split}: {', '.join(splits)}")
    seed = derive_seed(target.spec.seed, "evaluate", split)
    with build_reward(target.spec, chat=target.loaded.chat) as reward:
        reward.state = lambda: TrainerState(target.step or 0, target.spec.budget.steps)
        evaluator = build_evaluator(target.spec, target.loaded, splits, reward)
        examples = evaluator.run(splits[split], seed=seed, progress=progress, phase=f"evaluating {split}")
    evaluation = summarise(split, examples)
    reasons = Counter(reason_of(e.completion.score.reason, e.completion.truncated) for e in examples)
    tags = target.spec.reward.thinking_tags
    proportions = compute_proportions(examples, tags)
    return Measured(
        model=target.title,
        split=split,
        n=evaluation.n,
        accuracy=evaluation.accuracy,
        ci95=evaluation.ci95,
        reward=evaluation.reward,
        thinking_proportion=proportions["thinking_proportion"],
        answer_proportion=proportions["answer_proportion"],
        reasons=dict(reasons.most_common()),
        examples=evaluation.examples,
        thinking_tags=tags,
    )


def take_groups(
    target: Target, prompts: Sequence[Prompt], *, n: int, reward: Scorer, seed: int, progress: Progress = no_progress
) -> list[Group]:
    """Sample ``n`` completions of each prompt as the first step would, and score them."""
    spec, loaded = target.spec, target.loaded
    knobs, _ = spec.first_knobs(loaded.recommended_group_size)
    rows = [prompt for prompt in prompts for _ in range(n)]
    texts = generate_texts(
        loaded,
        rows,
        max_tokens=knobs.max_tokens,
        temperature=knobs.temperature,
        top_p=spec.trainer.top_p,
        stop=spec.trainer.stop,
        batch_size=spec.evaluate.batch,
        seed=seed,
        progress=progress,
        phase="sampling",
    )
    completions = score_texts(reward, rows, texts)
    return [Group(prompt, tuple(completions[i * n : (i + 1) * n])) for i, prompt in enumerate(prompts)]


def take_samples(
    target: Target, texts: Sequence[str], *, n: int, temperature: float, seed: int, progress: Progress
) -> tuple[Sample, ...]:
    """Sample ``n`` completions for each of ``texts``, or for the sample prompts of dev, which are also scored."""
    spec, loaded = target.spec, target.loaded
    own = bool(texts)
    prompts = (
        [Prompt("", spec.pool.template.replace("{prompt}", text), "", system=spec.pool.system_prompt) for text in texts]
        if own
        else build_splits(spec)["dev"][: spec.sample.prompts]
    )
    repeated = [prompt for prompt in prompts for _ in range(n)]
    generated = generate_texts(
        loaded,
        repeated,
        max_tokens=spec.evaluate.max_tokens,
        temperature=temperature,
        stop=spec.trainer.stop,
        batch_size=spec.evaluate.batch,
        seed=seed,
        progress=progress,
        phase="sampling",
    )
    scores: Sequence[Score | None] = [None] * len(repeated)
    if not own:
        with build_reward(spec, chat=loaded.chat) as reward:
            scores = [c.score for c in score_texts(reward, repeated, generated)]
    return tuple(
        Sample(
            prompt=prompt.text,
            completion=text.text,
            truncated=text.truncated,
            correct=score.correct if score else None,
            reward=score.reward if score else None,
            reason=reason_of(score.reason, text.truncated) if score else "",
        )
        for prompt, text, score in zip(repeated, generated, scores, strict=True)
    )
