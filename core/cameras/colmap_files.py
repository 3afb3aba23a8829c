# SPDX-License-Identifier: GPL-3.0-or-later
"""COLMAP's sparse model as text or binary: cameras, images, points3D. numpy and the standard library only.

Poses in the files are world-to-camera, OpenCV axes; COLMAP's pixel centres lie at +0.5 as ours do. Rigs and frames
(`rigs`, `frames`, COLMAP 4) repeat what `images` says for single cameras and are neither read nor written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..types import Camera, SparseCloud
from . import rotations

# id -> (name, number of parameters); COLMAP src/colmap/sensor/models.h
MODELS = {
    0: ("SIMPLE_PINHOLE", 3), 1: ("PINHOLE", 4), 2: ("SIMPLE_RADIAL", 4), 3: ("RADIAL", 5), 4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8), 6: ("FULL_OPENCV", 12), 7: ("FOV", 5), 8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5), 10: ("THIN_PRISM_FISHEYE", 12), 11: ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
}  # fmt: skip
_MODEL_IDS = {name: number for number, (name, _) in MODELS.items()}

Lens = tuple[int, int, float, float, float, float, tuple[float, float, float, float]]
"""width, height, fx, fy, cx, cy, (k1, k2, p1, p2)."""


def lens_from_model(model: str, width: int, height: int, params: Sequence[float]) -> Lens:
    """A COLMAP camera as fx fy cx cy k1 k2 p1 p2.

    Raises:
        InputError: CAMERA_MODEL, naming the model, where those eight numbers cannot express it.
    """
    p = [float(value) for value in params]
    if model == "SIMPLE_PINHOLE":
        return width, height, p[0], p[0], p[1], p[2], (0.0, 0.0, 0.0, 0.0)
    if model == "PINHOLE":
        return width, height, p[0], p[1], p[2], p[3], (0.0, 0.0, 0.0, 0.0)
    if model in ("SIMPLE_RADIAL", "RADIAL"):
        return width, height, p[0], p[0], p[1], p[2], (p[3], p[4] if model == "RADIAL" else 0.0, 0.0, 0.0)
    if model == "OPENCV" or (model == "FULL_OPENCV" and not any(p[8:])):
        return width, height, p[0], p[1], p[2], p[3], (p[4], p[5], p[6], p[7])
    raise InputError(
        "CAMERA_MODEL", f"The COLMAP camera model {model} is not supported.",
        "Undistort the photos with COLMAP first, or estimate cameras with the model OPENCV.",
    )  # fmt: skip


def find_model(folder: Path) -> Path | None:
    """The folder with cameras and images files: `folder` itself, `sparse/0`, `sparse` or `cameras` in it; else None."""
    for candidate in (folder, folder / "sparse" / "0", folder / "sparse", folder / "cameras"):
        for suffix in (".bin", ".txt"):
            if (candidate / f"cameras{suffix}").is_file() and (candidate / f"images{suffix}").is_file():
                return candidate
    return None


def read(folder: Path) -> tuple[list[Camera], SparseCloud]:
    """Read the model in `folder`, binary before text as COLMAP does.

    Returns:
        Cameras in the order of their image numbers, named as in the file (may hold sub-folders), and the cloud with
        observers as indices into that list; it is empty where points3D is missing.

    Raises:
        InputError: CAMERAS_UNREADABLE, CAMERA_MODEL, CAMERAS_EMPTY.
    """
    suffix = ".bin" if (folder / "cameras.bin").is_file() and (folder / "images.bin").is_file() else ".txt"
    readers = _BINARY if suffix == ".bin" else _TEXT
    try:
        lenses = readers[0](folder / f"cameras{suffix}")
        poses = readers[1](folder / f"images{suffix}")
        points = folder / f"points3D{suffix}"
        rows = readers[2](points) if points.is_file() else []
        numbers = sorted(poses)
        cameras = [_camera(poses[number], lenses) for number in numbers]
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
        raise InputError(
            "CAMERAS_UNREADABLE", f"The COLMAP files in {folder.name} cannot be read: {error!r}.",
            "Write them again, or choose another folder.",
        ) from error  # fmt: skip
    if not cameras:
        raise InputError(
            "CAMERAS_EMPTY", f"The COLMAP model in {folder.name} holds no image.", "Choose another folder."
        )
    index = {number: place for place, number in enumerate(numbers)}
    cloud = SparseCloud(
        points=np.array([row[0] for row in rows], np.float64).reshape(-1, 3),
        colors=np.array([row[1] for row in rows], np.uint8).reshape(-1, 3),
        observers=[np.array(sorted({index[i] for i in row[2] if i in index}), np.int32) for row in rows],
    )
    return cameras, cloud


def write_text(folder: Path, cameras: Sequence[Camera], cloud: SparseCloud | None = None) -> None:
    """cameras.txt, images.txt, points3D.txt with 17 digits, one camera per image; feature positions are not kept.

    PINHOLE where there is no distortion, OPENCV elsewhere. Without feature positions a track cannot be written, so
    points stand alone (COLMAP, Gaussian splatting trainers and nerfstudio read such a model). Names with spaces are
    written as they are; COLMAP's own text reader stops at a space, ours does not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lens_lines = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    pose_lines = [
        "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME",
        "# POINTS2D[] as (X, Y, POINT3D_ID)",
    ]
    for number, camera in enumerate(cameras, 1):
        model, params = _model(camera)
        lens_lines.append(f"{number} {model} {camera.width} {camera.height} {_digits(params)}")
        pose_lines += [f"{number} {_digits(_pose(camera))} {number} {camera.name}", ""]
    point_lines = ["# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)"]
    for number, (point, color) in enumerate(_points(cloud), 1):
        point_lines.append(f"{number} {_digits(point)} {color[0]} {color[1]} {color[2]} 0")
    for name, lines in (("cameras", lens_lines), ("images", pose_lines), ("points3D", point_lines)):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def write_binary(folder: Path, cameras: Sequence[Camera], cloud: SparseCloud | None = None) -> None:
    """cameras.bin, images.bin, points3D.bin; what is kept is as in `write_text`."""
    folder.mkdir(parents=True, exist_ok=True)
    lenses, poses = [struct.pack("<Q", len(cameras))], [struct.pack("<Q", len(cameras))]
    for number, camera in enumerate(cameras, 1):
        model, params = _model(camera)
        lenses.append(struct.pack("<IiQQ", number, _MODEL_IDS[model], camera.width, camera.height))
        lenses.append(struct.pack(f"<{len(params)}d", *params))
        poses.append(struct.pack("<I7dI", number, *_pose(camera), number))
        poses.append(camera.name.encode("utf-8") + b"\0" + struct.pack("<Q", 0))
    rows = list(_points(cloud))
    points = [struct.pack("<Q", len(rows))]
    for number, (point, color) in enumerate(rows, 1):
        points.append(struct.pack("<Q3d3BdQ", number, *point, *color, 0.0, 0))
    for name, parts in (("cameras", lenses), ("images", poses), ("points3D", points)):
        (folder / f"{name}.bin").write_bytes(b"".join(parts))


