"""Call a reward function as TRL 1.16 does: a whole batch at a time, by keyword arguments alone.

    prompts, completions     texts; for a chat model lists of messages
    completion_ids           the token ids of each completion; where there is no tokenizer (preflight, grpo check), the
                             bytes of its text
    COLUMN                   every further column of the pool, and ground_truth: a value for each completion
    trainer_state            its global_step is the number of steps taken before, max_steps that of the budget
    log_extra, log_metric    numbers they are given become metrics of the step: ``reward/NAME`` (docs/rewards.md)

A function without ``**kwargs`` gets what it names. An async one is awaited, in one event loop that stays.
"""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, TypeVar, cast

from harness.types import Prompt

NAMES = frozenset({"prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric"})
MOST_LOGGED = 50
"""Names under which a function may log, in one batch."""


@dataclass(frozen=True, slots=True)
class TrainerState:
    """What a reward may read of TRL's state. ``global_step`` counts the steps taken before, so it is 0 in the first."""

    global_step: int = 0
    max_steps: int = 0
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True

    @property
    def epoch(self) -> float:
        """Return the share of the budget that is done: a pool is never gone through from end to end."""
        return self.global_step / self.max_steps if self.max_steps else 0.0


START = TrainerState()


@dataclass(frozen=True, slots=True)
class Batch:
    """What one call judges. ``ids`` are those of the completions, None where they are not known."""

    prompts: Sequence[Prompt]
    completions: Sequence[str]
    ids: Sequence[Sequence[int] | None]
    state: TrainerState = START

    def __getitem__(self, i: int) -> Batch:
        return Batch([self.prompts[i]], [self.completions[i]], [self.ids[i]], self.state)


@dataclass
class Log:
    """What a function logs while it judges ``n`` completions."""

    n: int
    metrics: dict[str, list[float]] = field(default_factory=dict)
    extra: dict[str, list[Any]] = field(default_factory=dict)

    def log_metric(self, name: str, value: Any) -> None:
        self.metrics.setdefault(str(name), []).append(float(value))

    def log_extra(self, column: str, values: Sequence[Any]) -> None:
        self.extra.setdefault(str(column), []).extend(values)

    def of(self, i: int) -> dict[str, float]:
        """Return what is logged of the i-th completion by name: finite numbers, those of the batch for each."""
        found = {name: fmean(values) for name, values in self.metrics.items()}
        for name, values in self.extra.items():
            value: Any = values[i] if len(values) == self.n else None
            value = value.item() if hasattr(value, "item") else value
            if isinstance(value, int | float):
                found[name] = float(value)
        return dict([pair for pair in found.items() if math.isfinite(pair[1])][:MOST_LOGGED])


def is_trl_style(function: Callable[..., Any]) -> bool:
    """Tell whether a function is called as TRL does: it names one of TRL's arguments, or takes no two positional ones.

    Any other is called with completion and ground truth.
    """
    parameters = inspect.signature(function).parameters.values()
    if any(p.name in NAMES and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return True
    return not takes_two_texts(function) and any(p.kind is p.VAR_KEYWORD for p in parameters)


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling a function, or an object, gives a coroutine."""
    return any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))


def takes_two_texts(function: Callable[..., Any]) -> bool:
    """Tell whether a function can be called with completion and ground truth, in order."""
    try:
        inspect.signature(function).bind("", "")
    except TypeError:
        return False
    return True


def call_trl(
    function: Callable[..., Any], batch: Batch, *, chat: bool
) -> tuple[list[Any], Sequence[Mapping[str, float]]]:
    """Return what a function says of each completion, and what it logs of each.

    Raises what the function raises, ValueError when it has not one value for each.
    """
    n = len(batch.prompts)
    log = Log(n)
    given = _columns(batch.prompts) | {
        "prompts": [[dict(message) for message in prompt.turns] if chat else prompt.text for prompt in batch.prompts],
        "completions": [[{"role": "assistant", "content": c}] if chat else c for c in batch.completions],
        "completion_ids": [
            list(text.encode("utf-8", "replace") if ids is None else ids)
            for text, ids in zip(batch.completions, batch.ids, strict=True)
        ],
        "trainer_state": batch.state,
        "log_extra": log.log_extra,
        "log_metric": log.log_metric,
    }
    parameters = inspect.signature(function).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        given = {name: value for name, value in given.items() if name in parameters}
    values = settle(function(**given))
    values = values.tolist() if hasattr(values, "tolist") else list(values)
    if len(values) != n:
        raise ValueError(f"{len(values)} rewards for {n} completions")
    return list(values), [log.of(i) for i in range(n)] if log.metrics or log.extra else [{}] * n


def _columns(prompts: Sequence[Prompt]) -> dict[str, Any]:
    names = {name for prompt in prompts for name in prompt.columns} - NAMES
    columns: dict[str, Any] = {name: [prompt.columns.get(name) for prompt in prompts] for name in names}
    return columns | {"ground_truth": [prompt.ground_truth for prompt in prompts]}


# ---------------------------------------------------------------- async functions

_threads = threading.local()
T = TypeVar("T")


def settle(value: Any) -> Any:
    """Return what a call gave, awaited if it was that of an async function.

    One loop for all calls of a thread: a client that a function keeps between two calls belongs to its loop.
    """
    if not inspect.isawaitable(value):
        return value

    async def wait() -> Any:
        return await value

    return _run(wait())


def settle_all(coroutines: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return what coroutines that raise nothing give, all awaited at the same time."""
    import asyncio

    async def wait() -> list[T]:
        return list(await asyncio.gather(*coroutines))

    return _run(wait())


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    import asyncio  # few rewards are async, and it takes a while

    if not hasattr(_threads, "runner"):
        _threads.runner = asyncio.Runner()
    return cast(T, _threads.runner.run(coroutine))
