# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras that the artist already has: a NeRF JSON, a COLMAP model or an earlier result, matched to the photos of the job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ..cameras import colmap_files, nerf_json
from ..cameras.conventions import for_picture
from ..errors import InputError
from ..results import read_result
from ..types import Camera, Photo, PoseEstimate, SparseCloud

_JSON_NAMES = ("transforms.json", "transforms_train.json", "cameras.json")


def given_cameras(path: Path, photos: list[Photo]) -> PoseEstimate:
    """Read cameras from a file or folder and match them to photos by name.

    A camera and a photo belong together when their file names agree, or their stems where the file gives none or another
    suffix (case does not count); of several, the one whose folders agree further up. Cameras made for another size of the
    picture are scaled to the photo's; the frame of the file stays, and of a result's folder also its place in the world.

    Args:
        path: NeRF JSON, a file of a COLMAP model, a folder that holds either, or a result's folder.
        photos: of the job.

    Returns:
        Cameras of the full-resolution photos, in the photos' order; photos without one in `failed`. Grade A: nothing is
        checked here.

    Raises:
        InputError: CAMERAS_NOT_FOUND, CAMERAS_NO_MATCH, CAMERA_AMBIGUOUS, CAMERA_OTHER_SIZE, and those of the readers.
    """
    if is_result(path):
        cameras, cloud, failed_names, world = _read_result(path)
    else:
        cameras, cloud, failed_names = _read(path, photos)
        world = np.eye(4)
    owner = _match([camera.name for camera in cameras], photos)
    failed_owner = _match(list(failed_names), photos)
    found: dict[str, tuple[int, Camera]] = {}
    for row, camera in enumerate(cameras):
        photo = owner.get(camera.name)
        if photo is None:
            continue
        try:
            fitted = for_picture(camera, photo.width, photo.height, photo.exif_orientation)
        except ValueError as error:
            raise InputError(
                "CAMERA_OTHER_SIZE", f"The camera of {photo.name} does not fit its photo: {error}.",
                "Use the photos that the cameras were made for, or scale them without cropping.",
            ) from error  # fmt: skip
        found[photo.name] = row, replace(fitted, name=photo.name)
    if not found:
        raise InputError(
            "CAMERAS_NO_MATCH", f"No camera in {path.name} has the name of one of the photos.",
            "Give the photos that belong to the camera file, with their names unchanged.",
        )  # fmt: skip
    reasons = {photo.name: failed_names[name] for name, photo in failed_owner.items()}
    kept = [photo.name for photo in photos if photo.name in found]
    failed = {p.name: reasons.get(p.name, "has no camera in the file") for p in photos if p.name not in found}
    return PoseEstimate(
        cameras=[found[name][1] for name in kept],
        failed=failed,
        cloud=_renumber(cloud, {found[name][0]: place for place, name in enumerate(kept)}),
        method="given",
        grade="A",
        metrics={"registered": len(kept), "photos": len(photos)},
        world=world,
    )


def is_result(path: Path) -> bool:
    """Whether these are cameras that we solved before, from photos such as those of the job."""
    return (path / "scene.json").is_file()


def _read_result(folder: Path) -> tuple[list[Camera], SparseCloud, dict[str, str], NDArray[np.float64]]:
    """Exactly what was solved, so that stages that depend on nothing else are found in the cache."""
    result = read_result(folder)
    cloud = SparseCloud(np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    if colmap_files.find_model(folder / "cameras") is not None:
        cloud = colmap_files.read(folder / "cameras")[1]
    return [item.source for item in result.cameras], cloud, result.failed, result.world_from_result


def _read(path: Path, photos: list[Photo]) -> tuple[list[Camera], SparseCloud, dict[str, str]]:
    file = path
    if path.is_dir():
        model = colmap_files.find_model(path)
        named = [path / name for name in _JSON_NAMES if (path / name).is_file()]
        if model is None and not named:
            raise InputError(
                "CAMERAS_NOT_FOUND", f"The folder {path.name} holds no transforms.json and no COLMAP model.",
                "Choose the file itself, or the folder with cameras.txt and images.txt.",
            )  # fmt: skip
        if not named:
            assert model is not None
            return *colmap_files.read(model), {}
        file = named[0]
    if not file.is_file():
        raise InputError("CAMERAS_NOT_FOUND", f"The camera file {path} does not exist.", "Check the path.")
    if file.stem in ("cameras", "images", "points3D") and file.suffix in (".txt", ".bin"):
        return *colmap_files.read(file.parent), {}
    owner = _match(nerf_json.frame_names(file), photos)
    sizes = {name: (photo.width, photo.height) for name, photo in owner.items()}
    # A file for more pictures than the job has: frames without a photo need no size of their own.
    spare = next(iter(sizes.values()), None)
    if spare is not None:
        sizes = {name: sizes.get(name, spare) for name in nerf_json.frame_names(file)}
    cameras, failed = nerf_json.read(file, sizes)
    return cameras, SparseCloud(np.zeros((0, 3)), np.zeros((0, 3), np.uint8)), failed


def _match(names: Sequence[str], photos: list[Photo]) -> dict[str, Photo]:
    """Name in the camera file -> photo; names without a photo are left out."""
    by_stem: dict[str, list[Photo]] = {}
    for photo in photos:
        for stem in {photo.path.stem.casefold(), Path(photo.name).stem.casefold()}:
            by_stem.setdefault(stem, []).append(photo)
    out: dict[str, Photo] = {}
    taken: dict[str, tuple[tuple[int, int], str]] = {}
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/").casefold())
        # "image.001" without a suffix: its stem is the whole name.
        candidates = by_stem.get(parts.name, []) + by_stem.get(parts.stem, [])
        scored = sorted(
            {photo.name: (_likeness(parts, photo), photo) for photo in candidates}.values(),
            key=lambda s: s[0],
        )
        if not scored:
            continue
        if len(scored) > 1 and scored[-1][0] == scored[-2][0]:
            raise _ambiguous(name, scored[-1][1].name, scored[-2][1].name)
        score, photo = scored[-1]
        if photo.name in taken:
            before, other = taken[photo.name]
            if before == score:
                raise _ambiguous(photo.name, name, other)
            if before > score:
                continue
            del out[other]
        taken[photo.name] = score, name
        out[name] = photo
    return out


def _ambiguous(one: str, first: str, second: str) -> InputError:
    return InputError(
        "CAMERA_AMBIGUOUS", f"{one} could belong to {first} or to {second}.",
        "Rename the photos so that each name occurs once.",
    )  # fmt: skip


def _likeness(name: PurePosixPath, photo: Photo) -> tuple[int, int]:
    """(file name agrees with its suffix, number of agreeing folders above it)."""
    exact = name.name in (photo.path.name.casefold(), photo.name.casefold())
    folders = 0
    for mine, theirs in zip(reversed(name.parts[:-1]), reversed(photo.path.parts[:-1]), strict=False):
        if mine != theirs.casefold():
            break
        folders += 1
    return int(exact), folders


def _renumber(cloud: SparseCloud, place: dict[int, int]) -> SparseCloud:
    """Observers in terms of the cameras kept; points that none of them sees are dropped where observers are known."""
    if not any(len(observers) for observers in cloud.observers):
        return SparseCloud(cloud.points, cloud.colors)
    observers = [
        np.array([place[i] for i in seen.tolist() if i in place], np.int32) for seen in cloud.observers
    ]
    kept = np.array([len(seen) > 0 for seen in observers])
    return SparseCloud(cloud.points[kept], cloud.colors[kept], [seen for seen in observers if len(seen)])
