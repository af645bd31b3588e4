"""How answerers are asked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """At most ``concurrency`` questions are in flight, and ``requests_per_minute`` are sent, evenly spread. Each is
    tried up to ``attempts`` times, of at most ``time_limit`` seconds each."""

    concurrency: int = 10
    requests_per_minute: int | None = None
    attempts: int = 5
    time_limit: float = 120.0
