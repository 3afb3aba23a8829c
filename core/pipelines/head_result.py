# SPDX-License-Identifier: GPL-3.0-or-later
"""The second half of every head: latent -> planes -> field -> surface -> the generator's pictures -> texture -> Result."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..fields.field import Field
from ..head_settings import HeadSettings
from ..models.eg3d.cameras import METRES, WORLD_FROM_HEAD, camera_of
from ..models.eg3d.generator import Eg3d
from ..models.eg3d.views import head_views, labels_around
from ..progress import Progress
from ..results import Result, SceneCamera
from ..settings import MeshSettings
from ..types import PoseEstimate, SparseCloud
from .field_to_result import (
    add_to_result,
    surface_field,
    texture_colours,
    texture_mesh,
    usual_resolution,
)
from .head_code import HeadCode, portrait_of
from .head_model import OpenModel
from .live_preview import LivePreview
from .pictures import without_rim, write_pictures
from .poses import write_cameras

PLAN = {"head": 1.0, "surface": 4.0, "pictures": 3.0, "uv": 1.0, "texture": 4.0, "match": 0.5}
Angles = tuple[tuple[float, float], ...]
SEEN: dict[str, Angles] = {
    "draft": ((0.0, 0.0), (-0.75, 0.0), (0.75, 0.0)),
    "normal": ((0.0, 0.0), (-0.4, 0.0), (0.4, 0.0), (-0.75, 0.0), (0.75, 0.0), (0.0, 0.3), (0.0, -0.3)),
    "high": (
        (0.0, 0.0), (-0.25, 0.0), (0.25, 0.0), (-0.5, 0.0), (0.5, 0.0), (-0.8, 0.0), (0.8, 0.0),
        (0.0, 0.3), (0.0, -0.3), (-0.5, 0.25), (0.5, 0.25),
    ),
}  # fmt: skip
"""(yaw, pitch) in radians of the pictures for the texture of a public network, which has seen faces from in front."""
AROUND: dict[str, Angles] = {
    "draft": tuple((math.radians(a), 0.0) for a in (0, 90, 180, 270)),
    "normal": (
        *((math.radians(a), 0.0) for a in (0, 35, -35, 75, -75, 120, -120, 180)),
        (0.0, 0.6), (math.pi, 0.7), (0.0, -0.4),
    ),
    "high": (
        *((math.radians(a), 0.0) for a in range(-150, 181, 30)),
        (0.0, 0.6), (2.1, 0.7), (-2.1, 0.7), (0.0, -0.4), (1.0, -0.3), (-1.0, -0.3),
    ),
}  # fmt: skip
"""Of our own, which is whole all round."""
SMALLEST_PART = 0.1
"""Of the head's area: what is loose and smaller is a torn piece of clothes (2 to 8 % in 12 of 64 sampled heads)."""
APART_DEG = 20.0
"""The generator's pictures from nearer than this to a photo's camera are left out: the photo is to colour what it shows."""


@dataclass(frozen=True)
class Head:
    """A head that is to become a result."""

    opened: OpenModel
    network: Eg3d
    """Tuned, where it was."""
    code: HeadCode
    planes: Tensor
    """(1, 3, C, S, S)"""


def made_head(opened: OpenModel, code: HeadCode) -> Head:
    """The head of a code.

    Raises:
        InputError: HEAD_OTHER_MODEL.
    """
    network = code.tuned(opened.network)
    with torch.no_grad():
        return Head(opened, network, code, network.planes(code.ws.to(opened.device)))


