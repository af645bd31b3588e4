"""Layouts of questions that have one short answer: mathematics, verl's parquet files, countdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pools.layouts.base import Finder, Layout, Values, fill, has_texts, is_answer, is_prompt, is_text, mostly, read_json

BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")


def read_boxed(solution: str) -> str | None:
    r"""Read what the last ``\boxed{...}`` holds; None where there is none, or it is not closed."""
    starts = [match.end() for match in BOXED.finditer(solution)]
    depth, start = 1, starts[-1] if starts else len(solution)
    for place in range(start, len(solution)):
        depth += {"{": 1, "}": -1}.get(solution[place], 0)
        if depth == 0:
            return solution[start:place].strip() or None
    return None


def _find_gsm8k(rows: Sequence[Values]) -> Layout | None:
    def fits(row: Values) -> bool:
        return has_texts(row, "question", "answer") and "####" in row["answer"]

    def convert(row: Values) -> Values | None:
        if not fits(row):
            return None
        answer = row["answer"].rpartition("####")[2].strip()
        return fill(row, prompt=row["question"], ground_truth=answer, demonstration=row["answer"]) if answer else None

    if not mostly(rows, fits):
        return None
    return Layout("GSM8K", "GSM8K layout: question, answer after ####", "rewards.math:hashes", convert)


def _find_problems(rows: Sequence[Values]) -> Layout | None:
    r"""MATH has its answers in the boxes of its solutions; OpenR1-Math, NuminaMath and DeepScaleR a column of them."""
    answered = mostly(rows, lambda row: has_texts(row, "problem") and is_answer(row.get("answer")))
    if not answered and not mostly(rows, lambda row: has_texts(row, "problem", "solution")):
        return None
    if not answered and not mostly(rows, lambda row: read_boxed(row["solution"]) is not None):
        return None

    def convert(row: Values) -> Values | None:
        solution, answer = str(row.get("solution") or ""), row.get("answer")
        if not is_answer(answer):
            answer = read_boxed(solution)
        if answer is None or not has_texts(row, "problem"):
            return None
        label = next(
            (row[name] for name in ("level", "problem_type", "subject", "type") if is_text(row.get(name))), None
        )
        shown = solution if read_boxed(solution) else None
        return fill(row, prompt=row["problem"], ground_truth=answer, demonstration=shown, label=row.get("label", label))

    if not answered or "unique_id" in rows[0] or "level" in rows[0]:
        where = "answer" if answered else r"answer in \boxed{} of solution"
        return Layout("MATH", f"MATH layout: problem, {where}", "rewards.math", convert)
    return Layout("OpenR1-Math", "OpenR1-Math layout: problem, answer, solution", "rewards.math", convert)


def _find_regenerated(rows: Sequence[Values]) -> Layout | None:
    """Questions of another set with the answer that another model gave (fw-ai-external/reward-kit)."""

    def fits(row: Values) -> bool:
        return has_texts(row, "user_prompt", "original_assistant_content")

    def convert(row: Values) -> Values | None:
        if not fits(row):
            return None
        original = row["original_assistant_content"]
        return fill(row, prompt=row["user_prompt"], ground_truth=original, demonstration=original)

    if not mostly(rows, fits):
        return None
    says = "reward-kit layout: user_prompt, original_assistant_content"
    return Layout("reward-kit", says, "rewards.math", convert)


def find_question_answer(rows: Sequence[Values]) -> Layout | None:
    """A question or prompt with an answer, neither by our names nor in a form of its own."""
    for column in ("question", "prompt", "query", "problem", "input"):
        if not mostly(rows, lambda row: is_prompt(row.get(column)) and row.get("answer") is not None):  # noqa: B023
            continue

        def convert(row: Values, column: str = column) -> Values | None:
            if not is_prompt(row.get(column)) or row.get("answer") is None:
                return None
            return fill(row, prompt=row[column], ground_truth=row["answer"])

        short = mostly(rows, lambda row: is_answer(row["answer"]))
        says = f"{column} + answer layout: {column}, answer" + (
            "" if short else "; answers are texts, none is verifiable"
        )
        return Layout(f"{column} + answer", says, "rewards.math" if short else None, convert)
    return None


# ---------------------------------------------------------------- verl


REQUEST = re.compile(r"\s*Solve the following math problem step by step\.[^\n]*of the form Answer:[^\n]*\n+")
REMINDER = re.compile(r"\s*Remember to put your answer on its own line after \"Answer:\"\.?\s*$")


def _truth(row: Values) -> Any:
    model = read_json(row.get("reward_model"))
    return model.get("ground_truth") if isinstance(model, Mapping) else None


def _find_verl(rows: Sequence[Values]) -> Layout | None:
    if not mostly(rows, lambda row: is_prompt(row.get("prompt")) and _truth(row) is not None):
        return None
    dapo = mostly(rows, lambda row: _without_request(row["prompt"]) != row["prompt"])

    def convert(row: Values) -> Values | None:
        truth = _truth(row)
        if not is_prompt(row.get("prompt")) or truth is None:
            return None
        prompt = _without_request(row["prompt"]) if dapo else row["prompt"]
        return fill(row, prompt=prompt, ground_truth=truth, label=row.get("label", row.get("data_source")))

    if dapo:
        says = "DAPO-math layout: prompt without its request to write Answer:, reward_model.ground_truth"
        return Layout("DAPO-math", says, "rewards.math", convert)
    return Layout("verl", "verl layout: prompt as messages, reward_model.ground_truth", _verl_reward(rows), convert)


def _without_request(prompt: Any) -> Any:
    """Take DAPO's request for a last line ``Answer: 34`` off: a denied answer has that line too, so no verifier of ours
    reads it, and the spec's template asks for the form that the reward reads."""
    if isinstance(prompt, list):
        turns = [turn if isinstance(turn, Mapping) else {} for turn in prompt]
        return [{**turn, "content": _without_request(turn.get("content"))} for turn in turns]
    if not isinstance(prompt, str):
        return prompt
    return REMINDER.sub("", REQUEST.sub("", prompt)).strip() if REQUEST.match(prompt) else prompt


