# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes and rendering settings of an EG3D generator: published presets, and what a file's shapes and settings say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from ..parts.key_shapes import Shapes, count

BEND = 3
"""Features of a plane that move points, where a generator has them."""
PlaneAxes = Literal["xy_xz_zx", "xy_xz_zy"]
AXES: dict[PlaneAxes, tuple[tuple[int, int], ...]] = {
    "xy_xz_zx": ((0, 1), (0, 2), (2, 0)),
    "xy_xz_zy": ((0, 1), (0, 2), (2, 1)),
}
"""Per plane: the coordinates along its columns and rows. The released code spans XZ twice, and its weights need that."""


@dataclass(frozen=True)
class RenderingConfig:
    """The published `rendering_kwargs` that matter after training; the defaults are those of the face networks."""

    depth_resolution: int = 48
    """Coarse samples of a ray."""
    depth_resolution_importance: int = 48
    """Samples where the coarse ones found something; 0: none."""
    ray_start: float | Literal["auto"] = 2.25
    """Distance of the first sample along the unit ray; `auto`: where the ray enters the box."""
    ray_end: float | Literal["auto"] = 3.3
    box_warp: float = 1.0
    """Side of the box."""
    white_back: bool = False
    """White behind everything instead of nothing."""
    disparity_space_sampling: bool = False
    """Coarse samples evenly spaced in 1 / distance."""
    density_noise: float = 0.0
    """Deviation of a noise on the raw density (training)."""
    superresolution_noise_mode: Literal["none", "const", "random"] = "none"
    sr_antialias: bool = True
    """Of the resize before super-resolution."""
    c_gen_conditioning_zero: bool = False
    """The mapping network sees no camera."""
    c_scale: float = 1.0
    """Factor on the camera label before the mapping network."""
    decoder_lr_mul: float = 1.0
    avg_camera_radius: float = 2.7
    """Distance of the cameras from the origin."""
    avg_camera_pivot: tuple[float, float, float] = (0.0, 0.0, 0.2)
    """What they look at."""

    @classmethod
    def from_public(cls, settings: Mapping[str, Any]) -> RenderingConfig:
        """From a file's `rendering_kwargs`; other keys are passed over. A missing `c_scale` counts as 0, as in the original."""
        known = {item.name for item in fields(cls)}
        values = {"c_scale": 0.0} | {name: value for name, value in settings.items() if name in known}
        values = {name: value for name, value in values.items() if value is not None}
        if "avg_camera_pivot" in values:
            x, y, z = values["avg_camera_pivot"]
            values["avg_camera_pivot"] = (float(x), float(y), float(z))
        return cls(**values)


@dataclass(frozen=True)
class SuperResolutionConfig:
    """Two blocks that turn the feature picture into the final one."""

    side: int = 128
    """Pixels of the feature picture they want."""
    ups: tuple[bool, bool] = (True, True)
    """Which blocks double the side."""
    widths: tuple[int, int] = (256, 128)
    clamp: float | None = 256.0
    """Limit of activations, as published for half precision; it acts in float32 too."""
    own_filter: bool = False
    """Whether the file stores one more resampling filter, which nothing uses."""
    upscale_only: bool = False
    """A larger feature picture is an error rather than reduced (Hybrid4X)."""

    @property
    def picture(self) -> int:
        """Side of the final picture."""
        return self.side << sum(self.ups)


SUPER_RESOLUTION = {
    "SuperresolutionHybrid8XDC": SuperResolutionConfig(),
    "SuperresolutionHybrid8X": SuperResolutionConfig(widths=(128, 64), own_filter=True),
    "SuperresolutionHybrid4X": SuperResolutionConfig(
        ups=(False, True), widths=(128, 64), own_filter=True, upscale_only=True
    ),
    "SuperresolutionHybrid2X": SuperResolutionConfig(64, (False, True), (128, 64), own_filter=True),
}
"""By the published class name."""

