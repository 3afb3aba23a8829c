# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos without cameras -> cameras with a grade, and the field that was learned with them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ...errors import InputError
from ...images.load import read_pixels
from ...images.plain_background import plain_evidence
from ...jobs import cache
from ...progress import Progress
from ...types import DOUBTFUL, GOOD, Camera, Photo, PoseEstimate, SparseCloud, View
from .cameras import Poses
from .novel_views import save_novel_views
from .pictures import Pictures, local_rays
from .readout import Reading, confidence, picture_psnr, polish, read, refine
from .settings import preset
from .training import Trainer, render

log = logging.getLogger(__name__)

FEWEST = 4
"""Photos that there must be."""
SIDE = {"draft": 128, "normal": 128, "high": 256}
"""Long side in pixels of the pictures that the field is fitted to."""
UNKNOWN_FOCAL = 1.2
"""Focal length over the long side where no photo tells it (COLMAP's own prior)."""
CONFIDENT = 0.5
"""Confidence from which a camera is good, and SHAKY from which it is of use at all."""
SHAKY = 0.05
CHECKPOINTS = (0.25, 0.5, 0.75, 1.0)
"""Shares of the training after which its state is kept, so that a job that was ended goes on from there."""
VERSION = 1


@dataclass(frozen=True)
class Found:
    """Cameras, and the system that found them."""

    estimate: PoseEstimate
    trainer: Trainer
    poses: Poses
    """(M,) of all photos."""


def estimate(
    photos: list[Photo],
    masks: Mapping[str, NDArray[np.float32]] | None,
    progress: Progress,
    folder: Path,
    quality: str = "normal",
    seed: int = 0,
) -> PoseEstimate:
    """Find cameras by training field and pose encoder together, and leave the field in `folder`.

    Objects with a mask, alpha or a plain background are taken to be photographed from all around, upright and from above
    the ground (azimuth 0 to 360 degrees, elevation 0 to 90, the object in the middle); other scenes from one side.

    Args:
        photos: four or more.
        masks: photo name -> (h, w) float32 0..1; None: from alpha or a plain background.
        progress: the caller's stage; updated from 0 to 1, asked to cancel. A run that was ended goes on where it was.
        folder: receives field.safetensors, novel_views/ and masks/.
        quality: draft | normal | high. seed: of every random draw.

    Returns:
        Cameras for the full-resolution photos. The frame is the system's own: orbits have Z up.

    Raises:
        InputError: FEW_PHOTOS. Cancelled.
    """
    found = learn(photos, masks, progress, folder, quality, seed)
    found.trainer.volume.field().save(folder / "field.safetensors")
    save_novel_views(found.trainer, found.poses, folder / "novel_views", 8 if quality == "draft" else 24)
    return found.estimate


def learn(
    photos: list[Photo],
    masks: Mapping[str, NDArray[np.float32]] | None,
    progress: Progress,
    folder: Path,
    quality: str,
    seed: int,
) -> Found:
    """`estimate` without its files, except the masks."""
    if len(photos) < FEWEST:
        raise InputError(
            "FEW_PHOTOS", f"This method learns from {FEWEST} photos or more; {len(photos)} were given.",
            "Add photos, or use another method.",
        )  # fmt: skip
    planes = _load(photos, masks, SIDE[quality])
    masked = all(plane[..., 3].min() < 0.5 for plane in planes)
    if masked:
        _save_masks(folder / "masks", photos, planes)
    focal, known = _focal(photos)
    settings = preset(masked, quality, seed)
    pictures = Pictures.of(
        [torch.from_numpy(p).permute(2, 0, 1) for p in planes], settings.canvas, focal, masked
    )
    content = [plane.tobytes() for plane in planes]
    key = cache.key("diffusion", VERSION, asdict(settings) | {"focal": focal}, content)
    trainer = Trainer(pictures, settings)
    train(trainer, lambda share: progress.update(0.6 * share, "learning cameras and shape"), key)
    reading = read(trainer)
    poses = refine(
        trainer, reading.poses, lambda share: progress.update(0.6 + 0.1 * share, "refining cameras")
    )
    if settings.polish_steps:
        poses = polish(trainer, poses, lambda share: progress.update(0.7 + 0.3 * share, "refining the shape"))
    return Found(_report(photos, trainer, reading, poses, known), trainer, poses)


