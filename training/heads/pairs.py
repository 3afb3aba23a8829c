# SPDX-License-Identifier: GPL-3.0-or-later
"""The blending benchmark's pairs, with their exact truth: `python -m training.heads.pairs --packs FOLDER --out FOLDER`.

A pair is two heads; the truth is the original with the reference's hair, eyes, nose or mouth: vertices of the part (a smooth
weight per vertex, from what MakeHuman's own targets move) taken from the reference, shifted so that the part's rim fits, with the
reference's colours under the same weights. Hair is the reference's style and colour on the original's skull. Light is common.

Each folder holds original, reference, aligned (the reference from the original's camera), truth (RGBA over nothing as
straight PNG), region (255 where the part is in original or truth, and wherever the truth differs from the original), and
parts of original and truth; `pairs.json` the part and both cameras as EG3D labels; `sheet.png` all of it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_closing, binary_dilation

from .drawing import Drawing, Layer, Light, draw
from .heads import Floats, Traits, Wardrobe, head_frame
from .looks import BALD, random_light
from .makehuman import EMPHASIS, EYES, HAIR, MOUTH, NOSE
from .records import View

SIDE, COUNT, SEED = 256, 50, 77
LABELS = {"hair": HAIR, "eyes": EYES, "nose": NOSE, "mouth": MOUTH}
TARGETS = {
    "eyes": tuple(f"eyes/{s}-eye-{n}-incr" for s in "lr" for n in ("height1", "height2", "height3", "scale")),
    "nose": ("nose/nose-scale-depth-incr", "nose/nose-flaring-incr", "nose/nose-point-width-incr"),
    "mouth": (
        "mouth/mouth-lowerlip-volume-incr",
        "mouth/mouth-upperlip-volume-incr",
        "mouth/mouth-angles-up",
    ),
}
EYE_HELPERS = slice(5491, 5632)
ALIKE = 0.05
"""Largest difference of the two skins' mean colours where skin is swapped: another tone would leave a seam in the truth."""
CHANGED = 2
"""Of 255: a pixel of the truth that differs by more from the original belongs to the region."""


@dataclass(frozen=True)
class Pair:
    """Two heads and the truth."""

    part: str
    original: Drawing
    reference: Drawing
    aligned: Drawing
    """The reference from the original's camera."""
    truth: Drawing
    region: NDArray[np.bool_]
    cameras: tuple[Floats, Floats]
    """Labels (25,) of original (and truth), and reference."""


def make_pair(wardrobe: Wardrobe, number: int, side: int = SIDE, seed: int = SEED) -> Pair:
    """Pair `number`; parts take turns."""
    rng = np.random.default_rng([seed, number])
    part = list(LABELS)[number % len(LABELS)]
    original, reference = drawn_traits(wardrobe, rng), drawn_traits(wardrobe, rng)
    while not suited(wardrobe, part, original, reference):
        original, reference = drawn_traits(wardrobe, rng), drawn_traits(wardrobe, rng)
    light = random_light(rng)
    views = [View(float(rng.normal(0, 14)), float(rng.normal(0, 6))) for _ in range(2)]
    layers = (
        wardrobe.layers(original),
        wardrobe.layers(reference),
        swapped(wardrobe, part, original, reference),
    )

    def taken(of: list[Layer], view: View, lit: Light = light) -> Drawing:
        return draw(of, view.camera(side), lit, EMPHASIS)

    one, truth = taken(layers[0], views[0]), taken(layers[2], views[0])
    return Pair(
        part, one, taken(layers[1], views[1]), taken(layers[1], views[0]), truth,
        region_of(one, truth, LABELS[part]), (views[0].label, views[1].label),
    )  # fmt: skip


def drawn_traits(wardrobe: Wardrobe, rng: np.random.Generator) -> Traits:
    """Without expression but now and then a smile: an open mouth moves the chin, which no swap of a mouth does."""
    traits = wardrobe.traits(rng, neutral=True)
    smile = traits.expression.copy()
    smile[wardrobe.body.units.index("mouth-corner-puller")] = rng.uniform(0, 0.7) * (rng.random() < 0.5)
    return replace(traits, expression=smile)


def suited(wardrobe: Wardrobe, part: str, original: Traits, reference: Traits) -> bool:
    """Whether a swap shows: other hair, or a part that hair does not hide, in skin of a like tone."""
    hairs = original.look.hair, reference.look.hair
    if part == "hair":
        return hairs[0] != hairs[1] and BALD not in hairs
    tones = [skin_tone(wardrobe, traits) for traits in (original, reference)]
    bare = part != "eyes" or not any(hair in FRINGES for hair in hairs)
    return bare and float(np.abs(tones[0] - tones[1]).max()) < ALIKE


FRINGES = (0, 4)
"""Rows of `makehuman.HAIRS` that cover an eye."""


def skin_tone(wardrobe: Wardrobe, traits: Traits) -> Floats:
    """(3,) mean colour of the nose, where light and hair do not matter."""
    faces = np.nonzero(wardrobe.body.labels == NOSE)[0]
    weights = np.full((len(faces), 3), 1 / 3, np.float32)
    rgba = wardrobe.paint_skin(traits.look, faces, weights, wardrobe.body.uvs[faces].mean(1))
    return np.asarray(rgba[:, :3].mean(0))


