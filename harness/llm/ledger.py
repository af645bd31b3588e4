"""What answers cost, and one cap over all of them, which no request can pass.

Before a request is sent, the most that it can cost is reserved:

    with ledger.reserve("anthropic:claude-haiku-5-5", most_in, most_out) as held:
        ...  # ask
        cost = held.spend(tokens_in, tokens_out)

What ends without a word of its cost is released, or kept at its worst where the request may have been processed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Condition
from types import TracebackType
from typing import Protocol

from harness.errors import InputError, OverBudget
from harness.llm.names import bare_name

LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens."""

    input: float
    output: float

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in * self.input + tokens_out * self.output) / 1e6


class Halted(Protocol):
    """Whether there is no sense in waiting any longer; a ``threading.Event`` is one."""

    def is_set(self) -> bool: ...


@dataclass(eq=False)
class Ledger:
    """``prices`` by the name of an answerer, with or without ``anthropic:`` or ``openai:``. ``cap`` in USD is for
    ``spent`` and all that is reserved together. Any number of threads may use it.

    A service that reports more tokens than were reserved (its own instructions, say) is believed, and from then on as
    many more are reserved for it. Under a cap its first request goes alone, so that this is known before many are under
    way.
    """

    prices: Mapping[str, Price] = field(default_factory=dict)
    cap: float | None = None
    spent: float = 0.0
    _held: dict[int, float] = field(default_factory=dict, init=False)
    _first: dict[str, int] = field(default_factory=dict, init=False)
    _more: dict[str, tuple[int, int]] = field(default_factory=dict, init=False)
    _changed: Condition = field(default_factory=Condition, init=False)
    _numbers: int = field(default=0, init=False)

    def price_of(self, model: str) -> Price | None:
        """Return the price of a model, None where none is known. Raises InputError where a cap needs one."""
        bare = bare_name(model)
        price = self.prices.get(model, self.prices.get(bare))
        if price is None and self.cap is not None:
            raise InputError(
                f"budget.usd: a cap needs the price of {bare}, in USD per million tokens: set "
                f'[prices] "{bare}" = {{ input = ..., output = ... }}'
            )
        return price

    @property
    def reserved(self) -> float:
        """USD that requests under way may cost."""
        with self._changed:
            return math.fsum(self._held.values())

    @property
    def exhausted(self) -> bool:
        return self.cap is not None and self.spent >= self.cap

    def reserve(self, model: str, most_in: int, most_out: int, *, patience: Halted | None = None) -> Held:
        """Set aside what a request of so many tokens costs at most.

        With ``patience`` it waits while requests under way may still leave room, until that is set. Raises OverBudget
        when this one, what is reserved and what is spent would pass the cap; InputError for a cap without a price.
        """
        price = self.price_of(model)
        with self._changed:
            if patience is not None and self.cap is not None:
                while model not in self._more and self._first.get(model) in self._held and not patience.is_set():
                    self._changed.wait(LOOK_S)
            while True:
                more_in, more_out = self._more.get(model, (0, 0))
                worst = 0.0 if price is None else price.cost(most_in + more_in, most_out + more_out)
                if self.cap is None or math.fsum((self.spent, *self._held.values(), worst)) <= self.cap:
                    break
                alone = not self._held or self.spent + worst > self.cap
                if alone or patience is None or patience.is_set():
                    raise OverBudget(
                        f"budget.usd: {self.cap:g} USD, of which {self.spent:.4f} are spent; "
                        f"the next request to {model} may cost {worst:.4f}"
                    )
                self._changed.wait(LOOK_S)
            self._numbers += 1
            self._held[self._numbers] = worst
            if model not in self._more:
                self._first[model] = self._numbers
            return Held(self, self._numbers, price, worst, model, most_in, most_out)

    def _settle(self, number: int, cost: float) -> None:
        with self._changed:
            if self._held.pop(number, None) is not None:
                self.spent += cost
                self._changed.notify_all()

    def _learn(self, model: str, more_in: int, more_out: int) -> None:
        with self._changed:
            known = self._more.get(model, (0, 0))
            self._more[model] = max(known[0], more_in), max(known[1], more_out)


@dataclass(frozen=True)
class Held:
    """What is reserved for one request, until it is spent, kept, or released at the end of the ``with`` block."""

    ledger: Ledger
    number: int
    price: Price | None
    worst: float
    model: str
    most_in: int
    most_out: int

    def spend(self, tokens_in: int, tokens_out: int) -> float | None:
        """Replace the reservation by what it cost, and return that; None without a price."""
        cost = None if self.price is None else self.price.cost(tokens_in, tokens_out)
        self.ledger._learn(self.model, tokens_in - self.most_in, tokens_out - self.most_out)
        self.ledger._settle(self.number, cost or 0.0)
        return cost

    def keep(self) -> float | None:
        """Count the worst case as spent, where what it cost is not known, and return it; None without a price."""
        self.ledger._settle(self.number, self.worst)
        return None if self.price is None else self.worst

    def __enter__(self) -> Held:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.ledger._settle(self.number, 0.0)
