# SPDX-License-Identifier: GPL-3.0-or-later
"""The one z-buffer for triangle meshes, in plain torch: no compiler, CPU and CUDA, memory bounded.

Every triangle is cut into pixel rows, every row into one span of pixels, and the spans compete for the pixels in one
scatter. The ends of a span are the crossings of the row of pixel centres with two edges. A crossing is computed from
the edge alone, its ends ordered by height, so both triangles of a shared edge find the same number, and half-open
spans (`left <= centre < right`) cover every pixel centre exactly once: no cracks, no double pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..types import Camera

CHUNK = 1 << 20
"""Rows, and pixels, handled at once: about 100 MB of temporaries. Our choice: larger is not faster on 2 cores."""
FACE_BITS = (1 << 31) - 1


@dataclass(frozen=True)
class Raster:
    """What a mesh shows in each pixel."""

    face: Tensor
    """(H, W) int32: index of the nearest face, -1 where there is none."""
    barycentric: Tensor
    """(H, W, 3) float32: perspective-correct weights of the face's corners, sum 1; 0 where there is no face."""
    depth: Tensor
    """(H, W) float32: z-depth in units of the vertices, infinite where there is no face."""


def camera_points(vertices: Tensor, camera: Camera) -> Tensor:
    """World (V, 3) -> camera frame (V, 3) float32, OpenCV axes. Computed in float64 where the device has it."""
    dtype = torch.float32 if vertices.device.type == "mps" else torch.float64
    pose = torch.as_tensor(camera.world_to_cam, dtype=dtype, device=vertices.device)
    return (vertices.to(dtype) @ pose[:3, :3].T + pose[:3, 3]).float()


def rasterize(
    vertices: Tensor, faces: Tensor, camera: Camera, near: float | None = None, cull: bool = False
) -> Raster:
    """Z-buffer a mesh as the camera sees it; `Raster` has the camera's width and height.

    Args:
        vertices: (V, 3) float32, the camera's world.
        faces: (F, 3) integer, counter-clockwise seen from outside.
        camera: without distortion.
        near: z-depth of the clipping plane in units of the vertices; None: 1e-4 of the farthest vertex.
        cull: leave out faces that show their back (twice as fast on closed meshes).

    The nearest face wins; of equally near faces the one with the lowest index. Not differentiable.
    """
    assert faces.ndim == 2 and faces.shape[1] == 3, faces.shape
    points, faces = camera_points(vertices, camera), faces.long()
    if near is None:
        near = 1e-4 * max(float(points[:, 2].max()) if len(points) else 1.0, 1e-6)
    clipped, corners, source = _clip_near(points, faces, near)
    inverse = 1.0 / clipped[:, 2].clamp_min(near)
    screen = torch.stack(
        [camera.fx * clipped[:, 0] * inverse + camera.cx, camera.fy * clipped[:, 1] * inverse + camera.cy], 1
    )
    if cull:
        a, b, c = screen[corners].unbind(1)
        # Image rows run downwards, so an outward face that is counter-clockwise in space has negative area here.
        front = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) < (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])
        corners, source = corners[front], source[front]
    face = _nearest_faces(screen, inverse, corners, source, camera.width, camera.height)
    y, x = torch.meshgrid(
        torch.arange(camera.height, device=points.device),
        torch.arange(camera.width, device=points.device),
        indexing="ij",
    )
    rays = torch.stack([(x + 0.5 - camera.cx) / camera.fx, (y + 0.5 - camera.cy) / camera.fy], -1).float()
    return _interpolate(points, faces, face, rays)


def rasterize_uv(uvs: Tensor, size: int, rows: tuple[int, int] | None = None) -> Raster:
    """Which face, and where in it, each texel of a square texture shows (depth is 1 everywhere there is a face).

    Args:
        uvs: (F, 3, 2) float32 corner UVs, origin at the bottom left.
        size: texels per side; row 0 of the result is the top of the texture.
        rows: only rows first .. last - 1 of it, so that large textures can be worked off in strips.
    """
    first, last = rows or (0, size)
    flat = uvs.reshape(-1, 2).float()
    screen = torch.stack([flat[:, 0] * size, (1.0 - flat[:, 1]) * size - first], 1)
    corners = torch.arange(len(flat), device=flat.device).reshape(-1, 3)
    source = torch.arange(len(uvs), device=flat.device)
    face = _nearest_faces(screen, torch.ones_like(flat[:, 0]), corners, source, size, last - first)
    y, x = torch.meshgrid(
        torch.arange(last - first, device=flat.device), torch.arange(size, device=flat.device), indexing="ij"
    )
    points = torch.cat([screen, torch.ones_like(screen[:, :1])], 1)
    return _interpolate(points, corners, face, torch.stack([x + 0.5, y + 0.5], -1))


