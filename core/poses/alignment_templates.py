# SPDX-License-Identifier: GPL-3.0-or-later
"""First cameras without a mask: drawn edges, in many directions, turns and sizes, laid over the photo's edges everywhere.

An edge pixel is a complex number: how clear it is, and twice its direction as the phase, so that dark to light and light to
dark are the same. A template fits where the real part of its correlation with the photo's edges is high; the correlation over
all places at once is a product of Fourier transforms.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..cameras.orbit import Orbit
from ..progress import Progress
from ..types import Camera
from .alignment_evidence import Evidence
from .alignment_model import Model
from .alignment_search import Start, apart, directions_around, looking_from
from .in_threads import in_threads

Map = NDArray[np.float32]
Floats = NDArray[np.float64]
Edges = NDArray[np.complex64]

SIDE = 112
"""Long side of the photo in which templates are laid, pixels."""
DRAWN = 128
"""Side of the square in which a template is drawn, pixels."""
ROLLS_DEG = (-20.0, -10.0, 0.0, 10.0, 20.0)
SIZES = 9
"""Steps of 18 % from the smallest to the largest."""
CLEAR = 0.02
"""sRGB a pixel: an edge as strong as this counts half."""


def by_edges(
    model: Model, photo: Evidence, start: Camera, within_deg: float, most: int, progress: Progress
) -> list[Start]:
    """Cameras under which drawn edges lie on edges of the photo; the best `most` that differ from each other."""
    small = photo.resized(SIDE)
    height, width = small.rgb.shape[:2]
    field = photo_edges(small.rgb)
    pad = (2 * height, 2 * width)
    spectrum = torch.fft.fft2(torch.as_tensor(field), s=pad)
    offset = start.centre - model.anchor
    length = max(float(np.linalg.norm(offset)), 1e-9)
    around = directions_around(240)
    around = around[np.degrees(np.arccos(np.clip(around @ (offset / length), -1, 1))) <= within_deg]
    scale = width / start.width
    # The object fills between a fifth and all of the photo.
    radii = np.geomspace(0.13, 0.13 * 1.18 ** (SIZES - 1), SIZES) * min(height, width)

    def lay(direction: Floats) -> list[tuple[float, float, Camera, float, float, Floats]]:
        """The four best (score, distance, view, size, roll, shift) from one direction."""
        distance = max(start.fx * scale * model.radius / float(np.median(radii)), 2.0 * model.radius)
        view, edges = _drawn(model, start, direction, distance)
        factors = radii / (view.fx * model.radius / distance)
        kinds = [(roll, float(factor)) for roll in ROLLS_DEG for factor in factors]
        shapes = [_template(edges, DRAWN / 2, factor, roll, (height, width)) for roll, factor in kinds]
        stack = torch.as_tensor(np.stack(shapes))
        weight = stack.abs().sum((1, 2)).clamp_min(1e-3)
        fit = torch.fft.ifft2(spectrum * torch.fft.fft2(stack, s=pad).conj()).real
        # Longer outlines are harder to meet by chance: the mean is weighed by the root of a root of the length.
        best, place = (fit / (weight**0.75)[:, None, None]).flatten(1).max(1)
        out = []
        for k in torch.topk(best, 4).indices.tolist():
            y, x = divmod(int(place[k]), pad[1])
            shift = np.array([x - pad[1] if x > width else x, y - pad[0] if y > height else y], np.float64)
            roll, factor = kinds[k]
            out.append((float(best[k]), distance, view, factor, roll, shift))
        return out

    laid = in_threads(lay, around, lambda done: progress.check())
    found = [item for items in laid for item in items]
    found.sort(key=lambda item: -item[0])
    starts: list[Start] = []
    for rank, distance, view, size, roll, shift in found:
        middle = np.array([width / 2, height / 2]) + shift
        camera = _placed(model, start, view, distance, size, roll, middle / scale, scale)
        if all(apart(camera, other.camera) > 12.0 for other in starts):
            starts.append(Start(camera, rank, "edges"))
        if len(starts) == most:
            break
    return starts


def photo_edges(rgb: Map) -> Edges:
    """(H, W) complex64: the strongest channel's edge, its clearness against what is around, its direction doubled."""
    blurred = cv2.GaussianBlur(rgb, (0, 0), 0.8)
    x = cv2.Sobel(blurred, cv2.CV_32F, 1, 0) / 8.0
    y = cv2.Sobel(blurred, cv2.CV_32F, 0, 1) / 8.0
    strength = x * x + y * y
    channel = strength.argmax(2)[..., None]
    gx, gy = (np.take_along_axis(plane, channel, 2)[..., 0] for plane in (x, y))
    size = np.sqrt(gx * gx + gy * gy)
    around = cv2.blur(size, (15, 15))
    clear = size / (size + CLEAR + 1.5 * around)
    return _doubled(gx, gy, size, clear)


