# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's Python: finding it, and making a private one from a lock file. Standard library only.

Search order: the environment variable `MAQUETTE_ENGINE_PYTHON`, the Preferences, the private environment in the data folder,
the running Python where it has torch (the command line in a contributor's `.venv`).

The private environment lies in `places.folder("engine")`, one folder per lock file and its content. `engine.json`, written
last, names the one in use, so a half-made environment is never found.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import FailedError, MaquetteError, MissingError
from ..progress import Progress, Send
from . import base_python, places
from .base_python import BasePython, choose_base_python, lock_files
from .command import run_command

log = logging.getLogger(__name__)

VARIABLE = "MAQUETTE_ENGINE_PYTHON"
INDEX_VARIABLE = "MAQUETTE_TORCH_INDEX"
"""Optional address of a package index with PyTorch's CPU builds, which the general index does not hold."""
RECORD = "engine.json"
DISK_GIB = {"cpu": 4.0, "mps": 4.0, "cuda": 14.0}
"""Free space asked for before the start; our choice: twice what `du` shows of the CPU build, download included."""


@dataclass(frozen=True)
class EngineStatus:
    """What stands in the Preferences under Engine."""

    python: Path | None
    """The engine's interpreter; None where there is none."""
    origin: str = ""
    """variable | preferences | private | running: where it was found."""
    outdated: bool = False
    """A private environment made from a lock file that this version no longer uses."""
    problem: MaquetteError | None = None
    """Why there is none."""


def find_engine(preferred: str = "") -> EngineStatus:
    """Where the engine's Python is. Only looks at files, so a panel may ask (but not in every draw).

    Args:
        preferred: path in the Preferences; empty: none chosen.
    """
    for origin, chosen in (("variable", os.environ.get(VARIABLE, "")), ("preferences", preferred)):
        if chosen:
            path = Path(chosen).expanduser()
            if path.is_file():
                return EngineStatus(path, origin)
            where = f"the variable {VARIABLE}" if origin == "variable" else "the Preferences"
            return EngineStatus(
                None,
                origin,
                problem=MissingError(
                    "ENGINE_NOT_THERE",
                    f"There is no Python at {path}, named in {where}.",
                    "Correct or clear it.",
                ),
            )
    private = _private_engine()
    if private is not None:
        return private
    if importlib.util.find_spec("torch") is not None and Path(sys.executable).stem.startswith("python"):
        return EngineStatus(Path(sys.executable), "running")
    return EngineStatus(
        None,
        problem=MissingError(
            "ENGINE_MISSING",
            "The engine is not set up.",
            f"Press Set Up Engine in Maquette's preferences, or set {VARIABLE} to a Python that has torch.",
        ),
    )


def engine_python(preferred: str = "") -> Path:
    """The engine's interpreter.

    Raises:
        MissingError: ENGINE_MISSING, ENGINE_NOT_THERE.
    """
    status = find_engine(preferred)
    if status.python is None:
        assert status.problem is not None
        raise status.problem
    return status.python


def create_environment(
    chosen_python: Path | None = None,
    wheel_folder: Path | None = None,
    online: bool = False,
    device: str = "auto",
    send: Send | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Make the private environment; the one in use stays until the new one works.

    Args:
        chosen_python: the Python to make it from; None: the first that a lock file serves.
        wheel_folder: folder with the files of the lock; given, the network is not used.
        online: whether the network may be used (in Blender: `bpy.app.online_access`).
        device: auto | cpu | cuda | mps.
        send: receives `stage` and `progress` messages and `{"type": "log", "text": LINE}` for every line of pip.
        is_cancelled: asked ten times a second.

    Returns:
        The new environment's interpreter.

    Raises:
        MissingError: NO_BASE_PYTHON, BASE_PYTHON_UNUSABLE, NO_LOCK_FILE, ONLINE_ACCESS_OFF, ENGINE_FILES_MISSING, NO_NETWORK.
        FailedError: DISK_FULL, HASH_MISMATCH, ENGINE_SETUP_FAILED, ENGINE_BROKEN.
        Cancelled: the half-made folder is gone.
    """
    if wheel_folder is None and not online:
        raise MissingError(
            "ONLINE_ACCESS_OFF",
            "Setting up the engine needs the network, and online access is off.",
            "Allow Online Access in Preferences > System > Network, or choose a wheel folder.",
        )
    progress = Progress(send, is_cancelled, {"environment": 1, "packages": 12, "check": 1})
    base = choose_base_python(chosen_python)
    locks = lock_files(base, device)
    if wheel_folder is not None:
        locks = [_lock_of_folder(locks, wheel_folder)]
    setup = _Setup(
        base, wheel_folder, progress, send or (lambda message: None), is_cancelled or (lambda: False)
    )
    for lock in locks:
        try:
            return setup.make(lock)
        except MissingError as error:
            if error.code != "ENGINE_FILES_MISSING" or lock is locks[-1]:
                raise
            setup.say(f"{lock.name} cannot be had here; trying {locks[-1].name}")
    raise AssertionError("choose_base_python answers only with a Python that has a lock file")


class _Setup:
    """One run of `create_environment`: the steps and what they share."""

    def __init__(
        self,
        base: BasePython,
        wheels: Path | None,
        progress: Progress,
        send: Send,
        is_cancelled: Callable[[], bool],
    ) -> None:
        self.base, self.wheels, self.progress, self.send, self.is_cancelled = (
            base,
            wheels,
            progress,
            send,
            is_cancelled,
        )
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """Show a line to the artist and keep it."""
        self.lines.append(text)
        self.send({"type": "log", "text": text})
        log.info("%s", text)

    def make(self, lock: Path) -> Path:
        """Make, fill and check an environment for one lock file; nothing of it stays when that fails."""
        parent = places.folder("engine")
        name = f"{lock.stem}-{_digest(lock)[:8]}-{uuid.uuid4().hex[:4]}"
        _check_disk(parent, lock)
        folder = parent / name
        try:
            python = self._environment(folder)
            self._packages(python, lock)
            self._check(python)
            record = {
                "folder": name,
                "python": str(python.relative_to(folder)),
                "lock": lock.name,
                "digest": _digest(lock),
            }
            temporary = parent / f"{RECORD}.{uuid.uuid4().hex[:8]}"
            temporary.write_text(json.dumps(record), encoding="utf-8")
            temporary.replace(parent / RECORD)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        for other in parent.iterdir():
            if (
                other.is_dir() and other != folder
            ):  # a running worker keeps its open files; Windows refuses, later then
                shutil.rmtree(other, ignore_errors=True)
        return python

    def _environment(self, folder: Path) -> Path:
        with self.progress.stage("environment"):
            self.say(f"Python {'.'.join(map(str, self.base.version))} at {self.base.path}")
            if self._run(
                [self.base.path, "-I", "-m", "venv", "--copies" if os.name == "nt" else "--symlinks", folder]
            ):
                raise self._failure()
        return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def _packages(self, python: Path, lock: Path) -> None:
        """pip, from the lock file's hashes only; every package it names moves the bar."""
        total = sum("==" in line for line in lock.read_text(encoding="utf-8").splitlines())
        command: list[str | Path] = [
            python,
            "-I",
            "-m",
            "pip",
            "install",
            "--require-hashes",
            "--only-binary",
            ":all:",
            "-r",
            lock,
        ]
        command += ["--no-input", "--progress-bar", "off", "--disable-pip-version-check"]
        if self.wheels is not None:
            command += ["--no-index", "--find-links", self.wheels]
        elif os.environ.get(INDEX_VARIABLE):
            command += ["--extra-index-url", os.environ[INDEX_VARIABLE]]
        seen = 0

        def on_line(line: str) -> None:
            nonlocal seen
            seen += line.startswith(("Collecting ", "Processing "))
            self.progress.update(min(0.8 * seen / total, 0.8), line.strip()[:80])

        with self.progress.stage("packages"):
            if self._run(command, on_line):
                raise self._failure()

    def _check(self, python: Path) -> None:
        """The packages must not only lie there but load: a system library may be missing."""
        with self.progress.stage("check"):
            if self._run(
                [
                    python,
                    "-I",
                    "-c",
                    "import torch, numpy, scipy, pycolmap, cv2; print('torch', torch.__version__)",
                ]
            ):
                raise FailedError(
                    "ENGINE_BROKEN",
                    f"The engine was installed but does not load: {self._last_line()}.",
                    "Install what the line names, or choose an existing engine Python.",
                )

    def _run(self, command: Sequence[str | Path], on_line: Callable[[str], None] | None = None) -> int:
        """Run one step; the temporary files of pip lie beside the environment, for /tmp may be small."""
        temporary = places.folder("engine") / f".temporary-{uuid.uuid4().hex[:8]}"
        temporary.mkdir()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary)) | {"PYTHONUTF8": "1"}

        def hear(line: str) -> None:
            self.say(line)
            if on_line:
                on_line(line)

        try:
            return run_command(command, hear, self.is_cancelled, environment)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _last_line(self) -> str:
        return next((line.strip() for line in reversed(self.lines) if line.strip()), "no output").rstrip(".")

    def _failure(self) -> MaquetteError:
        """What pip's words mean to an artist."""
        text = "\n".join(self.lines)
        if re.search(r"No space left on device|Errno 28|not enough space on the disk", text):
            return _disk_full(places.folder("engine"))
        if "DO NOT MATCH THE HASHES" in text:
            return FailedError(
                "HASH_MISMATCH",
                "A downloaded file is not the one that was tested.",
                "Try again; if it stays so, check the network's proxy or the wheel folder.",
            )
        if self.wheels is None and re.search(
            r"NewConnectionError|Name or service not known|ConnectTimeout|ReadTimeout", text
        ):
            return MissingError(
                "NO_NETWORK",
                "The package index cannot be reached.",
                "Check the network, or choose a wheel folder.",
            )
        if re.search(r"No matching distribution found|Could not find a version", text):
            return MissingError(
                "ENGINE_FILES_MISSING",
                f"Not every file of the engine is there: {self._last_line()}.",
                "Fetch the lock file's files anew (wheels/README.md), or use the network.",
            )
        return FailedError(
            "ENGINE_SETUP_FAILED",
            f"Setting up the engine failed: {self._last_line()}.",
            "Read the log above it, or choose an existing engine Python.",
        )


