# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras of photos, whatever it takes: the rungs from structure from motion down to a mere assumption.

A lower rung is taken only where those above left photos without a camera, and every camera says how far it can be trusted:
features, graded by their evidence; a learned estimate or outlines, made exact and graded by what features there are; the
same unconfirmed; a camera that only turned; a ring that is assumed. The last three are doubtful.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..cameras import rotations
from ..cameras.conventions import align_cameras, move_camera
from ..errors import FailedError, InputError
from ..progress import Progress
from ..types import DOUBTFUL, GOOD, Camera, Photo, PoseEstimate, SparseCloud
from .approximate import (
    Approximation,
    around_by_outlines,
    around_placed,
    between_by_outlines,
    find_outlines,
    improved_by_matches,
)
from .assumed import alone, ring, turned
from .hint import follow_hint
from .structure_from_motion import solve

log = logging.getLogger(__name__)

Masks = Mapping[str, NDArray[np.float32]]
Estimator = Callable[[list[Photo]], dict[str, Camera]]
"""Photos -> photo name and camera of the full-resolution photo, in one frame; OpenCV axes."""
ENOUGH = 0.8
"""Share of the photos with a camera from features, from which no other rung is asked."""
FITTING = 15.0
"""Degrees by which half of the cameras found may differ from the rough ones before those are taken for another story."""
PANORAMA = 2.6
"""Long side over short: no camera takes such a picture in one piece (cinema formats end at 2.4)."""


def find_cameras(
    photos: list[Photo],
    masks: Masks | None,
    progress: Progress,
    work_dir: Path,
    quality: str = "normal",
    seed: int = 0,
    hint: Sequence[Camera] = (),
    learned: Estimator | None = None,
) -> PoseEstimate:
    """Cameras and a grade for every photo of one static scene.

    Args:
        photos: one or more.
        masks: see `structure_from_motion.solve`.
        progress: the caller's stage; updated from 0 to 1, warned.
        work_dir: for scratch files, removed at the end.
        quality: draft | normal | high.
        seed: of every random draw.
        hint: cameras of one or two of the photos as the artist placed them; the result's world is theirs.
        learned: a network that estimates cameras, None where none is installed.

    Returns:
        Cameras for the full-resolution photos; photos without one in `failed`, each with a reason. Grade D where nothing
        but assumptions place them.

    Raises:
        InputError: PANORAMA where no picture is one of a camera. Cancelled.
    """
    strange = {photo.name: reason for photo in photos if (reason := _panorama(photo))}
    usable = [photo for photo in photos if photo.name not in strange]
    if not usable:
        raise InputError(
            "PANORAMA", "A panorama is put together from many photos and has no single camera.",
            "Use the photos that it was made from.",
        )  # fmt: skip
    found = _climb_down(usable, masks, progress, work_dir, quality, seed, learned)
    if hint:
        found = follow_hint(found, hint)
    progress.update(1.0)
    return replace(found, failed={**strange, **found.failed})


def _panorama(photo: Photo) -> str:
    """Why a picture is no photo of one camera; empty where it is."""
    if max(photo.width / photo.height, photo.height / photo.width) > PANORAMA:
        return "is a panorama: put together from many photos, it has no single camera"
    with photo.path.open("rb") as file:
        if b"GPano:ProjectionType" in file.read(1 << 17):
            return "is a panorama by its own description, and has no single camera"
    return ""


