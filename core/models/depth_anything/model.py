# SPDX-License-Identifier: GPL-3.0-or-later
"""Depth Anything 3 Small and Base (Lin et al. 2025): pictures of one scene -> depths, rays and cameras.

Loads `model.safetensors` of `depth-anything/DA3-SMALL` and `DA3-BASE` (prefix `model.`). What the public files hold for
given poses (`cam_enc`) is not used: we ask for the cameras. Without public weights here, structure and names are checked
by the published parameter counts only (docs/models/depth_anything.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..parts.key_layout import KeyLayout, load_public
from .backbone import Backbone, BackboneConfig, patches_of
from .heads import RAY_NUMBERS, CameraDecoder, DenseHead

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
LAYOUT = KeyLayout([(r"^backbone\.", "backbone.pretrained.")], ignored=r"^cam_enc\.|mask_token$")


@dataclass(frozen=True)
class DepthAnythingConfig:
    """Sizes of a published model; the defaults are Small."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    widths: tuple[int, ...] = (48, 96, 192, 384)
    """Channels of the four maps of the dense head."""
    fused: int = 64
    """Channels of its fusion."""


SMALL = DepthAnythingConfig()
BASE = DepthAnythingConfig(BackboneConfig(768, 12), (96, 192, 384, 768), 128)


@dataclass(frozen=True)
class Prediction:
    """What the network says about S pictures of H x W; lengths in one unknown unit for the whole scene."""

    depth: Tensor
    """(S, H, W) z-depth."""
    confidence: Tensor
    """(S, H, W), 1 and more."""
    rays: Tensor
    """(S, h, w, 6) direction and origin per cell of a coarser grid, world frame."""
    ray_confidence: Tensor
    """(S, h, w), 1 and more."""
    cam_to_world: Tensor
    """(S, 4, 4) OpenCV axes."""
    intrinsics: Tensor
    """(S, 3, 3) pixels of H x W."""


class DepthAnything(nn.Module):
    """Backbone across views, camera decoder, dense head."""

    def __init__(self, config: DepthAnythingConfig = SMALL) -> None:
        super().__init__()
        self.config = config
        width = 2 * config.backbone.width
        self.backbone = Backbone(config.backbone)
        self.cam_dec = CameraDecoder(width)
        self.head = DenseHead(width, config.widths, config.fused)

    def forward(self, images: Tensor) -> Prediction:
        """images (S, 3, H, W) RGB 0..1 of one scene, sides multiples of 14 (see `prepare`)."""
        mean, std = (images.new_tensor(v)[:, None, None] for v in (MEAN, STD))
        features, token = self.backbone((images - mean) / std)  # 4 x (S, N, 2 width), (S, 2 width)
        height, width = images.shape[2:]
        depth, rays = self.head(features, (height, width), self.config.backbone.patch)
        translation, quaternion, fov = self.cam_dec(token)
        return Prediction(
            depth[:, 0].exp(),
            depth[:, 1].exp() + 1,
            rays[:, :RAY_NUMBERS].movedim(1, -1),
            rays[:, RAY_NUMBERS].exp() + 1,
            poses(translation, quaternion),
            pinholes(fov, height, width),
        )

    @classmethod
    def from_public(cls, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> DepthAnything:
        """The network with the weights of a public file (name -> tensor); Small or Base is seen from the shapes.

        Raises:
            InputError: WEIGHTS_MISMATCH when names or shapes differ.
        """
        own = canonical({name.removeprefix("model."): t for name, t in tensors.items()})
        table = own.get("backbone.pretrained.pos_embed")
        config = BASE if table is not None and table.shape[-1] == BASE.backbone.width else SMALL
        with torch.device("meta"):
            model = cls(config)
        load_public(model, own, LAYOUT, dtype)
        return model


def canonical(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The last auxiliary layers under our indices, and the norm they share under each of the four.

    Layers without weights (axis swaps around the norm) shift the published indices, and libraries store a shared tensor
    under one of its names only: convolution, norm and 1x1 convolution are told apart by their shapes.
    """
    pattern = re.compile(r"^(head\.scratch\.output_conv2_aux\.\d+)\.(\d+)\.(weight|bias)$")
    matches = {name: match for name in tensors if (match := pattern.match(name))}
    ours = {  # (level, published index) -> our index
        match.group(1, 2): 0 if match[2] == "0" else 1 if tensors[name].ndim == 1 else 3
        for name, match in matches.items()
        if match[3] == "weight"
    }
    out = {name: tensor for name, tensor in tensors.items() if name not in matches}
    for name, match in matches.items():
        index = ours.get(match.group(1, 2), int(match[2]))
        for level in {other[1] for other in matches.values()} if index == 1 else {match[1]}:
            out[f"{level}.{index}.{match[3]}"] = tensors[name]
    return out


def poses(translation: Tensor, quaternion: Tensor) -> Tensor:
    """translation (S, 3), quaternion x y z w (S, 4), any length -> camera to world (S, 4, 4)."""
    x, y, z, w = F.normalize(quaternion, dim=1).unbind(1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    out = torch.eye(4, dtype=translation.dtype, device=translation.device).repeat(len(translation), 1, 1)
    out[:, :3, :3] = torch.stack([torch.stack(row, 1) for row in rows], 1)
    out[:, :3, 3] = translation
    return out


def pinholes(fov: Tensor, height: int, width: int) -> Tensor:
    """Fields of view (S, 2) vertical, horizontal in radians -> (S, 3, 3) pixels, principal point in the middle."""
    out = torch.zeros(len(fov), 3, 3, dtype=fov.dtype, device=fov.device)
    half = torch.tan(fov.clamp(1e-3, 3.1) / 2)  # an untrained or uncertain network may answer 0
    out[:, 0, 0], out[:, 1, 1] = width / 2 / half[:, 1], height / 2 / half[:, 0]
    out[:, 0, 2], out[:, 1, 2], out[:, 2, 2] = width / 2, height / 2, 1
    return out


def prepare(pictures: list[Tensor], long_side: int = 504, patch: int = 14) -> Tensor:
    """Pictures (3, H, W) 0..1 of any size -> (S, 3, h, w) as the network wants them.

    The long side becomes `long_side`, each side the nearest multiple of the patch; all are cut at the middle to the
    smallest common size. 280 is a good long side on a CPU.
    """
    resized = []
    for picture in pictures:
        scale = long_side / max(picture.shape[1:])
        size = tuple(patches_of(round(n * scale), patch) for n in picture.shape[1:])
        resized.append(F.interpolate(picture[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1))
    h, w = (min(picture.shape[axis] for picture in resized) for axis in (1, 2))
    starts = [((p.shape[1] - h) // 2, (p.shape[2] - w) // 2) for p in resized]
    return torch.stack([p[:, a : a + h, b : b + w] for p, (a, b) in zip(resized, starts, strict=True)])
