# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist can choose for a mesh from pictures. Standard library only: the command line and Blender's panels both build it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from .errors import InputError

QUALITIES = ("draft", "normal", "high")
METHODS = ("auto", "photos", "lrm", "one2345", "occupancy", "latent")
MASK_MODES = ("auto", "alpha", "none")
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class MeshSettings:
    """Settings of the verb `mesh`; every field is an option of the command line with the same name."""

    method: str = "auto"
    """One of METHODS; `auto` takes `photos` for two or more pictures."""
    model: str = ""
    """Name or file of a model, for methods that use one."""
    quality: str = "normal"
    """draft | normal | high: working resolution, fitting time, face budget."""
    device: str = "auto"
    """auto | cpu | cuda | mps."""
    seed: int = 0
    """Every random draw derives from it; for a single picture 0 is the published framing, others vary it."""
    cameras: str = ""
    """File or folder with given cameras: NeRF JSON or COLMAP; empty: estimate them."""
    masks: str = ""
    """Folder with masks named like the photos; empty: see `mask_mode`."""
    mask_mode: str = "auto"
    """auto: alpha if there is any, else found; alpha: alpha only; none: keep the whole scene."""
    matting: str = ""
    """ONNX file of a matting model that tells the object of a single picture where no masks are given; needs onnxruntime."""
    region: tuple[float, ...] = ()
    """Optional box in the world of the result: x0 y0 z0 x1 y1 z1, metres; or one that stands askew: 16 numbers, row by row
    the matrix that takes the cube from -0.5 to 0.5 there."""
    texture_size: int = 2048
    """Pixels, 256 .. 8192."""
    face_budget: int = 0
    """Triangles at most; 0: by quality."""
    resolution: int = 0
    """Cells along the box's longest side for the extraction; 0: by quality."""
    height: float = 0.0
    """Height of the object in metres; 0: longest side 1 metre."""

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("method", self.method, METHODS),
            ("quality", self.quality, QUALITIES),
            ("device", self.device, DEVICES),
            ("mask_mode", self.mask_mode, MASK_MODES),
        ):
            if value not in allowed:
                raise InputError("BAD_SETTING", f"{name} is {value!r}.", f"Use one of: {', '.join(allowed)}.")
        for name, number, low, high in (
            ("texture_size", self.texture_size, 256, 8192),
            ("face_budget", self.face_budget, 0, 10_000_000),
            ("resolution", self.resolution, 0, 2048),
            ("height", self.height, 0.0, 1e6),
        ):
            if not low <= number <= high:
                raise InputError("BAD_SETTING", f"{name} is {number}.", f"Use a value from {low} to {high}.")
        if self.region and not _volume(self.region) > 0:
            raise InputError(
                "BAD_SETTING",
                "The region box is empty.",
                "Give x0 y0 z0 x1 y1 z1 with x0 < x1 and so on, or the 16 numbers of a matrix.",
            )

    def as_json(self) -> dict[str, Any]:
        """Plain dictionary for request.json and scene.json."""
        return {**asdict(self), "region": list(self.region)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> MeshSettings:
        """Inverse of `as_json`; unknown keys are an error.

        Raises:
            InputError: BAD_SETTING.
        """
        unknown = set(data) - {item.name for item in fields(MeshSettings)}
        if unknown:
            raise InputError(
                "BAD_SETTING", f"Unknown settings: {', '.join(sorted(unknown))}.", "Remove them."
            )
        return MeshSettings(**{**data, "region": tuple(data.get("region", ()))})


def _volume(region: tuple[float, ...]) -> float:
    """Cubic metres of a region box; 0 where it is flat, turned inside out or has another count of numbers."""
    if len(region) == 6:
        sides = [high - low for low, high in zip(region, region[3:], strict=False)]
        return sides[0] * sides[1] * sides[2] if min(sides) > 0 else 0.0
    if len(region) != 16:
        return 0.0
    (a, b, c), (d, e, f), (g, h, i) = region[0:3], region[4:7], region[8:11]
    return abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))
