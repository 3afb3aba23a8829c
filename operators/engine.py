# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the engine is, and making a private one without holding Blender up."""

from __future__ import annotations

import queue
import threading
from collections import deque
from pathlib import Path

import bpy

from ..core.errors import Cancelled, FailedError, MaquetteError
from ..core.jobs.environment import EngineStatus, create_environment, find_engine
from ..core.jobs.messages import Message
from .settings import preferences

LINES_KEPT = 200

_status: EngineStatus | None = None
_setup: EngineSetup | None = None


def engine_status() -> EngineStatus:
    """Where the engine is, remembered: panels ask in every draw. `look_again` renews it."""
    return _status or look_again()


def is_ready(operator: type[bpy.types.Operator]) -> bool:
    """Whether the engine can be used; where it cannot, the operator's button says why."""
    problem = engine_status().problem
    if problem is not None:
        operator.poll_message_set(f"{problem.message} {problem.remedy}")
    return problem is None


def look_again() -> EngineStatus:
    """Search anew, after a set-up, a change of the preferences, or a click."""
    global _status
    ours = preferences()
    _status = find_engine(ours.engine_python if ours else "")
    return _status


class EngineSetup:
    """`create_environment` in a thread that never touches bpy; `poll` takes in what it says.

    Args:
        base_python: None: one that is found.
        wheel_folder: None: the network is used.
        online: `bpy.app.online_access`, asked in the main thread.
    """

    def __init__(self, base_python: Path | None, wheel_folder: Path | None, online: bool) -> None:
        self.stage = ""
        self.progress = 0.0
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self.error: MaquetteError | None = None
        self._cancelled = threading.Event()
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._work, args=(base_python, wheel_folder, online), name="maquette set-up", daemon=True
        )
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it is still at work."""
        return self._thread.is_alive()

    @property
    def cancelling(self) -> bool:
        """Cancel was asked for."""
        return self._cancelled.is_set()

    def poll(self) -> bool:
        """Take in messages; whether there were any."""
        arrived = False
        while not self._inbox.empty():
            message = self._inbox.get()
            arrived = True
            if message["type"] == "log":
                self.lines.append(message["text"])
            else:
                self.stage = message.get("stage", self.stage)
                self.progress = message.get("progress", self.progress)
        return arrived

    def cancel(self) -> None:
        """Ask it to stop; what was made so far is removed."""
        self._cancelled.set()

    def wait(self) -> None:
        """Block until it is over (background mode, and before Blender ends)."""
        self._thread.join()
        self.poll()

    def _work(self, base_python: Path | None, wheel_folder: Path | None, online: bool) -> None:
        try:
            create_environment(
                base_python,
                wheel_folder=wheel_folder,
                online=online,
                send=self._inbox.put,
                is_cancelled=self._cancelled.is_set,
            )
        except Cancelled:
            self._inbox.put({"type": "log", "text": "Cancelled."})
        except MaquetteError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - the border of the thread: nobody else would hear of it
            self.error = FailedError(
                "CRASH", f"Setting up the engine failed: {error}.", "Read the log above."
            )


def engine_setup() -> EngineSetup | None:
    """The set-up that runs, or the last one of this session."""
    return _setup


def start_setup(base_python: Path | None, wheel_folder: Path | None, online: bool) -> EngineSetup:
    """Begin; one at a time."""
    global _setup
    assert _setup is None or not _setup.running
    _setup = EngineSetup(base_python, wheel_folder, online)
    return _setup


def stop_setup() -> None:
    """Cancel what runs and wait for its end (about three seconds at most)."""
    global _setup, _status
    if _setup is not None and _setup.running:
        _setup.cancel()
        _setup.wait()
    _setup = _status = None
