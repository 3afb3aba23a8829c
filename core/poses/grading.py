# SPDX-License-Identifier: GPL-3.0-or-later
"""Grades per camera and per set, in words for an artist (spec-pose C.8)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..cameras import rotations
from ..types import DOUBTFUL, GOOD
from .candidate import CHANCE, Candidate
from .sparse_model import SparseModel


@dataclass(frozen=True)
class Limits:
    """When a camera is good. Numbers of spec-pose C.8 where it names them, else our choice on the benchmark's sets."""

    points: int = 20
    """Points an image sees."""
    match_share: float = 0.6
    """Of its matches, that lie on the epipolar lines."""
    photo: float = CHANCE
    """Photo check of the image."""
    photo_mean: float = 0.12
    """Photo check of the whole set."""
    alone: float = 0.30
    """Photo check, of the image and of the set, that stands in for a second mapper's agreement."""
    rotation_deg: float = 2.0
    """Standard deviation from the adjustment."""
    agreement_deg: float = 1.5
    """Difference of its rotation in the two mappers' models. Right sets reach 1.2; both mappers' half turn on a mirrored
    object that was kept for tuning lay 1.5 to 2.2 apart."""
    alone_points: int = 100
    """Points that must hold a camera that only one mapper placed, with the photos as the second witness: on a bare object
    with a few spots the photo check passes wherever the outlines meet."""
    error_px: float = 2.0
    """Median reprojection error."""
    focal: float = 0.01
    """Standard deviation of its lens's focal length from the adjustment, as a share: depth and directions stretch with it."""


@dataclass(frozen=True)
class Evidence:
    """Numbers per image of a candidate, all (N,)."""

    points: NDArray[np.int64]
    error_px: NDArray[np.float64]
    angle_deg: NDArray[np.float64]
    """Median angle under which its points are seen."""
    coverage: NDArray[np.float64]
    """Share of an 8 x 8 grid over the picture with at least 3 points."""
    agreement_deg: NDArray[np.float64]
    """NaN where the other mapper lacks the image."""


def gather(candidate: Candidate, other: SparseModel | None, sizes: NDArray[np.int64]) -> Evidence:
    """Per-image numbers.

    Args:
        candidate: the chosen model.
        other: the other mapper's best model, None where it has none.
        sizes: (N, 2) working width and height of the candidate's images.
    """
    model = candidate.model
    error = np.linalg.norm(model.residuals(), axis=1)
    angles = model.angles_deg()
    count = len(model.images)
    of_image = [model.image_of == i for i in range(count)]
    coverage = np.zeros(count)
    for i, mine in enumerate(of_image):
        cell = np.clip((model.pixels[mine] / sizes[i] * 8).astype(int), 0, 7)
        coverage[i] = float((np.bincount(cell[:, 0] + 8 * cell[:, 1], minlength=64) >= 3).mean())
    return Evidence(
        points=np.bincount(model.image_of, minlength=count),
        error_px=np.array([np.median(error[mine]) if mine.any() else np.inf for mine in of_image]),
        angle_deg=np.array(
            [np.median(angles[model.point_of[mine]]) if mine.any() else 0.0 for mine in of_image]
        ),
        coverage=coverage,
        agreement_deg=disagreement(model, other),
    )


def disagreement(model: SparseModel, other: SparseModel | None) -> NDArray[np.float64]:
    """(N,) per image the median difference of its relative rotations to all common images, degrees; NaN where absent."""
    out = np.full(len(model.images), np.nan)
    if other is None:
        return out
    row = {name: number for number, name in enumerate(other.images)}
    common = [i for i, name in enumerate(model.images) if name in row]
    if len(common) < 2:
        return out
    mine = model.poses[common][:, :, :3]
    theirs = other.poses[[row[model.images[i]] for i in common]][:, :, :3]
    # R_i R_j^T in both models
    relative = np.einsum("iab,jcb->ijac", mine, mine)
    relative_other = np.einsum("iab,jcb->ijac", theirs, theirs)
    angle = rotations.angle_deg(np.einsum("ijba,ijbc->ijac", relative, relative_other))
    np.fill_diagonal(angle, np.nan)
    out[common] = np.nanmedian(angle, axis=1)
    return out


