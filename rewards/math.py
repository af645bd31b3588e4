r"""Answers in mathematics: exactly one, where it belongs, of the right value.

Where the answer is, by choice of the function:

    rewards.math              in ``\boxed{...}``                           (also ``rewards.math:boxed``)
    rewards.math:hashes       after ``####``, on the last line
    rewards.math:solution     in ``<SOLUTION>...</SOLUTION>``, with nothing after it
    rewards.math:last_number  the last number of the text, whatever stands around it; for models that know no form
    rewards.math:expression   in ``\boxed{...}``, but an expression of the right value will do where the truth is a
                              number: 6*7 for 42. A model may then copy the question, so it is not the default

What counts as the same value is said in rewards/answers.py, what takes an answer back in rewards/claims.py. Only what
follows the thinking is looked at. The truth may be a worked solution: its last box, its ``####`` or its answer tags
give the answer, whichever of the functions judges. One whose marks say different things is refused.

Numbers, words and lists of them are compared here; expressions by math-verify in a process of its own
(rewards/symbolic.py), which is started by the first that needs it.
"""

from __future__ import annotations

import re
from collections import deque
from functools import lru_cache
from typing import NamedTuple

from harness.types import Score
from rewards import answers, symbolic
from rewards.claims import is_denied, is_part, later_claims
from rewards.format import after_thinking, is_cut_in_thinking
from rewards.notation import tidy
from rewards.numbers import Number, compare_numbers, read_number
from rewards.outside import only_right
from rewards.words import read_words

BOX = re.compile(r"\\boxed\s*\{")
OPEN_BOX = r"\boxed{"
BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
HEDGE = re.compile(
    r"\b(?:not|never|neither|nor|either|or|and|maybe|perhaps|possibly|probably|about|roughly|approximately|between|to)\b"
    r"|n't\b",
    re.IGNORECASE,
)
"""In an answer: more than one, or none."""
DOUBT = re.compile(
    r"\b(?:not|never|wrong|incorrect|maybe|perhaps|possibly|probably|guess|unsure|unless|instead|anything but|one of)\b"
    r"|n\\?'t\b",
    re.IGNORECASE,
)
"""In an answer: that it is none."""
CLOSERS = " \n\t\r$.)*]\\"
"""What may end the formula and the sentence of an answer."""
BOXES = 4
"""Different boxes of one completion, or claims after them, that are compared; with more it has no one answer."""
DIGITS = r"(?:[0-9]{1,3}(?:(?:,|\{,\}|,\\!|\\,| )[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
LAST_NUMBER = re.compile(
    r"(?P<sign>(?<![0-9A-Za-z)])[+\-−] ?)?(?:\\?\$|[€£¥])?"
    r"(?:(?:[0-9]+ ?)?\\[dt]?frac ?\{-?[0-9]+\} ?\{[0-9]+\}|(?:[0-9]+ )?[0-9]+/[0-9]+"
    rf"|{DIGITS}(?:[eE][+-]?[0-9]{{1,3}}\b|\s?(?:\\times|\\cdot|[*×x])\s?10\s?\^\s?(?:[0-9]+|\{{[+-]?[0-9]+\}}))?)"
    r"(?:\s?\\?%)?"
)
MORE_BEFORE = re.compile(
    r"[0-9%]\s*(?:[,;/:.]|(?:,\s*)?(?:or|and|to)\b(?:\s+(?:maybe|perhaps|possibly))?|[-–])?\s*[$€£¥(]*$"
    r"|(?:(?:^|[\s$(])(?:[A-Za-z]\s*)?[<>]|\\(?:l[et]q?|g[et]q?)|\b(?:at (?:most|least)"
    r"|(?:more|less|fewer|greater|smaller) than|over|under|above"
    r"|below|log|ln))\s*[$€£¥(]*$"
    r"|(?:[\^_]\s*\{?|\+|[0-9A-Za-z)}]\s*\*|\}\s*\{|\\(?:times|cdot|div|pm|mp|log|ln|sin|cos|tan|pi)|\\(?:sqrt|binom|frac)\s*(?:\[.*\])?\{?)\s*$",
    re.IGNORECASE,
)
"""Before the last number: others, or what it is a part of."""
SYMBOL_BEFORE = re.compile(r"(?:(?<![A-Za-z])[A-Za-z]|[)}])\s*$")
MORE_AFTER = re.compile(
    r"\A(?:\s?[+^]\s?[A-Za-z0-9(\\]|\s?\*\s?[0-9(]|\s*or (?:more|less|fewer)\b"
    r"|\s*\}\s*\{|[:_]|\s(?:hundred|thousand|million|billion|trillion|dozen)\b)",
    re.IGNORECASE,
)
NO_NUMBER = "the ground truth is not a number"
LEADING_DIGITS = re.compile(r"[0-9]*")
ANSWER = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL)
TAGGED = re.compile(r"<(SOLUTION|answer)>([^<]*)</\1>")


