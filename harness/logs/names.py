"""What other trainers call our metrics (docs/glossary.md), and what follows from a metric that is there.

A column belongs here only if it means what ours means; what is missing stays missing. Left out on purpose: the
divergences between sampler and trainer, or before and after one update (tinker ``optim/kl_sample_train_*``, verl
``actor/ppo_kl``, ``approx_kl``), since ``kl/mean`` is measured against the initial model; slime's ``rollout/rewards``,
which are normalised; the one reward function among several that counts right answers, since none of them says that
it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from harness.core.formatting import clean
from harness.errors import InputError

NAMES: Mapping[str, tuple[str, ...]] = {
    ours: (ours, *theirs.split())
    for ours, theirs in {
        # Of TRL, ms-swift, OpenRLHF; verl; tinker-cookbook; EasyR1; slime; SkyRL; open-instruct; then plain words.
        "reward/mean": "reward critic/score/mean critic/rewards/mean env/all/reward/total reward/total reward/overall "
        "rollout/raw_reward reward/avg_raw_reward scores reward_mean mean_reward rewards/mean rewards/*/mean",
        # TRL: once the mean spread within groups, now the spread of the whole batch.
        "reward/std": "reward_std std_reward",
        "group/no_signal_rate": "frac_reward_zero_std",
        "group/mixed_rate": "env/all/by_group/frac_mixed by_group/frac_mixed",
        # tinker calls a group without spread good from a reward of 0.5 on, so its two shares hold zero-variance groups.
        "group/all_one_rate": "env/all/by_group/frac_all_good by_group/frac_all_good",
        "group/all_zero_rate": "env/all/by_group/frac_all_bad by_group/frac_all_bad",
        "completion/correct_rate": "env/all/correct critic/acc/mean reward/accuracy objective/verifiable_correct_rate "
        "accuracy correct correct_rate",
        "completion/truncated_rate": "completions/clipped_ratio response_length/clip_ratio rollout/truncated_ratio "
        "truncated truncated_rate truncation_rate",
        # tinker counts tokens of a turn: of a completion where episodes have one turn.
        "completion/tokens_mean": "completions/mean_length completion_length response_length/mean "
        "env/all/ac_tokens_per_turn rollout/response_lengths rollout/response_len/mean generate/avg_num_tokens "
        "val/sequence_lengths response_length mean_completion_length",
        "completion/tokens_max": "completions/max_length response_length/max rollout/response_len/max",
        # Both of verl's are entropies: the loss is before its sign and coefficient.
        "entropy/mean": "entropy actor/entropy actor/entropy_loss optim/entropy policy/policy_entropy entropy_loss",
        # verl: as a loss, or as a penalty in the reward. TRL logs it only where beta is not 0.
        "kl/mean": "kl actor/kl_loss actor/reward_kl_penalty critic/kl kl_policy_base objective/kl kl_loss",
        "learning_rate": "lr actor/lr optim/lr policy/policy_lr actor_lr",
        "grad/norm": "grad_norm actor/grad_norm optim/unclipped_grad_l2:mean unclipped_grad_l2:mean optim/grad_norm "
        "policy/raw_grad_norm policy/grad_norm actor_grad_norm",
        "loss": "actor/loss actor/pg_loss policy/final_loss policy/policy_loss policy_loss loss/policy_avg",
        "dev": "eval_reward eval/reward eval_accuracy eval/accuracy test/env/all/correct test/env/all/reward/total "
        "val-core/*/acc/mean@* val-core/*/reward/mean@* val/test_score/* val/accuracy_reward val/reward_score "
        "test/*/correct test/*/reward/total eval_rewards/*/mean eval/rewards/*/mean eval/all/avg_score",
        # The trainer's own number before W&B's, which counts calls of its log. ms-swift writes "300/2622".
        "step": "global_step training/global_step trainer/global_step global_step/max_steps iteration iter "
        "progress/batch rollout/step _step",
    }.items()
}
"""Ours to theirs, the best first, without the prefixes that ``shorten`` takes off. ``*`` stands for any text."""

_PLAIN = {name for names in NAMES.values() for name in names if "*" not in name}
_PATTERNS = [name for names in NAMES.values() for name in names if "*" in name]
PREFIXES = ("train/", "metrics/", "data/")
"""Of W&B, of some loggers, of verl's file logger."""


