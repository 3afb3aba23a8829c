# SPDX-License-Identifier: GPL-3.0-or-later
"""Head from Photo: a portrait -> a textured head, the camera that took it, and the photo behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bpy

from ..core.errors import InputError, MaquetteError
from ..core.head_settings import InvertSettings
from ..core.jobs.request import Request
from . import inputs, jobs
from .generate_head import shared_settings
from .head_options import can_make_heads
from .reports import refuse

if TYPE_CHECKING:
    from .reports import Outcome


class MAQUETTE_OT_head_from_photo(bpy.types.Operator):
    """Make the head of the portrait in the list, or of the selected picture, with the camera that sees it so"""

    bl_idname = "maquette.head_from_photo"
    bl_label = "Head from Photo"
    bl_options = {"REGISTER"}  # the import that follows is the undo step

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """One portrait and the engine have to be there."""
        if len(inputs.listed_photos(context.scene)) > 1:
            cls.poll_message_set("Leave one portrait in the list of photos")
            return False
        return can_make_heads(cls, context.scene)

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Start the job; without a window also wait for it and import what it made."""
        try:
            paths = inputs.photos_at_hand(context)
            if len(paths) != 1:
                raise InputError(
                    "ONE_PICTURE",
                    f"A head is made of one portrait; {len(paths)} are chosen.",
                    "Leave one portrait in the list of photos.",
                )
            title = f"{paths[0].stem} head"
            settings = InvertSettings.from_json(shared_settings(context.scene)).as_json()
            request = Request(
                "head_invert", (str(paths[0]),), settings, out=str(jobs.new_result_folder(title))
            )
        except MaquetteError as error:
            return refuse(self, error)
        return jobs.start(self, context.scene, request, title)


CLASSES = (MAQUETTE_OT_head_from_photo,)
