"""Generated rows with the real column names of other data sets, and the table of docs/pools.md that is made of them:
``python -m tests.support.layouts`` (make docs) writes it anew. All texts are ours."""

from __future__ import annotations

import base64
import json
import pickle
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pools.layouts import ArrangedRows
from pools.rows import Row

FILE = Path(__file__).parents[2] / "docs" / "pools.md"
BEGIN, END = "<!-- layouts: written by make docs -->\n", "<!-- /layouts -->\n"
Values = dict[str, Any]


class Example(NamedTuple):
    """Rows as the data sets ``seen_in`` write them: ``make(n)`` for n of 0 to 9."""

    seen_in: str
    make: Callable[[int], Values]

    @property
    def rows(self) -> list[Values]:
        return [self.make(n) for n in range(10)]


def _user(text: str) -> list[Values]:
    return [{"role": "user", "content": text}]


def _sum(n: int) -> str:
    return f"Add {n} and {n + 2}."


def _gsm8k(n: int) -> Values:
    work = f"{n + 2}+{n + 3}=<<{n + 2}+{n + 3}={2 * n + 5}>>{2 * n + 5}"
    steps = f"The first box has {n + 2} pens, the second {n + 3}.\n{work}"
    return {"question": f"Box {n} and the next hold how many pens?", "answer": f"{steps}\n#### {2 * n + 5}"}


def _reward_kit(n: int) -> Values:
    return {
        "user_prompt": _sum(n), "original_assistant_content": f"We add: \\boxed{{{2 * n + 2}}}",
        "regenerated_content": f"<think>so</think>\\boxed{{{2 * n + 2}}}", "evaluation_score": 1.0,
        "evaluation_reason": "equal",
    }  # fmt: skip


def _openr1(n: int) -> Values:
    solution = f"We add: \\boxed{{{2 * n + 2}}}" if n % 2 else "We add."
    return {
        "problem": _sum(n), "solution": solution, "answer": str(2 * n + 2), "problem_type": "Algebra",
        "question_type": "math-word-problem", "source": "made", "uuid": f"u{n}", "is_reasoning_complete": [True],
        "generations": [f"<think>so</think>{2 * n + 2}"], "correctness_math_verify": [True], "finish_reasons": ["stop"],
        "messages": [*_user(_sum(n)), {"role": "assistant", "content": f"\\boxed{{{2 * n + 2}}}"}],
    }  # fmt: skip


def _math(n: int) -> Values:
    solution = f"It is $\\frac{{{n}}}{{1}}$, so $\\boxed{{\\frac{{{n + 1}}}{{7}}}}$."
    return {
        "problem": f"Simplify {n + 1} sevenths.",
        "level": f"Level {n % 5 + 1}",
        "type": "Algebra",
        "solution": solution,
    }


def _math500(n: int) -> Values:
    row = _math(n)
    del row["type"]
    return row | {"answer": f"\\frac{{{n + 1}}}{{7}}", "subject": "Algebra", "unique_id": f"test/algebra/{n}.json"}


def _verl(n: int, prompt: str, truth: Any, source: str) -> Values:
    return {
        "data_source": source, "prompt": _user(prompt), "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": truth}, "extra_info": {"split": "train", "index": n},
    }  # fmt: skip


def _dapo(n: int) -> Values:
    ask = (
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
        f"$Answer (without quotes) where $Answer is the answer to the problem.\n\n{_sum(n)}\n\n"
        'Remember to put your answer on its own line after "Answer:".'
    )
    return _verl(n, ask, str(2 * n + 2), "math_dapo")


def _sharegpt(n: int) -> Values:
    turns = [("system", "Be brief."), ("human", _sum(n)), ("gpt", str(2 * n + 2)), ("human", "Sure?"), ("gpt", "Yes.")]
    return {"id": f"c{n}", "conversations": [{"from": who, "value": text} for who, text in turns]}


def _xlam(n: int) -> Values:
    tools = [{
        "name": "add_numbers", "description": "Add two numbers.",
        "parameters": {
            "a": {"description": "One.", "type": "int"},
            "b": {"description": "Another.", "type": "int, optional", "default": 1},
        },
    }]  # fmt: skip
    answers = [{"name": "add_numbers", "arguments": {"a": n, "b": 2}}]
    return {"id": n, "query": f"What is {n} plus 2?", "answers": json.dumps(answers), "tools": json.dumps(tools)}


