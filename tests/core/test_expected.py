"""The words of a decision as metrics and directions."""

from __future__ import annotations

import pytest

from harness.core.expected import Expectation, parse_expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("dev back to about 0.8", ()),
        ("kl/mean falls and dev rises", (Expectation("kl/mean", "falls"), Expectation("dev", "rises"))),
        ("the test score is near dev", ()),
        ("dev rises back to its best", (Expectation("dev", "rises"),)),
        ("group/mixed_rate rises sometime", (Expectation("group/mixed_rate", "rises"),)),
        (
            "completion/truncated_rate falls, group/unsolved_rate falls",
            (Expectation("completion/truncated_rate", "falls"), Expectation("group/unsolved_rate", "falls")),
        ),
    ],
)
def test_expectations_are_read_from_a_decisions_own_words(text: str, found: tuple[Expectation, ...]) -> None:
    assert parse_expected(text) == found
