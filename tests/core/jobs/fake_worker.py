# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker whose verbs misbehave on purpose; started by the tests in place of `bootstrap.py`."""

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

BOOTSTRAP = Path(__file__).resolve().parents[3] / "core" / "jobs" / "bootstrap.py"
runpy.run_path(str(BOOTSTRAP))["load_package"]()

from maquette.core.errors import InputError  # noqa: E402
from maquette.core.jobs import worker  # noqa: E402
from maquette.core.results import Result  # noqa: E402


def echo(request, folder, progress):
    progress.set_plan({"first": 1, "second": 3})
    with progress.stage("first"):
        progress.update(0.5, "halfway")
    with progress.stage("second"):
        progress.preview(folder / "preview.png")
        progress.warning("A word.")
        progress.update(1.0)
    (folder / "mesh.txt").write_text("mesh")
    metrics = {
        "pid": os.getpid(),
        "threads": os.environ["OMP_NUM_THREADS"],
        "nice": os.nice(0),
        "not_a_number": float("nan"),
    }
    return Result(name="echo", method="fake", seed=7, settings=request.settings, metrics=metrics)


def noisy(request, folder, progress):
    """Prints on every way to standard output and lets a child read standard input."""
    print('{"type": "failed"}')
    os.write(1, b'{"type": "done", "job": "?"}\n')
    subprocess.run("echo from a shell; cat", shell=True, check=True)
    return echo(request, folder, progress)


def busy(request, folder, progress):
    """Computes for ever but asks whether to go on."""
    (folder / "half.bin").write_bytes(b"x" * 1000)
    with progress.stage("busy"):
        while True:
            progress.update(0.3)
            time.sleep(0.01)


def stuck(request, folder, progress):
    """Never asks, and has a grandchild; pids are told in a file."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(request.settings["pids"]).write_text(f"{os.getpid()} {child.pid}")
    with progress.stage("stuck"):
        while True:
            pass


def memory(request, folder, progress):
    bytearray(1 << 60)


def disk(request, folder, progress):
    with open("/dev/full", "wb") as full:
        full.write(b"x" * 100_000)


def fault(request, folder, progress):
    return {}["missing"]


def bad_input(request, folder, progress):
    raise InputError("NO_OVERLAP", "The photos do not overlap.", "Take more of them.")


def segfault(request, folder, progress):
    os.kill(os.getpid(), signal.SIGSEGV)


def forked(request, folder, progress):
    """Dies and leaves a child that holds every pipe of its parent open."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
    Path(request.settings["pids"]).write_text(f"{os.getpid()} {child}")
    os.kill(os.getpid(), signal.SIGKILL)


def killed(request, folder, progress):
    (folder / "half.bin").write_bytes(b"x")
    os.kill(os.getpid(), signal.SIGKILL)


VERBS = (echo, noisy, busy, stuck, memory, disk, fault, bad_input, segfault, forked, killed)

if __name__ == "__main__":
    # The command line's tests reach some of them through its own verbs.
    borrowed = {"mesh": echo, "poses": busy, "extract": killed}
    sys.exit(worker.main(sys.argv[2:], {verb.__name__: verb for verb in VERBS} | borrowed))
