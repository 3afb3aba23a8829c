# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Pythons of this machine the engine's environment can be made from, and by which lock file. Standard library only.

Blender's own Python is the first choice; where no lock file serves it (a distribution's Blender may bring 3.12 or 3.14),
others are looked for on the path and where installers and pyenv put them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import MissingError

LOCKS = Path(__file__).resolve().parents[2] / "wheels"
SERVED = ("3.11", "3.13")
"""Versions that lock files exist for; Blender 4.2 to 5.0 bring the first, 5.1 and 5.2 the second."""

_ASK = (
    "import importlib.util, json, platform, sys;"
    "print(json.dumps([list(sys.version_info[:3]), platform.system(), platform.machine(), sys.executable,"
    "all(importlib.util.find_spec(name) for name in ('venv', 'ensurepip'))]))"
)
_SYSTEMS = {"Linux": "linux", "Windows": "windows", "Darwin": "macos"}
_MACHINES = {"x86_64": "x64", "amd64": "x64", "arm64": "arm64", "aarch64": "arm64"}


@dataclass(frozen=True)
class BasePython:
    """A Python that answered when asked."""

    path: Path
    """Its executable."""
    version: tuple[int, int, int]
    system: str
    """As in the names of lock files, e.g. linux-x64."""
    makes_environments: bool
    """Whether it has `venv` and `ensurepip` (Debian packs them apart)."""

    @property
    def tag(self) -> str:
        """As in the names of lock files, e.g. py311."""
        return f"py{self.version[0]}{self.version[1]}"


def ask(path: Path) -> BasePython | None:
    """What the Python at `path` is; None where there is none that runs."""
    try:
        answer = subprocess.run(
            [path, "-I", "-c", _ASK],
            capture_output=True,
            text=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
            check=True,
        )
        version, system, machine, executable, complete = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    name = f"{_SYSTEMS.get(system, system.lower())}-{_MACHINES.get(machine.lower(), machine.lower())}"
    return BasePython(Path(executable), (version[0], version[1], version[2]), name, bool(complete))


def lock_files(base: BasePython, device: str = "auto") -> list[Path]:
    """The lock files that serve a Python, best first; empty where none does.

    Args:
        base: the Python the environment is to be made from.
        device: auto | cpu | cuda | mps; `auto` prefers CUDA where an NVIDIA driver is present.
    """
    found = {path.stem.rsplit("-", 1)[1]: path for path in LOCKS.glob(f"{base.system}-{base.tag}-*.txt")}
    if device == "auto":
        device = "cuda" if has_nvidia_driver() else "cpu"
    return [found[name] for name in sorted(found, key=lambda name: (name != device, name))]


def has_nvidia_driver() -> bool:
    """Whether an NVIDIA driver is installed; asks neither CUDA nor the driver itself."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def find_base_pythons() -> list[BasePython]:
    """Pythons of this machine that a lock file serves, the running one first, each once."""
    found: dict[tuple[Path, tuple[int, int, int]], BasePython] = {}
    for path in _candidates():
        base = ask(path)
        if base is not None and base.makes_environments and lock_files(base):
            found.setdefault((base.path.resolve(), base.version), base)
    return list(found.values())


def choose_base_python(chosen: Path | None = None) -> BasePython:
    """The Python to make the environment from: the artist's, else the first that is found.

    Raises:
        MissingError: BASE_PYTHON_UNUSABLE when the chosen one does not run or cannot make environments,
            NO_LOCK_FILE when no lock file serves it, NO_BASE_PYTHON when nothing was chosen and none is found.
    """
    if chosen is None:
        found = find_base_pythons()
        if found:
            return found[0]
        raise MissingError(
            "NO_BASE_PYTHON",
            f"The engine needs Python {' or '.join(SERVED)}, and none was found on this machine.",
            "Install one (with its venv module) and choose it as Base Python, or choose an existing engine Python.",
        )
    base = ask(chosen)
    if base is None or not base.makes_environments:
        what = "does not run" if base is None else "lacks its venv module"
        raise MissingError(
            "BASE_PYTHON_UNUSABLE", f"The Python {chosen} {what}.", "Choose another Base Python."
        )
    if not lock_files(base):
        others = [f"{other.path} ({'.'.join(map(str, other.version))})" for other in find_base_pythons()]
        raise MissingError(
            "NO_LOCK_FILE",
            f"No engine is prepared for Python {base.version[0]}.{base.version[1]} on {base.system}.",
            f"Choose another Base Python: {', '.join(others) or ' or '.join(SERVED)}.",
        )
    return base


def _candidates() -> Iterator[Path]:
    """Executables worth asking, most fitting first; some may not exist."""
    if Path(sys.executable).stem.lower().startswith("python"):
        yield Path(sys.executable)
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv") / "versions"
    folders = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    folders += [Path("/usr/bin"), Path("/usr/local/bin"), Path("/opt/homebrew/bin")]
    for version in SERVED:
        for folder in dict.fromkeys(folders):
            path = folder / (f"python{version}.exe" if sys.platform == "win32" else f"python{version}")
            if path.exists():
                yield path
        yield from sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)
        if sys.platform == "win32":
            programs = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "Programs"
            yield programs / "Python" / f"Python{version.replace('.', '')}" / "python.exe"
        if sys.platform == "darwin":
            yield Path(f"/Library/Frameworks/Python.framework/Versions/{version}/bin/python3")
