# SPDX-License-Identifier: GPL-3.0-or-later
"""`doctor`: what the engine's Python can do, found out by trying. `main` runs in the engine, `examine` starts it."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import FailedError, MissingError
from . import tuning
from .runner import BOOTSTRAP

LIBRARIES = {
    "torch": "torch", "numpy": "numpy", "scipy": "scipy", "PIL": "pillow", "cv2": "opencv-python-headless",
    "skimage": "scikit-image", "trimesh": "trimesh", "xatlas": "xatlas", "pycolmap": "pycolmap",
    "safetensors": "safetensors", "fast_simplification": "fast-simplification", "filelock": "filelock", "psutil": "psutil",
}  # fmt: skip
"""Module -> distribution of what the pipelines need."""
OPTIONAL = {"pillow_heif": "pillow-heif"}
"""Without it HEIC photos cannot be read."""


def examine(python: Path) -> dict[str, Any]:
    """Start the engine once and ask.

    Returns:
        python, platform, threads, memory_bytes, devices, libraries (name -> version), missing and broken (name -> reason).

    Raises:
        MissingError: ENGINE_MISSING. FailedError: ENGINE_BROKEN.
    """
    command = [str(python), "-I", "-X", "utf8", str(BOOTSTRAP), "core.jobs.doctor"]
    try:
        run = subprocess.run(
            command,
            env=tuning.engine_environment(os.environ),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        return dict(json.loads(run.stdout.splitlines()[-1]))
    except OSError as error:
        raise MissingError("ENGINE_MISSING", f"{python} cannot be started.", "Set up the engine.") from error
    except (ValueError, IndexError, subprocess.TimeoutExpired) as error:
        raise FailedError(
            "ENGINE_BROKEN", f"The engine in {python} does not answer.", "Set up the engine again."
        ) from error


def main(arguments: Sequence[str]) -> int:
    """Entry in the engine: one line of JSON on standard output."""
    found: dict[str, str] = {}
    missing: dict[str, str] = {}
    for module, distribution in {**LIBRARIES, **OPTIONAL}.items():
        try:
            importlib.import_module(module)
            found[distribution] = importlib.metadata.version(distribution)
        except (ImportError, OSError) as error:  # OSError: a shared library that does not load
            if module not in OPTIONAL or not isinstance(error, ModuleNotFoundError):
                missing[distribution] = str(error)
    answer = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": tuning.thread_count(),
        "devices": _devices(),
        "libraries": found,
        "missing": missing,
    }
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def _devices() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    cards = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return ["cpu", *cards, *(["mps"] if torch.backends.mps.is_available() else [])]
