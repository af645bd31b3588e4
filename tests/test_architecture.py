"""The order of the layers, as docs/architecture.md draws it, and the few things that no module does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = (
    ("harness.errors",),
    ("harness.types",),
    ("harness.core",),
    ("harness.llm", "harness.logs"),
    ("pools", "rewards", "policies"),
    ("harness.config",),
    ("harness.store",),
    ("harness.models",),
    ("harness.views",),
    ("harness.training", "harness.monitoring", "harness.checks"),
    ("harness.run",),
    ("harness.commands",),
    ("harness.cli",),
)
"""Lowest first. A package imports itself and what stands before it, never its neighbours in a row."""

RANK = {package: rank for rank, row in enumerate(LAYERS) for package in row}
TORCH = {"torch", "trl", "transformers", "peft", "datasets"}
USES_TORCH = ("harness.models", "harness.training", "harness.run", "harness.commands")
"""Packages with modules that import torch at the top; in all others nothing does."""
MAY_IMPORT = {
    "trl": ("harness.training",),
    "sqlite3": ("harness.store",),
    "sqlalchemy": ("harness.store",),
    "sqlmodel": ("harness.store",),
    "typer": ("harness.cli",),
    "anthropic": ("harness.llm",),
    "openai": ("harness.llm",),
}
"""Who may use a library that only one layer knows."""
TEST_FOLDERS = ("tests.support", "tests.assets")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): path for top in ("harness", "policies", "pools", "rewards") for path in (ROOT / top).rglob("*.py")
}


def package_of(module: str) -> str:
    """The entry of LAYERS a module belongs to, "" for harness itself and its ``__main__``."""
    return next((package for package in RANK if module == package or module.startswith(f"{package}.")), "")


def imports_of(path: Path, *, top_only: bool = False) -> set[str]:
    """Modules that a file imports at run time: anywhere in it, or only as it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def ours(path: Path, *, top_only: bool = False) -> set[str]:
    return imports_of(path, top_only=top_only) & MODULES.keys()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_layers_below_its_own(module: str) -> None:
    own = package_of(module)
    if not own:
        return
    wrong = {
        found
        for found in ours(MODULES[module])
        if (package := package_of(found)) not in ("", own) and RANK[package] >= RANK[own]
    }
    assert not wrong


def test_no_import_cycle() -> None:
    seen: dict[str, bool] = {}

    def visit(module: str, behind: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if module in behind:
            yield (*behind[behind.index(module) :], module)
        elif module not in seen:
            for found in sorted(ours(MODULES[module]) - {module}):
                yield from visit(found, (*behind, module))
            seen[module] = True

    cycles = [cycle for module in sorted(MODULES) for cycle in visit(module, ())]
    assert not cycles


def test_a_library_of_one_layer_is_used_there_alone() -> None:
    for module, path in MODULES.items():
        for library in imports_of(path):
            allowed = MAY_IMPORT.get(library.partition(".")[0])
            assert allowed is None or package_of(module) in allowed, (module, library)


def test_what_people_read_with_never_imports_torch() -> None:
    for module, path in MODULES.items():
        if package_of(module) not in USES_TORCH:
            assert not {name.partition(".")[0] for name in imports_of(path, top_only=True)} & TORCH, module


def test_folders_and_files_stay_small() -> None:
    for folder in (path for path in (ROOT / "harness").rglob("*") if path.is_dir() and path.name != "__pycache__"):
        assert len(list(folder.glob("*.py"))) <= 14, folder
    for module, path in MODULES.items():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 600, module


def test_tests_import_no_other_tests_and_no_benchmarks() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        # What measures a GPU measures a step against TRL's as the benchmarks do.
        allowed = (*TEST_FOLDERS, "tests.benchmarks") if path.parent.name in ("benchmarks", "gpu") else TEST_FOLDERS
        for name in imports_of(path):
            assert not name.startswith("tests.") or name.startswith(allowed), (path, name)