def boxed(completion: str, ground_truth: str) -> Score:
    r"""Score the one ``\boxed{...}`` of a completion; the same content may stand in several.

    Reason codes of all functions here: right, wrong, wrong_unit, not_literal (6*7 for 42), not_extracted,
    cut_in_thinking, empty_answer, several_answers, denied, too_long,
    too_costly (comparing took more than 2 s of CPU or 512 MB).
    """
    return _judge_boxed(completion, ground_truth, literal=True)


def expression(completion: str, ground_truth: str) -> Score:
    """Like ``boxed``, but any expression of the right value is right."""
    return _judge_boxed(completion, ground_truth, literal=False)


def hashes(completion: str, ground_truth: str) -> Score:
    """Score what follows the one ``####``, which must be on the last line."""
    parts = after_thinking(completion).split("####", 2)
    if len(parts) == 1:
        return _nothing_after(completion)
    if len(parts) > 2 or "\n" in parts[1].strip():
        return _wrong("several_answers")
    if _is_denied_on_its_line(parts[0]):
        return _wrong("denied")
    return _judge(parts[1], ground_truth)


def solution(completion: str, ground_truth: str) -> Score:
    """Score what stands between ``<SOLUTION>`` and ``</SOLUTION>``, each once and nothing after them."""
    before, opened, rest = after_thinking(completion).partition("<SOLUTION>")
    content, closed, after = rest.partition("</SOLUTION>")
    if not opened or not closed or "</SOLUTION>" in before:
        return _nothing_after(completion)
    if after.strip() or "<SOLUTION>" in content:
        return _wrong("several_answers")
    if _is_denied_on_its_line(before):
        return _wrong("denied")
    return _judge(content, ground_truth)


def last_number(completion: str, ground_truth: str) -> Score:
    """Score the last number of a completion. The truth must be a number; its unit must follow the number directly."""
    gold = _read_gold(ground_truth)
    if isinstance(gold, Score):
        return gold
    truth = gold.number
    if truth is None:
        return _errored(NO_NUMBER)
    whole, completion = completion, after_thinking(completion)
    matches = deque(LAST_NUMBER.finditer(completion), maxlen=1)
    if not matches:
        return _nothing_after(whole)
    match = matches[0]
    before, after = completion[max(0, match.start() - 80) : match.start()], completion[match.end() :]
    if MORE_BEFORE.search(before) or MORE_AFTER.match(after) or (match["sign"] and SYMBOL_BEFORE.search(before)):
        return _wrong("several_answers")
    begin = match.start() - len(OPEN_BOX) * before.endswith(OPEN_BOX)
    if is_denied(completion, begin) or later_claims(after, in_words=False) != []:
        return _wrong("denied")
    if before[-1:].isalnum() or (after[:1].isalnum() and not truth.unit):
        return _wrong("not_extracted")  # a part of a name or of another number
    found = match[0]
    if truth.unit and (unit := re.match(r"\s*[A-Za-z/]+", after)):
        found += unit[0]
    return _judge(found, ground_truth)


score = boxed
compute_reward = only_right(score)


def write_reference(ground_truth: str) -> str:
    """A completion that is right for ``boxed``."""
    return rf"\boxed{{{final_answer(ground_truth)}}}"


def final_answer(ground_truth: str) -> str:
    """The answer that a ground truth gives; all of it where that cannot be told."""
    try:
        return _find_answer(ground_truth).strip()
    except answers.Unreadable:
        return ground_truth


