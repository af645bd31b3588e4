"""Start a folder: a spec made from what somebody has, and a reward to fill in where none of ours fits."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.starting.trl import read_trl_config, start_from_trl
from harness.config.names import DEFAULT_RECIPE, SMOLLM2, SPEC_FILE, find_recipe, list_recipes
from harness.core.formatting import clean
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.commands.starting.data import Data
    from harness.commands.starting.text import Line

REWARD_FILE = "reward.py"
FORMS = {
    "rewards.math": ("\\boxed", "Think step by step, and give the final answer in \\boxed{}."),
    "rewards.math:boxed": ("\\boxed", "Think step by step, and give the final answer in \\boxed{}."),
    "rewards.math:hashes": ("####", "Think step by step. End with a line that holds #### and the answer alone."),
    "rewards.math:solution": ("<SOLUTION>", "Think step by step, then give the answer as <SOLUTION>...</SOLUTION>."),
    "rewards.code": ("```", "Write the program in one block that begins with ```python and ends with ```."),
}
"""How the model is told of the form that a verifier reads, and the mark by which prompts show that they do so."""
NO_VERIFIER = (
    f"no verifier of ours reads these ground truths: {REWARD_FILE} compares texts; write there what is right, a rule "
    "or a judge, or train on the answers (SFT) where nobody can say"
)
NOTHING_RIGHT = (
    f"nothing here is verifiable, since no row says what is right: write a judge or a rule in {REWARD_FILE}; with "
    "answers that people preferred use a method for preferences (DPO), with good answers SFT"
)
MAX_TOKENS = {"rewards.function_call": 96, "rewards.code": 192}
DEFAULT_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Started:
    """The ``files`` that were written, what was found (``says``), what TRL's configuration says and a spec does not
    (``left``: field, value, reason), and the ``next`` commands."""

    files: tuple[Path, ...]
    says: tuple[str, ...]
    left: tuple[tuple[str, Any, str], ...]
    next: tuple[str, ...]


def recipes() -> dict[str, str]:
    """Say in one line what each recipe is for, by name."""
    return list_recipes()


def init(source: str | None = None, *, out: str = ".") -> Started:
    """Write spec.toml, and reward.py where no verifier of ours fits, into the folder ``out``; nothing is overwritten.

    ``source`` is any source of prompts (a file, ``hub:...``), the JSON of TRL's GRPOConfig, or a recipe, which is
    copied with its rows; without one it is the default recipe. Raises InputError, and then nothing was written.
    """
    folder = Path(out)
    _check_folder(folder)
    if source is not None and not source.strip():  # an unset variable of a shell
        raise InputError("--from: it is empty; give data, a configuration or a recipe, or leave it out")
    left: list[tuple[str, Any, str]] = []
    if recipe := find_recipe(source or DEFAULT_RECIPE):
        says, texts = _start_from_recipe(source or DEFAULT_RECIPE, recipe)
    elif source is None:
        raise InputError(f"the recipe {DEFAULT_RECIPE} is missing: install the package again")
    elif (config := read_trl_config(source)) is not None:
        says, left, texts = start_from_trl(source, config)
    else:
        says, texts = _start_from_data(source, folder)
    return _write(folder, texts, says, left)


def _start_from_recipe(name: str, recipe: Path) -> tuple[list[str], dict[str, str]]:
    """Copy a recipe, with the rows that lie beside it."""
    text = recipe.read_text(encoding="utf-8")
    rows = tomllib.loads(text).get("pool", {}).get("source", "")
    beside = {rows: (recipe.parent / rows).read_text(encoding="utf-8")} if (recipe.parent / rows).is_file() else {}
    return [f"the recipe {name}: {list_recipes()[name]}"], {SPEC_FILE: text, **beside}


# ---------------------------------------------------------------- from data


def _start_from_data(source: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    from harness.checks.inputs import build_splits
    from harness.commands.starting.data import look_at
    from harness.commands.starting.text import render_template, write_spec
    from harness.config.load import parse_spec

    try:
        data = look_at(source)
    except InputError as error:
        raise InputError(re.sub(r"^pool\.source: ", "--from: ", str(error))) from None
    said = f"{Path(source).name}: {data.says.partition(';')[0]}."
    head = [clean(said), "", "Written by grpo init. docs/spec.md has every field."]
    text = write_spec(head, _sections(data, _name_from(source, folder)))
    tree = tomllib.loads(text)
    tree["pool"]["source"] = source  # the spec names it as seen from its own place
    if data.reward is not None:
        build_splits(parse_spec(tree))
    says = [data.says, f"{data.prompts:,} prompts"]
    if data.rules:
        says.append(f"rows are left out (pool.{', pool.'.join(data.rules)}), the first: {data.fault}")
    texts = {SPEC_FILE: text}
    if data.reward is not None:
        tried = f"{data.passed} of the first {data.judged} reference answers score 1.0"
        says.append(f"{data.reward}: {tried if data.passed else 'no reference answer to try it with'}")
    else:
        spec_place = str(folder / SPEC_FILE)
        texts[REWARD_FILE] = render_template("reward.txt", truths=data.truths, spec=spec_place)
        says.append(NO_VERIFIER if data.truths else NOTHING_RIGHT)
    return says, texts


def _sections(data: Data, source: str) -> dict[str, list[Line]]:
    from harness.commands.starting.data import NOTES
    from harness.commands.starting.text import Line
    from pools.splits import propose_sizes

    sizes = propose_sizes(data.prompts)
    train = data.prompts - sum(sizes.values())
    tokens = MAX_TOKENS.get(data.reward or "", DEFAULT_TOKENS)
    mark, form = FORMS.get(data.reward or "", ("", ""))
    told = not form or sum(mark in text for text in data.texts) > len(data.texts) / 2
    warm = "supervised steps on the demonstrations, before step 1: steps, examples, batch, learning_rate"
    return {
        "model": [Line("name", SMOLLM2, "needs no GPU; yours: a folder, a .gguf file, a hub id such as org/name")],
        "warmstart": [Line("steps", 0, warm)] if data.demonstrations else [],
        "pool": [
            Line("source", source),
            *([Line("columns", dict(data.columns))] if data.columns else []),
            *(Line(rule, value, "for rows that cannot be used") for rule, value in data.rules.items()),
            *([Line("strip", NOTES, "notes of sums, out of the demonstrations")] if data.notes else []),
            *([] if told else [Line("template", f"{{prompt}}\n\n{form}\n")]),
            Line("splits", sizes, f"the other {train:,} are for training"),
        ],
        "reward": [
            Line("function", data.reward, "docs/rewards.md")
            if data.reward
            else Line("function", f"{REWARD_FILE}:score", "yours, beside this file")
        ],
        "trainer": [Line("micro_batch", 4, "completions at once: a matter of memory and speed, not of the result")],
        "knobs": [
            Line("", comment="The first values; the rules change them while the run goes."),
            Line("max_tokens", tokens, "room for an answer: raise it, and [evaluate], for a model that thinks"),
            Line("learning_rate", 1e-4, "for LoRA; 1e-6 for full weights"),
            Line("group_size", 8),
            Line("prompts_per_step", min(4, max(1, train // 2))),
        ],
        "evaluate": [Line("max_tokens", tokens), Line("batch", 32)],
        "budget": [Line("steps", 60)],
    }


def _name_from(source: str, folder: Path) -> str:
    """Name a file so that it is found from any folder: as seen from the spec where it lies below, else whole."""
    if not Path(source).is_file():
        return source
    whole, beside = Path(source).resolve(), folder.resolve()
    return str(whole.relative_to(beside) if whole.is_relative_to(beside) else whole)


# ---------------------------------------------------------------- files


def _check_folder(folder: Path) -> None:
    """Raise InputError where the files cannot be written, or one of them is there already."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out: {folder} is not a folder")
    if (folder / SPEC_FILE).exists():
        raise InputError(f"--out: {folder / SPEC_FILE} exists already; move it away or name another folder with --out")


def _write(
    folder: Path, texts: Mapping[str, str], says: Sequence[str], left: Sequence[tuple[str, Any, str]]
) -> Started:
    from harness.commands.files import write_text

    files = {folder / name: text for name, text in texts.items()}
    for file in files:
        if file.exists():
            raise InputError(f"--out: {file} exists already; move it away or name another folder with --out")
    try:
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out: cannot make {folder}: {error.strerror}") from None
    for file, text in files.items():
        write_text(file, [text], option="--out")
    spec = folder / SPEC_FILE
    commands = (f"grpo check {spec}", f"grpo run {spec}", "grpo review latest")
    return Started(tuple(files), tuple(says), tuple(left), commands)
