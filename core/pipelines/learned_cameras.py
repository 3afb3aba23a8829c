# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras by Depth Anything 3 where its weights are installed: the start for sets that features cannot place."""

from __future__ import annotations

import logging

import numpy as np
import torch

from ..images.load import read_pixels
from ..jobs import warm
from ..models.depth_anything.model import DepthAnything, prepare
from ..poses.ladder import Estimator
from ..types import Camera, Photo
from ..weights.networks import load_network
from ..weights.store import InstalledModel, installed_models
from .field_to_result import pick_device

log = logging.getLogger(__name__)

SIDE = {"cpu": 280, "cuda": 504, "mps": 504}
"""Long side of the pictures; 24 of 210 x 280 take five seconds on two cores (spec-pose C.6)."""


def learned_estimator(device: str) -> Estimator | None:
    """The installed Depth Anything 3, the smallest where there are several; None where there is none."""
    models = [model for model in installed_models() if model.layout == "depth_anything"]
    if not models:
        return None
    model = min(models, key=lambda m: m.size)
    return lambda photos: _estimate(model, photos, pick_device(device))


def _estimate(model: InstalledModel, photos: list[Photo], device: torch.device) -> dict[str, Camera]:
    """Photo -> camera. Raises what `load_network` raises."""
    log.info("cameras by %s", model.name)
    network = warm.loaded(
        ("cameras", str(model.path), str(device)),
        lambda: load_network(model.path)[1].requires_grad_(False).to(device),
    )
    assert isinstance(network, DepthAnything)
    return cameras_of(network, photos, device)


def cameras_of(network: DepthAnything, photos: list[Photo], device: torch.device) -> dict[str, Camera]:
    """Photo -> camera of the full-resolution photo, as the network sees the set; the frame and its unit are the network's."""
    side = SIDE[device.type]
    pictures = [torch.from_numpy(read_pixels(photo, side)[0]).permute(2, 0, 1) for photo in photos]
    with torch.inference_mode():
        seen = network(prepare(pictures, side).to(device))
    out = {}
    for photo, pose, lens in zip(photos, seen.cam_to_world, seen.intrinsics, strict=True):
        # `prepare` brings the long side to `side` and cuts around the middle.
        focal = float(0.5 * (lens[0, 0] + lens[1, 1])) * max(photo.width, photo.height) / side
        out[photo.name] = Camera(
            photo.name, photo.width, photo.height, focal, focal, photo.width / 2, photo.height / 2,
            np.asarray(pose.double().cpu().numpy(), np.float64),
        )  # fmt: skip
    return out
