# SPDX-License-Identifier: GPL-3.0-or-later
"""Our bundled one-picture model: a reconstruction model of LRM's kind (Hong et al. 2023) at a size that a CPU can train.

What differs, and why (docs/models/object_lrm.md):
- Instead of three planes read by an MLP it yields two planes in the camera's frame: where each pixel's ray enters the object
  and where it leaves it (`fields.depth_layers`), and the colour behind. A tri-plane of occupancies that we trained before lost
  thin parts, since "inside" is never likely where depth is uncertain; a median depth is always somewhere.
- The mask inflated is the start: the network learns what to add to it.
- Convolutions around the vision transformer's blocks (Xiao et al. 2021, "Early convolutions help transformers see better";
  Ronneberger et al. 2015, U-Net) learn from a hundredth of the pictures that LRM had.

Frame: x to the picture's right, y away from the camera, z up in the picture; the crop's window at the object's middle
depth is -1..1 in x and z, and the object fills `FILL` of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from ...fields.depth_layers import DepthLayers
from ..parts.own_weights import OwnConfig, OwnNetwork
from ..parts.transformer import VisionBlock, VisionTransformerConfig
from .preprocessing import centre_foreground

SIDE = 48
"""Pixels of the picture that the network sees."""
FINE_SIDE = 288
"""Pixels of the outline and the colours that the field gets from the picture itself."""
SMOOTH_SIDE = 192
"""Pixels to which the layers are brought, so that the surface shows no creases between their own."""
FILL = 0.78
"""Share of the picture's side that the object's longer side fills: the rest leaves room for depth in the cube."""
ALIKE = 0.08
"""Where the colour behind differs less from the picture's than this, it takes over the picture's fine detail too."""
SIDES_BLUR = 0.03
"""Sigma, of the window, of the colours between front and back."""
THINNEST = 0.015
"""Least distance between the layers, half sides of the window: a twentieth of a millimetre of a cup."""
SHARPNESS = 20.0
"""Of the soft limit that keeps the last layer behind the first."""


@dataclass(frozen=True)
class ObjectLRMConfig(OwnConfig):
    """Sizes."""

    channels: tuple[int, ...] = (24, 48, 96, 192)
    """Features at full resolution, half, a quarter and an eighth; the last are the tokens' width."""
    depth: int = 3
    """Transformer blocks."""
    heads: int = 4
    hidden: int = 576
    """Width inside their MLPs."""


@dataclass(frozen=True)
class Stance:
    """How the camera stood, as the network sees it."""

    up: NDArray[np.float64]
    """(3,) unit: the object's up in the field's frame."""
    nearness: float
    """Half side of the field's window over the camera's distance from its middle; 0 for a telephoto lens."""

    @property
    def elevation(self) -> float:
        """Degrees that the camera stood above the object's horizon."""
        return math.degrees(math.asin(float(np.clip(-self.up[1], -1, 1))))


@dataclass(frozen=True)
class Layers:
    """What the network says of B pictures, (B, ..., S, S), rows down the picture."""

    depth: Tensor
    """(B, 2, S, S): y where rays enter and leave."""
    behind: Tensor
    """(B, 3, S, S) sRGB 0..1 of the surface that they leave."""
    stance: Tensor
    """(B, 4): up, nearness."""


