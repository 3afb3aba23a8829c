# SPDX-License-Identifier: GPL-3.0-or-later
"""Our bundled one-picture model: TripoSR's scheme (Tochilkin et al. 2024) at a size that a CPU can train.

What differs, and why (docs/models/object_lrm.md):
- The planes lie in the camera's frame and the picture's tokens start them: the plane that faces the camera takes them as
  they lie, the other two their means along the direction they do not have. Nothing has to be learnt about where things are.
- The picture keeps its alpha as a fourth channel. Its mask, inflated, is where the surface starts (`inflation`): the planes
  carry that body's logit in closed form and the network learns what to add to it.
- A head says how the camera stood: the object's up and how near the camera was.
- Raw geometry is the logit of being inside, so the field's density is its exponential and the surface lies at density 1.

Frame: x to the picture's right, y away from the camera, z up in the picture; the crop's window at the object's middle
depth is -1..1 in x and z, and the object fills `FILL` of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import safe_open
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from ...errors import InputError
from ...fields.triplane import PlaneDecoder, TriplaneField, TriplaneRule
from ..parts.transformer import CrossBlock, VisionTransformer, VisionTransformerConfig
from .preprocessing import centre_foreground

SIDE = 96
"""Pixels of the picture that the network sees."""
FILL = 0.78
"""Share of the picture's side that the object's longer side fills: the rest leaves room for depth in the cube."""


@dataclass(frozen=True)
class ObjectLRMConfig:
    """Sizes."""

    encoder: VisionTransformerConfig = field(
        default_factory=lambda: VisionTransformerConfig(
            width=256, depth=6, heads=4, hidden=768, patch=12, image=SIDE
        )
    )
    layers: int = 4
    """Blocks of the plane transformer, of the encoder's width."""
    heads: int = 4
    upsample: int = 4
    """Side of the piece of plane that one token becomes."""
    features: int = 24
    """Channels of the finished planes."""
    hidden: int = 64
    hidden_layers: int = 3
    slope: float = 3.0
    """Of the inflated mask's logit, per half side of the cube; 0: the network does without it."""
    level: float = 1.0
    """Density of the surface; chosen on the validation objects."""

    @property
    def plane(self) -> int:
        """Side of the planes in tokens: that of the picture."""
        return self.encoder.image // self.encoder.patch

    @property
    def rule(self) -> TriplaneRule:
        """Planes (x, z), (x, y), (y, z); density = exp(logit)."""
        axes = ((0, 2), (0, 1), (1, 2))
        return TriplaneRule(axes=axes, density_bias=0.0, level=self.level, added=self.slope > 0)

    @classmethod
    def from_json(cls, text: str) -> ObjectLRMConfig:
        """Inverse of `json.dumps(asdict(config))`."""
        values: dict[str, Any] = json.loads(text)
        encoder = VisionTransformerConfig(**values["encoder"])
        return cls(**{"slope": 0.0} | values | {"encoder": encoder})  # the first weights had no inflation


@dataclass(frozen=True)
class Stance:
    """How the camera stood, as the network sees it."""

    up: NDArray[np.float64]
    """(3,) unit: the object's up in the field's frame."""
    nearness: float
    """Half side of the field's cube over the camera's distance from its middle; 0 for a telephoto lens."""

    @property
    def elevation(self) -> float:
        """Degrees that the camera stood above the object's horizon."""
        return math.degrees(math.asin(float(np.clip(-self.up[1], -1, 1))))


