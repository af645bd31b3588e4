"""How a prompt becomes the text that a model continues, by chat templates of several kinds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from harness.errors import InputError
from harness.models.render import Renderer
from harness.models.tiny import build_tiny_tokenizer
from harness.types import Prompt
from pools.rows import Row, make_prompt, name_columns

PLAIN = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}|{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
TOOLS = (
    "{% if tools %}{% for t in tools %}[tools]{{ t | tojson }}|{% endfor %}{% endif %}"
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}</call>{% endfor %}|{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
THINKS = (
    "{% for m in messages %}[{{ m.role }}]"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}|{% endfor %}"
    "{% if add_generation_prompt %}[assistant]"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""As Qwen3: empty thinking before a last turn of the assistant."""
OPENS = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}|{% endfor %}"
    "{% if add_generation_prompt %}[assistant]<think>\n{% endif %}"
)
"""As DeepSeek-R1: thinking is opened for the model."""
CLOSES = OPENS.replace(
    "{{ m.content }}", "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}"
)
"""As Qwen3.5: it opens thinking for the model, and closes it in a last turn."""
HEADED = PLAIN.replace("]{{", "]{% if m['role'] == 'assistant' %}final:{% endif %}{{")
"""As gpt-oss: the model writes the channel of its turn itself."""
TRIMS = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}|{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + PLAIN
)
NO_TOOLS = (
    "{% for m in messages %}{% if m['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}" + PLAIN
)
ALTERNATES = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}{% endfor %}" + PLAIN
)
CALL = {"type": "function", "function": {"name": "tide", "arguments": {"at": "Ayr"}}}
TOOL = {"name": "tide", "parameters": {"at": {"type": "str, optional"}, "days": {"type": "int"}}}
WITH_TOOLS = {
    "messages": [
        {"role": "user", "content": "When?"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "content": "4:30"},
    ],
    "answer": "4:30",
}


def renderer(template: str | None, **options: Any) -> Renderer:
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = template
    return Renderer(tokenizer, template is not None, **options)


def make(values: dict[str, Any]) -> Prompt:
    return make_prompt(Row("row 1", values), name_columns({}))


def begun(prefill: str, **values: Any) -> Prompt:
    turns = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": prefill}]
    return replace(make({"prompt": turns, "answer": "2"}), **values)


def one_line(render: Renderer, prompt: Prompt) -> str:
    with pytest.raises(InputError) as raised:
        render.render(prompt)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# ---------------------------------------------------------------- turns and prefills


def test_all_turns_go_through_the_template() -> None:
    turns = [{"role": role, "content": role[0]} for role in ("system", "user", "assistant", "user")]
    rendered = renderer(PLAIN).render(make({"prompt": turns, "answer": "2"}))
    assert rendered == "[system]s|[user]u|[assistant]a|[user]u|[assistant]"


@pytest.mark.parametrize("prefill", ["Let me think.\n<think>", "<think>\n", "The answer is "])
@pytest.mark.parametrize("template", [PLAIN, TOOLS, THINKS, OPENS, TRIMS, ALTERNATES])
def test_a_prefill_is_continued_to_the_letter(template: str, prefill: str) -> None:
    assert renderer(template).render(begun(prefill)) == f"[user]1+1?|[assistant]{prefill}"


def test_a_template_that_refuses_a_last_turn_of_the_assistant_gets_the_prefill_after_its_own_beginning() -> None:
    refuses = "{% if messages[-1]['role'] == 'assistant' %}{{ raise_exception('no') }}{% endif %}" + PLAIN
    assert renderer(refuses).render(begun("<think>")) == "[user]1+1?|[assistant]<think>"


def test_thinking_that_template_and_prefill_both_open_is_opened_once() -> None:
    assert renderer(CLOSES).render(begun("So <think>")) == "[user]1+1?|[assistant]So <think>"
    assert renderer(CLOSES).render(begun("So ")) == "[user]1+1?|[assistant]<think>\nSo ", "within the thinking"


def test_the_head_that_a_model_writes_of_a_turn_stands_before_the_prefill() -> None:
    assert renderer(HEADED).render(begun("<think>")) == "[user]1+1?|[assistant]final:<think>"


def test_the_tokens_are_those_of_the_text() -> None:
    render = renderer(PLAIN)
    prompt = begun("2+2=4, so ")
    assert render.tokenizer.decode(render.prompt_ids(prompt)) == render.render(prompt)


def test_plain_text_names_who_speaks_where_there_are_turns() -> None:
    render = renderer(None)
    assert render.render(Prompt("", "1+1=", "2", system="Add.")) == "Add.\n\n1+1="
    assert render.render(begun("<think>", system="Add.")) == "Add.\n\nUser: 1+1?\n\nAssistant: <think>"
    turns = [{"role": role, "content": role[0]} for role in ("user", "assistant", "user")]
    assert render.render(make({"prompt": turns, "answer": "2"})) == "User: u\n\nAssistant: a\n\nUser: u\n\nAssistant:"


# ---------------------------------------------------------------- tools


def test_calls_and_tools_reach_a_template_that_shows_them() -> None:
    prompt = make(WITH_TOOLS | {"tools": [TOOL]})
    shown = renderer(TOOLS).render(prompt)
    tool = json.loads(shown[len("[tools]") : shown.index("|")])
    assert tool["function"]["parameters"] == {
        "type": "object", "properties": {"at": {"type": "string"}, "days": {"type": "integer"}},
    }  # fmt: skip
    assert '[assistant]<call>{"name": "tide", "arguments": {"at": "Ayr"}}</call>|[tool]4:30|[assistant]' in shown
    assert renderer(TOOLS).render(make(WITH_TOOLS | {"tools": json.dumps([TOOL])})) == shown, "as JSON text"


