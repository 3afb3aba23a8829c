# SPDX-License-Identifier: GPL-3.0-or-later
"""Verb `candidates`: what several models and seeds make of one picture, side by side, before the slow steps of `mesh`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..errors import Cancelled, InputError, MaquetteError
from ..images.load import open_photos
from ..jobs.request import Request
from ..models.lrm.one_picture import Reconstruction, framing_of, reconstruct
from ..progress import Progress
from ..render.rasterize import rasterize
from ..results import Result
from ..settings import MeshSettings
from ..types import Camera, Mesh
from .field_to_result import pick_device
from .image_to_mesh import Picture, draft_mesh, masked_picture
from .single_image_model import SingleImageModel, find_single_image_model, single_image_models

log = logging.getLogger(__name__)

USUAL = 4
"""Candidates when the artist does not say how many."""
CELL = 256
"""Side of one view of a preview, pixels."""
BACKDROP = 0.27
PLAN = {"mask": 1.0, "candidates": 9.0}


@dataclass(frozen=True)
class Candidate:
    """One row of the sheet: `mesh --method lrm --model MODEL --seed SEED` makes it in full."""

    model: SingleImageModel
    asked: str
    """Name or file by which it is found again."""
    seed: int
    views: NDArray[np.uint8]
    """(CELL, 3 CELL, 3): as the picture shows it, from its right, from behind."""
    overlap: float
    """Silhouette IoU through the model's own camera."""

    def as_json(self, preview: str) -> dict[str, Any]:
        """For scene.json."""
        return {
            "model": self.asked,
            "licence": str(self.model.card.get("licence", "")),
            "seed": self.seed,
            "preview": preview,
            "model_camera_iou": round(self.overlap, 4),
        }


def run(request: Request, folder: Path, progress: Progress) -> Result:
    """Previews of one picture: `candidate_N.png` each, `candidates.png` all under one another beside the picture.

    Args:
        request: one picture; settings models (names or files; empty: all that are there), seeds (per model; 0: as many as
            give four candidates), seed (the first), masks, mask_mode, device.
        folder: receives the pictures; the result has no mesh, its metrics list the candidates.
        progress: plan and stages are set here; every preview is told as soon as it is there.

    Raises:
        InputError: ONE_PICTURE; those of `masked_picture`. MissingError: MODEL_MISSING, MODEL_NOT_INSTALLED.
        FailedError: where no candidate came about, what went wrong with the last.
    """
    given = dict(request.settings)
    names = given.pop("models", ()) or [model.name for model in single_image_models()]
    models = [(str(name), find_single_image_model(str(name))) for name in names]
    seeds = int(given.pop("seeds", 0)) or -(-USUAL // len(models))
    settings = MeshSettings.from_json(given)
    photos = open_photos([Path(path) for path in request.inputs], progress)
    if len(photos) != 1:
        raise InputError(
            "ONE_PICTURE",
            f"Candidates are made of one picture; {len(photos)} were given.",
            "Choose the picture that shows the object best.",
        )
    progress.set_plan(PLAN)
    with progress.stage("mask"):
        picture = masked_picture(photos[0], settings, progress)
    wanted = [(*model, settings.seed + number) for number in range(seeds) for model in models]
    made: list[Candidate] = []
    device = pick_device(settings.device)
    with progress.stage("candidates"):
        for number, (asked, model, seed) in enumerate(wanted):
            progress.update(number / len(wanted), f"{model.name}, seed {seed}")
            try:
                made.append(_candidate(picture, model, asked, seed, device, progress))
            except Cancelled:
                raise
            except MaquetteError as error:
                if not made and number == len(wanted) - 1:
                    raise
                progress.warning(f"{model.name}, seed {seed}: {error.message}")
                continue
            path = folder / f"candidate_{len(made) - 1}.png"
            Image.fromarray(made[-1].views).save(path)
            progress.preview(path)
    _sheet(picture, made).save(folder / "candidates.png")
    result = Result(
        name=Path(photos[0].name).stem, method="candidates", seed=settings.seed, device=device.type
    )
    rows = [candidate.as_json(f"candidate_{number}.png") for number, candidate in enumerate(made)]
    result.metrics = {"candidates": rows, "picture": str(photos[0].path)}
    result.settings = request.settings
    return result


def _candidate(
    picture: Picture,
    model: SingleImageModel,
    asked: str,
    seed: int,
    device: torch.device,
    progress: Progress,
) -> Candidate:
    network = model.network(device)
    made = reconstruct(network, picture.rgba, picture.photo.name, model.side(), framing_of(seed))
    draft = draft_mesh(made.field, progress)
    with torch.inference_mode():
        colours = made.field.appearance(torch.from_numpy(draft.vertices).to(device))[:, :3].cpu()
    own, covered = _drawn(draft, colours, _shrunk(made.camera))
    mask = Image.fromarray(picture.mask).resize(covered.shape[::-1], Image.Resampling.BOX)
    shown = np.asarray(mask) > 0.5
    overlap = float((shown & covered).sum() / max(1, (shown | covered).sum()))
    sides = [_drawn(draft, colours, _around(draft, made, turn))[0] for turn in (90.0, 180.0)]
    views = np.concatenate([_square(own), *sides], 1)
    return Candidate(model, asked, seed, views, overlap)


def _shrunk(camera: Camera) -> Camera:
    scale = CELL / max(camera.width, camera.height)
    return camera.resized(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))


