# SPDX-License-Identifier: GPL-3.0-or-later
"""One process at a time at a model's files: a lock of the operating system, which ends with its process. Standard library only."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from ..jobs import places
from ..progress import Progress

log = logging.getLogger(__name__)

WAITING = "waiting for another download"
_EVERY_S = 0.2


@contextmanager
def model_lock(name: str, progress: Progress) -> Iterator[None]:
    """Hold the lock of a model's name; while another process or thread does, wait.

    Raises:
        Cancelled: while waiting. InputError: DATA_NOT_WRITABLE.
    """
    with (places.folder("locks") / f"model-{name}.lock").open("a+b") as file:
        if not _taken(file):
            with progress.stage(WAITING):
                while not _taken(file):
                    progress.update(0.0)
                    time.sleep(_EVERY_S)
        yield  # closing the file lets the lock go


def _taken(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        log.warning("this disk has no locks (%s): two downloads of one model may disturb each other", error)
    return True
