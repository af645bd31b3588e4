"""The forms in which models write calls of functions, as chat templates ask for them.

    json         <tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>      one for each call; text may be before
                 {"name": "f", "arguments": {"a": 1}}                             or a list of such objects, and nothing
                                                                                  else, except a fence around it
    llama        {"name": "f", "parameters": {"a": 1}}                            or a list, or ; between them; Llama 3
    openai       {"name": "f", "arguments": "{\\"a\\": 1}"}                         or a list, or {"tool_calls": [...]}
    mistral      [TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]               or [TOOL_CALLS]f[ARGS]{"a": 1}
    pythonic     [f(a=1), g()]                                                    Llama 4, LFM2, Gemma, in their marks
    qwen3-coder  <tool_call><function=f><parameter=a>1</parameter></function></tool_call>
    glm          <tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>

Nothing may follow the last call. A tag within a quoted string is text. The last two write texts without quotes: a value
is JSON unless it is none or the tool's schema wants a text there.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from rewards.format import hide_quoted
from rewards.json_values import LONGEST, Malformed, parse

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MARKS = re.compile(
    r"</?tool_call>|\[TOOL_CALLS\]|<\|python_(?:tag|start)\|>|<[|｜]tool[_▁]call|<function=|<arg_key>| to=functions\."
)
"""What makes a text an attempt at a call, in whichever form."""
FENCED = re.compile(r"(`{3,}|~{3,})(?:json|python|tool_code)?[ \t]*\n(.*)\n[ \t]*\1", re.DOTALL)
NAME = r"([A-Za-z_][\w.-]*+)"
MISTRAL = re.compile(NAME + r"(?:\[CALL_ID\]\w++)?(?:\[ARGS\])?\s*+(\{.*)", re.DOTALL)
MARKED = re.compile(r"<\|(tool_call|python)_start\|>(.*)<\|\1_end\|>", re.DOTALL)
PYTHONIC = re.compile(r"\[|" + NAME + r"\(")
FUNCTION = re.compile(r"\s*+<function=([^<>\s]++)>(.*)</function>\s*+", re.DOTALL)
PARAMETER = re.compile(r"\s*+<parameter=([^<>\s]++)>\n?(.*?)\n?</parameter>\s*+", re.DOTALL)
GLM = re.compile(r"\s*+([^<>\s]++)\s*+((?:<arg_key>.*)?)", re.DOTALL)
ARGUMENT = re.compile(r"\s*+<arg_key>([^<>]++)</arg_key>\s*+<arg_value>(.*?)</arg_value>\s*+", re.DOTALL)
BEGUN = re.compile(
    r"\s*+(?:\[\s*+)?\{|\s*+\[\s*+" + NAME + r"\("
    r"""|.*["']name["']\s*+:\s*+["'][\w.-]++["']\s*+(?:,\s*+["'](?:arguments|parameters)["']|\Z)""",
    re.DOTALL,
)
"""A text with a call of no tool that is known, perhaps cut short."""
PYTHON_WORDS = {"True": True, "False": False, "None": None}

Schemas = Mapping[str, Mapping[str, Any]]
"""JSON Schemas of arguments by the name of their tool."""


class Call(NamedTuple):
    name: str
    arguments: dict[str, Any]


class NoCalls(Exception):
    """The completion has not the form of calls. Its text is the reason code."""


def to_call(value: Any, key: str = "arguments") -> Call:
    """The call that a JSON value is, with exactly a name and arguments. Raises NoCalls."""
    if not isinstance(value, dict) or value.keys() != {"name", key}:
        raise NoCalls("malformed")
    name, arguments = value["name"], value[key]
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise NoCalls("malformed")
    return Call(name, arguments)


def to_openai_call(value: Any) -> Call:
    """The same of OpenAI's API: perhaps within ``function``, arguments as text. Raises NoCalls."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if isinstance(value, dict) and isinstance(value.get("arguments"), str):
        value = value | {"arguments": _parse(value["arguments"])}
    return to_call(value)


# ---------------------------------------------------------------- reading


