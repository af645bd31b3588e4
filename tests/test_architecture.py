"""The arrows between the rooms, as docs/architecture.md draws them, read from the imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("harness", "policies", "rewards", "pools")

CORE = {
    "harness.types",
    "harness.errors",
    "harness.core.knobs",
    "harness.core.step_metrics",
    "harness.core.seeds",
    "harness.run.state",
}
SESSION = CORE | {"harness.core.branch", "harness.run.checkpoints"}
ALLOWED = {
    "harness.types": set(),
    "harness.errors": set(),
    "harness.core.seeds": set(),
    "harness.core.step_metrics": {"harness.types"},
    "harness.core.formatting": {"harness.types"},
    "harness.core.knobs": {"harness.types", "harness.errors", "harness.core.formatting"},
    "harness.core.branch": {
        "harness.types",
        "harness.errors",
        "harness.core.statistics",
        "harness.core.knobs",
        "harness.core.formatting",
    },
    "harness.run.state": {"harness.types", "harness.errors", "harness.core.branch", "harness.core.knobs"},
    "harness.core.paths": {"harness.types", "harness.errors"},
    "harness.run.checkpoints": {"harness.types", "harness.errors", "harness.core.paths"},
    "harness.run.verbs": SESSION,
    "harness.run.session": SESSION | {"harness.run.verbs"},
    "harness.run.controller": {"harness.types", "harness.errors", "harness.core.branch", "harness.run.session"},
    "harness.store.retry": {"harness.errors"},
    "harness.store.schema": set(),
    "harness.store.migrations": {"harness.errors"},
    "harness.store.buckets": {"harness.store.schema"},
    "harness.store.reader": {
        "harness.types",
        "harness.errors",
        "harness.core.paths",
        "harness.store.migrations",
        "harness.store.retry",
    },
    "harness.store.snapshot": {"harness.types", "harness.core.paths", "harness.store.reader"},
    "harness.run.replay": {
        "harness.types",
        "harness.errors",
        "harness.config.names",
        "harness.core.paths",
        "harness.store.reader",
        "harness.config.schema",
    },
    "harness.config.names": set(),
    "harness.monitoring.alerts": {
        "harness.types",
        "harness.config.names",
        "harness.views.summary",
        "harness.core.formatting",
    },
    "harness.monitoring.notifiers": {"harness.errors", "harness.config.names"},
    "harness.monitoring.alert_process": {
        "harness.types",
        "harness.errors",
        "harness.monitoring.alerts",
        "harness.monitoring.notifiers",
        "harness.core.paths",
        "harness.store.reader",
        "harness.store.snapshot",
        "harness.store.writer",
    },
    "harness.cli.completion": {
        "harness.core.actions",
        "harness.core.knobs",
        "harness.config.names",
        "harness.core.paths",
        "harness.store.reader",
    },
    "harness.core.statistics": {"harness.types"},
    "harness.views.html.plots": {"harness.types", "harness.views.summary", "harness.core.formatting"},
    "harness.views.comparison": {
        "harness.types",
        "harness.core.statistics",
        "harness.views.summary",
        "harness.views.terminal.drawing",
        "harness.views.review",
        "harness.core.formatting",
    },
    "harness.views.html.page": {
        "harness.types",
        "harness.views.comparison",
        "harness.core.statistics",
        "harness.views.summary",
        "harness.views.html.plots",
        "harness.views.review",
        "harness.core.formatting",
    },
    "harness.views.review": {
        "harness.types",
        "harness.core.paths",
        "harness.core.statistics",
        "harness.views.summary",
        "harness.views.terminal.drawing",
        "harness.core.formatting",
    },
    "harness.views.terminal.drawing": {"harness.types", "harness.core.formatting"},
    "harness.views.summary": {"harness.types", "harness.core.formatting"},
    "harness.views.terminal.curves": {"harness.types", "harness.views.terminal.drawing"},
    "harness.views.terminal.lists": {"harness.types", "harness.views.terminal.drawing", "harness.views.summary"},
    "harness.views.terminal.panes": {
        "harness.types",
        "harness.core.formatting",
        "harness.core.knobs",
        "harness.views.terminal.drawing",
        "harness.views.summary",
    },
    "harness.views.terminal.frame": {
        "harness.types",
        "harness.views.terminal.curves",
        "harness.views.terminal.lists",
        "harness.views.summary",
        "harness.views.terminal.drawing",
        "harness.views.terminal.panes",
    },
    "harness.views.terminal.keyboard": set(),
    "harness.views.terminal.controls": {
        "harness.types",
        "harness.errors",
        "harness.core.knobs",
        "harness.core.actions",
        "harness.views.terminal.frame",
    },
}
"""What these modules may import of ours; the rest is bound by the rules below."""

TORCH_FREE = {
    "cli",
    "cli_drive",
    "cli_live",
    "cli_model",
    "cli_pool",
    "cli_review",
    "cli_reward",
    "cli_run",
    "cli_setup",
    "completion",
    "alerts",
    "hooks",
    "lookout",
    "gate",
    "preflight",
    "references",
    "cli_branch",
    "cli_replay",
    "convert",
    "inputs",
    "store",
    "snapshot",
    "dashboard",
    "hands",
    "watch",
    "beside",
    "report",
    "report_file",
    "compare",
    "page",
    "plots",
    "spec",
    "session",
    "controller",
    "actions",
    "replay",
}


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports at run time, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def modules() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).glob("*.py")) if path.name != "__init__.py"]


def ours(found: set[str]) -> set[str]:
    known = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules()}
    return found & known


@pytest.mark.parametrize("module", sorted(ALLOWED))
def test_core_modules_import_only_what_is_drawn(module: str) -> None:
    path = ROOT / Path(*module.split(".")).with_suffix(".py")
    assert ours(imports_of(path)) <= ALLOWED[module]


@pytest.mark.parametrize(
    "path", [p for p in modules() if p.parent.name != "harness"], ids=lambda p: f"{p.parent.name}.{p.stem}"
)
def test_policies_rewards_and_pools_know_only_types_and_errors(path: Path) -> None:
    outside = {name for name in ours(imports_of(path)) if not name.startswith(f"{path.parent.name}.")}
    assert outside <= {"harness.types", "harness.errors"}


WIRING = {
    "build",
    "inputs",
    "convert",
    "pool_build",
    "pool_report",
    "cli_pool",
    "gate",
    "doctor",
    "report_file",
}


def test_only_the_wiring_knows_concrete_policies_and_pools() -> None:
    for path in (ROOT / "harness").glob("*.py"):
        found = ours(imports_of(path))
        if path.stem not in WIRING:
            assert not {name for name in found if name.startswith(("policies.", "pools.", "rewards."))} - {
                "rewards.format"
            }, path


def test_only_the_trainer_touches_trl_and_only_the_store_opens_databases() -> None:
    for path in modules():
        found = imports_of(path)
        if path.stem not in ("trainer", "warmstart"):
            assert not any(name.split(".")[0] == "trl" for name in found), path
        if path.stem != "store":
            assert "sqlalchemy.create_engine" not in found, path
        if path.stem not in ("store", "records", "buckets"):
            assert not any(name.split(".")[0] in ("sqlalchemy", "sqlmodel") for name in found), path
        if path.stem not in ("store", "records", "buckets", "reader", "snapshot", "migrations"):
            assert "sqlite3" not in found, path


def test_what_people_read_with_never_imports_torch_at_the_top() -> None:
    for stem in TORCH_FREE:
        tree = ast.parse((ROOT / "harness" / f"{stem}.py").read_text())
        top = {
            (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
            for node in tree.body
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        assert not {name.split(".")[0] for name in top} & {"torch", "trl", "transformers", "peft", "datasets"}, stem


def test_no_module_of_the_core_is_over_300_lines() -> None:
    for stem in ("session", "controller"):
        assert len((ROOT / "harness" / f"{stem}.py").read_text().splitlines()) <= 300, stem
