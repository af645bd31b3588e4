"""Rows of a Python function of the user's own: ``package.module:function`` or ``file.py:function``.

prompts.py:make?size=100&hard=true      calls make(size=100, hard=True), which yields one dict for each row
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness.core.processes import import_user_code
from harness.errors import InputError
from pools.rows import Row, say


def read_function(name: str, options: Mapping[str, Any]) -> Iterator[Row]:
    """Yield what the function yields when ``options`` are its keyword arguments.

    Raises InputError, also for whatever the function raises.
    """
    function = _import(name)
    number = 0
    try:
        rows = iter(function(**options))
        for number, values in enumerate(rows, 1):
            where = f"pool.source: {name} row {number}"
            if not isinstance(values, Mapping):
                raise InputError(f"{where} must be a dict, not {type(values).__name__}")
            yield Row(where, dict(values))
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        after = f" after row {number}" if number else ""
        raise InputError(f"pool.source: {name} raised {type(error).__name__}{after}: {say(error)}") from None


def _import(name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.rpartition(":")
    try:
        module = import_user_code(module_name)
    except (Exception, SystemExit) as error:  # whatever the module does at import
        raise InputError(f"pool.source: cannot import {name}: {type(error).__name__}: {say(error)}") from None
    function = getattr(module, attribute, None)
    if not callable(function):
        raise InputError(f"pool.source: {module_name} has no function named {attribute}")
    return function  # type: ignore[no-any-return]
