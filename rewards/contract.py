"""From a reward's name to a scorer: one of ours, a plain function, or a TRL-style one, unchanged.

    ours or plain   (completion: str, ground_truth: str) -> Score | float
    TRL-style       (prompts, completions, **columns) -> list of float | None, NumPy and tensors too

A scorer never raises. What a completion causes is an ordinary score; what the verifier causes (its exception,
a value that is no number, one outside the declared range) is an errored Score that says so.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from harness.errors import InputError
from harness.types import Prompt, Score
from rewards.format import begin_with_tags

RewardFunction = Callable[..., Any]
HERE = Path(__file__).resolve().parent
NONE = "the reward returned None"
"""Of one TRL-style function among several: the row is another's."""


def _ignore(*_: Any, **__: Any) -> None:
    """Stands for TRL's logging hooks: the harness records components and reason codes itself."""


TRL_HOOKS: dict[str, Any] = {"log_extra": _ignore, "log_metric": _ignore, "trainer_state": None}
"""What TRL also passes; given only to functions that name it."""


@dataclass(frozen=True, slots=True)
class RewardDescription:
    """What makes a Reward, by name: any process makes the same one of it. ``functions`` as load_function takes them."""

    functions: tuple[str, ...]
    weights: tuple[float, ...] | None = None
    range: tuple[float, float] = (0.0, 1.0)
    solved_at: float | None = None
    chat: bool = False
    thinking_tags: Mapping[str, str] = field(default_factory=dict)


class Reward:
    """``harness.types.Scorer`` over one or several reward functions with weights.

    With one function the Score keeps its reason code and components; with several, each function's value is a
    component under its name, and what is not solved has the reason code of the first function that gave one. A
    TRL-style function that returns None leaves the completion to the others; it is errored when all do.
    ``chat`` says how TRL-style functions get their texts. Rewards of this package read ``thinking_tags`` (opening to
    closing) as they do ``<think>`` and ``</think>``, and see the tags that a prefill opened; any other gets the text as
    it is, which is TRL's way.
    """

    def __init__(
        self,
        functions: Mapping[str, RewardFunction],
        *,
        weights: Sequence[float] | None = None,
        range: tuple[float, float] = (0.0, 1.0),
        solved_at: float | None = None,
        chat: bool = False,
        thinking_tags: Mapping[str, str] | None = None,
    ) -> None:
        self.functions = dict(functions)
        self.thinking_tags = thinking_tags or {}
        self.weights = list(weights) if weights is not None else [1.0] * len(self.functions)
        self.range = range
        self.solved_at = range[1] if solved_at is None else solved_at
        self.chat = chat
        self._trl_style = {name for name, function in self.functions.items() if is_trl_style(function)}

    @property
    def takes_batches(self) -> bool:
        """Whether completions are judged together: any function is TRL-style."""
        return bool(self._trl_style)

    def score(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Score]:
        columns = [self._scores_of(name, prompts, completions) for name in self.functions]
        return [self._combine(parts) for parts in zip(*columns, strict=True)]

    def _combine(self, parts: Sequence[Score]) -> Score:
        mine = {
            name: part
            for name, part in zip(self.functions, parts, strict=True)
            if name not in self._trl_style or part.error != NONE
        }
        for part in mine.values() or parts:
            if part.errored:
                return part
        total = math.fsum(weight * (part.reward or 0.0) for weight, part in zip(self.weights, parts, strict=True))
        low, high = self.range
        if not low <= total <= high:
            return errored(f"reward {total:g} is outside the declared range [{low:g}, {high:g}]")
        if len(parts) == 1:
            only = parts[0]
            if only.reason:  # the scorer judged correctness itself
                return replace(only, reward=total)
            return Score(total, total >= self.solved_at, "right" if total >= self.solved_at else "wrong")
        components = {name: part.reward or 0.0 for name, part in mine.items()}
        if total >= self.solved_at:
            return Score(total, True, "right", components)
        reason = next((part.reason for part in mine.values() if part.reason and not part.correct), "wrong")
        return Score(total, False, reason, components)

    def _scores_of(self, name: str, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Score]:
        function = self.functions[name]
        if function.__module__.startswith(f"{HERE.name}."):
            begun = [prompt.prefill for prompt in prompts]
            for opening, closing in self.thinking_tags.items():
                completions = [c.replace(opening, "<think>").replace(closing, "</think>") for c in completions]
                begun = [b.replace(opening, "<think>").replace(closing, "</think>") for b in begun]
            completions = [begin_with_tags(b, c) for b, c in zip(begun, completions, strict=True)]
        if name not in self._trl_style:
            return [_one(function, p, c) for p, c in zip(prompts, completions, strict=True)]
        try:
            return [to_score(value) for value in self._call_trl(function, prompts, completions)]
        except (Exception, SystemExit):
            # One bad row must not cost the batch: ask again row by row, so only that row is errored.
            return [self._one_trl(function, p, c) for p, c in zip(prompts, completions, strict=True)]

    def _one_trl(self, function: RewardFunction, prompt: Prompt, completion: str) -> Score:
        try:
            return to_score(self._call_trl(function, [prompt], [completion])[0])
        except (Exception, SystemExit) as error:
            return errored_by(error)

    def _call_trl(self, function: RewardFunction, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Any]:
        names = {name for prompt in prompts for name in prompt.columns} - {"prompts", "completions"}
        columns = {name: [prompt.columns.get(name) for prompt in prompts] for name in names}
        columns["ground_truth"] = [prompt.ground_truth for prompt in prompts]
        texts: Any = list(completions)
        asked: Any = [prompt.text for prompt in prompts]
        if self.chat:
            texts = [[{"role": "assistant", "content": text}] for text in texts]
            asked = [[dict(message) for message in p.turns] for p in prompts]
        named = inspect.signature(function).parameters
        hooks = {name: hook for name, hook in TRL_HOOKS.items() if name in named}
        values = function(prompts=asked, completions=texts, **columns, **hooks)
        values = values.tolist() if hasattr(values, "tolist") else list(values)
        if len(values) != len(prompts):
            raise ValueError(f"{len(values)} rewards for {len(prompts)} completions")
        return list(values)


