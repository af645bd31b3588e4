"""From TRL's GRPOConfig to a spec: where each field goes, and why the others go nowhere.

    converted = convert_trl(json.loads(text))    # GRPOConfig.to_json_string(), or the arguments of `trl grpo` as JSON
    converted.tree                               # sections of a spec
    converted.left                               # what it does not say, with the reason

The fields are in harness/config/trl_fields.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.config.trl_fields import LOSE_NOTHING, NOT_TAKEN, OLDER, SCRIPT, TAKEN
from harness.core.knobs import DEFAULT_BOUNDS, KNOB_NAMES, LARGEST
from harness.errors import InputError

SCALE = {True: "group", False: "none"}
LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo")
SCALES = ("group", "batch", "none")
OPTIMIZERS = ("adamw_torch_fused", "adamw_torch", "adafactor", "sgd")
DECAYS = ("linear", "cosine")
CONSTANT = ("constant", "constant_with_warmup")
TEXTS = (
    *("model_name_or_path", "model_revision", "dtype", "run_name"),
    *("dataset_name", "dataset_config", "dataset_train_split"),
)
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
    if not isinstance(tree, Mapping):
        return False
    return len(tree.keys() & (TAKEN.keys() | SCRIPT.keys())) >= max(1, min(2, len(tree)))


def convert_trl(config: Mapping[str, Any]) -> Converted:
    """Convert a configuration; a field that it does not have counts with TRL's default where that shapes a step.

    Raises InputError for a value of the wrong kind.
    """
    for name, value in config.items():
        _check_kind(name, value)
    return _Conversion(config).run()


def _check_kind(name: str, value: Any) -> None:
    """Raise InputError for what no field of TRL holds; numbers are checked where they are taken."""
    if isinstance(value, int | float) and not -LARGEST <= value <= LARGEST:
        raise InputError(f"--from: {name} must be a finite number, not {value!r:.60}")
    if name in TEXTS and not isinstance(value, str | None):
        raise InputError(f"--from: {name} must be text, not {value!r:.60}")
    names = value if isinstance(value, list) else [value or ""]
    if name == "reward_funcs" and not all(isinstance(each, str) for each in names):
        raise InputError(f"--from: reward_funcs must be names of functions, not {value!r:.60}")


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
                self._leave(
                    name, f"not offered; {TAKEN[name].to} is one of {', '.join(allowed)}, now {TAKEN[name].default}"
                )
        scale = self._get("scale_rewards")
        self._put("scale_rewards", SCALE[scale] if isinstance(scale, bool) else scale)
        if isinstance(self.config.get("chat_template_kwargs"), Mapping):
            self._put("chat_template_kwargs", self.config["chat_template_kwargs"])
        if self.config.get("activation_checkpointing") is not None:
            self._put("activation_checkpointing", bool(self.config["activation_checkpointing"]))
        else:
            self._put("gradient_checkpointing", bool(self._get("gradient_checkpointing")))
        for name in ("temperature", "beta", "epsilon", "top_p", "weight_decay", "max_grad_norm", "learning_rate"):
            self._put(name, self._get(name))
        for name in ("num_iterations", "epsilon_high", "mask_truncated_completions"):
            if (value := self._get(name)) is not None:
                self._put(name, value)
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
            self._leave("lr_scheduler_type", "it decays to an end that only max_steps says, so the rate is constant")
        else:
            offered = ", ".join((*DECAYS, *CONSTANT))
            self._leave("lr_scheduler_type", f"not offered ({offered}), so the rate is constant")
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
        name = str(self.config.get("run_name") or "")
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
            self._leave("reward_funcs", "TRL's own: a file of yours that imports it, as reward.function")
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
        self._set((TAKEN[name] if name in TAKEN else SCRIPT[name]).to, value, name)

    def _set(self, to: str, value: Any, origin: str) -> None:
        section, _, field = to.rpartition(".")
        self.tree.setdefault(section, {})[field] = value
        self.origin[to] = origin

    def _leave(self, name: str, reason: str) -> None:
        value = self._get(name) if name in TAKEN else self.config[name]
        self.left.append((name, value, reason))
