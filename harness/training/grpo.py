"""Take one GRPO step per call, on TRL's own trainer. The only module that touches TRL's private parts.

``StepTrainer`` drives ``GRPOTrainer`` without its ``train()`` loop: roll out and score one subset, ``num_iterations``
optimizer steps on it, and back. Model and optimizer stay in memory, and every knob takes effect at the next call. TRL's
batch, advantages and loss are used as they are; generation and log-probabilities are ours, because a prompt need not be
encoded once per completion, nor a group without signal updated on. The gradient is TRL's up to float rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing, unwrap_model_for_generation
from trl.trainer.utils import add_fused_lm_head

from harness.config.schema import TrainerSpec
from harness.core.seeds import derive_seed
from harness.models.evaluate import judge, take_metrics
from harness.models.forward import find_base
from harness.models.generate import Generated, generate_batches
from harness.models.load import LoadedModel
from harness.models.runtime import keep_to_one_device, quiet_training, seed_torch
from harness.models.tokens import decode
from harness.training.log_probs import compute_log_probs
from harness.training.probe import can_share_prompts
from harness.training.reference import Reference
from harness.training.rollout import Rollout, join_generated, pack_rows
from harness.training.stepwise import SAME_IN_TRL, Stepwise
from harness.types import Group, Knobs, Metrics, More, Progress, Prompt, Scorer, StepOutcome, no_more, no_progress

OLD = "old_per_token_logps"
"""TRL's name for the log-probabilities that the model gave its completions before it moved."""
CLIPPED = ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean")
"""Shares of tokens that ``epsilon`` holds back, by TRL's names: those below, above, and together."""
KL_SAMPLES = 32
"""Completions on which KL is measured when the loss does not need it of all."""
SAME_IN_GRPO = SAME_IN_TRL | {"top_p", "loss_type", "scale_rewards", "epsilon", "epsilon_high"}
"""Fields of TrainerSpec that TRL has by the same name."""


