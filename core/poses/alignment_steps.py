# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps that bring drawn geometry over a photo: outlines to edges, surfaces to pixels, seven numbers by least squares.

Outlines: each point of a drawn contour looks along its normal for the photo's edge (Harris, RAPID, 1990; Drummond and
Cipolla 2002). Surfaces: the drawn picture, lit as the photo is, against the photo, both with the local mean and contrast
taken out (Lucas and Kanade 1981 with the geometry's own motion). Both are linear in the camera's motion and are solved together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..cameras.rotations import from_axis_angle, nearest
from ..types import Camera
from .alignment_evidence import SURE, Evidence
from .alignment_model import Model, Shown, fit_light

Map = NDArray[np.float32]
Floats = NDArray[np.float64]

MOST_CONTOUR, MOST_SURFACE = 900, 16000
"""Points used of each kind."""
NUMBERS = 7
"""Turn about the object's middle (3), its shift in the picture over the depth (2), log distance, log focal length."""
EDGE_BLUR = 0.9
"""Pixels, before edges are looked for: the slope of single pixels is mostly noise."""
OUTLINE_SIGMA = 0.25
"""Pixels by which all silhouettes of a photo may lie too far out or in, at the working size. Sharpening, glare and the tone
curve shift outlines but not what is painted on a surface, and the two together fix the distance: an eighth unknown."""


@dataclass(frozen=True)
class FocalPrior:
    """What is known of the focal length."""

    focal: float
    """Pixels of the full-resolution photo."""
    sigma: float
    """Of its logarithm."""
    width: int
    """Of the full-resolution photo, pixels."""


@dataclass(frozen=True)
class Linear:
    """Weighted least squares in the seven numbers and the outline's shift."""

    normal: Floats
    """(8, 8)."""
    right: Floats
    """(8,)."""
    offsets: Floats
    """(N,) what is left, pixels of the working size."""


@dataclass(frozen=True)
class Contour:
    """Points of drawn outlines."""

    pixels: Floats
    """(N, 2)."""
    normals: Floats
    """(N, 2) unit, outwards."""
    depth: Floats
    """(N,)."""
    silhouette: NDArray[np.bool_]
    """(N,) False: an edge before other parts of the geometry."""


def motion(camera: Camera, pixels: Floats, depth: Floats, middle: Floats) -> Floats:
    """(N, 2, 7) how the pictures of surface points move with the seven numbers.

    Args:
        camera: without distortion.
        pixels: (N, 2).
        depth: (N,) z-depth.
        middle: (3,) centre of the turn, camera frame.
    """
    x = (pixels[:, 0] - camera.cx) / camera.fx
    y = (pixels[:, 1] - camera.cy) / camera.fy
    offset = np.stack([x * depth, y * depth, depth], 1) - middle
    zero, one = np.zeros_like(x), np.ones_like(x)
    # What each number does to the point in the camera's frame.
    moves = np.stack(
        [
            np.stack([zero, -offset[:, 2], offset[:, 1]], 1),
            np.stack([offset[:, 2], zero, -offset[:, 0]], 1),
            np.stack([-offset[:, 1], offset[:, 0], zero], 1),
            np.stack([one, zero, zero], 1) * middle[2],
            np.stack([zero, one, zero], 1) * middle[2],
            np.tile(middle, (len(x), 1)),
        ],
        2,
    )  # (N, 3, 6)
    u = camera.fx / depth[:, None] * (moves[:, 0] - x[:, None] * moves[:, 2])
    v = camera.fy / depth[:, None] * (moves[:, 1] - y[:, None] * moves[:, 2])
    focal = np.stack([camera.fx * x, camera.fy * y], 1)
    return np.concatenate([np.stack([u, v], 1), focal[:, :, None]], 2)


def moved(camera: Camera, step: Floats, middle: Floats) -> Camera:
    """The camera after a step of the seven numbers."""
    turn = from_axis_angle(step[:3])
    shift = np.array([step[3], step[4], 0.0]) * middle[2] + middle * np.expm1(step[5])
    old = camera.world_to_cam
    rotation = nearest(turn @ old[:3, :3])
    translation = turn @ (old[:3, 3] - middle) + middle + shift
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation.T, -rotation.T @ translation
    zoom = float(np.exp(step[6]))
    return replace(camera, fx=camera.fx * zoom, fy=camera.fy * zoom, cam_to_world=pose)


def contour_of(shown: Shown, radius: float) -> Contour:
    """Outlines of what is drawn, to a fraction of a pixel where they are silhouettes."""
    inside = shown.inside
    soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.0)
    slope = np.stack([cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)], -1) / 8.0
    kernel = np.ones((3, 3), np.uint8)
    depth = np.where(inside, shown.depth, 0.0).astype(np.float32)
    far = cv2.dilate(np.where(inside, depth, -1.0).astype(np.float32), kernel)
    border = inside & (cv2.erode(inside.astype(np.uint8), kernel) == 0)
    step = inside & (far - depth > 0.08 * radius) & ~border
    parts = []
    for chosen, outer in ((border, True), (step, False)):
        rows, columns = np.nonzero(chosen)
        keep = (rows > 1) & (rows < inside.shape[0] - 2) & (columns > 1) & (columns < inside.shape[1] - 2)
        rows, columns = rows[keep], columns[keep]
        some = slice(None, None, max(1, len(rows) // MOST_CONTOUR))
        rows, columns = rows[some], columns[some]
        place = np.stack([columns + 0.5, rows + 0.5], 1).astype(np.float64)
        if outer:
            gradient = slope[rows, columns].astype(np.float64)
        else:
            blurred = _depth_slope(np.where(inside, depth, 0.0), inside, rows, columns)
            gradient = -blurred
        size = np.linalg.norm(gradient, axis=1)
        good = size > (0.05 if outer else 1e-6)
        place, gradient, size = place[good], gradient[good], size[good]
        rows, columns = rows[good], columns[good]
        normal = -gradient / size[:, None]
        if outer:
            level = soft[rows, columns].astype(np.float64) - 0.5
            place = place + normal * np.clip(level / size, -1.5, 1.5)[:, None]
        else:
            place = place + 0.5 * normal
        parts.append((place, normal, depth[rows, columns].astype(np.float64), np.full(len(rows), outer)))
    return Contour(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _depth_slope(
    depth: Map, inside: NDArray[np.bool_], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> Floats:
    """(N, 2) direction in which the depth grows, over the 5 x 5 pixels around."""
    filled = np.where(inside, depth, float(depth[inside].max()))
    x, y = cv2.Sobel(filled, cv2.CV_32F, 1, 0, ksize=5), cv2.Sobel(filled, cv2.CV_32F, 0, 1, ksize=5)
    return np.stack([x[rows, columns], y[rows, columns]], 1).astype(np.float64)


def follow_contour(
    contour: Contour, camera: Camera, middle: Floats, photo: Evidence, reach: float, by_mask: bool
) -> Linear | None:
    """Offsets of drawn outlines from the photo's edges, or from the edge of its mask; None where none was found."""
    if not len(contour.pixels):
        return None
    steps = np.arange(-reach, reach + 0.25, 0.5)
    places = contour.pixels[:, None] + steps[None, :, None] * contour.normals[:, None]
    x, y = (places[..., axis].astype(np.float32) - 0.5 for axis in (0, 1))
    known = (
        (x.min(1) > 0)
        & (y.min(1) > 0)
        & (x.max(1) < photo.rgb.shape[1] - 1)
        & (y.max(1) < photo.rgb.shape[0] - 1)
    )
    if by_mask and photo.mask is not None:
        known &= contour.silhouette
        profile = cv2.remap(photo.mask, x, y, cv2.INTER_LINEAR)
        strength = np.maximum(profile[:, :-2] - profile[:, 2:], 0.0)
        exact, floor = strength, 0.05
    else:
        profile = cv2.remap(cv2.GaussianBlur(photo.rgb, (0, 0), EDGE_BLUR), x, y, cv2.INTER_LINEAR)
        strength = np.linalg.norm(profile[:, 2:] - profile[:, :-2], axis=2)
        # Light mixes linearly where a pixel shows both sides: in sRGB the edge seems shifted into the dark.
        light = cv2.remap(cv2.GaussianBlur(photo.rgb**2.2, (0, 0), EDGE_BLUR), x, y, cv2.INTER_LINEAR)
        exact = np.linalg.norm(light[:, 2:] - light[:, :-2], axis=2)
        if photo.mask is not None and photo.trust == SURE:  # inner edges of the photo draw no outer outline
            gate = cv2.remap(cv2.GaussianBlur(photo.mask, (0, 0), 1.5), x, y, cv2.INTER_LINEAR)
            fall = np.clip(8.0 * (gate[:, :-2] - gate[:, 2:]), 0.02, 1.0)
            strength = np.where(contour.silhouette[:, None], strength * fall, strength)
        floor = 0.03
    nearness = np.exp(-0.5 * (steps[1:-1] / (0.6 * reach)) ** 2)
    score = strength * nearness
    best = score.argmax(1)
    rows = np.arange(len(best))
    height = strength[rows, best]
    near = np.abs(np.arange(score.shape[1]) - best[:, None]) <= 2
    inner = np.clip(np.where(near, exact, -1.0).argmax(1), 1, score.shape[1] - 2)
    before, here, after = exact[rows, inner - 1], exact[rows, inner], exact[rows, inner + 1]
    bend = before - 2 * here + after
    shift = np.where(bend < -1e-9, 0.5 * (before - after) / np.where(bend < -1e-9, bend, 1.0), 0.0)
    offset = steps[1:-1][inner] + 0.5 * np.clip(shift, -1, 1)
    use = known & (height > floor) & (best > 0) & (best < score.shape[1] - 1)
    if use.sum() < 20:
        return None
    offset = offset[use].astype(np.float64)
    # An edge that stands alone on its normal tells more than one of many.
    clear = (height / np.maximum(strength.sum(1), 1e-6))[use]
    weight = clear * height[use] / (height[use] + 0.1)
    if not by_mask:
        weight = weight * np.where(contour.silhouette[use], 1.0, 0.6)
    slopes = np.einsum(
        "ni,nij->nj", contour.normals[use], motion(camera, contour.pixels[use], contour.depth[use], middle)
    )
    slopes = np.concatenate([slopes, contour.silhouette[use, None].astype(np.float64)], 1)
    sigma = max(1.4826 * float(np.median(np.abs(offset))), 0.35)
    weight = weight / (1.0 + (offset / (1.5 * sigma)) ** 2) ** 2 / sigma**2
    return Linear((slopes * weight[:, None]).T @ slopes, slopes.T @ (weight * offset), offset)


def follow_surface(
    shown: Shown, camera: Camera, middle: Floats, photo: Evidence, blur: float, spread: float
) -> Linear | None:
    """Pixels of the drawn and lit geometry against the photo's; None where the surface shows nothing.

    Args:
        shown: the geometry through `camera`.
        camera: of the working size.
        middle: centre of turns, camera frame.
        photo: of the working size.
        blur: pixels, of both pictures.
        spread: pixels over which mean and contrast are taken out.
    """
    drawn = fit_light(shown, photo.rgb, shown.inside)
    inside = cv2.erode(shown.inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
    if inside.sum() < 100:
        return None
    ours, theirs = (_normalised(picture, inside, blur, spread) for picture in (drawn, photo.rgb))
    margin = max(1, round(1.5 * blur))
    use = cv2.erode(inside.astype(np.uint8), np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)) > 0
    use[:margin], use[-margin:], use[:, :margin], use[:, -margin:] = False, False, False, False
    slope = np.stack(
        [
            0.5 * (cv2.Sobel(ours, cv2.CV_32F, *axis) + cv2.Sobel(theirs, cv2.CV_32F, *axis)) / 8.0
            for axis in ((1, 0), (0, 1))
        ],
        -1,
    )
    rows = np.flatnonzero(use)
    rows = rows[:: max(1, len(rows) // MOST_SURFACE)]
    if len(rows) < 100:
        return None
    y, x = np.divmod(rows, ours.shape[1])
    gradient = slope.reshape(-1, 2)[rows].astype(np.float64)
    error = (theirs - ours).ravel()[rows].astype(np.float64)
    pixels = np.stack([x + 0.5, y + 0.5], 1)
    slopes = np.einsum(
        "ni,nij->nj", gradient, motion(camera, pixels, shown.depth.ravel()[rows].astype(np.float64), middle)
    )
    slopes = np.concatenate([slopes, np.zeros((len(slopes), 1))], 1)
    sigma = max(1.4826 * float(np.median(np.abs(error))), 0.05)
    weight = 1.0 / (1.0 + (error / (1.5 * sigma)) ** 2) ** 2 / sigma**2
    weight *= use.sum() / (len(rows) * _correlated_area((theirs - ours) * use, use, sigma))
    size = np.linalg.norm(gradient, axis=1)
    far = error / np.maximum(size, 0.1)
    return Linear((slopes * weight[:, None]).T @ slopes, -slopes.T @ (weight * error), far)


def _correlated_area(error: Map, use: NDArray[np.bool_], sigma: float) -> float:
    """Pixels that err alike: light that the harmonics cannot say is wrong over whole regions, noise in single pixels.

    The variance of means over a square falls with the square's area for noise and not at all for what is constant in it.
    """
    side = 15
    held = np.clip(error, -3 * sigma, 3 * sigma).astype(np.float32)
    share = cv2.blur(use.astype(np.float32), (side, side))
    mean = cv2.blur(held, (side, side)) / np.maximum(share, 1e-3)
    kept = float((mean[use] ** 2).mean()) / max(float((held[use] ** 2).mean()), 1e-9)
    return float(np.clip(side**2 * kept, 4.0, side**2))


def _normalised(rgb: Map, inside: Map, blur: float, spread: float) -> Map:
    """(H, W) lightness with the mean and the contrast of its surroundings on the surface taken out; 0 outside."""
    # Light mixes linearly in a pixel and in the lens, so the pictures are blurred as light and compared as sRGB.
    light = (rgb**2.2) @ np.array([0.299, 0.587, 0.114], np.float32)
    share = cv2.GaussianBlur(inside, (0, 0), blur) + 1e-6
    value = (cv2.GaussianBlur(light * inside, (0, 0), blur) / share) ** (1 / 2.2)
    wide = _wide_mean(inside, spread) + 1e-6
    mean = _wide_mean(value * inside, spread) / wide
    away = (value - mean) * inside
    contrast = np.sqrt(np.maximum(_wide_mean(away * away, spread), 0.0) / wide)
    return np.asarray(away / (contrast + 0.02), np.float32)


def _wide_mean(plane: Map, spread: float) -> Map:
    """Two box means: nearly a Gaussian, at the same cost for any width."""
    side = 2 * round(1.22 * spread) + 1  # variance of a box: (side^2 - 1) / 12
    return np.asarray(cv2.blur(cv2.blur(plane, (side, side)), (side, side)), np.float32)


def agreement(model: Model, camera: Camera, photo: Evidence) -> tuple[float, dict[str, float]]:
    """How well the geometry through a camera explains the photo: (score, its parts).

    Parts: `region` overlap with the mask, `edges` mean strength of the photo's edge under the outline, `surface` correlation
    of the lit surface with the photo; each about 0..1.
    """
    shown = model.show(camera)
    if shown.inside.sum() < 50:
        return -1.0, {"region": 0.0, "edges": 0.0, "surface": 0.0}
    parts = {
        "region": _region(shown.inside, photo),
        "edges": _edges(shown, photo),
        "surface": _surface(shown, photo),
    }
    score = photo.trust * 2.0 * parts["region"] + parts["edges"] + parts["surface"]
    return score, parts


def _region(inside: NDArray[np.bool_], photo: Evidence) -> float:
    if photo.mask is None:
        return 0.0
    return float(
        np.minimum(inside, photo.mask).sum() / max(float(np.maximum(inside, photo.mask).sum()), 1e-6)
    )


def _edges(shown: Shown, photo: Evidence) -> float:
    soft = cv2.GaussianBlur(shown.inside.astype(np.float32), (0, 0), 1.0)
    normal = np.stack([cv2.Sobel(soft, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1))], -1)
    size = np.linalg.norm(normal, axis=2)
    border = size > 0.5 * max(float(size.max()), 1e-6)
    if border.sum() < 20:
        return 0.0
    unit = normal[border] / size[border][:, None]
    rgb = cv2.GaussianBlur(photo.rgb, (0, 0), 1.0)
    across = sum(
        unit[:, k, None] * cv2.Sobel(rgb, cv2.CV_32F, *axis)[border] / 8.0
        for k, axis in enumerate(((1, 0), (0, 1)))
    )
    strength = np.linalg.norm(np.asarray(across), axis=1)
    return float((strength / (strength + 0.03)).mean())


def _surface(shown: Shown, photo: Evidence) -> float:
    drawn = fit_light(shown, photo.rgb, shown.inside)
    inside = shown.inside.astype(np.float32)
    spread = 0.12 * float(np.sqrt(inside.sum())) + 1.0
    ours, theirs = (_normalised(picture, inside, 0.8, spread) for picture in (drawn, photo.rgb))
    a, b = ours[shown.inside], theirs[shown.inside]
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-6))


@dataclass(frozen=True)
class Stage:
    """Steps at one working size."""

    side: int
    """Long side, pixels."""
    steps: int
    reach: float
    """Pixels to both sides in which an outline looks for its edge; at the last step half of it."""
    blur: float
    """Pixels, of the surface."""
    by_mask: bool = False
    """Outlines follow the mask, not the photo's edges."""
    surface: bool = True
    free_focal: bool = True
    """Otherwise the focal length stays: far from the goal it runs away."""


@dataclass(frozen=True)
class Fitted:
    """A camera after some steps."""

    camera: Camera
    offset_px: float
    """Median distance of outlines from the photo's edges, pixels of the working size."""
    covariance: Floats
    """(8, 8) of the seven numbers and the outline's shift."""


def fit_stage(model: Model, camera: Camera, photo: Evidence, stage: Stage, prior: FocalPrior) -> Fitted:
    """Take the steps of a stage; the camera comes in and goes out in its own size."""
    small = photo.resized(stage.side)
    here = small.camera(camera)
    offset, normal = np.inf, np.eye(NUMBERS + 1)
    scale = here.width / prior.width
    for number in range(stage.steps):
        shown = model.show(here)
        if shown.inside.sum() < 50:
            break
        middle = here.world_to_cam[:3, :3] @ model.anchor + here.world_to_cam[:3, 3]
        middle = _seen_middle(shown, here) if middle[2] <= 0 else middle
        reach = stage.reach * (1.0 - 0.6 * number / max(stage.steps - 1, 1))
        parts = [follow_contour(contour_of(shown, model.radius), here, middle, small, reach, stage.by_mask)]
        if stage.surface:
            spread = 0.12 * float(np.sqrt(shown.inside.sum())) + 1.0
            parts.append(follow_surface(shown, here, middle, small, stage.blur, spread))
        found = [part for part in parts if part is not None]
        if not found:
            break
        if parts[0] is not None:
            offset = float(np.median(np.abs(parts[0].offsets)))
        normal = np.sum([part.normal for part in found], 0)
        right = np.sum([part.right for part in found], 0)
        normal[NUMBERS, NUMBERS] += 1.0 / OUTLINE_SIGMA**2
        normal[6, 6] += 1.0 / prior.sigma**2
        right[6] += np.log(prior.focal * scale / here.fx) / prior.sigma**2
        step = _solve(normal, right, stage.free_focal)
        here = moved(here, step, middle)
        if float(np.abs(step).max()) < 1e-5:
            break
    covariance = np.asarray(
        np.linalg.inv(normal + 1e-9 * np.diag(np.diag(normal)) + 1e-12 * np.eye(NUMBERS + 1)), np.float64
    )
    return Fitted(replace(here.resized(camera.width, camera.height), name=camera.name), offset, covariance)


def _solve(normal: Floats, right: Floats, free_focal: bool) -> Floats:
    """A step, no longer than the pictures stay alike."""
    free = np.array([k for k in range(NUMBERS + 1) if free_focal or k != 6])
    part = normal[np.ix_(free, free)]
    # Distance and focal length nearly say the same thing: more damping than this would stop the step along their valley.
    damped = part + 1e-6 * np.diag(np.diag(part)) + 1e-9 * np.eye(len(free))
    step = np.zeros(NUMBERS + 1)
    step[free] = np.linalg.solve(damped, right[free])
    step = step[:NUMBERS]
    return np.asarray(step * min(1.0, 0.2 / max(float(np.abs(step).max()), 1e-12)))


def _seen_middle(shown: Shown, camera: Camera) -> Floats:
    rows, columns = np.nonzero(shown.inside)
    depth = shown.depth[rows, columns].astype(np.float64)
    x, y = (columns + 0.5 - camera.cx) / camera.fx, (rows + 0.5 - camera.cy) / camera.fy
    return np.stack([x * depth, y * depth, depth], 1).mean(0)
