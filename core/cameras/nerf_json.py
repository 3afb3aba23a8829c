# SPDX-License-Identifier: GPL-3.0-or-later
"""NeRF JSON (`transforms.json`): the camera file of instant-ngp, nerfstudio and NeRF-synthetic.

Camera-to-world matrices with OpenGL axes (x right, y up, looking along -z) unless the file says `"axes": "opencv"` (x right,
y down, looking along +z), intrinsics at the top or per frame, in pixels of the picture the file was made for. numpy and the
standard library only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..types import DOUBTFUL, FAILED, GOOD, Camera
from . import rotations
from .conventions import flip_axes

_GRADES = (GOOD, DOUBTFUL, FAILED)
OPENGL, OPENCV = AXES = ("opengl", "opencv")
"""Values of the entry `axes`, of the whole file or of a frame."""


def read(
    path: Path, sizes: Mapping[str, tuple[int, int]] | None = None
) -> tuple[list[Camera], dict[str, str]]:
    """Read a NeRF JSON.

    Args:
        path: the file.
        sizes: `file_path` as written in the file -> (width, height) of its picture; asked only where the file gives
            no `w` and `h` (NeRF-synthetic has none).

    Returns:
        Cameras in the file's order, named by their `file_path` as it stands in the file, and the frames graded
        failed: `file_path` -> reason.

    Raises:
        InputError: CAMERAS_UNREADABLE, CAMERAS_EMPTY, CAMERA_MODEL (lens model without k1 k2 p1 p2 form, or skew),
            CAMERA_NOT_RIGID, CAMERA_NO_FOCAL, CAMERA_NO_SIZE.
    """
    whole = _load(path)
    failed = {str(item["file_path"]): str(item.get("reason", "")) for item in whole.get("failed", [])}
    cameras: list[Camera] = []
    for frame in whole["frames"]:
        name = str(frame["file_path"])
        values = {**{k: v for k, v in whole.items() if k not in ("frames", "failed")}, **frame}
        grade = str(values.get("grade", GOOD))
        if grade == FAILED:
            failed[name] = str(values.get("reason", "")) or "graded failed in the camera file"
            continue
        try:
            cameras.append(_camera(name, values, grade, (sizes or {}).get(name)))
        except (TypeError, ValueError, OverflowError) as error:
            raise _unreadable(path, f"frame {name}: {error}") from error
    if not cameras:
        raise InputError(
            "CAMERAS_EMPTY", f"{path.name} holds no usable camera.", "Choose another camera file."
        )
    return cameras, failed


def frame_names(path: Path) -> list[str]:
    """The `file_path` of every frame, in order, without reading the cameras.

    Raises:
        InputError: CAMERAS_UNREADABLE.
    """
    return [str(frame["file_path"]) for frame in _load(path)["frames"]]


def write(
    path: Path,
    cameras: Sequence[Camera],
    failed: Mapping[str, str],
    files: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
    axes: str = OPENGL,
) -> None:
    """Write cameras as NeRF JSON with per-frame intrinsics, full double precision.

    Args:
        path: file to write.
        cameras: poses in any frame, OpenCV axes.
        failed: photo name -> reason.
        files: camera name -> text for `file_path`; the name itself where it is missing.
        extra: further top-level entries.
        axes: of the matrices, opengl | opencv; the second is written into the file, the first is what readers expect.
    """
    files = files or {}
    frames = []
    for camera in cameras:
        k1, k2, p1, p2 = camera.distortion
        frame: dict[str, Any] = {
            "file_path": files.get(camera.name, camera.name),
            "w": camera.width, "h": camera.height,
            "fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy,
            "k1": k1, "k2": k2, "p1": p1, "p2": p2,
            "transform_matrix": (flip_axes(camera.cam_to_world) if axes == OPENGL else camera.cam_to_world).tolist(),
            "grade": camera.grade,
        }  # fmt: skip
        if camera.reason:
            frame["reason"] = camera.reason
        frames.append(frame)
    data = {
        "camera_model": "OPENCV",
        **({"axes": axes} if axes != OPENGL else {}),
        **(extra or {}),
        "frames": frames,
        "failed": [{"file_path": files.get(name, name), "reason": reason} for name, reason in failed.items()],
    }
    path.write_text(json.dumps(data, indent=1), encoding="utf-8")


def _load(path: Path) -> dict[str, Any]:
    try:
        whole = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, "it is no JSON text") from error
    frames = whole.get("frames") if isinstance(whole, dict) else None
    if not isinstance(frames, list) or not all(isinstance(f, dict) and "file_path" in f for f in frames):
        raise _unreadable(path, "it has no list of frames with a file_path")
    return whole


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        "CAMERAS_UNREADABLE",
        f"The camera file {path.name} cannot be read: {why}.",
        "Give a NeRF JSON or COLMAP files.",
    )


def _camera(name: str, values: Mapping[str, Any], grade: str, size: tuple[int, int] | None) -> Camera:
    _check_lens(name, values)
    if "w" in values and "h" in values:
        size = (round(float(values["w"])), round(float(values["h"])))
    if size is None:
        raise InputError(
            "CAMERA_NO_SIZE",
            f"The camera of {name} has no picture size.",
            "Add w and h to the file, or its photo to the job.",
        )
    width, height = size
    fx, fy = _focal(name, values, width, height)
    if grade not in _GRADES:
        raise ValueError(f"grade {grade!r}")
    axes = str(values.get("axes", OPENGL)).lower()
    if axes not in AXES:
        raise ValueError(f"axes {axes!r}")
    pose = _rigid(name, values.get("transform_matrix"))
    return Camera(
        name=name,
        width=width,
        height=height,
        fx=fx,
        fy=fy,
        cx=float(values.get("cx", width / 2)),
        cy=float(values.get("cy", height / 2)),
        cam_to_world=flip_axes(pose) if axes == OPENGL else pose,
        distortion=tuple(float(values.get(key, 0.0)) for key in ("k1", "k2", "p1", "p2")),  # type: ignore[arg-type]
        grade=grade,
        reason=str(values.get("reason", "")),
    )


def _focal(name: str, values: Mapping[str, Any], width: int, height: int) -> tuple[float, float]:
    fx, fy = values.get("fl_x"), values.get("fl_y")
    if fx is None and "camera_angle_x" in values:
        fx = 0.5 * width / math.tan(0.5 * float(values["camera_angle_x"]))
    if fy is None and "camera_angle_y" in values and "fl_x" not in values:
        fy = 0.5 * height / math.tan(0.5 * float(values["camera_angle_y"]))
    fx, fy = fx if fx is not None else fy, fy if fy is not None else fx
    if fx is None or fy is None or not (0 < float(fx) < math.inf and 0 < float(fy) < math.inf):
        raise InputError(
            "CAMERA_NO_FOCAL",
            f"The camera of {name} has no focal length.",
            "Add fl_x, or camera_angle_x, to the file.",
        )
    return float(fx), float(fy)


def _check_lens(name: str, values: Mapping[str, Any]) -> None:
    """Refuse what a camera with k1 k2 p1 p2 cannot say. Skew below a hundredth of a pixel per picture is rounding."""
    model = str(values.get("camera_model", "OPENCV")).upper()
    fisheye = bool(values.get("is_fisheye")) or model not in (
        "OPENCV",
        "PINHOLE",
        "SIMPLE_PINHOLE",
        "PERSPECTIVE",
    )
    higher = [key for key in ("k3", "k4", "k5", "k6") if float(values.get(key) or 0.0) != 0.0]
    skew = (
        abs(float(values.get("skew") or 0.0)) * float(values.get("h", 1000)) / float(values.get("fl_y", 1000))
    )
    if not fisheye and not higher and skew <= 0.01:
        return
    what = (
        f"the lens model {model}"
        if fisheye
        else f"lens terms {', '.join(higher)}"
        if higher
        else "a skewed sensor"
    )
    raise InputError(
        "CAMERA_MODEL", f"The camera of {name} uses {what}, which is not supported.",
        "Undistort the photos first, or leave the cameras out so that they are estimated.",
    )  # fmt: skip


def _rigid(name: str, matrix: Any) -> NDArray[np.float64]:
    """Rows of a 3x4 or 4x4 matrix -> (4, 4) with an exact rotation; a common scale of the axes is taken out."""
    values = np.asarray(matrix, np.float64)
    if values.shape not in ((3, 4), (4, 4)) or not np.isfinite(values).all():
        raise ValueError("transform_matrix is not a finite 4 x 4 matrix")
    linear = values[:3, :3]
    determinant = np.linalg.det(linear)
    if determinant > 1e-12:
        linear = linear / np.cbrt(determinant)
    if determinant <= 1e-12 or np.abs(linear.T @ linear - np.eye(3)).max() > 1e-3:
        raise InputError(
            "CAMERA_NOT_RIGID", f"The matrix of {name} is not a rotation with a position (mirrored or sheared).",
            "Export the cameras again without scale on their parents.",
        )  # fmt: skip
    out = np.eye(4)
    # Files hold 6 to 9 digits: rounding is repaired, exact matrices stay bit for bit what they were.
    exact = np.abs(linear.T @ linear - np.eye(3)).max() < 1e-12
    out[:3, :3] = linear if exact else rotations.nearest(linear)
    out[:3, 3] = values[:3, 3]
    return out