def test_what_a_template_leaves_out_without_a_word_is_told_in_the_messages() -> None:
    shown = renderer(PLAIN).render(make(WITH_TOOLS | {"tools": [TOOL]}))
    assert shown.startswith("[system]You can call these functions")
    assert '"type": "integer"' in shown
    assert (
        '[assistant]<tool_call>{"name": "tide", "arguments": {"at": "Ayr"}}</tool_call>|[user]<tool_response>' in shown
    )


def test_a_template_that_refuses_tools_is_said_in_one_line() -> None:
    said = one_line(renderer(NO_TOOLS), make(WITH_TOOLS))
    assert said.startswith("pool.source: the chat template of ")
    assert "cannot render these turns with tool calls (Only user and assistant roles are supported!)" in said


def test_calls_without_results_need_no_template_that_takes_results() -> None:
    turns = [*WITH_TOOLS["messages"][:2], {"role": "user", "content": "And?"}]
    shown = renderer(NO_TOOLS).render(make({"prompt": turns, "answer": "2"}))
    assert '[assistant]<tool_call>{"name": "tide"' in shown


def test_a_template_that_wants_arguments_as_text_gets_them_so() -> None:
    wants = TOOLS.replace("c.function | tojson", "c.function.name + c.function.arguments")
    assert '<call>tide{"at": "Ayr"}</call>' in renderer(wants).render(make(WITH_TOOLS))
    prompt = make({"messages": WITH_TOOLS["messages"][:2]})
    assert renderer(wants).tokenizer.decode(renderer(wants).demonstrate(prompt)[0]).endswith('{"at": "Ayr"}</call>|')


def test_tools_in_the_common_form_stay_to_the_letter() -> None:
    schema = {"type": "object", "properties": {"at": {"type": "string"}}}
    tool = {"function": {"parameters": schema, "name": "tide"}, "type": "function", "strict": True}
    assert json.dumps(tool) in renderer(TOOLS).render(Prompt("", "When?", "[]", columns={"tools": [tool]}))


def test_a_template_that_refuses_the_order_of_turns_is_said_in_one_line() -> None:
    turns = [{"role": "user", "content": "a"}] * 2
    said = one_line(renderer(ALTERNATES), make({"prompt": turns, "answer": "2"}))
    assert "cannot render the turns user, user (Roles must alternate)" in said


# ---------------------------------------------------------------- the system message, arguments


def test_a_refused_system_message_is_folded_into_the_users_when_asked_to() -> None:
    prompt = Prompt("", "1+1?", "2", system="Be brief.")
    said = one_line(renderer(NO_SYSTEM), prompt)
    assert said.startswith("pool.system_prompt: ")
    assert "refuses a system message (System role not supported); pool.system_in_user=true" in said
    assert renderer(NO_SYSTEM, system_in_user=True).render(prompt) == "[user]Be brief.\n\n1+1?|[assistant]"
    folded = renderer(NO_SYSTEM, system_in_user=True).render(begun("<think>", system="Be brief."))
    assert folded == "[user]Be brief.\n\n1+1?|[assistant]<think>"
    assert prompt.turns[0]["role"] == "system", "the prompt itself stays"


def test_tools_told_in_a_system_message_are_folded_too() -> None:
    prompt = Prompt("", "When?", "[]", columns={"tools": [TOOL]})
    assert "pool.system_in_user" in one_line(renderer(NO_SYSTEM), prompt)
    shown = renderer(NO_SYSTEM, system_in_user=True).render(prompt)
    assert shown.startswith("[user]You can call these functions")


def test_arguments_reach_the_template() -> None:
    quiet = renderer(THINKS, template_kwargs={"enable_thinking": False})
    assert quiet.render(Prompt("", "1+1?", "2")) == "[user]1+1?|[assistant]<think>\n\n</think>\n\n"
    assert quiet.render(begun("So ")) == "[user]1+1?|[assistant]<think>\n\n</think>\n\nSo "
    assert renderer(THINKS).render(Prompt("", "1+1?", "2")) == "[user]1+1?|[assistant]"


# ---------------------------------------------------------------- demonstrations


def shown(render: Renderer, prompt: Prompt) -> tuple[str, str]:
    ids, length = render.demonstrate(prompt)
    return render.tokenizer.decode(ids[:length]), render.tokenizer.decode(ids[length:])


def test_a_demonstration_is_learned_after_the_prompt() -> None:
    assert shown(renderer(PLAIN), Prompt("", "1+1?", "2", demonstration="2")) == ("[user]1+1?|[assistant]", "2|")
    assert shown(renderer(PLAIN), begun("So ", demonstration="2")) == ("[user]1+1?|[assistant]So ", "2|")
    end = str(renderer(None).tokenizer.eos_token)
    assert shown(renderer(None), Prompt("", "1+1=", "2", demonstration="2")) == ("1+1=", f"2{end}")


def test_calls_are_demonstrated_as_the_template_writes_them() -> None:
    prompt = make({"messages": WITH_TOOLS["messages"][:2]})
    assert shown(renderer(TOOLS), prompt)[1] == '<call>{"name": "tide", "arguments": {"at": "Ayr"}}</call>|'
    assert shown(renderer(PLAIN), prompt)[1] == '<tool_call>{"name": "tide", "arguments": {"at": "Ayr"}}</tool_call>|'