def _bfcl(n: int) -> Values:
    number = {"type": "integer", "description": "A number."}
    tool = {
        "name": "add_numbers", "description": "Add two numbers.",
        "parameters": {"type": "dict", "properties": {"a": number, "b": number}, "required": ["a", "b"]},
    }  # fmt: skip
    return {"id": f"simple_{n}", "question": [_user(f"What is {n} plus 2?")], "function": [tool]}


def _bfcl_answered(n: int) -> Values:
    return _bfcl(n) | {"ground_truth": [{"add_numbers": {"a": [n], "b": [2]}}]}


PROGRAM = "def add_{n}(numbers):\n    return sum(numbers) + {n}\n"


def _asserts(n: int) -> list[str]:
    return [f"assert add_{n}([1, 2]) == {n + 3}", f"assert add_{n}([]) == {n}", f"assert add_{n}((5,)) == {n + 5}"]


def _mbpp(n: int) -> Values:
    tests = _asserts(n)
    if n == 9:  # which a constant passes
        tests = [f"assert add_{n}([]) == {n}"]
    return {
        "task_id": n, "text": f"Write a function that adds numbers and {n}.", "code": PROGRAM.format(n=n),
        "test_list": tests, "test_setup_code": "", "challenge_test_list": [],
    }  # fmt: skip


def _mbpp_sanitized(n: int) -> Values:
    row = _mbpp(n)
    kept = {name: row[name] for name in ("task_id", "code", "test_list")}
    return kept | {"source_file": "made", "prompt": row["text"], "test_imports": ["import math"]}


def _humaneval(n: int) -> Values:
    head = f'from typing import List\n\n\ndef add_{n}(numbers: List[int]) -> int:\n    """ Add all and {n}.\n    """\n'
    checks = "\n".join(f"    {line.replace(f'add_{n}', 'candidate')}" for line in _asserts(n))
    return {
        "task_id": f"Made/{n}", "prompt": head, "canonical_solution": f"    return sum(numbers) + {n}\n",
        "test": f"\n\nMETADATA = {{'author': 'made'}}\n\n\ndef check(candidate):\n{checks}\n",
        "entry_point": f"add_{n}",
    }  # fmt: skip


SCRIPT = "n = int(input())\nprint(n + {n})\n"


def _apps(n: int) -> Values:
    tests = {"inputs": ["1\n", "5\n"], "outputs": [f"{n + 1}\n", f"{n + 5}\n"]}
    return {
        "problem_id": n, "question": f"Read a number and print it plus {n}.",
        "solutions": json.dumps([SCRIPT.format(n=n)]), "input_output": json.dumps(tests), "difficulty": "introductory",
        "url": "", "starter_code": "",
    }  # fmt: skip


def _apps_calls(n: int) -> Values:
    solution = f"class Solution:\n    def plus(self, a: int) -> int:\n        return a + {n}\n"
    tests = {"fn_name": "plus", "inputs": [[1], [5]], "outputs": [[n + 1], [n + 5]]}
    starter = "class Solution:\n    def plus(self, a: int) -> int:\n        "
    return _apps(n) | {
        "solutions": json.dumps([solution]), "input_output": json.dumps(tests), "starter_code": starter,
        "tags": "['Math']", "time_limit": "", "memory_limit": "",
    }  # fmt: skip


def _lcb(n: int) -> Values:
    public = [{"input": "1\n", "output": f"{n + 1}\n", "testtype": "stdin"}]
    private = [{"input": "5\n", "output": f"{n + 5}\n", "testtype": "stdin"}]
    hidden = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(private)))).decode()
    return {
        "question_title": "Plus", "question_content": f"Read a number and print it plus {n}.", "platform": "made",
        "question_id": str(n), "contest_id": "c", "contest_date": "2025-01-01", "starter_code": "",
        "difficulty": "easy", "public_test_cases": json.dumps(public), "private_test_cases": hidden, "metadata": "{}",
    }  # fmt: skip


