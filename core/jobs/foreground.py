# SPDX-License-Identifier: GPL-3.0-or-later
"""One request carried out while the caller waits: in this process, or by a worker. Fills in a report."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable

from ..errors import MaquetteError
from ..progress import Progress
from . import tuning
from .messages import DONE, Message
from .report import Report
from .request import Request
from .runner import Job, Worker


def run_here(request: Request, send: Callable[[Message], None], report: Report) -> None:
    """Run the request in this process, which must be an engine.

    Raises:
        MaquetteError, KeyboardInterrupt, or any fault of ours; the report then has what is known.
    """
    tuning.tune_this_process()
    from ..pipelines import PIPELINES
    from . import execution
    from .memory import MemoryWatch

    progress = Progress(send)
    with MemoryWatch() as memory:
        try:
            result = execution.execute(request, progress, PIPELINES)
            report.take(execution.summary(result, memory.peak_bytes))
        except BaseException:
            report.timings_s = {name: round(value, 3) for name, value in progress.timings_s.items()}
            report.warnings = progress.warnings
            report.peak_memory_bytes = memory.peak_bytes
            _end_children()
            raise


def run_in_worker(worker: Worker, request: Request, send: Callable[[Message], None], report: Report) -> None:
    """Run the request in the worker's process; Ctrl-C cancels it there.

    Raises:
        MaquetteError: as it was told by the worker.
    """
    job = Job(worker, request)
    job.start()
    try:
        outcome = _follow(job, send)
    except KeyboardInterrupt:
        job.cancel()
        outcome = job.wait()
    report.take(outcome["report"])
    if outcome["type"] != DONE:
        error = MaquetteError(outcome["code"], outcome["message"], outcome["remedy"])
        error.exit_code = outcome["exit_code"]
        raise error


def is_engine() -> bool:
    """Whether pipelines may run in this process: a Python with torch and without Blender in it."""
    return "bpy" not in sys.modules and importlib.util.find_spec("torch") is not None


def _follow(job: Job, send: Callable[[Message], None]) -> Message:
    while job.outcome is None:
        arrived = job.poll()
        for message in arrived:
            send(message)
        if not arrived:
            time.sleep(0.03)
    return job.outcome


def _end_children() -> None:
    """End what a pipeline that was interrupted has left running."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