def swapped(wardrobe: Wardrobe, part: str, original: Traits, reference: Traits) -> list[Layer]:
    """Layers of the truth."""
    body = wardrobe.body
    head = wardrobe.shape(original)
    frame = head_frame(body.landmarks(head))
    look, gaze = original.look, original.gaze
    if part == "hair":
        worn = replace(look, hair=reference.look.hair, hair_colour=reference.look.hair_colour)
        before, after = (wardrobe.dressed(head, chosen, gaze, frame) for chosen in (look, worn))
        return [after[0], after[1], before[2], *after[3:]]  # the brows keep their colour
    weight = share_of(wardrobe, part)
    other = wardrobe.shape(reference)
    rim = weight * (1 - weight)
    shift = (rim[:, None] * (head - other)).sum(0) / rim.sum()
    mixed = head + weight[:, None] * (other + shift - head)
    if part == "eyes":
        look, gaze = replace(look, eye=reference.look.eye), reference.gaze

    gain = tone_gain(wardrobe, original, reference, rim)

    def paint(face: NDArray[np.int64], weights: Floats, uv: Floats) -> Floats:
        share = (weights * weight[body.faces[face]]).sum(1)[:, None]
        own = wardrobe.paint_skin(original.look, face, weights, uv)
        return own + share * (wardrobe.paint_skin(reference.look, face, weights, uv) * gain - own)

    return wardrobe.dressed(mixed.astype(np.float32), look, gaze, frame, paint)


def tone_gain(wardrobe: Wardrobe, original: Traits, reference: Traits, rim: Floats) -> Floats:
    """(4,) factors of RGBA that bring the reference's skin to the original's on the part's rim."""
    body = wardrobe.body
    at = rim[body.faces].mean(1)
    faces = np.nonzero(at > 1e-3)[0]
    weights, uv = np.full((len(faces), 3), 1 / 3, np.float32), body.uvs[faces].mean(1)
    means = [
        (at[faces, None] * wardrobe.paint_skin(t.look, faces, weights, uv)).sum(0)
        for t in (original, reference)
    ]
    return np.asarray(means[0] / means[1], np.float32)


def share_of(wardrobe: Wardrobe, part: str) -> Floats:
    """(V,) 0..1: how much of a vertex comes from the reference."""
    body = wardrobe.body
    reach = ((body.reach(*TARGETS[part]) - 0.12) / 0.4).clip(0, 1)
    share = reach * reach * (3 - 2 * reach)
    if part == "eyes":
        share[EYE_HELPERS] = 1
        share[np.unique(body.faces[body.labels == EYES])] = 1
    if part == "mouth":
        share[np.unique(body.faces[body.islands == 1])] = 1
    return share.astype(np.float32)


def region_of(original: Drawing, truth: Drawing, label: int) -> NDArray[np.bool_]:
    """(H, W), see the head of this file; closed, so that it has no specks."""
    seen = [d.rgba[..., :3] * (d.rgba[..., 3:] / 255.0) for d in (original, truth)]
    changed = np.abs(seen[0] - seen[1]).max(-1) > CHANGED
    changed |= np.abs(original.rgba[..., 3].astype(int) - truth.rgba[..., 3]) > CHANGED
    region = changed | (original.labels == label) | (truth.labels == label)
    return np.asarray(binary_dilation(binary_closing(region, iterations=2) | region))


def on_grey(drawing: Drawing) -> NDArray[np.uint8]:
    """(H, W, 3)"""
    alpha = drawing.rgba[..., 3:] / 255.0
    return (drawing.rgba[..., :3] * alpha + 128 * (1 - alpha)).astype(np.uint8)


def save_pair(pair: Pair, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("original", "reference", "aligned", "truth"):
        Image.fromarray(getattr(pair, name).rgba).save(folder / f"{name}.png")
    Image.fromarray(pair.region.astype(np.uint8) * 255).save(folder / "region.png")
    for name in ("original", "truth"):
        Image.fromarray(getattr(pair, name).labels).save(folder / f"{name}_parts.png")


def row_of(pair: Pair) -> NDArray[np.uint8]:
    """Original, reference, aligned, truth, region, side by side at half size."""
    region = np.repeat((pair.region[..., None] * 255).astype(np.uint8), 3, -1)
    row = [
        on_grey(pair.original),
        on_grey(pair.reference),
        on_grey(pair.aligned),
        on_grey(pair.truth),
        region,
    ]
    return np.concatenate(row, 1)[::2, ::2]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--packs", type=Path, required=True, help="folder training_packs")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--count", type=int, default=COUNT)
    arguments.add_argument("--side", type=int, default=SIDE)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    wardrobe = Wardrobe(options.packs / "makehuman_head")
    listed, rows = [], []
    for number in range(options.count):
        pair = make_pair(wardrobe, number, options.side)
        name = f"{number:02d}_{pair.part}"
        save_pair(pair, options.out / name)
        labels = [label.tolist() for label in pair.cameras]
        listed.append({"name": name, "part": pair.part, "original": labels[0], "reference": labels[1]})
        rows.append(row_of(pair))
    (options.out / "pairs.json").write_text(json.dumps(listed, indent=1))
    half = (len(rows) + 1) // 2
    columns = [np.concatenate(rows[:half]), np.concatenate(rows[half:])]
    sheet = np.zeros((len(columns[0]), columns[0].shape[1] * 2, 3), np.uint8)
    for i, column in enumerate(columns):
        sheet[: len(column), i * column.shape[1] : (i + 1) * column.shape[1]] = column
    Image.fromarray(sheet).save(options.out / "sheet.png")


if __name__ == "__main__":
    main()
