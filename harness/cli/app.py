"""The ``grpo`` command: its commands by name, and what becomes of errors.

The modules beside this one have the commands by theme: each parses, calls its function in harness.commands and prints
the result. What needs torch is imported where it is used, so help comes at once.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Annotated

import typer
from typer.exceptions import TyperException

from harness import __version__
from harness.cli.checks import alert_test, check, doctor, preflight
from harness.cli.copies import adopt
from harness.cli.drive import INTERRUPTED
from harness.cli.init import init
from harness.cli.live import act, watch
from harness.cli.model import evaluate, export, probe, sample
from harness.cli.options import complain
from harness.cli.pool import app as pool
from harness.cli.review import compare, diagnose, review, runs
from harness.cli.run import branch, replay, resume, run
from harness.core.environment import prepare_environment
from harness.core.processes import find_user_modules, keep_bytecode_home
from harness.errors import HarnessError, InputError
from harness.views.console import say

COMMANDS: Mapping[str, Callable[..., None]] = {
    "init": init,
    "run": run,
    "resume": resume,
    "adopt": adopt,
    "replay": replay,
    "branch": branch,
    "act": act,
    "watch": watch,
    "runs": runs,
    "review": review,
    "compare": compare,
    "diagnose": diagnose,
    "eval": evaluate,
    "sample": sample,
    "export": export,
    "check": check,
    "preflight": preflight,
    "probe": probe,
    "doctor": doctor,
    "alert-test": alert_test,
}
"""In the order of ``grpo --help``."""
HIDDEN = ("alert-test",)
"""Former names that go on working."""
GROUPS: Mapping[str, typer.Typer] = {"pool": pool}

app = typer.Typer(
    name="grpo",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, command in COMMANDS.items():
    app.command(name, hidden=name in HIDDEN)(command)
for name, group in GROUPS.items():
    app.add_typer(group, name=name)


def main() -> None:
    """Entry point: errors of ours are one line on stderr, with their exit code."""
    find_user_modules()
    keep_bytecode_home()
    prepare_environment()
    _tell_of_damage()
    try:
        raise SystemExit(app(prog_name="grpo", standalone_mode=False))
    except TyperException as error:  # a wrong flag or command
        command = next((f"{word} " for word in sys.argv[1:2] if word in (*COMMANDS, *GROUPS)), "")
        complain(f"{error.format_message()} (see grpo {command}--help)", 2)
    except InputError as error:
        complain(str(error), 2)
    except HarnessError as error:
        complain(str(error), 1)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # e.g. grpo review | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except OSError as error:  # which every place that takes a path would have to catch
        if error.errno != errno.ENAMETOOLONG:
            raise
        complain(f"{str(error.filename)[:40]}... is too long for the name of a file", 2)


def _tell_of_damage() -> None:
    """Print what the store says of damaged rows, which comes in the middle of whatever is read."""
    handler = logging.StreamHandler()
    handler.emit = lambda record: say(f"grpo: {record.getMessage()}", to_stderr=True)  # type: ignore[method-assign]
    told = logging.getLogger("grpo.store")
    told.handlers, told.propagate = [handler], False


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"grpo {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Tune a language model by single GRPO steps, with a decision after each and a log that explains it.

    Start with: grpo run

    Examples:

      grpo run

      grpo watch latest

      grpo review latest --html report.html
    """
    del version
    if context.invoked_subcommand is None:
        say(context.get_help())
