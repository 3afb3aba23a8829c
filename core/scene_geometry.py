# SPDX-License-Identifier: GPL-3.0-or-later
"""Geometry of an artist's scene as files: what Blender hands to the engine to solve a camera against. numpy only.

```
geometry.npz        vertices, faces, corner_normals, corner_colors, uvs, face_texture
texture_0.png ...   base colour textures that `face_texture` counts
```
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

FILE = "geometry.npz"


@dataclass
class SceneGeometry:
    """Triangles of everything that is to be matched, in the scene's world."""

    vertices: NDArray[np.float32]
    """(V, 3) float32, world."""
    faces: NDArray[np.int32]
    """(F, 3) int32, counter-clockwise seen from outside."""
    corner_normals: NDArray[np.float32] | None = None
    """(F, 3, 3) float32 unit, world, as the scene shades them; None: flat."""
    corner_colors: NDArray[np.uint8] | None = None
    """(F, 3, 3) uint8 sRGB base colour of each corner; None: one grey."""
    uvs: NDArray[np.float32] | None = None
    """(F, 3, 2) float32, origin at the bottom left, repeating beyond 0..1."""
    face_texture: NDArray[np.int16] | None = None
    """(F,) int16: which texture colours the face; -1: its corner colours."""
    textures: list[Path] = field(default_factory=list)
    """PNG files, sRGB."""


def write(folder: Path, geometry: SceneGeometry) -> Path:
    """Write `geometry.npz` into an existing folder that holds the textures already; returns its path."""
    arrays: dict[str, NDArray[Any]] = {"vertices": geometry.vertices, "faces": geometry.faces}
    for name in ("corner_normals", "corner_colors", "uvs", "face_texture"):
        values = getattr(geometry, name)
        if values is not None:
            arrays[name] = values
    arrays["textures"] = np.array([path.name for path in geometry.textures], np.str_)
    np.savez(folder / FILE, **arrays)  # type: ignore[arg-type]
    return folder / FILE


def read(path: Path) -> SceneGeometry:
    """Inverse of `write`.

    Raises:
        InputError: MESH_UNREADABLE for a file of another kind, EMPTY_GEOMETRY where it holds no triangle.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            geometry = SceneGeometry(
                data["vertices"].astype(np.float32),
                data["faces"].astype(np.int32),
                data.get("corner_normals"),
                data.get("corner_colors"),
                data.get("uvs"),
                data.get("face_texture"),
                [path.parent / name for name in data["textures"]] if "textures" in data else [],
            )
        sound = (
            geometry.vertices.ndim == 2
            and geometry.faces.ndim == 2
            and bool(np.isfinite(geometry.vertices).all())
            and (
                not len(geometry.faces)
                or 0 <= geometry.faces.min() <= geometry.faces.max() < len(geometry.vertices)
            )
        )
        if not sound:
            raise ValueError("indices or coordinates are broken")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "MESH_UNREADABLE", f"{path} holds no geometry that can be read.", "Start the job again."
        ) from error
    if not len(geometry.faces):
        raise InputError(
            "EMPTY_GEOMETRY",
            "There is no surface to match the photo with.",
            "Select or show a mesh that the photo shows.",
        )
    return geometry
