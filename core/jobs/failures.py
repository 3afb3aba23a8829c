# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns whatever escaped from a pipeline into a typed error that an artist can read. Standard library only."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

from ..errors import Cancelled, FailedError, MaquetteError, MissingError

# Torch and the C++ runtime report lack of memory as plain RuntimeErrors on the CPU and on MPS.
_MEMORY_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "bad alloc")
_DISK_WORDS = ("no space left on device", "disk quota exceeded")


def out_of_memory(graphics: bool = False) -> FailedError:
    """Lack of memory; `graphics`: on the graphics card."""
    if graphics:
        return FailedError(
            "OUT_OF_MEMORY",
            "The graphics card ran out of memory.",
            "Close other programs that use it, choose a lower quality, or set the device to CPU.",
        )
    return FailedError(
        "OUT_OF_MEMORY",
        "The computer ran out of memory.",
        "Close other programs, choose a lower quality or resolution, or use fewer photos.",
    )


def disk_full(where: str = "") -> FailedError:
    """No room left; `where`: the file or folder that could not be written."""
    place = f" while writing {where}" if where else ""
    return FailedError(
        "DISK_FULL", f"The disk is full{place}.", "Free some space or choose another output folder."
    )


def worker_died(log_file: Path | None) -> FailedError:
    """The engine process ended without an answer."""
    where = f" Its last words are in {log_file}." if log_file else ""
    return FailedError(
        "WORKER_DIED",
        f"The engine stopped before the job was done.{where}",
        "Start the job again; if it happens again, choose a lower quality.",
    )


def typed(error: BaseException, log_file: Path | None) -> MaquetteError:
    """The typed error for anything that escaped from a job.

    Args:
        error: what was raised.
        log_file: where the traceback was written; named in the message of a CRASH.
    """
    if isinstance(error, MaquetteError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Cancelled()
    words = str(error).lower()
    if isinstance(error, MemoryError):
        return out_of_memory()
    if type(error).__name__ == "OutOfMemoryError":  # torch.OutOfMemoryError: CUDA
        return out_of_memory(graphics=True)
    if isinstance(error, RuntimeError) and any(part in words for part in _MEMORY_WORDS):
        return out_of_memory(graphics="mps" in words or "cuda" in words)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return disk_full(str(error.filename or ""))
    if any(part in words for part in _DISK_WORDS):
        return disk_full()
    if isinstance(error, ModuleNotFoundError) and not (error.name or "maquette").startswith("maquette"):
        return MissingError(
            "LIBRARY_MISSING",
            f"The engine in {sys.prefix} lacks the library {error.name}.",
            "Set up the engine again, or choose a Python that has it.",
        )
    where = f" The details are in {log_file}." if log_file else ""
    return FailedError(
        "CRASH",
        f"Maquette failed through a fault of its own ({type(error).__name__}).{where}",
        "Report it with that file; another quality or device may work meanwhile.",
    )


def memory_killings() -> int | None:
    """How many processes this machine has ended for lack of memory since it started; None where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
