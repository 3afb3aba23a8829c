# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the engine, and the job folder that carries it. Standard library only."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import InputError
from . import places

REQUEST_FILE = "request.json"
LOG_FILE = "log.txt"
_JOBS_KEPT = 100  # logs and previews; results lie elsewhere


@dataclass(frozen=True)
class Request:
    """One job: a verb of the command line with everything it needs."""

    verb: str
    """mesh, poses, extract, bake ...: a key of `core.pipelines.PIPELINES`."""
    inputs: tuple[str, ...] = ()
    """Absolute paths: photos, or the Result folder of extract and bake."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the verb in JSON's types, e.g. `MeshSettings.as_json()`. `device` (auto | cpu | cuda | mps) is read by
    the worker too."""
    out: str = ""
    """Absolute path of the Result folder to write."""
    glb: str = ""
    """File to write beside the result; empty: none."""
    preview: str = ""
    """Picture to write beside the result; empty: none."""

    def write(self, folder: Path) -> None:
        """Write `request.json` into an existing job folder."""
        text = json.dumps({**asdict(self), "inputs": list(self.inputs)}, indent=1)
        (folder / REQUEST_FILE).write_text(text, encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> Request:
        """Inverse of `write`.

        Raises:
            InputError: REQUEST_UNREADABLE.
        """
        try:
            data = json.loads((folder / REQUEST_FILE).read_text(encoding="utf-8"))
            known = {item.name for item in fields(Request)}
            return Request(
                **{**{k: v for k, v in data.items() if k in known}, "inputs": tuple(data["inputs"])}
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                "REQUEST_UNREADABLE",
                f"The job folder {folder} holds no readable request.",
                "Start the job again.",
            ) from error


def new_job_folder() -> Path:
    """An empty folder for one job in the data folder; its name sorts by time. The oldest ones go."""
    parent = places.folder("jobs")
    for old in sorted(parent.iterdir())[: -_JOBS_KEPT + 1]:
        shutil.rmtree(old, ignore_errors=True)
    path = parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
    path.mkdir()
    return path
