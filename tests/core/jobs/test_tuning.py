# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine process asks of the machine."""

import subprocess
import sys

import pytest
from maquette.core.jobs import tuning


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 2), (5, 5), (6, 5), (16, 15)])
def test_one_core_stays_free_from_six_up(monkeypatch, cores, threads):
    monkeypatch.setattr(tuning.os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert tuning.thread_count() == threads


def test_the_environment_keeps_what_the_artist_set():
    made = tuning.engine_environment({"OMP_NUM_THREADS": "3", "PYTHONHOME": "/blender", "HOME": "/h"})
    assert made["OMP_NUM_THREADS"] == "3" and made["HOME"] == "/h" and made["PYTHONUTF8"] == "1"
    assert "PYTHONHOME" not in made and made["OMP_WAIT_POLICY"] == "PASSIVE"
    if sys.platform == "linux":
        assert made["MALLOC_TRIM_THRESHOLD_"] == made["MALLOC_MMAP_THRESHOLD_"] == str(1 << 30)


# 64 MiB blocks, each written to and freed at once, ten times: without the thresholds every block is mapped anew and
# costs 16384 page faults of 4 KiB (fewer with huge pages); with them only the first does.
FAULTS = """
import resource, sys
import numpy as np
from maquette.core.jobs import tuning
if sys.argv[1] == "tuned": tuning.tune_this_process()
def work():
    for _ in range(10): np.ones(64 << 17)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the thresholds are those of glibc")
def test_freed_memory_is_kept():
    def faults(how):
        return int(
            subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True).stdout
        )

    plain, tuned = faults("plain"), faults("tuned")
    assert tuned < plain / 10 and tuned < 100
