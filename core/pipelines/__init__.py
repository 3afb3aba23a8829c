# SPDX-License-Identifier: GPL-3.0-or-later
"""The story of each artist action, one module per verb. A module is imported when its verb is run."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..jobs.execution import Pipeline
    from ..jobs.request import Request
    from ..progress import Progress
    from ..results import Result


def _pipeline(module: str) -> Pipeline:
    def run(request: Request, folder: Path, progress: Progress) -> Result:
        result: Result = importlib.import_module(f".{module}", __name__).run(request, folder, progress)
        return result

    return run


PIPELINES: dict[str, Pipeline] = {
    "mesh": _pipeline("mesh"),
    "poses": _pipeline("poses"),
    "align": _pipeline("align"),
    "candidates": _pipeline("candidates"),
    "extract": _pipeline("extract"),
    "bake": _pipeline("bake"),
    "head_sample": _pipeline("head_sample"),
    "head_invert": _pipeline("head_invert"),
    "head_blend": _pipeline("head_blend"),
}
"""Verb -> pipeline."""