def _private_engine() -> EngineStatus | None:
    """The private environment that `engine.json` names, if it is still there."""
    parent = places.data_folder() / "engine"
    try:
        record = json.loads((parent / RECORD).read_text(encoding="utf-8"))
        python = parent / record["folder"] / record["python"]
        lock = base_python.LOCKS / Path(record["lock"]).name
        outdated = not lock.is_file() or _digest(lock) != record["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return EngineStatus(python, "private", outdated=outdated) if python.is_file() else None


def _digest(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def _lock_of_folder(locks: list[Path], folder: Path) -> Path:
    """The lock file whose torch lies in a wheel folder."""
    names = {path.name.lower() for path in folder.glob("*.whl")} if folder.is_dir() else set()
    for lock in locks:
        match = re.search(r"^torch==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
        if match and any(name.startswith(f"torch-{match[1]}-") for name in names):
            return lock
    raise MissingError(
        "ENGINE_FILES_MISSING",
        f"The folder {folder} holds no torch that fits ({', '.join(lock.stem for lock in locks)}).",
        "Fetch the files of one of these lock files into it (wheels/README.md).",
    )


def _check_disk(folder: Path, lock: Path) -> None:
    if shutil.disk_usage(folder).free < DISK_GIB[lock.stem.rsplit("-", 1)[1]] * 2**30:
        raise _disk_full(folder)


def _disk_full(folder: Path) -> FailedError:
    return FailedError(
        "DISK_FULL",
        f"The disk of {folder} has no room for the engine.",
        "Free some space, or set MAQUETTE_DATA to a folder on another disk.",
    )
