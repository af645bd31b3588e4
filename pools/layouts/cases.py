"""Tests that a data set writes in Python, as cases of rewards.code: asserts, unittest's, doctests. Nothing is run.

What stands in straight lines is read: names that hold literals, calls of the one function under test, and what they are
compared with. A loop, a fixture or an object is left out; a row keeps the cases that could be read.
"""

from __future__ import annotations

import ast
import builtins
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

NEAR = 1e-6
"""Tolerance where floats are expected: another order of the same sums is right too."""
LONGEST = 1 << 20
"""Of a text or list that a test writes as a product or a range."""
HARD = (ValueError, TypeError, ArithmeticError, LookupError, SyntaxError, RecursionError, MemoryError)
"""What reading a program that is not ours may raise."""
STARTS = re.compile(r"[ \t]*(assert\b|class\s+\w+|def\s+\w+\s*\(|async\s+def\b|[A-Za-z_]\w*\s*=(?!=)|import\b|from\b)")

WITHIN = re.compile(r"\s(assert\s.+?)\s*(?:\"\"\"|\'\'\'|`)?\s*$")
"""An assert after other words: ``e.g. assert f(1) == 2``."""


@dataclass(frozen=True, slots=True)
class Case:
    """One call of ``function`` and what it must give. ``tolerance`` as the test itself allows."""

    function: str
    args: list[Any]
    kwargs: dict[str, Any]
    expected: Any
    tolerance: float = 0.0

    def to_json(self) -> dict[str, Any]:
        values = {"args": [to_json(arg) for arg in self.args], "expected": to_json(self.expected)}
        return values | (
            {"kwargs": {name: to_json(value) for name, value in self.kwargs.items()}} if self.kwargs else {}
        )


def make_truth(cases: Sequence[Case], *, setup: str = "", function: str = "") -> dict[str, Any] | None:
    """Make the ground truth of rewards.code of the cases of ``function`` (unset: of the one that has most).

    None when there are fewer than two different expected values: a constant would pass.
    """
    function = function or Counter(case.function for case in cases).most_common(1)[0][0] if cases else ""
    written, tolerance = [], None
    for case in (case for case in cases if case.function == function):
        with suppress(*HARD):
            written.append(case.to_json())
            kinds = {type(leaf) for leaf in _leaves(case.expected)}
            near = NEAR if float in kinds else 0.0 if int in kinds else None
            if near is not None:
                tolerance = max(tolerance or 0.0, near, case.tolerance)
    if len({repr(case["expected"]) for case in written}) < 2:
        return None
    truth = {"entry_point": function, "cases": written, "tolerance": tolerance, "setup": setup}
    return {name: value for name, value in truth.items() if value not in (None, "")}


def to_json(value: Any) -> Any:
    """Write a value in the tagged JSON of rewards.code. Raises TypeError or ValueError for what it cannot say."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, tuple):
        return {"$tuple": [to_json(item) for item in value]}
    if isinstance(value, set | frozenset):
        return {"$set": [to_json(item) for item in sorted(value, key=repr)]}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: to_json(item) for key, item in value.items()}
        return {"$dict": [[to_json(key), to_json(item)] for key, item in value.items()]}
    raise TypeError(type(value).__name__)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple | set | frozenset | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    else:
        yield value


# ---------------------------------------------------------------- from text


def find_cases(text: str, *, aliases: Sequence[str] = (), function: str = "") -> list[Case]:
    """Find the cases in a program of tests or a prompt: its doctests, and every assert in prose or code.

    ``aliases`` are names by which tests call ``function`` (``candidate``).
    """
    names = dict.fromkeys(aliases, function)
    found = [case for block in _find_code(text) for case in _read_block(block, {}, names)]
    return [*_find_doctests(text), *found]


def _find_code(text: str) -> Iterator[list[ast.stmt]]:
    """Find runs of lines that are Python."""
    lines = text.expandtabs().split("\n")
    at = 0
    while at < len(lines):
        block = _parse_from(lines, at) if STARTS.match(lines[at]) else None
        if block is None and (within := WITHIN.search(lines[at])):
            block = _parse_from([within[1]], 0)
        statements, length = block or ([], 1)
        yield statements
        at += length


def _parse_from(lines: list[str], at: int) -> tuple[list[ast.stmt], int] | None:
    """Parse as many lines from here on as are Python: those before the first that is none."""
    indent = len(lines[at]) - len(lines[at].lstrip())
    part = [line[indent:] if not line[:indent].strip() else line.lstrip() for line in lines[at : at + 2000]]
    for _ in range(50):
        try:
            return ast.parse("\n".join(part)).body, max(1, len(part))
        except SyntaxError as error:
            part = part[: max(0, min(len(part), error.lineno or 1) - 1)]
        except HARD:
            return None
        if not any(line.strip() for line in part):
            return None
    return None


EXAMPLE = re.compile(
    r"^(?P<indent>[ \t]*)>>>[ ](?P<source>.*(?:\n[ \t]*\.\.\.(?:[ ].*)?$)*)"
    r"(?P<want>(?:\n(?![ \t]*>>>)(?![ \t]*$)(?![ \t]*(?:\"\"\"|\'\'\'|```)).+)*)",
    re.MULTILINE,
)


def _find_doctests(text: str) -> Iterator[Case]:
    names: dict[str, Any] = {}
    for example in EXAMPLE.finditer(text.expandtabs()):
        source = re.sub(r"\n[ \t]*\.\.\.[ ]?", "\n", example["source"])
        want = example["want"].strip().removesuffix('"""').removesuffix("'''").strip()
        with suppress(*HARD):
            (statement,) = ast.parse(source.split("  #")[0].rstrip()).body
            if not isinstance(statement, ast.Expr):
                yield from _read_block([statement], names, {})
                continue
            shown = ast.literal_eval(want) if want else None
            if isinstance(statement.value, ast.Compare) and shown is True:
                yield from _read_test(statement.value, names, {})
            else:
                yield _call(statement.value, names, {}, shown)