def _around(draft: Mesh, made: Reconstruction, degrees: float) -> Camera:
    """A camera that stands so many degrees to the right of the front, a little above, and sees the whole object."""
    standing = draft.vertices @ made.upright.T
    middle = 0.5 * (standing.min(0) + standing.max(0))
    size = float(np.linalg.norm(standing - middle, axis=1).max())
    turn, height = np.radians([degrees, 12.0])
    back = np.array([np.cos(height) * np.sin(turn), -np.cos(height) * np.cos(turn), np.sin(height)])
    right = np.array([np.cos(turn), np.sin(turn), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = made.upright.T @ np.stack([right, -np.cross(back, right), -back], 1)
    pose[:3, 3] = made.upright.T @ (middle + 4.0 * size * back)
    return Camera("", CELL, CELL, 1.85 * CELL, 1.85 * CELL, CELL / 2, CELL / 2, pose)


def _drawn(mesh: Mesh, colours: torch.Tensor, camera: Camera) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Vertex colours, darker where the surface turns away so that its form shows; and where there is any."""
    vertices, faces = torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces).long()
    raster = rasterize(vertices, faces, camera)
    hit = raster.face >= 0
    corners = faces[raster.face.clamp_min(0).long()]
    rgb = (colours[corners] * raster.barycentric[..., None]).sum(2).clamp(0, 1)
    a, b, c = vertices[faces].unbind(1)
    normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    forward = torch.from_numpy(camera.cam_to_world[:3, 2].astype(np.float32))
    facing = -(normals @ forward)[raster.face.clamp_min(0).long()]
    rgb = torch.where(
        hit[..., None], rgb * (0.55 + 0.45 * facing.clamp(0, 1))[..., None], torch.tensor(BACKDROP)
    )
    return (rgb * 255 + 0.5).to(torch.uint8).numpy(), hit.numpy()


def _square(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """In the middle of a CELL x CELL picture."""
    height, width = picture.shape[:2]
    out = np.full((CELL, CELL, 3), round(BACKDROP * 255), np.uint8)
    top, left = (CELL - height) // 2, (CELL - width) // 2
    out[top : top + height, left : left + width] = picture
    return out


def _sheet(picture: Picture, made: list[Candidate]) -> Image.Image:
    """A row per candidate with its model and seed; the picture stands beside the first."""
    alpha = picture.mask[..., None]
    photo = Image.fromarray(((picture.rgb * alpha + BACKDROP * (1 - alpha)) * 255 + 0.5).astype(np.uint8))
    photo.thumbnail((CELL, CELL))
    sheet = Image.new("RGB", (4 * CELL, CELL * len(made)), (round(BACKDROP * 255),) * 3)
    sheet.paste(photo, ((CELL - photo.width) // 2, (CELL - photo.height) // 2))
    pen = ImageDraw.Draw(sheet)
    for row, candidate in enumerate(made):
        sheet.paste(Image.fromarray(candidate.views), (CELL, row * CELL))
        pen.text(
            (CELL + 6, row * CELL + 4), f"{candidate.model.name}, seed {candidate.seed}", (255, 255, 255)
        )
    return sheet
