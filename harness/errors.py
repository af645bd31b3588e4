"""Every error that the harness raises on purpose.

    HarnessError                    a message for a person, no traceback needed           exit code 1
    ├── InputError (ValueError)     wrong spec, flag, file or run name: nothing done      exit code 2
    ├── RunFailed (RuntimeError)    the run cannot go on: broken reward, lost store       exit code 1
    ├── StoreUnavailable (OSError)  a locked database, a full disk: it may work later     exit code 1
    ├── OverBudget (RuntimeError)   the next request may cost more than is left: stop      exit code 1
    ├── Diverged (ArithmeticError)  the model's numbers are no longer finite: restore     exit code 1
    └── Refused (ValueError)        an action that is not possible now; the run goes on

Leaves also inherit the standard exception a caller without this module would expect.
"""

from __future__ import annotations


class HarnessError(Exception):
    """Base of the tree. ``str(error)`` is one short message that names the fix."""


class InputError(HarnessError, ValueError):
    """Wrong input from a person. Raised before anything is created."""


class RunFailed(HarnessError, RuntimeError):
    """The run cannot continue, or not begin: what is on record stays."""


class StoreUnavailable(HarnessError, OSError):
    """The database or a checkpoint cannot be used at this moment, for a reason outside the run that may pass.

    ``what`` names it in a sentence ("the database"), ``cause`` is what the system said.
    """

    def __init__(self, message: str, *, what: str, cause: str) -> None:
        super().__init__(message)
        self.what = what
        self.cause = cause


class Refused(HarnessError, ValueError):
    """An action that cannot be taken now, with the reason. The run goes on without it."""


class OverBudget(HarnessError, RuntimeError):
    """The next request to a paid service may pass the cap of budget.usd, so it was not sent."""


class Diverged(HarnessError, ArithmeticError):
    """The model in memory gives numbers that are not finite. The weights of a checkpoint do not."""