class StepTrainer(Stepwise, GRPOTrainer):  # type: ignore[misc]
    """``harness.types.Trainer`` on TRL.

    The reference for KL is the model as given here (``harness.training.reference``).
    """

    sizes = ("micro_batch", "rollout_batch")
    shorter = "lower knobs.max_tokens"

    def __init__(
        self, loaded: LoadedModel, scorer: Scorer, spec: TrainerSpec, *, errored_limit: float, folder: Path, seed: int
    ) -> None:
        self.loaded = loaded
        self.scorer = scorer
        self.spec = spec
        self.errored_limit = errored_limit
        self.micro_batch = spec.micro_batch
        self.rollout_batch = 2**31
        self._progress: Progress = no_progress
        self._rollout: Rollout
        self._seconds: dict[str, float]
        self._notes: list[str]
        self._lengths: list[int] | None = None
        self._balance_share = 1.0
        self._seen_log_probs: torch.Tensor
        self.temperature: float
        args = GRPOConfig(
            output_dir=str(folder),
            seed=seed,
            # The factor over steps is ours (schedule_factor): TRL's scheduler is never stepped.
            learning_rate=1.0,
            lr_scheduler_type="constant",
            optim=spec.optimizer,
            **spec.model_dump(include=SAME_IN_GRPO),
            **quiet_training(bf16=spec.bf16),
        )
        super().__init__(
            model=loaded.model,
            reward_funcs=[_scored_by_harness],
            args=keep_to_one_device(args),
            train_dataset=Dataset.from_dict({"prompt": ["never read: the pool feeds the steps"]}),
            processing_class=loaded.tokenizer,
        )
        self._begin()
        self._reference = Reference(self.accelerator.unwrap_model(self.model))
        # Checkpointed layers keep no cache, so there every completion carries its prompt.
        self._shares_prompts = not spec.gradient_checkpointing and can_share_prompts(
            self.model, loaded.tokenizer.pad_token_id
        )

    # ------------------------------------------------------------ knobs

    def _apply(self, knobs: Knobs, learning_rate: float) -> None:
        """Put every knob where TRL reads it. Each line is a place where TRL keeps its own copy."""
        if knobs.temperature != self.temperature:
            self.temperature = knobs.temperature
            base = find_base(self.model)
            del base.forward  # the log-prob head has the temperature baked in; the class's own forward shows again
            add_fused_lm_head(base, temperature=self.temperature, outputs=("log_probs", "entropy"))
        self.max_completion_length = knobs.max_tokens
        self.num_generations = knobs.group_size
        self.beta = knobs.beta
        self.ref_model = self._reference if knobs.beta else None
        self.args.per_device_train_batch_size = self.micro_batch
        self._set_learning_rate(learning_rate)

    # ------------------------------------------------------------ one step

    def step(
        self,
        prompts: Sequence[Prompt],
        knobs: Knobs,
        *,
        learning_rate: float,
        seed: int,
        progress: Progress = no_progress,
        more: More = no_more,
    ) -> StepOutcome:
        """Take one step as ``harness.types.Trainer`` says.

        When ``more`` gives further prompts, the update is on as many mixed groups as ``prompts`` were asked for
        (dynamic sampling, Yu et al. 2025, DAPO). It is left out when more than ``errored_limit`` of the completions
        could not be judged, and when no group has signal (Adam's momentum alone would still move the weights).
        """
        started = time.perf_counter()
        self._progress = progress
        take_metrics(self.scorer)  # of what was evaluated since the last step
        groups, batch = self._roll_out(prompts, knobs, learning_rate, seed, more)
        asked = take_metrics(self.scorer)
        scores = [completion.score for group in groups for completion in group.completions]
        errored = sum(score.errored for score in scores) / len(scores)  # of all groups, as the session has it
        entropy = self._rollout.generated.entropy
        metrics: dict[str, float] = {"entropy/mean": float(entropy.sum() / batch["num_items_in_batch"])}
        metrics["kl/mean"] = self._measure_kl(batch, seed)
        learned = self._leave_out_truncated(batch)
        live = self._find_live(learned)
        rows = live if self._leaves_out_rows() else learned["completion_mask"].any(-1)
        seed_torch(derive_seed(seed, "update"))
        update_started = time.perf_counter()
        fault, lost = "", False
        metrics |= {"loss": 0.0, "grad/norm": 0.0, "update/applied": 0.0, "update/used_rate": 0.0}
        if errored <= self.errored_limit and bool(rows.any() if knobs.beta else live.any()):
            metrics["update/used_rate"] = float(rows.float().mean())
            made, fault, lost = self._update(learned, rows.nonzero().squeeze(-1))
            metrics |= made
        self._seconds["update"] = time.perf_counter() - update_started
        metrics |= asked
        metrics |= {f"time/{name}_s": seconds for name, seconds in self._seconds.items()}
        metrics["time/step_s"] = time.perf_counter() - started
        return StepOutcome(groups, metrics, bool(metrics["update/applied"]), tuple(self._notes), fault, lost)

    def rehearse(self, prompts: Sequence[Prompt], knobs: Knobs, lengths: Sequence[int] | None = None) -> float:
        """Time a step on ``prompts``, in s, up to the optimizer, which is left alone: weights stay as they are. With
        ``lengths`` the completions of each prompt have so many tokens. Where rows without signal are left out of the
        update, it is taken on two thirds of all rows."""
        started = time.perf_counter()
        self._lengths = None if lengths is None else [one for one in lengths for _ in range(knobs.group_size)]
        try:
            _, batch = self._roll_out(prompts, knobs, learning_rate=0.0, seed=0)
        finally:
            self._lengths = None
        self._measure_kl(batch, 0)
        rows = torch.arange(len(self._rollout))
        if self._leaves_out_rows():
            rows = rows[: -(-len(rows) * 2 // 3)]
        for _ in range(self.spec.num_iterations):
            self._accumulate(batch, rows)
        self.model_wrapped.zero_grad()
        return time.perf_counter() - started

    # ------------------------------------------------------------ rolling out

    def _roll_out(
        self, prompts: Sequence[Prompt], knobs: Knobs, learning_rate: float, seed: int, more: More = no_more
    ) -> tuple[tuple[Group, ...], dict[str, torch.Tensor]]:
        """Return all groups of the step, and what TRL's loss takes of those to update on (``_rollout``)."""
        self._apply(knobs, learning_rate)
        self._notes, self._seconds = [], {"rollout": 0.0, "reward": 0.0}
        rollout = self._sample_and_score(prompts, knobs.group_size, derive_seed(seed, "rollout"))
        while added := more(rollout.groups):
            part_seed = derive_seed(seed, "rollout", len(rollout.prompts))
            rollout = rollout.join(self._sample_and_score(added, knobs.group_size, part_seed))
        groups = rollout.groups
        if len(groups) > len(prompts):
            mixed = [place for place, group in enumerate(groups) if group.mixed]
            if len(mixed) < len(prompts):
                self._notes.append(
                    f"{len(mixed)} of {len(groups)} prompts gave mixed groups, {len(prompts)} were asked for"
                )
            # Without any there is no update, but a batch all the same.
            rollout = rollout.take((mixed or range(len(groups)))[: len(prompts)])
        self._rollout = rollout
        return groups, self._with_less_memory("micro_batch", len(rollout), self._build_batch)

    def _sample_and_score(self, prompts: Sequence[Prompt], group_size: int, seed: int) -> Rollout:
        rows = [prompt for prompt in prompts for _ in range(group_size)]
        started = time.perf_counter()
        self._progress("sampling", 0, len(rows))
        encoded = [self.loaded.prompt_ids(prompt) for prompt in prompts]
        ids = [prompt_ids for prompt_ids in encoded for _ in range(group_size)]
        seed_torch(seed)  # a reward that draws random numbers takes its seed from here
        generated = self._with_less_memory("rollout_batch", len(rows), lambda: self._sample(ids, seed))
        texts = decode(self.loaded.model, self.loaded.tokenizer, generated.ids)
        self._progress("sampling", len(rows), len(rows))
        sampled = time.perf_counter()
        self._progress("rewarding", 0, len(rows))
        scores = judge(self.scorer, rows, texts, generated.ids)
        self._progress("rewarding", len(rows), len(rows))
        self._seconds["rollout"] += sampled - started
        self._seconds["reward"] += time.perf_counter() - sampled
        return Rollout(prompts, group_size, generated, texts, scores)

    def _build_batch(self) -> dict[str, torch.Tensor]:
        """Build TRL's own advantages and tensors; its hooks (below) give it completions and rewards of ``_rollout``."""
        rollout = self._rollout
        self._metrics["train"].clear()
        self.model.train()
        # TRL's advantages take groups by position alone, and its prompts come from _tokenize_prompts.
        rows = [{"prompt": prompt.text} for prompt in rollout.prompts for _ in range(rollout.group_size)]
        with self.accelerator.autocast():
            return self._generate_and_score_completions(rows)  # type: ignore[no-any-return]

    def _leave_out_truncated(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the batch of the update: as TRL's ``mask_truncated_completions``, truncated completions have no token
        in the loss, and count in the baseline all the same. TRL itself would take one that a ``stop`` text ended for
        truncated.
        """
        if not self.spec.mask_truncated:
            return batch
        mask = batch["completion_mask"]
        whole = ~torch.tensor(self._rollout.generated.truncated, device=mask.device)
        mask = mask * whole.unsqueeze(1)
        return batch | {"completion_mask": mask, "num_items_in_batch": mask.sum()}

    def _leaves_out_rows(self) -> bool:
        """Tell whether rows without signal have no part in the update: KL and load balance are losses of theirs too."""
        return self.spec.signal_only and not self.beta and not self.aux_loss_enabled

    def _find_live(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Find the rows that the gradient at beta 0 needs, whatever their ratio to the old log-probabilities: those
        with tokens in the loss and an advantage, in groups whose rewards differ.

        Judged on rewards, since the mean of equal floats leaves equal rewards a tiny advantage.
        """
        advantages = batch["advantages"]
        mixed = torch.tensor([group.mixed for group in self._rollout.groups], device=advantages.device)
        mixed = mixed.repeat_interleave(self._rollout.group_size)
        return mixed & (advantages != 0) & batch["completion_mask"].any(-1)

    # ------------------------------------------------------------ the update

    def _update(self, batch: dict[str, torch.Tensor], rows: torch.Tensor) -> tuple[dict[str, float], str, bool]:
        """Take ``num_iterations`` optimizer steps on ``rows`` of the batch. Return the metrics, what went wrong, and
        whether the weights are lost.

        The loss is that of the first, when the model was the one that sampled; the gradient's norm is the largest and
        the shares of clipped tokens are means over all, as TRL logs them.
        """
        metrics: dict[str, float] = {"grad/norm": 0.0, "update/applied": 0.0}
        each: list[Metrics] = []
        for number in range(self.spec.num_iterations):
            each.append(self._accumulate(batch, rows))
            norm = self._clip()
            finite = math.isfinite(norm)
            metrics["grad/norm"] = max(norm, metrics["grad/norm"]) if finite else norm
            fault, lost = self._apply_gradient(norm)
            if finite:
                metrics["update/applied"] = 1.0
            elif number == 0:
                fault += ", so the update was discarded"
            else:
                fault += f", so updates from number {number + 1} on were discarded"
            if fault:
                break
        clipped = {name: fmean(made[name] for made in each) for name in CLIPPED if name in each[0]}
        return {**each[0], **clipped, **metrics}, fault, lost

    def _accumulate(self, batch: dict[str, torch.Tensor], rows: torch.Tensor) -> Metrics:
        """Add up the gradients of the step's loss from ``rows`` of the batch, in micro-batches that fit into memory."""
        return self._with_less_memory("micro_batch", len(self._rollout), lambda: self._try_accumulate(batch, rows))

    def _try_accumulate(self, batch: dict[str, torch.Tensor], rows: torch.Tensor) -> Metrics:
        self.model_wrapped.zero_grad()
        lengths = batch["completion_mask"].sum(-1)
        parts = list(pack_rows(rows.tolist(), lengths.tolist(), self.num_generations, self.micro_batch))
        again = self.spec.num_iterations > 1
        names = ("loss", *(CLIPPED if again else ()))
        sums = dict.fromkeys(names, 0.0)
        old = torch.zeros(batch["completion_mask"].shape, device=lengths.device)
        for done, part_rows in enumerate(parts):
            self._progress("updating", done, len(parts))
            self.accelerator.gradient_state._set_sync_gradients(done == len(parts) - 1)
            index = torch.tensor(part_rows, device=lengths.device)
            part = {name: value[index] if value.ndim else value for name, value in batch.items()}
            tokens = float(lengths[index].sum() / lengths.sum())
            # TRL's loss is a mean over the micro-batch; this makes it the micro-batch's part of the whole step's.
            # dapo divides by the tokens of the step itself.
            of_rows = len(part_rows) / len(lengths)
            share = {"dapo": 1.0, "bnpo": tokens}.get(self.loss_type, of_rows)
            self._balance_share = of_rows / share  # a mean over the micro-batch whatever the loss
            with self.accelerator.autocast():
                part_loss = self.compute_loss(self.model_wrapped, part) * share
            self.accelerator.backward(part_loss)
            old[index] = self._seen_log_probs
            sums["loss"] += float(part_loss.detach())
            for name in names[1:]:
                # Means over tokens; of rows that are left out none is clipped.
                sums[name] += self._metrics["train"][name][-1] * tokens
        self._progress("updating", len(parts), len(parts))
        if again and OLD not in batch:
            # The model has not moved since it sampled, so these are the old log-probabilities of the next iterations,
            # for which TRL takes a pass of its own.
            batch[OLD] = old
        return sums

    # ------------------------------------------------------------ TRL's hooks

    def _tokenize_prompts(self, prompts: Any) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Tokenize as the rollout did it, each with its own tools, which TRL does not know of."""
        encoded = [self.loaded.prompt_ids(prompt) for prompt in self._rollout.prompts]
        return [ids for ids in encoded for _ in range(self._rollout.group_size)], None, {}

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, has_tool_images: bool = False
    ) -> tuple[list[list[int]], None]:
        """Return the completions that were sampled for these prompts."""
        return self._rollout.generated.ids, None

    def _sample(self, prompt_ids: Sequence[Sequence[int]], seed: int) -> Generated:
        with unwrap_model_for_generation(self.model_wrapped, self.accelerator) as model, self._without_dropout():
            batches = generate_batches(
                model,
                self._tokenizer,
                prompt_ids,
                batch_size=self.rollout_batch,
                max_tokens=self.max_completion_length,
                temperature=self.temperature,
                top_p=self.spec.top_p,
                stop=self.spec.stop,
                seed=seed,
                lengths=self._lengths,
                report=lambda ended: self._progress("sampling", ended, len(prompt_ids)),
            )
            return join_generated(list(batches))

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        """Return their rewards; errored ones are NaN, which TRL's advantages leave out of the baseline."""
        rewards = [float("nan") if score.reward is None else score.reward for score in self._rollout.scores]
        return torch.tensor(rewards, device=self.accelerator.device).unsqueeze(1)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **images: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Compute TRL's, with each prompt encoded once where the model allows it. The load-balancing loss of a mixture
        of experts counts every token in its row, so there each completion carries its prompt."""
        if isinstance(model, Reference):
            with model.in_place():
                return self._get_per_token_logps_and_entropies(
                    self.model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy
                )
        width = input_ids.size(1) - logits_to_keep
        made = []
        with nullcontext() if torch.is_grad_enabled() else self._without_dropout():
            for start in range(0, len(input_ids), batch_size or len(input_ids)):
                part = slice(start, start + (batch_size or len(input_ids)))
                ids, mask = input_ids[part], attention_mask[part]
                made.append(
                    compute_log_probs(
                        model, ids[:, :width], mask[:, :width], ids[:, width:], mask[:, width:],
                        share=self._shares_prompts and not compute_aux_loss, balance=compute_aux_loss,
                    )
                )  # fmt: skip
        entropies = [each.entropy for each in made if each.entropy is not None]
        balance = [each.balance * self._balance_share for each in made if each.balance is not None]
        log_probs = torch.cat([each.log_probs for each in made])
        self._seen_log_probs = log_probs.detach()
        return (
            log_probs,
            torch.cat(entropies) if compute_entropy else None,
            torch.stack(balance).mean() if compute_aux_loss else None,
        )

    @contextmanager
    def _without_dropout(self) -> Iterator[None]:
        """Dropout belongs to the update alone: what is sampled or measured is the model without it."""
        was_training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(was_training)

    # ------------------------------------------------------------ KL

    def _measure_kl(self, batch: dict[str, torch.Tensor], seed: int) -> float:
        """Measure mean per-token KL of the model that sampled to the reference, by Schulman's k3 estimator.

        So does TRL's loss, but of the model in the update, which has dropout.
        """
        sampled, tokens = self._rollout.generated.log_probs, batch["completion_mask"]
        if self.beta and not self.spec.bf16:  # the loss has the reference of all rows, in bf16 under autocast
            ref = batch["ref_per_token_logps"]
        else:
            generator = torch.Generator().manual_seed(derive_seed(seed, "kl"))
            rows = torch.randperm(len(self._rollout), generator=generator)[:KL_SAMPLES].sort().values
            rows = rows.to(tokens.device)
            sampled, tokens = sampled[rows], tokens[rows]
            ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)[rows]
            mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)[rows]
            with torch.no_grad(), disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
                ref, _, _ = self._get_per_token_logps_and_entropies(self._reference, ids, mask, tokens.size(1))
        difference = ref - sampled
        kl = torch.exp(difference) - difference - 1
        return float((kl * tokens).sum() / tokens.sum().clamp(min=1))


def _scored_by_harness(**kwargs: Any) -> list[float]:
    """TRL wants a reward function at construction; StepTrainer scores in its own place."""
    raise RuntimeError("StepTrainer scores completions itself")
