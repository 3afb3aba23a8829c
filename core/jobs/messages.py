# SPDX-License-Identifier: GPL-3.0-or-later
"""The line protocol between Blender and the worker: one JSON object a line in both directions.

Orders (to the worker's standard input): `{"order": "run", "job": ID, "folder": PATH}`, `{"order": "cancel", "job": ID}`,
`{"order": "release"}` (give memory and GPU back), `{"order": "quit"}`; the end of the stream means quit as well.

Messages (from the worker), each but `ready` with `"job": ID`:

    ready      pid, version
    started    the job has been taken up
    stage      stage, progress 0..1, eta in seconds or null
    progress   the same, and perhaps note
    preview    path of a picture
    warning    text
    reused     stage whose outcome was there from an earlier job with the same input
    folder     path of the unfinished result, for whoever has to clean up after a dead worker
    done       result (folder), report (see `execution.summary`)
    failed     code, message, remedy, exit_code, report; a cancelled job fails with the code CANCELLED
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Message = dict[str, Any]

DONE, FAILED = "done", "failed"


def plain(value: Any) -> Any:
    """The value in JSON's own types: arrays as lists, paths as text, what is not finite as null."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot cross the process border")


def encode(message: Mapping[str, Any]) -> bytes:
    """One line, ASCII only, ending in a newline."""
    return json.dumps(plain(message), allow_nan=False).encode("ascii") + b"\n"


def decode(line: bytes) -> Message | None:
    """Inverse of `encode`; None for anything that is not a message (a library's print that slipped in)."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
