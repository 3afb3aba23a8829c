# SPDX-License-Identifier: GPL-3.0-or-later
"""Verb `head_sample`: a head out of nothing but a seed, or on the way between two heads; or a gallery of seeds to choose from."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..errors import InputError
from ..head_settings import SampleSettings
from ..jobs.request import Request
from ..models.eg3d.views import head_views, labels_around
from ..progress import Progress
from ..results import Result
from .field_to_result import pick_device
from .head_code import HeadCode, code_of, read_code
from .head_model import OpenModel, find_head_model
from .head_result import PLAN, Head, finish, made_head, own_camera

CELL = 256
"""Side of one picture of the gallery at most."""
HEIGHTS, SEEN_DEG = (-20.0, 0.0, 25.0), 90.0
"""Elevations of an orbit's pictures, and how far around public networks have seen faces, degrees."""
GALLERY_ANGLES = ((0.0, 0.0), (0.7, 0.05))
"""(yaw, pitch) of a preview's two pictures."""


def run(request: Request, folder: Path, progress: Progress) -> Result:
    """A head, or a gallery.

    Args:
        request: no inputs; settings are those of `SampleSettings`.
        folder: receives the files of the Result.
        progress: plan and stages are set here.

    Raises:
        InputError: NOT_A_HEAD, HEAD_OTHER_MODEL, BAD_SETTING; MissingError: HEAD_MODEL_MISSING. FailedError: NO_SURFACE.
    """
    settings = SampleSettings.from_json(request.settings)
    device = pick_device(settings.device)
    begin = read_code(Path(settings.begin)) if settings.begin else None
    model = find_head_model(settings.model or (begin.model if begin else ""))
    opened = model.open(device)
    if settings.gallery:
        return _gallery(opened, settings, folder, progress)
    progress.set_plan({"orbit": 1.0} if settings.orbit else PLAN)
    with progress.stage("orbit" if settings.orbit else "head"):
        code = begin or drawn(opened, settings)
        if settings.interpolate:
            code = code.mixed(_second(opened, settings), settings.share)
        head = made_head(opened, code)
        if settings.orbit:
            return _orbit(head, settings, folder, progress)
        result = Result(_name(settings), "head_sample")
        result.cameras = [own_camera(head, folder, progress)]
        result.active_camera = result.cameras[0].source.name
    return finish(head, result, folder, settings, progress)


def drawn(opened: OpenModel, settings: SampleSettings, seed: int | None = None) -> HeadCode:
    """The head of a seed with a portrait's camera from where the settings say."""
    focal = float(opened.portrait[0, 16])
    angles = ((math.radians(settings.yaw), math.radians(settings.elevation)),)
    label = labels_around(opened.network, angles, focal).to(opened.device)
    return code_of(opened, opened.latent(settings.seed if seed is None else seed, settings.truncation), label)


def _second(opened: OpenModel, settings: SampleSettings) -> HeadCode:
    """The head to mix with."""
    text = settings.interpolate
    if text.isdigit():
        return drawn(opened, settings, int(text))
    if not Path(text).is_dir():
        raise InputError(
            "BAD_SETTING", f"interpolate is {text!r}.", "Name a seed, or the folder of a head's result."
        )
    second = read_code(Path(text))
    second.check(opened.network)
    return second


def _name(settings: SampleSettings) -> str:
    first = Path(settings.begin).name if settings.begin else f"Head {settings.seed}"
    return f"{first} to {Path(settings.interpolate).name}" if settings.interpolate else first


def _orbit(head: Head, settings: SampleSettings, folder: Path, progress: Progress) -> Result:
    """One picture file per side and height, with its angles."""
    opened = head.opened
    around = 360.0 if opened.bare else SEEN_DEG
    # All round the last picture would be the first again.
    yaws = np.linspace(-around / 2, around / 2, settings.orbit, endpoint=not opened.bare)
    places = [(float(yaw), elevation) for elevation in HEIGHTS for yaw in yaws]
    labels = labels_around(
        head.network, [(math.radians(yaw), math.radians(up)) for yaw, up in places], opened.whole_focal
    )
    rows = []
    for number, (yaw, elevation) in enumerate(places):
        progress.update(number / len(places))
        with torch.inference_mode():
            (view,) = head_views(
                head.network, head.code.ws.to(opened.device), head.planes, labels[number : number + 1]
            )
        path = folder / f"side_{number:03d}.png"
        picture = Image.fromarray((view.rgb * 255 + 0.5).astype(np.uint8))
        picture.thumbnail((CELL, CELL))
        picture.save(path)
        progress.preview(path)
        rows.append({"yaw": yaw, "elevation": elevation, "preview": path.name})
    result = Result(_name(settings), "head_orbit", seed=settings.seed, device=opened.device.type)
    result.model = opened.model.card
    result.metrics = {"orbit": rows, "licence": str(opened.model.card.get("licence", ""))}
    result.settings = settings.as_json()
    return result


def _gallery(opened: OpenModel, settings: SampleSettings, folder: Path, progress: Progress) -> Result:
    """One picture file per seed, and all on one sheet."""
    progress.set_plan({"gallery": 1.0})
    model, network = opened.model, opened.network
    labels = labels_around(network, GALLERY_ANGLES, opened.whole_focal)
    rows, strips = [], []
    with progress.stage("gallery"):
        for number in range(settings.gallery):
            seed = settings.seed + number
            progress.update(number / settings.gallery, f"seed {seed}")
            ws = opened.latent(seed, settings.truncation)
            with torch.inference_mode():
                views = head_views(network, ws, network.planes(ws), labels)
            pixels = np.concatenate([view.rgb for view in views], 1)
            picture = Image.fromarray((pixels * 255 + 0.5).astype(np.uint8))
            picture.thumbnail((len(views) * CELL, CELL))
            path = folder / f"seed_{seed}.png"
            picture.save(path)
            progress.preview(path)
            strips.append(np.asarray(picture))
            rows.append({"seed": seed, "preview": path.name})
    Image.fromarray(np.concatenate(strips)).save(folder / "gallery.png")
    result = Result("Heads", "head_gallery", seed=settings.seed, device=labels.device.type, model=model.card)
    result.metrics = {
        "gallery": rows,
        "truncation": settings.truncation,
        "model": settings.model,
        "licence": str(model.card.get("licence", "")),
    }
    result.settings = settings.as_json()
    return result
