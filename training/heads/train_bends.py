# SPDX-License-Identifier: GPL-3.0-or-later
"""First phase of the head generator: how a code bends the head: `python -m training.heads.train_bends --packs FOLDER --out FOLDER`.

Learns the mapping network and the features that bend the planes from points of the surface alone, whose place on the unbent head is known:
thousands of heads in minutes, since no planes are made. A linear reading of the points' colours, thrown away afterwards, keeps
the colours' traits in the latent. Leaves a checkpoint from which `train_generator` goes on; the same command goes on from it too, reading colours anew.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from maquette.core.models.eg3d.configuration import AXES, BEND
from maquette.core.models.heads.codes import codes
from torch import Tensor, nn

from .coded import CodedHeads
from .generator_config import generator_config
from .makers import Makers
from .pool import SHIFT
from .surface import Part, scattered
from .train_generator import Log, Run, falling

POINTS, OF_SKIN, OF_OTHERS = 1000, 800, 160
"""Points kept of a head, and drawn of its skin and of each other layer."""
NEAR = 0.01
"""Box units: points lie so far off the surface, so that what is between surfaces moves with them."""
FIRST = 10_000_000
"""Seeds of these heads begin here; `pool` counts from 0."""
LEAST_HEADS = 400
"""Before the first step."""


@dataclass
class Sketch:
    """Points of a head that has not been looked at."""

    code: Tensor
    """(WIDTH,)"""
    points: Tensor
    """(P, 3) float16"""
    shift: Tensor
    """(P, 3) float16 to the unbent head, in units of `SHIFT`"""
    colour: Tensor
    """(P, 3) float16 lit sRGB"""


def make_sketch(source: CodedHeads, seed: int) -> Sketch:
    """Of a seed's head; what lies in the mouth and the eye sockets is left out."""
    code = codes(seed)[0].numpy()
    rng = np.random.default_rng([seed, 4])
    layers, unbent, light = source.layers(code), source.unbent(code), source.light(code)
    inner = source.inner[source.second_pack(code)]
    found = []
    for number, layer in enumerate(layers):
        face, weights, points, normals = scattered(layer, OF_OTHERS if number else OF_SKIN, rng)
        if not len(face):
            continue
        there = (weights[..., None] * unbent[number][layer.faces[face]]).sum(1)
        colours = Part(number, face, weights, points, normals).colours(layer, light)[:, :3].clip(0, 1)
        kept = ~inner[face] if number == 0 else np.ones(len(face), np.bool_)
        found.append(np.concatenate([points, (there - points) / SHIFT, colours], 1)[kept])
    table = np.concatenate(found)
    table = table[rng.choice(len(table), POINTS)].astype(np.float32)
    table[:, :3] += rng.normal(0, NEAR, (POINTS, 3)).astype(np.float32)
    half = torch.from_numpy(table).half()
    return Sketch(torch.from_numpy(code), half[:, :3], half[:, 3:6], half[:, 6:])


class Reader(nn.Module):
    """Linear reading of colours from the latent: three planes that are added up."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.linear = nn.Linear(width, 9 * side * side)
        nn.init.normal_(self.linear.weight, 0, 0.01)

    def forward(self, w: Tensor) -> Tensor:
        """w (B, width) -> (B, 3, 3, S, S)."""
        return self.linear(w).view(-1, 3, 3, self.side, self.side)


def read(planes: Tensor, points: Tensor, axes: tuple[tuple[int, int], ...]) -> Tensor:
    """Mean of planes (B, 3, C, S, S) of the box -0.5..0.5 at points (B, P, 3): (B, P, C)."""
    unit = points * 2
    at = [unit[..., list(pair)][:, None] for pair in axes]
    found = [
        F.grid_sample(plane, where, align_corners=False)[:, :, 0]
        for plane, where in zip(planes.unbind(1), at, strict=True)
    ]
    return torch.stack(found).mean(0).mT


def train(run: Run, options: argparse.Namespace) -> None:
    """Until the last step."""
    config = run.model.config
    axes, label = AXES[config.plane_axes], torch.zeros(options.batch, config.label_width)
    reader = Reader(config.w_width, config.bend_side)
    second = torch.optim.Adam(reader.parameters(), lr=3e-3, betas=(0.9, 0.99))
    makers = Makers(options.packs, make_sketch, FIRST, options.makers)
    log = Log(run, options.out, "bends", 50, options)
    heads = [head for _, head in makers.take(LEAST_HEADS)]
    rng = np.random.default_rng(6)
    while run.step < options.steps:
        start = time.process_time()
        heads += [head for _, head in makers.take()]
        run.heads = len(heads)
        chosen = [heads[i] for i in rng.choice(len(heads), options.batch, replace=False)]
        rows = torch.from_numpy(rng.integers(POINTS, size=options.points))
        points, shift, colour = (
            torch.stack([getattr(head, name)[rows] for head in chosen]).float()
            for name in ("points", "shift", "colour")
        )
        made = time.process_time()
        w = run.model.mapping(torch.stack([head.code for head in chosen]), label)[:, 0]
        bends = run.model.bending(w).view(-1, 3, BEND, config.bend_side, config.bend_side)
        parts = {
            "bend": (read(bends, points, axes) * (config.bend / SHIFT) - shift).abs().mean(),
            "paint": (read(reader(w), points, axes) - colour).abs().mean(),
        }
        second.zero_grad(set_to_none=True)
        run.apply(parts["bend"] + parts["paint"], falling(run, options))
        second.step()
        log.step(parts, start, made)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--packs", type=Path, required=True, help="folder training_packs")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--steps", type=int, default=2500)
    arguments.add_argument("--fall", type=int, default=1500, help="steps over which the rate falls to zero")
    arguments.add_argument("--rate", type=float, default=8e-3)
    arguments.add_argument("--batch", type=int, default=48)
    arguments.add_argument("--points", type=int, default=500)
    arguments.add_argument("--makers", type=int, default=1)
    arguments.add_argument("--save-every", type=float, default=120)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(generator_config(64), options.rate)
    if (options.out / "checkpoint.pt").exists():
        run.load(options.out / "checkpoint.pt")
    train(run, options)


if __name__ == "__main__":
    main()
