# SPDX-License-Identifier: GPL-3.0-or-later
"""Tri-plane field (Chan et al. 2022, EG3D, section 4.1): three feature planes and a small network.

One class for TripoSR, OpenLRM and our own model; what differs between them stands in `TriplaneRule`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .field import Kind

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "softplus": nn.Softplus}
CHUNK_POINTS = {"cpu": 8192}
"""Points at a time: on a CPU what stays in the cache (measured best), elsewhere `_CHUNK_POINTS_GPU`."""
_CHUNK_POINTS_GPU = 1 << 18


Fovea = tuple[tuple[float, float], ...]
"""Per axis middle and width (`magnified`), or nothing."""


@dataclass(frozen=True)
class TriplaneRule:
    """How a published system reads its planes."""

    radius: float = 1.0
    """Half the side of the box, in units of the result's frame."""
    axes: tuple[tuple[int, int], ...] = ((0, 1), (0, 2), (1, 2))
    """Per plane: the coordinates that run along its columns and along its rows."""
    reduction: Literal["concat", "mean"] = "concat"
    """How the three features become one."""
    density: Literal["exp", "softplus"] = "exp"
    density_bias: float = -1.0
    """density = activation(raw + bias)."""
    colour_margin: float = 0.0
    """colour = sigmoid(raw) (1 + 2 margin) - margin; 0.001 in EG3D's family (Barron et al. 2021, mip-NeRF)."""
    level: float = 25.0
    """Density at which the surface is cut."""
    border: float = 0.0
    """Share of the cube's side left out of the field's box at each face (EG3D has a wall there)."""
    bend: float = 0.0
    """Factor on the first three features, which move a point before the others are read (our head generator); 0: none do."""
    fovea: Fovea = ()
    """Where bent planes have their finest texels."""


class PlaneDecoder(nn.Module):
    """Features of a point -> [raw density, raw colour]: `hidden_layers` layers of `hidden` and a linear one."""

    def __init__(
        self, width: int, hidden: int, hidden_layers: int, channels: int = 3, activation: str = "silu"
    ) -> None:
        super().__init__()
        self.activation, self.channels = activation, channels
        widths = [width] + [hidden] * hidden_layers
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1 + channels))

    def forward(self, features: Tensor) -> Tensor:
        """(N, width) -> (N, 1 + channels)."""
        return self.layers(features)


def magnified(points: Tensor, fovea: Fovea, side: float) -> Tensor:
    """Where points (N, 3) of a box lie in planes whose texels are finest around a place: an inverse hyperbolic sine per axis, which leaves
    the box's ends where they are. Outside of it the planes have nothing in either way.

    Our choice: on the unbent head eyes and mouth always lie in the same place, where an even grid of 128 texels has one and a half
    for an iris. The planes' cost stays as it is.

    Args:
        points: units of the box, whose middle is 0.
        fovea: per axis, middle and width of the place in `side`s; at the width the texels are 1.4 times as large as in the middle.
        side: of the box.
    """
    if not fovea:
        return points
    middle, width = torch.tensor(fovea, device=points.device, dtype=points.dtype).T
    low, high = torch.asinh((-0.5 - middle) / width), torch.asinh((0.5 - middle) / width)
    return ((torch.asinh((points / side - middle) / width) - low) / (high - low) - 0.5) * side


