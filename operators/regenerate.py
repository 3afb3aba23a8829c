# SPDX-License-Identifier: GPL-3.0-or-later
"""Regenerate: a result once more from its photos, with the settings and the seed that are stored with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from ..core.errors import InputError, MaquetteError
from ..core.jobs.request import Request
from ..core.settings import MeshSettings
from . import engine, jobs
from .cameras import cameras_of
from .head_options import METHODS
from .reports import refuse
from .settings import camera_info, result_info
from .versions import is_version
from .view_through_photo import result_root

if TYPE_CHECKING:
    from .reports import Outcome


class MAQUETTE_OT_regenerate(bpy.types.Operator):
    """Make this result again from what it was made of, with its stored settings and seed; the old mesh is hidden"""

    bl_idname = "maquette.regenerate"
    bl_label = "Regenerate"
    bl_options = {"REGISTER"}  # the import that follows is the undo step

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """A result that was made of photos has to be chosen."""
        root = result_root(context)
        if root is None or not result_info(root).settings:
            cls.poll_message_set("Select an object of a result")
            return False
        if not any(is_version(child) for child in root.children):
            cls.poll_message_set("This result has cameras only. Press Image to Mesh, or Estimate Poses again")
            return False
        return engine.is_ready(cls)

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Start the job; without a window also wait for it and import what it made."""
        root = result_root(context)
        info = result_info(root)
        title = root.name.removesuffix(" Root")
        try:
            if info.method in METHODS:
                inputs, chosen = head_inputs(root), json.loads(info.settings)
                request = Request(info.method, inputs, chosen, out=str(jobs.new_result_folder(title)))
            else:
                inputs = tuple(str(path) for path in photos_of(root))
                chosen = stored_settings(info).as_json()
                request = Request("mesh", inputs, chosen, out=str(jobs.new_result_folder(title)))
        except MaquetteError as error:
            return refuse(self, error)
        return jobs.start(self, context.scene, request, title, replaces=info.folder)


def head_inputs(root: bpy.types.Object) -> tuple[str, ...]:
    """What a head was made of: nothing but its settings, its photo, or both heads or photos of a blend.

    Raises:
        InputError: PHOTOS_GONE.
    """
    info = result_info(root)
    if info.method == "head_sample":
        return ()
    if info.method == "head_invert":
        return tuple(str(path) for path in photos_of(root))
    metrics = json.loads(info.metrics or "{}")
    paths = tuple(str(metrics.get(name, "")) for name in ("original", "reference"))
    gone = next((path for path in paths if not Path(path).exists()), None)
    if gone is not None:
        raise InputError(
            "PHOTOS_GONE",
            f"{gone or root.name} is not there any more.",
            "Put the heads and photos back where they lay, or blend anew.",
        )
    return paths


def photos_of(root: bpy.types.Object) -> list[Path]:
    """The photos of a result where they lay, those without a camera too.

    Raises:
        InputError: PHOTOS_GONE, naming the first that is not there.
    """
    paths = [Path(bpy.path.abspath(camera_info(camera).photo_path)) for camera in cameras_of(root)]
    folders = {path.parent for path in paths}
    for name in json.loads(result_info(root).failed or "{}"):
        paths += [folder / name for folder in folders if (folder / name).is_file()][:1]
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        raise InputError(
            "PHOTOS_GONE",
            f"{missing[0]} is not there any more."
            if missing
            else f"{root.name} does not say which photos it is made of.",
            "Put the photos back where they lay, or choose them anew and press Image to Mesh.",
        )
    return sorted(paths)


def stored_settings(info: Any) -> MeshSettings:
    """The settings of the run that a result came from; those of a Re-Extract among them are left out.

    Raises:
        InputError: BAD_SETTING.
    """
    stored = json.loads(info.settings)
    known = MeshSettings().as_json()
    kept = {name: value for name, value in stored.items() if name in known and value is not None}
    return MeshSettings.from_json({**kept, "seed": int(info.seed or 0)})


CLASSES = (MAQUETTE_OT_regenerate,)
