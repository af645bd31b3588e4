"""The cap over everything asked: reserved plus spent never passes it, whatever the threads do."""

from __future__ import annotations

import random
from threading import Event, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InputError, OverBudget
from harness.llm.ledger import Ledger, Price

PRICES = {"m": Price(1.0, 5.0)}
TOKENS = st.integers(0, 5000)


@given(st.lists(st.tuples(TOKENS, TOKENS, st.sampled_from(["spend", "keep", "release", "hold"]), st.floats(0, 1))))
def test_reserved_plus_spent_never_passes_the_cap(
    requests: list[tuple[int, int, str, float]],
) -> None:
    ledger = Ledger(PRICES, cap=0.03)
    for most_in, most_out, end, share in requests:
        try:
            held = ledger.reserve("openai:m", most_in, most_out)
        except OverBudget:
            assert ledger.spent + ledger.reserved + PRICES["m"].cost(most_in, most_out) > 0.03
            continue
        assert ledger.spent + ledger.reserved <= 0.03 + 1e-12
        before = ledger.spent
        if end == "spend":
            cost = held.spend(int(most_in * share), int(most_out * share))
            assert ledger.spent == pytest.approx(before + (cost or 0.0))
        elif end == "keep":
            assert held.keep() == held.worst
        elif end == "release":
            with held:
                pass
            assert ledger.spent == before
        with held:  # what was settled once stays so
            pass
        assert ledger.spent + ledger.reserved <= 0.03 + 1e-12


def test_many_threads_fill_the_cap_and_none_passes_it() -> None:
    ledger, over, seen = Ledger(PRICES, cap=0.05), Event(), []

    def spend(seed: int) -> None:
        chance = random.Random(seed)
        while True:
            try:
                with ledger.reserve("m", 400, 100, patience=over) as held:
                    seen.append(ledger.spent + ledger.reserved)
                    held.spend(chance.randrange(401), chance.randrange(101))
            except OverBudget:
                return

    threads = [Thread(target=spend, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(seen) <= 0.05 + 1e-12
    assert ledger.reserved == 0.0
    assert 0.05 - ledger.spent < PRICES["m"].cost(400, 100), "they waited for each other before they gave up"


def test_a_price_is_found_with_and_without_the_service() -> None:
    prices = {"a/b": Price(1, 1), "anthropic:c": Price(2, 2)}
    ledger = Ledger(prices, cap=1.0)
    assert ledger.price_of("openai:a/b") == Price(1, 1)
    assert ledger.price_of("anthropic:c") == Price(2, 2)
    with pytest.raises(InputError, match=r"budget.usd: a cap needs the price of x:8b, .* \"x:8b\" = "):
        ledger.price_of("openai:x:8b")
    assert Ledger(prices).price_of("openai:x") is None


def test_without_a_price_nothing_is_counted() -> None:
    ledger = Ledger()
    with ledger.reserve("m", 10, 10) as held:
        assert held.spend(5, 5) is None
    with ledger.reserve("m", 10, 10) as held:
        assert held.keep() is None
    assert ledger.spent == 0.0
    assert not ledger.exhausted


def test_a_service_that_reports_more_than_was_reserved_does_not_pass_the_cap_again_and_again() -> None:
    ledger, over, highest, under_way, most = Ledger(PRICES, cap=0.01), Event(), [0], [0], [0]

    def ask() -> None:
        while True:
            try:
                with ledger.reserve("m", 60, 10, patience=over) as held:
                    under_way[0] += 1
                    if not highest[0]:
                        most[0] = max(most[0], under_way[0])
                    over.wait(0.01)
                    held.spend(2000, 30)
                    highest[0] += 1
                    under_way[0] -= 1
            except OverBudget:
                return

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1, "the first goes alone"
    assert highest[0] == 4
    assert ledger.spent <= 0.01
