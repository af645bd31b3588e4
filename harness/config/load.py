"""From a recipe or file with overrides to a checked spec."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config.answerers import JudgeSpec
from harness.config.fields import Section
from harness.config.moved import MOVED, move_answers
from harness.config.names import DEFAULT_RECIPE, LLM_MODEL, RECIPE_FILE, SPEC_FILE, find_recipe, recipe_names
from harness.config.schema import RunSpec, nearest
from harness.errors import InputError

QUOTE = '"'
KEY_PART = re.compile(r'"[^"]+"|[^."]+')
KEY = re.compile(rf"({KEY_PART.pattern})(\.({KEY_PART.pattern}))*")
"""Of TOML: a name with dots in it, as that of a model, stands in quotes."""


def load_spec(source: str | None, overrides: Sequence[str] = ()) -> tuple[RunSpec, str]:
    """Load a checked spec from a file or recipe name, and a short name for it.

    Without ``source`` it is the spec.toml of the working directory, else the default recipe. ``overrides`` are
    ``section.field=value`` with TOML values (a bare word is a string). A file that ``pool.source`` names lies in the
    working directory, or else beside the spec; one that a reward names beside it too. Of a spec with stages
    (harness/config/stages.py) it is what stands above them. Raises InputError, one line.
    """
    tree, name = load_tree(source)
    tree.pop("stage", None)
    spec = parse_spec(apply_overrides(tree, overrides))
    refuse_stage_name(spec.name)
    return spec, name


def refuse_stage_name(name: str) -> None:
    """Raise InputError for the name of a stage's run, which nobody gives: a record has it."""
    if "/" in name:
        raise InputError(f"name: {name!r} must be letters, digits, '-', '_' or '.', at most 80 of them")


def load_tree(source: str | None) -> tuple[dict[str, Any], str]:
    """Load a spec as it is written, stages and all, and a short name for it. Raises InputError, one line."""
    if source is not None and not source.strip():  # an unset variable of a shell
        raise InputError("SPEC: it is empty; give a recipe or a file, or leave it out for the default recipe")
    path = _find(source or (SPEC_FILE if Path(SPEC_FILE).is_file() else DEFAULT_RECIPE))
    tree = _read(path)
    stages = tree.get("stage")
    for part in [tree, *(one for one in (stages if isinstance(stages, list) else []) if isinstance(one, dict))]:
        _find_files(part, path.parent)
    return tree, path.parent.name if path.name == RECIPE_FILE else path.stem


def load_recorded(path: Path) -> RunSpec:
    """Load the checked spec that a run left in a file. Raises InputError, one line."""
    return parse_spec(bring_up_to_date(_read(path)))


def bring_up_to_date(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a spec that a run left in a file as the database has it (harness/store/migrations.py): from before the ids
    of prompts were exact it has none of the two fields, and [llm] had what [answers] and [prices] have."""
    tree = move_answers(tree)
    pool = tree.get("pool")
    if not isinstance(pool, dict) or "identity" in pool:
        return tree
    return tree | {"pool": pool | {"identity": "normalised", "conflicts": "first"}}


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Change ``tree`` itself by each ``section.field=value`` and return it. Raises InputError."""
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not KEY.fullmatch(key.strip()):
            raise InputError(f"--set takes section.field=value, not {override!r}")
        try:
            value: Any = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):  # not TOML, a number of thousands of digits, or nested too deeply
            value = text  # a bare word
        *sections, field = (part.strip(QUOTE) for part in KEY_PART.findall(key.strip()))
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise InputError(f"--set {key}: {section} is a value, not a section")
        place[field] = value
        if sections[:1] == ["judge"] and field == "rubric":
            place.pop("text", None)  # of the file that was named before
    return tree


def parse_spec(tree: Mapping[str, Any]) -> RunSpec:
    """Check a plain tree as a RunSpec. Raises InputError, one line, for the first thing that is wrong."""
    _refuse_unknown(tree)
    try:
        return RunSpec.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if not isinstance(part, str) or part not in _UNION_TAGS)
        message = str(first["msg"]).removeprefix("Value error, ")
        message = message[0].lower() + message[1:].partition(", unable to parse")[0]
        message = message.replace("input should be", "must be")
        message = re.sub(r"a valid dictionary or instance of \w+", "a section of fields", message)
        given = first.get("input")
        if first["type"] != "value_error" and not isinstance(given, dict | list):
            message += f", not {given!r}"
        raise InputError(f"{where}: {message}" if where else message) from None


_UNION_TAGS = {"str", "int", "float", "list[str]", "constrained-int", "constrained-float", "nullable"}


def _find(source: str) -> Path:
    path = Path(source)
    if path.suffix in (".toml", ".json") or "/" in source:
        if (path / RECIPE_FILE).is_file():
            return path / RECIPE_FILE
        if not path.is_file():
            raise InputError(f"no spec file at {source}")
        return path
    recipe = find_recipe(source)
    if recipe is None:
        raise InputError(
            f"no recipe named {source}; recipes are {', '.join(recipe_names())}; a file needs its .toml or .json ending"
        )
    return recipe


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        tree: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except RecursionError:
        raise InputError(f"{path} is not valid {path.suffix[1:].upper()}: nested too deeply") from None
    except ValueError as error:  # malformed TOML or JSON, or not UTF-8
        raise InputError(f"{path} is not valid {path.suffix[1:].upper()}: {error}") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path} must hold a table of sections")
    return tree


def _find_files(tree: dict[str, Any], folder: Path) -> None:
    """Write the whole path of a file that ``pool.source``, a reward or a judge names and that lies beside the spec
    alone."""
    judges = tree.get("judge")
    rubrics = [(judge, "rubric") for judge in (judges.values() if isinstance(judges, dict) else ())]
    for place, field in ((tree.get("pool"), "source"), (tree.get("reward"), "function"), *rubrics):
        if isinstance(place, dict) and field in place:
            given = place[field]
            found = [_find_beside(name, folder) for name in (given if isinstance(given, list) else [given])]
            place[field] = found if isinstance(given, list) else found[0]


def _find_beside(name: Any, folder: Path) -> Any:
    if not isinstance(name, str):
        return name
    file, _, function = name.rpartition(".py:")
    path = f"{file}.py" if file else name
    if Path(path).exists() or not (folder / path).is_file():
        return name
    whole = str((folder / path).absolute())
    return f"{whole}:{function}" if file else whole


def _refuse_unknown(tree: Mapping[str, Any]) -> None:
    """Refuse misspelled names first and with the nearest right one, which pydantic does not offer."""
    for name in tree:
        if name not in RunSpec.model_fields:
            raise InputError(f"{name}: no such field at the top level{nearest(name, RunSpec.model_fields)}")
    for section, default in RunSpec():
        given = tree.get(section)
        if isinstance(default, Section) and isinstance(given, Mapping):
            allowed = type(default).model_fields
            model = str(given.get("model", LLM_MODEL))
            for name in given:
                if section == "llm" and name in MOVED:
                    raise InputError(f"llm.{name}: {MOVED[name].replace('MODEL', model)}")
                if name not in allowed:
                    raise InputError(f"{section}.{name}: no such field in [{section}]{nearest(name, allowed)}")
    judges = tree.get("judge")
    for judge, given in judges.items() if isinstance(judges, Mapping) else ():
        for name in given if isinstance(given, Mapping) else ():
            if name not in JudgeSpec.model_fields:
                where = f"judge.{judge}"
                raise InputError(f"{where}.{name}: no such field in [{where}]{nearest(name, JudgeSpec.model_fields)}")