_Pose = tuple[str, int, list[float]]
_Row = tuple[tuple[float, float, float], tuple[int, int, int], list[int]]


def _camera(pose: _Pose, lenses: dict[int, Lens]) -> Camera:
    name, lens_number, values = pose
    width, height, fx, fy, cx, cy, distortion = lenses[lens_number]
    rotation = rotations.from_quaternion(values[:4]).T
    cam_to_world = np.eye(4)
    cam_to_world[:3, :3] = rotation
    cam_to_world[:3, 3] = -rotation @ np.array(values[4:7])
    if not np.isfinite(cam_to_world).all():
        raise ValueError(f"{name} has a pose that is not finite")
    return Camera(name, width, height, fx, fy, cx, cy, cam_to_world, distortion)


def _model(camera: Camera) -> tuple[str, list[float]]:
    params = [camera.fx, camera.fy, camera.cx, camera.cy]
    return ("OPENCV", params + list(camera.distortion)) if any(camera.distortion) else ("PINHOLE", params)


def _pose(camera: Camera) -> list[float]:
    world_to_cam = camera.world_to_cam
    return [*rotations.to_quaternion(world_to_cam[:3, :3]).tolist(), *world_to_cam[:3, 3].tolist()]


def _points(cloud: SparseCloud | None) -> Iterator[tuple[list[float], list[int]]]:
    if cloud is not None:
        yield from zip(cloud.points.tolist(), cloud.colors.tolist(), strict=True)


def _digits(values: Sequence[float] | NDArray[np.float64]) -> str:
    return " ".join(f"{value:.17g}" for value in values)


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


def _read_cameras_text(path: Path) -> dict[int, Lens]:
    out = {}
    for line in filter(str.strip, _lines(path)):
        number, model, width, height, *params = line.split()
        out[int(number)] = lens_from_model(model, int(width), int(height), [float(p) for p in params])
    return out


def _read_images_text(path: Path) -> dict[int, _Pose]:
    lines = _lines(path)
    while lines and not lines[0].strip():
        lines.pop(0)
    out = {}
    for line in lines[::2]:  # every second line lists features and may be empty
        if line.strip():
            number, *rest = line.split(maxsplit=9)
            out[int(number)] = (rest[8].strip(), int(rest[7]), [float(value) for value in rest[:7]])
    return out


def _read_points_text(path: Path) -> list[_Row]:
    rows: list[_Row] = []
    for line in filter(str.strip, _lines(path)):
        v = line.split()
        color = (int(v[4]), int(v[5]), int(v[6]))
        rows.append(((float(v[1]), float(v[2]), float(v[3])), color, [int(i) for i in v[8::2]]))
    return rows


def _read_cameras_binary(path: Path) -> dict[int, Lens]:
    data, at, out = path.read_bytes(), 8, {}
    for _ in range(struct.unpack_from("<Q", data)[0]):
        number, model, width, height = struct.unpack_from("<IiQQ", data, at)
        if model not in MODELS:
            lens_from_model(f"number {model}", width, height, [])
        name, count = MODELS[model]
        out[number] = lens_from_model(name, width, height, struct.unpack_from(f"<{count}d", data, at + 24))
        at += 24 + 8 * count
    return out


def _read_images_binary(path: Path) -> dict[int, _Pose]:
    data, at, out = path.read_bytes(), 8, {}
    for _ in range(struct.unpack_from("<Q", data)[0]):
        number, *values, lens_number = struct.unpack_from("<I7dI", data, at)
        end = data.index(b"\0", at + 64)
        out[number] = (data[at + 64 : end].decode("utf-8"), lens_number, values)
        at = end + 9 + 24 * struct.unpack_from("<Q", data, end + 1)[0]
    return out


def _read_points_binary(path: Path) -> list[_Row]:
    data, at = path.read_bytes(), 8
    rows: list[_Row] = []
    for _ in range(struct.unpack_from("<Q", data)[0]):
        _, x, y, z, r, g, b, _, length = struct.unpack_from("<Q3d3BdQ", data, at)
        track = struct.unpack_from(f"<{2 * length}i", data, at + 51)
        rows.append(((x, y, z), (r, g, b), list(track[::2])))
        at += 51 + 8 * length
    return rows


_TEXT = (_read_cameras_text, _read_images_text, _read_points_text)
_BINARY = (_read_cameras_binary, _read_images_binary, _read_points_binary)
