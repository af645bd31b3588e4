"""docs/from-trl.md, from the tables that ``grpo init`` converts by: ``python -m tests.support.from_trl_doc``."""

from __future__ import annotations

from pathlib import Path

from harness.config.trl_fields import NOT_TAKEN, OLDER, SCRIPT, TAKEN, Taken

FILE = Path(__file__).parents[2] / "docs" / "from-trl.md"
HEAD = """<!-- Written by the program: make docs -->

# From TRL's GRPOTrainer

    grpo init --from grpo_config.json      # GRPOConfig(...).to_json_string(), or the arguments of `trl grpo` as JSON
    grpo check spec.toml
    grpo run spec.toml

`grpo init` writes a spec with the values below and lists what it could not take. The loss, its gradient and the
optimizer step are TRL's own, so equal values mean the same step. Three things are different:

- **Hyperparameters change while the run goes.** The spec has their first values. `--policy fixed` keeps them, as TRL
  does.
- **A step counts prompts, not completions.** TRL's batch of 64 completions in groups of 8 is `prompts_per_step = 8`.
- **Held-out prompts come from the same source**: `pool.splits` cuts probe, dev and test; there is no second data set.

Reward functions plug in as they are, with the columns that they name: `reward.function = ["rewards.py:accuracy",
"rewards.py:format"]`, with `reward.weights` as TRL's `reward_weights` and `reward.range` for the lowest and highest sum
([rewards.md](rewards.md)). A data set with `prompt` and more columns is read as it is ([pools.md](pools.md)).

## Fields that a spec takes

Of TRL 1.16's GRPOConfig. A configuration that does not name a field means TRL's default of it.

"""


def render() -> str:
    parts = [HEAD + _table("GRPOConfig", TAKEN)]
    parts.append(
        "## Arguments of the script\n\nOf `trl grpo`, where they stand in the same JSON.\n\n"
        + _table("argument", SCRIPT)
    )
    rows = [
        "## Fields that are not taken\n\n`grpo init` lists those that have another value than TRL's default.\n",
        "| GRPOConfig | here |",
        "|---|---|",
        *(f"| {', '.join(f'`{name}`' for name in fields)} | {reason} |" for reason, fields in NOT_TAKEN.items()),
        *(f"| `{name}` (before 1.16) | {reason} |" for name, reason in OLDER.items()),
    ]
    return "\n".join([*parts, *rows]) + "\n"


def _table(title: str, fields: dict[str, Taken]) -> str:
    rows = [
        f"| `{name}` | {_say_default(taken.default)} | `{taken.to}` | {taken.how} |" for name, taken in fields.items()
    ]
    return "\n".join([f"| {title} | TRL's default | spec | |", "|---|---|---|---|", *rows, ""])


def _say_default(value: object) -> str:
    return "unset" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
