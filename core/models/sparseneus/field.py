# SPDX-License-Identifier: GPL-3.0-or-later
"""The field that SparseNeuS makes (`fields.field.Field`): signed distance from a volume, colour from the pictures."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...fields.field import Kind
from .blending import BlendingNetwork, direction_difference, picture_features
from .surface import SurfaceNetwork, sample_volume

_CHUNK = 1 << 13
_COLOUR_CHUNK = 1 << 10
"""Points at a time, so that they stay in a processor's cache: a point has 59 numbers in each of 32 views."""


class NeuralSurface:
    """Signed distance in the cube -1..1 (axes of the reference camera, OpenCV) and colours blended from the pictures.

    Args:
        volume: (C, X, Y, Z) latents.
        mask: (1, X, Y, Z) ones in the voxels that the pictures determine.
        surface: network of the signed distance.
        blending: network of the colour.
        maps: (V, 3 + F, H, W) pictures and their features.
        affine: (V, 4, 4) K [R | t].
        centres: (V, 3) camera centres.
    """

    kind: Kind = "signed_distance"
    level = 0.0
    channels = 3
    has_geometry = True
    has_appearance = True

    def __init__(
        self,
        volume: Tensor,
        mask: Tensor,
        surface: SurfaceNetwork,
        blending: BlendingNetwork,
        maps: Tensor,
        affine: Tensor,
        centres: Tensor,
    ) -> None:
        self.volume, self.mask, self.surface, self.blending = volume, mask, surface, blending
        self.maps, self.affine, self.centres = maps, affine, centres
        self.box = torch.tensor([[-1.0] * 3, [1.0] * 3], device=volume.device)

    def latent(self, points: Tensor) -> Tensor:
        """points (N, 3) -> (N, C)."""
        return sample_volume(self.volume, points)

    def surface_values(self, points: Tensor) -> Tensor:
        """points (N, 3) -> (N, hidden): signed distance and features."""
        return self.surface(points, self.latent(points))

    def geometry(self, points: Tensor) -> Tensor:
        """points (N, 3) -> signed distance (N,), negative inside. Voxels that no picture determines have latent zero."""
        chunks = points.split(_CHUNK)
        return torch.cat([self.surface.distance(chunk, self.latent(chunk)) for chunk in chunks])

    def gradient(self, points: Tensor) -> Tensor:
        """points (N, 3) -> gradient of the signed distance (N, 3), by automatic differentiation."""
        parts = [points[:0]]
        with torch.inference_mode(False), torch.enable_grad():
            volume = (
                self.volume.clone()
            )  # it may have been made in inference mode, which no gradient may pass through
            for chunk in points.split(_CHUNK):
                free = chunk.clone().requires_grad_(True)
                distance = self.surface.distance(free, sample_volume(volume, free))
                parts += torch.autograd.grad(distance.sum(), free)
        return torch.cat(parts)

    def appearance(
        self, points: Tensor, directions: Tensor | None = None, normals: Tensor | None = None
    ) -> Tensor:
        """points (N, 3) -> colour (N, 3): seen along `directions`, or else along the surface normal (as in the mesh).

        Normals are taken from the field where none are given.
        """
        if directions is not None:
            towards = -directions
        elif normals is not None:
            towards = normals
        else:
            towards = F.normalize(self.gradient(points), dim=1)
        pairs = zip(points.split(_COLOUR_CHUNK), towards.split(_COLOUR_CHUNK), strict=True)
        return torch.cat([self.colour(chunk, unit)[0] for chunk, unit in pairs] or [points])

    def colour(self, points: Tensor, towards: Tensor) -> tuple[Tensor, Tensor]:
        """points (N, 3), unit vectors towards the eye (N, 3) -> colours (N, 3), seen by picture (V, N) bool."""
        views, valid = picture_features(points, self.maps, self.affine)
        inside = (points.abs() < 1).all(1) & (sample_volume(self.mask, points)[:, 0] > 0)
        seen = valid & inside
        difference = direction_difference(points, towards, self.centres)
        return self.blending(self.latent(points), views, difference, seen), seen

    def determined(self, points: Tensor) -> Tensor:
        """points (N, 3) -> (N,) bool: the nearest voxel is active (the renderer's rule: corners not aligned)."""
        grid = points.flip(1)[None, None, None]
        found = F.grid_sample(self.mask[None], grid, mode="nearest", align_corners=False)
        return found[0, 0, 0, 0] > 0

    def save(self, path: Path) -> None:
        """Everything the field needs, in one safetensors file."""
        tensors = {
            "volume": self.volume, "mask": self.mask, "maps": self.maps, "affine": self.affine, "centres": self.centres
        }  # fmt: skip
        tensors |= {f"surface.{name}": t for name, t in self.surface.state_dict().items()}
        tensors |= {f"blending.{name}": t for name, t in self.blending.state_dict().items()}
        shape = {"frequencies": self.surface.frequencies, "layers": self.surface.layers}
        about = {"field": "sparseneus", "surface": json.dumps(shape)}
        save_file({name: t.detach().contiguous().cpu() for name, t in tensors.items()}, path, about)

    @classmethod
    def load(cls, path: Path) -> NeuralSurface:
        """Inverse of `save`; the file does not stay mapped."""
        with safe_open(path, "pt") as file:
            shape = json.loads(file.metadata()["surface"])
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        latent, hidden = len(tensors["volume"]), len(tensors["surface.lin0.bias"])
        surface = SurfaceNetwork(hidden, latent, **shape)
        blending = BlendingNetwork(latent, tensors["maps"].shape[1])
        for part, network in (("surface.", surface), ("blending.", blending)):
            own = {name.removeprefix(part): t for name, t in tensors.items() if name.startswith(part)}
            network.load_state_dict(own)
            network.requires_grad_(False).eval()
        given = [tensors[name] for name in ("maps", "affine", "centres")]
        return cls(tensors["volume"], tensors["mask"], surface, blending, *given)

    def to(self, device: torch.device) -> NeuralSurface:
        """The same field on another device."""
        networks = self.surface.to(device), self.blending.to(device)
        tensors = [t.to(device) for t in (self.maps, self.affine, self.centres)]
        return NeuralSurface(self.volume.to(device), self.mask.to(device), *networks, *tensors)
