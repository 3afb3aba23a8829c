# SPDX-License-Identifier: GPL-3.0-or-later
"""A data folder that takes no more: what to tell the artist."""

from __future__ import annotations

import errno

from ..errors import FailedError

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def disk_full(what: str) -> FailedError:
    """DISK_FULL with the remedy for the data folder; `what` happened, a sentence."""
    return FailedError(
        "DISK_FULL", what, "Free some space, or set MAQUETTE_DATA to a folder on another disk."
    )


def not_written(error: OSError, doing: str, other: FailedError) -> FailedError:
    """DISK_FULL where that is why `doing` ("adding NAME") failed, else `other`."""
    return disk_full(f"The disk is full while {doing}.") if error.errno in FULL else other