class ObjectLRM(OwnNetwork):
    """RGBA crop -> two layers of depth, the colour behind, and the camera's stance."""

    TITLE = "the bundled model"
    CONFIG = ObjectLRMConfig

    def __init__(self, config: ObjectLRMConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or ObjectLRMConfig()
        width = c.channels[-1]
        self.stem = nn.ModuleList([convolution(8, c.channels[0])])
        for fine, coarse in pairwise(c.channels):
            self.stem.append(nn.Sequential(convolution(fine, coarse, 2), Residual(coarse)))
        side = SIDE >> (len(c.channels) - 1)
        self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + side**2, width))
        transformer = VisionTransformerConfig(width, c.depth, c.heads, c.hidden)
        self.blocks = nn.ModuleList(VisionBlock(transformer) for _ in range(c.depth))
        self.norm = nn.LayerNorm(width)
        self.expand = nn.ModuleList(
            nn.Conv2d(coarse, 4 * fine, 1) for coarse, fine in pairwise(c.channels[::-1])
        )
        self.refine = nn.ModuleList(
            nn.Sequential(convolution(2 * n, n), Residual(n)) for n in c.channels[-2::-1]
        )
        self.last = nn.Conv2d(c.channels[0], 5, 3, padding=1)
        stance = nn.Linear(width, 4)
        self.stance_head = nn.Sequential(nn.Linear(width, width), nn.SiLU(), stance)
        with torch.no_grad():  # the start: the inflated mask
            for weight in (*self.last.parameters(), *stance.parameters()):
                weight.zero_()

    def forward(self, image: Tensor) -> Layers:
        """image (B, 4, S, S) straight RGBA 0..1."""
        rgb, alpha = image[:, :3], image[:, 3:]
        thick = inflation(image[:, 3])
        axis = (torch.arange(SIDE, device=image.device) + 0.5) / SIDE * 2 - 1
        places = torch.stack(torch.meshgrid(axis, -axis, indexing="xy")).expand(len(image), -1, -1, -1)
        seen = torch.cat([(rgb - 0.5) * 2 * alpha, alpha * 2 - 1, thick, places], 1)
        x = seen.contiguous(memory_format=torch.channels_last)
        own = []
        for layer in self.stem:
            x = layer(x)
            own.append(x)
        side = x.shape[-1]
        tokens = x.flatten(2).mT  # (B, side^2, width)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        x = tokens[:, 1:].mT.unflatten(2, (side, side)).contiguous(memory_format=torch.channels_last)
        for expand, refine, features in zip(self.expand, self.refine, own[-2::-1], strict=True):
            x = refine(torch.cat([F.pixel_shuffle(expand(x), 2), features], 1))
        said = self.last(x).float()
        half = thick[:, 1].float().clamp(min=0)
        enter = said[:, 0] - half
        between = F.softplus((2 * half + said[:, 1]) * SHARPNESS) / SHARPNESS + THINNEST
        base = torch.logit((rgb * alpha + 0.5 * (1 - alpha)).clamp(0.02, 0.98))
        behind = torch.sigmoid(base + said[:, 2:])
        return Layers(
            torch.stack([enter, enter + between], 1), behind, self.stance_head(tokens[:, 0]).float()
        )

    @torch.no_grad()
    def field(self, rgba: NDArray[np.uint8], fill: float = FILL) -> tuple[DepthLayers, Stance]:
        """Picture (H, W, 4) uint8, straight alpha -> the field of what it shows, and the stance.

        The picture and its mirror image are both looked at and the mean taken (our choice: depth errors of the two differ).

        Raises:
            InputError: NO_FOREGROUND when nothing is opaque.
        """
        weight = self.last.weight
        image = crop_picture(rgba, SIDE, fill).to(weight)
        said = self(torch.stack([image, image.flip(2)]))
        depth = 0.5 * (said.depth[0] + said.depth[1].flip(2))
        behind = 0.5 * (said.behind[0] + said.behind[1].flip(2))
        stance = 0.5 * (said.stance[0] + said.stance[1] * said.stance.new_tensor([-1, 1, 1, 1]))
        up = stance[:3].double().cpu().numpy()
        up = up / np.linalg.norm(up) if np.linalg.norm(up) > 1e-3 else np.array([0.0, 0.0, 1.0])
        found = Stance(up, float(stance[3].clamp(LEAST_NEARNESS, 0.9)))
        fine = crop_picture(rgba, FINE_SIDE, fill).to(weight)
        covered = image[3] > 0.5
        front = spread(fine[:3], fine[3] > 0.5)
        soft = gaussian(torch.cat([0.5 * (image[:3] + behind) * covered, covered[None].to(behind)]))
        coarse = torch.stack([behind, soft[:3] / soft[3:].clamp(min=1e-4), image[:3]])
        coarse = spread(coarse.flatten(0, 1), covered).unflatten(0, (3, 3))
        far, sides, near = F.interpolate(coarse, fine.shape[1:], mode="bilinear", align_corners=False)
        alike = torch.exp(-(far - near).abs().mean(0) / ALIKE)
        colours = torch.stack([front, (far + alike * (front - near)).clamp(0, 1), sides])
        smooth = F.interpolate(
            spread(depth, covered)[None], (SMOOTH_SIDE, SMOOTH_SIDE), mode="bicubic", align_corners=False
        )[0]
        field = DepthLayers(
            torch.stack([smooth[0], smooth.amax(0)]).float(),
            inflation(fine[3:])[0, 0].float(),
            colours.float(),
            found.nearness,
        )
        return field, found


