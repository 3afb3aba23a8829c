# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb `doctor`: what of Maquette's needs is present on this machine. Runs in any Python, with or without torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import VERSION
from .jobs import places
from .jobs.environment import DISK_GIB, find_engine

LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "pillow",
    "pillow-heif",
    "opencv-python-headless",
    "scikit-image",
    "trimesh",
    "xatlas",
    "fast-simplification",
    "pycolmap",
    "safetensors",
)
BLENDER_VARIABLE = "MAQUETTE_BLENDER"
"""A `blender` program, or a Python that has the `bpy` wheel, for `--blend`."""


def examine() -> dict[str, Any]:
    """Look at this process and this machine; nothing is changed, nothing downloaded.

    Returns:
        JSON-ready: version, system, python, libraries {name: version | null}, devices, memory and disk (bytes), data folder,
        engine, blender, and `problems`, sentences for an artist (empty: all is well).
    """
    engine = find_engine()
    report: dict[str, Any] = {
        "version": VERSION,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_version()} at {sys.executable}",
        "libraries": {name: _version(name) for name in LIBRARIES},
        "devices": _devices(),
        "cpu_cores": os.cpu_count() or 1,
        "memory_bytes": _memory_bytes(),
        "data_folder": str(places.data_folder()),
        "disk_free_bytes": shutil.disk_usage(_existing(places.data_folder())).free,
        "engine": str(engine.python) if engine.python else None,
        "engine_origin": engine.origin,
        "engine_outdated": engine.outdated,
        "blender": _blender(),
    }
    report["problems"] = _problems(report, engine.problem.message if engine.problem else None)
    return report


def as_text(report: Mapping[str, Any]) -> str:
    """The report for a person: one fact a line, problems last."""
    missing = [name for name, version in report["libraries"].items() if version is None]
    rows = {
        "Maquette": report["version"],
        "System": report["system"],
        "Python": report["python"],
        "Engine": f"{report['engine'] or 'none'}{' (made for an earlier version)' if report['engine_outdated'] else ''}",
        "Libraries": ", ".join(
            f"{name} {version}" for name, version in report["libraries"].items() if version
        ),
        "Missing": ", ".join(missing) or "nothing",
        "Devices": ", ".join(report["devices"]) or "unknown without torch",
        "Cores": report["cpu_cores"],
        "Memory": _gib(report["memory_bytes"]),
        "Data folder": f"{report['data_folder']} ({_gib(report['disk_free_bytes'])} free)",
        "Blender": report["blender"] or "none found",
    }
    lines = [f"{name + ':':<13}{value}" for name, value in rows.items()]
    return "\n".join(lines + [f"Problem:     {problem}" for problem in report["problems"]])


def _problems(report: Mapping[str, Any], engine_problem: str | None) -> list[str]:
    problems = [engine_problem] if engine_problem else []
    missing = [name for name, version in report["libraries"].items() if version is None]
    if report["engine_origin"] == "running" and missing:
        problems.append(
            f"This Python lacks {', '.join(missing)}: run `make setup`, or Set Up Engine in Blender."
        )
    if report["engine_outdated"]:
        problems.append("The engine was made for an earlier version: press Set Up Engine again.")
    if report["engine"] is None and report["disk_free_bytes"] < DISK_GIB["cpu"] * 2**30:
        problems.append(f"Less than {DISK_GIB['cpu']:.0f} GiB free for the engine.")
    if report["memory_bytes"] and report["memory_bytes"] < 7 * 2**30:
        problems.append("Less than 8 GiB of memory: use draft quality.")
    return problems


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> list[str]:
    """What torch of this Python can compute on; empty where it has no torch."""
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    cards = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return ["cpu", *cards, *(["mps"] if torch.backends.mps.is_available() else [])]


def _memory_bytes() -> int | None:
    """Physical memory; None where the system does not say (Windows without psutil)."""
    if importlib.util.find_spec("psutil") is not None:
        import psutil

        return int(psutil.virtual_memory().total)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _blender() -> str | None:
    """The Blender that `--blend` would start, with its version; None where none is found."""
    chosen = os.environ.get(BLENDER_VARIABLE) or shutil.which("blender")
    if not chosen:
        return None
    python = Path(chosen).stem.startswith("python")
    command = (
        [chosen, "-c", "import bpy; print('Blender', bpy.app.version_string)"]
        if python
        else [chosen, "--version"]
    )
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = next((line for line in answer.stdout.splitlines() if line.startswith("Blender")), "")
    return f"{version} at {chosen}" if version else None


def _existing(path: Path) -> Path:
    """The nearest folder above that exists, for a question about its disk."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _gib(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**30:.1f} GiB"