class ObjectLRM(nn.Module):
    """RGBA crop -> three planes and the camera's stance."""

    def __init__(self, config: ObjectLRMConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or ObjectLRMConfig()
        width, guides = c.encoder.width, 2 if c.slope else 0
        self.encoder = VisionTransformer(c.encoder)
        self.encoder.patch_embed["proj"] = nn.Conv2d(4 + guides, width, c.encoder.patch, c.encoder.patch)
        self.tokens = nn.Parameter(torch.zeros(1, 3, width, c.plane, c.plane))
        self.lift = nn.Linear(width, 3 * width)
        self.blocks = nn.ModuleList(
            CrossBlock(width, c.heads, width // c.heads, width) for _ in range(c.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.upsample = nn.ConvTranspose2d(width, 2 * c.features, c.upsample, c.upsample)
        self.pixels = PixelFeatures(4 + guides, c.features, c.encoder.patch // c.upsample)
        self.refine = nn.Sequential(
            nn.SiLU(), nn.Conv2d(2 * c.features, 2 * c.features, 3, padding=1),
            nn.SiLU(), nn.Conv2d(2 * c.features, c.features, 3, padding=1),
        )  # fmt: skip
        self.decoder = PlaneDecoder(3 * (c.features + guides), c.hidden, c.hidden_layers, 3, "silu")
        self.stance_head = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 4))
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Tokens of picture and planes start with waves of the coordinates they have, so that attention finds what lies at
        the same place; blocks start as the identity (our choice: both save a small budget many steps).
        """
        side, width = self.config.plane, self.config.encoder.width
        high, low = (
            _waves(side, width)[:, None].expand(-1, side, -1),
            _waves(side, width)[None].expand(side, -1, -1),
        )
        none = torch.zeros_like(high)
        for plane, (column, row) in enumerate(self.config.rule.axes):
            parts = [none] * 3
            parts[column], parts[row] = low, high
            self.tokens[0, plane] = _joined(parts, width).permute(2, 0, 1)
        picture = [low, none, high.flip(0)]  # x, y, z; rows of the picture run down
        self.encoder.pos_embed[0, 1:] = _joined(picture, width).flatten(0, 1)
        last = ("to_out.0.weight", "ff.net.2.weight", "attn.proj.weight", "mlp.fc2.weight")
        for name, weight in self.named_parameters():
            if name.endswith(last):
                weight.zero_()
        if self.config.slope:  # the planes hold slope (h + 1 - |y|)
            density = self.decoder.layers[-1]
            assert isinstance(density, nn.Linear)
            density.weight[0], density.bias[0] = 0.0, -self.config.slope

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, 4, S, S) straight RGBA 0..1 -> planes (B, 3, features, P, P) and stance (B, 4): up, nearness."""
        seen = torch.cat([(image[:, :3] - 0.5) * 2 * image[:, 3:], image[:, 3:] * 2 - 1], 1)
        if self.config.slope:
            seen = torch.cat([seen, inflation(image[:, 3])], 1)
        image_tokens = self.encoder(seen)  # (B, 1 + M, width)
        side = self.config.plane
        x = (
            (self.tokens + self.lifted(image_tokens)).permute(0, 1, 3, 4, 2).flatten(1, 3)
        )  # (B, 3 side^2, width)
        for block in self.blocks:
            x = block(x, image_tokens)
        each = self.norm(x).unflatten(1, (3, side, side)).permute(0, 1, 4, 2, 3)  # (B, 3, width, side, side)
        fine = self.upsample(each.flatten(0, 1)).unflatten(0, (-1, 3))  # (B, 3, 2 features, P, P)
        front = fine[:, 0] + self.pixels(seen)
        fine = torch.cat([front[:, None], fine[:, 1:]], 1)
        planes = self.refine(fine.flatten(0, 1)).unflatten(0, (-1, 3)).float()
        if self.config.slope:
            planes = torch.cat([planes, self.guides(seen[:, 4:], planes.shape[-1])], 2)
        return planes, self.stance_head(image_tokens[:, 0]).float()

    def guides(self, inflated: Tensor, side: int) -> Tensor:
        """`inflation` (B, 2, S, S) -> (B, 3, 2, side, side): where a point lies, and its share of slope (h + 1 - |y|).

        Outside the planes features are zero; the shares are such that nothing is solid there.
        """
        distance, half = F.adaptive_avg_pool2d(inflated, side).flip(2).unbind(1)
        y = ((torch.arange(side, device=half.device) + 0.5) / side * 2 - 1).expand_as(half)
        front = torch.stack([distance, self.config.slope * half], 1)
        top = torch.stack([y, self.config.slope * (1 - y.abs())], 1).mT  # rows y
        flank = torch.stack([y, torch.zeros_like(y)], 1)
        return torch.stack([front, top, flank], 1)

    def lifted(self, image_tokens: Tensor) -> Tensor:
        """Image tokens (B, 1 + M, width) -> what they give to the planes at the start, (B, 3, width, side, side)."""
        side = self.config.plane
        grid = (
            self.lift(image_tokens[:, 1:]).unflatten(1, (side, side)).flip(1)
        )  # (B, z, x, 3 width), z upwards
        front, top, flank = grid.permute(0, 3, 1, 2).chunk(3, 1)  # each (B, width, z, x)
        top = top.mean(2, keepdim=True).expand_as(front)  # rows y, columns x
        flank = flank.mean(3, keepdim=True).expand_as(front)  # rows z, columns y
        return torch.stack([front, top, flank], 1)

    def field(self, image: Tensor) -> tuple[TriplaneField, Stance]:
        """image (4, S, S) straight RGBA 0..1, as `crop_picture` gives it -> the field of what it shows, and the stance."""
        planes, stance = self(image[None])
        up = stance[0, :3].double().cpu().numpy()
        up /= max(float(np.linalg.norm(up)), 1e-6)
        return self.field_of(planes[0]), Stance(up, float(stance[0, 3].clamp(0, 0.9)))

    def field_of(self, planes: Tensor) -> TriplaneField:
        """Planes (3, features, P, P) -> field, with this model's decoder."""
        return TriplaneField(planes, self.decoder, self.config.rule)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: ObjectLRMConfig) -> ObjectLRM:
        """The network with these weights, float32, in eval mode.

        Raises:
            InputError: WEIGHTS_MISMATCH when names or shapes differ.
        """
        model = cls(config)
        try:
            model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except RuntimeError as error:
            raise InputError(
                "WEIGHTS_MISMATCH",
                f"These are not the weights of the bundled model: {error}.",
                "Install the extension again.",
            ) from error
        return model.eval().requires_grad_(False)

    @classmethod
    def from_file(cls, path: Path) -> ObjectLRM:
        """The network from a safetensors file whose metadata hold its configuration (`config`, JSON)."""
        with safe_open(path, "pt") as file:
            config = ObjectLRMConfig.from_json(file.metadata()["config"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return cls.from_tensors(tensors, config)


def _waves(side: int, width: int) -> Tensor:
    """(side, width // 6 * 2): sines and cosines of a coordinate -1..1 at the places of `side` tokens."""
    place = (torch.arange(side) + 0.5) / side * 2 - 1
    frequency = 2.0 ** torch.linspace(-1, math.log2(side), width // 6) * math.pi / 2
    angle = place[:, None] * frequency
    return 0.5 * torch.cat([angle.sin(), angle.cos()], -1)


def _joined(parts: list[Tensor], width: int) -> Tensor:
    """Waves of x, y and z, each (side, side, w) -> (side, side, width)."""
    waves = torch.cat(parts, -1)
    return F.pad(waves, (0, width - waves.shape[-1]))


class PixelFeatures(nn.Module):
    """Outlines and colours at the planes' own resolution, for the plane that faces the camera; its rows go upwards."""

    def __init__(self, channels: int, features: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, features, stride + 2, stride, padding=1),
            nn.SiLU(),
            nn.Conv2d(features, 2 * features, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, channels, S, S) -> (B, 2 features, P, P)."""
        features: Tensor = self.layers(image)
        return features.flip(2)


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


def config_text(config: ObjectLRMConfig) -> str:
    """For the metadata of a weight file."""
    return json.dumps(asdict(config))
