# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture of a mesh with its texture in numpy alone, for the preview of an asset: works without a window or a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 256
"""Pixels of a side, what Blender keeps of an asset's preview."""
SAMPLES = 1_500_000
"""Points on the surface: over 20 a pixel, so that a hole in what is seen is rarer than one in a million. Our choice."""
TURN, TILT = np.radians(30.0), np.radians(20.0)
"""The camera's place to the right of the front (-Y), and above the horizon."""


def picture_of(item: Any) -> NDArray[np.float32]:
    """(SIZE, SIZE, 4) float32 in 0..1, display-encoded, row 0 at the bottom, straight alpha: parallel view from the front
    right, light from the camera's left.

    Args:
        item: mesh object with faces; its first material's base colour texture or the colour attribute colours it.
    """
    data = item.data
    data.calc_loop_triangles()
    count = len(data.loop_triangles)
    points = _get(data.vertices, "co", 3 * len(data.vertices), np.float32).reshape(-1, 3)
    faces = _get(data.loop_triangles, "vertices", 3 * count, np.int32).reshape(-1, 3)
    loops = _get(data.loop_triangles, "loops", 3 * count, np.int32).reshape(-1, 3)
    world = np.array(item.matrix_world, np.float64)
    corners = (points @ world[:3, :3].T + world[:3, 3])[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1)
    chosen, weights = _spread(area, min(SAMPLES, 400 * SIZE * SIZE))
    here = np.einsum("nk,nkd->nd", weights, corners[chosen])
    light = 0.35 + 0.65 * np.clip(cross @ _LIGHT / np.maximum(area, 1e-20), 0, 1)[chosen]
    colour = _colours(item, data, faces, loops, chosen, weights) * light[:, None] ** (1 / 2.2)
    return _drawn(here, colour)


def _axes() -> NDArray[np.float64]:
    """(3, 3): right, up and towards the viewer in the world."""
    back = np.array([np.sin(TURN) * np.cos(TILT), -np.cos(TURN) * np.cos(TILT), np.sin(TILT)])
    right = np.array([np.cos(TURN), np.sin(TURN), 0.0])
    return np.stack([right, np.cross(back, right), back])


_LIGHT = _axes().T @ (np.array([-0.4, 0.5, 0.77]) / np.linalg.norm([-0.4, 0.5, 0.77]))


def _spread(area: NDArray[np.float64], samples: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """(face of each sample (N,), its barycentric weights (N, 3)): even over the surface, the same every time."""
    rng = np.random.default_rng(0)
    bounds = np.cumsum(area)
    chosen = np.searchsorted(bounds, (np.arange(samples) + 0.5) / samples * bounds[-1])
    chosen = np.minimum(chosen, len(area) - 1)
    u, v = rng.random((2, samples))
    over = u + v > 1
    u[over], v[over] = 1 - u[over], 1 - v[over]
    return chosen, np.stack([1 - u - v, u, v], 1)


def _drawn(points: NDArray[np.float64], colour: NDArray[Any]) -> NDArray[np.float32]:
    """The nearest point of each pixel."""
    seen = points @ _axes().T
    low, high = seen[:, :2].min(0), seen[:, :2].max(0)
    scale = 0.92 * SIZE / max(float((high - low).max()), 1e-12)
    pixel = np.clip(((seen[:, :2] - (low + high) / 2) * scale + SIZE / 2).astype(np.int64), 0, SIZE - 1)
    at = pixel[:, 1] * SIZE + pixel[:, 0]
    order = np.lexsort((-seen[:, 2], at))
    first, where = np.unique(at[order], return_index=True)
    picture = np.zeros((SIZE * SIZE, 4), np.float32)
    picture[first, :3] = colour[order[where]]
    picture[first, 3] = 1.0
    return picture.reshape(SIZE, SIZE, 4)


def _colours(
    item: Any,
    data: Any,
    faces: NDArray[Any],
    loops: NDArray[Any],
    chosen: NDArray[Any],
    weights: NDArray[Any],
) -> NDArray[np.float32]:
    """(N, 3) display-encoded colours of the samples."""
    image = _base_image(item)
    if image is not None and data.uv_layers:
        uvs = _get(data.uv_layers.active.uv, "vector", 2 * len(data.loops), np.float32).reshape(-1, 2)
        at = np.einsum("nk,nkd->nd", weights, uvs[loops[chosen]])
        width, height = image.size
        pixels = _get(image, "pixels", 4 * width * height, np.float32).reshape(height, width, 4)
        across = np.clip((at[:, 0] * width).astype(np.int64), 0, width - 1)
        up = np.clip((at[:, 1] * height).astype(np.int64), 0, height - 1)
        return np.asarray(pixels[up, across, :3])
    layer = data.color_attributes.active_color
    if layer is not None and layer.domain == "POINT":
        values = _get(layer.data, "color_srgb", 4 * len(layer.data), np.float32).reshape(-1, 4)[:, :3]
        return np.asarray(np.einsum("nk,nkd->nd", weights, values[faces[chosen]]), np.float32)
    return np.full((len(chosen), 3), 0.8, np.float32)


def _base_image(item: Any) -> Any:
    """The picture of the first material's base colour; None where it has none with pixels."""
    material = item.material_slots[0].material if item.material_slots else None
    nodes = material.node_tree.nodes if material is not None and material.node_tree is not None else ()
    for node in nodes:
        if node.bl_idname == "ShaderNodeTexImage" and node.image is not None and node.image.size[0]:
            return node.image
    return None


def _get(collection: Any, name: str, length: int, kind: Any) -> NDArray[Any]:
    values = np.empty(length, kind)
    if name == "pixels":
        collection.pixels.foreach_get(values)
    else:
        collection.foreach_get(name, values)
    return values
