# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras of photos by structure from motion: attempts from quick to thorough, two mappers each, the better one kept."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import FailedError, InputError, MissingError
from ..progress import Progress
from ..types import GOOD, Camera, Photo, PoseEstimate, SparseCloud
from . import advice
from .basic_sfm import run_basic_sfm
from .candidate import Candidate, finish
from .grading import Evidence, disagreement, gather, grade_cameras, grade_set
from .match_check import check_matches
from .pairing import choose_pairs
from .parallax import only_turned
from .sfm_process import SfmOptions, SfmResult, run_sfm
from .sparse_model import SparseModel
from .working_copies import GUESSED_FOCAL, Copy, WorkingSet, make_copies

log = logging.getLogger(__name__)

# The ladder of spec-pose C.7; COLMAP's default contrast of 0.0067 leaves the temple and other small pictures with too
# few features, 0.004 costs little.
ATTEMPTS: dict[str, tuple[SfmOptions, ...]] = {
    "draft": (SfmOptions(features=2048), SfmOptions(features=4096, peak=0.0015, guided=True)),
    "normal": (
        SfmOptions(),
        SfmOptions(peak=0.0015, guided=True),
        SfmOptions(peak=0.001, affine=True, guided=True),
    ),
    "high": (
        SfmOptions(features=8192),
        SfmOptions(features=8192, peak=0.0015, guided=True),
        SfmOptions(features=8192, peak=0.001, affine=True, guided=True),
    ),
}
LONG_SIDE = {"draft": 1000, "normal": 1600, "high": 2400}
LIMIT_S = 3600.0
EXIF_TRUST = 0.15
"""Of the logarithm of the focal length: a larger difference is no rounding of a lens's name (three times the prior's)."""


@dataclass(frozen=True)
class Solution:
    """What the attempts left: cameras, or the reason why there are none, and what was found on the way."""

    estimate: PoseEstimate | None
    error: InputError | None
    """LOW_TEXTURE, NO_OVERLAP or NO_PARALLAX where there is no estimate."""
    working: WorkingSet
    """Its files are gone, its thumbnails and masks are not."""
    found: SfmResult
    """Features, matches and models of the attempt that was kept."""


def estimate(
    photos: list[Photo],
    masks: Mapping[str, NDArray[np.float32]] | None,
    progress: Progress,
    work_dir: Path,
    quality: str = "normal",
    seed: int = 0,
) -> PoseEstimate:
    """Cameras of photos by structure from motion alone; see `solve`.

    Raises:
        InputError: LOW_TEXTURE, NO_OVERLAP, NO_PARALLAX, and what `solve` raises.
    """
    solution = solve(photos, masks, progress, work_dir, quality, seed)
    if solution.estimate is None:
        assert solution.error is not None
        raise solution.error
    return solution.estimate