LEAST_NEARNESS = 0.05
"""The camera stands at most 20 half sides away: beyond that perspective does not show."""


def convolution(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    """3 x 3, batch norm, SiLU."""
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.SiLU())


class Residual(nn.Module):
    """x + f(x), two convolutions (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.BatchNorm2d(channels)
        nn.init.zeros_(last.weight)
        self.inner = nn.Sequential(
            convolution(channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        return F.silu(x + self.inner(x))


@torch.no_grad()
def inflation(alpha: Tensor) -> Tensor:
    """alpha (B, S, S) 0..1 -> (B, 2, S, S): signed distance d to the mask's outline, positive inside, and half thickness h.

    Both in half sides. h = sqrt(d (2 D - d)), D the largest d: a disc becomes a ball, a strip a rod (our choice of the
    oldest one: Williams 1991, "3D paint", inflates so). Outside, h = -sqrt(|d| (2 D + |d|)), as steep as inside.
    """
    masks = F.pad(alpha > 0.5, (1, 1, 1, 1)).cpu().numpy()
    signed = []
    for mask in masks:
        inside = distance_transform_edt(mask)
        outside = distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, float(len(mask)))
        signed.append(np.where(mask, inside - 0.5, 0.5 - outside)[1:-1, 1:-1] / (alpha.shape[-1] / 2))
    d = torch.from_numpy(np.stack(signed)).to(alpha)
    deepest = d.amax((1, 2), keepdim=True).clamp(min=0)
    return torch.stack([d, d.sign() * (d.abs() * (2 * deepest - d)).clamp(min=0).sqrt()], 1)


def gaussian(maps: Tensor, sigma: float = SIDES_BLUR * SIDE) -> Tensor:
    """maps (C, H, W) blurred, sigma in pixels; beyond the border lies nothing."""
    reach = math.ceil(3 * sigma)
    weight = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=maps.device) / sigma) ** 2)
    weight = (weight / weight.sum()).to(maps)
    rows = F.conv2d(maps[:, None], weight.view(1, 1, -1, 1), padding=(reach, 0))
    return F.conv2d(rows, weight.view(1, 1, 1, -1), padding=(0, reach))[:, 0]


def spread(maps: Tensor, known: Tensor) -> Tensor:
    """maps (C, H, W), known (H, W) bool -> maps whose other pixels hold the nearest known one's values."""
    if not bool(known.any()):
        return maps
    rows, columns = distance_transform_edt(~known.cpu().numpy(), return_distances=False, return_indices=True)
    return maps[:, torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]


def crop_picture(rgba: NDArray[np.uint8], side: int = SIDE, fill: float = FILL) -> Tensor:
    """(H, W, 4) uint8 straight RGBA -> (4, side, side) float32 0..1 as the network wants it; the object fills `fill`.

    Raises:
        InputError: NO_FOREGROUND when nothing is opaque.
    """
    crop = torch.from_numpy(centre_foreground(rgba, fill).astype(np.float32) / 255).permute(2, 0, 1)
    crop = torch.cat([crop[:3] * crop[3:], crop[3:]])
    small = F.interpolate(crop[None], (side, side), mode="bilinear", antialias=True)[0].clamp(0, 1)
    return torch.cat([small[:3] / small[3:].clamp(min=1e-3), small[3:]]).clamp(0, 1)


def upright(stance: Stance) -> NDArray[np.float64]:
    """(3, 3) rotation from the field's frame to one with z up, whose front (the side seen) faces -y."""
    up = stance.up / np.linalg.norm(stance.up)
    away = np.array([0.0, 1.0, 0.0]) - up[1] * up
    if np.linalg.norm(away) < 1e-3:  # seen from right above: what is up in the picture is away
        away = np.array([0.0, 0.0, 1.0]) - up[2] * up
    away /= np.linalg.norm(away)
    return np.stack([np.cross(away, up), away, up])