def shorten(name: str) -> str:
    """Return a column's name as the table has it: without the run that W&B puts before it, and the prefixes."""
    short = name.rpartition(" - ")[2].strip().lower().replace(" / ", "/")  # notebooks print "rewards / NAME / mean"
    while prefix := next((prefix for prefix in PREFIXES if short.startswith(prefix)), ""):
        short = short.removeprefix(prefix)
    return "loss" if short == "training loss" else short


def run_of(name: str) -> str:
    """Return the run that W&B puts before a column's name ("RUN - train/reward"), "" without one."""
    return name.rpartition(" - ")[0]


def check_renamed(renamed: Mapping[str, str]) -> None:
    """Refuse what no log can satisfy. Raises InputError."""
    for ours, theirs in renamed.items():
        if ours not in NAMES:
            known = ", ".join(NAMES)
            raise InputError(clean(f"--map {ours}={theirs}: no metric is called {ours}; these are: {known}"))
        twice = [other for other, name in renamed.items() if name == theirs]
        if len(twice) > 1:
            raise InputError(clean(f"--map: {theirs} is named for {' and for '.join(twice)}; name a column once"))


def may_be_read(name: str, renamed: Mapping[str, str]) -> bool:
    """Tell whether a column can be one of ours, whatever else is in the log."""
    short = shorten(name)
    return (
        short in _PLAIN
        or short in {shorten(theirs) for theirs in renamed.values()}
        or any(fnmatchcase(short, pattern) for pattern in _PATTERNS)
    )


def find_column(ours: str, columns: Iterable[str], renamed: Mapping[str, str]) -> tuple[str, ...]:
    """Return the columns that the best name in the log fits: one, none, or several where a pattern fits several.

    Raises InputError where ``renamed`` names a column that is not among ``columns``.
    """
    index: dict[str, str] = {}
    for name in columns:
        short = shorten(name)
        if short not in index or name == short:  # "reward" itself before "train/reward"
            index[short] = name
    if ours in renamed:
        theirs = renamed[ours]
        found = theirs if theirs in columns else index.get(shorten(theirs))
        if found is None:
            wanted = clean(f"--map {ours}={theirs}: the log has no numeric column {theirs}")
            raise InputError(f"{wanted}; it has {few(columns)}")
        return (found,)
    for pattern in NAMES[ours]:
        fits = [name for short, name in index.items() if fnmatchcase(short, pattern)] if "*" in pattern else []
        if pattern in index:
            fits = [index[pattern]]
        if fits:
            return tuple(fits)
    return ()


def derive(metrics: dict[str, float]) -> None:
    """Add what follows from the shares that are there: a group is mixed, or it has no signal."""
    if "group/no_signal_rate" not in metrics:
        if "group/mixed_rate" in metrics:
            metrics["group/no_signal_rate"] = 1 - metrics["group/mixed_rate"]
        elif "group/all_one_rate" in metrics and "group/all_zero_rate" in metrics:
            metrics["group/no_signal_rate"] = min(1.0, metrics["group/all_one_rate"] + metrics["group/all_zero_rate"])
    if "group/mixed_rate" not in metrics and "group/no_signal_rate" in metrics:
        metrics["group/mixed_rate"] = 1 - metrics["group/no_signal_rate"]


def few(names: Iterable[str], limit: int = 8) -> str:
    """Write the first of some names for a message, those that speak of rewards before others."""
    every = sorted(map(clean, names), key=lambda name: ("reward" not in name.lower(), name))
    return (", ".join(every[:limit]) or "none") + (f" and {len(every) - limit} more" if len(every) > limit else "")
