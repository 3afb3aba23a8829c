# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs of one Blender, in line for its one worker: what a panel draws and a timer polls. No bpy, standard library only."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import Cancelled, MaquetteError
from . import messages
from .messages import Message
from .request import LOG_FILE, Request
from .runner import CANCEL_GRACE_S, Job, Worker

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"


@dataclass
class Entry:
    """One job as an artist sees it."""

    id: str
    request: Request
    title: str
    """What the panel calls it."""
    state: str = QUEUED
    """queued | running | done | failed | cancelled."""
    stage: str = ""
    progress: float = 0.0
    """0..1 for the whole job."""
    eta: float | None = None
    """Seconds left as the worker estimated at `eta_at`; None while it cannot tell."""
    eta_at: float = 0.0
    """time.monotonic() of that estimate."""
    note: str = ""
    preview: Path | None = None
    warnings: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    """Stages whose outcome was there from an earlier job with the same input."""
    error: dict[str, str] | None = None
    """code, message and remedy of a failed job."""
    result: Path | None = None
    """Result folder of a job that is done."""
    report: dict[str, Any] = field(default_factory=dict)
    """status, metrics, timings_s ... (`execution.summary`)."""
    log_file: Path | None = None
    cancelling: bool = False
    """Cancel was asked for and has not happened yet."""

    @property
    def over(self) -> bool:
        """Whether it is done, failed or cancelled."""
        return self.state not in (QUEUED, RUNNING)

    @property
    def seconds_left(self) -> float | None:
        """The estimate counted down since it was made; None while there is none."""
        return None if self.eta is None else max(0.0, self.eta - (time.monotonic() - self.eta_at))


class Registry:
    """Several jobs wait in line; one runs.

    Args:
        engine: answers with the engine's interpreter each time a worker is needed; may raise MissingError.
        idle_s: seconds after which an idle worker leaves.
        grace_s: patience with a job that was cancelled.
        make_worker: another worker; for tests.
    """

    def __init__(
        self,
        engine: Callable[[], Path],
        idle_s: float = 600.0,
        grace_s: float = CANCEL_GRACE_S,
        make_worker: Callable[[Path, float], Worker] = Worker,
    ) -> None:
        self.entries: list[Entry] = []
        """All jobs of this session in the order they were submitted, until `forget`."""
        self.idle_s = idle_s
        """Counts for the next worker."""
        self._engine = engine
        self._grace_s = grace_s
        self._make_worker = make_worker
        self._worker: Worker | None = None
        self._job: Job | None = None
        self._entry: Entry | None = None

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits: the timer may poll seldom otherwise."""
        return any(not entry.over for entry in self.entries)

    def submit(self, request: Request, title: str = "") -> str:
        """Put a job in line and return its id; `poll` starts it when its turn comes."""
        entry = Entry(uuid.uuid4().hex[:12], request, title or Path(request.out).name or request.verb)
        self.entries.append(entry)
        return entry.id

    def find(self, job_id: str) -> Entry | None:
        """The entry with this id."""
        return next((entry for entry in self.entries if entry.id == job_id), None)

    def place_in_line(self, entry: Entry) -> int:
        """How many jobs are before one that waits; 0 for the next."""
        waiting = [other for other in self.entries if other.state == QUEUED]
        return waiting.index(entry) + (self._entry is not None)

    def cancel(self, job_id: str) -> None:
        """Cancel a job that waits (at once) or runs (within two seconds of polling)."""
        entry = self.find(job_id)
        if entry is None or entry.over:
            return
        entry.cancelling = True
        if entry is self._entry and self._job is not None:
            self._job.cancel()

    def forget(self, job_id: str) -> None:
        """Take a job that is over off the list."""
        self.entries = [entry for entry in self.entries if entry.id != job_id or not entry.over]

    def poll(self) -> list[Entry]:
        """Take in what has happened, start the next job if none runs; returns the entries that changed. Never blocks."""
        changed: list[Entry] = []
        for entry in self.entries:
            if entry.state == QUEUED and entry.cancelling:
                _fail(entry, Cancelled())
                changed.append(entry)
        if self._entry is not None and self._job is not None:
            arrived = self._job.poll()
            for message in arrived:
                _take_in(self._entry, message)
            if arrived:
                changed.append(self._entry)
            if self._entry.over:
                self._job = self._entry = None
        elif self._worker is not None:
            self._worker.receive()  # notices that an idle worker has left
        if self._entry is None:
            changed += self._start_next()
        return changed

    def release(self) -> None:
        """Ask the worker to give the GPU and memory back: at once when idle, else after the running job."""
        if self._worker is not None:
            self._worker.release()

    def shutdown(self) -> None:
        """End the worker and everything it started; jobs that run or wait are cancelled. Takes up to two seconds."""
        for entry in self.entries:
            if not entry.over:
                _fail(entry, Cancelled())
        if self._worker is not None:
            self._worker.kill(grace_s=1.5)
        if self._job is not None:
            self._job.clean_up()
        self._worker = self._job = self._entry = None

    def _start_next(self) -> list[Entry]:
        """Start the first job in line; one that cannot be started fails, and the next is tried."""
        changed = []
        for entry in self.entries:
            if entry.state != QUEUED:
                continue
            changed.append(entry)
            try:
                job = Job(self._worker_for(self._engine()), entry.request, self._grace_s)
                job.start()
            except MaquetteError as error:
                _fail(entry, error)
                continue
            entry.state = RUNNING
            entry.stage = "starting the engine"
            entry.log_file = job.folder / LOG_FILE if job.folder else None
            self._entry, self._job = entry, job
            break
        return changed

    def _worker_for(self, python: Path) -> Worker:
        """The warm worker, or a new one when the artist has chosen another engine since."""
        if self._worker is not None and self._worker.python != python:
            self._worker.kill(grace_s=0.5)
            self._worker = None
        if self._worker is None:
            self._worker = self._make_worker(python, self.idle_s)
        self._worker.idle_s = self.idle_s
        return self._worker


def _take_in(entry: Entry, message: Message) -> None:
    kind = message["type"]
    if kind in ("stage", "progress"):
        entry.stage = message["stage"]
        entry.progress = message["progress"]
        entry.eta, entry.eta_at = message["eta"], time.monotonic()
        entry.note = message.get("note", "")
    elif kind == "preview":
        entry.preview = Path(message["path"])
    elif kind == "reused":
        entry.reused.append(message["stage"])
    elif kind == "warning":
        entry.warnings.append(message["text"])
    elif kind == messages.DONE:
        entry.state, entry.progress, entry.eta, entry.stage = DONE, 1.0, None, ""
        entry.result = Path(message["result"])
        entry.report = message["report"]
    elif kind == messages.FAILED:
        cancelled = message["code"] == "CANCELLED"
        entry.state, entry.eta = CANCELLED if cancelled else FAILED, None
        entry.error = None if cancelled else {name: message[name] for name in ("code", "message", "remedy")}
        entry.report = message["report"]


def _fail(entry: Entry, error: MaquetteError) -> None:
    _take_in(entry, {"type": messages.FAILED, **error.as_json(), "report": {}})