FACES = RenderingConfig()
CATS = replace(FACES, avg_camera_pivot=(0.0, 0.0, -0.06))
CARS = RenderingConfig(
    depth_resolution=64, depth_resolution_importance=64, ray_start=0.1, ray_end=2.6, box_warp=1.6, white_back=True,
    c_gen_conditioning_zero=True, avg_camera_radius=1.7, avg_camera_pivot=(0.0, 0.0, 0.0),
)  # fmt: skip


@dataclass(frozen=True)
class Eg3dConfig:
    """A whole generator. The defaults are the published one for faces at 512 pixels; ours are smaller ones of the same kind."""

    z_width: int = 512
    w_width: int = 512
    label_width: int = 25
    """Camera to world (16 numbers) and normalised intrinsics (9)."""
    embed_width: int = 512
    """Of the embedded label."""
    mapping_widths: tuple[int, ...] = (512, 512)
    """Outputs of the mapping layers; the last is `w_width`."""
    mapping_rate: float = 0.01
    """Learning-rate factor, by which the stored weights are divided."""
    channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128)
    """Of the backbone at 4, 8, 16 ... pixels; the last resolution is the planes'."""
    first_side: int = 4
    """Side of the learnt constant, where the channels begin. Published: 4; ours begins larger, which trains several times faster
    on heads that are aligned."""
    details: bool = False
    """Whether every finer side has a learnt constant of its own as well (`synthesis.SynthesisBlock`). Published: no."""
    plane_features: int = 32
    bend: float = 0.0
    """Factor on three more features of the planes, which move a point before the others are read (`planes.BentSampler`); 0: there
    are none, as published."""
    fovea: tuple[tuple[float, float], ...] = ()
    """Per axis, middle and width of where bent planes have their finest texels, units of the box (`fields.triplane.magnified`); (): nowhere."""
    bend_side: int = 32
    """Side of these three before they are enlarged."""
    clamp: float | None = None
    """Limit of the backbone's activations."""
    decoder_hidden: int = 64
    neural_resolution: int = 128
    """Side of the feature picture that the network was trained with."""
    plane_axes: PlaneAxes = "xy_xz_zx"
    superresolution: SuperResolutionConfig = field(default_factory=SuperResolutionConfig)
    rendering: RenderingConfig = field(default_factory=RenderingConfig)

    @property
    def plane_side(self) -> int:
        """Texels along a plane."""
        return self.first_side << (len(self.channels) - 1)

    @property
    def rows(self) -> int:
        """Latent rows of the backbone: one per convolution and one for the last ToRGB."""
        return 2 * len(self.channels)

    @property
    def picture(self) -> int:
        """Side of the final picture."""
        return self.superresolution.picture

    def as_json(self) -> dict[str, Any]:
        """For a file's metadata; `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Eg3dConfig:
        """Inverse of `as_json`, also after a trip through JSON.

        Raises:
            TypeError, KeyError, ValueError: no such settings.
        """
        values = dict(content)
        super_resolution, rendering = dict(values["superresolution"]), dict(values["rendering"])
        for part, names in (
            (values, ("mapping_widths", "channels")), (super_resolution, ("ups", "widths")),
            (rendering, ("avg_camera_pivot",)),
        ):  # fmt: skip
            part |= {name: tuple(part[name]) for name in names}
        values["fovea"] = tuple(tuple(axis) for axis in values.get("fovea", ()))
        values["superresolution"] = SuperResolutionConfig(**super_resolution)
        values["rendering"] = RenderingConfig(**rendering)
        return cls(**values)


def widths(base: int, largest: int, side: int) -> tuple[int, ...]:
    """StyleGAN2's channels at 4, 8 ... `side`: min(base / resolution, largest)."""
    return tuple(min(base >> level, largest) for level in range(2, int(math.log2(side)) + 1))


