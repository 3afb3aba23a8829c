# SPDX-License-Identifier: GPL-3.0-or-later
"""The peak of a job, alone and with a child."""

import subprocess
import sys

import numpy as np
from maquette.core.jobs.memory import MemoryWatch

MIB = 1 << 20
CHILD = "import time; held = bytearray(b'x') * (150 << 20); time.sleep(1.5)"


def test_the_peak_is_that_of_the_job_and_not_of_an_earlier_one():
    with MemoryWatch() as empty:
        pass
    with MemoryWatch() as full:
        held = np.ones(100 * MIB // 8)
        assert held.nbytes == 100 * MIB
        del held
    with MemoryWatch() as after:
        pass
    assert 95 * MIB < full.peak_bytes - empty.peak_bytes < 110 * MIB
    if sys.platform == "linux":
        assert after.peak_bytes < full.peak_bytes - 50 * MIB


def test_a_child_counts_while_it_lives():
    with MemoryWatch() as watch:
        before = watch.peak_bytes
        subprocess.run([sys.executable, "-c", CHILD], check=True)
    assert 150 * MIB < watch.peak_bytes - before < 200 * MIB
