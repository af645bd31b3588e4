"""The record of answers: cache, replay and evidence, and what a killed process leaves of it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InputError
from harness.llm.record import Line, Recorder, compute_key, open_recorded, read_record
from harness.types import Question, Reply
from tests.support.answers_server import Server, answering
from tests.support.questions import FORMS, ask_all, make_question

KEY = "sk-NobodyMaySeeThis"


class Scripted:
    """An answerer that says what it is asked, and counts that."""

    name = "scripted"

    def __init__(self, *errors: str) -> None:
        self.asked: list[Question] = []
        self.errors = list(errors)

    def answer(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        for place, question in enumerate(questions):
            self.asked.append(question)
            error = self.errors.pop(0) if self.errors else ""
            text = "" if error else f"{question.prompt.text} {question.temperature}"
            yield place, Reply(text, 3, 4, calls=(("f", {"a": [1]}),), cost_usd=0.5, error=error)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def test_what_was_answered_is_not_asked_again_and_replays_to_the_byte(path: Path) -> None:
    questions = [make_question(i) for i in range(5)]
    first = Scripted("no", "no")
    with Recorder(first, path) as recorder:
        live = ask_all(recorder, questions)
        again = ask_all(recorder, questions)
    assert [reply.error for reply in live] == ["no", "no", "", "", ""]
    assert [reply.cached for reply in again] == [False, False, True, True, True]
    assert len(first.asked) == 7, "those with an error were asked once more"
    with Recorder(Scripted(), path) as recorder:
        cached = ask_all(recorder, questions)
    content = path.read_bytes()
    replayed = [ask_all(open_recorded(path), questions) for _ in range(2)]
    assert replayed[0] == replayed[1] == cached
    assert [replace(reply, cached=False) for reply in cached] == [replace(reply, cached=False) for reply in again]
    assert path.read_bytes() == content
    assert len(content.splitlines()) == 7
    assert json.loads(content.splitlines()[0]).keys() >= KEYS


KEYS = {
    "prompt_id", "who", "key", "temperature", "max_tokens", "sample", "system", "text", "calls", "tokens_in",
    "tokens_out", "truncated", "cost_usd", "seconds", "error", "at",
}  # fmt: skip


def test_whatever_an_answer_depends_on_is_another_key(path: Path) -> None:
    question = make_question(0)
    others = [
        replace(question, temperature=0.5), replace(question, max_tokens=51), replace(question, sample=1),
        replace(question, stop=("x",)), replace(question, tool={"name": "t"}),
        replace(question, prompt=replace(question.prompt, system="Be long.")),
        replace(question, prompt=replace(question.prompt, columns={"tools": [{"name": "f"}]})),
    ]  # fmt: skip
    keys = {compute_key("a", one) for one in [question, *others]} | {compute_key("b", question)}
    assert len(keys) == 9
    renamed = replace(question, prompt=replace(question.prompt, id="other", ground_truth="x"))
    assert compute_key("a", renamed) == compute_key("a", question)
    answerer = Scripted()
    with Recorder(answerer, path) as recorder:
        replies = ask_all(recorder, [question, *others, question])
    assert len(answerer.asked) == 8, "of two that are the same one is asked"
    assert (replies[0].cached, replies[-1].cached) == (False, True)


def test_a_record_answers_by_its_own_settings_and_says_what_it_lacks(path: Path) -> None:
    with Recorder(Scripted("out of service"), path) as recorder:
        ask_all(recorder, [make_question(0), make_question(1, temperature=0.5)])
    recorded = open_recorded(path)
    assert recorded.name == f"recorded:{path}"
    lost, other, missing, second = ask_all(
        recorded,
        [
            make_question(0),
            make_question(1, temperature=0.9, max_tokens=7),
            make_question(2),
            make_question(1, sample=1),
        ],
    )
    assert lost.error == "out of service"
    assert other.text == "What is 1+1? 0.5"
    assert "has no answer to prompt p2" in missing.error
    assert "has no sample 1 of answer to prompt p1" in second.error


def test_a_later_line_wins_but_no_error_takes_the_place_of_an_answer(path: Path) -> None:
    question = make_question(0)
    lines = [Line.of("m", question, reply) for reply in (Reply("a"), Reply("b"), Reply(error="x"))]
    path.write_bytes(b"".join(line.dump() for line in lines))
    assert ask_all(open_recorded(path), [question])[0].text == "b"


@given(st.text(), st.text(), st.integers(1, 200))
def test_a_torn_last_line_is_left_out_and_the_next_begins_anew(
    tmp_path_factory: pytest.TempPathFactory, text: str, other: str, cut: int
) -> None:
    path = tmp_path_factory.mktemp("torn") / "r.jsonl"
    whole = Line.of("scripted", make_question(0), Reply(text)).dump()
    torn = Line.of("scripted", make_question(1), Reply(other)).dump()[: -1 - cut]
    path.write_bytes(whole + torn)
    assert [line.text for line in read_record(path)] == [text]
    with Recorder(Scripted(), path) as recorder:
        assert [reply.cached for reply in ask_all(recorder, [make_question(0), make_question(1)])] == [True, False]
    assert path.read_bytes().startswith(whole)
    assert [line.prompt_id for line in read_record(path)] == ["p0", "p1"]


def test_a_last_line_that_only_lacks_its_end_counts(path: Path) -> None:
    path.write_bytes(Line.of("scripted", make_question(0), Reply("a")).dump().rstrip())
    with Recorder(Scripted(), path) as recorder:
        assert [reply.cached for reply in ask_all(recorder, [make_question(0), make_question(1)])] == [True, False]
    assert len(read_record(path)) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("hello", "line 1: no line of a record of answers"),
        ('{"prompt": "x"}\n', "line 1: prompt_id must be a text; is it a record"),
        ('{"prompt_id": "p", "who": "m", "text": "t"}\n[1]\n', "line 2: no line of a record"),
        ('{"prompt_id": "p", "who": "m", "text": "t", "tokens_in": "3"}\n', "line 1: tokens_in must be a whole number"),
        ('{"prompt_id": "p", "who": "m", "text": "t", "calls": [1]}\n', "line 1: calls must be a list of [name,"),
        ('{"prompt_id": \n{"prompt_id": "p", "who": "m", "text": "t"}\n', "line 1: no line of a record"),
        ("\x89PNG\x00", "line 1: no line of a record"),
    ],
)
def test_a_file_that_is_no_record_is_told_by_its_line_and_left_alone(path: Path, content: str, said: str) -> None:
    path.write_text(content)
    for use in (open_recorded, lambda path: Recorder(Scripted(), path)):
        with pytest.raises(InputError) as caught:
            use(path)
        assert f"{path}, {said}" in str(caught.value)
    assert path.read_text() == content


def test_a_record_that_cannot_be_used_is_told(path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        open_recorded(path)
    with pytest.raises(InputError, match="cannot write the record"):
        Recorder(Scripted(), path.parent / "none" / "r.jsonl")
    with Recorder(Scripted(), path), pytest.raises(InputError, match="another process writes this record"):
        Recorder(Scripted(), path)
    with pytest.raises(InputError, match="holds no answer"):
        open_recorded(path)
    path.write_bytes(b"".join(Line.of(who, make_question(0), Reply("a")).dump() for who in ("a", "b")))
    with pytest.raises(InputError, match="holds answers of a, b; give each answerer a file of its own"):
        open_recorded(path)


def test_killed_at_random_moments_no_answer_that_had_arrived_is_asked_again(path: Path) -> None:
    """Ten kills of a real process with four requests in flight."""
    chance = random.Random(23)
    number = 120
    command = [sys.executable, "-m", "tests.support.asking_child", str(path), FORMS[0], str(number)]
    with (
        Server([answering(str.upper, latency=0.03)]) as server,
        subprocess.Popen(
            command, env=os.environ | server.environment(KEY), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        for kill in [True] * 10 + [False]:
            known = {line.prompt_id for line in read_record(path)} if path.exists() else set()
            server.requests.clear()
            process.stdin.write("go\n")
            process.stdin.flush()
            child = int(process.stdout.readline())
            if kill:
                time.sleep(chance.uniform(0.02, 0.2))
                os.kill(child, signal.SIGKILL)
            assert process.stdout.readline() == "over\n"
            asked = [body["messages"][0]["content"] for _, body in server.requests]
            assert not {f"What is {one[1:]}+1?" for one in known} & set(asked), "it was answered before"
            after = {line.prompt_id for line in read_record(path)} if path.exists() else set()
            assert known <= after
            assert len(set(asked)) - len(after - known) <= 4, "asked and lost"
        process.stdin.close()
    lines = read_record(path)
    assert Counter(line.prompt_id for line in lines) == Counter(f"p{i}" for i in range(number))
    assert KEY.encode() not in path.read_bytes()
