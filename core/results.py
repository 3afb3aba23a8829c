# SPDX-License-Identifier: GPL-3.0-or-later
"""The Result folder: what every verb leaves behind and what the importer reads. numpy and the standard library only.

```
scene.json          objects, cameras, metrics, seed, model card, settings, timings
mesh.npz            vertices, faces, uvs, attribute_<name>     (one file per object)
base_color.png      textures
masks/STEM.png      masks that were used, over the original photos, white object
views/NAME.jpg      undistorted photos with square pixels, one per camera
field.safetensors   the field, for Re-Extract and Re-Bake
transforms.json     cameras of the original photos (NeRF JSON);  cameras/  the same as COLMAP text
```
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FailedError, InputError
from .types import Camera, Mesh

SCHEMA = 1


@dataclass
class SceneObject:
    """A mesh of the result and where its files lie (relative to the folder)."""

    name: str
    mesh: str = "mesh.npz"
    textures: dict[str, str] = field(default_factory=dict)
    """`base_color` -> PNG file name."""
    report: dict[str, Any] = field(default_factory=dict)
    """faces, vertices, parts, holes, watertight ..."""


@dataclass
class SceneCamera:
    """A solved camera: the full-resolution photo's own intrinsics, and the undistorted picture that Blender shows."""

    source: Camera
    """Intrinsics and distortion of the full-resolution photo; pose in the result's frame."""
    view: Camera | None = None
    """Pinhole camera with square pixels of the undistorted picture; same pose."""
    image: str | None = None
    """File of the undistorted picture, relative to the folder."""
    photo_path: str = ""
    """Where the original photo lay; it need not exist any more."""
    metrics: dict[str, float] = field(default_factory=dict)
    """silhouette_iou, photo_psnr, reprojection_px ..."""


@dataclass
class Result:
    """Everything of scene.json."""

    name: str
    method: str
    objects: list[SceneObject] = field(default_factory=list)
    cameras: list[SceneCamera] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    active_camera: str | None = None
    world_from_result: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    """(4, 4) similarity: result's frame -> Blender world (Z up, metres, front -Y, standing on z = 0)."""
    field_file: str | None = None
    points_file: str | None = None
    """`points.npz` with points (P, 3) float32 and colors (P, 3) uint8: the sparse cloud."""
    seed: int = 0
    device: str = "cpu"
    model: dict[str, Any] = field(default_factory=dict)
    """Model card in brief: name, licence, source."""
    settings: dict[str, Any] = field(default_factory=dict)
    timings_s: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def camera_as_json(camera: Camera) -> dict[str, Any]:
    """A camera as it stands in scene.json."""
    return {
        "name": camera.name, "width": camera.width, "height": camera.height,
        "fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy,
        "distortion": list(camera.distortion), "cam_to_world": np.asarray(camera.cam_to_world).tolist(),
        "grade": camera.grade, "reason": camera.reason,
    }  # fmt: skip


def camera_from_json(data: dict[str, Any]) -> Camera:
    """Inverse of `camera_as_json`."""
    values = dict(data)
    values["cam_to_world"] = np.asarray(values["cam_to_world"], np.float64)
    values["distortion"] = tuple(values["distortion"])
    return Camera(**values)


def write_mesh(path: Path, mesh: Mesh) -> None:
    """Mesh -> npz."""
    arrays: dict[str, NDArray[Any]] = {"vertices": mesh.vertices, "faces": mesh.faces}
    if mesh.uvs is not None:
        arrays["uvs"] = mesh.uvs
    arrays.update({f"attribute_{name}": values for name, values in mesh.attributes.items()})
    np.savez(path, **arrays)  # type: ignore[arg-type]


def read_mesh(path: Path) -> Mesh:
    """npz -> Mesh; nothing stays mapped (Windows cannot rename a mapped file)."""
    with np.load(path, allow_pickle=False) as data:
        return Mesh(
            vertices=data["vertices"],
            faces=data["faces"],
            uvs=data.get("uvs"),
            attributes={k.removeprefix("attribute_"): data[k] for k in data if k.startswith("attribute_")},
        )


def write_scene(folder: Path, result: Result) -> None:
    """Write scene.json into an existing folder."""
    scene = {
        "schema": SCHEMA,
        "name": result.name,
        "method": result.method,
        "objects": [vars(item) for item in result.objects],
        "cameras": [
            {
                "source": camera_as_json(item.source),
                "view": camera_as_json(item.view) if item.view else None,
                "image": item.image,
                "photo_path": item.photo_path,
                "metrics": item.metrics,
            }
            for item in result.cameras
        ],
        "failed": result.failed,
        "active_camera": result.active_camera,
        "world_from_result": np.asarray(result.world_from_result).tolist(),
        "field": result.field_file,
        "points": result.points_file,
        "seed": result.seed,
        "device": result.device,
        "model": result.model,
        "settings": result.settings,
        "timings_s": {name: round(value, 3) for name, value in result.timings_s.items()},
        "metrics": result.metrics,
        "warnings": result.warnings,
    }
    (folder / "scene.json").write_text(json.dumps(scene, indent=1), encoding="utf-8")


def read_result(folder: Path) -> Result:
    """Read scene.json of a Result folder.

    Raises:
        InputError: RESULT_UNREADABLE when the folder holds no result or one of a later schema.
    """
    try:
        scene = json.loads((folder / "scene.json").read_text(encoding="utf-8"))
        if scene["schema"] > SCHEMA:
            raise InputError(
                "RESULT_TOO_NEW",
                f"The result in {folder} was written by a later version.",
                "Update Maquette.",
            )
        return Result(
            name=scene["name"],
            method=scene["method"],
            objects=[SceneObject(**item) for item in scene["objects"]],
            cameras=[
                SceneCamera(
                    source=camera_from_json(item["source"]),
                    view=camera_from_json(item["view"]) if item["view"] else None,
                    image=item["image"],
                    photo_path=item["photo_path"],
                    metrics=item["metrics"],
                )
                for item in scene["cameras"]
            ],
            failed=scene["failed"],
            active_camera=scene["active_camera"],
            world_from_result=np.asarray(scene["world_from_result"], np.float64),
            field_file=scene["field"],
            points_file=scene["points"],
            seed=scene["seed"],
            device=scene["device"],
            model=scene["model"],
            settings=scene["settings"],
            timings_s=scene["timings_s"],
            metrics=scene["metrics"],
            warnings=scene["warnings"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "RESULT_UNREADABLE", f"{folder} holds no readable result.", "Choose a folder that Maquette wrote."
        ) from error


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary sibling of `out` that takes its name when the block ends well and vanishes otherwise.

    An existing `out` is replaced only at the very end; on failure it is left as it was.

    Raises:
        InputError: OUT_NOT_WRITABLE when the parent cannot be written.
        FailedError: DISK_FULL when the disk has no room.
    """
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            "OUT_NOT_WRITABLE", f"The folder {out.parent} cannot be written.", "Choose another output folder."
        ) from error
    try:
        yield temporary
        if out.exists():
            old = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.old")
            os.replace(out, old)
            os.replace(temporary, out)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, out)
    except OSError as error:
        if error.errno == 28:  # ENOSPC
            raise FailedError(
                "DISK_FULL",
                f"The disk of {out.parent} is full.",
                "Free some space or choose another output folder.",
            ) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
