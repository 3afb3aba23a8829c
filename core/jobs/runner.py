# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's side of the engine: `Worker` owns the worker's process, `Job` follows one request through it.

Nothing here blocks but `Job.wait`: a thread reads the worker's messages into a queue, and `Job.poll` empties it.
No bpy; standard library only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import shutil
import signal
import threading
import time
import uuid
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import Cancelled, MaquetteError, MissingError
from . import failures, messages, places, tuning
from .messages import DONE, FAILED, Message
from .process_tree import ProcessTree
from .request import Request, new_job_folder

log = logging.getLogger(__name__)

BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
"""Never imported here: it gives the package a second name, which Blender would list as a fault of the extension."""
CANCEL_GRACE_S = 1.2
"""How long a cancelled job may take to stop by itself before its process tree is ended; with the time to end the tree
a cancel stays below two seconds."""
_LOGS_KEPT = 20


class Worker:
    """The warm worker of one Blender; started when first needed, started anew after it has ended.

    Args:
        python: interpreter of the engine.
        idle_s: the worker ends itself after so many seconds without a job.
        script: another first file; for tests.
    """

    def __init__(self, python: Path, idle_s: float = 600.0, script: Path = BOOTSTRAP) -> None:
        self.python = Path(python)
        self.idle_s = idle_s
        """Counts from the next start on."""
        self.log_file: Path | None = None
        """Of the latest process: what it said outside of jobs."""
        self._script = script
        self._tree: ProcessTree | None = None
        self._inbox: queue.Queue[Message] = queue.Queue()
        self._reader: threading.Thread
        self._killings: int | None = None

    @property
    def running(self) -> bool:
        """Whether a worker was started and its end has not been noticed yet."""
        return self._tree is not None

    @property
    def pid(self) -> int | None:
        """Process id of the worker."""
        return self._tree.pid if self._tree else None

    def start(self) -> None:
        """Start the worker if none is running.

        Raises:
            MissingError: ENGINE_MISSING when the interpreter cannot be started.
        """
        if self._tree is not None:
            return
        self.log_file = _new_log_file()
        self._killings = failures.memory_killings()
        command = [
            str(self.python),
            "-I",
            "-X",
            "utf8",
            str(self._script),
            "core.jobs.worker",
            "--idle",
            str(self.idle_s),
        ]
        try:
            self._tree = ProcessTree(command, tuning.engine_environment(os.environ), self.log_file)
        except OSError as error:
            raise MissingError(
                "ENGINE_MISSING",
                f"The engine's Python {self.python} cannot be started.",
                "Press Set Up Engine, or choose a Python in the preferences.",
            ) from error
        self._inbox = queue.Queue()  # the messages of an earlier process stay out of it
        self._reader = threading.Thread(
            target=_read_messages,
            args=(self._tree.messages, self._inbox),
            name="maquette messages",
            daemon=True,
        )
        self._reader.start()

    def order(self, order: Message) -> None:
        """Send an order. A worker that is gone does not hear it; `receive` tells of its end."""
        if self._tree is not None:
            with contextlib.suppress(OSError, ValueError):
                self._tree.orders.write(messages.encode(order))
                self._tree.orders.flush()

    def receive(self) -> tuple[list[Message], int | None]:
        """(messages since the last call, None); when the worker has ended: (last messages, its exit status)."""
        if self._tree is None:
            return [], None
        ended = (
            self._tree.ended()
        )  # asked first, so that its last messages are in the queue when it is emptied
        if not ended:
            return self._inbox_emptied(), None
        reader = self._reader
        status = self.kill()  # also whatever still holds the stream open
        reader.join(timeout=1.0)
        return self._inbox_emptied(), status

    def _inbox_emptied(self) -> list[Message]:
        arrived: list[Message] = []
        with contextlib.suppress(queue.Empty):
            while True:
                arrived.append(self._inbox.get_nowait())
        return arrived

    def release(self) -> None:
        """Ask for models, memory and GPU back, after the running job if there is one."""
        self.order({"order": "release"})

    def kill(self, grace_s: float = 0.0) -> int:
        """End the worker and all it started, `grace_s` seconds after closing its orders; returns its exit status."""
        tree, self._tree = self._tree, None
        if tree is None:
            return 0
        if grace_s > 0:
            with contextlib.suppress(OSError):
                tree.orders.close()
        status = tree.wait_and_kill(grace_s)
        log.info("the engine process ended with status %d", status)
        return status

    def cause_of_death(self, status: int) -> MaquetteError:
        """The typed error for a worker that ended by itself with this exit status."""
        killings = failures.memory_killings()
        by_system = status == -getattr(signal, "SIGKILL", 9)
        if by_system and killings is not None and self._killings is not None and killings > self._killings:
            return failures.out_of_memory()
        return failures.worker_died(self.log_file)


