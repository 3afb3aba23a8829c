# SPDX-License-Identifier: GPL-3.0-or-later
"""How an engine process treats the machine: memory kept by the C library, number of threads, priority.

Freed memory is kept because torch on a CPU allocates large temporaries for every operation and handing each one back to
the system costs page faults; keeping it made CPU paths 1.5 to 4.5 times faster where it was measured (docs/ARCHITECTURE.md).
Threads of OpenMP wait asleep, not spinning: beside another busy process, one camera alignment took 108 s spinning, 21 s asleep.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Mapping

log = logging.getLogger(__name__)

KEPT_BYTES = 1 << 30
"""Blocks below this stay with the process; mallopt takes a C int, so below 2 GiB."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc malloc.h


def thread_count() -> int:
    """All cores this process may use, one fewer from six up so that the desktop stays fluid."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores - 1 if cores >= 6 else cores


def engine_environment(base: Mapping[str, str]) -> dict[str, str]:
    """The environment for an engine process and its children; what the artist has set explicitly stays."""
    environment = {k: v for k, v in base.items() if k not in ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP")}
    wanted = {
        "PYTHONUTF8": "1",
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": str(thread_count()),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    if sys.platform == "linux":
        wanted |= {"MALLOC_MMAP_THRESHOLD_": str(KEPT_BYTES), "MALLOC_TRIM_THRESHOLD_": str(KEPT_BYTES)}
    return {**wanted, **environment}


def tune_this_process() -> None:
    """The same for a process that is already running (`python -m maquette`); call it before torch is imported."""
    for name, value in engine_environment(os.environ).items():
        os.environ.setdefault(name, value)
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


def lower_priority() -> None:
    """Let Blender and the desktop go first. On Windows the runner starts the process with a low priority class."""
    if hasattr(os, "nice"):
        os.nice(10)


def give_memory_back() -> None:
    """Hand freed memory back to the system between jobs."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "malloc_trim"):
        return libc
    log.info("this C library has no malloc thresholds; freed memory goes back to the system at once")
    return None
