# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's process: takes orders on standard input, runs pipelines in its main thread, answers with messages.

Messages go out on a private copy of standard output; standard output itself, at the level of C too, is sent to standard
error, because native libraries print. Standard input is likewise kept from child processes. A reader thread listens for
orders, so a cancel arrives while a pipeline computes. When the stream ends (Blender is gone) the process ends with all
it has started.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .. import VERSION
from ..errors import MaquetteError
from ..pipelines import PIPELINES
from ..progress import Progress
from . import execution, failures, messages, tuning, warm
from .memory import MemoryWatch
from .messages import Message
from .request import LOG_FILE, Request

log = logging.getLogger(__name__)

END_GRACE_S = 2.0
"""How long a running job may clean up after Blender has gone. Our choice: longer than a pipeline's longest step between
two looks at `Progress.check`, shorter than an artist's patience."""
_PROGRESS_EVERY_S = 0.1  # a panel redraws no faster


class Service:
    """The life of one engine process.

    Args:
        orders: stream of order lines.
        answers: stream for message lines.
        pipelines: verb -> pipeline.
        idle_s: seconds without a job after which the process ends and so gives back memory and GPU.
    """

    def __init__(
        self, orders: BinaryIO, answers: BinaryIO, pipelines: execution.Pipelines, idle_s: float = 600.0
    ) -> None:
        self._orders = orders
        self._answers = answers
        self._pipelines = pipelines
        self._idle_s = idle_s
        self._sending = threading.Lock()
        self._waiting: queue.Queue[Message] = queue.Queue()
        self._cancelled: set[str] = set()
        self._ending = False
        self._unfinished: Path | None = None
        self._last_progress = 0.0

    def serve(self) -> None:
        """Carry out orders until told to quit, or idle for too long."""
        threading.Thread(target=self._listen, name="orders", daemon=True).start()
        self._send({"type": "ready", "pid": os.getpid(), "version": VERSION})
        while not self._ending:
            try:
                order = self._waiting.get(timeout=self._idle_s)
            except queue.Empty:
                log.info("no job for %.0f s: leaving", self._idle_s)
                return
            if order["order"] == "run":
                self._run(order["job"], Path(order["folder"]))
            elif order["order"] == "release":
                warm.release()

    def _listen(self) -> None:
        """Reader thread. A cancel overtakes what waits in line; everything else keeps its order."""
        for line in self._orders:
            order = messages.decode(line)
            if order is None or "order" not in order:
                log.warning("not an order: %r", line[:200])
            elif order["order"] == "cancel":
                self._cancelled.add(order["job"])
            elif order["order"] == "quit":
                break
            else:
                self._waiting.put(order)
        self._ending = True
        self._waiting.put({"order": "quit"})
        time.sleep(END_GRACE_S)
        log.warning("still busy %.1f s after the end of orders: ending everything", END_GRACE_S)
        if self._unfinished is not None:
            shutil.rmtree(self._unfinished, ignore_errors=True)
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)  # on Windows the job object ends the rest of the tree

    def _run(self, job: str, folder: Path) -> None:
        def send(message: Message) -> None:
            self._send({**message, "job": job})

        def announce(unfinished: Path) -> None:
            self._unfinished = unfinished
            send({"type": "folder", "path": unfinished})

        progress = Progress(send, lambda: self._ending or job in self._cancelled)
        send({"type": "started"})
        with _log_into(folder / LOG_FILE), MemoryWatch() as memory:
            try:
                request = Request.read(folder)
                result = execution.execute(request, progress, self._pipelines, announce)
                send(
                    {
                        "type": messages.DONE,
                        "result": request.out,
                        "report": execution.summary(result, memory.peak_bytes),
                    }
                )
            except Exception as error:  # the border of the process: every fault becomes a message
                if not isinstance(error, MaquetteError):
                    log.exception("the job failed")
                known = failures.typed(error, folder / LOG_FILE)
                report = {
                    "timings_s": progress.timings_s,
                    "warnings": progress.warnings,
                    "peak_memory_bytes": memory.peak_bytes,
                }
                failed = {**known.as_json(), "exit_code": known.exit_code, "report": report}
                send({"type": messages.FAILED, **failed})
        self._unfinished = None
        self._cancelled.discard(job)
        tuning.give_memory_back()

    def _send(self, message: Message) -> None:
        if message["type"] == "progress":
            now = time.monotonic()
            if now - self._last_progress < _PROGRESS_EVERY_S:
                return
            self._last_progress = now
        line = messages.encode(message)
        with self._sending:
            try:
                self._answers.write(line)
                self._answers.flush()
            except OSError:  # Blender is gone; the reader thread sees that as well and ends the process
                self._ending = True


@contextmanager
def _log_into(path: Path) -> Iterator[None]:
    """Send standard error and output, at the level of C, into the job's own log."""
    sys.stderr.flush()
    kept = os.dup(2)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(target, 2)
        os.dup2(target, 1)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(target)


def _private_streams() -> tuple[BinaryIO, BinaryIO]:
    """(orders, answers): copies of standard input and output that neither libraries nor children can touch."""
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return orders, answers


def main(arguments: Sequence[str], pipelines: execution.Pipelines | None = None) -> int:
    """Entry of the process (`bootstrap.py core.jobs.worker [--idle SECONDS]`); `pipelines` is for tests."""
    parser = argparse.ArgumentParser(prog="worker")
    parser.add_argument(
        "--idle", type=float, default=600.0, help="seconds without a job before the process ends"
    )
    options = parser.parse_args(arguments)
    orders, answers = _private_streams()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    faulthandler.enable()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C in a terminal is for whoever started us; it will tell
    tuning.tune_this_process()
    tuning.lower_priority()
    Service(orders, answers, PIPELINES if pipelines is None else pipelines, options.idle).serve()
    return 0