def _climb_down(
    photos: list[Photo],
    masks: Masks | None,
    progress: Progress,
    work_dir: Path,
    quality: str,
    seed: int,
    learned: Estimator | None,
) -> PoseEstimate:
    if len(photos) == 1:
        return alone(photos, "one photo does not show where it was taken from")
    try:
        solution = solve(photos, masks, progress, work_dir, quality, seed)
    except InputError as error:
        if error.code != "DUPLICATES_ONLY":
            raise
        return alone(photos, "all photos show the same picture, which does not show where it was taken from")
    except FailedError as error:
        progress.warning(f"{error.message} {error.remedy}")
        return ring(photos, f"the search for features failed ({error.code})")
    found = solution.estimate
    if solution.error is not None and solution.error.code == "NO_PARALLAX":
        return turned(photos, solution)
    if found is not None and len(found.cameras) >= ENOUGH * len(photos):
        return found
    for rough in _approximations(photos, masks, found, learned, progress, seed):
        better = improved_by_matches(photos, solution, rough, seed, progress.check)
        if better is not None and (found is None or _worth(better) > _worth(found)):
            found = better
        completed = _completed(photos, found, rough)
        if completed is not None:
            return completed
    if found is not None:
        return found
    assert solution.error is not None
    return ring(photos, solution.error.message.rstrip(".").lower())


def _worth(found: PoseEstimate) -> tuple[int, int]:
    return sum(camera.grade == GOOD for camera in found.cameras), len(found.cameras)


def _approximations(
    photos: list[Photo],
    masks: Masks | None,
    found: PoseEstimate | None,
    learned: Estimator | None,
    progress: Progress,
    seed: int,
) -> list[Approximation]:
    """What the other rungs say, the more trusted first."""
    out = []
    if learned is not None:
        reason = "was placed by a network; its features are too few to confirm that"
        out.append(Approximation(learned(photos), "learned", reason, True))
    outlines = find_outlines(photos, masks)
    if outlines is not None:
        rough = None
        if found is not None and len(found.cameras) >= 4 and found.grade in ("A", "B"):
            rough = around_placed(photos, found, masks, progress.check, seed)
            rough = rough or between_by_outlines(photos, found, outlines, progress.check)
        rough = rough or around_by_outlines(photos, outlines, progress.check)
        if rough is not None:
            out.append(rough)
    return out


def _completed(photos: list[Photo], found: PoseEstimate | None, rough: Approximation) -> PoseEstimate | None:
    """The rough cameras in place of those that are missing, moved into the frame of those found; None where they fit badly."""
    have = {camera.name: camera for camera in found.cameras} if found is not None else {}
    common = [name for name in have if name in rough.cameras]
    missing = [photo.name for photo in photos if photo.name in rough.cameras and photo.name not in have]
    if found is not None and (len(common) < 3 or not missing):
        return found if not missing else None
    move = np.eye(4)
    if found is not None:
        move = align_cameras([rough.cameras[name] for name in common], [have[name] for name in common])
        turns = [
            have[name].cam_to_world[:3, :3].T @ move_camera(rough.cameras[name], move).cam_to_world[:3, :3]
            for name in common
        ]
        if float(np.median(rotations.angle_deg(np.array(turns)))) > FITTING:
            log.info("%s: another story than the features', not used", rough.method)
            return None
    added = {
        name: replace(move_camera(rough.cameras[name], move), name=name, grade=DOUBTFUL, reason=rough.reason)
        for name in missing
    }
    cameras = {**have, **added}
    empty = SparseCloud(np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    base = found or PoseEstimate([], {}, empty, rough.method, "C" if rough.trusted else "D")
    ordered = [cameras[photo.name] for photo in photos if photo.name in cameras]
    place = {camera.name: number for number, camera in enumerate(ordered)}
    row = np.array([place[camera.name] for camera in base.cameras], np.int32)
    return replace(
        base,
        cameras=ordered,
        failed={name: reason for name, reason in base.failed.items() if name not in added},
        cloud=replace(base.cloud, observers=[row[seen] for seen in base.cloud.observers]),
        grade=max(base.grade, "C"),
        metrics={**base.metrics, "registered": len(ordered), "photos": len(photos), "approximate": len(added)},
        advice=[
            f"{len(added)} of {len(photos)} cameras are rough: each {rough.reason}. Put the object on a patterned surface, "
            "or add photos with smaller steps.",
            *base.advice,
        ],
    )  # fmt: skip