def finish(
    head: Head,
    result: Result,
    folder: Path,
    settings: HeadSettings,
    progress: Progress,
) -> Result:
    """Stages `surface`, `pictures`, `uv`, `texture`, `match`; fills in and returns the result.

    Args:
        head: what to mesh.
        result: with its cameras, whose pictures lie in the folder.
        folder: receives mesh, texture, field, latent, pictures.
        settings: how fine.
        progress: stages are set here.

    Raises:
        FailedError: NO_SURFACE.
    """
    opened = head.opened
    with torch.inference_mode():
        field = opened.field(head.network, head.planes[0])
    field.save(folder / "field.safetensors")
    head.code.save(folder)
    _save_picture(head, folder)
    resolution = settings.resolution or usual_resolution(field, settings.quality)
    chosen = MeshSettings(
        quality=settings.quality,
        resolution=resolution,
        face_budget=settings.face_budget,
        texture_size=settings.texture_size,
    )
    mesh = surface_field(field, chosen, progress, SMALLEST_PART)
    with progress.stage("pictures"):
        photos = [item.source.cam_to_world for item in result.cameras]
        angles = (AROUND if opened.bare else SEEN)[settings.quality]
        labels = _apart(labels_around(head.network, angles, opened.whole_focal), photos)
        views = head_views(
            head.network, head.code.ws.to(head.planes.device), head.planes, labels, progress, opened.bare
        )
        write_pictures(folder, views)
    textured = texture_mesh(mesh, _colours(field), folder, result.cameras, chosen, progress)
    textured.object.name = result.name
    add_to_result(result, textured)
    _write_cameras(folder, result)
    result.world_from_result = standing(mesh.vertices)
    result.field_file, result.model, result.seed = "field.safetensors", opened.model.card, settings.seed
    result.device, result.settings = head.planes.device.type, settings.as_json()
    low, high = world_bounds(mesh.vertices, result.world_from_result)
    result.metrics["height_m"] = round(float(high[2] - low[2]), 4)
    return result


def own_camera(head: Head, folder: Path, progress: Progress, name: str = "front") -> SceneCamera:
    """The camera of the head's own picture, which is written to `views/` and shown as a preview."""
    with torch.inference_mode():
        (view,) = head_views(
            head.network,
            head.code.ws.to(head.planes.device),
            head.planes,
            head.code.label,
            None,
            head.opened.bare,
        )
    (folder / "views").mkdir(exist_ok=True)
    path = folder / "views" / f"{name}.png"
    Image.fromarray((view.rgb * 255 + 0.5).astype(np.uint8)).save(path, compress_level=3)
    LivePreview(folder, progress).show(view.rgb)
    camera = camera_of(head.code.label[0].numpy(), view.rgb.shape[0], f"{name}.png")
    if view.mask is not None:
        (folder / "masks").mkdir(exist_ok=True)
        kept = view.mask * without_rim(view.mask.shape)
        Image.fromarray((kept * 255 + 0.5).astype(np.uint8)).save(folder / "masks" / f"{name}.png")
    return SceneCamera(camera, camera, f"views/{name}.png")


def standing(vertices: NDArray[np.float32]) -> NDArray[np.float64]:
    """world_from_result (4, 4): natural size, upright, the face towards -y, on the floor, its axis over the world's origin."""
    out = np.diag([METRES, METRES, METRES, 1.0]) @ WORLD_FROM_HEAD
    low, high = world_bounds(vertices, out)
    out[:3, 3] = -(low + high) / 2
    out[2, 3] = -low[2]
    return out


def world_bounds(
    vertices: NDArray[np.float32], world: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest corner (3,) in the world."""
    placed = vertices.astype(np.float64) @ world[:3, :3].T + world[:3, 3]
    return placed.min(0), placed.max(0)


def _colours(field: Field) -> Field:
    return texture_colours(field)


def _apart(labels: Tensor, poses: Iterable[NDArray[np.float64]]) -> Tensor:
    """Labels (N, 25) whose cameras look from elsewhere than all of the poses."""
    eyes = [pose[:3, 3] / np.linalg.norm(pose[:3, 3]) for pose in poses]
    kept = []
    for label in labels:
        eye = label[:16].view(4, 4)[:3, 3].double().numpy()
        eye /= np.linalg.norm(eye)
        if all(float(eye @ other) < math.cos(math.radians(APART_DEG)) for other in eyes):
            kept.append(label)
    return torch.stack(kept) if kept else labels[:0]


def _save_picture(head: Head, folder: Path) -> None:
    """`picture.png`: what a region is painted over, the photo's crop where there is one, else the head's own picture."""
    portrait = portrait_of(head.code)
    if portrait is None:
        with torch.inference_mode():
            label = head.code.label.to(head.planes.device)
            rendered = head.network.render(head.planes, label)
            picture = head.network.picture(rendered, head.code.ws.to(head.planes.device))
    else:
        picture = portrait.picture
    rgb = ((picture[0] + 1) / 2).clamp(0, 1).permute(1, 2, 0).float().cpu().numpy()
    Image.fromarray((rgb * 255 + 0.5).astype(np.uint8)).save(folder / "picture.png", compress_level=3)


def _write_cameras(folder: Path, result: Result) -> None:
    cameras = [item.source for item in result.cameras]
    cloud = SparseCloud(np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    write_cameras(folder, PoseEstimate(cameras, {}, cloud, result.method, "B"))
    (folder / "points.npz").unlink()
