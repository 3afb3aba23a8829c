# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras that the artist placed by hand for one or two of the photos: the result's world becomes theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..cameras.conventions import align_cameras
from ..types import DOUBTFUL, Camera, PoseEstimate
from .frame import common_point


def follow_hint(found: PoseEstimate, hint: Sequence[Camera]) -> PoseEstimate:
    """The estimate with `world` such that the hinted photos' cameras stand where the artist put them.

    Two hints fix place, turn and size. One fixes place and turn; the size follows from the distance to what the photos look
    at, which is put where the hint's axis passes nearest to the world's origin. A hinted photo without a camera gets the
    hint itself as soon as another one ties the frames together.

    Args:
        found: cameras in any frame.
        hint: of photos of the job, world frame; others are left out.
    """
    solved = {camera.name: camera for camera in found.cameras}
    hinted = {camera.name: camera for camera in hint}
    common = [name for name in hinted if name in solved]
    if not common:
        return replace(
            found, advice=[*found.advice, "None of the hinted photos has a camera: the hint was not used."]
        )
    if len(common) > 1 and _apart([solved[name] for name in common]):
        world = align_cameras([solved[name] for name in common], [hinted[name] for name in common])
    else:
        world = _from_one(solved[common[0]], hinted[common[0]], found.cameras)
    back = np.linalg.inv(world)
    scale = np.cbrt(np.linalg.det(back[:3, :3]))
    added = []
    for name, camera in hinted.items():
        if name in found.failed:
            pose = np.eye(4)
            pose[:3, :3] = back[:3, :3] / scale @ camera.cam_to_world[:3, :3]
            pose[:3, 3] = back[:3, :3] @ camera.centre + back[:3, 3]
            reason = "stands where it was placed by hand; no other photo confirms it"
            added.append(replace(camera, cam_to_world=pose, grade=DOUBTFUL, reason=reason))
    failed = {name: reason for name, reason in found.failed.items() if name not in hinted}
    return replace(found, cameras=[*found.cameras, *added], failed=failed, world=world)


def _apart(cameras: list[Camera]) -> bool:
    centres = np.array([camera.centre for camera in cameras])
    return float(np.linalg.norm(centres - centres.mean(0), axis=1).max()) > 1e-6


def _from_one(solved: Camera, hinted: Camera, cameras: list[Camera]) -> NDArray[np.float64]:
    """Similarity (4, 4) that moves one camera onto its hint."""
    turn = hinted.cam_to_world[:3, :3] @ solved.cam_to_world[:3, :3].T
    depth = float((common_point(cameras) - solved.centre) @ solved.cam_to_world[:3, 2])
    wanted = float(-hinted.centre @ hinted.cam_to_world[:3, 2])
    scale = wanted / depth if wanted > 0 and depth > 1e-9 else 1.0
    out = np.eye(4)
    out[:3, :3] = scale * turn
    out[:3, 3] = hinted.centre - scale * turn @ solved.centre
    return out
