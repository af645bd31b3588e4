"""One GRPO step per call, on TRL's own trainer. The only room that touches TRL's private parts.

``StepTrainer`` drives ``GRPOTrainer`` without its ``train()`` loop: roll out and score one subset, one
optimizer step, and back. Model and optimizer stay in memory, and every knob takes effect at the next call.
Without our per-step seeding the weights are bit-identical to ``train()`` (tests/harness/test_trainer.py).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import GenerationConfig, get_scheduler
from trl import GRPOConfig, GRPOTrainer
from trl.data_utils import is_conversational
from trl.models.utils import disable_gradient_checkpointing, unwrap_model_for_generation
from trl.trainer.utils import add_fused_lm_head, pad, shuffle_sequence_dict, split_tensor_dict, use_adapter

from harness.generate import generate_ids, seed_torch
from harness.models import LoadedModel, load_weights, save_weights
from harness.seeds import derive_seed
from harness.spec import TrainerSpec
from harness.types import Completion, Group, Knobs, Progress, Prompt, Score, Scorer, StepOutcome, no_progress

KL_SAMPLES = 8
"""Completions on which KL is measured when beta is 0 and the loss does not need it."""


class StepTrainer(GRPOTrainer):  # type: ignore[misc]
    """``harness.types.Trainer`` on TRL.

    The reference for KL is the model as given here: a frozen copy for full weights (TRL would reload it by
    name and so lose a warm start), a frozen copy of the adapter for LoRA.
    """

    def __init__(
        self, loaded: LoadedModel, scorer: Scorer, spec: TrainerSpec, *, errored_limit: float, folder: Path, seed: int
    ) -> None:
        self.loaded = loaded
        self.scorer = scorer
        self.spec = spec
        self.errored_limit = errored_limit
        self._progress: Progress = no_progress
        self._prompts: Sequence[Prompt] = ()
        self._scores: list[Score] = []
        self._texts: list[str] = []
        self._truncated: list[bool] = []
        self._lengths: list[int] = []
        self._seconds: dict[str, float] = {}
        self.temperature: float
        args = GRPOConfig(
            output_dir=str(folder),
            seed=seed,
            per_device_train_batch_size=2,
            num_generations=2,
            steps_per_generation=1,
            gradient_accumulation_steps=1,
            # The factor over steps is ours (schedule_factor): TRL's scheduler is never stepped.
            learning_rate=1.0,
            lr_scheduler_type="constant",
            beta=0.0,
            temperature=1.0,
            top_p=spec.top_p,
            loss_type=spec.loss_type,
            scale_rewards=spec.scale_rewards,
            epsilon=spec.epsilon,
            optim=spec.optimizer,
            weight_decay=spec.weight_decay,
            max_grad_norm=spec.max_grad_norm,
            gradient_checkpointing=spec.gradient_checkpointing,
            bf16=False,
            fp16=False,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        reference = None if isinstance(loaded.model, PeftModel) else copy.deepcopy(loaded.model)
        super().__init__(
            model=loaded.model,
            reward_funcs=[_scored_by_harness],
            args=args,
            train_dataset=Dataset.from_dict({"prompt": ["never read: the pool feeds the steps"]}),
            processing_class=loaded.tokenizer,
        )
        self._reference = reference
        if reference is not None:
            reference.requires_grad_(False).eval()
            add_fused_lm_head(reference, temperature=1.0)
            self._reference = self.accelerator.prepare_model(reference, evaluation_mode=True)
        else:
            add_reference_adapter(loaded.model)
        self._prepare_for_training(10**9, None, None)
        self._lr_factor = get_scheduler(
            spec.lr_scheduler,
            torch.optim.SGD([torch.zeros(1)]),
            num_warmup_steps=spec.warmup_steps,
            # One more than asked for, so that the last step is not taken at rate 0.
            num_training_steps=(spec.scheduler_total_steps or 0) + 1,
        )

    # ------------------------------------------------------------ knobs

    def schedule_factor(self, step: int) -> float:
        """What the learning-rate knob is multiplied by at ``step`` (1 is the first step)."""
        factors = getattr(self._lr_factor, "lr_lambdas", None)
        return float(factors[0](step)) if factors else 1.0

    def _apply(self, knobs: Knobs, learning_rate: float, rows: int) -> None:
        """Put every knob where TRL reads it. Each line is a place where TRL keeps its own copy."""
        if knobs.temperature != self.temperature:
            self.temperature = knobs.temperature
            # The log-prob head has the temperature baked in: rebuild it, the reference's too.
            self._rebuild_head(self.model, ("log_probs", "entropy"))
            if self._reference is not None:
                self._rebuild_head(self._reference, ("log_probs",))
        self.max_completion_length = knobs.max_tokens
        self.generation_kwargs |= {"temperature": knobs.temperature, "max_new_tokens": knobs.max_tokens}
        self.generation_config = GenerationConfig(**self.generation_kwargs, disable_compile=True)
        self.num_generations = knobs.group_size
        self.beta = knobs.beta
        self.ref_model = self._reference if knobs.beta else None
        micro_batch = next(size for size in range(min(self.spec.micro_batch, rows), 0, -1) if rows % size == 0)
        self.args.per_device_train_batch_size = micro_batch
        self.args.steps_per_generation = rows // micro_batch
        self.args.gradient_accumulation_steps = rows // micro_batch
        self.current_gradient_accumulation_steps = rows // micro_batch
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def _rebuild_head(self, model: Any, outputs: tuple[str, ...]) -> None:
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        del base.forward  # the instance's wrapped forward; the class's own shows again
        add_fused_lm_head(base, temperature=self.temperature, outputs=outputs)

    # ------------------------------------------------------------ one step

    def step(
        self,
        prompts: Sequence[Prompt],
        knobs: Knobs,
        *,
        learning_rate: float,
        seed: int | None,
        progress: Progress = no_progress,
    ) -> StepOutcome:
        """Roll out ``knobs.group_size`` completions of each prompt and take one optimizer step.

        The update is left out when more than ``errored_limit`` of the completions could not be judged, and
        when no group has signal (Adam's momentum alone would still move the weights).
        ``seed`` None leaves the global generators alone, as ``train()`` would find them.
        """
        started = time.perf_counter()
        self._progress = progress
        self._seconds = {}
        self._prompts = [prompt for prompt in prompts for _ in range(knobs.group_size)]
        self._apply(knobs, learning_rate, len(self._prompts))
        self._metrics["train"].clear()
        if seed is not None:
            seed_torch(derive_seed(seed, "rollout"))
        self.model.train()
        batch = self._generate_and_score_completions([self._row(prompt) for prompt in self._prompts])
        groups = self._groups(knobs.group_size)
        metrics: dict[str, float] = {}

        errored = sum(score.errored for score in self._scores) / len(self._scores)
        signal = any(len({c.score.reward for c in g.completions if not c.score.errored}) > 1 for g in groups)
        updated = errored <= self.errored_limit and (signal or knobs.beta > 0)
        if not knobs.beta:
            metrics["kl/mean"] = self._measure_kl(batch, seed)
        if seed is not None:
            seed_torch(derive_seed(seed, "update"))
        update_started = time.perf_counter()
        metrics |= self._update(batch, apply=updated)
        self._seconds["update"] = time.perf_counter() - update_started
        if knobs.beta:
            metrics["kl/mean"] = fmean(self._metrics["train"]["kl"])
        metrics["entropy/mean"] = fmean(self._metrics["train"]["entropy"])
        metrics["time/rollout_s"] = self._seconds["rollout"]
        metrics["time/reward_s"] = self._seconds["reward"]
        metrics["time/update_s"] = self._seconds["update"]
        metrics["time/step_s"] = time.perf_counter() - started
        return StepOutcome(groups, metrics, bool(metrics["update/applied"]))

    def rehearse(self, prompts: Sequence[Prompt], knobs: Knobs) -> float:
        """Seconds of a step on ``prompts`` up to the optimizer, which is left alone: weights stay as they are."""
        started = time.perf_counter()
        self._prompts = [prompt for prompt in prompts for _ in range(knobs.group_size)]
        self._apply(knobs, 0.0, len(self._prompts))
        self.model.train()
        batch = self._generate_and_score_completions([self._row(prompt) for prompt in self._prompts])
        for micro_batch in split_tensor_dict(batch, self.args.steps_per_generation):
            self.accelerator.backward(self.compute_loss(self.model_wrapped, micro_batch))
        self.model_wrapped.zero_grad()
        self._metrics["train"].clear()
        return time.perf_counter() - started

    def weights_bytes(self) -> int:
        """Size of what is trained."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters() if p.requires_grad)

    def _update(self, batch: dict[str, Any], *, apply: bool) -> dict[str, float]:
        """Forward and backward over the micro-batches, then clip and step as TRL's loop does."""
        batches = split_tensor_dict(shuffle_sequence_dict(batch), self.args.steps_per_generation)
        loss = 0.0
        for done, micro_batch in enumerate(batches):
            self._progress("updating", done, len(batches))
            self.accelerator.gradient_state._set_sync_gradients(done == len(batches) - 1)
            with torch.set_grad_enabled(apply):
                part = self.compute_loss(self.model_wrapped, micro_batch)
            if apply:
                self.accelerator.backward(part)
            loss += float(part.detach())
        if not apply:
            return {"loss": loss, "grad/norm": 0.0, "update/applied": 0.0}
        norm = float(self._get_grad_norm(self.model_wrapped, grad_norm=self._clip_grad_norm(self.model_wrapped)))
        finite = math.isfinite(norm)
        if finite:  # one NaN in the optimizer's state would stay there for good
            self.optimizer.step()
            self.state.global_step += 1
        self.model_wrapped.zero_grad()
        self._progress("updating", len(batches), len(batches))
        return {"loss": loss, "grad/norm": norm, "update/applied": float(finite)}

    def _row(self, prompt: Prompt) -> dict[str, Any]:
        return {"prompt": self.loaded.render(prompt)}

    def _groups(self, group_size: int) -> tuple[Group, ...]:
        # TRL's advantages take groups by position alone; a wrong order would be accepted silently.
        groups = []
        for start in range(0, len(self._prompts), group_size):
            rows = range(start, start + group_size)
            if len({self._prompts[row].id for row in rows}) != 1:
                raise RuntimeError("rows of one group are not contiguous")
            completions = tuple(
                Completion(self._texts[row], self._lengths[row], self._truncated[row], self._scores[row])
                for row in rows
            )
            groups.append(Group(self._prompts[start], completions))
        return tuple(groups)

    # ------------------------------------------------------------ TRL's hooks

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, has_tool_images: bool = False
    ) -> tuple[list[list[int]], None]:
        """TRL's plain generation, with progress and stop strings."""
        started = time.perf_counter()
        total = len(prompt_ids)
        self._progress("sampling", 0, total)
        tensors = [torch.tensor(ids) for ids in prompt_ids]
        inputs = {
            "input_ids": pad(tensors, padding_value=self._tokenizer.pad_token_id, padding_side="left"),
            "attention_mask": pad([torch.ones_like(t) for t in tensors], padding_value=0, padding_side="left"),
        }
        inputs = {name: tensor.to(self.accelerator.device) for name, tensor in inputs.items()}
        with unwrap_model_for_generation(
            self.model_wrapped, self.accelerator, generation_kwargs=self.generation_kwargs
        ) as model:
            ids, self._truncated = generate_ids(
                model,
                self._tokenizer,
                inputs,
                self.generation_config,
                eos_ids=self.eos_token_ids,
                stop=self.spec.stop,
                report=lambda finished: self._progress("sampling", finished, total),
            )
        self._lengths = [len(row) for row in ids]
        self._progress("sampling", total, total)
        self._seconds["rollout"] = time.perf_counter() - started
        return ids, None

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        """The harness's scorer in place of TRL's reward functions; errored completions are NaN, which TRL's
        advantages leave out of the baseline."""
        started = time.perf_counter()
        chat = is_conversational({"prompt": prompts[0]})
        self._texts = [c[0]["content"] if chat else c for c in completions]
        self._progress("rewarding", 0, len(self._texts))
        self._scores = self.scorer.score(self._prompts, self._texts)
        self._progress("rewarding", len(self._texts), len(self._texts))
        self._seconds["reward"] = time.perf_counter() - started
        rewards = [float("nan") if score.reward is None else score.reward for score in self._scores]
        return torch.tensor(rewards, device=self.accelerator.device).unsqueeze(1)

    # ------------------------------------------------------------ KL at beta 0

    def _measure_kl(self, batch: dict[str, Any], seed: int | None) -> float:
        """Mean per-token KL to the reference (Schulman's k3 estimator, as TRL's loss) on a random handful."""
        generator = torch.Generator().manual_seed(derive_seed(seed or 0, "kl"))
        rows = torch.randperm(batch["completion_ids"].size(0), generator=generator)[:KL_SAMPLES]
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)[rows]
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)[rows]
        keep = batch["completion_ids"].size(1)
        with torch.no_grad(), disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            logps, _, _ = self._get_per_token_logps_and_entropies(self.model, ids, mask, keep)
            if self._reference is not None:
                ref, _, _ = self._get_per_token_logps_and_entropies(self._reference, ids, mask, keep)
            else:
                with use_adapter(self.accelerator.unwrap_model(self.model), adapter_name="ref"):
                    ref, _, _ = self._get_per_token_logps_and_entropies(self.model, ids, mask, keep)
        kl = torch.exp(ref - logps) - (ref - logps) - 1
        tokens = batch["completion_mask"][rows]
        return float((kl * tokens).sum() / tokens.sum().clamp(min=1))

    # ------------------------------------------------------------ weights on disk

    def save(self, folder: Path) -> None:
        """Model (or adapter), tokenizer and optimizer into ``folder``; loads in transformers or peft as it is."""
        save_weights(self.accelerator.unwrap_model(self.model), folder)
        self.loaded.tokenizer.save_pretrained(folder)
        torch.save(self.optimizer.state_dict(), folder / "optimizer.pt")

    def load(self, folder: Path) -> None:
        """Weights and optimizer of ``save`` into the model in memory."""
        load_weights(self.accelerator.unwrap_model(self.model), folder)
        self.optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
        self.optimizer.zero_grad()


def add_reference_adapter(model: PeftModel) -> None:
    """A frozen copy of the adapter as it is now, under the name that TRL looks for. TRL makes one itself only
    when beta is set at construction, and without it KL would be measured against the base model."""
    model.add_adapter("ref", model.peft_config["default"])
    for name, parameter in model.named_parameters():
        if ".default." in name:
            model.get_parameter(name.replace(".default.", ".ref.")).data.copy_(parameter.data)
    model.set_adapter("default")


def _scored_by_harness(**kwargs: Any) -> list[float]:
    """TRL wants a reward function at construction; StepTrainer scores in its own place."""
    raise RuntimeError("StepTrainer scores completions itself")
