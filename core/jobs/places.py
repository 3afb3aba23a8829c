# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Maquette keeps what must outlive an extension folder, which Blender deletes on removal. Standard library only.

`MAQUETTE_DATA` names another data folder; the tests and render farms use it. The rules per system are those of
platformdirs' `user_data_dir` (Blender's Python does not have that library).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..errors import InputError


def data_folder() -> Path:
    """The user's data folder of Maquette; it need not exist yet."""
    chosen = os.environ.get("MAQUETTE_DATA")
    if chosen:
        return Path(chosen).expanduser().resolve()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "Maquette"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "Maquette"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "maquette"


def folder(name: str) -> Path:
    """A folder inside the data folder, made if it is not there.

    Names in use: `engine` (private environment), `weights`, `cache` (stage cache), `jobs` (requests and logs),
    `results` (results not saved beside a .blend), `logs` (workers' logs), `locks` (one file per GPU
    and per model that was downloaded or added).

    Raises:
        InputError: DATA_NOT_WRITABLE.
    """
    path = data_folder() / name
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "DATA_NOT_WRITABLE",
            f"Maquette's data folder {path} cannot be made.",
            "Set the environment variable MAQUETTE_DATA to a folder that can be written.",
        ) from error
    return path
