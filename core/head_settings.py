# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist can choose for heads. Standard library only: the command line and Blender's panels both build it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from .errors import InputError
from .settings import DEVICES, QUALITIES

REGIONS = ("hair", "eyes", "nose", "mouth", "face", "brows")
"""Parts of a head that can be blended by name."""
ALIGNMENTS = ("head", "camera", "part", "none")
"""head: the reference's part lies where it belongs on the original's head (hair takes its shape, others keep theirs), as camera where a
generator's planes do not bend; camera: the reference is seen by the original's camera; part: it is also moved and scaled onto the
original's part; none: it stays as its own picture shows it (for comparisons)."""


@dataclass(frozen=True)
class HeadSettings:
    """What all three have in common: the generator, and how fine the mesh becomes."""

    model: str = ""
    """Name or file of an EG3D generator; empty: the best that is there."""
    quality: str = "normal"
    """draft | normal | high: cells of the surface, pictures for the texture, steps of an optimisation."""
    device: str = "auto"
    seed: int = 0
    texture_size: int = 2048
    face_budget: int = 0
    resolution: int = 0

    def __post_init__(self) -> None:
        _one_of("quality", self.quality, QUALITIES)
        _one_of("device", self.device, DEVICES)
        _within("texture_size", self.texture_size, 256, 8192)
        _within("face_budget", self.face_budget, 0, 10_000_000)
        _within("resolution", self.resolution, 0, 2048)
        _within("seed", self.seed, 0, 2**32 - 1)

    def as_json(self) -> dict[str, Any]:
        """Plain dictionary for request.json and scene.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Inverse of `as_json`; unknown keys are an error.

        Raises:
            InputError: BAD_SETTING.
        """
        unknown = set(data) - {item.name for item in fields(cls)}
        if unknown:
            raise InputError(
                "BAD_SETTING", f"Unknown settings: {', '.join(sorted(unknown))}.", "Remove them."
            )
        return cls(**data)


@dataclass(frozen=True)
class SampleSettings(HeadSettings):
    """Of `head sample`."""

    truncation: float = 0.7
    """0: the mean head, 1: as different as the generator can make them."""
    interpolate: str = ""
    """A second head to mix with: a seed, or the folder of a head's result."""
    share: float = 0.5
    """Of the second head in the mix."""
    begin: str = ""
    """Folder of a head's result in place of the seed."""
    gallery: int = 0
    """Previews of so many seeds from `seed` on, in place of a mesh."""
    yaw: float = 0.0
    """Degrees, of the head's own camera around it: 0 in front, positive towards the head's left."""
    elevation: float = 0.0
    """Degrees, of that camera: positive looks down on the head."""
    orbit: int = 0
    """Previews of the head from so many sides, each at three heights, in place of a mesh."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _within("truncation", self.truncation, 0.0, 1.5)
        _within("share", self.share, 0.0, 1.0)
        _within("gallery", self.gallery, 0, 64)
        _within("yaw", self.yaw, -180.0, 180.0)
        _within("elevation", self.elevation, -80.0, 80.0)
        _within("orbit", self.orbit, 0, 72)


@dataclass(frozen=True)
class InvertSettings(HeadSettings):
    """Of `head invert`."""

    steps: int = 0
    """Of the latent; 0: by quality. Half as many tune the generator."""
    mask: str = ""
    """Picture that is white on the head, as large as the photo; empty: its alpha, else the parser's."""
    perceptual: tuple[str, ...] = ()
    """Weight files of LPIPS (VGG16 and its linear layers); none: our pyramid of colours and gradients."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _within("steps", self.steps, 0, 10_000)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """As the base."""
        return super().from_json({**data, "perceptual": tuple(data.get("perceptual", ()))})


@dataclass(frozen=True)
class BlendSettings(InvertSettings):
    """Of `head blend`; `steps`, `mask` is the region's here, and `perceptual` serve the blending as well."""

    region: str = ""
    """One of REGIONS; empty: the mask says it."""
    density: float = 1.0
    """How strongly the shapes of both heads are kept (the paper's density loss); 0: pictures alone."""
    colour: float = 1.0
    """How strongly the reference's colours are wanted; 0: its shape alone."""
    shape_only: bool = False
    colour_only: bool = False
    poisson: bool = False
    """Finish the picture by a seamless clone into the photo."""
    align: str = "head"

    def __post_init__(self) -> None:
        super().__post_init__()
        _within("density", self.density, 0.0, 100.0)
        _within("colour", self.colour, 0.0, 100.0)
        _one_of("align", self.align, ALIGNMENTS)
        if self.region:
            _one_of("region", self.region, REGIONS)
        if bool(self.region) == bool(self.mask):
            raise InputError(
                "REGION_OR_MASK",
                "A blend needs either a region by name or a mask.",
                f"Choose one of {', '.join(REGIONS)}, or paint a mask.",
            )
        if self.shape_only and self.colour_only:
            raise InputError(
                "BAD_SETTING", "Shape only and colour only exclude each other.", "Choose one or neither."
            )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError("BAD_SETTING", f"{name} is {value!r}.", f"Use one of: {', '.join(allowed)}.")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError("BAD_SETTING", f"{name} is {value}.", f"Use a value from {low} to {high}.")
