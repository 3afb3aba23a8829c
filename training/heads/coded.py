# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads by the generator's code (`core.models.heads.codes`): every number of a code is a trait of the head, its colours or its light.

A standard normal then stands for a head of the same kind as `Wardrobe.traits` and `IctHeads.traits` draw: the marginals are
theirs, through the normal's distribution function; of MakeHuman's 136 axes the 32 combinations that move the head most are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from maquette.core.models.heads.codes import WIDTH, groups, settle
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import beta, gamma

from .drawing import Layer, Light
from .heads import SPREAD, Traits, Wardrobe
from .ict import INSIDE_MOUTH, STRONGEST, IctHeads, IctTraits
from .looks import HAIR_COLOURS, Look
from .makehuman import EYEBROWS

Floats = NDArray[np.float32]
LOOK = ("skin", "tint", "hair_colour", "brow_share", "eye", "cloth", "light")
"""Groups of a code that move nothing."""
NATURAL = HAIR_COLOURS[:8]
"""Black to blond."""
OURS = (  # of each number of expression: what rises with it, what when it falls
    (("mouth-corner-puller",), ("mouth-depression",)),
    (("mouth-open",), ("mouth-compression",)),
    (("mouth-protusion",), ("mouth-retraction",)),
    (("eyebrows-{}-up",), ("eyebrows-{}-down",)),
    (("eyebrows-{}-inner-up",), ("nose-{}-elevation",)),
    (("eye-{}-closure",), ("eye-{}-opened-up",)),
    (("mouth-upward-retraction",), ("mouth-pursing",)),
)
THEIRS = (
    (("mouthSmile_{}",), ("mouthFrown_{}",)),
    (("jawOpen",), ("mouthPress_{}",)),
    (("mouthFunnel",), ("mouthStretch_{}",)),
    (("browOuterUp_{}", "browInnerUp_{}"), ("browDown_{}",)),
    (("browInnerUp_{}",), ("noseSneer_{}",)),
    (("eyeSquint_{}",), ("eyeWide_{}",)),
    (("mouthUpperUp_{}",), ("mouthPucker",)),
)
STRENGTH = (0.8, 0.6, 0.6, 0.7, 0.7, 0.35, 0.5)


