# SPDX-License-Identifier: GPL-3.0-or-later
"""One masked picture to a field, whichever model of this folder does it: crop and frame as each was published."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import FailedError
from ...fields.depth_layers import DepthLayers
from ...fields.triplane import TriplaneField
from ...types import Camera
from . import object_lrm
from .cameras import FOCAL, SOURCE_DISTANCE
from .object_lrm import ObjectLRM
from .openlrm import OpenLRM
from .preprocessing import centre_foreground, on_grey, openlrm_input, triposr_input
from .triposr import TripoSR

TRIPOSR_FILL, OPENLRM_FILL = 0.85, 0.8
"""Share of the crop that the object's longer side fills, as published (spec-lrm 1.3 and 2.7)."""
OPENLRM_SIDE = 512
"""OpenLRM's demo brings every crop to this size by area means first."""
TRIPOSR_DISTANCE, TRIPOSR_FOV = 1.9, 40.0
"""TripoSR's camera: distance from the origin, vertical angle of view in degrees (spec-lrm 1.7)."""


@dataclass(frozen=True)
class Reconstruction:
    """What a model makes of a picture."""

    field: TriplaneField | DepthLayers
    camera: Camera
    """Of the whole picture, in the field's frame, as the model takes it to be; its principal point is the crop's middle."""
    upright: NDArray[np.float64]
    """(3, 3) rotation from the field's frame to z up, front (the side seen) towards -y."""


@dataclass(frozen=True)
class Crop:
    """The square of the picture that a model looks at, pixels of the picture; it may reach beyond."""

    left: int
    top: int
    side: int

    @classmethod
    def of(cls, alpha: NDArray[np.uint8], fill: float) -> Crop:
        """That of `preprocessing.centre_foreground`; alpha (H, W) shows something."""
        rows, columns = np.nonzero(alpha > 0)
        height, width = (
            int(np.ptp(rows)),
            int(np.ptp(columns)),
        )  # the last row and column are left out, as published
        square = max(height, width)
        side = int(square / fill)
        margin = (side - square) // 2
        return cls(
            int(columns.min()) - (square - width) // 2 - margin,
            int(rows.min()) - (square - height) // 2 - margin,
            side,
        )

    def camera(self, name: str, width: int, height: int, focal: float, pose: NDArray[np.float64]) -> Camera:
        """The camera of the whole picture, from one that sees the crop with `focal` times its side."""
        f, half = focal * self.side, 0.5 * self.side
        return Camera(name, width, height, f, f, self.left + half, self.top + half, pose)


def framing_of(seed: int) -> float:
    """These models draw nothing at random, but what they make of a picture's hidden sides changes with its framing.

    Seed 0 is the published framing; any other shows the object 0.88 to 1.06 times as large in its crop (our choice).
    """
    return 1.0 if seed == 0 else float(np.random.default_rng(seed).uniform(0.88, 1.06))


def reconstruct(
    network: nn.Module, rgba: NDArray[np.uint8], name: str, side: int = 0, framing: float = 1.0
) -> Reconstruction:
    """One pass through TripoSR, OpenLRM or our own model.

    Args:
        network: in eval mode, on any device; its weights' type is that of the pass.
        rgba: (H, W, 4) uint8, straight alpha.
        name: of the picture, for its camera.
        side: pixels of the picture that OpenLRM is given; 0: as released.
        framing: size of the object in the crop, over the published one.

    Raises:
        InputError: NO_FOREGROUND when nothing is opaque.
        FailedError: FIELD_NOT_FINITE when the network yields numbers that are none.
    """
    device = next(network.parameters()).device
    with torch.inference_mode():
        if isinstance(network, TripoSR):
            made = _triposr(network, rgba, name, device, framing)
        elif isinstance(network, OpenLRM):
            made = _openlrm(network, rgba, name, device, side, framing)
        elif isinstance(network, ObjectLRM):
            made = _ours(network, rgba, name, framing)
        else:
            raise TypeError(f"{type(network).__name__} makes no field of one picture")
        field = made.field
        maps = field.planes if isinstance(field, TriplaneField) else field.layers
        if not bool(torch.isfinite(maps).all()):
            raise FailedError(
                "FIELD_NOT_FINITE",
                "The model yields values that are not numbers.",
                "Use other weights or the processor.",
            )
    if isinstance(field, DepthLayers):
        return made
    # Tensors of inference mode take no part in a later refinement.
    copy = TriplaneField(field.planes.clone(), field.decoder, field.rule)
    return Reconstruction(copy, made.camera, made.upright)


def _triposr(
    network: TripoSR, rgba: NDArray[np.uint8], name: str, device: torch.device, framing: float
) -> Reconstruction:
    """The picture is seen from +x, its right is +y."""
    fill = TRIPOSR_FILL * framing
    crop = on_grey(centre_foreground(rgba, fill))
    field = network.field(triposr_input(crop, network.config.image).to(device))
    pose = _pose((TRIPOSR_DISTANCE, 0, 0), right=(0, 1, 0), forward=(-1, 0, 0))
    focal = 0.5 / np.tan(0.5 * np.radians(TRIPOSR_FOV))
    height, width = rgba.shape[:2]
    camera = Crop.of(rgba[..., 3], fill).camera(name, width, height, focal, pose)
    return Reconstruction(field, camera, np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]))


def _openlrm(
    network: OpenLRM, rgba: NDArray[np.uint8], name: str, device: torch.device, side: int, framing: float
) -> Reconstruction:
    """The picture is seen from -y."""
    fill = OPENLRM_FILL * framing
    crop = centre_foreground(rgba, fill).astype(np.float32) / 255.0
    white = crop[..., :3] * crop[..., 3:] + 1.0 - crop[..., 3:]
    white = cv2.resize(white, (OPENLRM_SIDE, OPENLRM_SIDE), interpolation=cv2.INTER_AREA)
    opaque = np.dstack([np.rint(white * 255), np.full(white.shape[:2], 255)]).astype(np.uint8)
    image: Tensor = openlrm_input(opaque, side or openlrm_side(network)).to(device)
    field = network.field(image)
    pose = _pose((0, -SOURCE_DISTANCE, 0), right=(1, 0, 0), forward=(0, 1, 0))
    height, width = rgba.shape[:2]
    camera = Crop.of(rgba[..., 3], fill).camera(name, width, height, FOCAL, pose)
    return Reconstruction(field, camera, np.eye(3))


def openlrm_side(network: OpenLRM) -> int:
    """Pixels that a released model of 1.1 was trained with, told by its width (spec-lrm 2.1); files of 1.0 say it themselves."""
    return {512: 224, 768: 336, 1024: 448}.get(network.config.width, 224)


def _ours(network: ObjectLRM, rgba: NDArray[np.uint8], name: str, framing: float) -> Reconstruction:
    """The frame is the picture's: x right, y away, z up; the crop at the origin's depth is -1..1."""
    fill = object_lrm.FILL * framing
    field, stance = network.field(rgba, fill)
    pose = _pose((0, -1.0 / stance.nearness, 0), right=(1, 0, 0), forward=(0, 1, 0))
    height, width = rgba.shape[:2]
    crop = Crop.of(rgba[..., 3], fill)
    camera = crop.camera(name, width, height, 0.5 / stance.nearness, pose)
    return Reconstruction(field, camera, object_lrm.upright(stance))


def _pose(
    position: tuple[float, float, float],
    right: tuple[float, float, float],
    forward: tuple[float, float, float],
) -> NDArray[np.float64]:
    """(4, 4) camera to world, OpenCV axes."""
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(forward, right), forward, position
    return pose
