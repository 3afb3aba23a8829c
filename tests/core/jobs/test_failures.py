# SPDX-License-Identifier: GPL-3.0-or-later
"""Real errors of numpy, torch, the disk and the import system, and what an artist is told."""

from pathlib import Path

import numpy as np
import pytest
from maquette.core.errors import InputError
from maquette.core.jobs.failures import memory_killings, typed


def raised(act):
    with pytest.raises(BaseException) as caught:
        act()
    return caught.value


def write_to_full_disk():
    with open("/dev/full", "wb") as full:
        full.write(b"x" * 100_000)


def test_lack_of_memory():
    import torch

    for act in (lambda: np.empty(1 << 55), lambda: bytearray(1 << 60), lambda: torch.empty(1 << 55)):
        error = typed(raised(act), None)
        assert (error.code, error.exit_code) == ("OUT_OF_MEMORY", 5)
        assert error.message == "The computer ran out of memory." and "quality" in error.remedy
    graphics = typed(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), None)
    assert "graphics card" in graphics.message and "CPU" in graphics.remedy
    assert typed(RuntimeError("MPS backend out of memory"), None).message == graphics.message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk():
    assert typed(raised(write_to_full_disk), None).code == "DISK_FULL"
    error = typed(OSError(28, "No space left on device", "base_color.png"), None)
    assert error.message == "The disk is full while writing base_color.png."
    assert typed(RuntimeError("I/O error: No space left on device (os error 28)"), None).code == "DISK_FULL"


def test_a_missing_library_is_the_engines_fault_and_a_missing_module_ours():
    import importlib

    error = typed(raised(lambda: importlib.import_module("no_such_library")), None)
    assert (error.code, error.exit_code) == ("LIBRARY_MISSING", 4) and "no_such_library" in error.message
    assert (
        typed(raised(lambda: importlib.import_module("maquette.core.no_such_module")), None).code == "CRASH"
    )


def test_anything_else_is_a_crash_without_its_traceback():
    error = typed(raised(lambda: [][1]), Path("/logs/log.txt"))
    assert (error.code, error.exit_code) == ("CRASH", 5)
    log = Path("/logs/log.txt")
    assert (
        error.message == f"Maquette failed through a fault of its own (IndexError). The details are in {log}."
    )


def test_typed_errors_and_ctrl_c_pass():
    known = InputError("NO_IMAGE", "There is no picture.", "Choose one.")
    assert typed(known, None) is known
    assert typed(KeyboardInterrupt(), None).exit_code == 130


@pytest.mark.skipif(not Path("/proc/vmstat").exists(), reason="only Linux counts")
def test_the_system_tells_how_many_processes_it_killed_for_memory():
    count = memory_killings()
    assert count is None or count >= 0
    assert count == memory_killings()
