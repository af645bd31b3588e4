"""From a reward's name to a scorer: one of ours, a plain function, or a TRL-style one, unchanged.

    ours or plain   (completion: str, ground_truth: str) -> Score | float
    TRL-style       (prompts, completions, **columns) -> list of float | None, NumPy and tensors too (rewards/trl.py)

Either may be async, or an object with __call__. A scorer never raises. What a completion causes is an ordinary score;
what the verifier causes (its exception, a value that is no number, one outside the declared range) is an errored Score
that says so.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from harness.core.processes import import_user_code
from harness.errors import InputError
from harness.types import Prompt, Score
from rewards.format import begin_with_tags, use_known_tags
from rewards.trl import (
    START,
    Batch,
    TrainerState,
    call_trl,
    is_async,
    is_trl_style,
    settle,
    settle_all,
    takes_two_texts,
)

RewardFunction = Callable[..., Any]
HERE = Path(__file__).resolve().parent
NONE = "the reward returned None"
"""Of one function among several: the completion is another's."""
USUAL = ("score", "compute_reward", "reward")
"""What a function is called of a module that is named alone."""
HOOKS = frozenset({"check_ground_truth", "write_reference", "takes_any_words", "final_answer"})
"""Functions of a module that say more of its reward (docs/rewards.md) and are none."""
OUTSIDE = re.compile(r"reward (\S+) is outside the declared range")


@dataclass(frozen=True, slots=True)
class RewardDescription:
    """What makes a Reward, by name: any process makes the same one of it. ``functions`` as load_function takes them,
    ``partial`` as in Reward."""

    functions: tuple[str, ...]
    weights: tuple[float, ...] | None = None
    range: tuple[float, float] = (0.0, 1.0)
    solved_at: float | None = None
    chat: bool = False
    thinking_tags: Mapping[str, str] = field(default_factory=dict)
    partial: bool = False


