"""grpo check --against: a real server that runs what it is posted, and every way in which one can fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness import commands
from harness.checks import evaluator
from harness.checks.hosting import HostedSource
from harness.cli.app import app
from harness.cli.tables import describe_agreement
from harness.errors import HarnessError, InputError
from harness.llm import faults
from tests.support import preview_form
from tests.support.preview_form import ACCOUNT, KEY, PATH, PreviewForm, but, cut, drop, hang, judge, raw, serve, trickle

LENGTH = '''\
"""A reward of a user's own."""

from __future__ import annotations

import helper


def length(completion: str, ground_truth: str) -> float:
    return helper.share(completion, ground_truth)
'''
HELPER = "def share(a, b):\n    return 1.0 if a == b else min(1.0, len(a) / 10)\n"
ROWS = [{"prompt": f"Say {word}.", "ground_truth": word} for word in ("one", "two", "three", "four", "five", "sixteen")]
SPLITS = ["pool.splits={test=1, dev=1, probe=1}", "warmstart.steps=0"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FIREWORKS_API_KEY", KEY)
    monkeypatch.setenv("FIREWORKS_ACCOUNT_ID", ACCOUNT)
    monkeypatch.setattr(faults, "LONGEST_WAIT_S", 0.0)
    Path("length_reward.py").write_text(LENGTH)
    Path("helper.py").write_text(HELPER)
    Path("rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    Path("spec.toml").write_text('pool.source = "rows.jsonl"\nreward.function = "length_reward.py:length"\n')
    return tmp_path


def ask(url: str, **options: Any) -> Any:
    return commands.check_against(url, "spec.toml", overrides=[*SPLITS, *options.pop("overrides", [])], **options)


def run(*words: str) -> tuple[int, str]:
    """Exit code and all output of the command, errors included as the program prints them."""
    done = CliRunner().invoke(app, ["check", "spec.toml", *(w for o in SPLITS for w in ("--set", o)), *words])
    if isinstance(done.exception, HarnessError):
        return 2 if isinstance(done.exception, InputError) else 1, str(done.exception)
    return done.exit_code, done.output


def test_it_agrees_and_the_request_has_the_form_field_by_field() -> None:
    form = PreviewForm()
    with serve(form) as url:
        code, said = run("--against", url)
    assert code == 0, said
    assert said.splitlines()[-1] == "6/6 agree, max difference 0.000"
    [asked] = form.asked
    assert asked.path == PATH.format(account=ACCOUNT)
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.body.keys() == {"evaluator", "sampleData", "maxSamples"}
    made = asked.body["evaluator"]
    assert made.keys() == {"displayName", "description", "multiMetrics", "criteria", "requirements", "rollupSettings"}
    assert (made["multiMetrics"], made["rollupSettings"], made["requirements"]) == (True, {"skipRollup": True}, "")
    [criterion] = made["criteria"]
    assert criterion.keys() == {"type", "name", "description", "codeSnippets"}
    assert (criterion["type"], criterion["name"], criterion["description"]) == (
        "CODE_SNIPPETS", "length", "Metric: length",
    )  # fmt: skip
    assert criterion["codeSnippets"]["language"] == "python"
    files = criterion["codeSnippets"]["fileContents"]
    assert files["main.py"].startswith(LENGTH)
    assert "def evaluate(messages, ground_truth=None, tools=None, **kwargs):" in files["main.py"]
    assert files["helper.py"] == HELPER
    assert asked.body["maxSamples"] == len(asked.body["sampleData"]) == 6
    samples = {sample["ground_truth"]: sample for sample in map(json.loads, asked.body["sampleData"])}
    assert samples["two"] == {
        "messages": [{"role": "user", "content": "Say two."}, {"role": "assistant", "content": "two"}],
        "ground_truth": "two",
    }


def test_a_difference_is_named_and_fails() -> None:
    def change(results: list[dict[str, Any]]) -> None:
        results[2] |= {"score": 0.25, "perMetricEvals": {"length": {"score": 0.25, "reason": "too short"}}}
        del results[3]["success"]
        results[4] = {"success": False, "perMetricEvals": {"error": "NameError: x"}}

    with serve(PreviewForm([but(change)])) as url:
        found = ask(url, record=Path("theirs.json"))
        code, said = run("--against", "recorded:theirs.json")
    assert (code, found.agree, found.rows, found.max_difference, found.passed) == (1, 3, 6, 0.75, False)
    assert [one.theirs for one in found.differences] == [0.25, None, None]
    assert all(one.ours == 1.0 for one in found.differences)
    assert "ours 1, theirs 0.25 (ours: right; theirs: too short)" in said
    assert "theirs failed (ours: right; theirs: NameError: x)" in said
    assert said.splitlines()[-1] == "3/6 agree, max difference 0.750"


def test_no_more_than_ten_are_named() -> None:
    Path("rows.jsonl").write_text("".join(f'{{"prompt": "Say {n}.", "ground_truth": "{n}"}}\n' for n in range(14)))
    with serve(
        PreviewForm([but(lambda results: [{"success": True, "perMetricEvals": {"x": 0}} for _ in results])])
    ) as url:
        found = ask(url)
    said = "\n".join(describe_agreement(found))
    assert (found.agree, found.rows, len(found.differences)) == (0, 14, 10)
    assert "and 4 more that differ" in said


def test_what_fails_on_both_sides_agrees_unless_nothing_else_is_there() -> None:
    Path("length_reward.py").write_text(LENGTH.replace("    return", '    assert "four" not in completion\n    return'))
    with serve(PreviewForm()) as url:
        found = ask(url)
        assert (found.agree, found.failed, found.passed) == (6, 1, True)
        Path("length_reward.py").write_text("def length(completion, ground_truth):\n    raise ValueError\n")
        Path("answers.jsonl").write_text(record_line(found.differences or ids(), "four"))
        code, said = run("--against", url, "--answers", "recorded:answers.jsonl")
    assert (code, said.splitlines()[-1]) == (1, "1/1 agree, of which 1 failed on both sides, no row was scored by both")


def ids() -> str:
    from harness.commands.lookup import load_inputs

    splits = load_inputs("spec.toml", SPLITS).splits.values()
    return next(prompt.id for table in splits for prompt in table if prompt.ground_truth == "four")


def record_line(prompt_id: str, text: str, **more: Any) -> str:
    line = {
        "prompt_id": prompt_id, "who": "openai:x", "key": f"{prompt_id}{text}", "temperature": 0.0, "max_tokens": 9,
        "sample": 0, "system": "", "text": text, "calls": [], "tokens_in": 1, "tokens_out": 1, "truncated": False,
        "cost_usd": None, "seconds": 0.1, "error": "", "at": "",
    }  # fmt: skip
    return json.dumps(line | more) + "\n"


def test_recorded_answers_are_judged_in_place_of_the_reference_answers() -> None:
    mine, form = ids(), PreviewForm()
    Path("answers.jsonl").write_text(
        record_line(mine, "abcde") + record_line("0" * 16, "a stranger") + record_line(mine, "", error="HTTP 500")
    )
    with serve(form) as url:
        found = ask(url, answers="recorded:answers.jsonl")
    assert (found.rows, found.agree, found.strangers, found.unchecked) == (1, 1, 1, 5)
    [sample] = form.asked[0].body["sampleData"]
    assert json.loads(sample)["messages"][-1] == {"role": "assistant", "content": "abcde"}


def test_what_was_recorded_is_replayed_without_network_or_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(PreviewForm([but(lambda results: results[0].update(score=0.5))])) as url:
        first = ask(url, record=Path("theirs.json"))
    assert KEY not in Path("theirs.json").read_text()
    monkeypatch.delenv("FIREWORKS_API_KEY")
    again = ask("recorded:theirs.json")
    assert again.differences == first.differences
    assert len(again.differences) == 1
    assert (again.runtime_ms, again.changed) == (130, False)
    Path("helper.py").write_text(HELPER.replace("/ 10", "/ 20"))
    assert ask("recorded:theirs.json").changed
    Path("rows.jsonl").write_text('{"prompt": "Say it.", "ground_truth": "it"}\n' + Path("rows.jsonl").read_text())
    with pytest.raises(InputError, match="is of other samples"):
        ask("recorded:theirs.json")


def test_the_body_of_an_answer_is_a_record_too() -> None:
    results = [{"success": True, "score": 1.0, "perMetricEvals": {"length": 1.0}}] * 6
    Path("body.json").write_text(json.dumps({"totalSamples": 6, "totalRuntimeMs": 130, "results": results}))
    assert ask("recorded:body.json").passed


PARTS = [json.dumps({"parts": {"x": {"reward": "rewards.math", "ground_truth": str(n)}}}) for n in range(4)]


@pytest.mark.parametrize(
    ("function", "truths"),
    [("rewards.math", [f"\\frac{{x+{n}}}{{3}}" for n in range(4)]), ("rewards.composite", PARTS)],
)
def test_ours_run_there_from_their_source_alone(function: str, truths: list[str]) -> None:
    rows = [
        {"prompt": f"Number {n}?", "ground_truth": truth, "demonstration": f"\\boxed{{{n}}}"}
        for n, truth in enumerate(truths)
    ]
    Path("rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    form = PreviewForm()
    with serve(form) as url:
        found = ask(url, overrides=[f"reward.function={function}"])
    assert (found.agree, found.failed) == (4, 0), found.differences
    assert "math-verify==" in form.asked[0].body["evaluator"]["requirements"]


def test_trl_style_functions_get_columns_tools_turns_and_prefill_there_too() -> None:
    Path("length_reward.py").write_text(
        "def evaluate(text):\n    return len(text) / 100\n\n\n"
        "async def length(prompts, completions, ground_truth, tools, weight, **columns):\n"
        "    shown = zip(prompts, tools, weight, columns['messages'])\n"
        "    seen = list(map(repr, shown))\n"
        "    return [(evaluate(c) + sum(map(ord, s)) % 97 / 200) for c, s in zip(completions, seen)]\n"
    )
    call = {"type": "function", "id": "c1", "function": {"name": "f", "arguments": '{"a": 1}'}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    rows = [
        {
            "prompt": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": f"Hi, {n}."},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": "3", "tool_call_id": "c1"},
                {"role": "user", "content": "And?"},
                *([{"role": "assistant", "content": "<think>"}] if n % 2 else []),
            ],
            "ground_truth": "x" * n,
            "tools": tools,
            "weight": n / 3,
            "messages": ["a", n],
            "demonstration": "y" * n,
        }
        for n in range(1, 6)
    ]
    Path("rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    form = PreviewForm()
    for chat in ("true", "false"):
        with serve(form) as url:
            found = ask(url, overrides=[f"model.chat={chat}"])
        assert (found.agree, found.failed, found.rows) == (5, 0, 5), found.differences
    samples = map(json.loads, form.asked[0].body["sampleData"])
    sample = next(sample for sample in samples if sample["ground_truth"] == "x")
    assert sample["messages"][-1]["content"].startswith("<think>")
    assert len(sample["messages"]) == 6
    assert sample["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
    assert sample["tools"] == tools


ALWAYS = "def evaluate(messages, **kwargs):\n    return {'score': 1.0, 'metrics': {}}\n"
ASKED = evaluator.write_request(
    HostedSource("always", {"main.py": ALWAYS}, ""),
    [{"messages": [{"role": "assistant", "content": "x"}]}] * 6,
    description="",
)
FAULTS = [
    (raw(b'{"error": {"object": "error", "message": "bad key"}}', status=401), "HTTP 401 Unauthorized: bad key", 1),
    (raw(b'{"code": 7, "message": "not yours", "details": []}', status=403), "HTTP 403 Forbidden: not yours", 1),
    (raw(b'{"error": "no such account"}', status=404), "HTTP 404 Not Found: no such account", 1),
    (raw(b"", status=400), "HTTP 400 Bad Request", 1),
    (raw(b"<html>busy</html>", status=503, retry_after="0"), "HTTP 503 Service Unavailable (5 attempts)", 5),
    (raw(b"it broke", status=500), "HTTP 500 Internal Server Error: it broke (5 attempts)", 5),
    (raw(b"<!doctype html><title>Sign in</title>"), "the answer is an HTML page and no JSON", 1),
    (raw(b""), "the answer is empty", 1),
    (raw(b'{"results": [{'), "the answer is no JSON", 1),
    (raw(b'{"code": "INTERNAL", "message": "no sandbox"}'), "the answer holds no results: no sandbox", 1),
    (raw(b"", status=307, location="https://elsewhere.example/x"), "it points to elsewhere.example", 1),
    (but(lambda results: results[:5]), "gave 5 results for 6 samples", 1),
    (but(lambda results: results[0].update(score="high")), "has a score that is no number", 1),
    (but(lambda results: results[0].update(score=float("nan"))), "has a score that is no number", 1),
    (raw(f'{{"results": [{{"reason": "{KEY}"}}]}}'.encode()), "the answer repeats the key", 1),
    (raw(f'{{"error": "wrong: {KEY}"}}'.encode(), status=401), "what it said repeats the key", 1),
    (hang, "no answer within 0.3 s", 1),
    (trickle, "no answer within 0.3 s", 1),
    (cut, "the answer was cut", 1),
    (drop, "the answer was cut", 1),
]  # fmt: skip


@pytest.mark.parametrize(("turn", "said", "times"), FAULTS)
def test_a_fault_is_an_error_and_never_a_score(
    turn: preview_form.Turn, said: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "TIME_LIMIT_S", 0.3 if turn in (hang, trickle) else 20.0)
    form = PreviewForm([turn])
    with serve(form) as url, pytest.raises(HarnessError) as caught:
        evaluator.read_results(evaluator.open_service(url).preview(ASKED), 6)
    assert len(form.asked) == times
    assert said in str(caught.value)
    assert not isinstance(caught.value, InputError)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fault_ends_the_command_with_exit_code_1_and_leaves_no_record() -> None:
    with serve(PreviewForm([raw(b"", status=403)])) as url:
        code, said = run("--against", url, "--record", "theirs.json", "--json")
        assert (code, said) == (1, f"the evaluator at {url[7:]} gave no scores: HTTP 403 Forbidden")
    assert not Path("theirs.json").exists()


def test_too_many_requests_are_asked_again() -> None:
    form = PreviewForm([raw(b"", status=429, retry_after="0"), judge])
    with serve(form) as url:
        assert len(evaluator.open_service(url).preview(ASKED)["results"]) == 6
    assert len(form.asked) == 2


def test_nobody_there_is_an_error() -> None:
    with serve(PreviewForm()) as url:
        pass
    with pytest.raises(HarnessError, match="no connection: Connection refused"):
        evaluator.open_service(url).preview(ASKED)


def test_key_and_account_come_from_the_file_of_fireworks_where_the_environment_has_none(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIREWORKS_API_KEY", "FIREWORKS_ACCOUNT_ID"):
        monkeypatch.delenv(name)
    with pytest.raises(InputError, match="FIREWORKS_API_KEY"):
        evaluator.open_service("https://host")
    (here / ".fireworks").mkdir()
    auth = here / ".fireworks" / "auth.ini"
    auth.write_text("[fireworks]\napi_key = fw_%secret\n")
    with pytest.raises(InputError, match="FIREWORKS_ACCOUNT_ID"):
        evaluator.open_service("https://host")
    auth.write_text("[fireworks]\napi_key = fw_%secret\naccount_id = acme\n")
    for given in (
        "https://host/",
        "https://host",
        "https://host/v1",
        "https://host/v1/accounts/acme/evaluators:previewEvaluator",
    ):
        service = evaluator.open_service(given)
        assert (service.url, service.key.text) == (f"https://host{PATH.format(account='acme')}", "fw_%secret")
    assert "secret" not in repr(service)


@pytest.mark.parametrize(
    "words",
    [
        ["--against", "api.fireworks.ai"],
        ["--against", "ftp://host"],
        ["--against", "https://me:secret@host"],
        ["--against", "https://host?key=secret"],
        ["--against", "recorded:nothing.json"],
        ["--against", "recorded:rows.jsonl"],
        ["--against", "https://host", "--answers", "answers.jsonl"],
        ["--against", "https://host", "--record", "helper.py"],
        ["--against", "https://host", "--record", "nowhere/theirs.json"],
        ["--record", "theirs.json"],
        ["--answers", "recorded:rows.jsonl"],
    ],
)
def test_wrong_input_is_refused_before_anything_is_asked(words: list[str]) -> None:
    code, said = run(*words)
    assert code == 2
    assert "secret" not in said
    assert words[0] in said or words[-2] in said
