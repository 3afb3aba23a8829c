# SPDX-License-Identifier: GPL-3.0-or-later
"""From a coarse silhouette and evidence per pixel to an outline that follows colours and edges."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from ..progress import Progress
from ..types import View
from .colours import BINS, colour_index, colour_odds, density, histogram
from .hull import Hull

SURE_OBJECT, SURE_BACKGROUND = 1.2, -2.0
"""Smoothed log odds beyond which GrabCut may not change a pixel (our choice, on rendered scenes)."""
WEAK = 1.5
"""Evidence below which a firm hull decides."""
Map = NDArray[np.float32]


def cut_out(
    views: list[View],
    outlines: list[Map],
    evidence: list[Map],
    hull: Hull,
    progress: Progress,
    standing: list[Map] | None = None,
) -> tuple[list[Map], list[Map], NDArray[np.float64]]:
    """Masks of all views.

    Log odds of three sources are added: the evidence, the colours (histogram of the object from all views against that of
    the view's surroundings) and the distance to the hull's outline. They are smoothed along edges by a guided filter
    (He et al. 2013), and what stays in doubt is settled by GrabCut (Rother et al. 2004).

    Args:
        views: pictures.
        outlines: per view (H, W) 0..1, the hull's silhouette.
        evidence: per view (H, W) log odds of the object from other sources.
        hull: gives the size of a voxel, in which distances to the outline count.
        progress: asked to cancel.
        standing: per view (H, W) 0..1, silhouette of what `hull.stand` made of the hull: believed rather than the colours
            where the evidence is weak.

    Returns:
        Masks (H, W) float32, 0 or 1; the same with all pixels that may be object by their colour, for sources that must
        see none of it; and the colour density of the object.
    """
    units = [max(2.0, hull.pixels_per_voxel(view.camera)) for view in views]
    depths = [_depth_inside(outline, unit) for outline, unit in zip(outlines, units, strict=True)]
    colours = [colour_index(view.rgb) for view in views]
    front = object_colours(views, evidence, depths)

    feet: list[Map | None] = [None] * len(views)
    if standing is not None:
        feet = [_depth_inside(outline, unit) for outline, unit in zip(standing, units, strict=True)]

    def one(item: tuple[View, Map, Map, NDArray[np.int32], Map | None]) -> tuple[Map, Map]:
        progress.check()
        view, depth, plane, colour, foot = item
        mask, doubtful = np.zeros_like(depth), np.zeros_like(depth)
        rows, columns = np.nonzero(depth > -7.9)
        if len(rows):  # the rest of the picture is far from the hull
            box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            mask[box], doubtful[box] = _cut_one(
                view.rgb[box], depth[box], plane[box], colour[box], front, None if foot is None else foot[box]
            )
        return mask, doubtful

    with ThreadPoolExecutor(2) as pool:
        pairs = list(pool.map(one, zip(views, depths, evidence, colours, feet, strict=True)))
    return [mask for mask, _ in pairs], [doubtful for _, doubtful in pairs], front


def object_colours(views: list[View], evidence: list[Map], depths: list[Map]) -> NDArray[np.float64]:
    """Colour density of what surely is object in any view: strong evidence, else the inside of the hull."""
    count = np.zeros(BINS**3)
    for view, plane, depth in zip(views, evidence, depths, strict=True):
        sure = (cv2.boxFilter(plane, -1, (3, 3)) > 3.0) & (depth > -1.0)
        count += histogram(colour_index(view.rgb[sure if sure.sum() > 50 else depth > 2.0]))
    return density(count)


def _cut_one(
    rgb: Map,
    depth: Map,
    evidence: Map,
    colour: NDArray[np.int32],
    front: NDArray[np.float64],
    foot: Map | None,
) -> tuple[Map, Map]:
    known = np.abs(evidence) > 1e-6
    around = ((depth < -1.5) | (evidence < -2.0)) & (depth > -7.9)
    # What stands before the wall has none of the table behind it: each has its own colours.
    ratio = np.zeros_like(depth)
    for part in (known, ~known):
        own = around & part
        back = density(histogram(colour[own if own.sum() > 100 else around]))
        ratio[part] = colour_odds(front, back, colour[part])
    # Outside the hull is not object; inside says little, since hulls fill hollows.
    shape = np.where(
        depth < -1.0, 0.75 * (depth + 1.0), np.clip(depth, -1.0, 2.0) * np.where(known, 0.15, 0.5)
    )
    trust = np.where(known, 0.3, 0.6)
    if foot is not None:
        weak = known & (np.abs(evidence) < WEAK)
        shape = np.where(weak, 1.5 * np.clip(foot, -2.0, 2.0), shape)
        trust = np.where(weak, 0.0, trust)
    odds = np.clip(trust * ratio + shape + evidence, -6.0, 6.0).astype(np.float32)
    odds = guided_filter(rgb, odds, radius=3, smoothness=4e-4)
    labels = np.where(odds > 0.4, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[odds > SURE_OBJECT] = cv2.GC_FGD
    labels[(odds < SURE_BACKGROUND) | (depth < -6.0)] = cv2.GC_BGD
    mask = grab_cut(rgb, labels)
    return mask, np.maximum(mask, ((depth > 0.0) & (ratio > 0.5)).astype(np.float32))


def grab_cut(rgb: Map, labels: NDArray[np.uint8]) -> Map:
    """GrabCut (Rother et al. 2004) of a picture (H, W, 3) 0..1 from labels (H, W) as in OpenCV, which are changed: (H, W) 0 or 1."""
    if (labels == cv2.GC_FGD).any() and (labels == cv2.GC_BGD).any():
        picture = np.ascontiguousarray((rgb * 255.0 + 0.5).astype(np.uint8))
        cv2.setRNGSeed(0)  # per thread; the colour clusters start at random
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(picture, labels, None, *models, 2, cv2.GC_INIT_WITH_MASK)
    return np.asarray(labels & 1, np.float32)


def guided_filter(rgb: Map, value: Map, radius: int, smoothness: float) -> Map:
    """Smooth `value` (H, W) where the colours of `rgb` (H, W, 3) are smooth (He, Sun, Tang 2013, equations 19 to 21)."""

    def mean(plane: Map) -> Map:
        size = (2 * radius + 1, 2 * radius + 1)
        return np.asarray(cv2.boxFilter(plane, -1, size, borderType=cv2.BORDER_REFLECT), np.float32)

    mean_rgb, mean_value = mean(rgb), mean(value)
    covariance = mean(rgb * value[..., None]) - mean_rgb * mean_value[..., None]
    spread = np.empty((*value.shape, 3, 3), np.float32)
    for i in range(3):
        for j in range(i, 3):
            plane = mean(rgb[..., i] * rgb[..., j]) - mean_rgb[..., i] * mean_rgb[..., j]
            spread[..., i, j] = spread[..., j, i] = plane + (smoothness if i == j else 0.0)
    slope = np.linalg.solve(spread, covariance[..., None])[..., 0].astype(np.float32)
    offset = mean_value - (slope * mean_rgb).sum(2)
    return np.asarray((mean(slope) * rgb).sum(2) + mean(offset), np.float32)


def _depth_inside(outline: Map, unit: float) -> Map:
    """Signed distance to the outline in units, positive inside, at most 8."""
    inside = (outline > 0.5).astype(np.uint8)
    within = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    beyond = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3)
    return np.asarray(np.clip((within - beyond) / unit, -8.0, 8.0), np.float32)
