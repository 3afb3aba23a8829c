# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar's list of photos: adding and removing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import bpy
from bpy.props import BoolProperty, CollectionProperty, EnumProperty, StringProperty

from ..core.errors import MaquetteError
from ..core.jobs.request import new_job_folder
from ..core.results import Result
from . import inputs
from .masks import MASKS
from .reports import refuse
from .settings import DISPLAY_TYPE, scene_state

if TYPE_CHECKING:
    from .reports import Outcome


class MAQUETTE_OT_add_photos(bpy.types.Operator):
    """Add photos to the list; with the next mesh only what depends on them is computed again"""

    bl_idname = "maquette.add_photos"
    bl_label = "Add Photos"
    bl_options = {"REGISTER", "UNDO"}

    source: EnumProperty(
        name="From",
        items=[
            ("FILES", "Files", "Choose files"),
            ("SELECTION", "Selection", "The selected image empties"),
            ("EDITOR", "Image Editor", "The image shown"),
        ],
        options={"SKIP_SAVE"},
    )
    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    files: CollectionProperty(type=bpy.types.OperatorFileListElement, options={"SKIP_SAVE", "HIDDEN"})
    filter_image: BoolProperty(default=True, options={"SKIP_SAVE", "HIDDEN"})
    filter_folder: BoolProperty(default=True, options={"SKIP_SAVE", "HIDDEN"})
    display_type: DISPLAY_TYPE

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        """By source."""
        taken = "Take the photos of the selected image empties"
        if not inputs.selected_images(context):
            taken += ". None is selected"
        return {
            "FILES": "Choose photo files for the next mesh",
            "SELECTION": taken,
            "EDITOR": "Take the image that is shown here",
        }[properties.source]

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> Outcome:
        """Ask for files where files are wanted."""
        if self.source == "FILES" and not self.files:
            context.window_manager.fileselect_add(self)
            return {"RUNNING_MODAL"}
        return self.execute(context)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """The list belongs to the scene."""
        if context.scene.library is not None:
            cls.poll_message_set("This scene belongs to another file")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Add what is not in the list yet."""
        try:
            paths = self._paths(context)
        except MaquetteError as error:
            return refuse(self, error)
        if not paths:
            self.report({"WARNING"}, "No photo is chosen")
            return {"CANCELLED"}
        count = inputs.list_photos(context.scene, paths)
        self.report({"INFO"}, f"{count} photos added")
        return {"FINISHED"}

    def _paths(self, context: bpy.types.Context) -> list[Path]:
        if self.source == "FILES":
            return inputs.chosen_files(self.directory, self.files)
        if self.source == "SELECTION":
            images = inputs.selected_images(context)
        else:
            shown = inputs.edited_image(context)
            images = [shown] if shown else []
        return inputs.files_of_images(images, new_job_folder()) if images else []


def note_outcome(scene: bpy.types.Scene, folder: Path, result: Result) -> None:
    """What a result says of the photos in the list: the grades of their cameras, and which of them have masks."""
    cameras = {camera.source.name: camera.source for camera in result.cameras}
    for item in scene_state(scene).photos:
        name = Path(item.path.replace("\\", "/")).name
        camera = cameras.get(name)
        if camera is not None:
            item.grade, item.reason = camera.grade, camera.reason
        elif name in result.failed:
            item.grade, item.reason = "failed", result.failed[name]
        else:
            item.grade = item.reason = ""
        item.has_mask = (folder / MASKS / f"{Path(name).stem}.png").is_file()


class MAQUETTE_OT_remove_photo(bpy.types.Operator):
    """Take the chosen photo, or all of them, off the list; the file stays"""

    bl_idname = "maquette.remove_photo"
    bl_label = "Remove Photo"
    bl_options = {"REGISTER", "UNDO"}

    use_all: BoolProperty(name="All", description="Empty the list", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Something has to be there."""
        if not scene_state(context.scene).photos:
            cls.poll_message_set("The list is empty")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> Outcome:
        """One or all."""
        state = scene_state(context.scene)
        if self.use_all:
            state.photos.clear()
        else:
            state.photos.remove(state.active_photo)
        state.active_photo = max(0, min(state.active_photo, len(state.photos) - 1))
        return {"FINISHED"}


CLASSES = (MAQUETTE_OT_add_photos, MAQUETTE_OT_remove_photo)
