# SPDX-License-Identifier: GPL-3.0-or-later
"""The object in one picture: its alpha, else what stands before a plain background, else what GrabCut makes of it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..progress import Progress
from ..types import Camera, View
from .plain_background import plain_evidence

SMALLEST_SIDE = 32
"""Pixels; less shows no shape that a model could go by."""
WORKING_SIDE = 512
"""Long side at which GrabCut works, pixels."""
LEAST, MOST = 0.003, 0.92
"""Share of the picture that an object covers; beyond that nothing was told from the background."""
PIECE = 0.01
"""Pieces smaller than this share of the largest one are dust."""
MARK = "Mark the object in a mask (white object), or give a picture with alpha."

Map = NDArray[np.float32]


def check_size(name: str, width: int, height: int) -> None:
    """Raises InputError IMAGE_TOO_SMALL for a picture that shows no shape."""
    if min(width, height) < SMALLEST_SIDE:
        raise InputError(
            "IMAGE_TOO_SMALL",
            f"{name} has {width} x {height} pixels; an object cannot be told in fewer than {SMALLEST_SIDE}.",
            "Use a larger picture.",
        )


def object_mask(name: str, rgb: Map, alpha: Map | None, progress: Progress, mode: str = "auto") -> Map:
    """Where one picture shows its object.

    Args:
        name: of the picture, for messages.
        rgb: (H, W, 3) float32 sRGB 0..1.
        alpha: (H, W) float32 0..1, None where the file has none.
        progress: gets a warning where the outline is a guess.
        mode: auto; alpha: nothing but alpha; none: the whole picture is the object.

    Returns:
        (H, W) float32 0..1, 1 object. Alpha is returned as it is.

    Raises:
        InputError: IMAGE_TOO_SMALL; FULLY_TRANSPARENT; NO_ALPHA (mode alpha); NO_FOREGROUND.
    """
    check_size(name, rgb.shape[1], rgb.shape[0])
    if mode == "none":
        return np.ones(rgb.shape[:2], np.float32)
    if alpha is not None and alpha.max() < 0.5:
        raise InputError(
            "FULLY_TRANSPARENT", f"{name} is transparent everywhere.", "Use a picture that shows something."
        )
    if alpha is not None and (
        mode == "alpha" or float((alpha > 0.5).mean()) <= MOST
    ):  # else rounded corners and the like
        return checked(name, alpha)
    if mode == "alpha":
        raise InputError("NO_ALPHA", f"{name} has no alpha.", "Let the mask be found (auto), or paint one.")
    if float(np.ptp(rgb.reshape(-1, 3), axis=0).max()) < 0.04:
        raise InputError("NO_FOREGROUND", f"{name} shows one colour and no object.", MARK)
    plain = _before_plain(rgb)
    if plain is not None:
        return checked(name, plain)
    progress.warning(f"The object in {name} was told from its background by colour; check its outline.")
    return checked(name, _grab_cut(rgb))


def checked(name: str, mask: Map, most: float = MOST) -> Map:
    """The mask, if it shows an object that covers at most the share `most` of its picture.

    Raises:
        InputError: NO_FOREGROUND.
    """
    share = float((mask > 0.5).mean())
    if not LEAST <= share <= most:
        what = (
            "no object" if share < LEAST else "nothing but the object, or no background that differs from it"
        )
        raise InputError("NO_FOREGROUND", f"{name} shows {what}.", MARK)
    return mask


def _before_plain(rgb: Map) -> Map | None:
    """Mask before a background of one colour; None where the border has several."""
    height, width = rgb.shape[:2]
    camera = Camera("", width, height, 1.0, 1.0, width / 2, height / 2, np.eye(4))
    found = plain_evidence([View(camera, rgb)])
    if found is None:
        return None
    outside = found[0] < 0.0
    solid = ~outside
    solid[_openings(rgb, outside, found[0] == 0.0)] = False
    return _smooth(_pieces(solid))


def _openings(rgb: Map, outside: NDArray[np.bool_], doubtful: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Enclosed spots through which the background shows: as exactly its colour as the rest of it (handles, chair backs).

    A highlight or a white eye before white differs a little more, has shading, or is a speck.
    """
    colour = np.median(rgb[outside], 0)
    away = np.abs(rgb - colour).max(2)
    noise = float(np.quantile(away[outside], 0.8)) + 0.012
    count, labels, stats, _ = cv2.connectedComponentsWithStats(doubtful.astype(np.uint8), connectivity=4)
    found = np.zeros(outside.shape, bool)
    for label in range(1, count):
        if stats[label, cv2.CC_STAT_AREA] < 2e-4 * outside.size:
            continue
        spot = labels == label
        if float(np.median(away[spot])) < noise:
            found |= spot
    return found


def _grab_cut(rgb: Map) -> Map:
    """GrabCut (Rother et al. 2004) from a prior: the border is background, the middle probably the object (our choice)."""
    height, width = rgb.shape[:2]
    scale = min(1.0, WORKING_SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    off = np.hypot((x + 0.5) / size[0] - 0.5, (y + 0.5) / size[1] - 0.5)
    labels = np.where(off < 0.38, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    edge = max(2, round(0.03 * max(size)))
    labels[:edge], labels[:, :edge], labels[:, -edge:] = cv2.GC_BGD, cv2.GC_BGD, cv2.GC_BGD
    labels[-2:] = cv2.GC_BGD  # things stand on the lower border more often than they touch the others
    cv2.setRNGSeed(0)  # the colour clusters start at random
    picture = np.ascontiguousarray((small * 255.0 + 0.5).astype(np.uint8))
    cv2.grabCut(picture, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)
    solid = cv2.morphologyEx((labels & 1).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    mask = _smooth(_pieces(solid > 0, off))
    factor = width / size[0]
    if factor > 1.0:
        mask = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
        mask = np.clip((mask - 0.5) * factor + 0.5, 0.0, 1.0)
    return mask


def _pieces(solid: NDArray[np.bool_], off: NDArray[np.float64] | None = None) -> NDArray[np.bool_]:
    """Without dust. Where the distance from the middle (0 .. 0.7) is given: only the piece that is large and central."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(solid.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA].astype(np.float64)
    if not len(areas):
        return solid
    if off is None:
        kept = np.flatnonzero(areas >= PIECE * areas.max()) + 1
    else:
        central = np.bincount(labels.ravel(), np.exp(-((off.ravel() / 0.25) ** 2)), count)[1:]
        kept = np.array([int(central.argmax()) + 1])
    return np.asarray(np.isin(labels, kept))


def _smooth(solid: NDArray[np.bool_]) -> Map:
    """An edge of about a pixel instead of steps."""
    return np.asarray(cv2.GaussianBlur(solid.astype(np.float32), (0, 0), 0.7), np.float32)
