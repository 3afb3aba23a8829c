# SPDX-License-Identifier: GPL-3.0-or-later
"""`doctor`: what the engine's Python can do, found out by trying. `main` runs in the engine, `examine` starts it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import Cancelled, FailedError, MissingError
from . import tuning
from .command import run_command
from .runner import BOOTSTRAP

LIBRARIES = {
    "torch": "torch", "numpy": "numpy", "scipy": "scipy", "PIL": "pillow", "cv2": "opencv-python-headless",
    "skimage": "scikit-image", "trimesh": "trimesh", "xatlas": "xatlas", "pycolmap": "pycolmap",
    "safetensors": "safetensors", "fast_simplification": "fast-simplification", "filelock": "filelock", "psutil": "psutil",
}  # fmt: skip
"""Module -> distribution of what the pipelines need."""
OPTIONAL = {"pillow_heif": "pillow-heif"}
"""Without it HEIC photos cannot be read."""
PATIENCE_S = 300.0
"""A first start reads a gigabyte from disk."""


def examine(python: Path, is_cancelled: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Start the engine once and ask.

    Args:
        python: the engine's interpreter.
        is_cancelled: asked ten times a second.

    Returns:
        python, platform, threads, memory_bytes (total, free), devices, graphics_free_bytes (card -> free), libraries (name ->
        version), missing and broken (name -> reason).

    Raises:
        MissingError: ENGINE_MISSING. FailedError: ENGINE_BROKEN. Cancelled.
    """
    command = [str(python), "-I", "-X", "utf8", str(BOOTSTRAP), "core.jobs.doctor"]
    lines: list[str] = []
    ends = time.monotonic() + PATIENCE_S

    def give_up() -> bool:
        return is_cancelled() or time.monotonic() > ends

    try:
        run_command(command, lines.append, give_up, tuning.engine_environment(os.environ))
    except OSError as error:
        raise MissingError("ENGINE_MISSING", f"{python} cannot be started.", "Set up the engine.") from error
    except Cancelled:
        if is_cancelled():
            raise
    answer = next((found for found in map(_answer, reversed(lines)) if found), None)
    if answer is None:
        raise FailedError(
            "ENGINE_BROKEN", f"The engine in {python} does not answer.", "Set up the engine again."
        )
    return answer


def _answer(line: str) -> dict[str, Any]:
    """The answer of `main`; {} for a line that some library prints."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


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
        "memory_bytes": _memory(),
        "devices": _devices(),
        "graphics_free_bytes": _graphics_memory(),
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


def _memory() -> dict[str, int]:
    psutil = sys.modules.get("psutil")
    if psutil is None:
        return {}
    memory = psutil.virtual_memory()
    return {"total": int(memory.total), "free": int(memory.available)}


def _graphics_memory() -> dict[str, int]:
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    free = {}
    for card in range(torch.cuda.device_count()):
        with contextlib.suppress(RuntimeError):  # one that is full, or reserved for another process
            free[f"cuda:{card}"] = int(torch.cuda.mem_get_info(card)[0])
    return free
