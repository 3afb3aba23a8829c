# SPDX-License-Identifier: GPL-3.0-or-later
"""A base-colour texture from photos where they see the surface, from the field elsewhere.

Every texel asks every view how well it sees it (`visibility`), keeps its three best, and takes their colours, sampled
at the texel's own footprint so that large photos do not alias. Sharp weights let the best view win; the views' trust,
which fades towards their edges, feathers the seams. After spec-pose-lrf D.3 item 10; the constants are our choice.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import cg
from torch import Tensor

from ..fields.field import Field
from ..progress import Progress
from ..render.rasterize import rasterize_uv
from ..render.shade import pyramid, sample_minified, texels_per_unit
from ..types import Mesh, View
from .gains import solve_gains
from .visibility import Sight, look, prepare

log = logging.getLogger(__name__)

BEST = 3
"""Views blended per texel."""
STRIP = 1 << 18
"""Texels handled at once."""


@dataclass(frozen=True)
class BakeSettings:
    """Settings of `bake_texture`."""

    size: int = 2048
    """Texels per side."""
    map_side: int = 1536
    """Longest side of the depth maps that decide visibility, pixels."""
    sharpness: float = 6.0
    """Exponent on a view's score; high: one view per place, low: soft blends that ghost."""
    equalise: bool = True
    """Even out exposure and white balance between the photos."""


@dataclass(frozen=True)
class Baked:
    """What baking yields."""

    texture: NDArray[np.float32]
    """(S, S, 3) float32 sRGB 0..1, row 0 at the top, filled beyond the charts."""
    seen: NDArray[np.float32]
    """(S, S) float32: 0 invented .. 1 observed; 0 beyond the charts."""
    vertex_seen: NDArray[np.float32]
    """(V,) float32: the same per vertex, the mesh's attribute `seen`."""
    gains: NDArray[np.float32]
    """(views, 3) float32 factors applied to the photos."""


@dataclass
class _Texels:
    """All texels that show the mesh, T of them, strip after strip."""

    index: Tensor
    """(T,) int64: row * size + column."""
    face: Tensor
    """(T,) int32."""
    point: Tensor
    """(T, 3) float32."""
    seen: Tensor
    """(T,) float32."""
    view: Tensor
    """(T, BEST) int16."""
    score: Tensor
    """(T, BEST) float32, 0 where there is no such view."""
    colour: Tensor
    """(T, BEST, 3) float16 from the photos."""
    invented: Tensor
    """(T, 3) float16: the field's colour, where it was asked."""


def bake_texture(
    mesh: Mesh,
    views: list[View],
    field: Field | None = None,
    settings: BakeSettings | None = None,
    progress: Progress | None = None,
) -> Baked:
    """Bake the texture of a mesh with UVs. Vertices and UVs are only read.

    Args:
        mesh: has UVs; the views' frame.
        views: undistorted photos; may be empty.
        field: gives the colour of what no photo sees, looked at head-on; None or without appearance: colours spread
            over the surface from the seen parts.
        settings: size and weights.
        progress: told how far it is; asked whether to go on.

    Raises:
        Cancelled: if the artist asked for it.
    """
    settings, progress = settings or BakeSettings(), progress or Progress()
    assert mesh.uvs is not None and len(mesh.uvs) == len(mesh.faces), "the mesh needs UVs"
    device = field.box.device if field is not None else torch.device("cpu")
    vertices, faces = (
        torch.as_tensor(mesh.vertices, device=device),
        torch.as_tensor(mesh.faces, device=device).long(),
    )
    normals = vertex_normals(vertices, faces)
    with torch.inference_mode():
        longest = min(settings.map_side, int((6e7 / max(len(views), 1)) ** 0.5))  # all maps within 0.5 GB
        sights = []
        for number, view in enumerate(views):
            sights.append(prepare(view, vertices, faces, longest))
            progress.update(0.2 * (number + 1) / len(views))
        texels = _survey(mesh, vertices, faces, normals, sights, field, settings, progress)
        density = texels_per_unit(vertices, faces, torch.as_tensor(mesh.uvs, device=device), settings.size)
        for number, view in enumerate(views):
            _take_colours(texels, number, view, density)
            progress.update(0.6 + 0.25 * (number + 1) / len(views))
        gains = _equalise(texels, len(views)) if settings.equalise else np.ones((len(views), 3), np.float32)
        rgb = _blend(texels, torch.as_tensor(gains, device=device), settings.sharpness)
        if field is not None and field.has_appearance:
            invented = _match_brightness(texels, rgb)
        else:
            invented = _spread(mesh, texels, rgb)
        rgb = rgb * texels.seen[:, None] + invented * (1.0 - texels.seen[:, None])
        progress.update(0.95)
        vertex_seen, _ = _scores(sights, vertices, normals)
    size = settings.size
    texture = np.zeros((size * size, 3), np.float32)
    seen = np.zeros(size * size, np.float32)
    index = texels.index.cpu().numpy()
    texture[index], seen[index] = rgb.clamp(0, 1).cpu().numpy(), texels.seen.cpu().numpy()
    filled = np.zeros(size * size, bool)
    filled[index] = True
    texture = fill_gaps(texture.reshape(size, size, 3), filled.reshape(size, size))
    best = vertex_seen.amax(1) if len(views) else torch.zeros(len(vertices))
    return Baked(texture, seen.reshape(size, size), best.cpu().numpy(), gains)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """(V, 3) float32 unit normals, means of the faces around weighted by area."""
    a, b, c = vertices[faces].unbind(1)
    face_normal = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total.index_add_(0, faces[:, corner], face_normal)
    return torch.nn.functional.normalize(total, dim=1)


