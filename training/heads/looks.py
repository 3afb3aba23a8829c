# SPDX-License-Identifier: GPL-3.0-or-later
"""Colours of heads: skins mixed of two, hair, brows and eyes from the pack's textures in any colour, light."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .drawing import Light
from .makehuman import EYEBROWS, HAIRS, RACES

Floats = NDArray[np.float32]
SKIN_SIDE = 1024
"""Pixels to which skins are reduced: finer is nothing in a picture of 144."""
BALD = len(HAIRS)
"""Number of a hairstyle that is none."""
HAIR_COLOURS = np.float32(
    [
        (0.07, 0.06, 0.06), (0.11, 0.08, 0.07), (0.19, 0.13, 0.10), (0.28, 0.18, 0.12), (0.38, 0.25, 0.16),
        (0.52, 0.37, 0.23), (0.70, 0.56, 0.36), (0.83, 0.72, 0.53), (0.50, 0.22, 0.10), (0.60, 0.59, 0.57),
        (0.82, 0.81, 0.79),
    ]
)  # fmt: skip
"""Black to blond, red, grey, white."""


@dataclass(frozen=True)
class Look:
    """Everything about a head's colours."""

    skin: int
    other_skin: int
    mix: float
    """Share of the other skin."""
    tint: tuple[float, float, float]
    """Factors of red, green, blue of the skin."""
    hair: int
    """Row of `HAIRS`, or `BALD`."""
    hair_colour: tuple[float, float, float]
    """Mean sRGB of the hair."""
    brow: int
    brow_share: float
    """How much of the hair's colour the brows have; the rest is black."""
    eye: int
    """Row of the pack's eyes."""
    cloth: tuple[float, float, float]
    """Colour of what is worn."""
    neckline: float
    """Height of its upper edge, decimetres of the base mesh."""

    def vector(self) -> Floats:
        """(17,) float32, the fields in order."""
        flat = [v for item in astuple(self) for v in (item if isinstance(item, tuple) else (item,))]
        return np.array(flat, np.float32)

    @classmethod
    def of(cls, vector: Floats) -> Look:
        """Inverse of `vector`."""
        v = [float(x) for x in vector]
        return cls(
            int(v[0]),
            int(v[1]),
            v[2],
            (v[3], v[4], v[5]),
            int(v[6]),
            (v[7], v[8], v[9]),
            int(v[10]),
            v[11],
            int(v[12]),
            (v[13], v[14], v[15]),
            v[16],
        )


class Textures:
    """The pack's pictures in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.skin_names = sorted(p.stem.removesuffix("_low") for p in (folder / "skins").glob("*.jpg"))
        self.skins = [self._skin(path) for path in sorted((folder / "skins").glob("*.jpg"))]
        self.hairs = [self._strands(name.removeprefix("hair_")) for name in HAIRS]
        self.brows = [self._strands(name) for name in EYEBROWS]
        self.eyes = [
            np.asarray(Image.open(p).convert("RGBA")) for p in sorted((folder / "eyes").glob("*.png"))
        ]

    @staticmethod
    def _skin(path: Path) -> NDArray[np.uint8]:
        with Image.open(path) as image:
            size = (SKIN_SIDE, SKIN_SIDE * image.height // image.width)
            image.draft("RGB", size)  # decodes no more than is needed
            return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX))

    def _strands(self, name: str) -> NDArray[np.uint8]:
        """(H, W, 2): brightness over its mean, 128 being 1, and opacity."""
        with Image.open(self.folder / "hair" / f"{name}.png") as image:
            rgba = np.asarray(image.convert("RGBA")).astype(np.float32) / 255
        bright = rgba[..., :3] @ np.float32([0.3, 0.59, 0.11])
        mean = max((bright * rgba[..., 3]).sum() / rgba[..., 3].sum(), 1e-3)  # some brows are black
        bright = np.where(rgba[..., 3] > 0.02, bright, mean) / mean
        return np.rint(np.stack([bright.clip(0, 1.99) * 128, rgba[..., 3] * 255], -1)).astype(np.uint8)

    @cached_property
    def skin_traits(self) -> Floats:
        """(S, 5): african, asian, caucasian, male, age 0..1 by the skins' names."""
        ages = {"young": 0.0, "middleage": 0.5, "old": 1.0}
        rows = []
        for name in self.skin_names:
            age, race, gender = name.split("_")[:3]
            rows.append(
                [*(float(race == r) for r in RACES), float(not gender.startswith("female")), ages[age]]
            )
        return np.float32(rows)


def random_look(macros: Floats, textures: Textures, rng: np.random.Generator) -> Look:
    """Skins that suit the head's race, sex and age more likely than others; the rest at random."""
    distance = np.abs(textures.skin_traits - macros[:5]) @ np.float32([1, 1, 1, 0.8, 0.8])
    chance = np.exp(-2.0 * distance)
    one, two = rng.choice(len(chance), 2, p=chance / chance.sum())
    old = float(macros[4])
    likely = np.r_[np.full(9, 1 - 0.6 * old), 0.2 + 3 * old, 0.1 + 2 * old]
    colour = HAIR_COLOURS[rng.choice(len(HAIR_COLOURS), p=likely / likely.sum())] * rng.uniform(0.8, 1.25)
    if rng.random() < 0.06:  # dyed
        colour = rng.uniform(0.1, 0.8, 3)
    return Look(
        int(one), int(two), float(rng.uniform(0, 0.6)),
        tuple(float(v) for v in rng.uniform(0.82, 1.12) * rng.uniform(0.96, 1.04, 3)),  # type: ignore[arg-type]
        int(rng.integers(BALD)) if rng.random() < 0.93 else BALD,
        tuple(float(v) for v in np.clip(colour * rng.uniform(0.93, 1.07, 3), 0.02, 0.95)),  # type: ignore[arg-type]
        int(rng.integers(len(EYEBROWS))), float(rng.uniform(0.4, 0.9)), int(rng.integers(len(textures.eyes))),
        tuple(float(v) for v in rng.uniform(0.05, 0.95) * rng.uniform(0.5, 1, 3)), float(rng.uniform(5.5, 6.15)),  # type: ignore[arg-type]
    )  # fmt: skip


def random_light(rng: np.random.Generator) -> Light:
    """From flat to hard, lamps mostly from in front and above."""
    strength = rng.uniform(0.1, 1.0)
    count = int(rng.integers(1, 4))
    lamps = rng.normal(size=(count, 3)) * [1.0, 0.6, 0.6] + [0, 0.5, 1.0]
    lamps /= np.linalg.norm(lamps, axis=1, keepdims=True)
    shares = rng.dirichlet(np.ones(count) * 2)
    return Light(
        ambient=1 - 0.6 * strength,
        sky=rng.uniform(0, 0.2),
        lamps=lamps.astype(np.float32),
        strengths=(0.95 * strength * shares).astype(np.float32),
        tint=rng.uniform(-0.08, 0.08, 3).astype(np.float32),
        shine=rng.uniform(0, 0.35),
    )
