"""`grpo eval` of whoever answers: services, records, rows that hold answers; what is asked and what it says."""

from __future__ import annotations

import csv
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.config.load import parse_spec
from harness.run.answerers import open_answerer
from harness.types import Prompt, Question
from tests.support.answers_server import Server, answering, call, error, text, truncated
from tests.support.program import Program
from tests.support.runs import start_mini

KEY = "sk-secret-key-0123456789"
REAL = Path(__file__).parents[2].parent / "shared" / "data"
SUMS = """
[pool]
source = "sums.jsonl"
splits = { probe = 2, dev = 4, test = 6 }
[reward]
function = "rewards.math"
[knobs]
prompts_per_step = 4
[evaluate]
max_tokens = 100
"""
LAST_SUM = re.compile(r"(\d+)\+(\d+)\D*$")


def write_sums(folder: Path, count: int = 30, **columns: Any) -> None:
    rows = [{"prompt": f"{n}+{n + 1}=", "ground_truth": 2 * n + 1} | columns for n in range(count)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def sums(program: Program) -> Program:
    """A program whose pool is thirty sums, judged by rewards.math."""
    write_sums(program.folder)
    (program.folder / "sums.toml").write_text(SUMS)
    return program


def solve(question: str) -> str:
    """Right, but for sums of a first number that ends in 7."""
    found = LAST_SUM.search(question)
    assert found, question
    a, b = int(found[1]), int(found[2])
    return f"<think>{a} and {b}</think>\\boxed{{{a + b + (a % 10 == 7)}}}"


def ask(program: Program, server: Server, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    return program.here("eval", *words, "--spec", "sums.toml", code=code, environment=server.environment(KEY))


def asked(server: Server) -> list[str]:
    return [body["messages"][-1]["content"] for _, body in server.requests]


# ---------------------------------------------------------------- services and their record


@pytest.mark.parametrize("name", ["anthropic:claude-haiku-5-5", "openai:accounts/fireworks/models/qwen3-30b-a3b"])
def test_what_a_service_answers_is_scored_recorded_and_replayed_to_the_byte(sums: Program, name: str) -> None:
    with Server([answering(solve, latency=0.02)]) as server:
        live = ask(sums, server, name, "--split", "all", "--record", "r.jsonl", "--output-file", "live.csv")
        assert server.most == 10
        assert len(server.requests) == 30
        again = ask(sums, server, name, "--split", "all", "--record", "r.jsonl")
        assert len(server.requests) == 30, "an answer that had arrived is not asked again"
    assert again.stdout == live.stdout
    assert "30 answers were in r.jsonl already" in again.stderr
    assert live.stdout.startswith(f"{name} on all: accuracy 0.9000 [0.7438, 0.9654], reward 0.9000 [")
    assert "reasons: right 27, wrong 3\n" in live.stdout
    assert "tokens 60,000 in, 9,000 out\n" in live.stdout
    words = ("recorded:r.jsonl", "--spec", "sums.toml", "--split", "all", "--output-file", "replayed.csv")
    replayed = sums.here("eval", *words, environment={"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": ""})
    assert replayed.stdout == live.stdout
    assert (sums.folder / "replayed.csv").read_bytes() == (sums.folder / "live.csv").read_bytes()
    written = b"".join(path.read_bytes() for path in sums.folder.rglob("*") if path.is_file())
    assert KEY[:12] not in f"{written!r} {live.stdout} {live.stderr} {again.stderr}"


def test_another_prompt_or_setting_is_another_question(sums: Program) -> None:
    with Server([answering(solve)]) as server:
        for more in ((), ("--set", "evaluate.max_tokens=7"), ("--temperature", "0.5"),
                     ("--set", "pool.system_prompt=Be brief."), ("-n", "2", "--temperature", "0.5")):  # fmt: skip
            ask(sums, server, "openai:m", "--rows", "3,7-8", "--record", "r.jsonl", *more)
        sizes = [(body["max_tokens"], body["temperature"]) for _, body in server.requests]
        systems = Counter(body["messages"][0]["content"] for _, body in server.requests if len(body["messages"]) > 1)
    assert Counter(sizes) == {(100, 0): 6, (7, 0): 3, (100, 0.5): 6}
    assert systems == {"Be brief.": 3}
    assert set(map(int, re.findall(r"(\d+)\+", " ".join(asked(server))))) == {3, 7, 8}


def test_a_row_has_its_own_temperature_length_and_system_message(sums: Program) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "1+2=", "ground_truth": 3, "temperature": 0.25, "max_tokens": 11},
        {"prompt": [{"role": "system", "content": "Own."}, {"role": "user", "content": "2+3="}], "ground_truth": 5},
        {"prompt": "3+4=", "ground_truth": 7, "temperature": None},
    ]
    (sums.folder / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with Server([answering(solve)]) as server:
        ask(sums, server, "anthropic:m", "--split", "all", "--set", "pool.system_prompt=All.", "--temperature", "0.5")
        seen = {body["messages"][-1]["content"]: (body["temperature"], body["max_tokens"], body["system"])
                for _, body in server.requests}  # fmt: skip
    assert seen == {"1+2=": (0.25, 11, "All."), "2+3=": (0.5, 100, "Own."), "3+4=": (0.5, 100, "All.")}
    write_sums(sums.folder, temperature="hot")
    with Server([answering(solve)]) as server:
        refused = ask(sums, server, "anthropic:m", code=2)
        assert not server.requests
    assert "has the temperature 'hot': it must be a number from 0 to 2" in refused.stderr


def test_what_was_not_answered_is_errored_and_no_wrong_answer(sums: Program) -> None:
    def sometimes(handler: Any) -> None:
        hard = "9+10" in handler.question
        (error(400, "invalid_request_error", "too hard") if hard else text(solve(handler.question)))(handler)

    with Server([sometimes]) as server:
        live = ask(sums, server, "openai:m", "--split", "all", "--record", "r.jsonl", "--output-file", "a.csv")
    assert "accuracy 0.8667" in live.stdout
    assert "reward 0.8966" in live.stdout, "26 of the 29 that were answered"
    assert "errored 1: HTTP 400" in live.stdout
    errored = [row for row in csv.DictReader((sums.folder / "a.csv").open()) if row["reason"] == "errored"]
    assert [(row["reward"], row["correct"], "too hard" in row["error"]) for row in errored] == [("", "0", True)]
    replayed = sums.here("eval", "recorded:r.jsonl", "--spec", "sums.toml", "--split", "all")
    assert replayed.stdout == live.stdout
    with Server([answering(solve)]) as server:
        ask(sums, server, "openai:m", "--split", "all", "--record", "r.jsonl")
        assert asked(server) == ["9+10="], "an error is evidence, no answer"


def test_where_nothing_is_answered_there_are_no_numbers(sums: Program) -> None:
    with Server([error(401, "authentication_error", "no")]) as server:
        done = ask(sums, server, "anthropic:m", "--split", "all", code=1)
        assert len(server.requests) <= 10, "a refused key is not asked again and again"
    assert done.stdout == ""
    assert done.stderr.startswith("grpo: anthropic:m answered none of 30 questions: HTTP 401")
    unset = sums.here("eval", "openai:m", "--spec", "sums.toml", code=2, environment={"OPENAI_API_KEY": ""})
    assert "OPENAI_API_KEY" in unset.stderr


def test_truncated_answers_have_their_reason(sums: Program) -> None:
    with Server([truncated("", "I add")]) as server:
        assert re.search("reasons: (truncated|cut_in_thinking) 6\n", ask(sums, server, "openai:m").stdout)


def test_several_answers_of_each_prompt_give_pass_at_k(sums: Program) -> None:
    with Server([answering(solve)]) as server:
        refused = ask(sums, server, "openai:m", "-n", "4", code=2)
        assert refused.stderr == "grpo: -n: 4 answers at temperature 0 are all the same; add --temperature 1\n"
        assert not server.requests
        words = ("openai:m", "-n", "4", "--temperature", "1", "--split", "all", "--record", "r.jsonl", "--json")
        found = json.loads(ask(sums, server, *words).stdout)
        assert len(server.requests) == 120
    assert (found["n"], found["per_prompt"], list(found["pass_at"])) == (30, 4, ["1", "2", "4"])
    assert found["pass_at"]["1"]["value"] == found["accuracy"] == 0.9
    replayed = sums.here("eval", "recorded:r.jsonl", "--spec", "sums.toml", *words[1:7], "--json")
    assert json.loads(replayed.stdout) == found


def test_below_the_target_the_exit_code_is_1(sums: Program) -> None:
    with Server([answering(solve)]) as server:
        assert ask(sums, server, "openai:m", "--split", "all", "--at-least", "0.9").stderr == ""
        below = ask(sums, server, "openai:m", "--split", "all", "--at-least", "0.91", "--json", code=1)
    assert json.loads(below.stdout)["accuracy"] == 0.9
    assert below.stderr == "grpo: --at-least: the accuracy 0.9000 is below 0.91\n"


def test_a_record_never_costs_more_than_its_cap(sums: Program) -> None:
    priced = ("--set", "prices.m={input = 5.0, output = 25.0}", "--split", "all", "--record", "r.jsonl")
    usage = {"input_tokens": 20, "output_tokens": 50}
    record = sums.folder / "r.jsonl"

    def spent() -> float:
        return sum(json.loads(line)["cost_usd"] for line in record.read_text().splitlines())

    with Server([answering(solve, usage=usage)]) as server:
        for _ in range(2):
            done = ask(sums, server, "openai:m", *priced, "--set", "budget.usd=0.01", code=1)
            assert "with a higher budget.usd the same command continues" in done.stderr
            assert 0.005 < spent() <= 0.01
        live = ask(sums, server, "openai:m", *priced, "--set", "budget.usd=0.1")
        assert len(server.requests) == 30
    assert "tokens 600 in, 1,500 out, $0.0405\n" in live.stdout
    assert sums.here("eval", "recorded:r.jsonl", "--spec", "sums.toml", "--split", "all").stdout == live.stdout
    unpriced = sums.here("eval", "openai:m", "--set", "budget.usd=1", code=2, environment={"OPENAI_API_KEY": KEY})
    assert "price" in unpriced.stderr


def test_where_the_results_cannot_be_written_nothing_is_asked(sums: Program) -> None:
    with Server([answering(solve)]) as server:
        for option in ("--output-file", "--record"):
            assert "grpo: " in ask(sums, server, "openai:m", option, "no/such/file.csv", code=2).stderr
        assert not server.requests


def test_a_service_is_sampled_probed_and_builds_a_pool(sums: Program) -> None:
    def by_chance(handler: Any) -> None:
        wrong = len(handler.server.requests) % 2
        text(solve(handler.question).replace("boxed{", "boxed{1" if wrong else "boxed{"))(handler)

    with Server([by_chance]) as server:
        environment = server.environment(KEY)
        words = ("--spec", "sums.toml", "--prompt", "20+21=", "--json")
        (sample,) = json.loads(sums.here("sample", "anthropic:m", *words, environment=environment).stdout)
        assert sample["completion"].startswith("<think>20 and 21</think>")
        found = json.loads(
            sums.here("probe", "sums.toml", "--model", "openai:m", "-n", "8", "--json", environment=environment).stdout
        )
        assert found["prompts"] == 2
        assert found["completions"] == 16
        built = ("pool", "build", "b.jsonl", "--spec", "sums.toml", "--model", "openai:m", "-n", "8", "--size", "3")
        sums.here(*built, environment=environment)
    assert len((sums.folder / "b.jsonl").read_text().splitlines()) == 3


def test_after_a_kill_the_same_command_continues(sums: Program) -> None:
    chance = random.Random(0)
    words = ("eval", "openai:m", "--spec", "sums.toml", "--split", "all", "--record", "r.jsonl")
    record = sums.folder / "r.jsonl"
    with Server([answering(solve, latency=0.1)]) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment(KEY).items():
            patch.setenv(name, value)
        for number, stop in enumerate((signal.SIGKILL, signal.SIGINT)):
            arrived = len(record.read_bytes().splitlines()) if record.exists() else 0
            process = sums.start(*words)
            sums.wait_for(lambda least=arrived: record.exists() and len(record.read_bytes().splitlines()) > least)
            time.sleep(chance.uniform(0, 0.05))
            process.send_signal(stop)
            code = process.wait(60)
            if stop == signal.SIGINT:
                assert code == 130
                assert process.stdout is not None
                assert "what arrived is in r.jsonl, and the same command continues" in process.stdout.read()
            assert len(server.requests) <= 30 + 10 * (number + 1)
        sums.here(*words)
        times = Counter(asked(server))
    assert len(times) == 30
    assert sum(count - 1 for count in times.values()) <= 20, "at most those in flight at each stop"
    answered = [json.loads(line)["text"] for line in record.read_text().splitlines() if not json.loads(line)["error"]]
    assert len(answered) == 30, "no answer that had arrived was asked again"


# ---------------------------------------------------------------- rows


def test_rows_are_those_of_the_source_counted_from_0(sums: Program) -> None:
    lines = [json.dumps({"prompt": f"{n}+1=", "ground_truth": n + 1}) for n in (0, 1, 0, 2)]
    (sums.folder / "sums.jsonl").write_text("\n".join([lines[0], "", lines[1], "not JSON", *lines[2:]]) + "\n")
    skipping = ("--set", "pool.skip_bad=true")
    with Server([answering(solve)]) as server:
        done = ask(sums, server, "openai:m", "--rows", "0-5", *skipping)
        assert sorted(asked(server)) == ["0+1=", "1+1=", "2+1="]
        assert done.stderr == "grpo: --rows: 3 of these rows are no prompts of their own\n"
        ask(sums, server, "openai:m", "--rows", "2,5", *skipping)
        assert sorted(asked(server)[3:]) == ["1+1=", "2+1="]
        beyond = ask(sums, server, "openai:m", "--rows", "2-6", *skipping, code=2)
        assert beyond.stderr == "grpo: --rows: there is no row 6: the source has 6, 0 to 5\n"
        assert "none of its rows is in all" in ask(sums, server, "openai:m", "--rows", "1,3", *skipping, code=2).stderr
        for wrong in ("", "x", "3-", "-3", "5-3", "1;2"):
            assert "--rows: " in ask(sums, server, "openai:m", f"--rows={wrong}", *skipping, code=2).stderr


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_rows_of_other_files_are_their_records(sums: Program, kind: str) -> None:
    rows = [(f"{n}+1=", n + 1) for n in range(12)]
    written = {
        "csv": "prompt,ground_truth\n" + "".join(f'"{prompt}",{truth}\n' for prompt, truth in rows),
        "json": json.dumps([{"prompt": prompt, "ground_truth": truth} for prompt, truth in rows]),
    }
    (sums.folder / f"sums.{kind}").write_text(written[kind])
    with Server([answering(solve)]) as server:
        ask(sums, server, "openai:m", "--rows", "0,10-11", "--set", f"pool.source=sums.{kind}")
    assert sorted(asked(server)) == ["0+1=", "10+1=", "11+1="]


def test_rows_of_a_split_are_those_of_the_source_that_are_in_it(sums: Program) -> None:
    with Server([answering(solve)]) as server:
        train = json.loads(ask(sums, server, "openai:m", "--split", "train", "--rows", "0-29", "--json").stdout)
        test = ask(sums, server, "openai:m", "--split", "test", "--rows", "0-29", "--json")
        assert "24 of these rows are no prompts of their own or are in another split than test" in test.stderr
        assert train["n"] == 18
        assert len(set(asked(server))) == 24
        wrong = ask(sums, server, "openai:m", "--split", "trian", code=2)
    assert wrong.stderr == "grpo: no split named trian, did you mean train?\n"


# ---------------------------------------------------------------- rows that hold answers


def write_answers(path: Path) -> None:
    rows = [
        {
            "user_prompt": f"{n}+{n}=",
            "original_assistant_content": f"\\boxed{{{2 * n}}}",
            "regenerated_content": [f"<think>so</think>\\boxed{{{2 * n + (n == 4)}}}", "\\boxed{0}"][: 1 + n % 2],
        }
        for n in range(5)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_rows_that_hold_answers_are_a_record_and_a_pool(sums: Program) -> None:
    write_answers(sums.folder / "answers.jsonl")
    found = json.loads(sums.here("eval", "recorded:answers.jsonl", "--json").stdout)
    assert (found["n"], found["split"], found["reasons"]) == (5, "all", {"right": 4, "wrong": 1})
    two = sums.here("eval", "recorded:answers.jsonl", "-n", "2", "--temperature", "1", "--rows", "1,3", "--json")
    assert json.loads(two.stdout)["pass_at"]["2"]["value"] == 1.0
    sums.here("pool", "convert", "answers.jsonl", "rows.jsonl")
    rows = [json.loads(line) for line in (sums.folder / "rows.jsonl").read_text().splitlines()]
    assert [(row["prompt"], row["ground_truth"]) for row in rows][1] == ("1+1=", "\\boxed{2}")
    source = ("--set", "pool.source=rows.jsonl")
    for words in (("recorded:rows.jsonl",), ("recorded:answers.jsonl", "--spec", "sums.toml", *source)):
        assert json.loads(sums.here("eval", *words, "--json").stdout)["reasons"] == found["reasons"]
    other = sums.here("eval", "recorded:answers.jsonl", "--spec", "sums.toml", "--rows", "9", code=2)
    assert "has an answer to none of the 1 questions; give the same --spec" in other.stderr
    (sums.folder / "plain.jsonl").write_text('{"prompt": "1+1=", "ground_truth": "2", "completion": "2"}\n')
    unknown = sums.here("eval", "recorded:plain.jsonl", code=2)
    assert "plain.jsonl does not say by which reward an answer is right" in unknown.stderr


def test_right_answers_become_demonstrations_and_the_others_have_their_reasons(sums: Program) -> None:
    seen: Counter[str] = Counter()

    def first_long(handler: Any) -> None:
        said = solve(handler.question)
        seen[handler.question] += 1
        text(said if seen[handler.question] > 1 else said.replace("think>", "think>Well, ", 1))(handler)

    with Server([first_long]) as server:
        ask(sums, server, "openai:m", "--split", "all", "-n", "2", "--temperature", "1", "--record", "r.jsonl")
    told = sums.here("pool", "convert", "recorded:r.jsonl", "clean.jsonl", "--spec", "sums.toml").stdout.splitlines()
    assert told[0] == "kept 27 of 30 answered rows in clean.jsonl, each with its shortest right answer"
    assert told[1:3] == ["not right 6 of 60 answers", "  wrong 6"]
    assert len(told) == 6, "three examples"
    rows = [json.loads(line) for line in (sums.folder / "clean.jsonl").read_text().splitlines()]
    assert rows[2]["prompt"] == "2+3="
    assert all(row["demonstration"] == solve(row["prompt"]) for row in rows), "the shortest right one"
    checked = sums.here("check", "sums.toml", "--set", "pool.source=clean.jsonl", "--json")
    assert json.loads(checked.stdout)["passed"] == 27
    again = sums.here("pool", "convert", "recorded:r.jsonl", "clean.jsonl", "--spec", "sums.toml", code=2)
    assert "clean.jsonl exists already" in again.stderr


def test_calls_of_tools_are_judged_and_become_demonstrations(sums: Program) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    rows = [{"prompt": f"Add {n}.", "ground_truth": {"calls": [{"name": "add", "arguments": {"n": n}}]}, "tools": tools}
            for n in range(24)]  # fmt: skip
    (sums.folder / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (sums.folder / "sums.toml").write_text(SUMS.replace("rewards.math", "rewards.function_call"))

    def add(handler: Any) -> None:
        call({"n": int(handler.question[4:-1])}, tool="add")(handler)

    for name in ("openai:m", "anthropic:m"):
        with Server([add]) as server:
            assert "accuracy 1.0000" in ask(sums, server, name, "--split", "all", "--record", f"{name}.jsonl").stdout
    compared = sums.here("compare", "recorded:openai:m.jsonl", "recorded:anthropic:m.jsonl", "--spec", "sums.toml")
    assert "1.000" in compared.stdout
    sums.here("pool", "convert", "recorded:openai:m.jsonl", "clean.jsonl", "--spec", "sums.toml")
    shown = json.loads((sums.folder / "clean.jsonl").read_text().splitlines()[2])["demonstration"]
    assert shown["content"] == ""
    assert shown["tool_calls"] == [{"type": "function", "function": {"name": "add", "arguments": {"n": 2}}}]
    checked = sums.here("check", "sums.toml", "--set", "pool.source=clean.jsonl", "--json")
    assert json.loads(checked.stdout)["passed"] == 24


@pytest.mark.skipif(not REAL.is_dir(), reason="the data sets are not here")
def test_real_answers_of_a_thinking_model(program: Program) -> None:
    def reasons(name: str) -> dict[str, int]:
        done = program.here("eval", f"recorded:{REAL / name}.jsonl", "--json")
        return dict(json.loads(done.stdout)["reasons"])

    assert reasons("answers_qwen3_gsm8k") == {"right": 93, "cut_in_thinking": 6, "wrong": 1}
    assert reasons("answers_qwen3_openr1") == {
        "cut_in_thinking": 42, "right": 7, "several_answers": 3, "not_literal": 1, "wrong": 1
    }  # fmt: skip


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["anthropc:x"], "anthropc:x: nobody answers as anthropc:, did you mean anthropic:x?"),
        (["openai:"], "openai: names no model; give openai:MODEL"),
        (["anthropic"], "anthropic: names no model"),
        (["recorded:sums.jsnl"], "there is no file sums.jsnl, did you mean recorded:sums.jsonl?"),
        (["recorded:"], "give recorded:FILE"),
        (["recorded:sums.toml"], "sums.toml is no record of answers, nor rows that hold them"),
        (["recorded:sums.jsonl", "--spec", "sums.toml"], "sums.jsonl row 1 has no answer: a text, or a list of them"),
        (["recorded:sums.jsonl", "--record", "r.jsonl"], "--record: what recorded: answers is on record already"),
        (["openai:m", "--checkpoint", "best"], "--checkpoint: openai:m is no run"),
        (["tinny"], "no run named tinny, did you mean tiny?"),
        (["night@best"], "no run named night; RUN@CHECKPOINT is for runs"),
        (["openai:m", "--at-least", "85"], "'--at-least'"),
        (["openai:m", "--spec", "sums.toml", "--set", "evaluate.max_token=3"], "did you mean max_tokens?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_name_that_is_none_is_refused_with_the_nearest_right_one(sums: Program, words: list[str], said: str) -> None:
    done = sums.here("eval", *words, code=2, environment={"OPENAI_API_KEY": KEY})
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (sums.folder / "r.jsonl").exists()


def test_who_is_no_model_in_memory_loads_no_torch(sums: Program) -> None:
    write_answers(sums.folder / "answers.jsonl")
    code = (
        "import sys; sys.argv = ['grpo', 'eval', 'recorded:answers.jsonl']\n"
        "from harness.cli.app import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'transformers', 'anthropic', 'openai'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=sums.folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# ---------------------------------------------------------------- docs/answers.md


def test_the_commands_of_the_docs_work_as_they_stand(program: Program) -> None:
    page = (Path(__file__).parents[2] / "docs" / "answers.md").read_text(encoding="utf-8")
    commands = [line.split() for line in re.findall(r"(?m)^    grpo ((?:eval|pool convert) .+)$", page)]
    assert len(commands) >= 8
    write_answers(program.folder / "answers_qwen3_gsm8k.jsonl")
    splits = {"probe": 2, "dev": 3, "test": 3}
    short = {"evaluate": {"max_tokens": 2}, "budget": {"steps": 1}, "sample": {"prompts": 1}}
    start_mini(program.folder / "runs", name="night", pool={"splits": splits}, **short).drive()
    recipe = Path(__file__).parents[2] / "runs" / "recipes" / "math-gsm" / "rows.jsonl"
    rows = [json.loads(line) for line in recipe.read_text(encoding="utf-8").splitlines()]

    def worked(question: str) -> str:
        return next(str(row["answer"]) for row in rows if row["question"] in question)

    with Server([answering(worked)]) as server:
        said = {" ".join(words): program.here(*words, environment=server.environment(KEY)).stdout for words in commands}
    (live,) = (text for words, text in said.items() if words.endswith("--record qwen.jsonl"))
    assert said["eval recorded:qwen.jsonl --spec math-gsm"] == live
    assert "accuracy 1.0000" in live

    # A model in memory is recorded and replayed as well, and its own spec is known.
    words = ("-n", "2", "--temperature", "1", "--set", "evaluate.max_tokens=20")
    live = program.here("eval", "night@0", *words, "--record", "r.jsonl", "--output-file", "live.csv").stdout
    assert live.startswith("night at step 0 on test: ")
    assert live == program.here("eval", "night", "--checkpoint", "0", *words).stdout
    replay = ("--spec", "mini.toml", "--set", "pool.splits={probe=2, dev=3, test=3}", "-n", "2")
    assert program.here("eval", "recorded:r.jsonl", *replay, "--output-file", "replayed.csv").stdout == live
    assert (program.folder / "live.csv").read_bytes() == (program.folder / "replayed.csv").read_bytes()
    asked = Question(Prompt("", "1+1=", ""), 5, 0.0, tool={"name": "grade", "input_schema": {"type": "object"}})
    named = {"db": f"sqlite:///{program.folder}/runs/harness.db"}
    ((place, reply),) = open_answerer("night@0", parse_spec({}), **named).answer([asked])
    assert (place, reply.error, len(reply.ids)) == (0, "", reply.tokens_out)
    assert "no checkpoint bset; there are: 0" in program.here("eval", "night@bset", code=2).stderr
    assert "did you mean night?" in program.here("eval", "nigth", code=2).stderr
