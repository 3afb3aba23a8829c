# SPDX-License-Identifier: GPL-3.0-or-later
"""Orbit Preview: the head of the seed from all sides, so that its camera is placed by looking before a mesh is made."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import bpy

from ..core.results import Result
from . import previews
from .generate_head import FromSeed
from .head_options import head_options

SIDES = 12
"""All round, each at three heights; our choice: nearest pictures are 15 degrees off at most, and it takes seconds."""


class MAQUETTE_OT_orbit_head(FromSeed, bpy.types.Operator):
    """Show the head of the seed from all sides; Around and Above then choose among the pictures"""

    bl_idname = "maquette.orbit_head"
    bl_label = "Orbit Preview"
    bl_options = {"REGISTER"}

    def asked(self, options: Any) -> tuple[dict[str, Any], str]:
        """From all sides."""
        return {"orbit": SIDES}, f"Head {options.seed} from all sides"


def shown_side(options: Any) -> Any | None:
    """The picture nearest to the camera's angles; None where those there are of another head."""
    if options.orbit_of != _head(options.seed, options.truncation, options.model):
        return None
    return min(options.orbit, key=lambda side: _apart(side, options), default=None)


def take_in(scene: bpy.types.Scene, folder: Path, result: Result) -> int:
    """A finished job's pictures in place of the earlier ones; returns how many.

    Raises:
        InputError: RESULT_UNREADABLE; the earlier ones stay then.
    """

    def fill(item: Any, row: dict[str, Any]) -> None:
        item.yaw, item.elevation = math.radians(row["yaw"]), math.radians(row["elevation"])

    options = head_options(scene)
    count = previews.take_in(options.orbit, folder, result.metrics["orbit"], "Head from {yaw:.0f}", fill)
    settings = result.settings
    options.orbit_of = _head(settings["seed"], settings["truncation"], settings["model"])
    return count


def _head(seed: int, truncation: float, model: str) -> str:
    path = bpy.path.abspath(model) if model.startswith("//") else model
    return f"{seed} {truncation:.4f} {path}"


def _apart(side: Any, options: Any) -> float:
    """Squared angle, the short way around."""
    around = (side.yaw - options.yaw + math.pi) % math.tau - math.pi
    return float(around**2 + (side.elevation - options.elevation) ** 2)


CLASSES = (MAQUETTE_OT_orbit_head,)