class TriplaneField:
    """Density and colour in a cube around the origin (`fields.field.Field`).

    Args:
        planes: (3, C, H, W) float, rows and columns as `rule.axes` says; three channels more where they bend.
        decoder: network from features to raw values.
        rule: how the planes are read.
    """

    kind: Kind = "density"
    has_geometry = True
    has_appearance = True

    def __init__(self, planes: Tensor, decoder: PlaneDecoder, rule: TriplaneRule) -> None:
        self.planes, self.decoder, self.rule = planes, decoder, rule
        half = rule.radius * (1 - 2 * rule.border)
        self.box = torch.tensor([[-half] * 3, [half] * 3], device=planes.device)
        self.level = rule.level
        self.channels = decoder.channels

    def plane_features(self, points: Tensor) -> Tensor:
        """points (N, 3) -> (3, N, C): bilinear, half-pixel centres, zero outside the planes."""
        if not self.rule.bend:
            return self._read(self.planes, points)
        shift = self._read(self.planes[:, :3], points).mean(0) * self.rule.bend
        place = magnified(points + shift, self.rule.fovea, 2 * self.rule.radius)
        return self._read(self.planes[:, 3:], place)

    def _read(self, planes: Tensor, points: Tensor) -> Tensor:
        unit = points / self.rule.radius
        grid = torch.stack([unit[:, list(pair)] for pair in self.rule.axes])[:, None]  # (3, 1, N, 2)
        sampled = F.grid_sample(planes, grid.to(planes.dtype), align_corners=False)  # (3, C, 1, N)
        return sampled[:, :, 0].mT

    def raw(self, points: Tensor) -> Tensor:
        """points (N, 3) float32 -> (N, 1 + channels): density and colour before their activations."""
        size = CHUNK_POINTS.get(points.device.type, _CHUNK_POINTS_GPU)
        return (
            torch.cat([self._raw(chunk) for chunk in points.split(size)])
            if len(points)
            else self._raw(points)
        )

    def _raw(self, points: Tensor) -> Tensor:
        features = self.plane_features(points)
        merged = features.mean(0) if self.rule.reduction == "mean" else features.transpose(0, 1).flatten(1)
        return self.decoder(merged).float()

    def density_of(self, raw: Tensor) -> Tensor:
        """Raw density -> density >= 0, any shape."""
        shifted = raw + self.rule.density_bias
        return shifted.exp() if self.rule.density == "exp" else F.softplus(shifted)

    def colour_of(self, raw: Tensor) -> Tensor:
        """Raw colour -> colour, any shape; 0..1 give or take the margin."""
        margin = self.rule.colour_margin
        return torch.sigmoid(raw) * (1 + 2 * margin) - margin

    def geometry(self, points: Tensor) -> Tensor:
        """points (N, 3) float32 -> density (N,) float32."""
        return self.density_of(self.raw(points)[:, 0])

    def appearance(
        self, points: Tensor, directions: Tensor | None = None, normals: Tensor | None = None
    ) -> Tensor:
        """points (N, 3) -> (N, C); the colour of these systems does not depend on the viewing direction."""
        return self.colour_of(self.raw(points)[:, 1:])

    def grid(self, resolution: int) -> Tensor:
        """Densities (R, R, R), index order x, y, z, at linspace(-radius, radius, R) on each axis."""
        axis = torch.linspace(-self.rule.radius, self.rule.radius, resolution, device=self.planes.device)
        slabs = [torch.cartesian_prod(x[None], axis, axis) for x in axis]
        return torch.stack([self.geometry(points).view(resolution, resolution) for points in slabs])

    def save(self, path: Path) -> None:
        """Planes, network and rule in one safetensors file."""
        tensors = {f"decoder.{name}": tensor for name, tensor in self.decoder.state_dict().items()}
        tensors["planes"] = self.planes
        about = {
            "field": "triplane",
            "rule": json.dumps(asdict(self.rule)),
            "activation": self.decoder.activation,
        }
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, path, about)

    @classmethod
    def load(cls, path: Path) -> TriplaneField:
        """Inverse of `save`; the file does not stay mapped."""
        with safe_open(path, "pt") as file:
            about = file.metadata()
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        rule = json.loads(about["rule"])
        for name in ("axes", "fovea"):
            rule[name] = tuple(tuple(pair) for pair in rule.get(name, ()))
        weights = {
            name.removeprefix("decoder."): t for name, t in tensors.items() if name.startswith("decoder.")
        }
        shapes = [tuple(t.shape) for name, t in weights.items() if name.endswith("weight")]
        last = max((name for name in weights), key=lambda name: int(name.split(".")[1]))
        channels = len(weights[last]) - 1
        hidden, width = weights["layers.0.weight"].shape
        decoder = PlaneDecoder(width, hidden, len(shapes) - 1, channels, about["activation"])
        decoder.load_state_dict(weights)
        return cls(tensors["planes"], decoder.requires_grad_(False).eval(), TriplaneRule(**rule))

    def to(self, device: torch.device) -> TriplaneField:
        """The same field on another device."""
        return TriplaneField(self.planes.to(device), self.decoder.to(device), self.rule)