def _scores(sights: list[Sight], points: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
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


def _survey(
    mesh: Mesh,
    vertices: Tensor,
    faces: Tensor,
    normals: Tensor,
    sights: list[Sight],
    field: Field | None,
    settings: BakeSettings,
    progress: Progress,
) -> _Texels:
    """Where every texel lies on the surface, its best views, and the field's colour where photos do not suffice."""
    uvs = torch.as_tensor(mesh.uvs, device=vertices.device)
    rows = max(1, STRIP // settings.size)
    best = min(BEST, len(sights))
    found: list[tuple[Tensor, ...]] = []
    for start in range(0, settings.size, rows):
        stop = min(start + rows, settings.size)
        raster = rasterize_uv(uvs, settings.size, (start, stop))
        local = torch.nonzero(raster.face.reshape(-1) >= 0).squeeze(1)
        face = raster.face.reshape(-1)[local]
        corners, weights = faces[face.long()], raster.barycentric.reshape(-1, 3)[local, :, None]
        point = (vertices[corners] * weights).sum(1)
        normal = torch.nn.functional.normalize((normals[corners] * weights).sum(1), dim=1)
        seen, score = _scores(sights, point, normal)
        top, view = score.topk(best, dim=1) if best else (score, score.long())
        known = seen.amax(1) if len(sights) else torch.zeros(len(point), device=point.device)
        invented = torch.zeros_like(point, dtype=torch.float16)
        if field is not None and field.has_appearance:
            # A few seen texels are asked as well: they tell how bright the field is beside the photos.
            ask = torch.nonzero((known < 0.999) | (local % 61 == 0)).squeeze(1)
            for part in ask.split(STRIP // 2):
                progress.check()
                colours = field.appearance(point[part], -normal[part], normal[part])
                invented[part] = colours[:, :3].to(torch.float16)
        found.append((local + start * settings.size, face, point, known, view.to(torch.int16), top, invented))
        progress.update(0.2 + 0.4 * stop / settings.size)
    index, face, point, known, view, top, invented = (torch.cat(part) for part in zip(*found, strict=True))
    colour = torch.zeros((len(index), best, 3), dtype=torch.float16, device=point.device)
    return _Texels(index, face, point, known, view, top, colour, invented)


def _take_colours(texels: _Texels, number: int, view: View, density: Tensor) -> None:
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


def _equalise(texels: _Texels, views: int) -> NDArray[np.float32]:
    """Gains from texels with two or more good views."""
    if texels.view.shape[1] < 2:
        return np.ones((views, 3), np.float32)
    good = torch.nonzero(texels.score[:, 1] > 0.05 * texels.score[:, 0]).squeeze(1)
    good = good[:: max(1, len(good) // 40_000)]
    pairs = []
    for slot in range(1, texels.view.shape[1]):
        part = good[texels.score[good, slot] > 0]
        pairs.append(
            [texels.view[part, 0], texels.view[part, slot], texels.colour[part, 0], texels.colour[part, slot], texels.score[part, slot] / texels.score[part, 0]]
        )  # fmt: skip
    first, second, one, other, weight = (
        torch.cat(column).cpu().numpy() for column in zip(*pairs, strict=True)
    )
    return solve_gains(
        first.astype(np.int64),
        second.astype(np.int64),
        one.astype(np.float32),
        other.astype(np.float32),
        weight,
        views,
    )


def _blend(texels: _Texels, gains: Tensor, sharpness: float) -> Tensor:
    """(T, 3) float32: the chosen views' colours, evened out and weighted."""
    out = torch.zeros_like(texels.point)
    if not texels.view.shape[1]:
        return out
    for part in torch.arange(len(out), device=out.device).split(4 * STRIP):
        score = texels.score[part]
        weight = (score / score[:, :1].clamp_min(1e-12)) ** sharpness
        weight = weight / weight.sum(1, keepdim=True).clamp_min(1e-12)
        colour = texels.colour[part].float() * gains[texels.view[part].long()]
        out[part] = (colour.clamp(0, 1) * weight[:, :, None]).sum(1)
    return out


def _match_brightness(texels: _Texels, rgb: Tensor) -> Tensor:
    """(T, 3) float32: the field's colours times one factor per channel, so that they meet the photos without a step."""
    invented = texels.invented.float()
    both = (texels.seen > 0.95) & (invented.sum(1) > 0.03)
    if int(both.sum()) < 50:
        return invented
    factor = (rgb[both].sum(0) / invented[both].sum(0).clamp_min(1e-6)).clamp(0.67, 1.5)
    return (invented * factor).clamp(0, 1)


def _spread(mesh: Mesh, texels: _Texels, rgb: Tensor) -> Tensor:
    """(T, 3) float32 colours that run smoothly over the surface from what was seen (harmonic over the mesh's edges)."""
    count = len(mesh.vertices)
    corner = torch.as_tensor(mesh.faces, device=rgb.device).long()[texels.face.long()]
    total = torch.zeros((count, 4), device=rgb.device)
    weighted = torch.cat([rgb, torch.ones_like(rgb[:, :1])], 1) * texels.seen[:, None]
    for column in range(3):
        total.index_add_(0, corner[:, column], weighted)
    weight = total[:, 3].cpu().numpy().astype(np.float64)
    colour = (total[:, :3] / total[:, 3:].clamp_min(1e-9)).cpu().numpy().astype(np.float64)
    mean = (total[:, :3].sum(0) / total[:, 3].sum()).cpu().numpy() if weight.sum() > 0 else np.full(3, 0.5)
    pairs = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    links = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(count, count)).tocsr()
    links = ((links + links.T) > 0).astype(np.float64)
    hold = (
        np.minimum(weight, 10.0) + 1e-6
    )  # the last term pulls parts that were never seen to the mean colour
    system = diags(np.asarray(links.sum(1)).ravel() + hold) - links
    scale = diags(1.0 / system.diagonal())
    spread = np.stack(
        [
            cg(
                system,
                hold * np.where(weight > 0, colour[:, c], mean[c]),
                x0=colour[:, c],
                M=scale,
                maxiter=300,
            )[0]
            for c in range(3)
        ],
        1,
    )
    values = torch.as_tensor(spread, dtype=torch.float32, device=rgb.device).clamp(0, 1)
    points = torch.as_tensor(mesh.vertices, device=rgb.device)
    return (values[corner] * _weights(points[corner], texels.point)[:, :, None]).sum(1)


def _weights(corners: Tensor, point: Tensor) -> Tensor:
    """Barycentric weights (T, 3) of points (T, 3) that lie in triangles (T, 3, 3)."""
    a, b, c = corners.unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    square = (normal * normal).sum(1).clamp_min(1e-38)
    second = (torch.linalg.cross(point - a, c - a) * normal).sum(1) / square
    third = (torch.linalg.cross(b - a, point - a) * normal).sum(1) / square
    weights = torch.stack([1 - second - third, second, third], 1).clamp_min(0)
    return weights / weights.sum(1, keepdim=True)


def fill_gaps(texture: NDArray[np.float32], filled: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Every texel beyond the charts takes the colour of the nearest texel of one, so that mip maps do not bleed."""
    if filled.all() or not filled.any():
        return texture
    _, label = cv2.distanceTransformWithLabels(
        (~filled).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    source = np.zeros(int(label.max()) + 1, np.int64)
    source[label[filled]] = np.flatnonzero(filled)
    flat = texture.reshape(-1, 3)
    gaps = np.flatnonzero(~filled)
    flat[gaps] = flat[source[label.reshape(-1)[gaps]]]
    return texture