def solve(
    photos: list[Photo],
    masks: Mapping[str, NDArray[np.float32]] | None,
    progress: Progress,
    work_dir: Path,
    quality: str = "normal",
    seed: int = 0,
) -> Solution:
    """Find the cameras of photos of one static scene.

    Args:
        photos: two or more.
        masks: photo name -> (h, w) float32 0..1 of the whole photo in any size, 1 where features may be taken; None for
            the whole picture (better while the object rests on its table; needed where the object was turned before a
            fixed background). Photos with alpha are masked by it.
        progress: the caller's stage; updated from 0 to 1, warned.
        work_dir: working copies and the child's files are written to `work_dir/sfm` and removed at the end.
        quality: draft | normal | high.
        seed: of every random draw.

    Returns:
        Cameras for the full-resolution photos with grades, photos without a usable one in `failed`, the frame arbitrary
        (see `frame.orient`); or the reason why there are none.

    Raises:
        InputError: ONE_PHOTO, DUPLICATES_ONLY.
        FailedError: SFM_CRASHED, SFM_TIMEOUT. Cancelled.
    """
    if len(photos) < 2:
        raise InputError(
            "ONE_PHOTO", "Cameras are found from several photos that overlap; only one was given.",
            "Add more photos, or use a method for a single picture.",
        )  # fmt: skip
    folder = work_dir / "sfm"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        working = make_copies(
            photos, masks, folder, LONG_SIDE[quality], progress, 0.08, enlarge=quality != "draft"
        )
        if len(working.copies) < 2:
            raise InputError(
                "DUPLICATES_ONLY", f"All {len(photos)} photos show the same picture.",
                "Take photos from different places around the object.",
            )  # fmt: skip
        return _climb(photos, working, progress, quality, seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _climb(photos: list[Photo], working: WorkingSet, progress: Progress, quality: str, seed: int) -> Solution:
    """The attempts in order, until one is good."""
    pairs = choose_pairs(working)
    best: tuple[tuple[float, ...], PoseEstimate, SfmResult, WorkingSet] | None = None
    last: SfmResult | None = None
    began = time.monotonic()
    attempts = list(ATTEMPTS[quality])
    number = 0
    while attempts:
        # Each attempt takes half of what is left: most sets need only the first.
        span = (1 - 0.92 * 0.5**number, 1 - 0.92 * 0.5 ** (number + 1))
        options = replace(attempts.pop(0), seed=seed, use_masks=working.masked)
        limit = LIMIT_S - (time.monotonic() - began)
        try:
            last = _run(working, options, pairs, working.folder / f"attempt{number}", progress, span, limit)
        except FailedError as error:
            if best is None:
                raise
            log.warning("attempt %d failed, the one before is kept: %s", number, error)
            break
        number += 1
        if only_turned(last.pairs, last.keypoints, working):
            return Solution(None, advice.no_parallax(), working, last)
        found = estimate_from(photos, working, last, seed, progress.check)
        if found is not None:
            rank = _rank(found)
            log.info("attempt %d: grade %s, %s", number, found.grade, found.metrics)
            if best is None or rank > best[0]:
                best = rank, found, last, working
        if _doubts_exif(working, best[1] if best else None):
            log.info("the focal lengths of EXIF are left aside")
            working, attempts = _without_exif(working), [options, *attempts]
        elif best is not None and attempts and not _worth_trying(attempts[0], best[1]):
            break
    if best is None:
        assert last is not None
        return Solution(None, advice.why_no_model(last), working, last)
    progress.update(1.0)
    return Solution(best[1], None, best[3], best[2])


def _run(
    working: WorkingSet,
    options: SfmOptions,
    pairs: list[tuple[str, str]] | None,
    folder: Path,
    progress: Progress,
    span: tuple[float, float],
    limit_s: float,
) -> SfmResult:
    """pycolmap in its child, or the basic method where there is no pycolmap."""
    try:
        return run_sfm(working, options, pairs, folder, progress, span, limit_s)
    except MissingError:
        log.warning("pycolmap is missing: the basic method takes its place")
        return run_basic_sfm(working, options, pairs, progress, span)


def estimate_from(
    photos: list[Photo],
    working: WorkingSet,
    found: SfmResult,
    seed: int,
    check: Callable[[], None] = lambda: None,
) -> PoseEstimate | None:
    """Cameras of the better one of the models in `found`, checked and graded; None where none holds."""
    candidate, other = _best_candidate(found, working, seed, check)
    return None if candidate is None else _as_estimate(photos, working, found, candidate, other)


def _doubts_exif(working: WorkingSet, found: PoseEstimate | None) -> bool:
    """Whether EXIF's focal lengths may be what keeps the photos apart, or the photos contradict them clearly."""
    known = {lens.focal / max(lens.width, lens.height) for lens in working.lenses.values() if lens.known}
    if not known:
        return False
    if found is None or found.grade == "C":
        return True
    solved = float(np.median([camera.fx / max(camera.width, camera.height) for camera in found.cameras]))
    return min(abs(np.log(solved / focal)) for focal in known) > EXIF_TRUST


def _without_exif(working: WorkingSet) -> WorkingSet:
    lenses = {
        group: replace(lens, focal=GUESSED_FOCAL * max(lens.width, lens.height), known=False)
        for group, lens in working.lenses.items()
    }
    return replace(working, lenses=lenses)


def _worth_trying(options: SfmOptions, found: PoseEstimate) -> bool:
    """Whether more features may save photos that are missing or uncertain; strangers and impostors are left in peace.

    The affine attempt takes six times as long, so a few photos are not worth it.
    """
    linked = [name for name, reason in found.failed.items() if reason not in advice.APART]
    wanting = len(linked) + sum(camera.grade != GOOD for camera in found.cameras)
    return wanting > (0.2 * (len(found.cameras) + len(linked)) if options.affine else 0)


def _rank(found: PoseEstimate) -> tuple[float, ...]:
    good = sum(camera.grade == GOOD for camera in found.cameras)
    return ("DCBA".index(found.grade) >= 2, good, len(found.cameras), found.metrics["photo_check"])


def _best_candidate(
    found: SfmResult, working: WorkingSet, seed: int, check: Callable[[], None]
) -> tuple[Candidate | None, SparseModel | None]:
    """The model to believe, and the other mapper's, which has its own say in the grades.

    The model whose places the matches support for most images is finished first; the other only when the photos or the
    disagreement of the two speak against the first.
    """
    largest: dict[str, SparseModel] = {}
    for model in found.models:  # largest first within a mapper
        largest.setdefault(model.mapper, model)
    order = sorted(largest.values(), key=lambda m: _support(m, found), reverse=True)
    candidates: list[Candidate] = []
    for model in order:
        candidate = finish(model, found, working, seed, check)
        if candidate is None:
            continue
        candidates.append(candidate)
        difference = disagreement(candidate.model, next((m for m in order if m is not model), None))
        agree = np.isfinite(difference).any() and float(np.nanmedian(difference)) < 2.0
        if agree and candidate.photo_mean >= 0.10:
            break
    if not candidates:
        return None, None
    best = max(
        candidates, key=lambda c: (round(c.photo_mean / 0.05) * len(c.model.images), c.matches.supported)
    )
    others = [c.model for c in candidates if c is not best] + [
        m for m in order if m.mapper != best.model.mapper
    ]
    if not others:
        return best, None
    # Images that its own matches convict have no say.
    return best, others[0].without(check_matches(others[0], found.pairs, found.keypoints).misplaced)


def _support(model: SparseModel, found: SfmResult) -> tuple[int, int]:
    check = check_matches(model, found.pairs, found.keypoints)
    return len(model.images) - len(check.misplaced), check.supported


def _as_estimate(
    photos: list[Photo],
    working: WorkingSet,
    found: SfmResult,
    candidate: Candidate,
    other: SparseModel | None,
) -> PoseEstimate:
    """Cameras of the full-resolution photos in their order, repeats included."""
    candidate = replace(candidate, model=candidate.model.in_own_frame())
    model = candidate.model
    copies = {copy.name: copy for copy in working.copies}
    evidence = gather(candidate, other, np.array([[copies[n].width, copies[n].height] for n in model.images]))
    names = [copies[name].photo.name for name in model.images]
    failed = advice.why_failed(
        [p.name for p in photos if working.repeats.get(p.name, p.name) not in names],
        working,
        found,
        candidate,
    )
    strangers = sum(reason in advice.APART for reason in failed.values())
    grade, metrics = grade_set(candidate, evidence, max(len(working.copies) - strangers, len(names)))
    solved: dict[str, Camera] = {}
    for number, (camera_grade, reason) in enumerate(grade_cameras(candidate, evidence, grade)):
        camera = _camera(copies[model.images[number]], model, number)
        solved[camera.name] = replace(camera, grade=camera_grade, reason=reason)
    for repeat, original in working.repeats.items():
        if original in solved:
            solved[repeat] = replace(solved[original], name=repeat)
    cameras = [solved[photo.name] for photo in photos if photo.name in solved]
    place = {camera.name: number for number, camera in enumerate(cameras)}
    focal_known = all(lens.known for lens in working.lenses.values())
    return PoseEstimate(
        cameras=cameras,
        failed=failed,
        cloud=_cloud(model, [place[copies[name].photo.name] for name in model.images]),
        method="sfm",
        grade=grade,
        metrics={
            **metrics,
            "registered": len(cameras),
            "photos": len(photos),
            "mapper": model.mapper,
            "per_camera": _per_camera(names, candidate, evidence),
        },
        advice=advice.advise(candidate, evidence, copies, failed, focal_known),
    )


def _camera(copy: Copy, model: SparseModel, number: int) -> Camera:
    """From the working picture to the full-resolution photo."""
    fx, fy, cx, cy, k1, k2, p1, p2 = model.lenses[model.lens_of_image[number]].tolist()
    pose = np.eye(4)
    pose[:3, :3] = model.poses[number, :, :3].T
    pose[:3, 3] = model.centres[number]
    camera = Camera(copy.photo.name, copy.width, copy.height, fx, fy, cx, cy, pose, (k1, k2, p1, p2))
    return camera.resized(copy.photo.width, copy.photo.height)


def _cloud(model: SparseModel, camera_of: list[int]) -> SparseCloud:
    """Points that three images see, or two under a clear angle; observers as indices into the cameras."""
    kept = (model.track_lengths() >= 3) | (model.angles_deg() >= 2.0)
    seen = kept[model.point_of]
    order = np.argsort(model.point_of[seen], kind="stable")
    observers = np.array(camera_of, np.int32)[model.image_of[seen][order]]
    lengths = model.track_lengths()[kept]
    return SparseCloud(
        model.points[kept], model.colors[kept], list(np.split(observers, np.cumsum(lengths)[:-1]))
    )


def _per_camera(names: list[str], candidate: Candidate, evidence: Evidence) -> dict[str, dict[str, float]]:
    """What the panel shows per camera."""
    columns = {
        "points": evidence.points,
        "error_px": evidence.error_px,
        "angle_deg": evidence.angle_deg,
        "coverage": evidence.coverage,
        "agreement_deg": evidence.agreement_deg,
        "matches": candidate.matches.share,
        "photo_check": candidate.photos,
        "sigma_deg": candidate.adjusted.rotation_deg,
    }
    return {
        name: {key: round(float(values[i]), 4) for key, values in columns.items() if np.isfinite(values[i])}
        for i, name in enumerate(names)
    }
