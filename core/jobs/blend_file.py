# SPDX-License-Identifier: GPL-3.0-or-later
"""`--blend`: a Blender without a window writes a .blend from a finished Result. Standard library only."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..errors import MissingError, PartlyDone

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "operators" / "headless.py"
VARIABLES = ("MAQUETTE_BLENDER", "MAQUETTE_BLENDER_PYTHON")


def find_blender(own: Path | None = None) -> list[str]:
    """The beginning of a command that runs a Python script with Blender in it.

    Looked for, in this order: `own`, MAQUETTE_BLENDER and MAQUETTE_BLENDER_PYTHON (a Blender, or a Python with the bpy wheel),
    `blender` on the path, in a checkout the newest `.venv-bpy-*`.

    Args:
        own: the Blender that we run in.

    Raises:
        MissingError: BLENDER_MISSING.
    """
    if own is not None:
        return _command(own)
    for name in VARIABLES:
        chosen = os.environ.get(name)
        if not chosen:
            continue
        path = shutil.which(chosen)
        if path is None:
            raise MissingError(
                "BLENDER_MISSING", f"There is no program {chosen}, named in {name}.", "Correct or clear it."
            )
        return _command(Path(path))
    on_path = shutil.which("blender")
    if on_path:
        return _command(Path(on_path))
    wheels = [*ROOT.glob(".venv-bpy-*/bin/python"), *ROOT.glob(".venv-bpy-*/Scripts/python.exe")]
    if wheels:
        return _command(max(wheels, key=lambda path: [int(n) for n in re.findall(r"\d+", path.parts[-3])]))
    raise MissingError(
        "BLENDER_MISSING",
        "No Blender was found to write the .blend file.",
        "Install Blender 4.2 or later, or set MAQUETTE_BLENDER to it.",
    )


def write_blend(blender: Sequence[str], result: Path, blend: Path) -> None:
    """Write `blend` from the Result folder.

    Raises:
        PartlyDone: BLEND_NOT_WRITTEN; the result stands.
    """
    command = [*blender, "import", str(result), "--blend", str(blend)]
    blend.parent.mkdir(parents=True, exist_ok=True)
    before = blend.stat().st_mtime_ns if blend.exists() else None
    try:
        run = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise MissingError(
            "BLENDER_MISSING", f"{command[0]} cannot be started.", "Set MAQUETTE_BLENDER to a Blender."
        ) from error
    log.info("%s\n%s%s", command, run.stdout, run.stderr)
    after = blend.stat().st_mtime_ns if blend.exists() else None
    if run.returncode != 0 or after is None or after == before:
        words = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()] or [
            "it said nothing"
        ]
        raise PartlyDone(
            "BLEND_NOT_WRITTEN",
            f"{command[0]} did not write {blend}: {words[-1].strip()}",
            f"The result is in {result}; import it in Blender.",
        )


def _command(program: Path) -> list[str]:
    if program.stem.lower().startswith("python"):
        return [str(program), str(SCRIPT)]
    options = ["-b", "--factory-startup", "--python-exit-code", "1", "-P", str(SCRIPT), "--"]
    return [str(program), *options]
