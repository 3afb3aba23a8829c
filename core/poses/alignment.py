# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera of a photo solved against geometry that is there already: render, compare, and step.

First cameras come from the outline's shape and from matched features (`alignment_search`), and where those convince nobody from
edges alone (`alignment_templates`); all are brought closer at a small size, the best go on, and the last is fitted at the
working size (`alignment_steps`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..cameras.rotations import angle_deg
from ..errors import FailedError
from ..progress import Progress
from ..scene_geometry import SceneGeometry
from ..types import DOUBTFUL, GOOD, Camera
from .alignment_evidence import NOTHING, SURE, Evidence
from .alignment_model import Model
from .alignment_search import Start, by_features, by_outline
from .alignment_steps import Fitted, FocalPrior, Stage, agreement, fit_stage
from .alignment_templates import by_edges
from .in_threads import in_threads

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

COARSE = (
    Stage(side=112, steps=5, reach=14.0, blur=1.5, by_mask=True, surface=False, free_focal=False),
    Stage(side=112, steps=5, reach=6.0, blur=1.5, by_mask=True, free_focal=False),
)
COARSE_UNMASKED = (
    Stage(side=112, steps=4, reach=7.0, blur=1.5, free_focal=False),
    Stage(side=112, steps=4, reach=5.0, blur=1.5, free_focal=False),
)
MIDDLE = (Stage(side=224, steps=8, reach=8.0, blur=1.5), Stage(side=224, steps=5, reach=5.0, blur=1.0))
CLEAR_LEAD = 0.4
"""Of the score over the next best: about what a wrong place costs."""
FOLLOWED = 4
"""Cameras that go on to the middle size."""
DISTANCE = 0.015
"""Standard deviation of the distance from which a camera is doubtful; on the objects of the packs (`bench_align --set tuning`)
errors are about as large as it says."""
FINE = (
    Stage(side=400, steps=6, reach=6.0, blur=1.2),
    Stage(side=800, steps=7, reach=5.0, blur=1.0),
)


@dataclass(frozen=True)
class AlignmentSettings:
    """Settings of `align_camera`."""

    within_deg: float = 80.0
    """How far round the geometry the camera may stand from where the start stands; 180: anywhere."""
    focal_px: float | None = None
    """Focal length in pixels of the full-resolution photo where it is known (EXIF); None: the start's is a guess."""
    focal_sigma: float = 0.3
    """Uncertainty of the logarithm of the focal length."""
    starts: int = 12
    """Outline starts that are followed."""


@dataclass(frozen=True)
class Alignment:
    """What `align_camera` yields."""

    camera: Camera
    """In pixels of the photo; grade and reason set."""
    metrics: dict[str, float]
    """reprojection_px (of the photo), silhouette_iou where the mask is sure, edges, surface, score, lead over the next best,
    rotation_sigma_deg, distance_sigma, focal_sigma (shares)."""


@dataclass(frozen=True)
class _Rated:
    camera: Camera
    score: float
    parts: dict[str, float]
    source: str
    fitted: Fitted | None = None


def align_camera(
    geometry: SceneGeometry,
    photo: Evidence,
    start: Camera,
    settings: AlignmentSettings | None = None,
    progress: Progress | None = None,
) -> Alignment:
    """Solve rotation, position and focal length of a photo's camera.

    Args:
        geometry: what the photo shows; the photo may show other things too.
        photo: at the working size (long side about 800).
        start: in pixels of the full-resolution photo, without distortion; principal point in the middle of the photo. Its
            place and direction count as a rough guess, its focal length as a better one.
        settings: how far to look.
        progress: told how far it is; asked to cancel.

    Raises:
        FailedError: ALIGNMENT_FAILED where nothing fits.
    """
    settings, progress = settings or AlignmentSettings(), progress or Progress()
    model = Model(geometry)
    focal = settings.focal_px or start.fx
    start = replace(start, fx=focal, fy=focal, cx=start.width / 2, cy=start.height / 2)
    prior = FocalPrior(focal, settings.focal_sigma, start.width)
    small = photo.resized(448)
    outline = by_outline(model, photo.resized(160), start, settings.within_deg, settings.starts, progress)
    progress.update(0.15)
    features = by_features(model, small, start, settings.within_deg, 4, progress) if model.has_colours else []
    progress.update(0.3)
    given = [Start(start, 0.0, "given")] if _sees(model, start) else []
    rated = _followed(model, [*features, *outline, *given], photo, prior, progress)
    finalists = _finalists(model, rated, photo, prior, progress)
    if not finalists or not _convincing(model, finalists, photo):
        # The mask may be wrong, or the start is: edges alone, everywhere.
        photo = Evidence(photo.rgb, None, NOTHING)
        edges = by_edges(model, photo, start, settings.within_deg, settings.starts, progress)
        more = _followed(model, edges, photo, prior, progress)
        again = [Start(one.camera, 0.0, one.source) for one in finalists]
        finalists = _finalists(
            model, [*_followed(model, again, photo, prior, progress), *more], photo, prior, progress
        )
    if not finalists:
        raise _nothing_fits()
    best = finalists[0]
    second = _second(model, finalists)
    for stage in FINE:
        fitted = fit_stage(model, best.camera, photo, stage, prior)
        best = replace(best, camera=fitted.camera, fitted=fitted)
    progress.update(0.95)
    return _graded(model, best, second, photo)


def _followed(
    model: Model, starts: list[Start], photo: Evidence, prior: FocalPrior, progress: Progress
) -> list[_Rated]:
    """Every start brought closer at a small size; after each stage only the better half goes on."""
    tiny = photo.resized(112)
    masked = photo.mask is not None and photo.trust > 0
    by_mask = COARSE if photo.trust == SURE else COARSE + COARSE_UNMASKED

    def follow(one: _Rated, stage: Stage) -> _Rated:
        camera = fit_stage(model, one.camera, photo, stage, prior).camera
        score, parts = agreement(model, tiny.camera(camera), tiny)
        return _Rated(camera, score, parts, one.source)

    done: list[_Rated] = []
    for stages, of_features in ((COARSE_UNMASKED, True), (by_mask if masked else COARSE_UNMASKED, False)):
        going = [
            _Rated(s.camera, 0.0, {}, s.source) for s in starts if (s.source == "features") == of_features
        ]
        for number, stage in enumerate(stages):
            progress.update(0.3 + 0.35 * number / len(stages))
            rated = in_threads(partial(follow, stage=stage), going, lambda done: progress.check())
            going = sorted((one for one in rated if one.score > 0), key=lambda one: -one.score)
            if stage is not stages[-1]:
                going = going[: max(FOLLOWED, (len(going) + 1) // 2)]
        done += going
    log.debug("small: %s", [(one.source, round(one.score, 3)) for one in done])
    return done


def _finalists(
    model: Model, rated: list[_Rated], photo: Evidence, prior: FocalPrior, progress: Progress
) -> list[_Rated]:
    """The best that differ, best first, after the middle size."""
    small = photo.resized(224)

    def finish(one: _Rated) -> _Rated:
        camera = one.camera
        for stage in MIDDLE:
            camera = fit_stage(model, camera, photo, stage, prior).camera
        score, parts = agreement(model, small.camera(camera), small)
        log.debug("middle: %s %.3f %s", one.source, score, parts)
        return _Rated(camera, score, parts, one.source)

    best = _distinct(sorted(rated, key=lambda one: -one.score))[:FOLLOWED]
    done = in_threads(finish, best, lambda number: progress.update(0.65 + 0.05 * number))
    return sorted(done, key=lambda one: -one.score)


def _convincing(model: Model, finalists: list[_Rated], photo: Evidence) -> bool:
    """Whether the geometry explains the photo so well, or so much better than from elsewhere, that nothing else need be tried."""
    best = finalists[0]
    if photo.trust == SURE and best.parts["region"] < 0.9:
        return False
    second = _second(model, finalists)
    clear = second is not None and best.score - second.score > CLEAR_LEAD
    return best.parts["edges"] > 0.55 and best.parts["surface"] > (0.5 if clear else 0.7)


def _second(model: Model, finalists: list[_Rated]) -> _Rated | None:
    """The next best that stands elsewhere."""
    return next((one for one in finalists[1:] if _differ(model, finalists[0].camera, one.camera)), None)


def _distinct(rated: list[_Rated]) -> list[_Rated]:
    """Best first; many starts end in the same place."""
    kept: list[_Rated] = []
    for one in rated:
        turns = [one.camera.cam_to_world[:3, :3].T @ other.camera.cam_to_world[:3, :3] for other in kept]
        if all(float(angle_deg(turn)) > 5.0 for turn in turns):
            kept.append(one)
    return kept


def _sees(model: Model, camera: Camera) -> bool:
    """Whether the geometry's middle stands before the camera and in its picture, twice the picture's size allowed."""
    (pixel,), (depth,) = camera.project(model.anchor[None])
    reach = np.array([camera.width, camera.height])
    return bool(depth > 0.2 * model.radius and (np.abs(pixel - reach / 2) < reach).all())


def _differ(model: Model, one: Camera, other: Camera) -> bool:
    """Whether they show the geometry from places more than 8 degrees apart."""
    a, b = one.centre - model.anchor, other.centre - model.anchor
    cosine = a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12)
    return bool(cosine < np.cos(np.radians(8.0)))


def _nothing_fits() -> FailedError:
    return FailedError(
        "ALIGNMENT_FAILED",
        "No camera was found through which the geometry looks like the photo.",
        "Turn the camera so that it roughly shows the object as the photo does, or select only the mesh that the photo shows.",
    )


def _graded(model: Model, best: _Rated, second: _Rated | None, photo: Evidence) -> Alignment:
    """Grade the fit by what is left of it and by how far the next best is behind."""
    assert best.fitted is not None
    view = photo.camera(best.camera)
    score, parts = agreement(model, view, photo)
    scale = best.camera.width / view.width
    spread = np.sqrt(np.maximum(np.diag(best.fitted.covariance), 0.0))
    lead = best.score - second.score if second is not None else 1.0
    metrics = {
        "reprojection_px": best.fitted.offset_px * scale,
        "score": score,
        "lead": lead,
        "edges": parts["edges"],
        "surface": parts["surface"],
        "rotation_sigma_deg": float(np.degrees(np.linalg.norm(spread[:3]))),
        "distance_sigma": float(spread[5]),
        "focal_sigma": float(spread[6]),
    }
    if photo.mask is not None and photo.trust == SURE:
        metrics["silhouette_iou"] = parts["region"]
    reasons = []
    if not np.isfinite(best.fitted.offset_px) or best.fitted.offset_px > 0.75 or parts["edges"] < 0.4:
        reasons.append("the outline of the geometry does not meet edges of the photo")
    if photo.mask is not None and photo.trust == SURE and parts["region"] < 0.93:
        reasons.append(f"the outlines overlap by only {100 * parts['region']:.0f} %")
    if lead < 0.04:
        reasons.append("from another side the geometry looks much the same")
    if spread[5] > DISTANCE:
        reasons.append(
            f"the distance is known to {100 * spread[5]:.1f} % only, because the lens is not known"
        )
    camera = replace(best.camera, grade=DOUBTFUL if reasons else GOOD, reason="; ".join(reasons))
    return Alignment(camera, {name: float(value) for name, value in metrics.items()})
