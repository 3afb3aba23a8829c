# SPDX-License-Identifier: GPL-3.0-or-later
"""Work for which no engine is needed and which Blender must not wait for: downloads, copies, checks. A thread each.

What a task does must not touch bpy; what follows from it does so in `then`, in the main thread.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from ..core.errors import Cancelled, FailedError, MaquetteError
from ..core.progress import Progress

Work = Callable[[Progress], Any]
Then = Callable[[Any], None]


class Task:
    """One piece of work in its thread; `poll` takes in what it says.

    Args:
        title: what the panel calls it.
        work: never touches bpy.
        then: called in the main thread with what `work` answered.
        kind: what it is about, e.g. `model NAME`; a second task of a kind is not started while one runs.
        ended: called in the main thread at any end, after `then`.
    """

    def __init__(self, title: str, work: Work, then: Then, kind: str, ended: Callable[[], None]) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.title, self.kind = title, kind
        self.stage = self.note = ""
        self.progress = 0.0
        self.warnings: list[str] = []
        self.error: MaquetteError | None = None
        self.over = False
        """Its end was noticed and `then` was called."""
        self._eta: float | None = None
        self._eta_at = 0.0
        self._then, self._ended = then, ended
        self._answer: Any = None
        self._cancelled = threading.Event()
        self._inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(work,), name=f"maquette {kind}", daemon=True)
        self._thread.start()

    @property
    def cancelling(self) -> bool:
        """Cancel was asked for."""
        return self._cancelled.is_set()

    @property
    def seconds_left(self) -> float | None:
        """The estimate counted down since it was made; None while there is none."""
        return None if self._eta is None else max(0.0, self._eta - (time.monotonic() - self._eta_at))

    def cancel(self) -> None:
        """Ask it to stop; it hears that with its next word, a tenth of a second later at most."""
        self._cancelled.set()

    def poll(self) -> bool:
        """Take in messages and, once, the end; whether there was anything."""
        ended = not self._thread.is_alive()  # asked first, so that its last words are in the queue
        arrived = False
        while not self._inbox.empty():
            self._take_in(self._inbox.get())
            arrived = True
        if ended and not self.over:
            self.over = arrived = True
            if self.error is None:
                self._then(self._answer)
            self._ended()
        return arrived

    def wait(self) -> None:
        """Block until it is over (background mode, and before Blender ends)."""
        self._thread.join()
        self.poll()

    def abandon(self) -> None:
        """Wait for its end and let nothing follow from it."""
        self._then, self._ended = lambda answer: None, lambda: None
        self.wait()

    def _take_in(self, message: dict[str, Any]) -> None:
        if message["type"] == "warning":
            self.warnings.append(message["text"])
        elif message["type"] in ("stage", "progress"):
            self.stage, self.progress = message["stage"], message["progress"]
            self._eta, self._eta_at = message["eta"], time.monotonic()
            self.note = message.get("note", "")

    def _work(self, work: Work) -> None:
        try:
            self._answer = work(Progress(self._inbox.put, self._cancelled.is_set))
        except MaquetteError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - the border of the thread: nobody else would hear of it
            self.error = FailedError(
                "CRASH",
                f"Maquette failed through a fault of its own ({type(error).__name__}: {error}).",
                "Report it; everything else works on.",
            )


_tasks: list[Task] = []


def tasks() -> list[Task]:
    """Those that run and those whose end is to be read, in the order of their start."""
    return _tasks


def running(kind: str) -> Task | None:
    """The task of a kind that is not over; None without one."""
    return next((task for task in _tasks if task.kind == kind and not task.over), None)


def start(title: str, work: Work, then: Then, kind: str, ended: Callable[[], None] = lambda: None) -> Task:
    """Begin. Earlier ends of the same kind leave the list."""
    _tasks[:] = [task for task in _tasks if task.kind != kind or not task.over]
    task = Task(title, work, then, kind, ended)
    _tasks.append(task)
    return task


def find(task_id: str) -> Task | None:
    """The task with this id."""
    return next((task for task in _tasks if task.id == task_id), None)


def forget(task: Task) -> None:
    """Take one that is over off the list."""
    if task.over:
        _tasks.remove(task)


def poll() -> bool:
    """Take in what all tasks say; those that ended well or were cancelled leave the list. Whether anything was said."""
    spoke = False
    for task in list(_tasks):
        if not task.over:
            spoke |= task.poll()
            if task.over and (task.error is None or isinstance(task.error, Cancelled)):
                _tasks.remove(task)
    return spoke


def busy() -> bool:
    """Whether any is not over."""
    return any(not task.over for task in _tasks)


def stop_all() -> None:
    """Cancel and wait for all; `then` is not called any more."""
    for task in _tasks:
        task.cancel()
    for task in _tasks:
        task.abandon()
    _tasks.clear()
