"""How this program starts Python and imports a user's code, and what it leaves in his folder: nothing that he has not
asked for.

A user's ``rewards.py`` is found by name, but never in place of a module of ours, and no bytecode is written beside it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import sysconfig
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = (
    *(ROOT / name for name in ("harness", "policies", "pools", "rewards")),
    *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
)
"""Folders whose modules are compiled once and kept so: ours, the libraries', the standard library's."""

_write_bytecode = SourceFileLoader.set_data


def python_words(module: str) -> list[str]:
    """Return the words that start Python on ``module``, with no file of the working directory in its place."""
    return [sys.executable, "-P", "-m", module]


def find_user_modules() -> None:
    """Let modules of the working directory be imported by name, after all others.

    Started as ``grpo`` this program would not find them, started as ``python -m harness`` it would find them first.
    """
    if "" not in sys.path:
        sys.path.append("")


def import_user_code(name: str) -> ModuleType:
    """Import a user's ``package.module``, or run ``folder/file.py`` anew as a module of its own.

    Raises whatever the module does at import (SystemExit too), FileNotFoundError where there is no such file.
    """
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = Path(name)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    spec = importlib.util.spec_from_file_location(f"user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def keep_bytecode_home() -> None:
    """Write bytecode only beside INSTALLED modules, whatever else this process imports from now on.

    ``sys.dont_write_bytecode`` would also leave the libraries uncompiled where their installer did (uv), which is
    thirteen seconds at every start.
    """
    SourceFileLoader.set_data = _write_if_installed  # type: ignore[method-assign, assignment]


def _write_if_installed(loader: SourceFileLoader, path: str, data: Any, **options: Any) -> None:
    if sys.pycache_prefix or any(Path(loader.path).is_relative_to(folder) for folder in INSTALLED):
        _write_bytecode(loader, path, data, **options)