class Job:
    """One request on its way through the engine.

    Args:
        worker: the process that shall carry it out; it does one job at a time.
        request: what to do.
        grace_s: patience with a job that was cancelled.
    """

    def __init__(self, worker: Worker, request: Request, grace_s: float = CANCEL_GRACE_S) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.request = request
        self.folder: Path | None = None
        """The job folder, from `start` on: request.json and log.txt."""
        self.outcome: Message | None = None
        """The final message, `done` or `failed`; None until then."""
        self._worker = worker
        self._grace_s = grace_s
        self._taken_up = False
        self._orders_given = 0
        self._kill_at: float | None = None
        self._unfinished: Path | None = None

    def start(self) -> None:
        """Write the job folder and give the order.

        Raises:
            MissingError: ENGINE_MISSING. InputError: DATA_NOT_WRITABLE. FailedError: DISK_FULL.
        """
        try:
            self.folder = new_job_folder()
            self.request.write(self.folder)
        except OSError as error:
            raise failures.typed(error, None) from error
        self._give_order()

    def poll(self) -> list[Message]:
        """The messages since the last call, the last of them `done` or `failed` once the job is over. Never blocks."""
        if self.outcome is not None:
            return []
        arrived, status = self._worker.receive()
        mine = [message for message in arrived if message.get("job") == self.id]
        for message in mine:
            if message["type"] == "started":
                self._taken_up = True
            elif message["type"] == "folder":
                self._unfinished = Path(message["path"])
            elif message["type"] in (DONE, FAILED):
                self.outcome = message
        if self.outcome is None and status is not None:
            mine += self._after_death(status)
        elif self.outcome is None and self._kill_at is not None and time.monotonic() > self._kill_at:
            self._worker.kill()
            mine.append(self._fail(Cancelled()))
        return mine

    def cancel(self) -> None:
        """Ask the job to stop; `poll` ends the process tree if it does not. Harmless when it is over already."""
        if self._kill_at is None and self.outcome is None:
            self._kill_at = time.monotonic() + self._grace_s
            self._worker.order({"order": "cancel", "job": self.id})

    def wait(self, timeout: float | None = None) -> Message:
        """Block until the job is over and return its final message (headless use).

        Raises:
            TimeoutError: after `timeout` seconds.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        while self.outcome is None:
            if not self.poll():
                time.sleep(0.02)
            if ends is not None and time.monotonic() > ends:
                raise TimeoutError(f"the job was not over after {timeout} s")
        return self.outcome

    def _give_order(self) -> None:
        self._orders_given += 1
        self._worker.start()
        self._worker.order({"order": "run", "job": self.id, "folder": str(self.folder)})

    def _after_death(self, status: int) -> list[Message]:
        if self._kill_at is not None:
            return [self._fail(Cancelled())]
        if (
            status == 0 and not self._taken_up and self._orders_given < 3
        ):  # left for idleness as the order came
            try:
                self._give_order()
            except MaquetteError as error:
                return [self._fail(error)]
            return []
        return [self._fail(self._worker.cause_of_death(status))]

    def clean_up(self) -> None:
        """Remove the half-made result of a job whose worker is gone."""
        if self._unfinished is not None:
            shutil.rmtree(self._unfinished, ignore_errors=True)

    def _fail(self, error: MaquetteError) -> Message:
        self.clean_up()
        report: dict[str, Any] = {}
        self.outcome = {
            "type": FAILED,
            "job": self.id,
            **error.as_json(),
            "exit_code": error.exit_code,
            "report": report,
        }
        return self.outcome


def _read_messages(stream: BinaryIO, inbox: queue.Queue[Message]) -> None:
    """Reader thread: lines into the queue until the stream ends."""
    with contextlib.suppress(OSError, ValueError):  # the stream was closed under us: that is its end as well
        for line in stream:
            message = messages.decode(line)
            if message is None or "type" not in message:
                log.warning("not a message: %r", line[:200])
            else:
                inbox.put(message)


def _new_log_file() -> Path:
    folder = places.folder("logs")
    for old in sorted(folder.glob("worker-*.log"))[: -_LOGS_KEPT + 1]:
        with contextlib.suppress(OSError):  # Windows: still open in another Blender
            old.unlink()
    return folder / f"worker-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}.log"
