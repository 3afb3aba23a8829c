# SPDX-License-Identifier: GPL-3.0-or-later
"""Second phase: the generator and its super-resolution by pictures: `python -m training.heads.train_pictures --out FOLDER ...`.

Goes on from `train_generator`'s checkpoint in the same folder. A step renders a piece of a picture (32 x 32 rays), sharpens it to 128 px,
and compares both with the drawn head: L1 of colour and opacity, L1 of gradients at two scales; the points of
`train_generator` hold the space besides. Resumes as that does.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from maquette.core.models.eg3d.generator import Eg3d
from maquette.core.models.eg3d.rays import Draws
from torch import Tensor

from .coded import CodedHeads
from .generator_config import generator_config
from .makers import Makers
from .patches import PATCH, Patch, make_patches
from .train_generator import Log, Run, falling, losses, said_at, summed


def sharpened(network: Eg3d, features: Tensor, ws: Tensor) -> Tensor:
    """Super-resolution (B, 3, 4 R, 4 R) of a piece (B, C, R, R), whatever its side."""
    module, w = network.superresolution, ws[:, -1]
    x, image = features.contiguous(memory_format=torch.channels_last), features[:, :3]
    for number in (0, 1):
        x, image = module.get_submodule(f"block{number}")(x, image, (w, w, w), "none")
    return image


def gradients(image: Tensor) -> Tensor:
    """Differences of neighbours along both axes, side by side (B, 2 C, H - 1, W - 1)."""
    return torch.cat(
        [image[..., 1:, :-1] - image[..., :-1, :-1], image[..., :-1, 1:] - image[..., :-1, :-1]], 1
    )


def picture_losses(
    network: Eg3d, patches: list[Patch], ws: Tensor, planes: Tensor, rng: torch.Generator
) -> dict[str, Tensor]:
    """Of one piece per head."""
    side = PATCH // 4
    rgba = torch.stack([p.rgba for p in patches]).float() / 255
    truth = rgba[:, :3] * rgba[:, 3:] * 2 - 1
    draws = Draws.random(network.config.rendering, len(patches), side * side, rng)
    rendered = network.render(planes, torch.stack([p.label for p in patches]), side, draws)
    fine = sharpened(network, rendered.features, ws)
    small = F.avg_pool2d(truth, 4)
    counts = torch.stack([p.counts for p in patches])[:, None]
    return {
        "coarse": apart(rendered.image, small, F.avg_pool2d(counts, 4)),
        "alpha": (rendered.opacity - F.avg_pool2d(rgba[:, 3:], 4)).abs().mean(),
        "fine": apart(fine, truth, counts),
        "edges": apart(gradients(fine), gradients(truth), inner(counts))
        + apart(
            gradients(F.avg_pool2d(fine, 2)),
            gradients(F.avg_pool2d(truth, 2)),
            inner(F.avg_pool2d(counts, 2)),
        ),
    }


def apart(one: Tensor, other: Tensor, counts: Tensor) -> Tensor:
    """Mean difference of pictures (B, C, H, W), weighed by `counts` (B, 1, H, W)."""
    return ((one - other).abs() * counts).mean() / counts.mean()


def inner(counts: Tensor) -> Tensor:
    """What counts (B, 1, H, W) of differences (B, ., H - 1, W - 1): as much as the least of their pixels."""
    return torch.minimum(counts[..., :-1, :-1], torch.minimum(counts[..., 1:, :-1], counts[..., :-1, 1:]))


def train(run: Run, source: CodedHeads, out: Path, options: argparse.Namespace) -> None:
    """Until the last step."""
    network, label = run.model, torch.zeros(options.batch, run.model.config.label_width)
    patches: list[Patch] = []
    makers = Makers(options.packs, make_patches, run.heads, options.makers) if options.makers else None
    log = Log(run, out, "pictures", 25, options)
    while run.step < options.steps:
        start = time.process_time()
        rng = np.random.default_rng([3, run.step])
        if makers is not None:
            made_now = makers.take(0 if patches else 2)
        else:
            fresh = 6 if not patches else int(run.step % options.fresh == 0)
            made_now = [(seed, make_patches(source, seed)) for seed in range(run.heads, run.heads + fresh)]
        for seed, more in made_now:
            patches += more
            run.heads = max(run.heads, seed + 1)
        del patches[: max(0, len(patches) - options.pool)]
        chosen = [patches[i] for i in rng.choice(len(patches), options.batch, replace=False)]
        made = time.process_time()
        ws = network.mapping(torch.stack([p.head.code for p in chosen]), label)
        planes = network.planes(ws, noise="none")
        parts = picture_losses(network, chosen, ws, planes, torch.Generator().manual_seed(run.step))
        rows = [torch.from_numpy(rng.integers(len(p.head.points), size=options.points)) for p in chosen]
        points = torch.stack([p.head.points[r] for p, r in zip(chosen, rows, strict=True)])
        said = torch.stack([p.head.said[r] for p, r in zip(chosen, rows, strict=True)]).float()
        parts |= losses(*said_at(network, planes, points), said)
        pictures = parts["coarse"] + 0.5 * parts["alpha"] + parts["fine"] + parts["edges"]
        run.apply(pictures + 0.5 * summed(parts), falling(run, options))
        log.step(parts, start, made)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--packs", type=Path, required=True, help="folder training_packs")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument(
        "--side", type=int, default=128, choices=(64, 128), help="texels of a plane's side"
    )
    arguments.add_argument("--steps", type=int, required=True)
    arguments.add_argument("--fall", type=int, default=500, help="steps over which the rate falls to zero")
    arguments.add_argument("--rate", type=float, default=1.5e-3)
    arguments.add_argument("--batch", type=int, default=2)
    arguments.add_argument("--points", type=int, default=2048)
    arguments.add_argument("--pool", type=int, default=600, help="pieces at hand")
    arguments.add_argument(
        "--fresh", type=int, default=16, help="a new head (three pieces) every so many steps"
    )
    arguments.add_argument(
        "--makers", type=int, default=0, help="processes that draw; 0: one head every --fresh steps, here"
    )
    arguments.add_argument("--save-every", type=float, default=120)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    run = Run(generator_config(options.side), options.rate)
    run.load(options.out / "checkpoint.pt")
    train(run, CodedHeads(options.packs), options.out, options)


if __name__ == "__main__":
    main()
