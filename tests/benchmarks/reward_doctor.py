"""Our verifiers against reward-doctor's adversarial corpus: how often is wrong accepted, and right refused.

    pip install reward-doctor==0.2.0     (not a dependency)
    python -m tests.benchmarks.reward_doctor

Its cases are completions of mathematics in any form at all, with one reference each. *As it is* hands them over
unchanged, so a strict verifier refuses most right ones for their form. *In form* first puts the answer where the
verifier looks for it: the whole of a case that is a bare answer, in a right one the answer that it ends with; exploits
stay as they are. Verifiers of other tasks get a ground truth made of the reference. Prints JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from reward_doctor.corpus import load

from harness.types import Score
from rewards import code, composite, function_call, math, solution, structured
from rewards import format as form

Judge = Callable[[str, str], Score]
SOLUTION = "<start_working_out>So it is.<end_working_out><SOLUTION>{}</SOLUTION>"


def calls(reference: str) -> str:
    return json.dumps({"calls": [{"name": "answer", "arguments": {"value": reference}}]})


def record(reference: str) -> str:
    return json.dumps({"equals": {"value": reference}})


def cases(reference: str) -> str:
    rows = [{"args": [0], "expected": reference}, {"args": [1], "expected": f"{reference}!"}]
    return json.dumps({"entry_point": "f", "cases": rows})


def parts(reference: str) -> str:
    return json.dumps({"parts": {"sum": {"reward": "rewards.math", "ground_truth": reference}}})


def call(answer: str) -> str:
    return json.dumps({"name": "answer", "arguments": {"value": answer}})


def program(answer: str) -> str:
    return f"```python\ndef f(x):\n    return {answer!r} + '!' * x\n```"


def within(form: str) -> Callable[[str], str]:
    return lambda answer: form.replace("{}", answer, 1)


VERIFIERS: dict[str, tuple[Judge, Callable[[str], str], Callable[[str], str]]] = {
    "rewards.math": (math.score, within(r"\boxed{{}}"), str),
    "rewards.math:expression": (math.expression, within(r"\boxed{{}}"), str),
    "rewards.math:hashes": (math.hashes, within("#### {}"), str),
    "rewards.math:solution": (math.solution, within("<SOLUTION>{}</SOLUTION>"), str),
    "rewards.math:last_number": (math.last_number, str, str),
    "rewards.solution": (solution.score, within(SOLUTION), str),
    "rewards.function_call": (function_call.score, call, calls),
    "rewards.structured": (structured.score, lambda answer: json.dumps({"value": answer}), record),
    "rewards.code": (code.score, program, cases),
    "rewards.composite": (composite.score, within(r"\boxed{{}}"), parts),
    "rewards.format": (form.score, str, str),
}


def put_in_form(case: Any, place: Callable[[str], str], right_as_it_is: bool) -> str:
    """The case's text with its answer where the verifier looks for it."""
    if case.category in ("equivalence", "distinction"):
        return place(case.completion)
    before, answer, after = case.completion.rpartition(case.reference)
    if not case.expect or right_as_it_is or not answer:
        return str(case.completion)
    return before + place(answer) + after


def measure(judge: Judge, asked: Iterable[tuple[Any, str]], truth: Callable[[str], str]) -> dict[str, Any]:
    scores = [(case, judge(text, truth(case.reference))) for case, text in asked]
    judged = [(case, score) for case, score in scores if not score.errored]
    wrong = [(case, score) for case, score in judged if not case.expect]
    right = [(case, score) for case, score in judged if case.expect]
    accepted = [case.id for case, score in wrong if score.correct]
    return {
        "wrong": len(wrong),
        "accepted": accepted,
        "false_positives": round(len(accepted) / len(wrong), 4) if wrong else None,
        "right": len(right),
        "refused": sum(not score.correct for _, score in right),
        "refused_ids": [case.id for case, score in right if not score.correct][:40],
        "errored": len(scores) - len(judged),
    }


def main() -> None:
    corpus = load()
    found = {}
    for name, (judge, place, truth) in VERIFIERS.items():
        in_form = [(c, put_in_form(c, place, judge(c.completion, truth(c.reference)).correct)) for c in corpus]
        found[name] = {
            "as it is": measure(judge, [(c, c.completion) for c in corpus], truth),
            "in form": measure(judge, in_form, truth),
        }
    print(json.dumps({"cases": len(corpus), "verifiers": found}, indent=1))


if __name__ == "__main__":
    main()
