"""The page that a run writes when it ends, by the real program."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.run.report_process import REPORT, write_report_apart
from tests.support.builders import make_store
from tests.support.nights import record_night
from tests.support.program import Program

SHORT = ("--name", "short", "--steps", "1", "--set", "warmstart.steps=0", "--plain")


def test_a_run_ends_with_its_page_and_a_page_that_fails_ends_no_run(program: Program) -> None:
    program.here("run", "mini.toml", *SHORT)
    page = program.folder / "runs" / "short" / REPORT
    assert "short: run report" in page.read_text(encoding="utf-8")
    assert not [event for event in program.review("short")["events"] if REPORT in event["text"]]
    page.unlink()
    page.mkdir()  # nothing can be written there
    program.here("resume", "short", "--steps", "2", "--plain")
    review = program.review("short")
    assert (review["status"], review["steps"]) == ("finished", 2)
    (told,) = [event for event in review["events"] if REPORT in event["text"]]
    assert (told["level"], "is a folder" in told["text"]) == ("warning", True)


def test_the_page_of_another_process_is_there_or_its_fault_is_told(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    record_night(store)
    store.close()
    assert write_report_apart(store.url, "night", tmp_path / REPORT) == ""
    assert (tmp_path / REPORT).stat().st_size > 2**20
    assert "no run named nobody" in write_report_apart(store.url, "nobody", tmp_path / REPORT)
    assert "there is no folder" in write_report_apart(store.url, "night", tmp_path / "gone" / REPORT)


def test_a_page_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.run.report_process.LIMIT_S", 0.01)
    assert write_report_apart(f"sqlite:///{tmp_path}/h.db", "night", tmp_path / REPORT) == "it took longer than 0.01 s"


def test_the_commands_write_pages_and_tell_the_difference(program: Program) -> None:
    (program.folder / "runs").mkdir()
    store = make_store(program.folder / "runs")
    record_night(store, "first", right=60)
    record_night(store, "second", right=80)
    store.close()
    assert program.here("review", "first", "--html", "first.html").stdout == "first.html\n"
    assert program.here("compare", "first", "second", "--html", "both.html").stdout == "both.html\n"
    for name in ("first.html", "both.html"):
        assert (program.folder / name).stat().st_size > 2**20
    told = " ".join(program.here("compare", "first", "second").stdout.split())
    assert "second against first at the best checkpoint: +0.200" in told
    assert "prompt by prompt" in told
    assert "spec: no difference" in told
    document = program.here("compare", "first", "second", "--json").stdout
    assert '"reference": "first"' in document
    assert "two or more different runs" in program.here("compare", "first", "first", code=2).stderr
    assert "no run named third" in program.here("compare", "first", "third", "--html", "x.html", code=2).stderr
    assert not (program.folder / "x.html").exists()
    shutil.rmtree(program.folder / "runs")


def test_looking_without_a_page_loads_neither_torch_nor_plotly(program: Program) -> None:
    (program.folder / "runs").mkdir()
    store = make_store(program.folder / "runs")
    record_night(store)
    record_night(store, "other")
    store.close()
    for words in (["review", "night"], ["compare", "night", "other"]):
        done = program.run(*words, environment={"PYTHONPROFILEIMPORTTIME": "1"})
        loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "harness.views.review" in loaded
        assert not loaded & {"torch", "plotly", "jinja2", "harness.views.html.page"}
    done = program.run("review", "night", "--html", "x.html", environment={"PYTHONPROFILEIMPORTTIME": "1"})
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "plotly" in loaded
    assert "torch" not in loaded
