# SPDX-License-Identifier: GPL-3.0-or-later
"""The report that every run of the command line can leave for tests and render farms (DESIGN section 6)."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import EXIT_CANCELLED, EXIT_FAILED, EXIT_PARTLY, InputError, MaquetteError
from .messages import plain


@dataclass
class Report:
    """What one run did. Until something is known it stands as failed."""

    status: str = "failed"
    """done | partly | failed | cancelled."""
    exit_code: int = EXIT_FAILED
    inputs: list[str] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    """What was written: `folder`, `blend`, `glb`, `preview`, `summary` -> path."""
    method: str | None = None
    model: dict[str, Any] | None = None
    device: str | None = None
    seed: int | None = None
    timings_s: dict[str, float] = field(default_factory=dict)
    """Stage -> seconds; `total` is the wall time of the whole run."""
    peak_memory_bytes: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    error: dict[str, str] | None = None

    def take(self, summary: dict[str, Any]) -> None:
        """Take over what the engine says of a job (`execution.summary`, or less after a failure)."""
        known = {item.name for item in fields(self)}
        for name, value in summary.items():
            if name in known:
                setattr(self, name, value)

    def fail(self, error: MaquetteError) -> None:
        """End as failed, partly done or cancelled, as the error's exit code says."""
        self.status = {EXIT_PARTLY: "partly", EXIT_CANCELLED: "cancelled"}.get(error.exit_code, "failed")
        self.exit_code = error.exit_code
        self.error = error.as_json()

    def write(self, path: Path) -> None:
        """Write as JSON, in one step: a reader never sees half a report.

        Raises:
            OSError: if it cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        temporary.write_text(json.dumps(plain(asdict(self)), indent=1, allow_nan=False), encoding="utf-8")
        temporary.replace(path)


def check_target(path: Path) -> None:
    """See before the work that a file or folder can be written there later; nothing is made.

    Raises:
        InputError: OUT_NOT_WRITABLE.
    """
    parent = next(folder for folder in path.parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(
            "OUT_NOT_WRITABLE",
            f"{path} cannot be written.",
            "Choose another place, or change the folder's permissions.",
        )
