# SPDX-License-Identifier: GPL-3.0-or-later
"""Estimate Poses: photos -> a job -> (in `import_result`) cameras with grades and a cloud of sparse points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bpy

from ..core.errors import InputError, MaquetteError
from ..core.jobs.request import Request
from . import engine, inputs, jobs
from .animated_camera import frame_numbers
from .reports import refuse
from .settings import scene_state

if TYPE_CHECKING:
    from .reports import Outcome


class MAQUETTE_OT_estimate_poses(bpy.types.Operator):
    """Find where each photo of the list was taken from: cameras in a collection, without a mesh"""

    bl_idname = "maquette.estimate_poses"
    bl_label = "Estimate Poses"
    bl_options = {"REGISTER"}  # the import that follows is the undo step

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Photos and the engine have to be there."""
        photos = scene_state(context.scene).photos
        if not photos and not inputs.selected_images(context) and not inputs.edited_image(context):
            cls.poll_message_set("Add photos to the list first")
            return False
        return engine.is_ready(cls)

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Start the job; without a window also wait for it and import what it made."""
        state = scene_state(context.scene)
        options, mesh = state.poses, state.mesh
        try:
            paths = inputs.photos_at_hand(context)
            if len(paths) == 1 and paths[0].is_file():
                raise InputError(
                    "ONE_PICTURE",
                    "One photo does not tell where it was taken from.",
                    "Add photos of the same thing from other places, or use Align Camera with geometry that is there.",
                )
            if options.use_sequence:
                frame_numbers([path.name for path in paths])  # refused now rather than after the work
            settings = {
                "method": options.method,
                "quality": mesh.quality,
                "cameras": bpy.path.abspath(mesh.cameras),
                "masks": bpy.path.abspath(mesh.masks),
                "mask_mode": mesh.mask_mode,
                "device": mesh.device,
                "seed": mesh.seed,
                "sequence": options.use_sequence,
            }
            title = f"{paths[0].parent.name or paths[0].stem} cameras"
            request = Request(
                "poses", tuple(str(path) for path in paths), settings, out=str(jobs.new_result_folder(title))
            )
        except MaquetteError as error:
            return refuse(self, error)
        return jobs.start(self, context.scene, request, title)


CLASSES = (MAQUETTE_OT_estimate_poses,)
