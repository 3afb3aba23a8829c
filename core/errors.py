# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors an artist can meet: a code, what happened, what to do next.

Every failure that an artist can reach is one of these. Anything else that escapes is a bug and is
reported as `CRASH` by the worker, without a traceback in the panel (the traceback is in the log).
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_INPUT = 2
EXIT_PARTLY = 3
EXIT_MISSING = 4
EXIT_FAILED = 5
EXIT_CANCELLED = 130


class MaquetteError(Exception):
    """Base of all typed errors.

    Attributes:
        code: short stable identifier in capitals, for tests and render farms, e.g. `NO_IMAGE`.
        message: what happened, one sentence for an artist, naming the file where there is one.
        remedy: what to do next, one sentence in the imperative.
        exit_code: exit status of the command line (DESIGN section 6).
    """

    exit_code = EXIT_FAILED

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(f"{message} {remedy}")
        self.code = code
        self.message = message
        self.remedy = remedy

    def as_json(self) -> dict[str, str]:
        """The error as it stands in messages and reports."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy}


class InputError(MaquetteError):
    """Bad arguments or input that cannot be used (exit code 2)."""

    exit_code = EXIT_INPUT


class PartlyDone(MaquetteError):
    """Something usable was written, something asked for is missing (exit code 3)."""

    exit_code = EXIT_PARTLY


class MissingError(MaquetteError):
    """The engine, a library, weights or a Blender is missing (exit code 4)."""

    exit_code = EXIT_MISSING


class FailedError(MaquetteError):
    """The work itself failed: memory, disk, numerical breakdown, crash (exit code 5)."""

    exit_code = EXIT_FAILED


class Cancelled(MaquetteError):
    """The artist cancelled (exit code 130)."""

    exit_code = EXIT_CANCELLED

    def __init__(self) -> None:
        super().__init__("CANCELLED", "The job was cancelled.", "Start it again when you like.")
