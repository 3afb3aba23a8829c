# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine of five one-line packages, so that its set-up can be tested whole in seconds and without network."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

NAMES = ("torch", "numpy", "scipy", "pycolmap", "cv2")


def write_wheel(folder: Path, name: str, text: str = "__version__ = '2.0'\n") -> str:
    """A wheel of one module; returns its SHA-256."""
    path = folder / f"{name}-2.0-py3-none-any.whl"
    info = f"{name}-2.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", text)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_engine(wheels: Path, lock: Path) -> None:
    """The five wheels, and the lock file that names them."""
    lines = [f"{name}==2.0 \\\n    --hash=sha256:{write_wheel(wheels, name)}\n" for name in NAMES]
    lock.write_text("".join(lines), encoding="utf-8")
