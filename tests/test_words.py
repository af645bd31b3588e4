"""Forbid retired words in what people read: messages, help, pages, docs. docs/glossary.md has the words in use."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RETIRED = {
    r"mend(s|ed|ing)?": "fix",
    r"looks? at (dev|test)": "dev evaluation, test evaluation",
    r"(a|the|no|one|two|three|next|last|first|newest) looks?(?! (at|like))": "evaluation",
    r"flat": "zero-variance",
    r"hopeless": "never solved",
    r"by hand": "user action",
    r"heard": "last update",
    r"((is|has) gone|process gone)": "process died",
    r"(go|goes|going|gone|went) on": "continue",
    r"KL to the start": "KL to the initial model",
    r"full marks": "scores 1.0",
    r"wanted": "expected",
    r"USD (are|were) spent": "LLM budget exhausted",
    r"needs a person": "reward needs review",
    r"night watch": "Autonomous GRPO tuning",
    r"(?-i:Rooms)": "Project layout",
    r"(?-i:What changed|What to do next)": "Changes and actions, Next steps",
    r"In all:": "Net change:",
    r"dead groups?": "groups without signal",
    r"(the|a) focus|focus of": "target pass rate",
    r"knobs?(?!(\.\w|=))": "hyperparameter",
}
WORDS = {re.compile(rf"(?<![\w\[.`/-]){word}(?![\w\]-])", re.I): better for word, better in RETIRED.items()}
SPELLINGS = {
    "knobs": "a section of specs and of the JSON documents, a column of the database",
    "focus": "a field of specs, an action and a column",
    "flat": "a kind of group and a finding in records",
    "hopeless": "a class of prompts in records and JSON documents",
    "knobs.": "the beginning of a field",
    "Knobs": "a class that user code imports",
    "knob": "a filter of the templates",
    "release knob": "the form of an action, as `grpo act` prints it",
    "focus ": "the beginning of an action, as it is typed",
}
"""Whole strings that stay, since users and records have them."""
SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|run_id|manifest|, spec, knobs)\b")
HISTORY = ("docs/log.md",)
"""History is told in the words of its time."""


def find_retired(text: str) -> list[str]:
    return [f"{found[0]!r}: say {better}" for word, better in WORDS.items() for found in word.finditer(text)]


def _strings(path: Path, *, docstrings: bool) -> Iterator[tuple[int, str]]:
    """Every string constant of a module; docstrings, and texts under a constant that explain it, only on demand."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    explaining = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    helps = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        told = id(node) not in explaining or (docstrings and id(node) in helps)
        if told and isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def _modules() -> list[Path]:
    return [path for top in ("harness", "policies", "pools") for path in sorted((ROOT / top).rglob("*.py"))]


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_messages_and_help_have_no_retired_word(path: Path) -> None:
    help_texts = path.is_relative_to(ROOT / "harness" / "cli")
    found = [
        f"{path.name}:{line}: {wrong}"
        for line, text in _strings(path, docstrings=help_texts)
        if text not in SPELLINGS and not SQL.match(text)
        for wrong in find_retired(text)
    ]
    assert not found, "\n".join(found)


def _pages() -> list[Path]:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "runs" / "recipes").glob("**/*.toml")]
    pages += (ROOT / "runs" / "recipes").glob("**/*.md")
    pages += [path for path in (ROOT / "harness").rglob("templates/*") if path.suffix in (".html", ".js", ".md")]
    return [path for path in sorted(pages) if str(path.relative_to(ROOT)) not in HISTORY]


@pytest.mark.parametrize("path", _pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_docs_and_pages_have_no_retired_word(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html" or path.name == "card.md":
        text = re.sub(r'\b(id|class|href)="[^"]*"', "", text)
        text = re.sub(
            r"\{[%{#].*?[%}#]\}", lambda code: " ".join(re.findall(r'"[^"]* [^"]*"', code[0])), text, flags=re.S
        )
    text = re.sub(r"```.*?```|`[^`\n]*`|^ {4}.*?(?=#|$)", " ", text, flags=re.S | re.M)
    found = [
        f"{path.name}:{number}: {wrong}"
        for number, line in enumerate(text.splitlines(), 1)
        for wrong in find_retired(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("text", ["Mend it", "3 prompts are flat", "its process is gone", "it goes on", "no knob"])
def test_a_retired_word_is_found(text: str) -> None:
    assert find_retired(text)


@pytest.mark.parametrize("text", ["knobs.beta=0.1", "set knob=value", "`flat`", "recommended", "[knobs]", "look at it"])
def test_other_words_are_left_alone(text: str) -> None:
    assert not find_retired(text)


def test_the_glossary_has_every_metric() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    metric = re.compile(r"(reward|group|completion|kl|entropy|grad|update|time|pool)/[a-z_]+")
    used = {name for path in _modules() for _, name in _strings(path, docstrings=False) if metric.fullmatch(name)}
    assert len(used) > 20
    assert not {name for name in used if f"| `{name}` |" not in text}