class Reward:
    """``harness.types.Scorer`` over one or several reward functions with weights.

    With one function the Score keeps its reason code and components; with several, each function's value is a
    component under its name, and what is not solved has the reason code of the first function that gave one. A function
    that returns None leaves the completion to the others; it is errored when all do.
    ``chat`` says how TRL-style functions get their texts. Rewards of this package read ``thinking_tags`` (opening to
    closing) as they do ``<think>`` and ``</think>``, and see the tags that a prefill opened; any other gets the text as
    it is, which is TRL's way.
    With ``partial`` others add to it (rewards/judged.py): nothing is solved yet, and no range is checked.
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
        partial: bool = False,
    ) -> None:
        self.functions = dict(functions)
        self.partial = partial
        self.thinking_tags = thinking_tags or {}
        self.weights = list(weights) if weights is not None else [1.0] * len(self.functions)
        self.range = range
        self.solved_at = range[1] if solved_at is None else solved_at
        self.chat = chat
        self._within = Within(range)
        self._trl_style = {name for name, function in self.functions.items() if is_trl_style(function)}
        self._awaited = {name for name, function in self.functions.items() if is_async(function)} - self._trl_style

    @property
    def takes_batches(self) -> bool:
        """Whether completions are judged together: any function is TRL-style."""
        return bool(self._trl_style)

    @property
    def awaits(self) -> bool:
        """Whether completions are judged at the same time, though each for itself: any plain function is async."""
        return bool(self._awaited)

    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[str],
        ids: Sequence[Sequence[int] | None] | None = None,
        state: TrainerState = START,
    ) -> list[Score]:
        batch = Batch(prompts, completions, ids or [None] * len(prompts), state)
        columns = [self._scores_of(name, batch) for name in self.functions]
        scores = [self._combine(parts) for parts in zip(*columns, strict=True)]
        return scores if self.partial else self._within.check(scores)

    def _combine(self, parts: Sequence[Score]) -> Score:
        """The score of a completion from those of the functions; its reward may be out of range."""
        named = dict(zip(self.functions, parts, strict=True))
        mine = {name: part for name, part in named.items() if part.error != NONE}
        for part in mine.values() or parts:
            if part.errored:
                return part
        total = math.fsum(weight * (part.reward or 0.0) for weight, part in zip(self.weights, parts, strict=True))
        logged = {name: value for part in mine.values() for name, value in part.logged.items()}
        seconds = {name: value for part in parts for name, value in part.seconds.items()}
        solved = total >= self.solved_at and not self.partial
        made = Score(total, solved, "right", logged=logged, seconds=seconds)
        if len(parts) == 1 and not self.partial:
            only = parts[0]
            if only.reason:  # the scorer judged correctness itself
                return replace(only, reward=total)
            return made if made.correct else replace(made, reason="wrong")
        made = replace(made, components={name: part.reward or 0.0 for name, part in mine.items()})
        if made.correct:
            return made
        return replace(made, reason=next((p.reason for p in mine.values() if p.reason and not p.correct), "wrong"))

    def _scores_of(self, name: str, batch: Batch) -> list[Score]:
        function = self.functions[name]
        if function.__module__.startswith(f"{HERE.name}."):
            known = partial(use_known_tags, thinking_tags=self.thinking_tags)
            pairs = zip(batch.prompts, batch.completions, strict=True)
            batch = replace(batch, completions=[begin_with_tags(known(p.prefill), known(c)) for p, c in pairs])
        if name in self._trl_style:
            with suppress(Exception, SystemExit):
                return self._try_trl(name, batch)
            # One bad row must not cost the batch: ask again row by row, so only that row is errored.
        if name in self._awaited:
            return self._together(name, batch)
        return [self._one(name, batch[i]) for i in range(len(batch.prompts))]

    def _try_trl(self, name: str, batch: Batch) -> list[Score]:
        started = time.perf_counter()
        values, logged = call_trl(self.functions[name], batch, chat=self.chat)
        each = {name: (time.perf_counter() - started) / max(1, len(values))}
        made = zip(map(to_score, values), logged, strict=True)
        return [replace(score, logged={**score.logged, **more}, seconds=each) for score, more in made]

    def _together(self, name: str, batch: Batch) -> list[Score]:
        """Await all completions at once: an async function waits for something outside, such as another model."""

        async def judge(prompt: Prompt, completion: str) -> Score:
            try:
                return to_score(await self.functions[name](completion, prompt.ground_truth))
            except (Exception, SystemExit) as error:
                return errored_by(error)

        started = time.perf_counter()
        scores = settle_all([judge(*pair) for pair in zip(batch.prompts, batch.completions, strict=True)])
        each = {name: (time.perf_counter() - started) / max(1, len(scores))}
        return [score if score.errored else replace(score, seconds=each) for score in scores]

    def _one(self, name: str, batch: Batch) -> Score:
        started = time.perf_counter()
        try:
            if name in self._trl_style:
                return self._try_trl(name, batch)[0]
            score = to_score(settle(self.functions[name](batch.completions[0], batch.prompts[0].ground_truth)))
        except (Exception, SystemExit) as error:  # a completion that is run may well call exit()
            return errored_by(error)
        return replace(score, seconds={name: time.perf_counter() - started})


class Within:
    """Make a reward outside ``range`` an errored Score that says which range to set: one that holds all so far."""

    def __init__(self, range: tuple[float, float]) -> None:
        self.range = range
        self._seen = range  # the lowest and the highest reward so far, at least what is declared

    def check(self, scores: Sequence[Score]) -> list[Score]:
        rewards = [score.reward for score in scores if score.reward is not None]
        self._seen = min(self._seen[0], *rewards, *self._seen), max(self._seen[1], *rewards, *self._seen)
        return [self._check(score) for score in scores]

    def _check(self, score: Score) -> Score:
        (low, high), reward = self.range, score.reward
        if reward is None or low <= reward <= high:
            return score
        seen = f"set reward.range = {propose_range(self._seen)}, the lowest and the highest so far"
        return errored(f"reward {reward:g} is outside the declared range [{low:g}, {high:g}]: {seen}")


def propose_range(seen: Sequence[float]) -> str:
    """A range for the spec that holds all rewards seen, to two decimals."""
    low, high = round(min(seen), 9) * 100, round(max(seen), 9) * 100
    return f"[{math.floor(round(low, 6)) / 100!r}, {math.ceil(round(high, 6)) / 100!r}]"


def read_outside(error: str) -> float | None:
    """The reward that was out of range, by the error of its Score; None for another error."""
    found = OUTSIDE.match(error)
    return float(found[1]) if found else None


def to_score(value: Any) -> Score:
    """A reward function's answer as a Score. Anything but a finite number (or a Score) is errored."""
    if isinstance(value, Score):
        return value
    if hasattr(value, "item"):  # NumPy scalars and one-element tensors
        value = value.item()
    if value is None:
        return errored(NONE)
    if not isinstance(value, int | float):
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


