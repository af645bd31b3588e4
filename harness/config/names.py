"""The names that a spec takes: recipes, models, decision policies, alerts, environment variables.

Apart from harness.config.schema, which takes a while to import, since the shell asks for some of them at every Tab.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

from harness.llm.names import RECORDED

LLM_MODEL = "claude-haiku-5-5"
"""That decision policy llm asks unless the spec says."""
DEFAULT_RECIPE = "arithmetic"
RECIPE_FILE = "recipe.toml"
"""The spec of a recipe that is a folder."""
SPEC_FILE = "spec.toml"
"""What ``grpo init`` writes, and what is loaded in its folder when no spec is named."""
TINY = "tiny"
SMOLLM2 = "smollm2-135m"
KNOWN_MODELS = (TINY, SMOLLM2)
"""Models that need no hub: embedded (harness/models/tiny.py), fetched once (harness/models/smollm2.py)."""
ANSWERERS = ("anthropic:", "openai:", RECORDED)
"""What a name begins with that is no model of ours: a service's, or a file of recorded answers."""
POLICY_KINDS = ("rules", "fixed", "llm")
REPLAY = "replay:"
"""Before the name of a run: the decision policy that repeats its decisions."""

JUDGE = "rewards.judge"
"""Before ``:NAME``: the reward that the judge of section [judge.NAME] is."""

AlertKind = Literal["finished", "stopped", "failed", "waiting", "stuck", "dev_fell", "silent", "llm_silent"]
ALERT_KINDS: tuple[AlertKind, ...] = get_args(AlertKind)
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""``${NAME}``: what the environment variable holds, which is not kept with the run."""


def is_judge(function: str) -> bool:
    """Tell whether a reward function is a judge by its name."""
    return function == JUDGE or function.startswith(f"{JUDGE}:")


def judge_name(function: str) -> str:
    """Return the name of a judge, "" where its function has none."""
    return function.removeprefix(JUDGE).removeprefix(":")


def recipe_folder() -> Path:
    """Find the recipes: beside the packages in a checkout, inside ``harness`` in a wheel."""
    inside = Path(str(resources.files("harness"))) / "recipes"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "runs" / "recipes"


def recipe_names() -> list[str]:
    return sorted(_recipes())


def find_recipe(name: str) -> Path | None:
    """Find a recipe's spec: ``NAME.toml``, or ``NAME/recipe.toml`` with its data beside it. None when there is none."""
    return _recipes().get(name)


def list_recipes() -> dict[str, str]:
    """Say in one line what each recipe is for, by name: the first line of its spec, a comment."""
    found = {}
    for name, path in sorted(_recipes().items()):
        with path.open(encoding="utf-8") as file:
            found[name] = file.readline().strip("# \n")
    return found


def _recipes() -> dict[str, Path]:
    folder = recipe_folder()
    return {path.stem: path for path in folder.glob("*.toml")} | {
        path.parent.name: path for path in folder.glob(f"*/{RECIPE_FILE}")
    }
