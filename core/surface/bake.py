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
from ..types import Mesh, View
from .gains import solve_gains
from .texels import STRIP, Surface, Texels, gather, look_from_all
from .visibility import prepare

log = logging.getLogger(__name__)

SAMPLE = 2048
"""Texels per side from which gains and the like are settled; larger textures are then worked off in bands."""
BAND = 1 << 24
"""Texels of the texture held at once: 4096 x 4096, about 1 GB."""


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
    size, first = settings.size, min(settings.size, SAMPLE)
    texture, seen = np.zeros((size * size, 3), np.float32), np.full(size * size, -1.0, np.float32)
    with torch.inference_mode():
        surface = Surface.of(mesh, field.box.device if field is not None else torch.device("cpu"))
        longest = min(settings.map_side, int((6e7 / max(len(views), 1)) ** 0.5))  # all maps within 0.5 GB
        sights = []
        for number, view in enumerate(views):
            sights.append(prepare(view, surface.vertices, surface.faces, longest))
            progress.update(0.2 * (number + 1) / len(views))
        sample = gather(surface, sights, views, field, first, (0, first), progress)
        progress.update(0.5)
        tone = _settle(
            mesh, surface, sample, len(views), field is not None and field.has_appearance, settings
        )
        rows = size if size == first else max(1, BAND // size)
        for start in range(0, size, rows):
            stop = min(start + rows, size)
            texels = sample
            if size != first:
                texels = gather(surface, sights, views, field, size, (start, stop), progress)
            rgb = _compose(surface, texels, tone, settings.sharpness)
            index = texels.index.cpu().numpy()
            texture[index], seen[index] = rgb.cpu().numpy(), texels.seen.cpu().numpy()
            progress.update(0.5 + 0.45 * stop / size)
        vertex_seen, _ = look_from_all(sights, surface.vertices, surface.normals)
    best = vertex_seen.amax(1) if len(views) else torch.zeros(len(mesh.vertices))
    texture = fill_gaps(texture.reshape(size, size, 3), (seen >= 0).reshape(size, size))
    return Baked(
        texture,
        np.maximum(seen, 0, out=seen).reshape(size, size),
        best.cpu().numpy(),
        tone.gains.cpu().numpy(),
    )


@dataclass(frozen=True)
class _Tone:
    """What is settled once for the whole texture."""

    gains: Tensor
    """(views, 3) factors for the photos."""
    field_factor: Tensor
    """(3,) factors for the field's colours."""
    vertex_colour: Tensor | None
    """(V, 3) where there is no field: colours spread over the surface."""


def _settle(
    mesh: Mesh, surface: Surface, sample: Texels, views: int, has_field: bool, settings: BakeSettings
) -> _Tone:
    """Gains between photos, and how unseen parts are coloured, from a sample of the texture."""
    gains = _equalise(sample, views) if settings.equalise else np.ones((views, 3), np.float32)
    shared = torch.as_tensor(gains, device=sample.point.device)
    rgb = _blend(sample, shared, settings.sharpness)
    if has_field:
        return _Tone(shared, _field_factor(sample, rgb), None)
    return _Tone(shared, torch.ones(3, device=rgb.device), _spread(mesh, surface, sample, rgb))


def _compose(surface: Surface, texels: Texels, tone: _Tone, sharpness: float) -> Tensor:
    """(T, 3) float32 0..1: photos where seen, elsewhere the field or the spread colours."""
    rgb = _blend(texels, tone.gains, sharpness)
    for part in torch.arange(len(rgb), device=rgb.device).split(4 * STRIP):
        if tone.vertex_colour is None:
            invented = texels.invented[part].float() * tone.field_factor
        else:
            corner = surface.faces[texels.face[part].long()]
            weights = _weights(surface.vertices[corner], texels.point[part])
            invented = (tone.vertex_colour[corner] * weights[:, :, None]).sum(1)
        known = texels.seen[part, None]
        rgb[part] = (rgb[part] * known + invented * (1.0 - known)).clamp(0, 1)
    return rgb


def _equalise(texels: Texels, views: int) -> NDArray[np.float32]:
    """Gains from texels with two or more good views."""
    if texels.view.shape[1] < 2:
        return np.ones((views, 3), np.float32)
    good = torch.nonzero(texels.score[:, 1] > 0.05).squeeze(1)
    good = good[:: max(1, len(good) // 40_000)]
    pairs = []
    for slot in range(1, texels.view.shape[1]):
        part = good[texels.score[good, slot] > 0]
        pairs.append(
            [texels.view[part, 0], texels.view[part, slot], texels.colour[part, 0], texels.colour[part, slot], texels.score[part, slot]]
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


def _blend(texels: Texels, gains: Tensor, sharpness: float) -> Tensor:
    """(T, 3) float32: the chosen views' colours, evened out and weighted."""
    out = torch.zeros_like(texels.point)
    if not texels.view.shape[1]:
        return out
    for part in torch.arange(len(out), device=out.device).split(4 * STRIP):
        score = texels.score[part].float()
        weight = score**sharpness
        weight = weight / weight.sum(1, keepdim=True).clamp_min(1e-12)
        colour = texels.colour[part].float() * gains[texels.view[part].long()]
        out[part] = (colour.clamp(0, 1) * weight[:, :, None]).sum(1)
    return out


def _field_factor(texels: Texels, rgb: Tensor) -> Tensor:
    """(3,) float32 factors with which the field's colours meet the photos' without a step."""
    both = torch.nonzero((texels.seen > 0.95) & (texels.invented.sum(1) > 0.03)).squeeze(1)
    if len(both) < 50:
        return torch.ones(3, device=rgb.device)
    return (rgb[both].sum(0) / texels.invented[both].float().sum(0).clamp_min(1e-6)).clamp(0.67, 1.5)


def _spread(mesh: Mesh, surface: Surface, texels: Texels, rgb: Tensor) -> Tensor:
    """(V, 3) float32 colours that run smoothly over the surface from what was seen (harmonic over the mesh's edges)."""
    count = len(mesh.vertices)
    corner = surface.faces[texels.face.long()]
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
    return torch.as_tensor(spread, dtype=torch.float32, device=rgb.device).clamp(0, 1)


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