def _lcb_functional(n: int) -> Values:
    tests = [{"input": f"[1, 2]\n{k}", "output": str(3 + k + n), "testtype": "functional"} for k in (1, 4)]
    starter = "class Solution:\n    def total(self, numbers: List[int], k: int) -> int:\n        "
    return _lcb(n) | {
        "public_test_cases": json.dumps(tests), "private_test_cases": "[]", "starter_code": starter,
        "metadata": json.dumps({"func_name": "total"}),
    }  # fmt: skip


def _fusion(n: int) -> Values:
    tests = [{"input": {"stdin": "1\n"}, "output": {"stdout": f"{n + 1}\n"}}]
    tests += [{"input": {"stdin": "5\n"}, "output": {"stdout": f"{n + 5}\n"}}]
    return {
        "id": n, "content": f"Read a number and print it plus {n}.",
        "labels": json.dumps({"programming_language": "python"}),
        "test": json.dumps(tests), "canonical_solution": SCRIPT.format(n=n),
    }  # fmt: skip


def _fusion_asserts(n: int) -> Values:
    labels = {"task_id": n, "test_setup_code": ""}
    return {
        "id": n, "content": f"Write a function add_{n} that adds numbers and {n}.", "labels": labels,
        "test": _asserts(n), "canonical_solution": PROGRAM.format(n=n),
    }  # fmt: skip


def _prime(n: int) -> Values:
    truth = json.dumps({"inputs": ["1\n", "5\n"], "outputs": [f"{n + 1}\n", f"{n + 5}\n"]})
    return _verl(n, f"Read a number and print it plus {n}.", truth, "codecontests") | {"ability": "code"}


def _coding(n: int) -> Values:
    tests = f">>> add_{n}([1, 2])\n{n + 3}\n>>> add_{n}([])\n{n}" if n % 2 else "\n".join(_asserts(n))
    if n == 8:
        tests = "It needs no example."
    answer = PROGRAM.format(n=n) if n % 2 else f"Here it is:\n```python\n{PROGRAM.format(n=n)}```"
    return {"messages": [*_user(f"Add the numbers and {n}.\n{tests}"), {"role": "assistant", "content": answer}]}


def _log(n: int, message: Values) -> Values:
    request = {"model": "m", "messages": [{"role": "system", "content": "Be brief."}, *_user(_sum(n))]}
    return {"request": request, "response": {"id": f"r{n}", "choices": [{"index": 0, "message": message}]}}


def _text_log(n: int) -> Values:
    return _log(n, {"role": "assistant", "content": str(2 * n + 2)})


def _call_log(n: int) -> Values:
    function = {"name": "add", "arguments": json.dumps({"a": n, "b": n + 2})}
    row = _log(
        n, {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}
    )
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
    row["request"]["tools"] = [{"type": "function", "function": {"name": "add", "parameters": schema}}]
    return row


def _countdown(n: int) -> Values:
    return {"target": n + 14, "nums": [n + 2, 3, 4]}


def _r1(n: int) -> Values:
    turns = [{"role": "system", "content": "Think first."}, *_user(f"Make {n + 14} of {n + 2}, 3 and 4.")]
    return _countdown(n) | {"prompt": [*turns, {"role": "assistant", "content": "Let me solve this.\n<think>"}]}


def _preference(n: int) -> Values:
    return {"prompt": _sum(n), "chosen": str(2 * n + 2), "rejected": "7000"}


