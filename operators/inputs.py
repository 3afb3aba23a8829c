# SPDX-License-Identifier: GPL-3.0-or-later
"""What the artist chose in Blender -> plain paths of picture files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..core.jobs.request import new_job_folder
from .settings import scene_state

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".bmp", ".jp2",
)  # fmt: skip
"""Offered in file browsers and for drops; the engine decides by content."""


def chosen_files(directory: str, files: Iterable[Any]) -> list[Path]:
    """What a file browser or a drop left in an operator's `directory` and `files`."""
    return [Path(bpy.path.abspath(directory), item.name) for item in files if item.name]


def listed_photos(scene: bpy.types.Scene) -> list[Path]:
    """The photos of the sidebar's list."""
    return [Path(bpy.path.abspath(item.path)) for item in scene_state(scene).photos]


def list_photos(scene: bpy.types.Scene, paths: Iterable[Path]) -> int:
    """Add photos to the sidebar's list, each once; returns how many were new."""
    state = scene_state(scene)
    known = {str(path) for path in listed_photos(scene)}
    new = [str(path) for path in dict.fromkeys(paths) if str(path) not in known]
    for path in new:
        state.photos.add().path = path
    return len(new)


def selected_images(context: bpy.types.Context) -> list[bpy.types.Image]:
    """The images of the selected image empties, in the order of their names."""
    empties = [
        item
        for item in context.selected_objects
        if item.type == "EMPTY" and item.empty_display_type == "IMAGE" and item.data is not None
    ]
    return [item.data for item in sorted(empties, key=lambda item: item.name)]


def edited_image(context: bpy.types.Context) -> bpy.types.Image | None:
    """The image of the Image Editor that the mouse is over."""
    space = context.space_data
    return space.image if isinstance(space, bpy.types.SpaceImageEditor) else None


def photos_at_hand(context: bpy.types.Context) -> list[Path]:
    """The sidebar's list, else the selected image empties, else the Image Editor's image.

    Raises:
        InputError: NO_IMAGE, IMAGE_UNUSABLE.
    """
    paths = listed_photos(context.scene)
    if not paths:
        shown = edited_image(context)
        images = selected_images(context) or ([shown] if shown else [])
        paths = files_of_images(images, new_job_folder()) if images else []
    if not paths:
        raise InputError(
            "NO_IMAGE", "No photo is chosen.", "Add one picture of the object, or photos from several sides."
        )
    return paths


def files_of_images(images: Iterable[bpy.types.Image], folder: Path) -> list[Path]:
    """Picture files with what the images show now.

    Args:
        images: an untouched image that still lies on disk is taken from there.
        folder: gets the others: packed files byte for byte, painted and generated images as PNG.

    Raises:
        InputError: IMAGE_UNUSABLE for movies, sequences and images without pixels.
    """
    return [_file_of_image(image, folder) for image in images]


def _file_of_image(image: bpy.types.Image, folder: Path) -> Path:
    if image.source not in ("FILE", "GENERATED"):
        raise InputError(
            "IMAGE_UNUSABLE",
            f"{image.name} is not a single picture.",
            "Save it as a picture and choose that file.",
        )
    if image.source == "FILE" and not image.is_dirty:
        if image.packed_file is None:
            path = Path(bpy.path.abspath(image.filepath, library=image.library))
            if path.is_file():
                return path
        else:
            data: Any = image.packed_file.data
            path = folder / f"{_plain_name(image)}{_suffix_of(data)}"
            path.write_bytes(data)
            return path
    if not image.has_data and image.size[0] == 0:
        raise InputError("IMAGE_UNUSABLE", f"The file of {image.name} is missing.", "Choose the file anew.")
    path = folder / f"{_plain_name(image)}.png"
    save_pixels(image, path)
    return path


def pixels_of(image: Any) -> NDArray[np.float32]:
    """(H, W, 4) float32, row 0 at the bottom."""
    width, height = image.size
    values = np.empty(width * height * 4, np.float32)
    image.pixels.foreach_get(values)
    return values.reshape(height, width, 4)


def save_pixels(image: Any, path: Path, pixels: NDArray[np.float32] | None = None) -> None:
    """Write an image as PNG and leave it as it is (`Image.save` would change its source and path).

    Args:
        pixels: (H, W, 4) in place of its own.
    """
    pixels = pixels_of(image) if pixels is None else pixels
    copy: Any = bpy.data.images.new("Maquette Copy", *image.size, alpha=True, float_buffer=image.is_float)
    try:
        copy.colorspace_settings.name = image.colorspace_settings.name
        copy.alpha_mode = "STRAIGHT"
        copy.pixels.foreach_set(pixels.ravel())
        copy.file_format = "PNG"
        copy.filepath_raw = str(path)
        copy.save()
    finally:
        bpy.data.images.remove(copy)


def _plain_name(image: bpy.types.Image) -> str:
    stem = Path(image.name).stem
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in stem) or "image"


def _suffix_of(data: bytes) -> str:
    signatures = {
        b"\x89PNG": ".png",
        b"\xff\xd8\xff": ".jpg",
        b"RIFF": ".webp",
        b"II*\0": ".tif",
        b"MM\0*": ".tif",
    }
    return next((suffix for start, suffix in signatures.items() if data.startswith(start)), ".png")
