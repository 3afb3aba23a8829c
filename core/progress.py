# SPDX-License-Identifier: GPL-3.0-or-later
"""How long work reports on itself: stages, progress, previews, warnings, and the question "go on?"."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import Cancelled

Send = Callable[[dict[str, Any]], None]

PREVIEWS = ".preview"
"""Folder in an unfinished result for pictures of the work so far; it is no part of the finished one."""


class Progress:
    """Passed down through a pipeline; turns calls into messages (DESIGN section 4) and keeps timings.

    Stages carry a weight (their expected share of the time), so that `progress` in messages is a number
    0..1 for the whole job and `eta` an estimate in seconds.

    Args:
        send: receives one JSON-ready dictionary per message; `None` swallows them (library use, tests).
        is_cancelled: asked often; when it answers True the next report raises `Cancelled`.
        plan: stage name -> expected share of the whole job (any positive scale).
    """

    def __init__(
        self,
        send: Send | None = None,
        is_cancelled: Callable[[], bool] | None = None,
        plan: dict[str, float] | None = None,
    ) -> None:
        self._send = send or (lambda message: None)
        self._is_cancelled = is_cancelled or (lambda: False)
        self._plan = dict(plan or {})
        self._done_share = 0.0
        self._stage = ""
        self._started = time.monotonic()
        self.timings_s: dict[str, float] = {}
        self.warnings: list[str] = []
        self.kept: list[str] = []
        """Stages that did not have to run: what they make was there from an earlier job with the same input."""

    def set_plan(self, plan: dict[str, float]) -> None:
        """Announce the stages to come and their relative durations."""
        self._plan = dict(plan)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A named stage; its wall time is added to `timings_s[name]`. Stages do not nest.

        Raises:
            Cancelled: if the artist asked for it.
        """
        self.check()
        self._stage = name
        began = time.monotonic()
        self._send({"type": "stage", "stage": name, **self._position(0.0)})
        try:
            yield
        finally:
            self.timings_s[name] = self.timings_s.get(name, 0.0) + time.monotonic() - began
            self._done_share += self._plan.pop(name, 0.0)

    def update(self, fraction: float, note: str = "") -> None:
        """Say how far the current stage is (0..1). Raises `Cancelled` if the artist asked for it."""
        self.check()
        message = {"type": "progress", "stage": self._stage, **self._position(min(max(fraction, 0.0), 1.0))}
        if note:
            message["note"] = note
        self._send(message)

    def preview(self, path: Path) -> None:
        """A picture of the work so far was written to `path`."""
        self._send({"type": "preview", "path": str(path)})

    def warning(self, text: str) -> None:
        """Something the artist should know that does not stop the work; one sentence."""
        self.warnings.append(text)
        self._send({"type": "warning", "text": text})

    def reused(self, stage: str) -> None:
        """What `stage` makes was there from an earlier job with the same input."""
        self.kept.append(stage)
        self._plan.pop(stage, None)
        self._send({"type": "reused", "stage": stage})

    def check(self) -> None:
        """Raises `Cancelled` if the artist asked for it. Call it at least every half second of work."""
        if self._is_cancelled():
            raise Cancelled()

    def _position(self, fraction: float) -> dict[str, float | None]:
        here = self._plan.get(self._stage, 0.0)
        total = self._done_share + sum(self._plan.values())
        overall = (self._done_share + here * fraction) / total if total > 0 else fraction
        spent = time.monotonic() - self._started
        eta = spent * (1.0 - overall) / overall if overall > 0.02 else None
        return {"progress": round(overall, 4), "eta": None if eta is None else round(eta, 1)}
