"""From TRL's GRPOConfig to a spec: where each field goes, and why the others go nowhere.

    converted = convert_trl(json.loads(text))    # GRPOConfig.to_json_string(), or the arguments of `trl grpo` as JSON
    converted.tree                               # sections of a spec
    converted.left                               # what it does not say, with the reason

docs/from-trl.md is written from the tables here; a test holds them against the GRPOConfig that is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.core.knobs import DEFAULT_BOUNDS, KNOB_NAMES
from harness.errors import InputError


class Taken(NamedTuple):
    """The field of a spec that takes a field of TRL, whose default TRL 1.16 has, and how where not as it is. ``meant``:
    a configuration without the field means its default too."""

    to: str
    default: Any
    how: str = ""
    meant: bool = True


TAKEN: dict[str, Taken] = {
    "learning_rate": Taken("knobs.learning_rate", 1e-6),
    "temperature": Taken("knobs.temperature", 1.0),
    "max_completion_length": Taken("knobs.max_tokens", 512, "and `evaluate.max_tokens`"),
    "num_generations": Taken("knobs.group_size", 8),
    "per_device_train_batch_size": Taken(
        "knobs.prompts_per_step",
        8,
        "times `gradient_accumulation_steps`, divided by `num_generations`: prompts, not completions; times your number "
        "of processes, which the configuration does not say. Also `trainer.micro_batch`, as it is",
    ),
    "gradient_accumulation_steps": Taken("knobs.prompts_per_step", 1, "as above; here it never changes the result"),
    "beta": Taken("knobs.beta", 0.0),
    "epsilon": Taken("trainer.epsilon", 0.2),
    "loss_type": Taken("trainer.loss_type", "dapo", "`grpo`, `bnpo`, `dr_grpo`, `dapo`"),
    "scale_rewards": Taken("trainer.scale_rewards", "group", "true is `group`, false is `none`"),
    "top_p": Taken("trainer.top_p", 1.0),
    "optim": Taken(
        "trainer.optimizer", "adamw_torch_fused", "`adamw_torch_fused`, `adamw_torch`, `adafactor`, `sgd`"
    ),
    "weight_decay": Taken("trainer.weight_decay", 0.0),
    "max_grad_norm": Taken("trainer.max_grad_norm", 1.0),
    "lr_scheduler_type": Taken(
        "trainer.lr_scheduler",
        "linear",
        "a rate that decays needs `max_steps`, which becomes `scheduler_total_steps`; else it is constant",
    ),
    "warmup_steps": Taken("trainer.warmup_steps", 0, "a fraction is taken of `max_steps`"),
    "max_steps": Taken("budget.steps", -1),
    "gradient_checkpointing": Taken("trainer.gradient_checkpointing", True),
    "activation_checkpointing": Taken("trainer.gradient_checkpointing", None, "the newer name", meant=False),
    "seed": Taken("seed", 42, meant=False),
    "run_name": Taken("name", None, meant=False),
    "save_steps": Taken("checkpoint.every", 500, "a whole number of steps", meant=False),
    "save_total_limit": Taken("checkpoint.keep", None, meant=False),
    "eval_steps": Taken("evaluate.every", None, "a whole number of steps", meant=False),
    "per_device_eval_batch_size": Taken("evaluate.batch", 8, meant=False),
}

SCRIPT: dict[str, Taken] = {
    "model_name_or_path": Taken("model.name", None),
    "model_revision": Taken("model.revision", "main"),
    "dtype": Taken("model.dtype", None),
    "load_in_4bit": Taken("model.quantization", False, "true is `4bit`"),
    "use_peft": Taken("lora.rank", False, "false is 0: full weights"),
    "lora_r": Taken("lora.rank", 16),
    "lora_alpha": Taken("lora.alpha", 32),
    "lora_dropout": Taken("lora.dropout", 0.05),
    "lora_target_modules": Taken("lora.target_modules", None),
    "dataset_name": Taken("pool.source", None, "`hub:NAME?config=...&split=...`, or the file"),
    "dataset_config": Taken("pool.source", None, "as above"),
    "dataset_train_split": Taken("pool.source", "train", "as above"),
    "reward_funcs": Taken(
        "reward.function", None, "`lib.rewards.custom` is `lib.rewards:custom`; TRL's own need a file that imports them"
    ),
    "reward_weights": Taken("reward.weights", None, "with `reward_funcs`; else write it beside `reward.function`"),
}
"""Of the script ``trl grpo``: its arguments for model, LoRA and data, and the weights that go with its rewards."""

NOT_TAKEN: dict[str, dict[str, tuple[Any, ...]]] = {
    "the present step has one update per rollout, so there is no ratio to clip but 1": {
        "num_iterations": (1,),
        "steps_per_generation": (None,),
        "generation_batch_size": (None,),
        "epsilon_high": (None,),
        "delta": (None,),
        "importance_sampling_level": ("token",),
        "off_policy_mask_threshold": (None,),
        "use_bias_correction_kl": (True,),
    },
    "parameters of losses that are not offered here (`trainer.loss_type`)": {
        "sapo_temperature_neg": (1.05,),
        "sapo_temperature_pos": (1.0,),
        "vespo_k_pos": (2.0,),
        "vespo_lambda_pos": (3.0,),
        "vespo_k_neg": (3.0,),
        "vespo_lambda_neg": (2.0,),
    },
    "cut completions count with the reward that they get; a rising share of them is found and `max_tokens` raised": {
        "mask_truncated_completions": (False,),
    },
    "a step samples from the model's own distribution at a temperature (and `trainer.top_p`)": {
        "top_k": (0,),
        "min_p": (None,),
        "repetition_penalty": (1.0,),
        "generation_kwargs": (None,),
        "cache_implementation": (None,),
    },
    "arguments of your template: write them as `pool.template_kwargs`": {"chat_template_kwargs": (None,)},
    "weighted rewards are added, then normalised": {"multi_objective_aggregation": ("sum_then_normalize",)},
    "the KL is measured against the initial model all the time": {
        "sync_ref_model": (False,),
        "ref_model_mixup_alpha": (0.6,),
        "ref_model_sync_steps": (512,),
    },
    "no bonus on entropy: its collapse is found, and temperature or learning rate answer it": {
        "top_entropy_quantile": (1.0,),
        "entropy_coef": (0.0,),
        "use_adaptive_entropy": (False,),
        "entropy_coef_min": (0.0,),
        "entropy_coef_max": (1.0,),
        "entropy_coef_delta": (0.005,),
        "entropy_target": (0.2,),
    },
    "one turn: a completion calls no tools during a rollout": {"max_tool_calling_iterations": (None,)},
    "set when the optimizer is built; they stay at these values": {
        "adam_beta1": (0.9,),
        "adam_beta2": (0.999,),
        "adam_epsilon": (1e-8,),
        "optim_args": (None,),
        "optim_target_modules": (None,),
        "lr_scheduler_kwargs": (None,),
        "neftune_noise_alpha": (None,),
        "label_smoothing_factor": (0.0,),
    },
    "how long a run is, is said in steps or hours (`budget.steps`, `budget.hours`)": {"num_train_epochs": (3.0,)},
    "prompts are drawn by `pool.sampler` from the train split; test and dev are splits of the same source": {
        "shuffle_dataset": (True,),
        "data_seed": (None,),
        "train_sampling_strategy": ("random",),
        "length_column_name": ("length",),
        "label_names": (None,),
        "remove_unused_columns": (False,),
        "ignore_data_skip": (False,),
    },
    "the model is loaded as `[model]` says: `dtype`, `revision`, `quantization`, `max_length`": {
        "model_init_kwargs": (None,),
        "trust_remote_code": (False,),
        "bf16": (None, True, False),
        "fp16": (False,),
        "bf16_full_eval": (False,),
        "fp16_full_eval": (False,),
        "tf32": (None,),
        "cast_lm_head_to_fp32": (False,),
        "disable_dropout": (False,),
        "router_aux_loss_coef": (None,),
        "use_cache": (False,),
    },
    "sampling is the model's own, in the same process (docs/scale.md)": {
        "use_vllm": (False,),
        "vllm_mode": ("colocate",),
        "vllm_model_impl": ("vllm",),
        "vllm_enable_sleep_mode": (False,),
        "vllm_structured_outputs_regex": (None,),
        "vllm_server_base_url": (None,),
        "vllm_server_host": ("0.0.0.0",),
        "vllm_server_port": (8000,),
        "vllm_server_timeout": (240.0,),
        "vllm_group_port": (51216,),
        "vllm_gpu_memory_utilization": (0.3,),
        "vllm_max_model_length": (None,),
        "vllm_tensor_parallel_size": (1,),
        "vllm_importance_sampling_correction": (True,),
        "vllm_importance_sampling_mode": ("sequence_mask",),
        "vllm_importance_sampling_clip_max": (3.0,),
        "vllm_importance_sampling_clip_min": (None,),
        "vllm_importance_sampling_cap": (None,),
        "use_transformers_continuous_batching": (False,),
        "transformers_continuous_batching_config": (None,),
        "use_transformers_paged": (False,),
    },
    "one process with one device": {
        "ds3_gather_for_generation": (True,),
        "ddp_find_unused_parameters": (None,),
        "ddp_bucket_cap_mb": (None,),
        "ddp_broadcast_buffers": (None,),
        "ddp_static_graph": (None,),
        "ddp_backend": (None,),
        "ddp_timeout": (1800,),
        "fsdp": (None,),
        "fsdp_config": (None,),
        "deepspeed": (None,),
        "accelerator_config": (None,),
        "parallelism_config": (None,),
        "local_rank": (-1,),
        "average_tokens_across_devices": (True,),
        "use_cpu": (False,),
    },
    "speed and memory are looked after: micro-batches shrink when memory is short (`trainer.micro_batch`)": {
        "activation_checkpointing_kwargs": (None,),
        "gradient_checkpointing_kwargs": (None,),
        "torch_compile": (False,),
        "torch_compile_backend": (None,),
        "torch_compile_mode": (None,),
        "use_liger_kernel": (False,),
        "liger_kernel_config": (None,),
        "torch_empty_cache_steps": (None,),
        "auto_find_batch_size": (False,),
        "pad_to_multiple_of": ("auto", None),
        "skip_memory_metrics": (True,),
        "dataloader_drop_last": (False,),
        "dataloader_num_workers": (0,),
        "dataloader_pin_memory": (True,),
        "dataloader_persistent_workers": (False,),
        "dataloader_prefetch_factor": (None,),
        "dataloader_multiprocessing_context": (None,),
        "dataloader_in_order": (True,),
    },
    "every step is recorded in the database of the run, with completions; `grpo watch` and `review` show it": {
        "output_dir": (None,),
        "logging_strategy": ("steps",),
        "logging_steps": (10,),
        "logging_first_step": (False,),
        "log_on_each_node": (True,),
        "logging_nan_inf_filter": (True,),
        "include_num_input_tokens_seen": ("no",),
        "log_level": ("passive",),
        "log_level_replica": ("warning",),
        "disable_tqdm": (None, True, False),
        "report_to": ("none", []),
        "project": ("huggingface",),
        "trackio_space_id": (None,),
        "trackio_bucket_id": (None,),
        "trackio_static_space_id": (None,),
        "log_completions": (False,),
        "log_multimodal": (True,),
        "num_completions_to_print": (None,),
        "log_unique_prompts": (False,),
        "log_completions_hub_repo": (None,),
        "debug": ("", []),
    },
    "dev is evaluated every `evaluate.every` steps, test before and after": {
        "num_generations_eval": (None,),
        "eval_strategy": ("no", "steps"),
        "eval_delay": (0,),
        "prediction_loss_only": (False,),
        "eval_on_start": (False,),
        "eval_do_concat_batches": (True,),
        "eval_use_gather_object": (False,),
        "eval_accumulation_steps": (None,),
        "include_for_metrics": ([],),
        "batch_eval_metrics": (False,),
        "do_train": (False, True),
        "do_eval": (False, True),
        "do_predict": (False,),
    },
    "checkpoints hold all that a resume needs (`grpo resume`); the best by dev stays, and `grpo export` writes a model": {
        "save_only_model": (False,),
        "save_strategy": ("steps",),
        "save_on_each_node": (False,),
        "enable_jit_checkpoint": (False,),
        "load_best_model_at_end": (False,),
        "metric_for_best_model": (None,),
        "greater_is_better": (None,),
        "restore_callback_states_from_checkpoint": (False,),
        "resume_from_checkpoint": (None,),
        "full_determinism": (False,),
        "push_to_hub": (False,),
        "hub_token": (None, "<HUB_TOKEN>"),
        "hub_private_repo": (None,),
        "hub_model_id": (None,),
        "hub_strategy": ("every_save",),
        "hub_always_push": (False,),
        "hub_revision": (None,),
    },
}
"""Reason -> fields -> the values at which nothing is lost: TRL's default first, then what it resolves to by itself."""