def _verl_reward(rows: Sequence[Values]) -> str | None:
    """Tell which verifier reads the truths and the form that the prompts ask for."""
    if mostly(rows, lambda row: read_countdown(_truth(row)) is not None):
        return "rewards.countdown"
    if mostly(rows, lambda row: "####" in _words(row["prompt"])):
        return "rewards.math:hashes"
    return "rewards.math" if mostly(rows, lambda row: is_answer(_truth(row))) else None


def _words(prompt: Any) -> str:
    """All text of a prompt, in lower case on one line."""
    parts = (
        [prompt] if isinstance(prompt, str) else [turn.get("content") for turn in prompt if isinstance(turn, Mapping)]
    )
    return " ".join(" ".join(map(str, parts)).lower().split())


# ---------------------------------------------------------------- countdown


def read_countdown(value: Any) -> dict[str, Any] | None:
    """Read target and numbers, by any of their names, as the ground truth of rewards.countdown."""
    value = read_json(value)
    if not isinstance(value, Mapping):
        return None
    numbers = read_json(value.get("numbers", value.get("nums")))
    target = read_json(value.get("target"))
    if not isinstance(numbers, list) or not numbers or not all(type(n) is int for n in [target, *numbers]):
        return None
    return {"target": target, "numbers": numbers}


def _find_countdown(rows: Sequence[Values]) -> Layout | None:
    if not mostly(rows, lambda row: read_countdown(row) is not None):
        return None
    own = mostly(rows, lambda row: is_prompt(row.get("prompt")))

    def convert(row: Values) -> Values | None:
        truth = read_countdown(row)
        if truth is None:
            return None
        asked = (
            f"Make {truth['target']} from the numbers {', '.join(map(str, truth['numbers']))} with +, -, * and /. Use "
            "each number exactly once."
        )
        return fill(row, prompt=row.get("prompt", asked) if own else asked, ground_truth=truth)

    says = "countdown layout: target and nums" + (", prompt" if own else "; the prompt is made of them")
    return Layout("countdown", says, "rewards.countdown", convert)


FINDERS: tuple[Finder, ...] = (_find_gsm8k, _find_regenerated, _find_verl, _find_countdown, _find_problems)
