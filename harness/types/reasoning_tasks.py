"""Which verifier suits which task of reasoning-gym, where rewards.math does not (by reading its 106 scorers, 0.1.25).

Shared by pools/reasoning.py, which says it, and rewards/reasoning.py, which judges.
"""

from __future__ import annotations

from collections.abc import Sequence

RUNS_TEXT = frozenset([
    "binary_matrix", "countdown", "intermediate_integration", "n_queens", "polynomial_multiplication", "puzzle24",
    "simple_integration", "spiral_matrix", "string_insertion",
])  # fmt: skip
"""Their scorers run what a model wrote (eval, or SymPy's parse_expr, which is eval): never used here."""

OWN_SCORER = frozenset([
    "codeio", "game_of_life", "group_anagrams", "jugs", "kakurasu", "knight_swap", "palindrome_partitioning",
    "pool_matrix", "quantum_lock", "tower_of_hanoi",
])  # fmt: skip
"""Judged by their own scorers, 1.0 or nothing: several answers are right, or one in several spellings."""

AS_TEXT = frozenset([
    "ab", "arc_1d", "arc_agi", "binary_matrix", "emoji_mystery", "futoshiki", "intermediate_integration",
    "manipulate_matrix", "mini_sudoku", "modulo_grid", "n_queens", "path_star", "polynomial_multiplication", "rearc",
    "rotate_matrix", "sentence_reordering", "simple_integration", "spiral_matrix", "string_splitting",
    "string_synthesis", "sudoku", "survo",
])  # fmt: skip
"""Compared with the gold answer as text, up to white space: rewards.math cannot read them."""

EXPRESSIONS = frozenset(["countdown", "puzzle24"])
"""Any expression with the right numbers and value is right: rewards.countdown."""


def describe_verifiers(tasks: Sequence[str]) -> str:
    """Say which verifier the tasks need, in one line; empty where rewards.math will do for all."""
    kinds = (
        (OWN_SCORER, "rewards.reasoning, by the task's own scorer"),
        (AS_TEXT - RUNS_TEXT, "rewards.reasoning, as text"),
        (AS_TEXT & RUNS_TEXT, "rewards.reasoning, as text (its own scorer runs what a model wrote, so it is refused)"),
        (EXPRESSIONS, "rewards.countdown (its own scorer runs what a model wrote, so it is refused)"),
    )
    said = [f"{', '.join(named)}: {how}" for kind, how in kinds if (named := [task for task in tasks if task in kind])]
    return f"reasoning-gym tasks are judged by other rewards than rewards.math: {'; '.join(said)}" if said else ""