def check_ground_truth(ground_truth: str) -> str | None:
    """Why a row cannot be trained on, None when it can."""
    gold = _read_gold(ground_truth)
    return gold.error if isinstance(gold, Score) else None


def _check_number(ground_truth: str) -> str | None:
    gold = _read_gold(ground_truth)
    return gold.error if isinstance(gold, Score) else None if gold.number is not None else NO_NUMBER


last_number.check_ground_truth = _check_number  # type: ignore[attr-defined]


# ---------------------------------------------------------------- extraction


def _judge_boxed(completion: str, ground_truth: str, *, literal: bool) -> Score:
    whole, completion = completion, after_thinking(completion)
    contents: list[str] = []
    end = 0
    while (begin := completion.find("\\boxed", end)) >= 0:
        match = BOX.match(completion, begin)
        if match is None:
            return _wrong("not_extracted")
        start, end = match.end(), _closing_brace(completion, match.end())
        if end < 0:
            return _wrong("not_extracted")
        content = completion[start:end].strip()
        if content.startswith(r"\phantom"):
            continue  # an empty space that the question has
        if content not in contents:
            contents.append(content)
        if is_denied(completion, begin):
            return _wrong("denied")
        if len(contents) > BOXES or is_part(completion, begin):
            return _wrong("several_answers")
    if not contents:
        tagged = ANSWER.findall(completion)
        if len(tagged) == completion.count("<answer>") == 1 and completion.rstrip().endswith("</answer>"):
            return _judge(tagged[0], ground_truth, literal=literal)
        return _nothing_after(whole)
    if "<answer>" in completion:
        contents += [one for one in ANSWER.findall(completion) if one.strip().isalnum()]
    for content in contents:
        found = _judge(content, ground_truth, literal=literal)
        if not found.correct:
            return found if len(contents) == 1 or found.errored else _wrong("several_answers")
    after = completion[end + 1 :]
    return _unless_taken_back(found, after, ground_truth) if after.strip(CLOSERS) else found


def _unless_taken_back(right: Score, after: str, ground_truth: str) -> Score:
    """The score of a right answer, unless what the text says ``after`` it denies it or claims another."""
    gold = _read_gold(ground_truth)
    claims = later_claims(after, in_words=isinstance(gold, Gold) and read_words(gold.text) is not None)
    if claims is None:
        return _wrong("denied")
    claims = [*dict.fromkeys(claims)]
    if len(claims) > BOXES:
        return _wrong("several_answers")
    for readings in claims:
        if not any(_judge(one, ground_truth, literal=False).correct for one in readings if one.strip()):
            return _wrong("several_answers")
    return right


def _closing_brace(text: str, start: int) -> int:
    r"""Where the brace that was opened before ``start`` is closed, -1 when it is not within twice the longest answer.

    ``\{`` and ``\}`` are no braces.
    """
    limit = start + 2 * answers.LONGEST
    end = text.find("}", start, limit)
    if end < 0 or (text.find("{", start, end) < 0 and text.find("\\", start, end) < 0):
        return end
    depth = 1
    for match in BRACES.finditer(text, start, limit):
        depth += (match[0] == "{") - (match[0] == "}")
        if depth == 0:
            return match.start()
    return -1


def _is_denied_on_its_line(before: str) -> bool:
    line = before.rpartition("\n")[2]
    return is_denied(line, len(line))


# ---------------------------------------------------------------- comparison


class Gold(NamedTuple):
    """A tidy ground truth, and what number it is."""

    text: str
    number: Number | None


def _judge(content: str, ground_truth: str, *, literal: bool = True) -> Score:
    gold = _read_gold(ground_truth)
    if isinstance(gold, Score):
        return gold
    if len(content) > answers.LONGEST:
        return _wrong("too_long")
    content = content.strip()
    try:
        found = None if gold.number is None else read_number(content)  # most need no tidying
        if gold.number is not None and found is not None:
            reason = compare_numbers(gold.number, found, literal=literal)
        else:
            reason = _compare(gold.text, tidy(content), literal=literal)
    except symbolic.Lost as error:
        return _errored(str(error))
    return Score(1.0, True, "right", {"answer": 1.0}) if reason == "right" else _wrong(reason)