def _clip_near(points: Tensor, faces: Tensor, near: float) -> tuple[Tensor, Tensor, Tensor]:
    """Cut faces at z = near: (points and cut points, (F', 3) corners, (F',) index of the face each came from)."""
    inside = points[:, 2] >= near
    count = inside[faces].sum(1)
    source = torch.arange(len(faces), device=faces.device)
    if bool((count == 3).all()):
        return points, faces, source
    pieces, origins, extra = [faces[count == 3]], [source[count == 3]], [points]
    total = len(points)
    for alone in (1, 2):  # one corner in front: a triangle is left; two: a quadrilateral
        index = torch.nonzero(count == alone).squeeze(1)
        if not len(index):
            continue
        # Turn each face so that its odd corner (the only one in front, or the only one behind) comes first.
        odd = (inside[faces[index]] == (alone == 1)).int().argmax(1, keepdim=True)
        turned = faces[index].gather(1, (odd + torch.arange(3, device=faces.device)) % 3)
        first, second, third = turned.unbind(1)
        kept = ((first, second), (first, third)) if alone == 1 else ((second, first), (third, first))
        for front, back in kept:  # always from front to back: both faces of a cut edge get the same point
            a, b = points[front], points[back]
            cut = a + (b - a) * ((a[:, 2:] - near) / (a[:, 2:] - b[:, 2:]))
            extra.append(torch.cat([cut[:, :2], torch.full_like(cut[:, 2:], near)], 1))
        p = total + torch.arange(len(index), device=faces.device)
        q = p + len(index)
        total += 2 * len(index)
        if alone == 1:
            pieces.append(torch.stack([first, p, q], 1))
            origins.append(index)
        else:
            pieces += [torch.stack([second, third, q], 1), torch.stack([second, q, p], 1)]
            origins += [index, index]
    return torch.cat(extra), torch.cat(pieces), torch.cat(origins)


def _nearest_faces(
    screen: Tensor, inverse: Tensor, corners: Tensor, source: Tensor, width: int, height: int
) -> Tensor:
    """Screen (P, 2) pixels, inverse depth (P,), corners (F, 3) -> (H, W) int32 number `source` of the nearest face."""
    device = screen.device
    if device.type == "mps":  # has no 64-bit scatter
        screen, inverse, corners, source = screen.cpu(), inverse.cpu(), corners.cpu(), source.cpu()
    best = torch.zeros(height * width, dtype=torch.int64, device=screen.device)
    for pixel, nearness, owner in spans(screen, inverse, corners, width, height):
        # Positive floats order like their bits: one integer holds nearness first, then the lower face number.
        key = (nearness.view(torch.int32).long() << 32) | (FACE_BITS - source[owner])
        best.scatter_reduce_(0, pixel, key, "amax")
    face = torch.where(best > 0, FACE_BITS - (best & FACE_BITS), -1)
    return face.int().reshape(height, width).to(device)


