# SPDX-License-Identifier: GPL-3.0-or-later
"""A generator's own pictures beside a result: for its texture they are photos like any other (DESIGN section 1, `Picture`).

`pictures/NAME.png` (alpha: what belongs to the object) and `pictures/cameras.json`. They are no cameras of the result: nobody
took them, and Blender shows none of them; Re-Bake finds them here.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..results import camera_as_json, camera_from_json
from ..types import View

FOLDER = "pictures"
RIM = 0.02
"""Share of a picture's side next to its border that is not trusted: convolutions have seen zeros beyond it."""


def write_pictures(folder: Path, views: list[View]) -> None:
    """Keep the views in a Result folder; an empty list leaves nothing."""
    if not views:
        return
    (folder / FOLDER).mkdir(exist_ok=True)
    for view in views:
        planes = view.rgb if view.mask is None else np.dstack([view.rgb, view.mask])
        pixels = (planes * 255 + 0.5).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / FOLDER / f"{view.camera.name}.png", compress_level=1)
    listed = [camera_as_json(view.camera) for view in views]
    (folder / FOLDER / "cameras.json").write_text(json.dumps(listed), encoding="utf-8")


def read_pictures(folder: Path) -> list[View]:
    """Inverse of `write_pictures`; nothing where there are none."""
    listed = folder / FOLDER / "cameras.json"
    if not listed.is_file():
        return []
    views = []
    for data in json.loads(listed.read_text(encoding="utf-8")):
        camera = camera_from_json(data)
        with Image.open(folder / FOLDER / f"{camera.name}.png") as image:
            planes = np.asarray(image, np.float32) / np.float32(255)
        mask = np.ascontiguousarray(planes[..., 3], np.float32) if planes.shape[2] == 4 else None
        views.append(View(camera, np.ascontiguousarray(planes[..., :3]), mask, without_rim(planes.shape[:2])))
    return views


def without_rim(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """(H, W) float32: 0 next to the border, 1 elsewhere."""
    height, width = shape[:2]
    rim = max(1, round(RIM * max(height, width)))
    out = np.zeros((height, width), np.float32)
    out[rim : height - rim, rim : width - rim] = 1
    return out
