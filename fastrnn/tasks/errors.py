"""The two ways a command ends early that are no defect of the program."""

from __future__ import annotations

__all__ = ["Interrupted", "UserError"]


class UserError(Exception):
    """Something the user can put right. The command line prints it as one line and exits with 2."""


class Interrupted(Exception):
    """Training was stopped by the user, with everything saved. The command line exits with 130."""
