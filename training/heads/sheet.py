# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a generator beside the truth: `python -m training.heads.sheet --packs FOLDER --checkpoint FILE --out PNG`.

Heads that never train, drawn (upper row of each pair) and generated (lower), from three views; prints PSNR on the drawn head
and the mean absolute error of the outline. `--picture` shows what super-resolution makes of the rays.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from maquette.core.models.heads.codes import codes
from maquette.core.models.heads.generator import HeadGenerator, load_generator
from PIL import Image

from .coded import CodedHeads
from .drawing import draw
from .export_generator import averaged
from .makehuman import EMPHASIS
from .pool import HELD
from .records import View

VIEWS = (View(0, 5), View(35, 5), View(-80, 10), View(170, 15))


def compared(
    generator: HeadGenerator, source: CodedHeads, heads: int, side: int, picture: bool
) -> tuple[np.ndarray, list[tuple[float, float]]]:  # type: ignore[type-arg]
    """The sheet (H, W, 3) uint8, and PSNR and error of the outline of each view."""
    rows, scores = [], []
    for number in range(heads):
        code = codes(HELD + number)
        row = code[0].numpy()
        layers, light = source.layers(row), source.light(row)
        ws = generator.ws(code)
        planes = generator.planes(ws)
        above, below = [], []
        for view in VIEWS:
            rgba = torch.from_numpy(draw(layers, view.camera(side), light, EMPHASIS).rgba).float() / 255
            alpha = rgba[..., 3]
            truth = rgba[..., :3] * alpha[..., None]
            label = torch.from_numpy(view.label)[None]
            with torch.no_grad():
                fine, opacity, _ = generator.picture(ws, planes, label, 64 if picture else side)
                if not picture:
                    fine = generator.network.render(planes, label, side).image
            seen = F.interpolate(fine, size=(side, side), mode="bilinear", antialias=True)[0]
            seen = (seen.permute(1, 2, 0) * 0.5 + 0.5).clamp(0, 1)
            outline = F.interpolate(opacity, size=(side, side), mode="bilinear", antialias=True)[0, 0]
            error = ((seen - truth).square().mean(-1) * alpha).sum() / alpha.sum()
            scores.append((float(-10 * torch.log10(error)), float((outline - alpha).abs().mean())))
            above.append(truth.numpy())
            below.append(seen.numpy())
        rows.append(np.concatenate([np.concatenate(above, 1), np.concatenate(below, 1)], 0))
    half = (heads + 1) // 2
    columns = [np.concatenate(rows[i * half : (i + 1) * half], 0) for i in range(2 if heads > 1 else 1)]
    tall = max(c.shape[0] for c in columns)
    columns = [np.pad(c, ((0, tall - c.shape[0]), (0, 0), (0, 0))) for c in columns]
    return (np.concatenate(columns, 1) * 255).round().astype(np.uint8), scores


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--packs", type=Path, required=True)
    arguments.add_argument("--checkpoint", type=Path, help="of a run; else the bundled weights")
    arguments.add_argument("--heads", type=int, default=6)
    arguments.add_argument("--side", type=int, default=128)
    arguments.add_argument("--picture", action="store_true")
    arguments.add_argument("--out", type=Path, required=True)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    if options.checkpoint is None:
        generator = load_generator()
    else:
        state = torch.load(options.checkpoint, map_location="cpu", weights_only=True)
        generator = HeadGenerator(averaged(state))
    sheet, scores = compared(
        generator, CodedHeads(options.packs), options.heads, options.side, options.picture
    )
    Image.fromarray(sheet).save(options.out)
    found = np.array(scores).reshape(options.heads, len(VIEWS), 2)
    for number, view in enumerate(VIEWS):
        print(
            f"yaw {view.yaw:4.0f}: {found[:, number, 0].mean():.2f} dB, outline {found[:, number, 1].mean():.4f}"
        )


if __name__ == "__main__":
    main()