# ---------------------------------------------------------------- from statements


def _read_block(statements: Sequence[ast.stmt], names: dict[str, Any], aliases: dict[str, str]) -> Iterator[Case]:
    """Read statements in order. ``names`` holds what is known of variables: a value, or the call that gives it."""
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _read_block(statement.body, dict(names), aliases)
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            for block in _find_code(statement.value.value) if isinstance(statement.value.value, str) else ():
                yield from _read_block(block, {}, aliases)
        elif isinstance(statement, ast.Assert):
            yield from _read_test(statement.test, names, aliases)
        elif (
            isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and _is_unittest(statement.value)
        ):
            yield from _read_unittest(statement.value, names, aliases)
        elif isinstance(statement, ast.Assign) and len(statement.targets) == 1 and _name(statement.targets[0]):
            name = _name(statement.targets[0])
            names.pop(name, None)
            with suppress(*HARD):
                names[name] = _evaluate(statement.value, names)
            if name not in names and isinstance(statement.value, ast.Call):
                names[name] = statement.value
        elif not isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass):
            for node in ast.walk(statement):  # it may change any of these
                names.pop(_name(node), None)


def _read_test(test: ast.expr, names: dict[str, Any], aliases: dict[str, str]) -> Iterator[Case]:
    with suppress(*HARD):
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
            for part in test.values:
                yield from _read_test(part, names, aliases)
        elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            yield _call(test.operand, names, aliases, False)
        elif isinstance(test, ast.Compare) and len(test.ops) == 1:
            yield from _read_comparison(test.left, test.ops[0], test.comparators[0], names, aliases)
        elif isinstance(test, ast.Call) and _attribute(test.func) in ("isclose", "allclose"):
            yield _near(test, names, aliases)
        else:
            yield _call(test, names, aliases, True)


def _read_comparison(
    left: ast.expr, op: ast.cmpop, right: ast.expr, names: dict[str, Any], aliases: dict[str, str]
) -> Iterator[Case]:
    if isinstance(op, ast.Lt | ast.LtE) and isinstance(left, ast.Call) and _name(left.func) == "abs":
        (difference,) = left.args
        if isinstance(difference, ast.BinOp) and isinstance(difference.op, ast.Sub):
            within = float(_evaluate(right, names))
            yield _either(difference.left, difference.right, names, aliases, within)
    elif isinstance(op, ast.Eq | ast.Is):
        for side, other in ((left, right), (right, left)):
            if isinstance(side, ast.Call) and _attribute(side.func) == "approx":
                yield _near(ast.Call(side.func, [other, *side.args], side.keywords), names, aliases)
                return
        yield _either(left, right, names, aliases)


def _near(call: ast.Call, names: dict[str, Any], aliases: dict[str, str]) -> Case:
    """Read ``isclose(f(x), 3.14, rel_tol=1e-3)``."""
    given = {word.arg: float(_evaluate(word.value, names)) for word in call.keywords if word.arg}
    case = _either(call.args[0], call.args[1], names, aliases)
    relative = next((given[name] for name in ("rel_tol", "rtol", "rel") if name in given), NEAR)
    absolute = next((given[name] for name in ("abs_tol", "atol", "abs") if name in given), 0.0)
    size = max((abs(leaf) for leaf in _leaves(case.expected) if isinstance(leaf, int | float)), default=0.0)
    return Case(case.function, case.args, case.kwargs, case.expected, max(absolute, relative * size))


