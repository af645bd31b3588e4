"""Layouts of programming tasks: their tests as the ground truth of rewards.code (docs/rewards.md)."""

from __future__ import annotations

from pools.layouts.base import Finder

FINDERS: tuple[Finder, ...] = ()
