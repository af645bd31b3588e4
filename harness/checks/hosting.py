"""A reward as a hosted evaluator takes it: ``main.py`` that defines ``evaluate``, the files that it imports, and the
packages to install.

A user's one file is the beginning of ``main.py``; modules of this package, and whatever else a reward imports, lie
beside it under their paths. What runs there is the text that judges here: nothing has to be published first.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness import __version__
from harness.config.schema import RewardSpec
from harness.core.processes import ROOT
from harness.errors import InputError
from rewards.contract import Reward

OURS = frozenset({"harness", "policies", "pools", "rewards"})
MAIN = "main.py"
CALLED = "evaluate"
LONGEST_NAME = 60
"""Characters of a text that may be the name of a file."""
ADAPTER = '''\
# How grpo-harness {version} asks the reward.
from rewards.contract import Reward as _GrpoReward
from rewards.contract import load_function as _grpo_load
from rewards.hosted import judge_sample as _grpo_judge

_GRPO = _GrpoReward(
    {{{functions}}},
    weights={weights!r},
    range={range!r},
    solved_at={solved_at!r},
    chat={chat!r},
    thinking_tags={thinking_tags!r},
)


def evaluate(messages, ground_truth=None, tools=None, **kwargs):
    """Judge the last message. Raises RuntimeError where the reward cannot."""
    return _grpo_judge(_GRPO, messages, ground_truth, tools, kwargs)
'''


@dataclass(frozen=True, slots=True)
class HostedSource:
    """``files`` by their paths with ``/``, main.py first. ``requirements`` is the text of a requirements.txt."""

    name: str
    files: Mapping[str, str]
    requirements: str


@dataclass(frozen=True, slots=True)
class _Module:
    """``folder`` is where the names that it imports begin."""

    path: Path
    folder: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(self.folder).as_posix()


def collect_source(spec: RewardSpec, reward: Reward, *, chat: bool) -> HostedSource:
    """Collect what an evaluator of this reward needs. Raises InputError for a source that cannot be had, or that lies
    where another must."""
    modules = [_find_module(name) for name in spec.functions]
    own = {module.path: module for module in modules if module is not None and module.folder != ROOT}
    head = ""
    inside: _Module | None = None
    if len(own) == 1:
        [inside] = own.values()
        head = _read(inside)
        if inside.path.parent != inside.folder or _binds(head, CALLED):
            head, inside = "", None
    loaded = []
    for named, name, module in zip(reward.functions, spec.functions, modules, strict=True):
        attribute = name.rpartition(":")[2] if ":" in name else ""
        if module is not None and module == inside:
            loaded.append(f"{named!r}: {attribute or _name_of(reward.functions[named])}")
        else:
            word = name if module is None or module.folder == ROOT else _dotted(module, attribute)
            loaded.append(f"{named!r}: _grpo_load({word!r})")
    adapter = ADAPTER.format(
        version=__version__,
        functions=", ".join(loaded),
        weights=spec.weights,
        range=spec.range,
        solved_at=spec.solved_at,
        chat=chat,
        thinking_tags=dict(spec.thinking_tags),
    )
    main = f"{head.rstrip()}\n\n\n{adapter}" if head.strip() else adapter
    roots = [_Module(ROOT / "rewards" / name, ROOT) for name in ("contract.py", "hosted.py")]
    found, packages = _follow([*roots, *(module for module in modules if module is not None)])
    packages |= {name.partition(".")[0] for name, module in zip(spec.functions, modules, strict=True) if module is None}
    files = {MAIN: main}
    for module in found:
        if module == inside:
            continue
        if module.name in files or (module.folder != ROOT and module.path.stem in OURS):
            raise InputError(
                f"reward.function: {module.path.name} cannot be posted beside {MAIN}, since a file of the evaluator "
                "has that name; rename it"
            )
        files[module.name] = _read(module)
    return HostedSource("+".join(reward.functions), files, "\n".join(_pin(packages)))


# ---------------------------------------------------------------- functions


def _find_module(function: str) -> _Module | None:
    """Find the file of a function's module; None for one of an installed package, which is a requirement."""
    name = function.rpartition(":")[0] or function
    if name.endswith(".py"):
        path = Path(name).resolve()
        return _Module(path, path.parent)
    if name.partition(".")[0] in OURS:
        return _Module(_locate(ROOT, name)[-1], ROOT)
    if name.partition(".")[0] in _distributions():
        return None
    found = importlib.util.find_spec(name)
    if found is None or not found.origin or not found.origin.endswith(".py"):
        raise InputError(f"reward.function: {name} has no source text, so there is nothing to post")
    path = Path(found.origin).resolve()
    up = name.count(".") + (path.name == "__init__.py")
    return _Module(path, path.parents[up])


