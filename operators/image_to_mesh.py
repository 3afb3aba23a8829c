# SPDX-License-Identifier: GPL-3.0-or-later
"""Image to Mesh: photos from wherever the artist has them -> a job -> (in `import_result`) a textured object."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import bpy
from bpy.props import BoolProperty, CollectionProperty, StringProperty

from ..core.errors import MaquetteError
from ..core.jobs.request import Request
from . import engine, inputs, jobs
from .masks import save_painted_masks
from .mesh_settings import mesh_settings
from .reports import refuse
from .settings import DISPLAY_TYPE, scene_state

if TYPE_CHECKING:
    from .reports import Outcome


class MAQUETTE_OT_image_to_mesh(bpy.types.Operator):
    """Make a textured mesh and matched cameras from photos of an object"""

    bl_idname = "maquette.image_to_mesh"
    bl_label = "Image to Mesh"
    bl_options = {"REGISTER"}  # the import that follows is the undo step

    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    files: CollectionProperty(type=bpy.types.OperatorFileListElement, options={"SKIP_SAVE", "HIDDEN"})
    filter_image: BoolProperty(default=True, options={"SKIP_SAVE", "HIDDEN"})
    filter_folder: BoolProperty(default=True, options={"SKIP_SAVE", "HIDDEN"})
    display_type: DISPLAY_TYPE
    use_browser: BoolProperty(
        name="Choose Files", description="Ask for files first", options={"SKIP_SAVE", "HIDDEN"}
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """The engine has to be there."""
        return engine.is_ready(cls)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> Outcome:
        """Dropped files are shown with the settings first; with no photo anywhere the file browser asks for some."""
        manager = context.window_manager
        if self.files:
            return manager.invoke_props_dialog(self)
        nothing = not (
            inputs.listed_photos(context.scene)
            or inputs.selected_images(context)
            or inputs.edited_image(context)
        )
        if self.use_browser or nothing:
            manager.fileselect_add(self)
            return {"RUNNING_MODAL"}
        return self.execute(context)

    def draw(self, context: bpy.types.Context) -> None:
        """What a drop or the file browser's side bar asks."""
        options = scene_state(context.scene).mesh
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        if self.files and context.area.type != "FILE_BROWSER":
            layout.label(text=f"{len(self.files)} photos")
        layout.prop(options, "quality")
        layout.prop(options, "mask_mode")
        layout.prop(options, "texture_size")

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Start the job; without a window also wait for it and import what it made."""
        scene = context.scene
        options = scene_state(scene).mesh
        try:
            paths = self._photos(context)
            save_painted_masks(options)
            settings = mesh_settings(options, paths)
            title = _title(paths)
            out = jobs.new_result_folder(title)
            request = Request("mesh", tuple(str(p) for p in paths), settings.as_json(), out=str(out))
        except MaquetteError as error:
            return refuse(self, error)
        return jobs.start(self, scene, request, title)

    def _photos(self, context: bpy.types.Context) -> list[Path]:
        """Chosen files, else the list, else the selection, else the Image Editor's image."""
        if self.files:
            paths = inputs.chosen_files(self.directory, self.files)
            scene_state(context.scene).photos.clear()
            inputs.list_photos(context.scene, paths)
            if not bpy.app.background:
                bpy.ops.ed.undo_push(message="Choose Photos")  # so that undoing the mesh keeps the list
            return paths
        return inputs.photos_at_hand(context)


def _title(paths: list[Path]) -> str:
    """The folder's name where the photos share one, else the first photo's."""
    parents = {path.parent for path in paths}
    return (
        paths[0].parent.name
        if len(parents) == 1 and len(paths) > 1 and paths[0].parent.name
        else paths[0].stem
    )


CLASSES = (MAQUETTE_OT_image_to_mesh,)