def _doubled(gx: Map, gy: Map, size: Map, clear: Map) -> Edges:
    unit = (gx + 1j * gy) / np.maximum(size, 1e-9)
    return np.asarray(clear * unit * unit, np.complex64)


def _drawn(model: Model, start: Camera, direction: Floats, distance: float) -> tuple[Camera, Edges]:
    """A square picture around the geometry, and its edges: outlines, folds, and borders of colours."""
    reach = model.radius / np.sqrt(max(distance**2 - model.radius**2, (0.3 * model.radius) ** 2))
    focal = 0.47 * DRAWN / reach
    lens = replace(start, width=DRAWN, height=DRAWN, fx=focal, fy=focal)
    view = looking_from(model, direction, lens, distance)
    shown = model.show(view)
    inside = shown.inside.astype(np.float32)
    depth = np.where(shown.inside, shown.depth, distance + 2 * model.radius) / model.radius
    turned = shown.normal @ view.cam_to_world[:3, :3].astype(np.float32)
    lightness = (shown.albedo @ np.array([0.299, 0.587, 0.114], np.float32)) ** (1 / 2.2)
    planes = [(inside, 1.0), (np.clip(depth, 0, 4).astype(np.float32), 1.2), (lightness * inside, 1.5)]
    planes += [(turned[..., k] * inside, 0.5) for k in range(3)]
    total = np.zeros(inside.shape, np.complex64)
    most = np.zeros(inside.shape, np.float32)
    for plane, share in planes:
        soft = cv2.GaussianBlur(plane, (0, 0), 0.8)
        gx, gy = cv2.Sobel(soft, cv2.CV_32F, 1, 0) / 8.0, cv2.Sobel(soft, cv2.CV_32F, 0, 1) / 8.0
        size = np.sqrt(gx * gx + gy * gy) * share
        stronger = size > most
        edge = _doubled(gx, gy, size / share, size / (size + 0.12))
        total = np.where(stronger, edge, total)
        most = np.where(stronger, size, most)
    return view, np.asarray(np.where(most > 0.04, total, 0), np.complex64)


def _template(edges: Edges, centre: float, factor: float, roll_deg: float, size: tuple[int, int]) -> Edges:
    """Drawn edges scaled, and turned as a rolled camera sees them, in the middle of a picture of the photo's size."""
    angle = -np.radians(roll_deg)
    linear = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = np.array([size[1] / 2, size[0] / 2]) - linear @ np.array([centre, centre])
    move = np.concatenate([linear, shift[:, None]], 1)
    move[:, 2] += move[:, :2] @ [0.5, 0.5] - 0.5
    planes = np.stack([edges.real, edges.imag], -1)
    if factor < 0.7:
        planes = cv2.GaussianBlur(planes, (0, 0), 0.35 / factor) / max(factor, 0.3)
    out = cv2.warpAffine(planes, move, (size[1], size[0]), flags=cv2.INTER_LINEAR)
    return np.asarray((out[..., 0] + 1j * out[..., 1]) * np.exp(2j * angle), np.complex64)


def _placed(
    model: Model,
    start: Camera,
    view: Camera,
    distance: float,
    size: float,
    roll: float,
    pixel: Floats,
    scale: float,
) -> Camera:
    """The camera of the photo under which the geometry's middle is at a pixel and its picture as large as the template."""
    base = replace(view, width=start.width, height=start.height, fx=start.fx, fy=start.fy, cx=start.width / 2, cy=start.height / 2)  # fmt: skip
    orbit = Orbit.of(base, model.anchor, model.radius)
    wanted = size * view.fx / scale  # focal length of the photo that shows it so large from there
    nearness = float(np.log(start.fx / wanted))
    nearness = max(nearness, float(np.log(1.1 * model.radius / distance)))
    right, down = (pixel - np.array([start.width / 2, start.height / 2])) / orbit.radius_px
    return orbit.camera(np.array([right, down, -nearness, 0.0, 0.0, np.radians(roll), nearness]))