def train(trainer: Trainer, check: Callable[[float], None], key: str = "") -> None:
    """All steps of a trainer, from the last state that was kept under `key`; `check` is told the share done."""
    settings = trainer.settings
    for number in reversed(range(len(CHECKPOINTS))) if key else ():
        kept = cache.folder("diffusion", f"{key}-{number}")
        if kept is not None:
            trainer.load_state(torch.load(kept / "state.pt", weights_only=True))
            log.info("training goes on at step %d", trainer.step)
            break
    if settings.orbit and settings.survey and trainer.found is None:
        trainer.look_around(lambda share: check(0.1 * share))
    while trainer.step < settings.steps:
        check(0.1 + 0.9 * trainer.share)
        trainer.advance()
        for number, share in enumerate(CHECKPOINTS):
            if key and trainer.step == round(share * settings.steps):
                with cache.store("diffusion", f"{key}-{number}") as new:
                    torch.save(trainer.state(), new / "state.pt")


def _load(
    photos: list[Photo], masks: Mapping[str, NDArray[np.float32]] | None, side: int
) -> list[NDArray[np.float32]]:
    """(h, w, 4) sRGB and alpha per photo, the long side exactly `side`; alpha from masks, the file or a plain background."""
    planes = []
    for photo in photos:
        rgb, alpha = read_pixels(photo, side)
        mask = (masks or {}).get(photo.name)
        if mask is not None:
            alpha = cv2.resize(mask, rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
        plane = np.dstack([rgb, np.ones(rgb.shape[:2], np.float32) if alpha is None else alpha])
        if max(rgb.shape) != side:
            scale = side / max(rgb.shape)
            size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
            plane = cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR)
        planes.append(np.ascontiguousarray(plane, np.float32))
    if all(plane[..., 3].min() >= 0.5 for plane in planes):
        _find_plain(planes)
    return planes


def _find_plain(planes: list[NDArray[np.float32]]) -> None:
    """Write masks into the alpha of pictures before a plain background."""
    none = np.eye(4)
    views = [
        View(Camera("", p.shape[1], p.shape[0], 1, 1, 0, 0, none), np.ascontiguousarray(p[..., :3]))
        for p in planes
    ]
    evidence = plain_evidence(views)
    if evidence is not None:
        for plane, odds in zip(planes, evidence, strict=True):
            plane[..., 3] = np.clip(odds / 5.0 + 0.5, 0.0, 1.0)


def _save_masks(folder: Path, photos: list[Photo], planes: list[NDArray[np.float32]]) -> None:
    folder.mkdir(exist_ok=True)
    for photo, plane in zip(photos, planes, strict=True):
        size = min(1024 / max(photo.width, photo.height), 1.0)
        grey = cv2.resize(plane[..., 3], (round(photo.width * size), round(photo.height * size)))
        Image.fromarray((grey * 255 + 0.5).clip(0, 255).astype(np.uint8)).save(
            folder / f"{Path(photo.name).stem}.png"
        )


def _focal(photos: list[Photo]) -> tuple[float, bool]:
    """Focal length over the long side, the median of those known, and whether any is."""
    known = [photo.focal_px / max(photo.width, photo.height) for photo in photos if photo.focal_px]
    return (float(np.median(known)), True) if known else (UNKNOWN_FOCAL, False)