def has_call(text: str, schemas: Schemas) -> bool:
    """Whether a text calls something, in whichever form, or tries to. A tool may be named in words, ``f()`` too."""
    if MARKS.search(hide_quoted(text)) or BEGUN.match(_unfence(text)):
        return True
    for read, _ in FORMS.values():
        with suppress(NoCalls):
            return bool(read(text, schemas))
    tool = rf"(?<!\w)(?:{'|'.join(map(re.escape, schemas))})(?!\w)"
    call = (
        rf"""{tool}\((?:\s*+\w++\s*+=|\s*+["'\d[{{*-])"""  # f(a=1), f("x")
        rf"""|^[^\w\n]*+(?:\w++\.)*{tool}\(.*\)[^\w()\n]*+$"""  # f() on a line of its own
        rf"""|["']\w++["']\s*+:\s*+["'](?:\w++\.)*{tool}["']|["']{tool}["']\s*+:\s*+[{{[]"""  # "name": "f", "f": {{...
        rf"""|{tool}(?:\[ARGS\]|:)?\s*+\{{\s*+["'}}]"""  # f{{"a": 1}}
        rf"""|<{tool}|name\s*+=\s*+["']{tool}|Action:\s*+{tool}"""
    )
    return bool(schemas) and re.search(call, text, re.MULTILINE) is not None


def _read_json(text: str, _schemas: Schemas) -> list[Call]:
    if len(_split(text, OPEN) + _split(text, CLOSE)) == 2:
        return [to_call(one) for one in _values(text)]
    return [to_call(_parse(body)) for body in _tagged(text)]


def _read_llama(text: str, _schemas: Schemas) -> list[Call]:
    parts = _split(text.removeprefix("<|python_tag|>"), ";")
    values = [one for part in parts for one in _values(part.strip())]
    for one in values:
        if isinstance(one, dict) and one.get("type") == "function":
            del one["type"]
    return [to_call(one, "parameters") for one in values]


def _read_openai(text: str, _schemas: Schemas) -> list[Call]:
    values = _values(text)
    if len(values) == 1 and isinstance(values[0], dict) and isinstance(values[0].get("tool_calls"), list):
        values = values[0]["tool_calls"]
    return [to_openai_call(one) for one in values]


def _read_mistral(text: str, _schemas: Schemas) -> list[Call]:
    """The mark is a special token, so it may not have been decoded."""
    before, *parts = _split(text, "[TOOL_CALLS]")
    calls = []
    for part in parts or [before]:
        if match := MISTRAL.fullmatch(part.strip()):
            calls.append(to_call({"name": match[1], "arguments": _parse(match[2])}))
        else:
            calls += [to_call(_without_id(one)) for one in _values(part.strip())]
    return calls


def _without_id(value: Any) -> Any:
    """Mistral's templates show calls with an id."""
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        return value
    return {key: inner for key, inner in value.items() if key != "id"}


def _read_pythonic(text: str, _schemas: Schemas) -> list[Call]:
    marked = MARKED.fullmatch(text)
    text = marked[2].strip() if marked else _unfence(text)
    if not PYTHONIC.match(text):
        raise NoCalls("no_call")
    try:
        if len(text) > LONGEST:
            raise ValueError
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            tree = ast.parse(text, mode="eval").body
        calls = [_to_python_call(node) for node in (tree.elts if isinstance(tree, ast.List) else [tree])]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise NoCalls("malformed") from None
    if not calls:
        raise NoCalls("no_call")
    return calls


def _to_python_call(node: ast.expr) -> Call:
    """Raises ValueError or TypeError where an argument has no name or is no JSON."""
    if not isinstance(node, ast.Call) or node.args or not isinstance(node.func, ast.Name | ast.Attribute):
        raise ValueError
    arguments = {word.arg: ast.literal_eval(word.value) for word in node.keywords}
    if None in arguments or len(arguments) != len(node.keywords):
        raise ValueError
    return Call(ast.unparse(node.func), parse(json.dumps(arguments, allow_nan=False)))


def _read_qwen3_coder(text: str, schemas: Schemas) -> list[Call]:
    calls = []
    for body in _tagged(text):
        match = _fully(FUNCTION, body)
        calls.append(Call(match[1], _pairs(PARAMETER, match[2], schemas.get(match[1], {}))))
    return calls


def _read_glm(text: str, schemas: Schemas) -> list[Call]:
    calls = []
    for body in _tagged(text):
        match = _fully(GLM, body)
        calls.append(Call(match[1], _pairs(ARGUMENT, match[2], schemas.get(match[1], {}))))
    return calls