def _dotted(module: _Module, attribute: str) -> str:
    dotted = module.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return f"{dotted}:{attribute}" if attribute else dotted


def _name_of(function: object) -> str:
    """Find what a module calls the function that it was loaded for."""
    module = sys.modules[function.__module__]
    return next(name for name, value in vars(module).items() if value is function)


def _binds(source: str, name: str) -> bool:
    """Whether a module has a function, a class or an import of this name, or assigns to it, at its top."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound = {node.name}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound = {alias.asname or alias.name for alias in node.names}
        else:
            stored = (each for each in ast.walk(node) if isinstance(each, ast.Name))
            bound = {each.id for each in stored if isinstance(each.ctx, ast.Store)}
        if name in bound:
            return True
    return False


def _read(module: _Module) -> str:
    try:
        return module.path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"reward.function: cannot read {module.path}: {error}") from None


# ---------------------------------------------------------------- what they import


def _follow(modules: list[_Module]) -> tuple[list[_Module], set[str]]:
    """Follow imports to files, sorted by path, and to the packages that must be installed."""
    left, found, packages = list(modules), set[_Module](), set[str]()
    while left:
        module = left.pop()
        if module in found:
            continue
        found.add(module)
        left += [_Module(path, module.folder) for path in _packages_of(module)]
        for name in _names_in(module):
            top = name.partition(".")[0]
            folder = ROOT if top in OURS else module.folder
            if top in sys.stdlib_module_names:
                continue
            if files := _locate(folder, name):
                left += [_Module(path, folder) for path in files]
            elif top not in OURS and top in _distributions():
                packages.add(top)
    return sorted(found, key=lambda module: module.name), packages


def _names_in(module: _Module) -> Iterator[str]:
    """What a module imports by whole names, and the files beside it that it names (rewards/sandbox.py starts one)."""
    within = module.path.parent.relative_to(module.folder).parts
    for node in ast.walk(ast.parse(_read(module))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*within[: len(within) + 1 - node.level]] if node.level else []
            parts = [*base, *([node.module] if node.module else [])]
            yield from (".".join([*parts, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < LONGEST_NAME:
            stem = node.value.removesuffix(".py")
            if stem != node.value and stem.isidentifier():
                yield ".".join([*within, stem])


def _locate(folder: Path, name: str) -> list[Path]:
    """The files that importing ``name`` runs, the packages around it first; a last part may be no module."""
    found, place = [], folder
    for part in name.split("."):
        if (place / part / "__init__.py").is_file():
            found.append(place / part / "__init__.py")
        elif (place / f"{part}.py").is_file():
            return [*found, place / f"{part}.py"]
        elif not (place / part).is_dir():
            break
        place /= part
    return found


def _packages_of(module: _Module) -> Iterator[Path]:
    for folder in module.path.parents:
        if folder == module.folder:
            return
        if (folder / "__init__.py").is_file():
            yield folder / "__init__.py"


@cache
def _distributions() -> Mapping[str, list[str]]:
    """The installed distributions by the modules in them. It takes a second where many are."""
    return importlib.metadata.packages_distributions()


def _pin(modules: set[str]) -> list[str]:
    """The distributions that hold these modules, in the versions installed here."""
    names = {distribution for module in modules for distribution in _distributions().get(module, [])}
    # A local version (2.13.0+cpu) is on no index.
    return sorted(f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names)
