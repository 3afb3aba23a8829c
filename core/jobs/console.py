# SPDX-License-Identifier: GPL-3.0-or-later
"""A job's messages for a person at a terminal (one line that moves) or a log (plain lines now and then)."""

from __future__ import annotations

import shutil
import time
from typing import TextIO

from .messages import Message

_BAR = 24
_PLAIN_EVERY_S = 5.0


class Console:
    """Shows stages, progress and warnings on `stream`; `take` fits where a `Send` is wanted."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._said_at = 0.0
        self._stage = ""

    def take(self, message: Message) -> None:
        """Show one message of a worker or of `Progress`."""
        if message["type"] == "warning":
            self.line(f"warning: {message['text']}")
        elif message["type"] in ("stage", "progress"):
            self._position(message)

    def line(self, text: str) -> None:
        """A line of its own, above the moving one."""
        self._stream.write(f"\r{' ' * self._width()}\r{text}\n" if self._terminal else f"{text}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Take the moving line away."""
        if self._terminal:
            self._stream.write(f"\r{' ' * self._width()}\r")
            self._stream.flush()

    def _position(self, message: Message) -> None:
        fraction, eta = message["progress"], message["eta"]
        left = "" if eta is None else f", {int(eta) // 60}:{int(eta) % 60:02d} left"
        text = " ".join(filter(None, (message["stage"], message.get("note", ""))))
        if self._terminal:
            full = round(_BAR * fraction)
            line = f"[{'#' * full}{'-' * (_BAR - full)}] {fraction:4.0%} {text}{left}"
            width = self._width()
            self._stream.write(f"\r{line[:width]:<{width}}")
            self._stream.flush()
            return
        now = time.monotonic()
        if message["stage"] != self._stage or now - self._said_at >= _PLAIN_EVERY_S:
            self._stage, self._said_at = message["stage"], now
            self.line(f"{fraction:4.0%} {text}{left}")

    def _width(self) -> int:
        return shutil.get_terminal_size().columns - 1