def _one(function: RewardFunction, prompt: Prompt, completion: str) -> Score:
    try:
        return to_score(function(completion, prompt.ground_truth))
    except (Exception, SystemExit) as error:  # a completion that is run may well call exit()
        return errored_by(error)


def to_score(value: Any) -> Score:
    """A reward function's answer as a Score. Anything but a finite number (or a Score) is errored."""
    if isinstance(value, Score):
        return value
    if hasattr(value, "item"):  # NumPy scalars and one-element tensors
        value = value.item()
    if value is None:
        return errored(NONE)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return errored(f"the reward returned {value!r} instead of a number")
    if not math.isfinite(value):
        return errored(f"the reward returned {value}")
    return Score(float(value), False, "")


def errored(message: str) -> Score:
    """The Score of a completion that could not be judged."""
    return Score(None, False, "errored", error=message)


def errored_by(error: BaseException) -> Score:
    """The Score of a completion at which the verifier raised ``error``."""
    try:
        message = f"{type(error).__name__}: {error}"
    except Exception:  # an exception of the user's own need not be printable
        message = type(error).__name__
    return errored(message)


def is_trl_style(function: RewardFunction) -> bool:
    """Whether a function takes whole batches by TRL's argument names."""
    parameters = inspect.signature(function).parameters
    return "completions" in parameters


def load_reward(description: RewardDescription) -> Reward:
    """The Reward of a description, in this process. Raises InputError when a function cannot be imported."""
    return Reward(
        dict(zip(name_functions(description.functions), map(load_function, description.functions), strict=True)),
        weights=description.weights,
        range=description.range,
        solved_at=description.solved_at,
        chat=description.chat,
        thinking_tags=description.thinking_tags,
    )


