# SPDX-License-Identifier: GPL-3.0-or-later
"""A command whose lines are heard while it runs and whose whole tree ends on cancel. Standard library only."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..errors import Cancelled
from .process_tree import ProcessTree


def run_command(
    command: Sequence[str | Path],
    on_line: Callable[[str], None],
    is_cancelled: Callable[[], bool],
    environment: Mapping[str, str],
) -> int:
    """Run a command to its end; both its output streams reach `on_line`, a line at a time.

    Args:
        command: program and arguments; no shell is involved.
        on_line: called in this thread with each line, without its end. What it raises ends the command.
        is_cancelled: asked ten times a second.
        environment: variables of the child.

    Returns:
        The exit status.

    Raises:
        Cancelled: after the whole tree has ended.
        OSError: when the program cannot be started.
    """
    tree = ProcessTree([str(part) for part in command], environment, None)
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(tree, lines), daemon=True).start()
    try:
        tree.orders.close()  # nobody answers questions
        while True:
            if is_cancelled():
                raise Cancelled()
            try:
                line = lines.get(timeout=0.1)
            except queue.Empty:
                continue
            if line is None:
                return tree.wait_and_kill(10.0)
            on_line(line)
    finally:
        tree.kill()


def _read(tree: ProcessTree, lines: queue.SimpleQueue[str | None]) -> None:
    with tree.messages as stream:
        for line in stream:
            lines.put(line.decode("utf-8", "replace").rstrip("\r\n"))
    lines.put(None)
