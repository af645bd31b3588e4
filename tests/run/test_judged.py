"""Runs that a judge rewards, behind a real address with the faults of a night: replayed to the last bit without it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import commands
from harness.errors import InputError
from harness.llm.record import read_record
from harness.run.runner import Run
from harness.store.opening import open_store
from tests.support.answers_server import Server, cut, error, html, raw, text
from tests.support.judges import by_digits, judging
from tests.support.runs import KEY, resume_run, review, start_mini

RUBRIC = "How good is this to {prompt}? {answer}\n"
FAULTS = (
    error(500, "api_error"), error(429, "rate_limit_error"), error(529, "overloaded_error"), cut, html(), raw(b"{"),
    text("I cannot say."), error(400, "invalid_request_error"),
)  # fmt: skip
JUDGE = {"model": "anthropic:judge-1", "max_tokens": 100}


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setattr("harness.llm.faults.LONGEST_WAIT_S", 0.01)


def start(folder: Path, server: Server | None, monkeypatch: pytest.MonkeyPatch, **sections: Any) -> Run:
    folder.mkdir(exist_ok=True)
    (folder / "helpful.md").write_text(RUBRIC)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url if server else "http://127.0.0.1:9")
    judge = JUDGE | {"rubric": str(folder / "helpful.md")}
    given = {
        "reward": {"function": "rewards.judge:helpful", "errored_limit": 0.9},
        "judge": {"helpful": judge},
        "budget": {"steps": 6},
        "knobs": {"learning_rate": 3e-3},
        "pool": {"splits": {"probe": 10, "dev": 8, "test": 8}},
        "answers": {"attempts": 2, "time_limit": 20.0},
        "prices": {"judge-1": {"input": 1.0, "output": 5.0}},
    }
    for section, fields in sections.items():
        given[section] = given.get(section, {}) | fields
    return start_mini(folder / "runs", **given)


def dark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no network and no key."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """A run of six steps against a server with every fault, and its review."""
    folder = tmp_path_factory.mktemp("judged")
    with pytest.MonkeyPatch.context() as patch, Server([judging(by_digits, faults=FAULTS, every=5)]) as server:
        patch.setenv("ANTHROPIC_API_KEY", KEY)
        patch.setattr("harness.llm.faults.LONGEST_WAIT_S", 0.01)
        run = start(folder, server, patch)
        assert run.drive() == ("finished", "budget of 6 steps spent")
        found = review(run)
        run.store.close()
        return {"folder": folder, "review": found, "requests": len(server.requests), "most": server.most}


def test_six_steps_with_every_fault_are_replayed_to_the_last_bit_without_network(
    first: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dark(monkeypatch)
    runs = first["folder"] / "runs"
    found = commands.replay("s", out=str(runs))
    assert (found.difference, found.steps) == (None, 6)
    store = open_store(f"sqlite:///{runs}/harness.db")
    then, now = (store.find_run(name) for name in ("s", found.run))
    metrics = [store.load_facts(run.id, 6)["metrics"] for run in (then, now)]
    assert metrics[0]["judge/cached_rate"] == 0.0
    assert metrics[1]["judge/cached_rate"] > 0.5
    assert metrics[1]["judge/cost_usd"] == 0.0 < metrics[0]["judge/cost_usd"]
    assert metrics[1]["judge/latency"] == 0.0 < metrics[0]["judge/latency"]
    errored = [store.load_facts(then.id, step)["metrics"]["completion/errored_rate"] for step in range(1, 7)]
    store.close()
    assert max(errored) > 0, "the judge failed on some, and they had no reward"
    again = runs / found.run
    assert (again / "judge-failures.jsonl").read_bytes() == (runs / "s" / "judge-failures.jsonl").read_bytes()


def test_the_review_tells_what_the_judge_took(first: Mapping[str, Any]) -> None:
    found = first["review"]
    assert found["dev"]["metric"] == "reward", "such a reward is graded"
    assert found["manifest"]["reward_is"] == "recorded, not deterministic"
    assert found["manifest"]["judges"]["helpful"]["model"] == "anthropic:judge-1"
    lines = read_record(first["folder"] / "runs" / "s" / "judge-helpful.jsonl")
    told = found["judge"]["helpful"]
    assert told["replies"] == sum(not line.error for line in lines) > 40
    assert told["failed"] == sum(bool(line.error) for line in lines) > 0
    assert told["cost_usd"] == pytest.approx(sum(line.cost_usd or 0.0 for line in lines))
    assert first["most"] <= 10
    everything = b"".join(path.read_bytes() for path in first["folder"].rglob("*") if path.is_file())
    assert KEY.encode() not in everything


def test_a_killed_run_goes_on_with_the_verdicts_that_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server([judging(by_digits)]) as server:
        run = start(tmp_path, server, monkeypatch, budget={"steps": 5}, evaluate={"every": 50})
        with run._opened() as controller:
            for _ in range(5):
                controller._boundary()
            asked = len(server.requests)
    before = {step: run.store.load_facts(run.run_id, step) for step in (4, 5)}
    assert max(c.step for c in run.store.load_checkpoints(run.run_id)) == 3, "two steps are taken again"
    run.store.update_run(run.run_id, pid=2**22 + 1, process="")
    with Server([error(401, "authentication_error")]) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        again = resume_run(run.store, "s")
        with again._opened() as controller:
            for _ in range(2):
                controller._boundary()
        assert asked > 0
        assert not server.requests
    for step, facts in before.items():
        now = again.store.load_facts(again.run_id, step)
        assert now["groups"] == facts["groups"]
        assert now["metrics"]["reward/mean"] == facts["metrics"]["reward/mean"]
        assert now["metrics"]["judge/cached_rate"] == 1.0
    again.store.close()


def test_a_judge_that_cannot_be_asked_ends_the_run_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server([error(401, "authentication_error", "no such key")]) as server:
        run = start(tmp_path, server, monkeypatch, reward={"function": "rewards.judge:helpful", "errored_limit": 0.1})
        status, reason = run.drive()
    assert status == "failed"
    assert "the reward failed on 100% of the completions of step 1" in reason
    assert "judge helpful: HTTP 401 (authentication_error no such key)" in reason
    assert run.store.load_facts(run.run_id, 1)["metrics"]["completion/errored_rate"] == 1.0
    run.store.close()


def test_a_run_out_of_money_ends_below_its_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server([judging(by_digits)]) as server:
        run = start(tmp_path, server, monkeypatch, reward={"errored_limit": 0.2}, budget={"usd": 0.02})
        status, reason = run.drive()
        asked = len(server.requests)
    assert status == "failed"
    assert "judge helpful: out of money: budget.usd: 0.02 USD, of which 0." in reason
    spent = review(run)["judge"]["helpful"]["cost_usd"]
    assert 0.015 < spent <= 0.02
    assert asked == pytest.approx(spent / 0.0007)
    again = resume_run(run.store, "s")
    assert again.ledger.spent == pytest.approx(spent), "what was spent stays spent"
    run.store.close()


def test_a_changed_rubric_is_a_changed_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server([judging(by_digits)]) as server:
        run = start(tmp_path, server, monkeypatch, budget={"steps": 1})
        with run._opened() as controller:
            controller._boundary()
            controller.leave("left")
        (tmp_path / "helpful.md").write_text("Be strict: {answer}")
        with pytest.raises(InputError, match="reward: the code of the reward, or a judge's rubric, has changed"):
            resume_run(run.store, "s", overrides=["budget.steps=2"])
        again = resume_run(run.store, "s", overrides=["budget.steps=2"], accepted=["reward"])
        assert len(review(again)["eras"]) == 1
        assert again.store.load_run(1).spec["judge"]["helpful"]["text"] == "Be strict: {answer}"
    run.store.close()
