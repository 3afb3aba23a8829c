# SPDX-License-Identifier: GPL-3.0-or-later
"""A field cut to an artist's box, which may stand askew in the field's frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from .field import Field


class CutField:
    """A field of which only the part inside a box is left; the surface is closed along the box's faces.

    Args:
        field: its geometry is cut; its colours stay.
        cube: (4, 4) float64, takes the cube from -0.5 to 0.5 to the box, in the field's frame.

    Raises:
        InputError: REGION_OUTSIDE where field and box have nothing in common.
    """

    def __init__(self, field: Field, cube: NDArray[np.float64]) -> None:
        self.field, self.cube = field, cube
        corners = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3), -1).reshape(-1, 3) @ cube[:3, :3].T + cube[:3, 3]
        box = torch.tensor(np.stack([corners.min(0), corners.max(0)]), dtype=torch.float32)
        whole = field.box.detach().cpu().float()
        self.box = torch.stack([torch.maximum(box[0], whole[0]), torch.minimum(box[1], whole[1])])
        if bool((self.box[0] >= self.box[1]).any()):
            raise InputError(
                "REGION_OUTSIDE", "The region box does not touch the object.", "Move the box over the object."
            )
        self.box = self.box.to(field.box.device)
        # Any steep slope puts the level on the box's faces; this one is of the size of the field's own values.
        self._slope = (
            1.0 if field.kind == "signed_distance" else 100.0 * (1.0 + abs(field.level)) / self._side
        )
        self.kind, self.level, self.channels = field.kind, field.level, field.channels
        self.has_geometry, self.has_appearance = field.has_geometry, field.has_appearance
        self.appearance = field.appearance

    @property
    def _side(self) -> float:
        return float((self.box[1] - self.box[0]).max())

    def geometry(self, points: Tensor) -> Tensor:
        """(N, 3) -> (N,): the field's own values inside the box, falling off outside."""
        values = self.field.geometry(points)
        beyond = self._slope * self._distance(points).reshape(values.shape).to(values.dtype)
        if self.kind == "signed_distance":
            return torch.maximum(values, self.level + beyond)
        return torch.minimum(values, self.level - beyond)

    def _distance(self, points: Tensor) -> Tensor:
        """(N,) lengths of the frame: how far each point lies beyond the box's nearest face, negative inside."""
        inverse = torch.tensor(np.linalg.inv(self.cube), dtype=torch.float32, device=points.device)
        heights = torch.tensor(1.0 / np.linalg.norm(np.linalg.inv(self.cube)[:3, :3], axis=1)).to(inverse)
        local = points @ inverse[:3, :3].T + inverse[:3, 3]
        return ((local.abs() - 0.5) * heights).amax(1)

    def save(self, path: Path) -> None:
        """The whole field is what is kept."""
        self.field.save(path)

    def to(self, device: torch.device) -> Field:
        """On another device."""
        return CutField(self.field.to(device), self.cube)
