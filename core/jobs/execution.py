# SPDX-License-Identifier: GPL-3.0-or-later
"""One request carried out in this process: what the worker and `python -m maquette` have in common. Runs in the engine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .. import results
from ..errors import EXIT_DONE, EXIT_PARTLY, InputError, MaquetteError
from ..progress import PREVIEWS, Progress
from ..results import Result
from . import gpu
from .request import Request

Pipeline = Callable[[Request, Path, Progress], Result]
"""Writes its files into the folder it is given and returns what scene.json shall say."""
Pipelines = Mapping[str, Pipeline]


def execute(
    request: Request,
    progress: Progress,
    pipelines: Pipelines,
    announce: Callable[[Path], None] = lambda folder: None,
) -> Result:
    """Run the request's pipeline and leave a complete Result folder at `request.out`, or nothing.

    Args:
        request: what to do.
        progress: receives stages and says whether to go on.
        pipelines: verb -> pipeline.
        announce: told the temporary folder before work starts, so that somebody else can clean up after a crash.

    Raises:
        MaquetteError: anything an artist can reach; other exceptions are faults (`failures.typed`).
    """
    if request.verb not in pipelines:
        raise InputError(
            "UNKNOWN_VERB",
            f"There is no job called {request.verb!r}.",
            "Update the engine or Blender's add-on.",
        )
    out = Path(request.out)
    check_out(out, request)
    with gpu.turn(request.settings.get("device", "auto"), progress), results.new_folder(out) as folder:
        announce(folder)
        result = pipelines[request.verb](request, folder, progress)
        result.timings_s = {**progress.timings_s, **result.timings_s}
        result.warnings += [text for text in progress.warnings if text not in result.warnings]
        progress.check()
        shutil.rmtree(folder / PREVIEWS, ignore_errors=True)
        results.write_scene(folder, result)
    if request.glb or request.preview:
        _write_outputs(request, result, out)
    return result


def check_out(out: Path, request: Request) -> None:
    """Refuse an output folder whose replacement would destroy something of the artist's.

    Raises:
        InputError: OUT_NOT_EMPTY, OUT_HOLDS_INPUT, OUT_NOT_WRITABLE.
    """
    if out.exists() and not out.is_dir():
        raise InputError(
            "OUT_NOT_WRITABLE", f"{out} is a file, not a folder.", "Choose another output folder."
        )
    if out.is_dir() and any(out.iterdir()) and not (out / "scene.json").is_file():
        raise InputError(
            "OUT_NOT_EMPTY",
            f"The folder {out} holds other files, and a result would replace it.",
            "Choose a new or empty output folder.",
        )
    inside = [path for path in request.inputs if out in Path(path).parents]
    if inside:
        raise InputError(
            "OUT_HOLDS_INPUT",
            f"The result would replace the folder {out}, in which {Path(inside[0]).name} lies.",
            "Choose another output folder.",
        )


def _write_outputs(request: Request, result: Result, out: Path) -> None:
    """GLB and preview; the result stands already, so a failure here leaves the job done in part."""
    from ..pipelines.outputs import write_outputs

    try:
        write_outputs(out, request.glb, request.preview)
    except MaquetteError as error:
        result.metrics.setdefault("partly", []).append(str(error))
        results.write_scene(out, result)


def summary(result: Result, peak_memory_bytes: int) -> dict[str, Any]:
    """The part of a report (DESIGN section 6) that the engine knows after a job."""
    partly = result.metrics.get("partly")
    return {
        "status": "partly" if partly else "done",
        "exit_code": EXIT_PARTLY if partly else EXIT_DONE,
        "method": result.method,
        "model": result.model,
        "device": result.device,
        "seed": result.seed,
        "timings_s": {name: round(value, 3) for name, value in result.timings_s.items()},
        "peak_memory_bytes": peak_memory_bytes,
        "metrics": result.metrics,
        "warnings": result.warnings,
    }