def _report(
    photos: list[Photo], trainer: Trainer, reading: Reading, poses: Poses, focal_known: bool
) -> PoseEstimate:
    psnr = picture_psnr(trainer, poses, 64)
    sure = confidence(reading, psnr)
    moved = torch.rad2deg(reading.poses.angle_to(poses))
    cameras, failed, per_camera = [], {}, {}
    for row, photo in enumerate(photos):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = _exact(poses.rotation[row]), poses.centre[row].double().numpy()
        side = max(photo.width, photo.height)
        per_camera[photo.name] = {
            "confidence": round(float(sure[row]), 4),
            "probability": round(float(reading.probability[row]), 4),
            "margin": round(float(reading.margin[row]), 4),
            "entropy": round(float(reading.entropy[row]), 4),
            "spread_deg": round(float(reading.spread_deg[row]), 3),
            "psnr": round(float(psnr[row]), 2),
        }
        grade, reason = grade_camera(float(sure[row]), float(moved[row]))
        if grade == GOOD or float(sure[row]) >= SHAKY:
            cameras.append(
                Camera(
                    photo.name, photo.width, photo.height, trainer.focal * side, trainer.focal * side,
                    photo.width / 2, photo.height / 2, pose, grade=grade, reason=reason,
                )
            )  # fmt: skip
        else:
            failed[photo.name] = f"fits nowhere: {reason}"
    if len(cameras) < 2:
        raise InputError(
            "NO_OVERLAP", "No cameras could be learned that explain the photos.",
            "Give masks, more photos, or use the method sfm.",
        )  # fmt: skip
    good = sum(camera.grade == GOOD for camera in cameras) / len(photos)
    mean = float(psnr.mean())
    metrics = {
        "registered": len(cameras), "photos": len(photos), "mode": "orbit" if trainer.settings.orbit else "forward",
        "photo_psnr": round(mean, 2), "confidence": round(float(sure.mean()), 4), "focal": trainer.focal,
        "focal_known": focal_known, "per_camera": per_camera,
    }  # fmt: skip
    advice = (
        [] if focal_known else ["No photo tells its focal length; distances along the view are uncertain."]
    )
    # Learned cameras are coarser than matched ones: never better than B.
    grade = "B" if good >= 0.9 and mean >= 22 else "C" if good >= 0.5 else "D"
    return PoseEstimate(cameras, failed, _cloud(trainer, poses), "diffusion", grade, metrics, advice)


def grade_camera(sure: float, moved_deg: float) -> tuple[str, str]:
    """(grade, reason) from the confidence and from how far refinement took the camera from the encoder's."""
    if moved_deg > 20.0:
        return DOUBTFUL, "the encoder and the refinement place it differently"
    if sure < CONFIDENT:
        return DOUBTFUL, f"its place was learned with a confidence of only {sure:.2f}"
    return GOOD, ""


def _exact(rotation: torch.Tensor) -> NDArray[np.float64]:
    """The nearest rotation in double precision."""
    u, _, v = np.linalg.svd(rotation.double().numpy())
    return np.asarray(u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v)


@torch.no_grad()
def _cloud(trainer: Trainer, poses: Poses, per_picture: int = 64) -> SparseCloud:
    """Points where rays of the pictures end, with the pictures' colours."""
    side = trainer.pictures.level(64)
    places, colours, observers = [], [], []
    for row in range(len(poses.centre)):
        index = torch.randint(side * side, (per_picture,), generator=trainer.generator)
        local = local_rays(side, index, trainer.focal)
        rgb, opacity = render(trainer.volume, poses[row : row + 1], local[None], 64)
        depth = trainer.volume.depth(poses.centre[row].expand_as(local), local @ poses.rotation[row].T, 64)
        if trainer.pictures.masked:
            solid = (opacity[0] > 0.9) & (trainer.pictures.levels[side][row, index, 3] > 0.9)
        else:
            solid = opacity[0] > 0.9
        points = poses.centre[row] + (local @ poses.rotation[row].T) * depth[:, None]
        places.append(points[solid].double().numpy())
        colours.append((rgb[0, solid].clamp(0, 1) * 255).byte().numpy())
        observers += [np.array([row], np.int32)] * int(solid.sum())
    assert math.isfinite(sum(float(p.sum()) for p in places))
    return SparseCloud(np.concatenate(places), np.concatenate(colours), observers)
