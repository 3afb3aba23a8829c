# SPDX-License-Identifier: GPL-3.0-or-later
"""What to tell the artist: why there is no model, why a photo has no camera, and which photos would help."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from .candidate import Candidate
from .grading import Evidence
from .sfm_process import SfmResult
from .working_copies import Copy, WorkingSet

STRANGER = "shares no view with the other photos"
GAP = "overlaps only with other photos that have no link to the rest: there is a gap, or they show something else"
CONVICTED = "fits the others only in a place that the photos refute (mirrored, or a part that looks alike)"
APART = (STRANGER, GAP, CONVICTED)
"""Reasons for which more features would not help."""
FEW_FEATURES = 150
"""Per picture; below, matching is luck."""


def why_no_model(found: SfmResult) -> InputError:
    """The typed error for a set without any model."""
    counts = [len(points) for points in found.keypoints.values()]
    if np.median(counts) < FEW_FEATURES:
        return InputError(
            "LOW_TEXTURE",
            f"The photos show too little texture to find the cameras ({int(np.median(counts))} features per photo).",
            "Put the object on a newspaper or another patterned surface, or use sharper photos.",
        )
    return InputError(
        "NO_OVERLAP",
        "The photos do not overlap enough to find the cameras.",
        "Take more photos of the same object, with steps under 20 degrees from one to the next.",
    )


def no_parallax() -> InputError:
    """The typed error for a camera that stood still."""
    return InputError(
        "NO_PARALLAX",
        "The camera only turned on the spot: without moving, it sees no depth.",
        "Step sideways between photos: the camera has to move around the object.",
    )


def why_failed(
    names: list[str], working: WorkingSet, found: SfmResult, candidate: Candidate
) -> dict[str, str]:
    """Photo -> reason, for photos without a camera."""
    copy_of = {copy.photo.name: copy for copy in working.copies}
    placed = set(candidate.model.images)
    out = {}
    for name in names:
        copy = copy_of.get(working.repeats.get(name, name))
        if copy is None:
            continue
        features = len(found.keypoints.get(copy.name, ()))
        # Strangers may well overlap with each other.
        pairs = [pair for pair in found.pairs if copy.name in (pair.a, pair.b) and {pair.a, pair.b} & placed]
        if copy.name in candidate.convicted:
            out[name] = CONVICTED
        elif features < FEW_FEATURES:
            out[name] = f"shows too little texture ({features} features)"
        elif _in_other_group(copy.name, placed, found):
            out[name] = GAP
        elif max((len(pair.matches) for pair in pairs), default=0) < 30:
            out[name] = STRANGER
        else:
            out[name] = "shares too little view with the others"
    return out


def _in_other_group(name: str, placed: set[str], found: SfmResult) -> bool:
    """Whether another model holds the picture and hardly any of those that are placed."""
    return any(
        name in model.images and len(placed & set(model.images)) <= 0.2 * len(model.images)
        for model in found.models
    )


def advise(
    candidate: Candidate,
    evidence: Evidence,
    copies: dict[str, Copy],
    failed: dict[str, str],
    focal_known: bool,
) -> list[str]:
    """Instructions, most useful first; empty when there is nothing to improve."""
    out = []
    names = [copies[name].photo.name for name in candidate.model.images]
    if failed:
        some = ", ".join(sorted(failed)[:4]) + (" ..." if len(failed) > 4 else "")
        out.append(
            f"{len(failed)} of {len(failed) + len(names)} photos have no camera ({some}): remove them if they show "
            "something else, or add photos between them and the others (steps under 20 degrees)."
        )
    if candidate.photo_mean < 0.10 and np.isfinite(candidate.photos).any():
        out.append(
            "The cameras do not agree with the photos: two sides or parts may look alike. Mask the background, or add "
            "photos with smaller steps."
        )
    lonely = [names[i] for i in np.flatnonzero(candidate.matches.neighbours < 2)]
    if lonely and len(names) > 2:
        out.append(f"Only one other photo overlaps with {', '.join(lonely[:4])}: add photos beside it.")
    if np.median(evidence.points) < 100:
        out.append(
            "Little texture was found: a patterned surface under the object makes the cameras more exact."
        )
    used = np.unique(candidate.model.lens_of_image)
    spread = (candidate.adjusted.lens[:, 0] / candidate.model.lenses[:, 0])[used]
    if not focal_known and float(spread.max()) > 0.03:
        out.append(
            "The focal length is uncertain: add photos from nearer and farther, or keep the photos' EXIF data."
        )
    return out
