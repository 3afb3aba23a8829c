# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of pictures that a job made to choose from (candidates, a gallery of heads, a head's sides), packed into the .blend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from ..core.errors import InputError
from .meshes import pack_image


def clear(items: Any) -> None:
    """Empty a collection of rows with `image` and remove their pictures."""
    bpy.data.batch_remove([item.image for item in items if item.image is not None])
    items.clear()


def take_in(
    items: Any,
    folder: Path,
    rows: list[dict[str, Any]],
    name: str,
    fill: Callable[[Any, dict[str, Any]], None],
) -> int:
    """A finished job's rows in place of the earlier ones; returns how many.

    Args:
        items: collection of rows with `image`.
        folder: of the result.
        rows: each with `preview`, a picture file in the folder.
        name: of the images, with the row's keys in braces.
        fill: sets an item's other properties from its row.

    Raises:
        InputError: RESULT_UNREADABLE; the earlier ones stay then.
    """
    images: list[bpy.types.Image] = []
    try:
        for row in rows:
            images.append(bpy.data.images.new(name.format(**row), 1, 1))
            pack_image(images[-1], folder / row["preview"])
    except InputError:
        bpy.data.batch_remove(images)
        raise
    clear(items)
    for row, image in zip(rows, images, strict=True):
        item = items.add()
        item.image = image
        fill(item, row)
    return len(rows)