def _compare(gold: str, answer: str, *, literal: bool) -> str:
    """``answers.compare``, with more to say of an answer that is none. Raises Lost."""
    if not answer:
        return "empty_answer"
    if DOUBT.search(answer) is not None and DOUBT.search(gold) is None:
        return "denied"
    hedged = HEDGE.search(answer) is not None and HEDGE.search(gold) is None and "cup" not in gold
    try:
        reason = answers.compare(gold, answer, literal=literal, symbolic=None)
    except answers.NeedsSymbolic:
        reason = "wrong" if hedged else symbolic.compare(gold, answer, literal=literal)
    except answers.Unreadable:
        return symbolic.UNREADABLE
    return "several_answers" if hedged and reason != "right" else reason


def _read_gold(ground_truth: str) -> Gold | Score:
    """The truth, or the errored Score of one that cannot be read."""
    try:
        return _checked(ground_truth)
    except (answers.Unreadable, symbolic.Lost) as error:
        return _errored(str(error))


@lru_cache(4096)
def _checked(ground_truth: str) -> Gold:
    """The truth, once it is known to equal itself. Raises Unreadable and Lost, which are not remembered."""
    ground_truth = _find_answer(ground_truth)
    if len(ground_truth) > answers.LONGEST:
        raise answers.Unreadable(
            rf"the ground truth has over {answers.LONGEST} characters and no \boxed{{...}}, #### or <answer> that says "
            f"which of them are the answer: {ground_truth[:40]!r}..."
        )
    gold = tidy(ground_truth)
    reason = _compare(gold, gold, literal=False)
    if reason == symbolic.COSTLY:
        raise answers.Unreadable(f"the ground truth {ground_truth!r} takes too much time or memory to compare")
    if reason != "right":
        raise answers.Unreadable(f"the ground truth {ground_truth!r} cannot be parsed")
    return Gold(gold, read_number(gold))


def _find_answer(truth: str) -> str:
    r"""What a ground truth gives as its answer: all of it, or what its last ``\boxed``, its ``####`` or its answer tags
    hold. Raises Unreadable when two of them say different things."""
    truth = after_thinking(truth)
    found = {}
    if (box := _last_box(truth)) is not None:
        found[rf"\boxed{{{box}}}"] = box
    for tag in TAGGED.finditer(truth):
        found[tag[0]] = _unboxed(tag[2])
    parts = truth.split("####")[1:]
    for part in parts:  # a heading of Markdown is no mark
        line = part.partition("\n")[0]
        if read_number(tidy(line)) is not None:
            found[f"####{line.rstrip()}"] = line
    if parts and (not found or "\n" not in parts[-1].strip()):
        found[f"####{parts[-1].rstrip()}"] = _unboxed(TAGGED.sub(r"\2", parts[-1]))
    if not found:
        return truth
    (mark, answer), *others = reversed(found.items())
    for other, theirs in others:
        if tidy(theirs) != tidy(answer) and _compare(tidy(answer), tidy(theirs), literal=False) != "right":
            marks = " and ".join(" ".join(one[: answers.LONGEST].split()) for one in (other, mark))
            raise answers.Unreadable(f"the ground truth gives two different answers, {marks}: leave one of them in it")
    return answer


def _last_box(text: str) -> str | None:
    r"""What the last ``\boxed`` holds.

    Digits that directly follow it belong to it: data sets that box numbers by rule have ``\boxed{108}0``.
    """
    begin = text.rfind("\\boxed")
    if begin >= 0 and (match := BOX.match(text, begin)) and (end := _closing_brace(text, match.end())) >= 0:
        return text[match.end() : end] + LEADING_DIGITS.match(text, end + 1)[0]  # type: ignore[index]
    return None


def _unboxed(text: str) -> str:
    box = _last_box(text)
    return text if box is None else box


def _nothing_after(completion: str) -> Score:
    """The score of a completion without an answer after its thinking."""
    return _wrong("cut_in_thinking" if is_cut_in_thinking(completion) else "not_extracted")


def _wrong(reason: str) -> Score:
    return Score(0.0, False, reason, {"answer": 0.0})


def _errored(message: str) -> Score:
    return Score(None, False, "errored", error=message)
