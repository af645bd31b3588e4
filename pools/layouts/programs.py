"""Layouts of programming tasks: their tests as the ground truth of rewards.code (docs/rewards.md).

A row whose tests cannot be read, or are passed by a constant, is dropped. What a data set knows as the solution becomes
the demonstration, in a block as rewards.code reads it.
"""

from __future__ import annotations

import ast
import base64
import io
import pickle
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

from pools.layouts.base import Finder, Layout, Values, attempt, fill, has_texts, is_prompt, is_text, mostly, read_json
from pools.layouts.cases import HARD, Case, find_cases, make_truth

FIRST_LINES = "from typing import *\nimport bisect, collections, functools, heapq, itertools, math, re, string\n"
"""What the judges of LeetCode's form have imported already."""
CASE_LIMIT_S = 2
"""CPU seconds for each case of a contest: they come by the hundred."""
BLOCK = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL | re.IGNORECASE)


def fence(program: str) -> str:
    return f"```python\n{program.strip(chr(10))}\n```"


def make_layout(name: str, columns: str, convert: Callable[[Values], Values | None]) -> Layout:
    return Layout(name, f"{name} layout: {columns}; tests become cases", "rewards.code", convert)


# ---------------------------------------------------------------- asserts


def _find_mbpp(rows: Sequence[Values]) -> Layout | None:
    def convert(row: Values) -> Values | None:
        asked = next((row[name] for name in ("text", "prompt") if is_text(row.get(name))), None)
        tests = _texts(row.get("test_list"))
        setup = "\n".join([*_texts(row.get("test_imports")), str(row.get("test_setup_code") or "")]).strip()
        hidden = [*_texts(row.get("challenge_test_list")), *_texts([row.get("test")])]
        cases = find_cases("\n".join(tests))
        truth = make_truth([*cases, *find_cases("\n".join(hidden))], setup=setup, function=_most(cases))
        if asked is None or truth is None:
            return None
        # Without a test a prompt does not say what the function is called.
        prompt = f"{asked.strip()}\n\nYour code should pass these tests:\n" + "\n".join(tests)
        shown = fence(row["code"]) if is_text(row.get("code")) else None
        return fill(row, prompt=prompt, ground_truth=truth, demonstration=shown)

    if not mostly(rows, lambda row: bool(_texts(row.get("test_list")))):
        return None
    return make_layout("MBPP", "text or prompt, test_list, code", convert)


def _find_humaneval(rows: Sequence[Values]) -> Layout | None:
    def convert(row: Values) -> Values | None:
        if not has_texts(row, "prompt", "test", "entry_point"):
            return None
        cases = find_cases(row["test"], aliases=("candidate",), function=row["entry_point"])
        truth = make_truth(cases, setup=_read_imports(row["prompt"]), function=row["entry_point"])
        body = str(row.get("canonical_solution") or "")
        shown = fence(row["prompt"] + body) if body.strip() else None
        return fill(row, ground_truth=truth, demonstration=shown) if truth else None

    if not mostly(rows, lambda row: has_texts(row, "prompt", "test", "entry_point")):
        return None
    return make_layout("HumanEval", "prompt, test, entry_point, canonical_solution", convert)


def _find_sandbox_fusion(rows: Sequence[Values]) -> Layout | None:
    def convert(row: Values) -> Values | None:
        labels, test = read_json(row.get("labels")), row.get("test")
        labels = labels if isinstance(labels, Mapping) else {}
        test = read_json(test) or test
        if isinstance(test, Mapping):
            test = test.get("code")
        if isinstance(test, list) and all(isinstance(entry, Mapping) for entry in test):
            runs = [(_inside(entry.get("input"), "stdin"), _inside(entry.get("output"), "stdout")) for entry in test]
            truth = _make_script(runs)
        else:
            entry = str(labels.get("entry_point") or "")
            aliases = ("candidate",) if entry else ()
            cases = find_cases(
                "\n".join(_texts(test if isinstance(test, list) else [test])), aliases=aliases, function=entry
            )
            truth = make_truth(cases, setup=str(labels.get("test_setup_code") or ""), function=entry)
        body = str(row.get("canonical_solution") or "")
        shown = fence(body) if body.strip() else None
        return fill(row, prompt=row["content"], ground_truth=truth, demonstration=shown) if truth else None

    if not mostly(rows, lambda row: has_texts(row, "content") and "test" in row and "labels" in row):
        return None
    return make_layout("SandboxFusion", "content, test, labels", convert)


