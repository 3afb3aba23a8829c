# SPDX-License-Identifier: GPL-3.0-or-later
"""The texels of a texture as points of the surface: which views see each best, and the colours they have there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..fields.field import Field
from ..progress import Progress
from ..render.rasterize import rasterize_uv
from ..render.shade import pyramid, sample_minified, texels_per_unit
from ..types import Mesh, View
from .visibility import Sight, look

BEST = 3
"""Views blended per texel."""
STRIP = 1 << 18
"""Texels handled at once."""


@dataclass
class Texels:
    """The T texels of some rows of a texture that show the mesh."""

    index: Tensor
    """(T,) int32: row * size + column, row 0 at the top of the texture."""
    face: Tensor
    """(T,) int32."""
    point: Tensor
    """(T, 3) float32, the mesh's frame."""
    seen: Tensor
    """(T,) float32: 0 invented .. 1 observed."""
    view: Tensor
    """(T, BEST) int16, best first."""
    score: Tensor
    """(T, BEST) float16: score over that of the best, 0 where there is no such view."""
    colour: Tensor
    """(T, BEST, 3) float16 sRGB from the photos."""
    invented: Tensor
    """(T, 3) float16 sRGB: the field's colour, where it was asked."""


@dataclass(frozen=True)
class Surface:
    """What stays the same for all texels."""

    vertices: Tensor
    """(V, 3) float32."""
    faces: Tensor
    """(F, 3) int64."""
    normals: Tensor
    """(V, 3) float32, unit."""
    uvs: Tensor
    """(F, 3, 2) float32."""

    @staticmethod
    def of(mesh: Mesh, device: torch.device) -> Surface:
        """The mesh on a device."""
        vertices = torch.as_tensor(mesh.vertices, device=device)
        faces = torch.as_tensor(mesh.faces, device=device).long()
        return Surface(
            vertices, faces, vertex_normals(vertices, faces), torch.as_tensor(mesh.uvs, device=device)
        )


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """(V, 3) float32 unit normals, means of the faces around weighted by area."""
    a, b, c = vertices[faces].unbind(1)
    face_normal = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total.index_add_(0, faces[:, corner], face_normal)
    return torch.nn.functional.normalize(total, dim=1)


def look_from_all(sights: list[Sight], points: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    """(N, views) seen 0..1 and (N, views) score: trust * cos^4 * pixels per unit of length."""
    seen = torch.zeros((len(points), len(sights)), device=points.device)
    score = torch.zeros_like(seen)
    if not sights:
        return seen, score
    centres = np.stack([sight.camera.centre for sight in sights])
    # One product tells which views a point faces at all; only those are looked at.
    facing = normals @ torch.as_tensor(centres, dtype=torch.float32, device=points.device).T
    facing -= (normals * points).sum(1, keepdim=True)
    for number, sight in enumerate(sights):
        index = torch.nonzero(facing[:, number] > 0).squeeze(1)
        trust, cosine, z = look(sight, points[index], normals[index])
        cosine = cosine.clamp_min(0.0)
        seen[index, number] = trust * ((cosine - 0.1) / 0.25).clamp(0, 1)
        score[index, number] = trust * cosine**4 * sight.camera.fx / z.clamp_min(1e-6)
    return seen, score


def gather(
    surface: Surface,
    sights: list[Sight],
    views: list[View],
    field: Field | None,
    size: int,
    rows: tuple[int, int],
    progress: Progress,
) -> Texels:
    """Texels of rows first .. last - 1 of a size x size texture, with the colours of their best views and of the field."""
    texels = _survey(surface, sights, field, size, rows, progress)
    density = texels_per_unit(surface.vertices, surface.faces, surface.uvs, size)
    for number, view in enumerate(views):
        progress.check()
        _take_colours(texels, number, view, density)
    return texels


def _survey(
    surface: Surface,
    sights: list[Sight],
    field: Field | None,
    size: int,
    rows: tuple[int, int],
    progress: Progress,
) -> Texels:
    """Where every texel lies on the surface, its best views, and the field's colour where photos do not suffice."""
    step = max(1, STRIP // size)
    best = min(BEST, len(sights))
    strips: list[tuple[Tensor, ...]] = []
    for start in range(rows[0], rows[1], step):
        progress.check()
        raster = rasterize_uv(surface.uvs, size, (start, min(start + step, rows[1])))
        local = torch.nonzero(raster.face.reshape(-1) >= 0).squeeze(1)
        face = raster.face.reshape(-1)[local]
        corners, weights = surface.faces[face.long()], raster.barycentric.reshape(-1, 3)[local, :, None]
        point = (surface.vertices[corners] * weights).sum(1)
        normal = torch.nn.functional.normalize((surface.normals[corners] * weights).sum(1), dim=1)
        seen, score = look_from_all(sights, point, normal)
        top, view = score.topk(best, dim=1) if best else (score, score.long())
        known = seen.amax(1) if best else torch.zeros(len(point), device=point.device)
        invented = torch.zeros_like(point, dtype=torch.float16)
        if field is not None and field.has_appearance:
            # A few seen texels are asked as well: they tell how bright the field is beside the photos.
            ask = torch.nonzero((known < 0.999) | (local % 61 == 0)).squeeze(1)
            for part in ask.split(STRIP // 2):
                progress.check()
                colours = field.appearance(point[part], -normal[part], normal[part])
                invented[part] = colours[:, :3].to(torch.float16)
        index = (local + start * size).int()
        relative = (top / top[:, :1].clamp_min(1e-20)).to(torch.float16)
        colour = torch.zeros((len(index), best, 3), dtype=torch.float16, device=point.device)
        strips.append((index, face, point, known, view.to(torch.int16), relative, colour, invented))
    columns = [list(column) for column in zip(*strips, strict=True)]
    del strips
    joined = []
    while columns:  # each column is let go as soon as it is joined: large textures fill the memory otherwise
        joined.append(torch.cat(columns.pop(0)))
    return Texels(*joined)


def _take_colours(texels: Texels, number: int, view: View, density: Tensor) -> None:
    """Fill the slots of all texels that chose this view."""
    camera = view.camera
    pose = torch.as_tensor(camera.world_to_cam, dtype=torch.float32, device=texels.point.device)
    steps: list[Tensor] = []
    for slot in range(texels.view.shape[1]):
        chosen = torch.nonzero((texels.view[:, slot] == number) & (texels.score[:, slot] > 0)).squeeze(1)
        for part in chosen.split(STRIP):
            if not steps:
                steps = pyramid(torch.as_tensor(view.rgb, device=texels.point.device).permute(2, 0, 1), 6)
            local = texels.point[part] @ pose[:3, :3].T + pose[:3, 3]
            x = (camera.fx * local[:, 0] / local[:, 2] + camera.cx) / camera.width
            y = (camera.fy * local[:, 1] / local[:, 2] + camera.cy) / camera.height
            footprint = camera.fx / local[:, 2] / density[texels.face[part].long()].clamp_min(1e-9)
            colours = sample_minified(steps, torch.stack([x, y], 1), footprint)
            texels.colour[part, slot] = colours.to(torch.float16)