SCALE = {True: "group", False: "none"}
LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo")
SCALES = ("group", "batch", "none")
OPTIMIZERS = ("adamw_torch_fused", "adamw_torch", "adafactor", "sgd")
DECAYS = ("linear", "cosine")
CONSTANT = ("constant", "constant_with_warmup")
LOSE_NOTHING = {"accelerator_config", "hub_token", "generation_batch_size"}
"""Resolved by TRL from other fields, so a saved configuration always has them."""
OLDER = {"max_prompt_length": "a prompt is never cut; one that leaves no room in the context is refused by name"}
"""Of TRL before 1.16; ``warmup_ratio`` is read as a fraction of ``warmup_steps``."""
UNKNOWN = "no field of TRL 1.16's GRPOConfig or of its script"


@dataclass(frozen=True, slots=True)
class Converted:
    """Sections of a spec (``tree``; "" holds its top level), which field of TRL each value came from (``origin``, by
    ``section.field``), and what is ``left``: field, its value and why."""

    tree: Mapping[str, dict[str, Any]]
    origin: Mapping[str, str]
    left: tuple[tuple[str, Any, str], ...]


def is_trl_config(tree: Any) -> bool:
    """Tell whether parsed JSON is a configuration of TRL, and not a row or a spec."""
    return isinstance(tree, Mapping) and len(tree.keys() & (TAKEN.keys() | SCRIPT.keys())) >= min(2, len(tree))