def _most(cases: Sequence[Case]) -> str:
    names = [case.function for case in cases]
    return max(names, key=names.count, default="")


def _texts(values: Any) -> list[str]:
    values = read_json(values) if isinstance(values, str) else values
    return [value for value in values if is_text(value)] if isinstance(values, list) else []


def _inside(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _read_imports(program: str) -> str:
    return "\n".join(line for line in program.split("\n") if re.match(r"(?:import|from) \w", line))


# ---------------------------------------------------------------- contests


def _make_script(runs: Sequence[tuple[Any, Any]]) -> dict[str, Any] | None:
    """Make the ground truth of inputs and outputs, texts or lists of lines."""
    cases = []
    for given, wanted in runs:
        lines = ["\n".join(map(str, text)) if isinstance(text, list) else text for text in (given, wanted)]
        if all(isinstance(text, str) for text in lines):
            cases.append({"stdin": lines[0], "stdout": lines[1]})
    if len({case["stdout"].strip() for case in cases}) < 2:
        return None
    return {"cases": cases, "case_limit": CASE_LIMIT_S}


def _make_calls(function: str, calls: Sequence[tuple[Any, Any]]) -> dict[str, Any] | None:
    """Make the ground truth of lists of arguments and values in JSON."""
    usable = [(args, value) for args, value in calls if isinstance(args, list)]
    with suppress(*HARD):
        cases = [Case(function, args, {}, value) for args, value in usable]
        truth = make_truth(cases, setup=FIRST_LINES, function=function.rpartition(".")[2])
        return truth and truth | {"case_limit": CASE_LIMIT_S}
    return None


def _read_input_output(value: Any, function: str = "") -> dict[str, Any] | None:
    """Read ``{"inputs": [...], "outputs": [...], "fn_name": "f"}`` of APPS, TACO and PRIME."""
    value = read_json(value)
    if not isinstance(value, Mapping):
        return None
    given, wanted = value.get("inputs"), value.get("outputs")
    if not isinstance(given, list) or not isinstance(wanted, list) or len(given) != len(wanted):
        return None
    function = str(value.get("fn_name") or function)
    if not function:
        return _make_script(list(zip(given, wanted, strict=True)))
    if wanted and all(isinstance(item, list) and len(item) == 1 for item in wanted):
        wanted = [item[0] for item in wanted]  # APPS has one value in a list, or the value
    return _make_calls(function, list(zip(given, wanted, strict=True)))


def _with_starter(prompt: str, starter: Any) -> str:
    return f"{prompt.rstrip()}\n\nStart from:\n{fence(starter)}" if is_text(starter) else prompt


def _find_apps(rows: Sequence[Values]) -> Layout | None:
    def convert(row: Values) -> Values | None:
        truth = _read_input_output(row.get("input_output"))
        if truth is None or not has_texts(row, "question"):
            return None
        solutions = _texts(row.get("solutions"))
        return fill(
            row,
            prompt=_with_starter(row["question"], row.get("starter_code")),
            ground_truth=truth,
            demonstration=fence(solutions[0]) if solutions else None,
            label=row.get("label", row.get("difficulty")),
        )

    if not mostly(rows, lambda row: has_texts(row, "question") and "input_output" in row):
        return None
    return make_layout("APPS", "question, input_output, starter_code, solutions", convert)


def _find_live_code_bench(rows: Sequence[Values]) -> Layout | None:
    def convert(row: Values) -> Values | None:
        tests = read_json(row.get("public_test_cases"))
        tests = [*(tests if isinstance(tests, list) else []), *_read_private(row.get("private_test_cases"))]
        tests = [test for test in tests if isinstance(test, Mapping)]
        function = str(_inside(read_json(row.get("metadata")), "func_name") or "")
        if function:
            calls = [(_lines_of_json(test.get("input")), read_json(test.get("output"))) for test in tests]
            truth = _make_calls(function, calls)
        else:
            truth = _make_script([(test.get("input"), test.get("output")) for test in tests])
        if truth is None or not has_texts(row, "question_content"):
            return None
        prompt = _with_starter(row["question_content"], row.get("starter_code"))
        return fill(row, prompt=prompt, ground_truth=truth, label=row.get("label", row.get("difficulty")))

    if not mostly(rows, lambda row: has_texts(row, "question_content", "public_test_cases")):
        return None
    return make_layout("LiveCodeBench", "question_content, public and private_test_cases, starter_code", convert)


def _lines_of_json(text: Any) -> list[Any] | None:
    return [read_json(line) for line in text.split("\n") if line.strip()] if isinstance(text, str) else None


class _Plain(pickle.Unpickler):
    """Reads texts and lists alone: a pickle from elsewhere could run anything."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"{module}.{name}")


def _read_private(value: Any) -> list[Any]:
    """Read LiveCodeBench's hidden tests: JSON, or JSON in a pickle, compressed, in base64."""
    found = read_json(value)
    if found is None and is_text(value):
        with suppress(*HARD, zlib.error, pickle.UnpicklingError, EOFError, AttributeError):
            found = read_json(_Plain(io.BytesIO(zlib.decompress(base64.b64decode(value)))).load())
    return found if isinstance(found, list) else []


def _find_verl_code(rows: Sequence[Values]) -> Layout | None:
    def read(row: Values) -> dict[str, Any] | None:
        return _read_input_output(_inside(read_json(row.get("reward_model")), "ground_truth"))

    def convert(row: Values) -> Values | None:
        truth = read(row) if is_prompt(row.get("prompt")) else None
        return fill(row, ground_truth=truth, label=row.get("label", row.get("data_source"))) if truth else None

    if not mostly(rows, lambda row: is_prompt(row.get("prompt")) and read(row) is not None):
        return None
    return make_layout("verl code", "prompt as messages, inputs and outputs in reward_model.ground_truth", convert)


# ---------------------------------------------------------------- messages


def _find_coding_messages(rows: Sequence[Values]) -> Layout | None:
    """A question whose answer is a program, with its tests in the question."""

    def turns(row: Values) -> tuple[list[Any], str, str] | None:
        messages = row.get("messages")
        if (
            not isinstance(messages, list)
            or len(messages) < 2
            or not all(isinstance(turn, Mapping) for turn in messages)
        ):
            return None
        asked, answer = messages[-2].get("content"), messages[-1].get("content")
        told = messages[-1].get("role") == "assistant" and isinstance(asked, str) and isinstance(answer, str)
        return (messages[:-1], asked, answer) if told else None

    def convert(row: Values) -> Values | None:
        found = turns(row)
        if found is None:
            return None
        messages, asked, answer = found
        cases, program = find_cases(asked), _read_program(answer)
        names = _defined(program)
        truth = make_truth([case for case in cases if case.function in names], setup=_read_imports(asked))
        return fill(row, prompt=messages, ground_truth=truth, demonstration=fence(program)) if truth else None

    def is_program(row: Values) -> bool:
        found = turns(row)
        return found is not None and bool(_defined(_read_program(found[2])))

    if not mostly(rows, is_program) or not any(attempt(convert, row) for row in rows):
        return None
    columns = "messages, doctests and asserts in the question, a program as the answer"
    return replace(make_layout("coding messages", columns, convert), readable=True)


def _read_program(answer: str) -> str:
    """Read the program of an answer: its last block, or all from the first line of Python on."""
    blocks = BLOCK.findall(answer)
    if blocks:
        return str(blocks[-1])
    start = re.search(r"^(?:import |from \w|def |class |@)", answer, re.MULTILINE)
    return answer[start.start() :] if start else ""


def _defined(program: str) -> set[str]:
    """Name the functions that a program defines, and the methods of its class Solution."""
    names = set()
    with suppress(*HARD):
        for statement in ast.parse(program).body:
            if isinstance(statement, ast.FunctionDef):
                names.add(statement.name)
            elif isinstance(statement, ast.ClassDef) and statement.name == "Solution":
                names |= {part.name for part in statement.body if isinstance(part, ast.FunctionDef)}
    return names


FINDERS: tuple[Finder, ...] = (
    _find_mbpp,
    _find_humaneval,
    _find_apps,
    _find_live_code_bench,
    _find_sandbox_fusion,
    _find_verl_code,
    _find_coding_messages,
)
