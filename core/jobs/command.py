# SPDX-License-Identifier: GPL-3.0-or-later
"""A child process whose lines are heard while it runs and whose whole tree ends on cancel. Standard library only."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..errors import Cancelled

GRACE_S = 3.0
"""Seconds between the request to end and the end; pip removes its temporary folders in that time."""


def run_command(
    command: Sequence[str | Path],
    on_line: Callable[[str], None],
    is_cancelled: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run a command in a process group of its own; both its output streams reach `on_line`, a line at a time.

    Args:
        command: program and arguments; no shell is involved.
        on_line: called in this thread with each line, without its end.
        is_cancelled: asked ten times a second.
        environment: variables of the child; None: those of this process.

    Returns:
        The exit status.

    Raises:
        Cancelled: after the whole tree has ended.
        OSError: when the program cannot be started.
    """
    group = {"creationflags": 0x00000200} if sys.platform == "win32" else {"start_new_session": True}
    child = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=dict(environment) if environment is not None else None,
        **group,
    )
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(child, lines), daemon=True)
    reader.start()
    try:
        while True:
            if is_cancelled():
                raise Cancelled()
            try:
                line = lines.get(timeout=0.1)
            except queue.Empty:
                continue
            if line is None:
                return child.wait()
            on_line(line)
    except BaseException:
        end_tree(child)
        raise
    finally:
        reader.join(timeout=1.0)


def end_tree(child: subprocess.Popen[str]) -> None:
    """Ask the child's process group to end, then end it; returns when the child is gone."""
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(child.pid)], capture_output=True, check=False)
    else:
        _signal_group(child, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_S)
        _signal_group(child, signal.SIGKILL)  # those of its children that did not listen
    child.wait()


def _signal_group(child: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # all gone (macOS answers with the second)
        os.killpg(child.pid, number)


def _read(child: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    assert child.stdout is not None
    with child.stdout as stream:
        for line in stream:
            lines.put(line.rstrip("\r\n"))
    lines.put(None)
