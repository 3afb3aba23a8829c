# SPDX-License-Identifier: GPL-3.0-or-later
"""A `Field` that is a small network with its codes bound: the common part of the implicit and generative systems.

Each system has a subclass in its own folder: how the network is made from its key shapes, and what it says at a point.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..fields.field import Kind
from .parts.key_shapes import Shapes, shapes_of
from .parts.rows import chunk_of


class NetworkField:
    """Network, codes and settings (`fields.field.Field`).

    Args:
        network: the part of the system that answers at points, in eval mode.
        codes: bound latents, feature maps ...
        settings: `box` ((low), (high)), `level` and what else the weights do not say; JSON-ready.
    """

    system: ClassVar[str]
    kind: Kind = "occupancy"
    channels = 3
    has_geometry = True
    has_appearance = False

    def __init__(self, network: nn.Module, codes: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
        self.network = network.eval().requires_grad_(False)
        self.codes, self.settings = dict(codes), dict(settings)
        device = next(network.parameters()).device
        self.box = torch.tensor(settings["box"], dtype=torch.float32, device=device)
        self.level = float(settings["level"])

    @classmethod
    def build(cls, shapes: Shapes, settings: Mapping[str, Any]) -> nn.Module:
        """The network whose key shapes these are."""
        raise NotImplementedError

    def geometry_of(self, points: Tensor) -> Tensor:
        """(N, 3) -> (N,)."""
        raise NotImplementedError

    def colour_of(self, points: Tensor, directions: Tensor | None) -> Tensor:
        """(N, 3) and unit directions or None -> (N, 3)."""
        raise NotImplementedError

    def geometry(self, points: Tensor) -> Tensor:
        """points (N, 3) float32 -> probability or density (N,) float32."""
        return torch.cat([self.geometry_of(part) for part in points.split(chunk_of(points.device))])

    def appearance(
        self, points: Tensor, directions: Tensor | None = None, normals: Tensor | None = None
    ) -> Tensor:
        """points (N, 3), unit directions from the camera or None (against the normals) -> colours (N, 3)."""
        if directions is None and normals is not None:
            directions = -normals
        size = chunk_of(points.device)
        parts = directions.split(size) if directions is not None else None
        chunks = points.split(size)
        return torch.cat([self.colour_of(p, parts[i] if parts else None) for i, p in enumerate(chunks)])

    def save(self, path: Path) -> None:
        """Network, codes and settings in one safetensors file."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"codes.{name}": tensor for name, tensor in self.codes.items()}
        about = {"field": "network", "system": self.system, "settings": json.dumps(self.settings)}
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, path, about)

    def to(self, device: torch.device) -> Self:
        """The same field on another device."""
        codes = {name: code.to(device) for name, code in self.codes.items()}
        return type(self)(self.network.to(device), codes, self.settings)


def load_network_field(path: Path) -> NetworkField:
    """Inverse of `NetworkField.save`; the file does not stay mapped.

    Raises:
        ValueError: unknown system.
    """
    from .campari.field import CampariField
    from .convonet.field import ConvonetField
    from .dvr.field import DvrField
    from .giraffe.field import GiraffeObjectField
    from .graf.field import GrafField
    from .nerf.field import NerfField
    from .occupancy_flow.field import FlowField
    from .onet.field import OnetField
    from .texture_fields.field import TextureFieldColours

    kinds: tuple[type[NetworkField], ...] = (
        OnetField, ConvonetField, DvrField, TextureFieldColours, FlowField, NerfField, GrafField,
        GiraffeObjectField, CampariField,
    )  # fmt: skip
    with safe_open(path, "pt") as file:
        about = file.metadata()
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    found = next((kind for kind in kinds if kind.system == about["system"]), None)
    if found is None:
        raise ValueError(f"unknown system {about['system']}")
    state = {n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")}
    codes = {n.removeprefix("codes."): t for n, t in tensors.items() if n.startswith("codes.")}
    settings = json.loads(about["settings"])
    network = found.build(shapes_of(state), settings)
    network.load_state_dict(state)
    return found(network, codes, settings)


def cube(half_edge: float) -> list[list[float]]:
    """The box of a cube around the origin."""
    return [[-half_edge] * 3, [half_edge] * 3]