EXAMPLES: dict[str, Example] = {
    "GSM8K": Example("openai/gsm8k", _gsm8k),
    "reward-kit": Example("fw-ai-external/reward-kit, regenerated answers", _reward_kit),
    "OpenR1-Math": Example("open-r1/OpenR1-Math-220k, NuminaMath-1.5, DeepScaleR, Big-Math", _openr1),
    "MATH": Example("EleutherAI/hendrycks_math", _math),
    "MATH-500": Example("HuggingFaceH4/MATH-500", _math500),
    "DAPO-math": Example("BytedTsinghua-SIA/DAPO-Math-17k", _dapo),
    "verl": Example(
        "verl's gsm8k.py",
        lambda n: _verl(n, f'{_sum(n)} Output the answer after "####".', str(2 * n + 2), "openai/gsm8k"),
    ),
    "verl countdown": Example(
        "TinyZero", lambda n: _verl(n, f"Make {n + 14}.", {"target": n + 14, "numbers": [n + 2, 3, 4]}, "countdown")
    ),
    "verl code": Example("PRIME-RL/Eurus-2-RL-Data", _prime),
    "countdown": Example("Jiayi-Pan/Countdown-Tasks-3to4", _countdown),
    "countdown, R1 form": Example("mini-R1: prompt ends in a prefill", _r1),
    "xLAM": Example("Salesforce/xlam-function-calling-60k", _xlam),
    "BFCL": Example("gorilla-llm/Berkeley-Function-Calling-Leaderboard", _bfcl),
    "BFCL with answers": Example("the same, possible_answer joined by id", _bfcl_answered),
    "MBPP": Example("google-research-datasets/mbpp, full", _mbpp),
    "MBPP, sanitized": Example("the same, sanitized", _mbpp_sanitized),
    "HumanEval": Example("openai/openai_humaneval", _humaneval),
    "APPS": Example("codeparrot/apps", _apps),
    "TACO": Example("BAAI/TACO, with fn_name", _apps_calls),
    "LiveCodeBench": Example("livecodebench/code_generation_lite", _lcb),
    "LiveCodeBench, functional": Example("the same, LeetCode's rows", _lcb_functional),
    "SandboxFusion": Example("SandboxFusion, CommonOJ", _fusion),
    "SandboxFusion, asserts": Example("SandboxFusion, MBPP", _fusion_asserts),
    "coding messages": Example("messages with tests in the question", _coding),
    "ShareGPT": Example("ShareGPT, OpenHermes", _sharegpt),
    "OpenAI log": Example("requests and responses", _text_log),
    "OpenAI log, calls": Example("the same, answered by tool calls", _call_log),
    "preferences": Example("DPO, UltraFeedback", _preference),
    "Alpaca": Example(
        "tatsu-lab/alpaca",
        lambda n: {"instruction": "Add.", "input": f"{n} 2", "output": str(n + 2), "text": "made"},
    ),
    "prompt + answer": Example("answers by that name", lambda n: {"prompt": _sum(n), "answer": 2 * n + 2}),
    "TRL prompt-only": Example("trl-lib/ultrafeedback-prompt", lambda n: {"prompt": _user(_sum(n))}),
    "TRL prompt-completion": Example("trl-lib/tldr", lambda n: {"prompt": _sum(n), "completion": str(n)}),
    "our own": Example("ours", lambda n: {"prompt": _sum(n), "ground_truth": 2 * n + 2}),
    "our own, messages": Example("OpenAI messages", lambda n: {"messages": _user(_sum(n)), "ground_truth": 2 * n + 2}),
}


def arrange(rows: list[Values]) -> tuple[ArrangedRows, list[Values]]:
    arranged = ArrangedRows(lambda: iter([Row(f"row {n}", row) for n, row in enumerate(rows, 1)]), {})
    return arranged, [dict(row.values) for row in arranged]


def render_table() -> str:
    lines = ["| rows as in | columns | recognised as | reward | rows kept |", "|---|---|---|---|---|"]
    for example in EXAMPLES.values():
        rows = example.rows
        arranged, kept = arrange(rows)
        layout = arranged.layout
        names = list(rows[0])
        columns = ", ".join(f"`{name}`" for name in names[:5]) + (", ..." if len(names) > 5 else "")
        reward = f"`{layout.reward}`" if layout and layout.reward else "your own" if layout is None else "none of ours"
        said = layout.says.replace("|", "\\|") if layout else "our own columns"
        lines.append(f"| {example.seen_in} | {columns} | {said} | {reward} | {len(kept)} of {len(rows)} |")
    return "\n".join(lines) + "\n"


def render() -> str:
    page = FILE.read_text(encoding="utf-8")
    return re.sub(f"{BEGIN}.*{END}", lambda _: BEGIN + "\n" + render_table() + "\n" + END, page, flags=re.DOTALL)


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