def _fully(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    if match := pattern.fullmatch(text):
        return match
    raise NoCalls("malformed")


def _pairs(pattern: re.Pattern[str], text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Names and values, each name once, nothing between them."""
    found: dict[str, Any] = {}
    end = 0
    while end < len(text):
        match = pattern.match(text, end)
        if match is None and not text[end:].strip():
            break
        if match is None or match[1] in found:
            raise NoCalls("malformed")
        found[match[1]] = _to_value(match[2], wants_text(schema, match[1]))
        end = match.end()
    return found


def wants_text(schema: Mapping[str, Any], name: str) -> bool:
    """Whether a schema says that an argument is a text."""
    wanted = schema.get("properties", {}).get(name)
    kinds = wanted.get("type") if isinstance(wanted, dict) else None
    return "string" in (kinds if isinstance(kinds, list) else [kinds])


def _to_value(text: str, is_text: bool) -> Any:
    if is_text:
        return text
    try:
        return parse(text)
    except Malformed:
        return PYTHON_WORDS.get(text.strip(), text)


def _tagged(text: str) -> list[str]:
    """What stands between the tags: each opened, closed, nothing but white space between and after them."""
    before, *rest = _split(text, OPEN)
    if len(_split(before, CLOSE)) > 1:
        raise NoCalls("malformed")
    if not rest:
        raise NoCalls("no_call")
    bodies = []
    for part in rest:
        body, *after = _split(part, CLOSE)
        if len(after) != 1:
            raise NoCalls("malformed")
        if after[0].strip():
            raise NoCalls("text_after")
        bodies.append(body)
    return bodies


def _split(text: str, tag: str) -> list[str]:
    """``str.split`` that leaves quoted strings whole."""
    parts, start = [], 0
    for found in re.finditer(re.escape(tag), hide_quoted(text)):
        parts.append(text[start : found.start()])
        start = found.end()
    return [*parts, text[start:]]


def _unfence(text: str) -> str:
    match = FENCED.fullmatch(text)
    return match[2].strip() if match else text


def _values(text: str) -> list[Any]:
    """The values of a text that is a JSON object or a list of at least one."""
    text = _unfence(text)
    if not text.startswith(("{", "[")):
        raise NoCalls("no_call")
    value = _parse(text)
    if value == []:
        raise NoCalls("no_call")
    return value if isinstance(value, list) else [value]


def _parse(text: str) -> Any:
    try:
        return parse(text)
    except Malformed:
        raise NoCalls("malformed") from None


# ---------------------------------------------------------------- writing


def _write_json(calls: Sequence[Call]) -> str:
    return "\n".join(f"{OPEN}{json.dumps(call._asdict())}{CLOSE}" for call in calls)


def _write_llama(calls: Sequence[Call]) -> str:
    return json.dumps([{"name": call.name, "parameters": call.arguments} for call in calls])


def _write_openai(calls: Sequence[Call]) -> str:
    return json.dumps([{"name": call.name, "arguments": json.dumps(call.arguments)} for call in calls])


def _write_mistral(calls: Sequence[Call]) -> str:
    return f"[TOOL_CALLS]{json.dumps([call._asdict() for call in calls])}"


def _write_pythonic(calls: Sequence[Call]) -> str:
    written = (", ".join(f"{name}={value!r}" for name, value in call.arguments.items()) for call in calls)
    return f"[{', '.join(f'{call.name}({text})' for call, text in zip(calls, written, strict=True))}]"


def _write_qwen3_coder(calls: Sequence[Call]) -> str:
    return "\n".join(
        f"{OPEN}\n<function={call.name}>\n"
        + "".join(f"<parameter={name}>\n{_as_text(v)}\n</parameter>\n" for name, v in call.arguments.items())
        + f"</function>\n{CLOSE}"
        for call in calls
    )


def _write_glm(calls: Sequence[Call]) -> str:
    return "\n".join(
        f"{OPEN}{call.name}\n"
        + "".join(
            f"<arg_key>{name}</arg_key>\n<arg_value>{_as_text(v)}</arg_value>\n" for name, v in call.arguments.items()
        )
        + CLOSE
        for call in calls
    )


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


FORMS: Mapping[str, tuple[Callable[[str, Schemas], list[Call]], Callable[[Sequence[Call]], str]]] = {
    "json": (_read_json, _write_json),
    "llama": (_read_llama, _write_llama),
    "openai": (_read_openai, _write_openai),
    "mistral": (_read_mistral, _write_mistral),
    "pythonic": (_read_pythonic, _write_pythonic),
    "qwen3-coder": (_read_qwen3_coder, _write_qwen3_coder),
    "glm": (_read_glm, _write_glm),
}
"""By name: what reads the calls of a text (at least one, or NoCalls), and what writes them."""