class CodedHeads:
    """Both packs."""

    def __init__(self, packs: Path) -> None:
        self.wardrobe = Wardrobe(packs / "makehuman_head")
        self.ict = IctHeads(packs / "ict_facekit", self.wardrobe)
        self.at = groups()
        rng = np.random.default_rng(5)
        self.skin_taste = unit_rows(rng.standard_normal((len(self.wardrobe.textures.skins), 3))) * 1.3
        self.brow_taste = unit_rows(rng.standard_normal((len(EYEBROWS), 3)))
        self.eye_taste = unit_rows(rng.standard_normal((len(self.wardrobe.textures.eyes), 4)))

    @cached_property
    def directions(self) -> Floats:
        """(32, axes) orthonormal combinations of MakeHuman's axes, those that move the head's surface most first."""
        body = self.wardrobe.body
        used = np.unique(body.faces[body.islands == 0])
        rows = []
        for number, axis in enumerate((*body.axes, *body.lopsided)):
            move = np.zeros(body.base.size)
            for targets, sign in ((axis.positive, 0.5), (axis.negative, -0.5)):
                for target in targets:
                    move += sign * np.asarray(body.targets[target].todense()).reshape(-1)
            rows.append(move.reshape(-1, 3)[used].reshape(-1) * (0.4 if number >= len(body.axes) else 1.0))
        left = np.linalg.svd(np.stack(rows), full_matrices=False)[0]
        return left[:, :32].T.astype(np.float32)

    @cached_property
    def tones(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of the light and of the dark skins.

        A skin is one of each, mixed by the first number of `skin`. Chosen among all twenty by race, sex, age and taste, its colour could
        not be told from the code: a network that was given nothing else to learn was off by 0.09 after 5,000 heads.
        """
        bright = np.array([skin[::8, ::8, :3].mean() for skin in self.wardrobe.textures.skins], np.float64)
        bright /= bright.max()
        return np.flatnonzero(bright > 0.72), np.flatnonzero(bright < 0.55)

    def layers(self, code: Floats) -> list[Layer]:
        """Textured layers (EG3D's frame) of a code (WIDTH,)."""
        macros = self.macros(code)
        if self.second_pack(code):
            return self.ict.layers(self.ict_traits(code, macros))
        return self.wardrobe.layers(self.traits(code, macros))

    def unbent(self, code: Floats) -> list[Floats]:
        """Vertices of the layers of a code (WIDTH,) on the head that its pack's heads are bent from: average, at rest, looking ahead.
        They are the same for all heads with its pack, hairstyle and brows, and are kept.
        """
        plain = code.copy()
        plain[: self.at["gaze"].stop] = 0
        key = int(code[self.at["pack"]].argmax()), int(code[self.at["hair"]].argmax()), self.brow(code)
        if key not in self._unbent:
            self._unbent[key] = [layer.vertices for layer in self.layers(plain)]
        return self._unbent[key]

    @cached_property
    def _unbent(self) -> dict[tuple[int, int, int], list[Floats]]:
        return {}

    def brow(self, code: Floats) -> int:
        """Which brows."""
        return int((self.brow_taste @ code[self.at["brow"]]).argmax())

    def repainted(self, layers: list[Layer], code: Floats) -> list[Layer]:
        """Layers of a code that differs from theirs in `LOOK` alone."""
        look = self.look(code, self.macros(code))
        paint = self.ict.skin_paint(look) if self.second_pack(code) else None
        return self.wardrobe.repainted(layers, look, paint)

    def second_pack(self, code: Floats) -> bool:
        """Whether it is one of ICT's."""
        return int(code[self.at["pack"]].argmax()) == 1

    @cached_property
    def inner(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(F,) faces of either pack's first layer in the mouth and the eye sockets."""
        islands = self.wardrobe.body.islands
        return (islands == 1) | (islands >= 3), self.ict.faces[:, 0] >= INSIDE_MOUTH.start

    def macros(self, code: Floats) -> Floats:
        """(7,), see `makehuman.MACROS`."""
        part = ndtr(np.float64(code[: self.at["weight"].stop])).clip(1e-4, 1 - 1e-4)
        races = gamma(0.35).ppf(part[:3]) + 1e-9
        rest = (
            beta(0.5, 0.5).ppf(part[3]),
            beta(0.9, 1.3).ppf(part[4]),
            beta(3, 3).ppf(part[5]),
            beta(2.5, 3).ppf(part[6]),
        )
        return np.r_[races / races.sum(), rest].astype(np.float32)

    def traits(self, code: Floats, macros: Floats) -> Traits:
        """Of a MakeHuman head."""
        body = self.wardrobe.body
        axes = (SPREAD * code[self.at["shape"]] @ self.directions).clip(-0.9, 0.9)
        axes[len(body.axes) :] *= 0.4
        single = np.array([not axis.negative for axis in (*body.axes, *body.lopsided)])
        axes[single] = axes[single].clip(0)
        expression = self.expression(code, OURS, list(body.units), ("left", "right"))
        return Traits(macros, axes.astype(np.float32), expression, self.gaze(code), self.look(code, macros))

    def ict_traits(self, code: Floats, macros: Floats) -> IctTraits:
        """Of an ICT head: its first modes of identity."""
        identity = np.zeros(100, np.float32)
        shape = code[self.at["shape"]]
        identity[: len(shape)] = shape.clip(-STRONGEST, STRONGEST)
        expression = self.expression(code, THEIRS, self.ict.names, ("L", "R"))
        return IctTraits(identity, expression, self.gaze(code), self.look(code, macros))

    def expression(self, code: Floats, table, names: list[str], sides: tuple[str, str]) -> Floats:  # type: ignore[no-untyped-def]
        """Of either pack: a number beyond 0.4 moves its units, on both sides."""
        out = np.zeros(len(names), np.float32)
        for value, (rising, falling), most in zip(code[self.at["expression"]], table, STRENGTH, strict=True):
            amount = float(np.clip((abs(value) - 0.4) * 0.5, 0, 1)) * most
            for unit in rising if value > 0 else falling:
                for side in sides:
                    out[names.index(unit.format(side))] = amount
        return out

    def gaze(self, code: Floats) -> Floats:
        """(2,) radians."""
        return (code[self.at["gaze"]] * np.float32([0.12, 0.07])).clip(-0.3, 0.3)

    def look(self, code: Floats, macros: Floats) -> Look:
        """Colours."""
        at = self.at
        textures = self.wardrobe.textures
        suit = -2.0 * np.abs(textures.skin_traits - macros[:5]) @ np.float32([1, 1, 1, 0.8, 0.8])
        score = suit + self.skin_taste @ code[at["skin"]][1:]
        one, two = (skins[score[skins].argmax()] for skins in self.tones)
        mix = float(ndtr(1.4 * code[at["skin"]][0] - 0.5))
        bright, warm = code[at["tint"]]
        level, grey, dye = (float(v) for v in code[at["hair_colour"]])
        tint = (0.97 + 0.085 * bright) * np.array([1 + 0.025 * warm, 1.0, 1 - 0.025 * warm])
        cloth = ndtr(code[at["cloth"]])
        wear = (0.05 + 0.9 * cloth[0]) * (
            0.55 + 0.45 * np.array([cloth[1], 1 - 0.5 * abs(cloth[1] - cloth[2]), cloth[2]])
        )
        return Look(
            int(one), int(two), mix, tuple(float(v) for v in tint.clip(0.6, 1.25)),  # type: ignore[arg-type]
            int(code[at["hair"]].argmax()), tuple(float(v) for v in self.hair_colour(level, grey, dye, float(macros[4]))),  # type: ignore[arg-type]
            self.brow(code), float(0.4 + 0.5 * ndtr(code[at["brow_share"]])[0]),
            int((self.eye_taste @ code[at["eye"]]).argmax()), tuple(float(v) for v in wear), float(5.5 + 0.65 * ndtr(code[at["neckline"]])[0]),  # type: ignore[arg-type]
        )  # fmt: skip

    @staticmethod
    def hair_colour(level: float, grey: float, dye: float, age: float) -> Floats:
        """Black to blond by the first number, grey and white by the second and age, red and dyed by the third."""
        place = float(ndtr(level)) * (len(NATURAL) - 1)
        low = min(int(place), len(NATURAL) - 2)
        colour = NATURAL[low] + (place - low) * (NATURAL[low + 1] - NATURAL[low])
        red = np.clip(dye - 1.0, 0, 1)
        colour = colour + red * (HAIR_COLOURS[8] - colour)
        if dye < -1.7:
            colour = colour + np.clip(-1.7 - dye, 0, 0.5) * 2 * (np.float32([0.25, 0.35, 0.6]) - colour)
        old = np.clip((grey + 2.0 * age - 1.9) * 1.5, 0, 1)
        return np.asarray(colour + old * (HAIR_COLOURS[10] * 0.9 - colour), np.float32).clip(0.02, 0.95)

    def light(self, code: Floats) -> Light:
        """One wide lamp, from flat to strong; a little shine, seen from in front."""
        strength, side, height, warm = (float(v) for v in code[self.at["light"]])
        strength = 0.1 + 0.75 * float(ndtr(strength))
        lamp = np.float32([0.9 * side, 0.5 + 0.5 * height, 1.0])
        fill = np.float32([-0.6 * np.sign(side), 0.3, 0.8])
        lamps = np.stack([lamp / np.linalg.norm(lamp), fill / np.linalg.norm(fill)]).astype(np.float32)
        strengths = np.float32([0.65, 0.3]) * strength
        return Light(1 - 0.6 * strength, 0.1, lamps, strengths, np.float32([0.045, 0, -0.045]) * warm, 0.12)


@dataclass(frozen=True)
class Coded:
    """A head that is known by its code alone."""

    code: Floats
    """(WIDTH,)"""

    def vector(self) -> Floats:
        """As it is."""
        return self.code


class CodedSource:
    """`CodedHeads` as a source of records, beside both packs with their own traits."""

    def __init__(self, heads: CodedHeads) -> None:
        self.heads = heads

    def traits(self, rng: np.random.Generator) -> Coded:
        """A random code."""
        raw = torch.from_numpy(rng.standard_normal((1, WIDTH))).float()
        return Coded(settle(raw)[0].numpy())

    def layers(self, traits: Coded) -> list[Layer]:
        """Of a code."""
        return self.heads.layers(traits.code)

    def light(self, traits: Coded) -> Light:
        """Of a code."""
        return self.heads.light(traits.code)


def other_look(code: Floats, rng: np.random.Generator) -> Floats:
    """A code (WIDTH,) with the same shape and styles in other colours and light."""
    out, places = code.copy(), np.concatenate([np.arange(len(code))[groups()[name]] for name in LOOK])
    drawn = rng.standard_normal(len(places)).astype(np.float32)
    out[places] = drawn * (
        np.linalg.norm(code[places]) / np.linalg.norm(drawn)
    )  # a settled code has a fixed length
    return out


def unit_rows(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of length 1."""
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))