def convert_trl(config: Mapping[str, Any]) -> Converted:
    """Convert a configuration; a field that it does not have counts with TRL's default where that shapes a step."""
    return _Conversion(config).run()


class _Conversion:
    def __init__(self, config: Mapping[str, Any]) -> None:
        ratio = {"warmup_steps": config["warmup_ratio"]} if config.get("warmup_ratio") else {}
        self.config = {name: value for name, value in config.items() if name != "warmup_ratio"} | ratio
        self.tree: dict[str, dict[str, Any]] = {}
        self.origin: dict[str, str] = {}
        self.left: list[tuple[str, Any, str]] = []

    def run(self) -> Converted:
        self._step()
        self._schedule()
        for name, allowed in (("loss_type", LOSSES), ("optim", OPTIMIZERS)):
            if (value := self._get(name)) in allowed:
                self._put(name, value)
            else:
                self._leave(name, f"one of {', '.join(allowed)}; the first step has {TAKEN[name].default}")
        scale = self._get("scale_rewards")
        self._put("scale_rewards", SCALE[scale] if isinstance(scale, bool) else scale)
        if self.config.get("activation_checkpointing") is not None:
            self._put("activation_checkpointing", bool(self.config["activation_checkpointing"]))
        else:
            self._put("gradient_checkpointing", bool(self._get("gradient_checkpointing")))
        for name in ("temperature", "beta", "epsilon", "top_p", "weight_decay", "max_grad_norm", "learning_rate"):
            self._put(name, self._get(name))
        self._evaluate_and_save()
        self._model()
        self._data_and_rewards()
        self._bounds()
        self._list_the_rest()
        return Converted(self.tree, self.origin, tuple(self.left))

    # ------------------------------------------------------------ by theme

    def _step(self) -> None:
        group = max(2, int(self._get("num_generations") or 8))
        micro_batch = int(self._get("per_device_train_batch_size"))
        completions = micro_batch * int(self._get("gradient_accumulation_steps"))
        self._put("num_generations", group)
        self._put("max_completion_length", self._get("max_completion_length") or 512)
        self._set("evaluate.max_tokens", self._get("max_completion_length") or 512, "max_completion_length")
        how = "per_device_train_batch_size x gradient_accumulation_steps / num_generations"
        self._set("knobs.prompts_per_step", max(1, completions // group), how)
        self._set("trainer.micro_batch", micro_batch, "per_device_train_batch_size")

    def _schedule(self) -> None:
        kind, steps = str(self._get("lr_scheduler_type")), int(self._get("max_steps"))
        kind = kind.rpartition(".")[2].lower()  # SchedulerType.COSINE
        if steps > 0:
            self._put("max_steps", steps)
        if kind in CONSTANT or (kind in DECAYS and steps > 0):
            self._put("lr_scheduler_type", kind)
            if kind in DECAYS:
                self._set("trainer.scheduler_total_steps", steps, "max_steps")
        elif kind in DECAYS:
            self._leave("lr_scheduler_type", "it decays to an end that only max_steps says, so the rate is constant", kind)
        else:
            self._leave("lr_scheduler_type", f"one of {', '.join((*DECAYS, *CONSTANT))}; the rate is constant", kind)
        warmup = float(self._get("warmup_steps") or 0)
        if warmup >= 1:
            self._put("warmup_steps", int(warmup))
        elif warmup and steps > 0:
            self._put("warmup_steps", max(1, round(warmup * steps)))
        elif warmup:
            self._leave("warmup_steps", "a fraction of what only max_steps says")

    def _evaluate_and_save(self) -> None:
        for name in ("seed", "save_steps", "save_total_limit", "eval_steps", "per_device_eval_batch_size"):
            value = self.config.get(name)
            if isinstance(value, int | float) and value == int(value) and (value >= 1 or name == "seed"):
                self._put(name, int(value))
            elif value is not None:
                self._leave(name, "a whole number of steps")
        name = self.config.get("run_name")
        if name and name != self.config.get("output_dir"):
            if all(c.isalnum() or c in "-_." for c in name) and len(name) <= 80 and name != "latest":
                self._put("run_name", name)
            else:
                self._leave("run_name", "letters, digits, '-', '_' or '.'")

    def _model(self) -> None:
        config = self.config
        for name, skip in (("model_name_or_path", None), ("model_revision", "main"), ("dtype", None)):
            if (value := config.get(name)) is not None and value != skip:
                self._put(name, value)
        if config.get("load_in_4bit"):
            self._put("load_in_4bit", "4bit")
        if config.get("use_peft"):
            for name in ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"):
                if (value := config.get(name, SCRIPT[name].default)) is not None:
                    self._put(name, value)
        elif "model_name_or_path" in config:
            self._put("use_peft", 0)

    def _data_and_rewards(self) -> None:
        config = self.config
        if name := config.get("dataset_name"):
            parts = {"config": config.get("dataset_config"), "split": config.get("dataset_train_split")}
            query = "&".join(f"{key}={value}" for key, value in parts.items() if value)
            file = name.endswith((".jsonl", ".json", ".csv", ".parquet"))
            self._put("dataset_name", name if file else f"hub:{name}" + (f"?{query}" if query else ""))
        functions = config.get("reward_funcs") or []
        functions = [functions] if isinstance(functions, str) else list(functions)
        if functions and all("." in name for name in functions):
            self._put("reward_funcs", [":".join(name.rsplit(".", 1)) for name in functions])
            if config.get("reward_weights"):
                self._put("reward_weights", config["reward_weights"])
            return
        if functions:
            self._leave("reward_funcs", "TRL's own: a file of yours that imports it, as reward.function = 'file.py:name'")
        if config.get("reward_weights"):
            self._leave("reward_weights", "goes beside reward.function, one weight for each: reward.weights")

    def _bounds(self) -> None:
        for name, value in self.tree.get("knobs", {}).items():
            low, high = DEFAULT_BOUNDS[name] if name in KNOB_NAMES else (value, value)
            if not low <= value <= high:
                self._set(f"bounds.{name}", [min(low, value), max(high, value)], "beyond the usual bounds")

    def _list_the_rest(self) -> None:
        reasons = {name: (reason, quiet) for reason, fields in NOT_TAKEN.items() for name, quiet in fields.items()}
        told = {name for name, _, _ in self.left}
        for name, value in self.config.items():
            if name in reasons:
                reason, quiet = reasons[name]
                if name == "steps_per_generation":
                    quiet = (*quiet, self._get("gradient_accumulation_steps"))
                if value not in quiet and name not in LOSE_NOTHING:
                    self._leave(name, reason)
            elif name not in TAKEN and name not in SCRIPT and name not in told and value is not None:
                self._leave(name, OLDER.get(name, UNKNOWN))

    # ------------------------------------------------------------ small change

    def _get(self, name: str) -> Any:
        """Return the value, TRL's default where there is none. Raises InputError where a number is none."""
        value, default = self.config.get(name), TAKEN[name].default
        if value is None:
            return default
        if isinstance(default, bool | str) or default is None or type(value) in (int, float):
            return value
        try:
            number = float(value)  # YAML reads 1e-6 as text
        except (TypeError, ValueError):
            raise InputError(f"--from: {name} must be a number, not {value!r:.60}") from None
        return int(number) if isinstance(default, int) and number == int(number) else number

    def _put(self, name: str, value: Any) -> None:
        if name in self.config or (name in TAKEN and TAKEN[name].meant) or name == "use_peft":
            taken = TAKEN[name] if name in TAKEN else SCRIPT[name]
            self._set(taken.to, value, name)

    def _set(self, to: str, value: Any, origin: str) -> None:
        section, _, field = to.rpartition(".")
        self.tree.setdefault(section, {})[field] = value
        self.origin[to] = origin

    def _leave(self, name: str, reason: str, value: Any = None) -> None:
        self.left.append((name, self._get(name) if value is None and name in TAKEN else value or self.config.get(name), reason))