def spans(
    screen: Tensor, inverse: Tensor, corners: Tensor, width: int, height: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Every (pixel, triangle) pair in which the triangle covers the pixel's centre, in chunks.

    Yields:
        (N,) pixel index row * width + column, (N,) float32 inverse depth there, (N,) row of `corners`.
    """
    # A triangle narrower than the gap between two rows or columns of pixel centres covers none; most of a fine mesh does.
    low, high = (
        torch.stack(
            [(end - 0.5).ceil().clamp(0, limit) for end, limit in zip(ends, (width, height), strict=True)]
        )
        for ends in (screen[corners].amin(1).unbind(1), screen[corners].amax(1).unbind(1))
    )
    keep = torch.nonzero((low < high).all(0)).squeeze(1)
    corners = corners.index_select(0, keep)
    corners = corners.gather(1, screen[:, 1][corners].argsort(1))  # top, middle, bottom
    (x0, y0), (x1, y1), (x2, y2) = (screen[corners[:, i]].unbind(1) for i in range(3))
    w0, w1, w2 = inverse[corners].unbind(1)
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    safe = torch.where(area == 0, torch.ones_like(area), area)
    step_x = torch.where(area == 0, 0.0, ((w1 - w0) * (y2 - y0) - (w2 - w0) * (y1 - y0)) / safe)
    step_y = torch.where(area == 0, 0.0, ((x1 - x0) * (w2 - w0) - (x2 - x0) * (w1 - w0)) / safe)
    lowest, highest = torch.minimum(torch.minimum(w0, w1), w2), torch.maximum(torch.maximum(w0, w1), w2)
    long_slope, upper_slope, lower_slope = (x2 - x0) / (y2 - y0), (x1 - x0) / (y1 - y0), (x2 - x1) / (y2 - y1)
    first = (y0 - 0.5).ceil().clamp(0, height).long()
    rows = (y2 - 0.5).ceil().clamp(0, height).long() - first
    columns = (x0, y0, x1, y1, w0, step_x, step_y, lowest, highest, long_slope, upper_slope, lower_slope)
    table = torch.stack(columns, 1)
    for owner, offset in _unroll(rows):
        row = first.index_select(0, owner) + offset
        x0, y0, x1, y1, w0, step_x, step_y, lowest, highest, long_slope, upper_slope, lower_slope = (
            table.index_select(0, owner).T.contiguous().unbind(0)
        )
        y = row + 0.5
        upper = y < y1
        long = x0 + (y - y0) * long_slope
        short = torch.where(upper, x0, x1) + (y - torch.where(upper, y0, y1)) * torch.where(
            upper, upper_slope, lower_slope
        )
        start = (torch.minimum(long, short) - 0.5).ceil().clamp(0, width)
        length = (torch.maximum(long, short) - 0.5).ceil().clamp(0, width) - start
        here = w0 + step_y * (y - y0) + step_x * (start + 0.5 - x0)
        # Slivers have wild gradients: both ends of the span are held between the corners' depths.
        there = (here + step_x * (length - 1)).clamp(lowest, highest)
        here = here.clamp(lowest, highest)
        slope = (there - here) / (length - 1).clamp_min(1)
        base = row * width + start.long()
        for span, step in _unroll(length.long()):
            pixel = base.index_select(0, span) + step
            yield (
                pixel,
                here.index_select(0, span) + slope.index_select(0, span) * step,
                keep[owner.index_select(0, span)],
            )


def _unroll(counts: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Repeat index i `counts[i]` times and number its copies: (index, copy), at most CHUNK at once."""
    if not len(counts):
        return
    ends = counts.cumsum(0)
    total = int(ends[-1])
    for start in range(0, total, CHUNK):
        stop = min(start + CHUNK, total)
        lo = int(torch.searchsorted(ends, start, right=True))
        hi = int(torch.searchsorted(ends, stop)) + 1
        begins = ends[lo:hi] - counts[lo:hi]
        lengths = ends[lo:hi].clamp_max(stop) - begins.clamp_min(start)
        index = torch.repeat_interleave(lengths, output_size=stop - start)
        copy = torch.arange(start, stop, device=counts.device) - begins.index_select(0, index)
        yield index + lo, copy


def _interpolate(points: Tensor, faces: Tensor, face: Tensor, rays: Tensor) -> Raster:
    """Meet the ray (x, y, 1) of each covered pixel with its face's plane: barycentrics and depth.

    Camera-space points (V, 3), faces (F, 3), face (H, W), rays (H, W, 2). This needs no division by a corner's depth
    and so holds for faces cut by the near plane as well.
    """
    height, width = face.shape
    barycentric = torch.zeros((height * width, 3), device=points.device)
    depth = torch.full((height * width,), torch.inf, device=points.device)
    flat = face.reshape(-1)
    pixel = torch.nonzero(flat >= 0).squeeze(1)
    row = flat.index_select(0, pixel).long()
    if len(pixel) < len(faces):  # a fine mesh in a small picture: most faces show nowhere
        faces, row = faces.index_select(0, row), torch.arange(len(pixel), device=points.device)
    if len(pixel):
        a, b, c = points[faces].unbind(1)
        normal = torch.linalg.cross(b - a, c - a)
        square = (normal * normal).sum(1, keepdim=True).clamp_min(1e-38)
        weight_b = torch.linalg.cross(c - a, normal) / square
        weight_c = torch.linalg.cross(normal, b - a) / square
        unit = normal / square.sqrt()
        table = torch.cat([a, b, c, unit, (unit * a).sum(1, keepdim=True), weight_b, weight_c], 1)
    for start in range(0, len(pixel), CHUNK):
        part = pixel[start : start + CHUNK]
        here = table.index_select(0, row[start : start + CHUNK])
        ray = torch.nn.functional.pad(rays.reshape(-1, 2).index_select(0, part), (0, 1), value=1.0)
        slant = (here[:, 9:12] * ray).sum(1)
        slant = torch.where(slant.abs() < 1e-12, 1e-12, slant)
        z = torch.minimum(torch.maximum(here[:, 12] / slant, here[:, 2:9:3].amin(1)), here[:, 2:9:3].amax(1))
        offset = ray * z[:, None] - here[:, :3]
        second = (offset * here[:, 13:16]).sum(1)
        third = (offset * here[:, 16:19]).sum(1)
        weights = torch.stack([1.0 - second - third, second, third], 1).clamp_min(0.0)
        weights = weights / weights.sum(1, keepdim=True)
        barycentric[part] = weights
        depth[part] = (weights * here[:, 2:9:3]).sum(1)
    return Raster(face, barycentric.reshape(height, width, 3), depth.reshape(height, width))
