"""The commands as functions: light to import, silent, with a frozen result that is what ``--json`` prints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from harness import commands
from harness.errors import InputError
from tests.support.builders import make_store
from tests.support.nights import record_night
from tests.support.program import Program

HEAVY = ("torch", "numpy", "sqlalchemy", "pyarrow", "pydantic", "plotly", "rich", "typer", "harness.store.reader")


def test_importing_them_loads_nothing_heavy() -> None:
    code = f"import sys; from harness import commands; print(sorted(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", [name for name in commands.__all__ if name != "pool"])
def test_no_module_takes_the_name_of_a_function(name: str) -> None:
    """An import of ``harness.commands.NAME`` would put the module in the function's place."""
    assert callable(getattr(commands, name))
    assert not (Path(commands.__file__).parent / f"{name}.py").exists()


def test_what_is_on_record_comes_back_as_the_program_prints_it(
    program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    (program.folder / "runs").mkdir()
    store = make_store(program.folder / "runs")
    record_night(store, "first", right=60)
    record_night(store, "second", right=80)
    here = {"db": store.url}
    runs = commands.list_runs(**here)
    review = commands.review("latest", **here)
    comparison = commands.compare(["first", "second"], **here)
    assert capsys.readouterr() == ("", "")
    assert [run.run for run in runs] == ["first", "second"]
    assert review.document["heldout"]["n"] == 100
    assert comparison.document["reference"] == "first"
    for result, words in (
        (review.to_json(), ("review", "latest")),
        (comparison.to_json(), ("compare", "first", "second")),
    ):
        assert json.loads(program.here(*words, "--json").stdout) == json.loads(json.dumps(result))
    listed = json.loads(program.here("runs", "--json").stdout)
    assert [row["best_step"] for row in listed] == [run.best_step for run in runs]
    assert list(listed[0]) == ["run", "status", "alive", "stop_reason", "policy", "seed", "steps", "rollouts",
                               "wall_s", "best_step", "created"]  # fmt: skip
    with pytest.raises(FrozenInstanceError):
        runs[0].run = "other"  # type: ignore[misc]
    store.close()


def test_pages_are_written_beside_the_documents(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    record_night(store, "night")
    found = commands.review("night", html=tmp_path / "night.html", db=store.url)
    assert found.document["run"] == "night"
    page = (tmp_path / "night.html").read_text(encoding="utf-8")
    assert f"--db {store.url}" in page, "the database is not where grpo looks first"
    store.close()


def test_without_a_database_there_are_no_runs(tmp_path: Path) -> None:
    assert commands.list_runs(out=str(tmp_path)) == ()
    assert list(tmp_path.iterdir()) == []


def test_this_machine_and_the_alerts(tmp_path: Path) -> None:
    found = commands.doctor(out=str(tmp_path))
    assert [check.what for check in found][:3] == ["python", "packages", "cores"]
    assert all(check.mend for check in found if not check.ok)
    sent = commands.alert_test(overrides=['alerts.command=["true"]'])
    assert list(sent.to_json().values()) == ["sent"]
    assert not any(sent.faults.values())


def test_reference_answers_and_preflight() -> None:
    seen: list[str] = []
    small = ["pool.source=arithmetic?digits=1&size=60", "pool.splits={test=5, dev=5, probe=5}", "warmstart.steps=0"]
    found = commands.check(overrides=small, progress=lambda phase, done, total: seen.append(phase))
    assert (found.rows, found.passed, dict(found.reasons), found.failures) == (60, 60, {}, ())
    assert "checking train" in seen
    assert commands.preflight(overrides=small).verdict in ("pass", "warn")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: commands.act("latest", ["dance"]), "no action 'dance'"),
        (lambda: commands.act("nobody", ["pause"]), "no run named nobody"),
        (commands.review, "no run named latest"),
        (lambda: commands.compare([]), "no run named latest"),
        (lambda: commands.evaluate("nobody"), "no run named nobody, and no model folder"),
        (lambda: commands.export("nobody"), "no run named nobody"),
        (lambda: commands.probe("nothing.toml"), "no spec file at nothing.toml"),
        (lambda: commands.check("arithmetc"), "no recipe named arithmetc"),
        (commands.alert_test, "names no webhook and no command"),
        (lambda: commands.pool.show("nobody"), "no run named nobody"),
        (lambda: commands.pool.export("nobody", Path("out.txt")), "must end in .jsonl"),
        (lambda: commands.pool.build(Path("out.jsonl"), spec="arithmetic", model="nobody"), "no run named nobody"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_input_raises_one_line_and_creates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refusal:
        call()
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []
