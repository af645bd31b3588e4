"""What the shell offers on Tab. It is asked at every key press, so nothing heavy is imported, and it never complains.

Each function takes the command line as far as it is typed, and returns words, each with a hint that zsh and fish show.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from harness.config.names import ANSWERERS, KNOWN_MODELS, POLICY_KINDS, REPLAY, recipe_names
from harness.core.actions import USAGE
from harness.core.formatting import clean
from harness.core.knobs import KNOB_NAMES
from harness.core.paths import database_url
from harness.llm.names import RECORDED

POLICIES = (*POLICY_KINDS, REPLAY)
SPEC_ENDINGS = (".toml", ".json")
RECORD_ENDINGS = (".jsonl", ".json", ".csv", ".parquet")
NEXT_WORDS = {
    "set": [f"{knob}=" for knob in KNOB_NAMES],
    "release": list(KNOB_NAMES),
    "focus": ["easier", "harder", "unset"],
    "rollback": ["best"],
    "policy": list(POLICIES),
}
"""Of an action, after its verb."""

Offer = list[tuple[str, str]]


def complete_run(ctx: typer.Context, incomplete: str) -> Offer:
    """Offer names of runs, the newest first, in the database that ``--db`` or ``--out`` names so far."""
    from harness.store.reader import list_runs_to_offer

    url = database_url(ctx.params.get("out") or "runs", ctx.params.get("db"))
    # A name that a terminal would obey, from the database of somebody else, is none to type.
    found = [run for run in list_runs_to_offer(url) if clean(run.name) == run.name]
    named = [run for run in found if run.name.startswith(incomplete)]
    offer: Offer = [(run.name, clean(f"{run.status}, step {run.last_step}")) for run in named]
    if found and "latest".startswith(incomplete):
        offer.append(("latest", f"the newest, {found[0].name}"))
    return offer


def complete_model(ctx: typer.Context, incomplete: str) -> Offer:
    """Offer runs, models by name and folders, what services begin with, and after ``recorded:`` files."""
    if incomplete.startswith(RECORDED):
        return [(RECORDED + name, hint) for name, hint in _files(incomplete.removeprefix(RECORDED), RECORD_ENDINGS)]
    named = _starting((*KNOWN_MODELS, *ANSWERERS), incomplete)
    return [*complete_run(ctx, incomplete), *named, *_files(incomplete, ())]


def complete_spec(ctx: typer.Context, incomplete: str) -> Offer:
    """Offer recipes, spec files and the folders on the way to them."""
    del ctx
    return [*_starting(recipe_names(), incomplete), *_files(incomplete, SPEC_ENDINGS)]


def complete_action(ctx: typer.Context, incomplete: str) -> Offer:
    """Offer the verb of an action, then what goes with it."""
    words = ctx.params.get("words") or ()
    if not words:
        return [(verb, usage) for verb, usage in USAGE.items() if verb.startswith(incomplete)]
    return _starting(NEXT_WORDS.get(words[0], ()), incomplete)


def complete_policy(ctx: typer.Context, incomplete: str) -> Offer:
    """Offer kinds of decision policies, and the runs that one can repeat."""
    if incomplete.startswith(REPLAY):
        return [(f"{REPLAY}{name}", hint) for name, hint in complete_run(ctx, incomplete.removeprefix(REPLAY))]
    return _starting(POLICIES, incomplete)


def _starting(words: Sequence[str], incomplete: str) -> Offer:
    return [(word, "") for word in words if word.startswith(incomplete) and clean(word) == word]


def _files(incomplete: str, endings: tuple[str, ...]) -> Offer:
    """Offer files with one of ``endings``, and folders."""
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    found = [f"{path}/" if path.is_dir() else str(path) for path in entries if not path.name.startswith(".")]
    prefix = "./" if incomplete.startswith("./") else ""
    return _starting([prefix + name for name in found if name.endswith((*endings, "/"))], incomplete)