def grade_cameras(
    candidate: Candidate, evidence: Evidence, set_grade: str, limits: Limits | None = None
) -> list[tuple[str, str]]:
    """(grade, reason) per image: good, or doubtful with the first thing that speaks against it.

    A camera is good when two independent witnesses stand for it: the matches, and the other mapper or the photos. In a
    set of grade C nothing is good unless both of those confirm the set: parts that look alike can satisfy a single check.
    """
    limits = limits or Limits()
    judged = np.isfinite(candidate.photos).any()
    known = evidence.agreement_deg[np.isfinite(evidence.agreement_deg)]
    confirmed = len(known) > 0 and float(np.median(known)) <= 1.0 and candidate.photo_mean >= limits.alone
    set_fails = judged and candidate.photo_mean < limits.photo_mean
    lens = candidate.model.lens_of_image
    focal = (candidate.adjusted.lens[:, 0] / candidate.model.lenses[:, 0])[lens]
    out = []
    for i in range(len(candidate.model.images)):
        share, photo, agreement = candidate.matches.share[i], candidate.photos[i], evidence.agreement_deg[i]
        seen = min(photo, candidate.photo_mean) >= limits.alone and evidence.points[i] >= limits.alone_points
        checks = [
            (set_fails, "the photos do not agree with these cameras: two sides or parts may look alike"),
            (len(candidate.model.images) < 3, "two photos leave the focal length and the distance uncertain"),
            (evidence.points[i] < limits.points, f"only {evidence.points[i]} points hold it"),
            (not share >= limits.match_share, "many matches with its neighbours contradict its place"),
            (photo < limits.photo, "the photo does not fit its neighbours from there"),
            (agreement > limits.agreement_deg, "two methods place it differently"),
            (not agreement <= limits.agreement_deg and not seen, "only one method could place it"),
            (candidate.adjusted.rotation_deg[i] > limits.rotation_deg, "its direction is known only roughly"),
            (focal[i] > limits.focal, "its focal length is known only roughly"),
            (evidence.error_px[i] > limits.error_px, "its points fit badly"),
            (set_grade not in ("A", "B") and not confirmed, "the set as a whole could not be confirmed"),
        ]
        reason = next((text for fails, text in checks if fails), "")
        out.append((DOUBTFUL if reason else GOOD, reason))
    return out


def grade_set(candidate: Candidate, evidence: Evidence, total: int) -> tuple[str, dict[str, float]]:
    """Grade A, B or C of the whole set, and its numbers (spec-pose C.8).

    Args:
        candidate: the chosen model.
        evidence: of it.
        total: photos that should have had a camera; strangers do not count.
    """
    model = candidate.model
    share = len(model.images) / max(total, 1)
    error = float(np.median(np.linalg.norm(model.residuals(), axis=1)))
    length = len(model.image_of) / max(len(model.points), 1)
    angle = float(np.median(model.angles_deg()))
    known = evidence.agreement_deg[np.isfinite(evidence.agreement_deg)]
    agreement = float(np.median(known)) if len(known) else float("nan")
    photo = candidate.photo_mean
    numbers = {
        "registered_share": share,
        "reprojection_px": error,
        "track_length": length,
        "triangulation_deg": angle,
        "agreement_deg": agreement,
        "photo_check": photo,
        "matches_explained": candidate.matches.explained,
    }
    views_pass = not (candidate.photos < CHANCE).any()
    if (
        share >= 0.95
        and error <= 1.0
        and length >= 3
        and angle >= 4
        and agreement <= 0.5
        and photo >= 0.20
        and views_pass
    ):
        return "A", numbers
    confirmed = agreement <= 2.0 or photo >= Limits().alone
    if share >= 0.8 and len(model.images) > 2 and confirmed and photo >= Limits().photo_mean:
        return "B", numbers
    return "C", numbers
