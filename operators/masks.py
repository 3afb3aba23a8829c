# SPDX-License-Identifier: GPL-3.0-or-later
"""Edit Mask: a photo of a result with its mask as transparency, in the Image Editor for painting; the next run uses it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np
from bpy.props import StringProperty
from numpy.typing import NDArray

from ..core.cameras.photo_frame import at_most, to_photo, to_view
from ..core.errors import InputError, MaquetteError
from . import inputs, jobs
from .cameras import cameras_of, read_lens
from .compat import hide_uvs
from .reports import refuse
from .settings import camera_info, result_info, scene_state
from .view_through_photo import result_root

if TYPE_CHECKING:
    from .reports import Outcome

MASKS = "masks"
"""Folder of a Result with the masks that were used: `STEM.png` over the original photo, white where the object is."""
KEY, LENS = "maquette_mask", "maquette_lens"
"""Custom properties of an image that is painted: stem of its photo, and `CameraInfo.lens`: an artist paints on the
undistorted photo, but mask files lie over the photo as the lens took it.
"""


class MAQUETTE_OT_edit_mask(bpy.types.Operator):
    """Open the photo that is looked through in the Image Editor: erase alpha where the object is not, add it where it is"""

    bl_idname = "maquette.edit_mask"
    bl_label = "Edit Mask"
    bl_options = {"REGISTER", "UNDO"}

    photo: StringProperty(
        name="Photo",
        description="File name of a photo; empty: the one that is looked through",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """The masks of a result are corrected; there is nothing to correct before."""
        root = result_root(context)
        if root is None or not cameras_of(root):
            cls.poll_message_set("Make a mesh first, a draft will do; its masks can be corrected then")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> Outcome:
        """The scene's camera where it is one of the result's, else the first."""
        root = result_root(context)
        cameras = cameras_of(root)
        camera = context.scene.camera if context.scene.camera in cameras else cameras[0]
        if self.photo:
            named = [item for item in cameras if camera_info(item).photo == self.photo]
            if not named:
                self.report(
                    {"ERROR"}, f"The chosen result has no camera for {self.photo}. Choose another photo."
                )
                return {"CANCELLED"}
            camera = named[0]
        options = scene_state(context.scene).mesh
        try:
            image = _painted(camera) or _new_image(camera, Path(result_info(root).folder) / MASKS)
            if not options.masks:
                options.masks = str(jobs.new_result_folder(MASKS))
        except MaquetteError as error:
            return refuse(self, error)
        show_for_painting(context, image)
        # The artist's brushes are left as they are: from 4.3 on they belong to a library.
        self.report({"INFO"}, "Paint with a brush that erases alpha, or with the blend mode Add Alpha")
        return {"FINISHED"}


def save_painted_masks(options: Any) -> None:
    """Write every painted mask into the masks folder, over the original photo and white where the image is opaque.

    Raises:
        InputError: OUT_NOT_WRITABLE.
    """
    painted = _all_painted()
    if not painted or not options.masks:
        return
    folder = Path(bpy.path.abspath(options.masks))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "OUT_NOT_WRITABLE", f"The folder {folder} cannot be made.", "Choose another folder for the masks."
        ) from error
    for image in painted:
        photo, view = read_lens(image[LENS])
        mask = to_photo(inputs.pixels_of(image)[::-1, :, 3], view, at_most(photo, max(image.size)))[::-1]
        pixels = np.repeat(mask[..., None], 4, 2)
        pixels[..., 3] = 1.0
        copy: Any = bpy.data.images.new("Maquette Mask", *mask.shape[::-1])
        try:
            copy.colorspace_settings.name = "Non-Color"
            _fill(copy, pixels)
            inputs.save_pixels(copy, folder / f"{image[KEY]}.png")
        finally:
            bpy.data.images.remove(copy)


def _stem(camera: bpy.types.Object) -> str:
    return Path(camera_info(camera).photo).stem


def _all_painted() -> list[Any]:
    images: Any = bpy.data.images
    return [image for image in images if KEY in image]


def _painted(camera: bpy.types.Object) -> Any:
    """The image in which this photo's mask has been painted before, else None."""
    return next((image for image in _all_painted() if image[KEY] == _stem(camera)), None)


def _new_image(camera: Any, masks: Path) -> Any:
    """The undistorted photo with the mask that was used as its alpha; opaque where none was."""
    backgrounds = camera.data.background_images
    if not backgrounds or backgrounds[0].image is None or not backgrounds[0].image.size[0]:
        raise InputError("PHOTO_GONE", f"{camera.name} has no photo any more.", "Import the result again.")
    photo = backgrounds[0].image
    pixels = inputs.pixels_of(photo)
    pixels[..., 3] = 1.0
    path = masks / f"{_stem(camera)}.png"
    if path.is_file():
        mask: Any = bpy.data.images.load(str(path))
        try:
            mask.colorspace_settings.name = "Non-Color"
            source, view = read_lens(camera_info(camera).lens)
            over_photo = inputs.pixels_of(mask)[::-1, :, 0]
            pixels[..., 3] = to_view(over_photo, source, view.resized(*photo.size))[::-1]
        finally:
            bpy.data.images.remove(mask)
    image: Any = bpy.data.images.new(f"Mask {_stem(camera)}", *photo.size, alpha=True)
    image[KEY], image[LENS] = _stem(camera), camera_info(camera).lens
    _fill(image, pixels)
    image.pack()
    return image


def _fill(image: Any, pixels: NDArray[np.float32]) -> None:
    image.pixels.foreach_set(np.ascontiguousarray(pixels).ravel())
    image.update()


def show_for_painting(context: bpy.types.Context, image: bpy.types.Image) -> None:
    """In an Image Editor that is open, else in a new window, ready to paint.

    The window opens after the operator's end: where areas change while a button's click is still handled, Blender 4.3 crashes.
    """
    if bpy.app.background:
        return
    area = next((area for area in context.screen.areas if area.type == "IMAGE_EDITOR"), None)
    if area is None:
        bpy.app.timers.register(partial(_open_window, context.window, image.name), first_interval=0.0)
    else:
        _paint_in(area, image)


def _open_window(window: bpy.types.Window, name: str) -> None:
    image: Any = bpy.data.images.get(name)
    if image is None:  # undone meanwhile
        return
    with bpy.context.temp_override(window=window):
        bpy.ops.wm.window_new()
    area: Any = bpy.context.window_manager.windows[-1].screen.areas[0]
    area.type = "IMAGE_EDITOR"
    _paint_in(area, image)


def _paint_in(area: bpy.types.Area, image: bpy.types.Image) -> None:
    space: Any = area.spaces.active
    space.image = image
    space.display_channels = "COLOR_ALPHA"
    space.ui_mode = "PAINT"
    hide_uvs(space)


CLASSES = (MAQUETTE_OT_edit_mask,)
