# SPDX-License-Identifier: GPL-3.0-or-later
"""Blend Heads: a part of a reference, head or photo, on an original; and the picture in which a region is painted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np

from ..core.errors import InputError, MaquetteError
from ..core.head_settings import BlendSettings
from ..core.jobs.request import Request, new_job_folder
from . import inputs, jobs
from .generate_head import shared_settings, stored_head
from .head_options import can_make_heads, head_options
from .masks import show_for_painting
from .reports import refuse

if TYPE_CHECKING:
    from .reports import Outcome

UNPAINTED = 128 / 255
"""Alpha where nothing is painted: the picture has to be seen to be painted over; exact in eight bits. Our choice."""
REGION = "maquette_region"
"""Property of the pictures that were opened for painting a region."""
PICTURE = "picture.png"
"""In the folder of a head's result: the picture over which its regions are painted."""


class MAQUETTE_OT_blend_heads(bpy.types.Operator):
    """Put a part of the reference on the original, in shape and colour, as a new head"""

    bl_idname = "maquette.blend_heads"
    bl_label = "Blend Heads"
    bl_options = {"REGISTER"}  # the import that follows is the undo step

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Original, reference and region have to be chosen."""
        why = _missing(head_options(context.scene))
        if why:
            cls.poll_message_set(why)
            return False
        return can_make_heads(cls, context.scene)

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Start the job; without a window also wait for it and import what it made."""
        options = head_options(context.scene)
        try:
            paths = [_source(options, "original"), _source(options, "reference")]
            chosen: dict[str, Any] = {
                "density": options.density,
                "colour": options.colour,
                "shape_only": options.take == "SHAPE",
                "colour_only": options.take == "COLOUR",
                "poisson": options.use_poisson,
                "align": options.align,
            }
            if options.region == "MASK":
                chosen["mask"] = str(_mask_file(options.mask))
            else:
                chosen["region"] = options.region
            settings = BlendSettings.from_json(shared_settings(context.scene) | chosen).as_json()
            title = f"{_name(options, 'original')} with {_name(options, 'reference')}"
            request = Request(
                "head_blend",
                tuple(str(path) for path in paths),
                settings,
                out=str(jobs.new_result_folder(title)),
            )
        except MaquetteError as error:
            return refuse(self, error)
        return jobs.start(self, context.scene, request, title)


class MAQUETTE_OT_paint_region(bpy.types.Operator):
    """Open the original's picture in the Image Editor: what is painted opaque there is taken from the reference"""

    bl_idname = "maquette.paint_region"
    bl_label = "Paint Region"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """An original has to be chosen."""
        options = head_options(context.scene)
        if options.original is None and not options.original_photo:
            cls.poll_message_set("Choose an original first")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> Outcome:
        """A copy of the picture, faint all over."""
        options = head_options(context.scene)
        try:
            path = _source(options, "original")
            image = _region_image(path / PICTURE if path.is_dir() else path, _name(options, "original"))
        except MaquetteError as error:
            return refuse(self, error)
        options.mask, options.region = image, "MASK"
        show_for_painting(context, image)
        self.report({"INFO"}, "Paint with the blend mode Add Alpha where the reference is to come in")
        return {"FINISHED"}


def _missing(options: Any) -> str:
    """What still has to be chosen; empty: nothing."""
    for name in ("original", "reference"):
        if getattr(options, name) is None and not getattr(options, f"{name}_photo"):
            return f"Choose {'an original' if name == 'original' else 'a reference'}, a head or a photo"
    if options.original is not None and options.original == options.reference:
        return "Original and reference are the same head"
    if options.region == "MASK" and options.mask is None:
        return "Paint a region, or choose one by name"
    return ""


def _source(options: Any, name: str) -> Path:
    """Result folder or photo of the original or the reference.

    Raises:
        InputError: HEAD_GONE, NOT_FOUND.
    """
    item = getattr(options, name)
    if item is not None:
        return stored_head(item)
    path = Path(bpy.path.abspath(getattr(options, f"{name}_photo")))
    if not path.is_file():
        raise InputError("NOT_FOUND", f"{path} does not exist.", "Choose the photo anew.")
    return path


def _name(options: Any, name: str) -> str:
    item = getattr(options, name)
    return item.name if item is not None else Path(getattr(options, f"{name}_photo")).stem


def _region_image(path: Path, name: str) -> Any:
    """The picture with an alpha of `UNPAINTED`, packed.

    Raises:
        InputError: PHOTO_GONE.
    """
    try:
        source: Any = bpy.data.images.load(str(path))
    except RuntimeError as error:
        raise InputError("PHOTO_GONE", f"{path} cannot be read.", "Choose the original anew.") from error
    try:
        pixels = inputs.pixels_of(source)
    finally:
        bpy.data.images.remove(source)
    height, width = pixels.shape[:2]
    pixels[..., 3] = UNPAINTED
    image: Any = bpy.data.images.new(f"Region {name}", width, height, alpha=True)
    image[REGION] = True
    image.pixels.foreach_set(pixels.ravel())
    image.update()
    image.pack()
    return image


def _mask_file(image: Any) -> Path:
    """What was painted, its alpha counted from `UNPAINTED` on; a picture of the artist's own as it is."""
    path = new_job_folder() / "region.png"
    pixels = inputs.pixels_of(image)
    if REGION in image:
        pixels[..., 3] = np.clip((pixels[..., 3] - UNPAINTED) / (1 - UNPAINTED), 0, 1)
    inputs.save_pixels(image, path, pixels)
    return path


CLASSES = (MAQUETTE_OT_blend_heads, MAQUETTE_OT_paint_region)
