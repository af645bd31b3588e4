"""Prompts of many turns: tools, prefills, demonstrations that are calls, and back into a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.types import Prompt
from pools.rows import Row, make_prompt, name_columns
from pools.sources import load_prompts
from rewards.function_call import score

REAL = Path(__file__).parents[3] / "shared" / "data" / "tool_calling_100.jsonl"
BEGUN = "Let me solve this step by step.\n<think>"
CALL = {"id": "call00001", "type": "function", "function": {"name": "tide", "arguments": '{"at": "Ayr"}'}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
ANSWERED = {"role": "tool", "tool_call_id": "call00001", "content": {"high": "4:30"}}
TEXT_CALL = '<tool_call>{"name": "tide", "arguments": {"at": "Ayr"}}</tool_call>'


def say(*turns: str) -> list[dict[str, Any]]:
    return [{"role": turn.partition(" ")[0], "content": turn.partition(" ")[2]} for turn in turns]


def make(values: dict[str, Any], **columns: str) -> Prompt:
    return make_prompt(Row("a.jsonl row 7", values), name_columns(columns))


def refuse(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        make(values)
    assert "\n" not in str(raised.value)


# ---------------------------------------------------------------- how a conversation ends


@pytest.mark.parametrize("truth", ["answer", "ground_truth"])
def test_a_prompt_that_ends_with_the_assistant_is_continued(truth: str) -> None:
    prompt = make({"prompt": say("system Be brief.", "user 1+1?", f"assistant {BEGUN}"), truth: "2"})
    assert (prompt.ground_truth, prompt.demonstration, prompt.prefill) == ("2", None, BEGUN)
    assert prompt.turns == say("system Be brief.", "user 1+1?", f"assistant {BEGUN}")
    assert prompt.text == f"User: 1+1?\n\nAssistant: {BEGUN}"


def test_whole_conversations_end_with_the_demonstration() -> None:
    prompt = make({"messages": say("user 1+1?", "assistant It is 2."), "ground_truth": "2"})
    assert (prompt.ground_truth, prompt.demonstration, prompt.prefill) == ("2", "It is 2.", "")
    assert prompt == Prompt("", "1+1?", "2", demonstration="It is 2."), "a plain prompt has no messages"
    prompt = make({"messages": say("user 1+1?", "assistant It is 2."), "answer": "2"})
    assert (prompt.ground_truth, prompt.demonstration) == ("2", "It is 2.")


@pytest.mark.parametrize("column", ["prompt", "messages"])
def test_without_ground_truth_the_last_turn_is_that(column: str) -> None:
    prompt = make({column: say("user 1+1?", "assistant 2")})
    assert (prompt.ground_truth, prompt.demonstration, prompt.messages) == ("2", "2", ())


def test_no_answer_ends_with_an_opening_tag() -> None:
    """So it is a prefill wherever it stands; and then the row has no ground truth."""
    for tag in ("<think>", "<reasoning>\n", "[THINK]", "<answer>"):
        turns = [*say("user 1+1?"), {"role": "assistant", "content": f"Well. {tag}"}]
        assert make({"messages": turns, "answer": "2"}).prefill == f"Well. {tag}"
        refuse({"messages": turns}, "has no ground_truth")
    assert make({"messages": say("user 1+1?", "assistant <b>2</b>"), "answer": "2"}).prefill == ""


def test_a_prefill_of_nothing_is_none() -> None:
    prompt = make({"prompt": [*say("user 1+1?"), {"role": "assistant", "content": ""}], "answer": "2"})
    assert (prompt.text, prompt.messages) == ("1+1?", ())


def test_a_demonstration_begins_where_the_prefill_ends() -> None:
    row = {"prompt": say("user 1+1?", "assistant <think>"), "answer": "2"}
    assert make(row | {"demonstration": "<think>Two.</think>2"}).demonstration == "Two.</think>2"
    assert make(row | {"demonstration": "Two.</think>2"}).demonstration == "Two.</think>2"


# ---------------------------------------------------------------- turns and tools


def test_any_number_of_turns() -> None:
    turns = say("system Be brief.", "user 1+1?", "assistant 2", "user And 2+2?", "user Well?")
    prompt = make({"prompt": turns, "ground_truth": "4"})
    assert (prompt.turns, prompt.system, prompt.demonstration) == (turns, "Be brief.", None)
    assert prompt.text == "User: 1+1?\n\nAssistant: 2\n\nUser: And 2+2?\n\nUser: Well?"
    whole = make({"messages": [*turns, *say("assistant 4")]})
    assert (whole.turns, whole.demonstration, whole.ground_truth) == (turns, "4", "4")


def test_calls_and_what_came_of_them_are_turns() -> None:
    prompt = make({"messages": [*say("user When?"), CALLED, ANSWERED, *say("assistant At half past four.")]})
    assert [turn["role"] for turn in prompt.turns] == ["user", "assistant", "tool"]
    asked, came = prompt.turns[1:]
    assert asked["content"] == ""
    assert asked["tool_calls"][0]["function"] == {"name": "tide", "arguments": {"at": "Ayr"}}, "an object for templates"
    assert came == {"role": "tool", "content": '{"high": "4:30"}', "tool_call_id": "call00001"}
    assert prompt.text == f'User: When?\n\nAssistant: {TEXT_CALL}\n\nTool: {{"high": "4:30"}}'
    older = {"role": "assistant", "function_call": {"name": "tide", "arguments": '{"at": "Ayr"}'}}
    turns = [*say("user When?"), older, {"role": "function", "name": "tide", "content": "4:30"}]
    assert make({"messages": turns, "answer": "4:30"}).text == f"User: When?\n\nAssistant: {TEXT_CALL}\n\nTool: 4:30"


@pytest.mark.parametrize("column", ["prompt", "messages"])
def test_calls_at_the_end_are_demonstration_and_ground_truth(column: str) -> None:
    prompt = make({column: [*say("user When?"), {"role": "assistant", "tool_calls": [CALL]}]})
    assert json.loads(prompt.ground_truth) == [{"name": "tide", "arguments": {"at": "Ayr"}}]
    assert prompt.demonstration == TEXT_CALL
    assert score(TEXT_CALL, prompt.ground_truth).reward == 1.0
    scored = make({column: [*say("user When?"), CALLED], "ground_truth": CALLED})
    assert (scored.demonstration, scored.prefill) == (TEXT_CALL, ""), "calls are never a prefill"
    assert score(TEXT_CALL, scored.ground_truth).reward == 1.0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"function": {"arguments": "{}"}}, "message 2 of messages has a tool call without a name"),
        ({"function": {"name": "f", "arguments": "{"}}, "the arguments of f are not JSON"),
        ({"function": {"name": "f", "arguments": [1]}}, "the arguments of f must be an object, not list"),
        ("f()", "a tool call without a name"),
    ],
)
def test_a_call_that_is_none_is_refused(call: Any, said: str) -> None:
    refuse({"messages": [*say("user a"), {"role": "assistant", "tool_calls": [call]}]}, said)


def test_tools_are_functions() -> None:
    row = {"prompt": "When?", "ground_truth": "[]"}
    tool = {"name": "tide", "parameters": {"at": {"type": "str, optional"}}}
    for tools in ([tool], [{"type": "function", "function": tool}], json.dumps([tool]), [], "", None):
        make(row | {"tools": tools})
    for tools in ("hammer, saw", ["hammer"], [{"type": "function"}], 3):
        refuse(row | {"tools": tools}, "tools must be a list of functions, each an object with a name")


# ---------------------------------------------------------------- in a pool


def load(path: Path, rows: list[dict[str, Any]], template: str = "{prompt}") -> list[Prompt]:
    path.write_text("\n".join(map(json.dumps, rows)))
    return list(load_prompts(str(path), columns={}, template=template, system="Be brief."))


def test_a_pool_holds_them_and_writes_them_again(tmp_path: Path) -> None:
    rows = [
        {"prompt": say("user 1+1?", f"assistant {BEGUN}"), "answer": "2", "demonstration": "Two.</think>2"},
        {"messages": [*say("system Be kind.", "user When?"), CALLED, ANSWERED, *say("user And then?")], "answer": "5"},
        {"messages": [*say("user When?"), CALLED]},
        {"messages": [*say("user Where?"), {**CALLED, "content": "I look."}]},
        {"prompt": "3+3?", "ground_truth": 6},
    ]
    prompts = load(tmp_path / "pool.jsonl", rows)
    table = load_prompts(str(tmp_path / "pool.jsonl"), columns={}, template="{prompt}", system="Be brief.")
    assert [table[i] for i in range(5)] == prompts
    assert [prompt.system for prompt in prompts] == ["Be brief.", "Be kind.", *["Be brief."] * 3]
    assert table.column("messages").null_count == 1, "a plain prompt has none"
    again = load(tmp_path / "again.jsonl", list(table.to_rows(name_columns({}))))
    assert again == prompts


def test_the_template_goes_around_the_last_question(tmp_path: Path) -> None:
    rows = [{"prompt": say("user 1+1?", "assistant 2", "user 2+2?", "assistant <think>"), "answer": "4"}]
    [prompt] = load(tmp_path / "pool.jsonl", rows, template="{prompt} Box it.")
    assert [turn["content"] for turn in prompt.messages] == ["1+1?", "2", "2+2? Box it.", "<think>"]
    assert prompt.text == "User: 1+1?\n\nAssistant: 2\n\nUser: 2+2? Box it.\n\nAssistant: <think>"


def test_conversations_of_other_turns_are_other_prompts(tmp_path: Path) -> None:
    questions: list[Any] = ["1+1?", say("user 1+1?", "assistant <think>"), say("user 1+1?", "assistant 2", "user 1+1?")]
    prompts = load(tmp_path / "pool.jsonl", [{"prompt": q, "answer": "2"} for q in questions])
    assert len({prompt.id for prompt in prompts}) == 3


@pytest.mark.skipif(not REAL.exists(), reason="real rows are not here")
def test_real_rows_of_tool_calls_are_all_read() -> None:
    prompts = list(load_prompts(str(REAL), columns={}, template="{prompt}", system=""))
    assert len(prompts) == 100
    assert all(prompt.calls and prompt.demonstration for prompt in prompts)
    assert {score(prompt.demonstration or "", prompt.ground_truth).reason for prompt in prompts} == {"right"}