def _either(
    left: ast.expr, right: ast.expr, names: dict[str, Any], aliases: dict[str, str], tolerance: float = 0.0
) -> Case:
    """Read a call and a value, in either order."""
    for call, value in ((left, right), (right, left)):
        with suppress(*HARD):
            return _call(call, names, aliases, _evaluate(value, names), tolerance)
    raise ValueError("no call is compared with a value")


def _call(
    node: ast.expr, names: dict[str, Any], aliases: dict[str, str], expected: Any, tolerance: float = 0.0
) -> Case:
    """Read a call of a function that is not Python's own."""
    if isinstance(node, ast.Name) and isinstance(names.get(node.id), ast.Call):
        node = names[node.id]
    if isinstance(node, ast.Call) and _name(node.func) in ("list", "tuple") and len(node.args) == 1:
        node, expected = node.args[0], list(expected)  # which a list or a tuple matches
    if not isinstance(node, ast.Call):
        raise ValueError("no call")
    name = _name(node.func)
    if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call):
        name = node.func.attr if _name(node.func.value.func) == "Solution" else ""
    if not name or hasattr(builtins, name):
        raise ValueError("no function under test")
    args = [_evaluate(arg, names) for arg in node.args]
    kwargs = {str(word.arg): _evaluate(word.value, names) for word in node.keywords}
    if "None" in kwargs:
        raise ValueError("arguments that are unpacked")
    return Case(aliases.get(name, name), args, kwargs, expected, tolerance)


def _is_unittest(call: ast.Call) -> bool:
    return _attribute(call.func) in ("assertEqual", "assertListEqual", "assertTrue", "assertFalse", "assertIsNone")


def _read_unittest(call: ast.Call, names: dict[str, Any], aliases: dict[str, str]) -> Iterator[Case]:
    kind = _attribute(call.func)
    with suppress(*HARD):
        if kind in ("assertEqual", "assertListEqual"):
            yield _either(call.args[0], call.args[1], names, aliases)
        elif kind == "assertTrue":
            yield from _read_test(call.args[0], names, aliases)
        else:
            yield _call(call.args[0], names, aliases, None if kind == "assertIsNone" else False)


# ---------------------------------------------------------------- values


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _attribute(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else _name(node)


def _evaluate(node: ast.expr, names: dict[str, Any]) -> Any:
    """Compute a value of literals, known names, their sums and products, and of ``set([...])`` and the like.

    Raises one of HARD for anything else.
    """
    if isinstance(node, ast.Name):
        if isinstance(names[node.id], ast.AST):
            raise ValueError("a call")
        return names[node.id]
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)](
            _evaluate(item, names) for item in node.elts
        )
    if isinstance(node, ast.Dict):
        pairs = [(key or _refuse(), value) for key, value in zip(node.keys, node.values, strict=True)]
        return {_evaluate(key, names): _evaluate(value, names) for key, value in pairs}
    if isinstance(node, ast.BinOp):
        return _compute(_evaluate(node.left, names), node.op, _evaluate(node.right, names))
    if isinstance(node, ast.Call) and not node.keywords:
        made: dict[str, Any] = {kind.__name__: kind for kind in (set, frozenset, tuple, list, dict)}
        args = [_evaluate(arg, names) for arg in node.args]
        if _name(node.func) == "range" and all(type(arg) is int for arg in args):
            numbers = range(*args)
            return list(numbers) if len(numbers) < LONGEST else _refuse()
        return made[_name(node.func)](*args)
    return ast.literal_eval(node)


def _compute(left: Any, op: ast.operator, right: Any) -> Any:
    numbers = all(isinstance(value, int | float) for value in (left, right))
    if isinstance(op, ast.Add) and (numbers or type(left) is type(right)):
        return left + right
    if isinstance(op, ast.Mult):
        if numbers:
            return left * right
        times = next(value for value in (left, right) if type(value) is int)
        return left * right if times * max(len(v) for v in (left, right) if v is not times) < LONGEST else _refuse()
    if numbers and isinstance(op, ast.Sub):
        return left - right
    if numbers and isinstance(op, ast.Div):
        return left / right
    if numbers and isinstance(op, ast.Pow) and abs(right) <= 1000 and abs(left) <= 10**6:
        return left**right
    raise ValueError("no value")


def _refuse() -> Any:
    raise ValueError("no value")