def config_from(shapes: Shapes, settings: Mapping[str, Any], name: str = "") -> Eg3dConfig:
    """A published generator from its key shapes and what the file says besides.

    Args:
        shapes: key -> shape of the whole generator.
        settings: `rendering_kwargs`, `init_kwargs`, `neural_rendering_resolution`, `plane_axes`, as far as the file has them.
        name: of the file, for what it does not hold: `cats` chooses their camera, `-64` the neural resolution.

    Raises:
        KeyError, IndexError, ValueError, TypeError: these are not the shapes and settings of such a generator.
    """
    init = settings.get("init_kwargs") or {}
    rendering = settings.get("rendering_kwargs") or init.get("rendering_kwargs") or {}
    mapping = init.get("mapping_kwargs") or {}
    last_fc = f"backbone.mapping.fc{count(shapes, 'backbone.mapping.fc{}.weight') - 1}.weight"
    levels = count_levels(shapes)
    embed, label = shapes["backbone.mapping.embed.weight"]
    super_resolution = super_resolution_from(shapes, rendering, init)
    return Eg3dConfig(
        z_width=shapes["backbone.mapping.fc0.weight"][1] - embed,
        w_width=shapes[last_fc][0],
        label_width=label,
        embed_width=embed,
        mapping_widths=tuple(
            shapes[f"backbone.mapping.fc{i}.weight"][0]
            for i in range(count(shapes, "backbone.mapping.fc{}.weight"))
        ),
        mapping_rate=float(mapping.get("lr_multiplier", 0.01)),
        channels=tuple(shapes[f"backbone.synthesis.b{4 << i}.conv1.weight"][0] for i in range(levels)),
        plane_features=shapes["decoder.net.0.weight"][1],
        clamp=init.get("conv_clamp"),
        decoder_hidden=shapes["decoder.net.0.weight"][0],
        neural_resolution=int(settings.get("neural_rendering_resolution") or _resolution_of(name, super_resolution)),
        plane_axes=plane_axes_from(settings.get("plane_axes")),
        superresolution=super_resolution,
        rendering=RenderingConfig.from_public(rendering) if rendering else _preset(super_resolution, name),
    )  # fmt: skip


def count_levels(shapes: Shapes) -> int:
    """Resolutions 4, 8 ... of the backbone."""
    levels = 0
    while f"backbone.synthesis.b{4 << levels}.conv1.weight" in shapes:
        levels += 1
    return levels


def super_resolution_from(
    shapes: Shapes, rendering: Mapping[str, Any], init: Mapping[str, Any]
) -> SuperResolutionConfig:
    """The module that the settings name, else the one whose shapes these are."""
    module = str(rendering.get("superresolution_module", "")).rsplit(".", 1)[-1]
    if module:
        found = SUPER_RESOLUTION[module]
    else:
        side = shapes["superresolution.block0.conv0.noise_const"][0]
        first = shapes["superresolution.block0.conv0.weight"][0]
        names = {64: "2X", 128: "4X", 256: "8XDC" if first == 256 else "8X"}
        found = SUPER_RESOLUTION["SuperresolutionHybrid" + names[side]]
    own = tuple(shapes[f"superresolution.block{i}.conv1.weight"][0] for i in (0, 1))
    half = int(init.get("sr_num_fp16_res", 4)) > 0
    return replace(
        found,
        widths=(own[0], own[1]),
        clamp=found.clamp if half else None,
        own_filter="superresolution.resample_filter" in shapes,
    )


def plane_axes_from(matrices: Any) -> PlaneAxes:
    """The convention from the renderer's three 3 x 3 matrices (nested lists); None: the released code's.

    Raises:
        ValueError: neither of the two.
    """
    if matrices is None:
        return "xy_xz_zx"
    found = tuple(_first_two_axes(matrix) for matrix in matrices)
    for name, axes in AXES.items():
        if found == axes:
            return name
    raise ValueError(f"planes span the axes {found}")


def _first_two_axes(matrix: Any) -> tuple[int, int]:
    """The coordinates p A^-1 starts with: the inverse of a permutation is its transpose, so those of its first two rows."""
    sizes = [[abs(float(value)) for value in row] for row in matrix[:2]]
    return sizes[0].index(max(sizes[0])), sizes[1].index(max(sizes[1]))


def _preset(super_resolution: SuperResolutionConfig, name: str) -> RenderingConfig:
    if super_resolution.picture == 128:
        return CARS
    return CATS if "cat" in name.lower() else FACES


def _resolution_of(name: str, super_resolution: SuperResolutionConfig) -> int:
    return 64 if name.endswith("-64") else super_resolution.side