def load_function(name: str) -> RewardFunction:
    """A reward function by its name. Raises InputError when it cannot be imported.

    ``rewards.solution`` (a module with ``score``), ``package.module:function`` or ``path/file.py:function``.
    """
    module_name, colon, attribute = _split(name)
    if not module_name or (module_name.startswith(".") and not module_name.endswith(".py")) or not attribute:
        raise InputError(
            f"reward.function: {name!r} names no function; give rewards.math, package.module:function or "
            "file.py:function"
        )
    try:
        module = (
            _import_file(Path(module_name)) if module_name.endswith(".py") else importlib.import_module(module_name)
        )
    except (Exception, SystemExit) as error:  # whatever the module does at import
        hint = "" if colon else "; a function of your own is named package.module:function or file.py:function"
        raise InputError(f"reward.function: cannot import {name}: {type(error).__name__}: {error}{hint}") from None
    function = getattr(module, attribute, None)
    if not callable(function):
        raise InputError(f"reward.function: {module_name} has no function named {attribute}")
    _check_function(name, function)
    return cast(RewardFunction, function)


def _split(name: str) -> tuple[str, str, str]:
    """Module or file, the colon if there is one, and the function."""
    module_name, colon, attribute = name.rpartition(":")
    return (module_name, colon, attribute) if colon else (name, "", "score")


def name_functions(functions: Sequence[str]) -> list[str]:
    """What each is called among the others, as a component: ``solution``, or ``math.solution`` where ``solution`` is
    taken, or its whole name. Raises InputError when one is there twice."""
    if twice := [name for name, count in Counter(functions).items() if count > 1]:
        raise InputError(f"reward.function: {twice[0]} is named twice; give it once, with the sum of the weights")
    names = [_call_it(name, long=False) for name in functions]
    for longer in (lambda name: _call_it(name, long=True), str):
        counts = Counter(names)
        names = [longer(full) if counts[name] > 1 else name for full, name in zip(functions, names, strict=True)]
    return names


def _call_it(name: str, *, long: bool) -> str:
    module_name, colon, attribute = _split(name)
    module = Path(module_name).stem if module_name.endswith(".py") else module_name.rpartition(".")[2]
    return module if not colon else f"{module}.{attribute}" if long else attribute


def _check_function(name: str, function: RewardFunction) -> None:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise InputError(
            f"reward.function: {name} does not say what arguments it takes; wrap it in a function"
        ) from None
    if inspect.iscoroutinefunction(function):
        raise InputError(f"reward.function: {name} is async; wrap it in a plain function (asyncio.run)")
    if "completion_ids" in parameters:
        raise InputError(f"reward.function: {name} takes completion_ids; rewards here judge texts, take completions")


def sources_of(name: str) -> dict[str, str]:
    """The source texts behind a reward by file name, for the hash in a run's manifest: its module's, and of those that
    this imports or names as a file (at any distance), the ones beside it and the ones of this package."""
    texts: dict[Path, str] = {}
    left = [_file_of(_split(name)[0])]
    while left:
        path = left.pop()
        if path in texts:
            continue
        try:
            texts[path] = path.read_text(encoding="utf-8")
            left += _files_named_in(ast.parse(texts[path]), path.parent)
        except (OSError, ValueError, SyntaxError):
            continue
    return {path.name: texts[path] for path in sorted(texts)}


def _file_of(module: str) -> Path:
    """Where a module's source is; a path that is no file where it has none."""
    if module.endswith(".py"):
        return Path(module).resolve()
    found = importlib.util.find_spec(module)
    return Path(found.origin if found and found.origin else "").resolve()


def _files_named_in(tree: ast.Module, folder: Path) -> Iterator[Path]:
    """Files that a module imports, or names (rewards/sandbox.py starts one): those in its folder and in ours."""
    places = {f"{HERE.name}.": HERE, f"{folder.name}.": folder}
    if not (folder / "__init__.py").exists():
        places[""] = folder
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".py"):
            named = [folder / node.value] if "/" not in node.value else []
        elif isinstance(node, ast.Import):
            named = [place / f"{_after(a.name, prefix)}.py" for a in node.names for prefix, place in places.items()]
        elif isinstance(node, ast.ImportFrom):
            module = f"{folder.name}.{node.module or ''}".rstrip(".") if node.level else node.module or ""
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
            named = [place / f"{_after(name, prefix)}.py" for name in names for prefix, place in places.items()]
        else:
            continue
        yield from (file for file in named if file.is_file())


def _after(name: str, prefix: str) -> str:
    return name.removeprefix(prefix) if name.startswith(prefix) else ""


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    spec = importlib.util.spec_from_file_location(f"user_reward_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
