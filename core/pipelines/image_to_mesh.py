# SPDX-License-Identifier: GPL-3.0-or-later
"""Verb `mesh`, method `lrm`: one picture -> mask -> field -> the camera that lines it up -> textured mesh."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..cameras.orbit import centred
from ..errors import FailedError
from ..fields.cut import CutField
from ..fields.depth_layers import DepthLayers
from ..fields.field import Field
from ..fields.triplane import TriplaneField
from ..fit.bounds import region_cube
from ..fit.silhouette_refinement import RefinementSettings, refine_to_mask
from ..images.load import read_pixels
from ..images.mask_files import read_masks, save_masks
from ..images.matting import matted
from ..images.single_mask import check_size, checked, object_mask
from ..jobs.request import Request
from ..models.lrm.one_picture import Reconstruction, framing_of, reconstruct
from ..poses.silhouette_camera import SilhouetteFit, SilhouetteSettings, fit_camera, overlap
from ..progress import Progress
from ..results import Result
from ..settings import MeshSettings
from ..surface.clean import CleanSettings, clean_mesh
from ..surface.extract import ExtractSettings, extract_surface
from ..types import DOUBTFUL, Camera, Mesh, Photo, PoseEstimate, SparseCloud, View
from .field_to_result import PLAN as SURFACE_PLAN
from .field_to_result import (
    add_to_result,
    pick_device,
    surface_field,
    texture_colours,
    texture_mesh,
    usual_resolution,
)
from .live_preview import LivePreview
from .poses import report_cameras
from .single_image_model import find_single_image_model

log = logging.getLogger(__name__)

WORK_SIDE = 1024
"""Long side at which the picture is masked and given to the model, pixels."""
DRAFT = 64
"""Cells along the box for the mesh that the camera is solved with."""
TIED = SilhouetteSettings(sigma_azimuth=4.0, sigma_elevation=6.0, sigma_roll=4.0)
"""All these models make the object as the picture's camera sees it, so its direction is nearly known; its distance and lens
are what they fix beforehand and what has to be solved."""
EXACT_OVERLAP = 0.96
"""A model whose own camera covers the mask so well has nothing to gain from another."""
GOOD_OVERLAP = 0.9
"""A camera with less is doubtful."""
STEPS = {"draft": 0, "normal": 45, "high": 90}
"""Of the refinement to the outline."""
PLAN = {"mask": 1.0, "field": 8.0, "camera": 5.0, "refine": 4.0, "views": 1.0, **SURFACE_PLAN}


@dataclass(frozen=True)
class Picture:
    """The picture at working size."""

    photo: Photo
    rgb: NDArray[np.float32]
    """(H, W, 3) sRGB 0..1."""
    mask: NDArray[np.float32]
    """(H, W) 0..1, 1 object."""

    @property
    def rgba(self) -> NDArray[np.uint8]:
        """(H, W, 4) uint8, straight; what is hardly there is not there, since models crop to alpha > 0."""
        alpha = np.where(self.mask < 0.05, 0.0, self.mask)
        return (np.dstack([self.rgb, alpha]) * 255.0 + 0.5).clip(0, 255).astype(np.uint8)


def run(request: Request, folder: Path, progress: Progress, photo: Photo) -> Result:
    """One picture to a textured mesh.

    Args:
        request: settings are those of `MeshSettings`; its one input is `photo`.
        folder: receives the files of the Result.
        progress: plan and stages are set here.
        photo: the picture.

    Raises:
        InputError, MissingError, FailedError, Cancelled: see the stages.
    """
    settings = MeshSettings.from_json(request.settings)
    device = pick_device(settings.device)
    progress.set_plan(PLAN)
    model = find_single_image_model(settings.model)
    if settings.cameras:
        progress.warning("Given cameras are not used with a single picture: its camera is solved.")
    with progress.stage("mask"):
        picture = masked_picture(photo, settings, progress)
        LivePreview(folder, progress).show(picture.rgb, picture.mask)  # what the model is about to be shown
    with progress.stage("field"):
        network, framing = model.network(device), framing_of(settings.seed)
        made = reconstruct(network, picture.rgba, photo.name, model.side(), framing)
    with progress.stage("camera"):
        draft = draft_mesh(made.field, progress)
        fit = _line_up(draft, picture, made.camera, progress)
    field, last = _refined(made.field, fit, picture, settings, progress)
    camera = _graded(last).resized(photo.width, photo.height)
    found = PoseEstimate([camera], {}, _no_points(), "silhouette", "B", _numbers(fit))
    result = report_cameras([photo], found, folder, progress, request.settings)
    _forget_points(result, folder)
    save_masks(folder / "masks", [View(last.camera, picture.rgb, picture.mask)], [camera])
    field.save(folder / "field.safetensors")
    chosen = replace(settings, resolution=settings.resolution or usual_resolution(field, settings.quality))
    mesh = surface_field(_cut(field, made, draft, settings), chosen, progress)
    textured = texture_mesh(mesh, texture_colours(field), folder, result.cameras, settings, progress)
    result.name, result.method, result.device = Path(photo.name).stem, "lrm", device.type
    result.field_file, result.model = "field.safetensors", model.card
    result.world_from_result = standing(mesh.vertices, made.upright, settings.height)
    add_to_result(result, textured)
    return result


def standing(
    vertices: NDArray[np.float32], upright: NDArray[np.float64], height: float = 0.0
) -> NDArray[np.float64]:
    """world_from_result (4, 4): upright, in the middle of the floor z = 0, `height` metres high or the longest side 1."""
    turned = vertices.astype(np.float64) @ upright.T
    low, high = turned.min(0), turned.max(0)
    size = float((high - low)[2]) if height > 0 else float((high - low).max())
    scale = (height or 1.0) / max(size, 1e-9)
    out = np.eye(4)
    out[:3, :3] = scale * upright
    out[:3, 3] = -scale * np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    return out


def masked_picture(photo: Photo, settings: MeshSettings, progress: Progress) -> Picture:
    """The picture at working size with its mask: the artist's, else its alpha, else the matting model's, else found.

    Raises:
        InputError, MissingError: see `images.single_mask.object_mask` and `images.matting.matted`.
    """
    check_size(photo.name, photo.width, photo.height)
    rgb, alpha = read_pixels(photo, WORK_SIDE)
    if settings.masks:
        given = read_masks(Path(settings.masks), [photo], progress)[photo.name]
        mask = np.asarray(cv2.resize(given, rgb.shape[1::-1], interpolation=cv2.INTER_AREA), np.float32)
        return Picture(photo, rgb, checked(photo.name, mask, most=1.0))
    if settings.matting and alpha is None:
        return Picture(photo, rgb, checked(photo.name, matted(Path(settings.matting), rgb)))
    return Picture(photo, rgb, object_mask(photo.name, rgb, alpha, progress, settings.mask_mode))


def draft_mesh(field: Field, progress: Progress) -> Mesh:
    """A coarse mesh.

    Raises:
        FailedError: NO_SURFACE.
    """
    with torch.inference_mode():
        mesh = extract_surface(field, ExtractSettings(resolution=DRAFT), progress)
    mesh = clean_mesh(mesh, CleanSettings(), progress)
    if not len(mesh.faces):
        raise FailedError(
            "NO_SURFACE",
            "The model made no surface of this picture.",
            "Check the mask, or use another model.",
        )
    return mesh


def _line_up(draft: Mesh, picture: Picture, start: Camera, progress: Progress) -> SilhouetteFit:
    """The camera of the working picture, its principal point in the middle as in photos."""
    anchor = 0.5 * (draft.vertices.min(0).astype(np.float64) + draft.vertices.max(0))
    own = centred(start, anchor)
    covered = overlap(draft.vertices, draft.faces, picture.mask, own)
    if covered >= EXACT_OVERLAP:
        return SilhouetteFit(own, covered, covered, (0.0, 0.0, 0.0))
    fit = fit_camera(draft.vertices, draft.faces, picture.mask, own, TIED, progress)
    log.info("silhouette %.3f, model's own camera %.3f, turned %s", fit.iou, fit.start_iou, fit.turned_deg)
    return fit


def _refined(
    field: TriplaneField | DepthLayers,
    fit: SilhouetteFit,
    picture: Picture,
    settings: MeshSettings,
    progress: Progress,
) -> tuple[Field, SilhouetteFit]:
    """The field with the picture's outline, and the camera once more for what it holds now; layers have that outline anyway."""
    effort = RefinementSettings(steps=STEPS[settings.quality], seed=settings.seed)
    if isinstance(field, DepthLayers) or not effort.steps:
        return field, fit
    with progress.stage("refine"):
        field = refine_to_mask(field, fit.camera, picture.mask, effort, progress)
        draft = draft_mesh(field, progress)
        return field, fit_camera(draft.vertices, draft.faces, picture.mask, fit.camera, TIED, progress)


def _graded(fit: SilhouetteFit) -> Camera:
    if fit.iou >= GOOD_OVERLAP:
        return fit.camera
    reason = f"the object's outline and the mesh's share {100 * fit.iou:.0f} %"
    return replace(fit.camera, grade=DOUBTFUL, reason=reason)


def _numbers(fit: SilhouetteFit) -> dict[str, object]:
    return {
        "registered": 1,
        "model_camera_iou": round(fit.start_iou, 4),
        "solved_camera_iou": round(fit.iou, 4),
        "camera_turned_deg": [round(value, 2) for value in fit.turned_deg],
    }


def _no_points() -> SparseCloud:
    return SparseCloud(np.zeros((0, 3)), np.zeros((0, 3), np.uint8))


def _forget_points(result: Result, folder: Path) -> None:
    """One picture has no cloud of points."""
    (folder / "points.npz").unlink()
    result.points_file = None


def _cut(field: Field, made: Reconstruction, draft: Mesh, settings: MeshSettings) -> Field:
    """The field cut to the artist's box, which stands in the world of the result."""
    if not settings.region:
        return field
    world = standing(draft.vertices, made.upright, settings.height)
    return CutField(field, region_cube(settings.region, world))