def is_ours(name: str) -> bool:
    """Whether a reward is one of this package by its name; ``rewards.py:judge`` is a user's."""
    module_name, _, _ = _split(name)
    return module_name.startswith(f"{HERE.name}.") and not module_name.endswith(".py")


def load_reward(description: RewardDescription) -> Reward:
    """The Reward of a description, in this process. Raises InputError when a function cannot be imported."""
    return Reward(
        dict(zip(name_functions(description.functions), map(load_function, description.functions), strict=True)),
        weights=description.weights,
        range=description.range,
        solved_at=description.solved_at,
        chat=description.chat,
        thinking_tags=description.thinking_tags,
        partial=description.partial,
    )


def load_function(name: str) -> RewardFunction:
    """A reward function by its name. Raises InputError when it cannot be imported.

    ``package.module:function`` or ``path/file.py:function``. Of a module or file alone its only public function, else
    ``score``, ``compute_reward`` or ``reward``: ``rewards.solution``, ``my_reward.py``.
    """
    module_name, colon, attribute = _split(name)
    relative = module_name.startswith(".") and not module_name.endswith(".py")
    if not module_name or relative or (colon and not attribute):
        raise InputError(
            f"reward.function: {name!r} names no function; give rewards.math, package.module:function or "
            "file.py:function"
        )
    try:
        module = import_user_code(module_name)
    except (Exception, SystemExit) as error:  # whatever the module does at import
        hint = "" if colon else "; a function of your own is named package.module:function or file.py:function"
        raise InputError(f"reward.function: cannot import {name}: {type(error).__name__}: {error}{hint}") from None
    function = getattr(module, attribute or _find_only(module, module_name), None)
    if not callable(function):
        raise InputError(f"reward.function: {module_name} has no function named {attribute}")
    _check_function(name, function)
    return cast(RewardFunction, function)


def _find_only(module: ModuleType, name: str) -> str:
    """The function that is meant by a module alone. Raises InputError."""
    public = [
        attribute
        for attribute, value in vars(module).items()
        if not attribute.startswith("_")
        and attribute not in HOOKS
        and callable(value)
        and not inspect.isclass(value)
        and getattr(value, "__module__", None) == module.__name__
    ]
    if len(public) == 1:
        return public[0]
    if usual := [attribute for attribute in USUAL if callable(getattr(module, attribute, None))]:
        return usual[0]
    there = f"it has {', '.join(public)}: name one, as in {name}:{public[0]}" if public else "it has no function at all"
    raise InputError(f"reward.function: {name} has no function named {', '.join(USUAL[:-1])} or {USUAL[-1]}; {there}")


def _split(name: str) -> tuple[str, str, str]:
    """Module or file, the colon if there is one, and the function."""
    module_name, colon, attribute = name.rpartition(":")
    return (module_name, colon, attribute) if colon else (name, "", "")


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
        callable_so = is_trl_style(function) or takes_two_texts(function)
    except (TypeError, ValueError):
        raise InputError(
            f"reward.function: {name} does not say what arguments it takes; wrap it in a function"
        ) from None
    if not callable_so:
        raise InputError(
            f"reward.function: {name}{inspect.signature(function)} cannot be called: a reward takes (completion, "
            "ground_truth), or as in TRL completions and what else it names, by keyword"
        )


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
