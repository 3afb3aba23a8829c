# SPDX-License-Identifier: GPL-3.0-or-later
"""One training record per head: pictures from EG3D-like cameras, their parts and depths, and what the head was made of.

The middle `SIDE * PORTRAIT` pixels of a portrait are EG3D's aligned crop (focal length 4.2647 widths, 2.7 from the origin,
looking at (0, 0, 0.2)); around it lies room to turn and shift the crop. The last view of a head is wide: for the face finder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from maquette.core.models.eg3d.cameras import FOCAL, RADIUS, camera_of, intrinsics, label_of
from maquette.core.models.heads.faces import orbit_pose
from maquette.core.types import Camera
from numpy.typing import NDArray

from .coded import CodedSource
from .drawing import Light, draw
from .heads import Wardrobe
from .ict import IctHeads
from .looks import random_light
from .makehuman import EMPHASIS

Source = Wardrobe | IctHeads | CodedSource
VIEWS, SIDE = 4, 128
PORTRAIT, WIDE = 0.75, 0.4
"""Focal length of the pictures over EG3D's."""
TRAITS = 196
"""Numbers of a head (`Traits.vector`, `IctTraits.vector` or a generator's code, then zeros: the shard's name says which)."""
RECORD = np.dtype(
    [
        ("seed", "i8", 2),
        ("traits", "f4", TRAITS),
        (
            "light",
            "f4",
            9,
        ),  # mean direction times strength, ambient, sky, tint, shine: a summary, not the lamps
        ("pictures", "u1", (VIEWS, SIDE, SIDE, 4)),  # straight RGBA
        ("parts", "u1", (VIEWS, SIDE, SIDE)),
        ("depth", "f2", (VIEWS, SIDE, SIDE)),  # z less RADIUS, EG3D's units; NaN beside the head
        ("cameras", "f4", (VIEWS, 25)),  # EG3D's labels
        ("angles", "f4", (VIEWS, 2)),  # yaw, elevation, degrees
    ]
)


@dataclass(frozen=True)
class View:
    """A camera around a head; degrees."""

    yaw: float
    """0: in front; positive: the camera moves towards the picture's left, EG3D's way of counting."""
    elevation: float
    zoom: float = 1.0
    """Focal length over EG3D's."""

    @classmethod
    def random(cls, rng: np.random.Generator, zoom: float) -> View:
        """Half as portraits are spread, half evenly over all that we serve."""
        if rng.random() < 0.5:
            yaw, elevation = rng.normal(0, [20, 9])
        else:
            yaw, elevation = rng.uniform([-52, -26], [52, 26])
        return cls(float(np.clip(yaw, -52, 52)), float(np.clip(elevation, -26, 26)), zoom)

    @property
    def label(self) -> NDArray[np.float32]:
        """(25,)"""
        return label_of(orbit_pose(self.yaw, self.elevation), intrinsics(FOCAL * self.zoom))

    def camera(self, side: int = SIDE) -> Camera:
        """In EG3D's frame."""
        return camera_of(self.label, side)


def make_record(source: Source, seed: tuple[int, int]) -> NDArray[np.void]:
    """A scalar of `RECORD`; the same seed gives the same head and pictures."""
    rng = np.random.default_rng(seed)
    out = np.zeros((), RECORD)
    traits = source.traits(rng)
    light = source.light(traits) if isinstance(source, CodedSource) else random_light(rng)  # type: ignore[arg-type]
    layers = source.layers(traits)  # type: ignore[arg-type]
    vector = traits.vector()
    out["seed"], out["light"] = seed, summary(light)
    out["traits"][: len(vector)] = vector
    for i in range(VIEWS):
        view = View.random(rng, WIDE * rng.uniform(0.75, 1.3) if i == VIEWS - 1 else PORTRAIT)
        drawn = draw(layers, view.camera(), light, EMPHASIS)
        out["pictures"][i], out["parts"][i] = drawn.rgba, drawn.labels
        out["depth"][i] = drawn.depth - RADIUS
        out["cameras"][i], out["angles"][i] = view.label, (view.yaw, view.elevation)
    return out


def summary(light: Light) -> NDArray[np.float32]:
    """(9,)"""
    direction = (light.lamps * light.strengths[:, None]).sum(0)
    return np.r_[direction, light.ambient, light.sky, light.tint, light.shine].astype(np.float32)
