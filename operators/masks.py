# SPDX-License-Identifier: GPL-3.0-or-later
"""Edit Masks: the masks of a result, or white ones, in the Image Editor for painting; the next run uses them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np

from ..core.errors import InputError, MaquetteError
from . import inputs, jobs
from .reports import refuse
from .settings import result_info, scene_state
from .view_through_photo import result_root

if TYPE_CHECKING:
    from .reports import Outcome

MASKS = "masks"
"""Folder of a Result with the masks that were found: `STEM.png`, white where the object is."""


class MAQUETTE_OT_edit_masks(bpy.types.Operator):
    """Open a mask for every photo of the list in the Image Editor: paint white what belongs to the object, black what does not"""

    bl_idname = "maquette.edit_masks"
    bl_label = "Edit Masks"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Masks belong to photos."""
        if not scene_state(context.scene).photos:
            cls.poll_message_set("Add photos first")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> Outcome:
        """One picture per photo in a masks folder, loaded, the first one shown."""
        options = scene_state(context.scene).mesh
        root = result_root(context)
        found = Path(result_info(root).folder) / MASKS if root else None
        try:
            folder = _masks_folder(options)
            images = [_mask_image(path, folder, found) for path in inputs.listed_photos(context.scene)]
        except MaquetteError as error:
            return refuse(self, error)
        options.masks = str(folder)
        _show(context, images[0])
        self.report({"INFO"}, f"{len(images)} masks open in the Image Editor's list of images")
        return {"FINISHED"}


def save_painted_masks(options: Any) -> None:
    """Write the masks that were painted since; called before they are used."""
    if not options.masks:
        return
    folder = Path(bpy.path.abspath(options.masks)).resolve()
    for image in bpy.data.images:
        if (
            image.is_dirty
            and image.filepath
            and Path(bpy.path.abspath(image.filepath)).resolve().parent == folder
        ):
            image.save()


def _masks_folder(options: Any) -> Path:
    folder = Path(bpy.path.abspath(options.masks)) if options.masks else jobs.new_result_folder("masks")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "OUT_NOT_WRITABLE", f"The folder {folder} cannot be made.", "Choose another folder for the masks."
        ) from error
    return folder


def _mask_image(photo: Path, folder: Path, found: Path | None) -> Any:
    """The mask of one photo as a file image: kept, else the one that was found, else white."""
    path = folder / f"{photo.stem}.png"
    if not path.is_file() and found is not None and (found / path.name).is_file():
        shutil.copyfile(found / path.name, path)
    if not path.is_file():
        _write_white(photo, path)
    image: Any = bpy.data.images.load(str(path), check_existing=True)
    image.colorspace_settings.name = "Non-Color"
    return image


def _write_white(photo: Path, path: Path) -> None:
    """A white PNG of the photo's size; Blender reads the size."""
    try:
        picture = bpy.data.images.load(str(photo))
    except RuntimeError as error:
        raise InputError("IMAGE_UNREADABLE", f"{photo} cannot be read.", "Take it off the list.") from error
    width, height = picture.size
    bpy.data.images.remove(picture)
    white: Any = bpy.data.images.new("Maquette Mask", width, height, alpha=False)
    try:
        white.pixels.foreach_set(np.ones(width * height * 4, np.float32))
        white.file_format = "PNG"
        white.filepath_raw = str(path)
        white.save()
    finally:
        bpy.data.images.remove(white)


def _show(context: bpy.types.Context, image: bpy.types.Image) -> None:
    """In an Image Editor that is open, else in a new window."""
    if context.window is None or bpy.app.background:
        return
    area: Any = next((area for area in context.screen.areas if area.type == "IMAGE_EDITOR"), None)
    if area is None:
        bpy.ops.wm.window_new()
        area = context.window_manager.windows[-1].screen.areas[0]
        area.type = "IMAGE_EDITOR"
    area.spaces.active.image = image
    area.spaces.active.ui_mode = "PAINT"


CLASSES = (MAQUETTE_OT_edit_masks,)
